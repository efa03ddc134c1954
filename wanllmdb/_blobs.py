"""Content-addressed files: ``blobs/sha256/ab/<hex>``, each content once.

A blob appears complete and durable, or not at all, and its name is checked against
its bytes when it is read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

from wanllmdb import _digest, _files
from wanllmdb._media.content import Content
from wanllmdb.errors import DigestMismatchError, MissingBlobError
from wanllmdb.types import Digest

DAMAGED = "damaged"
"""Where in the trash blobs lie whose bytes have changed: nobody takes them for good."""

_PREFIXES = 256
"""Directories of blobs, by the first two hex digits."""

LISTED_FOR_EACH = 4
"""Names that are read for a blob that is looked for, at most: a look takes as long."""


class Blobs:
    """The blobs of one Store.

    Args:
        root: Where they are.
        tmp_dir: Where drafts are, on the same filesystem.
        trash: Where gc puts what nothing needs.

    Attributes:
        fetch: Brings blobs that are not here from where they are known to be, and says
            whether it brought one; None: nothing is known to be elsewhere.
    """

    fetch: Callable[[Collection[str]], bool] | None = None

    def __init__(self, root: Path, tmp_dir: Path, trash: Path) -> None:
        self._root = root / "sha256"
        self._tmp = tmp_dir
        self._trash = trash
        self._damaged = trash.parent / DAMAGED

    def path_of(self, digest: str) -> Path:
        """Where a blob is, or would be."""
        name = _digest.hex_of(digest)
        return self._root / name[:2] / name

    def put_bytes(self, data: bytes) -> Digest:
        """Store bytes; durable on return."""
        digest = _digest.of_bytes(data)
        path = self.path_of(digest)
        if self._is_kept(digest, len(data)):
            return digest
        self.make_dirs([path.parent])
        _files.write_durably(path, data, self._tmp, mode=0o400)
        return digest

    def put_file(self, source: Path) -> tuple[Digest, int]:
        """Store a copy of a file's bytes, streaming; durable on return.

        Returns:
            Its digest, and its size in bytes.

        Raises:
            OSError: the source cannot be read, or the Store not written.
        """
        draft = self._tmp / f"blob-{os.urandom(8).hex()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            with source.open("rb") as reader:
                fd = os.open(draft, flags, 0o400)
                with os.fdopen(fd, "wb") as writer:
                    digest, size = _digest.of_copied(reader, writer)
                    writer.flush()
                    os.fsync(writer.fileno())
            path = self.path_of(digest)
            if self._is_kept(digest, size):
                return digest, size
            self.make_dirs([path.parent])
            draft.rename(path)
            _files.fsync_dir(path.parent)
            return digest, size
        finally:
            draft.unlink(missing_ok=True)

    def _is_kept(self, digest: Digest, size: int) -> bool:
        """Whether there is a blob, of the right size, which is young again then."""
        return self.touch(digest) and self._has(digest, size)

    def put_all(self, contents: Iterable[Content]) -> None:
        """Store contents, each once; durable on return.

        Raises:
            OSError: the Store cannot be written.
            IntegrityError: one can no longer be read as it was.
        """
        drafts: dict[Digest, str] = {}
        try:
            for content in contents:
                if content.digest in drafts or self.touch(content.digest):
                    continue
                draft = f"{self._tmp}/blob-{os.urandom(8).hex()}"
                drafts[content.digest] = draft
                content.write_to(Path(draft))
            self.adopt(drafts)
        finally:
            for draft in drafts.values():
                Path(draft).unlink(missing_ok=True)

    def touch(self, digest: str) -> bool:
        """Make a blob young again, for gc; out of the trash, if it is there.

        Returns:
            False if there is no such blob; or where it is somebody's file too, whose
            times are theirs.
        """
        path = self.path_of(digest)
        try:
            if _is_linked(path):
                return False
            os.utime(path)
        except FileNotFoundError:
            return self._taken_back(path) and not _is_linked(path)
        return True

    def _taken_back(self, path: Path) -> bool:
        """Whether a blob was in the trash, and is in its place again."""
        try:
            (self._trash / path.name).rename(path)
        except FileNotFoundError:
            return False
        if not _is_linked(path):
            os.utime(path)
        _files.fsync_dir(path.parent)
        return True

    def present(self, sizes: Mapping[Digest, int | None]) -> set[Digest]:
        """Those of some contents that have a blob; out of the trash, if it is there.

        They are not made young: whoever asks keeps gc out, or names them for it.

        Args:
            sizes: The bytes that each should have; None where that is not known. A
                blob of another size is damaged, and counts for none.
        """
        found = {digest for digest, size in sizes.items() if self._has(digest, size)}
        return found | self._out_of_trash(sizes.keys() - found)

    def listed(self, digests: Collection[Digest]) -> set[Digest]:
        """Like `present`, for many at once; sizes are not looked at.

        To read the directories' names takes half the time of a look at each blob.
        """
        names = self._names(f"{0:02x}")
        if len(names) * _PREFIXES > LISTED_FOR_EACH * len(digests):
            return self.present(dict.fromkeys(digests))
        for number in range(1, _PREFIXES):
            names |= self._names(f"{number:02x}")
        start = len(_digest.PREFIX)
        found = {digest for digest in digests if digest[start:] in names}
        return found | self._out_of_trash(set(digests) - found)

    def _names(self, prefix: str) -> set[str]:
        try:
            return set(os.listdir(f"{self._root}/{prefix}"))  # noqa: PTH208 - a text
        except FileNotFoundError:
            return set()

    def _out_of_trash(self, digests: Collection[Digest]) -> set[Digest]:
        if not digests:
            return set()
        trashed = set(os.listdir(self._trash)) if self._trash.exists() else set()  # noqa: PTH208
        return {
            digest for digest in digests
            if _digest.hex_of(digest) in trashed
            and self._taken_back(self.path_of(digest))
        }  # fmt: skip

    def _has(self, digest: Digest, size: int | None) -> bool:
        name = digest[len(_digest.PREFIX) :]
        try:
            held = os.stat(f"{self._root}/{name[:2]}/{name}")  # noqa: PTH116 - thousands
        except FileNotFoundError:
            return False
        return size is None or held.st_size == size

    def set_aside(self, digest: str) -> bool:
        """Move a blob whose bytes have changed into the trash, for people to look at.

        It is missing from then on, so that whoever stores its content again, stores it.

        Returns:
            Whether it was moved; False for one that is whole, or gone.
        """
        import hashlib

        path = self.path_of(digest)
        try:
            with path.open("rb") as file:
                if path.name == hashlib.file_digest(file, "sha256").hexdigest():
                    return False
                _files.make_private_dir(self._damaged)
                goal = self._damaged / path.name
                path.rename(goal)
                if not os.path.samestat(os.fstat(file.fileno()), goal.stat()):
                    goal.rename(path)  # it was stored anew since it was looked at
                    return False
        except FileNotFoundError:
            return False
        return True

    def damaged(self) -> set[str]:
        """The names of the blobs that were set aside, and are not removed yet."""
        return set(os.listdir(self._damaged)) if self._damaged.exists() else set()  # noqa: PTH208

    def adopt(self, drafts: Mapping[Digest, str]) -> set[Digest]:
        """Move whole files, named by what was hashed, into place; durable on return.

        Args:
            drafts: Files below the Store; those that are gone are left out, as an
                earlier commit that failed may have moved them. They take the place of
                blobs that came meanwhile, and of damaged ones.

        Returns:
            The contents that have a blob now.
        """
        new = {
            path: f"{self._root}/{name[:2]}/{name}"
            for digest, path in drafts.items()
            if os.path.exists(path) and (name := _digest.hex_of(digest))  # noqa: PTH110
        }
        _files.sync_files(list(new))
        directories = [Path(p) for p in {os.path.dirname(g) for g in new.values()}]  # noqa: PTH120
        self.make_dirs(directories)
        for draft, goal in new.items():
            os.replace(draft, goal)  # noqa: PTH105 - thousands of them
        _files.sync_dirs(directories)
        return {digest for digest, path in drafts.items() if path in new}

    def make_dirs(self, directories: Iterable[Path]) -> None:
        """Make directories that blobs are in; durable on return."""
        new = {path for path in directories if not path.exists()}
        for directory in new:
            _files.make_private_dir(directory)
        if new:
            for place in (self._root, self._root.parent, self._root.parent.parent):
                _files.fsync_dir(place)

    def open(self, digest: str) -> BinaryIO:
        """A blob, to be read; it is not checked. One that lies elsewhere is fetched.

        Raises:
            MissingBlobError: it is not there.
            RemoteError: it lies at a remote that cannot be read.
        """
        return self._opened(digest, lambda: self.fetched(digest))

    def _opened(self, digest: str, bring: Callable[[], bool]) -> BinaryIO:
        path = self.path_of(digest)
        for last in (False, False, True):
            try:
                return path.open("rb")
            except FileNotFoundError:
                # A gc moves what was just named for a moment, and then back.
                if self._taken_back(path) or path.exists():
                    continue
                if last or not bring():
                    break
        raise MissingBlobError(
            f"The blob {digest} is missing.",
            hint="Restore it from a backup.", digest=digest,
        )  # fmt: skip

    def fetched(self, digest: str) -> bool:
        """Whether a blob that is not here was fetched from elsewhere now.

        Raises:
            MissingBlobError: it lies elsewhere, and fetching is switched off.
            RemoteError: it lies at a remote that cannot be read.
        """
        return self.fetch is not None and self.fetch([digest])

    def fetch_lacking(self, sizes: Mapping[Digest, int | None]) -> None:
        """Fetch what is not here and lies elsewhere, all at once.

        Args:
            sizes: The contents that are wanted, as `present` takes them.

        Raises:
            MissingBlobError: fetching is switched off.
            RemoteError: a remote cannot be read.
        """
        if self.fetch is not None and (lacking := sizes.keys() - self.present(sizes)):
            self.fetch(lacking)

    def here(self, digest: str) -> Path:
        """Where a blob is, or would be; it was fetched if it lay elsewhere.

        Raises:
            MissingBlobError: it lies elsewhere, and fetching is switched off.
            RemoteError: it lies at a remote that cannot be read.
        """
        path = self.path_of(digest)
        if not path.exists() and not self._taken_back(path):
            self.fetched(digest)
        return path

    def _renewed(self, digest: str) -> bool:
        """Whether a damaged blob was fetched from elsewhere; else it is as it was."""
        if self.fetch is None or not self.set_aside(digest):
            return False
        path = self.path_of(digest)
        try:
            return self.fetched(digest)
        finally:
            if not path.exists():
                (self._damaged / path.name).rename(path)

    def get(self, digest: str) -> bytes:
        """The bytes of a blob, checked against its name.

        Raises:
            MissingBlobError: it is not there.
            DigestMismatchError: its bytes changed.
            RemoteError: it lies at a remote that cannot be read.
        """
        with self.open(digest) as file:
            data = file.read()
        try:
            return _checked(digest, data)
        except DigestMismatchError:
            if not self._renewed(digest):
                raise
            return self.get_local(digest)

    def get_local(self, digest: str) -> bytes:
        """As `get`, but nothing is fetched.

        Raises:
            MissingBlobError: it is not here.
            DigestMismatchError: its bytes changed.
        """
        with self._opened(digest, lambda: False) as file:
            return _checked(digest, file.read())


def _checked(digest: str, data: bytes) -> bytes:
    if _digest.of_bytes(data) == digest:
        return data
    raise DigestMismatchError(
        f"The bytes of blob {digest} have changed.", hint="Restore it from a backup.",
        digest=digest,
    )  # fmt: skip


def _is_linked(path: Path) -> bool:
    """Whether a blob is a hard link of a file elsewhere, as `Staging` makes them."""
    return path.stat().st_nlink > 1
