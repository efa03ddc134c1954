"""A directory as a remote: a shared disk, a mounted share, a USB stick.

Every object is written under `DRAFTS`, flushed, and then given its name: by a link
where it must be new, by a rename elsewhere. So a name is a whole object, whatever is
killed. Below the root no symbolic link is followed, and nothing outside it is touched.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

from wanllmdb import _files
from wanllmdb._remotes.failures import translated
from wanllmdb._remotes.port import (
    BLOCK,
    DRAFTS,
    Listed,
    MissingKeyError,
    Remote,
    check_key,
    check_prefix,
    check_range,
    read_exactly,
    settle,
)
from wanllmdb.errors import InvalidInputError, RemoteError, RemoteNotFoundError

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class FileRemote(Remote):
    """Files below a directory.

    The root is made by the first write, where its parent is there: a disk that is not
    mounted is no empty remote. Modes are those of the user's umask.

    Args:
        root: The directory, absolute.
    """

    tested = True

    def __init__(self, root: Path) -> None:
        self._root = root
        self.url = f"file://{root}"

    def get(self, key: str, first: int = 0, size: int | None = None) -> bytes:
        """See `Remote.get`."""
        with self._opened(key, first, size) as (fd, count):
            return b"".join(self._blocks(fd, key, count))

    def download(
        self, key: str, sink: BinaryIO, first: int = 0, size: int | None = None
    ) -> int:
        """See `Remote.download`."""
        done = 0
        with self._opened(key, first, size) as (fd, count):
            for block in self._blocks(fd, key, count):
                sink.write(block)
                done += len(block)
        return done

    def put(self, key: str, data: bytes) -> None:
        """See `Remote.put`."""
        with self._draft(key) as draft:
            draft.write(data)
            draft.replace()

    def upload(self, key: str, source: BinaryIO, size: int) -> None:
        """See `Remote.upload`."""
        with self._draft(key) as draft:
            for first in range(0, size, BLOCK):
                draft.write(read_exactly(source, min(BLOCK, size - first)))
            draft.replace()

    def create(self, key: str, data: bytes) -> bool:
        """See `Remote.create`."""

        def attempt() -> None:
            with self._draft(key) as draft:
                draft.write(data)
                draft.link()

        return settle(self, key, data, attempt)

    def iter_keys(self, prefix: str, after: str = "") -> Iterator[Listed]:
        """See `Remote.iter_keys`."""
        above, slash, _ = check_prefix(prefix).rpartition("/")
        for found in self._walk(above + slash, prefix, after):
            if found.key.startswith(prefix) and found.key > after:
                yield found

    def delete(self, keys: Sequence[str]) -> None:
        """See `Remote.delete`."""
        for key in keys:
            try:
                with (
                    translated(self.url, f"delete {key!r}", key),
                    self._parent(check_key(key)) as at,
                ):
                    os.unlink(_name(key), dir_fd=at)
                    os.fsync(at)
            except MissingKeyError:
                continue

    def abort_stale(self, older_than_s: float) -> int:
        """See `Remote.abort_stale`."""
        limit = time.time() - older_than_s
        with translated(self.url, "remove what uploads left"):
            try:
                with self._parent(f"{DRAFTS}/x") as at, os.scandir(at) as drafts:
                    return sum(_remove_older(one.name, at, limit) for one in drafts)
            except FileNotFoundError:
                return 0

    def close(self) -> None:
        """See `Remote.close`; there is nothing to let go of."""

    @contextmanager
    def _parent(self, key: str, *, make: bool = False) -> Iterator[int]:
        """A descriptor of the directory that a key is in; no link is followed to it."""
        at = self._open_root(make=make)
        try:
            for part in key.split("/")[:-1]:
                at = self._descend(at, part, key, make=make)
            yield at
        finally:
            os.close(at)

    def _open_root(self, *, make: bool) -> int:
        # The root itself may be a link: it is the user's own word.
        flags = _DIRECTORY & ~os.O_NOFOLLOW
        try:
            return os.open(self._root, flags)
        except FileNotFoundError:
            if not self._root.parent.is_dir():
                raise RemoteNotFoundError(
                    f"There is no directory {self._root.parent} for {self.url}.",
                    hint="Mount its disk, or create it.", remote=self.url,
                ) from None  # fmt: skip
            if not make:
                raise
        self._root.mkdir(exist_ok=True)
        _files.fsync_dir(self._root.parent)
        return os.open(self._root, flags)

    def _descend(self, at: int, part: str, key: str, *, make: bool) -> int:
        """Open a directory in place of the one it is in, which is closed."""
        try:
            if make:
                _make_dir(part, at)
            below = os.open(part, _DIRECTORY, dir_fd=at)
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                self.refuse(key, f"{part!r} is no directory, or a link", error)
            raise
        os.close(at)
        return below

    def refuse(self, key: str, why: str, cause: Exception | None = None) -> NoReturn:
        """Raise a RemoteError over what was found under a key."""
        raise RemoteError(
            f"{key!r} at {self.url} is refused: {why}.",
            hint="Nobody of us writes such a thing; look at it, and remove it.",
            remote=self.url, key=key,
        ) from cause  # fmt: skip

    @contextmanager
    def _opened(
        self, key: str, first: int, size: int | None
    ) -> Iterator[tuple[int, int]]:
        """A descriptor at the first byte, and how many bytes there are from it on."""
        check_range(first, size)
        check_key(key)
        with translated(self.url, f"read {key!r}", key), self._parent(key) as at:
            try:
                fd = os.open(_name(key), _READ, dir_fd=at)
            except OSError as error:
                if error.errno == errno.ELOOP:
                    self.refuse(key, "it is a link", error)
                raise
        try:
            told = os.fstat(fd)
            if stat.S_ISDIR(told.st_mode):
                raise MissingKeyError(key)
            if not stat.S_ISREG(told.st_mode):
                self.refuse(key, "it is no regular file")
            os.lseek(fd, first, os.SEEK_SET)
            left = max(told.st_size - first, 0)
            yield fd, left if size is None else min(left, size)
        finally:
            os.close(fd)

    def _blocks(self, fd: int, key: str, count: int) -> Iterator[bytes]:
        while count:
            with translated(self.url, f"read {key!r}"):
                block = os.read(fd, min(BLOCK, count))
                if not block:
                    raise EOFError(f"it ends {count} bytes too soon")
            count -= len(block)
            yield block

    @contextmanager
    def _draft(self, key: str) -> Iterator[_Draft]:
        """A file to write and to give its name; none is left behind."""
        check_key(key)
        name = f"{os.getpid()}-{os.urandom(8).hex()}"
        doing = f"write {key!r}"
        with ExitStack() as stack:
            with translated(self.url, doing):
                place = stack.enter_context(self._parent(key, make=True))
                drafts = stack.enter_context(
                    self._parent(f"{DRAFTS}/{name}", make=True)
                )
                fd = os.open(name, _WRITE, 0o666, dir_fd=drafts)
            stack.callback(_discard, name, drafts)
            stack.callback(os.close, fd)
            yield _Draft(self, key, fd, name, drafts, place)

    def _walk(self, directory: str, prefix: str, after: str) -> Iterator[Listed]:
        """The files below a directory ("" or with a slash), sorted by their keys."""
        for name, told in self._entries(directory):
            key = directory + name
            if told is not None:
                yield Listed(key, told.st_size, told.st_mtime_ns // 1000)
            elif (key.startswith(prefix) or prefix.startswith(key)) and (
                key > after or after.startswith(key)
            ):
                yield from self._walk(key, prefix, after)

    def _entries(self, directory: str) -> list[tuple[str, os.stat_result | None]]:
        """(name, its stat) of what is in a directory; (name + "/", None) of another.

        Sorted by these names, which is the order of the keys below them.
        """
        found: list[tuple[str, os.stat_result | None]] = []
        with translated(self.url, f"list {directory!r}"):
            try:
                with self._parent(directory + "x") as at, os.scandir(at) as entries:
                    for entry in entries:
                        if directory or entry.name != DRAFTS:
                            found += self._entry(directory, entry)
            except FileNotFoundError:
                return []
        return sorted(found, key=lambda one: one[0])

    def _entry(
        self, directory: str, entry: os.DirEntry[str]
    ) -> list[tuple[str, os.stat_result | None]]:
        key = directory + entry.name
        try:
            told = entry.stat(follow_symlinks=False)
        except FileNotFoundError:  # removed just now
            return []
        try:
            check_key(key)
        except InvalidInputError as error:
            self.refuse(key, "its name is none of a key", error)
        if stat.S_ISDIR(told.st_mode):
            return [(entry.name + "/", None)]
        if not stat.S_ISREG(told.st_mode):
            self.refuse(key, "it is a link, or no regular file")
        return [(entry.name, told)]


@dataclass(frozen=True, slots=True)
class _Draft:
    """A file under `DRAFTS` that has no name as an object yet."""

    remote: FileRemote
    key: str
    fd: int
    name: str
    drafts: int
    place: int

    def write(self, data: bytes) -> None:
        with self._translated():
            _files.write_all(self.fd, data)

    def replace(self) -> None:
        """Take the key's name, from what has it; durable on return."""
        with self._translated():
            os.fsync(self.fd)
            self._refuse_link()
            os.replace(
                self.name,
                _name(self.key),
                src_dir_fd=self.drafts,
                dst_dir_fd=self.place,
            )
            os.fsync(self.place)

    def link(self) -> None:
        """Take the key's name, if nothing has it; durable on return.

        Raises:
            FileExistsError: something has it.
        """
        with self._translated():
            os.fsync(self.fd)
            try:
                os.link(
                    self.name, _name(self.key), src_dir_fd=self.drafts,
                    dst_dir_fd=self.place, follow_symlinks=False,
                )  # fmt: skip
            except OSError as error:
                if error.errno in _NO_LINKS:
                    raise RemoteError(
                        f"The filesystem of {self.remote.url} has no hard links, which"
                        " exclusive create needs.",
                        hint="Use a directory on another one.", remote=self.remote.url,
                    ) from error  # fmt: skip
                raise
            os.fsync(self.place)

    def _refuse_link(self) -> None:
        try:
            told = os.stat(_name(self.key), dir_fd=self.place, follow_symlinks=False)
        except FileNotFoundError:
            return
        if stat.S_ISLNK(told.st_mode):
            self.remote.refuse(self.key, "it is a link")

    def _translated(self) -> AbstractContextManager[None]:
        return translated(self.remote.url, f"write {self.key!r}")


def _name(key: str) -> str:
    return key.rpartition("/")[2]


def _make_dir(name: str, at: int) -> None:
    """Make a directory in another, durably, unless it is there."""
    try:
        os.mkdir(name, dir_fd=at)
    except FileExistsError:
        return
    os.fsync(at)


def _discard(name: str, at: int) -> None:
    try:
        os.unlink(name, dir_fd=at)
    except FileNotFoundError:  # it was renamed
        pass


def _remove_older(name: str, at: int, limit: float) -> bool:
    try:
        if os.stat(name, dir_fd=at, follow_symlinks=False).st_mtime >= limit:
            return False
        os.unlink(name, dir_fd=at)
        return True
    except FileNotFoundError:  # its writer was alive, and is done
        return False
