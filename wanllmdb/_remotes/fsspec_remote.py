"""Remotes that fsspec reaches: memory, and whatever else it has a package for."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, BinaryIO

from wanllmdb._remotes.failures import translated
from wanllmdb._remotes.port import (
    BLOCK,
    Listed,
    MissingKeyError,
    Remote,
    check_key,
    check_prefix,
    check_range,
    read_exactly,
    settle,
)
from wanllmdb.errors import InvalidInputError, MissingExtraError, RemoteError

_EXTRAS = {"s3": "s3", "gs": "gs", "gcs": "gs", "az": "az", "abfs": "az", "abfss": "az"}
"""The extra of this package that installs what a scheme needs."""


class FsspecRemote(Remote):
    """Objects of one fsspec filesystem, of any kind.

    Whether `create` is exclusive there is for `probe` to find out, and whether an
    upload is invisible before its end is the filesystem's matter: readers compare sizes
    and digests.

    Args:
        url: The root.
        options: Of the filesystem's constructor.
    """

    def __init__(self, url: str, options: dict[str, Any] | None = None) -> None:
        self.url = url
        self._scheme, _, self._root = url.partition("://")
        self._options = options or {}
        self._opening = threading.Lock()
        self._opened: tuple[int, Any] | None = None
        self._lost: list[Any] = []

    @property
    def fs(self) -> Any:
        """The filesystem; a forked child has its own.

        fsspec's thread, and whatever its event loop had under way, is not there in a
        child. The parent's filesystem is kept as it is: closing it would wait for it.
        """
        opened = self._opened
        if opened is None or opened[0] != os.getpid():
            if opened is not None:
                self._lost.append(opened[1])
                self._opening = threading.Lock()
            with self._opening:
                opened = self._opened
                if opened is None or opened[0] != os.getpid():
                    opened = self._opened = (os.getpid(), self._open())
        return opened[1]

    def _open(self) -> Any:
        try:
            import fsspec

            with translated(self.url, "open the remote"):
                return fsspec.filesystem(
                    self._scheme,
                    use_listings_cache=False,
                    skip_instance_cache=True,
                    **self._options,
                )
        except RemoteError as error:
            cause = error.__cause__
            if isinstance(cause, ImportError):
                raise self._missing(cause) from cause
            if isinstance(cause, ValueError):  # fsspec's word for it
                raise InvalidInputError(
                    f"{self.url} has a scheme that fsspec does not know.",
                    hint="Use s3://, file:// or one of fsspec's.", url=self.url,
                ) from cause  # fmt: skip
            raise
        except ImportError as error:
            raise self._missing(error) from error

    def _missing(self, error: ImportError) -> MissingExtraError:
        extra = _EXTRAS.get(self._scheme)
        fix = f"wanllmdb[{extra}]" if extra else error.name or "fsspec"
        return MissingExtraError(
            f"The remote {self.url} needs a package that is not installed:"
            f" {error.name or error}.",
            hint=f"Install it with: pip install '{fix}'",
            module=error.name, extra=extra,
        )  # fmt: skip

    def _path(self, key: str) -> str:
        return f"{self._root}/{check_key(key)}"

    def get(self, key: str, first: int = 0, size: int | None = None) -> bytes:
        """See `Remote.get`."""
        check_range(first, size)
        path = self._path(key)
        with translated(self.url, f"read {key!r}", key):
            end = None if size is None else first + size
            data = self.fs.cat_file(path, start=first or None, end=end)
        return bytes(data)

    def download(
        self, key: str, sink: BinaryIO, first: int = 0, size: int | None = None
    ) -> int:
        """See `Remote.download`."""
        check_range(first, size)
        path = self._path(key)
        with translated(self.url, f"read {key!r}", key):
            there = self.fs.info(path)
            if there["type"] != "file":
                raise MissingKeyError(key)
        last = there["size"] if size is None else min(first + size, there["size"])
        done = 0
        while first + done < last:
            want = min(BLOCK, last - first - done)
            block = self.get(key, first + done, want)
            sink.write(block)
            done += len(block)
            with translated(self.url, f"read {key!r}"):
                if len(block) < want:
                    raise EOFError(f"it ends {last - first - done} bytes too soon")
        return done

    def put(self, key: str, data: bytes) -> None:
        """See `Remote.put`."""
        path = self._path(key)
        with translated(self.url, f"write {key!r}"):
            self.fs.pipe_file(path, data)

    def upload(self, key: str, source: BinaryIO, size: int) -> None:
        """See `Remote.upload`."""
        path = self._path(key)
        with translated(self.url, f"write {key!r}"):
            file = self.fs.open(path, "wb", block_size=BLOCK)
        try:
            for first in range(0, size, BLOCK):
                block = read_exactly(source, min(BLOCK, size - first))
                with translated(self.url, f"write {key!r}"):
                    file.write(block)
        except BaseException:
            # What is closed is stored, half as it is; nothing else is known to stop it.
            with suppress(Exception):
                file.discard()
            raise
        with translated(self.url, f"write {key!r}"):
            file.close()

    def create(self, key: str, data: bytes) -> bool:
        """See `Remote.create`."""
        path = self._path(key)

        def attempt() -> None:
            with translated(self.url, f"create {key!r}"):
                self.fs.pipe_file(path, data, mode="create")

        return settle(self, key, data, attempt)

    def iter_keys(self, prefix: str, after: str = "") -> Iterator[Listed]:
        """See `Remote.iter_keys`."""
        above, slash, _ = check_prefix(prefix).rpartition("/")
        start = f"{self._root}/{above}{slash}".rstrip("/")
        with translated(self.url, f"list {prefix!r}"):
            fs = self.fs
            root = fs._strip_protocol(self._root).strip("/") + "/"
            found = fs.find(start, detail=True)
        listed = [
            Listed(self._listed_key(name, root), told["size"] or 0, _modified_us(told))
            for name, told in found.items()
        ]
        for one in sorted(listed):
            if one.key.startswith(prefix) and one.key > after:
                yield one

    def _listed_key(self, name: str, root: str) -> str:
        return checked_key(self, name.lstrip("/").removeprefix(root.lstrip("/")))

    def delete(self, keys: Sequence[str]) -> None:
        """See `Remote.delete`."""
        for key in keys:
            path = self._path(key)
            try:
                with translated(self.url, f"delete {key!r}", key):
                    self.fs.rm_file(path)
            except MissingKeyError:
                continue

    def abort_stale(self, older_than_s: float) -> int:
        """See `Remote.abort_stale`; fsspec knows nothing of open uploads."""
        del older_than_s
        return 0

    def close(self) -> None:
        """See `Remote.close`."""
        self._opened = None


class MemoryRemote(FsspecRemote):
    """Objects in this process, gone with it: for tests, and to try things out."""

    tested = True
    _turn = threading.RLock()
    """fsspec's own filesystem in memory looks first and writes then."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._root = "/" + self._root.strip("/")

    def get(self, key: str, first: int = 0, size: int | None = None) -> bytes:
        """See `Remote.get`."""
        with self._turn:
            return super().get(key, first, size)

    def put(self, key: str, data: bytes) -> None:
        """See `Remote.put`."""
        with self._turn:
            super().put(key, data)

    def upload(self, key: str, source: BinaryIO, size: int) -> None:
        """See `Remote.upload`; it is held whole, as it will be."""
        self.put(key, read_exactly(source, size))

    def create(self, key: str, data: bytes) -> bool:
        """See `Remote.create`."""
        with self._turn:
            return super().create(key, data)

    def iter_keys(self, prefix: str, after: str = "") -> Iterator[Listed]:
        """See `Remote.iter_keys`."""
        with self._turn:
            found = list(super().iter_keys(prefix, after))
        yield from found

    def delete(self, keys: Sequence[str]) -> None:
        """See `Remote.delete`."""
        with self._turn:
            super().delete(keys)


def checked_key(remote: Remote, key: str) -> str:
    """A key that a listing tells of, where it is one.

    Raises:
        RemoteError: it is none, so that nobody of us wrote it.
    """
    try:
        return check_key(key)
    except InvalidInputError as error:
        raise RemoteError(
            f"{remote.url} holds an object with a name that is no key: {key[:200]!r}.",
            hint="Nobody of us writes such a thing; look at it, and remove it.",
            remote=remote.url, key=key[:200],
        ) from error  # fmt: skip


def _modified_us(told: dict[str, Any]) -> int:
    """When an object was written, by whatever name its filesystem has for that."""
    for name in (
        "LastModified",
        "last_modified",
        "modified",
        "updated",
        "mtime",
        "created",
    ):
        value = told.get(name)
        if isinstance(value, datetime):
            aware = value if value.tzinfo else value.replace(tzinfo=UTC)
            return int(aware.timestamp() * 1e6)
        if isinstance(value, (int, float)):
            return int(value * 1e6)
    return 0
