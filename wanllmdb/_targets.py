"""Directories that are written below: no link followed, each file whole or not there.

A draft is locked while it is written, so that what a killed process left can be told
from what another one is writing.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from wanllmdb import _files, _locks
from wanllmdb.errors import InvalidInputError, WanllmdbError

DRAFT = re.compile(r"\.wanllmdb-Case-[0-9a-f]{16}\.part")
"""A draft's name. The capital tells whether a filesystem minds the case."""

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Target:
    """A directory that is written below, name by name, following no link."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._last: tuple[str, int] | None = None

    def close(self) -> None:
        self._forget()
        os.close(self._fd)

    def _forget(self) -> None:
        if self._last is not None:
            os.close(self._last[1])
            self._last = None

    def stats(self, parent: str, names: Sequence[str]) -> list[os.stat_result | None]:
        """What is at these names in a directory; None for nothing."""
        try:
            fd, _ = self._directory(f"{parent}/-", create=False)
        except (FileNotFoundError, NotADirectoryError):
            return [None] * len(names)
        return [_stat(name, fd) for name in names]

    def create(self, path: str) -> tuple[int, Callable[[], None], Callable[[], None]]:
        """A new file beside a path: (descriptor, put it in place, drop it)."""
        fd, name = self._directory(path, create=True)
        draft, made = _locked_draft(fd)
        kept = os.dup(made)  # the lock, until the file has its name

        def put() -> None:
            try:
                os.rename(draft, name, src_dir_fd=fd, dst_dir_fd=fd)
            except OSError as error:
                raise _in_the_way(self.root, path, error) from error

        def drop() -> None:
            with suppress(FileNotFoundError):
                os.unlink(draft, dir_fd=fd)
            _writing.discard(_identity(kept))
            os.close(kept)

        return made, put, drop

    def drop_dead(self, parents: Iterable[str]) -> None:
        """Remove the drafts of killed downloads from directories below."""
        for parent in sorted(parents):
            try:
                fd = self._walk(parent, parent, create=False)
            except OSError:  # it is not there, or a link
                continue
            try:
                names = os.listdir(fd)  # noqa: PTH208 - of an open directory
                for name in filter(DRAFT.fullmatch, names):
                    drop_dead(name, fd)
            finally:
                os.close(fd)

    def _directory(self, path: str, *, create: bool) -> tuple[int, str]:
        """The open directory that a path is in, and its last name."""
        parent, _, name = path.rpartition("/")
        if self._last is None or self._last[0] != parent:
            fd = self._walk(parent, path, create=create)
            self._forget()
            self._last = parent, fd
        return self._last[1], name

    def _walk(self, parent: str, path: str, *, create: bool) -> int:
        fd = os.dup(self._fd)
        try:
            for part in parent.split("/") if parent else ():
                if create:
                    with suppress(FileExistsError):
                        os.mkdir(part, 0o777, dir_fd=fd)
                deeper = os.open(part, DIRECTORY, dir_fd=fd)
                os.close(fd)
                fd = deeper
        except OSError as error:
            os.close(fd)
            if error.errno in (errno.ELOOP, errno.ENOTDIR) and create:
                raise _in_the_way(self.root, path, error) from error
            raise
        return fd


_writing: set[tuple[int, int]] = set()
"""(device, inode) of the drafts of this process: with lockf, opening one frees it."""


def _identity(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def _locked_draft(directory: int) -> tuple[str, int]:
    """A new file in an open directory, locked: (name, descriptor)."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        # Without the file's own name, which may be as long as names can be.
        draft = f".wanllmdb-Case-{os.urandom(8).hex()}.part"
        fd = os.open(draft, flags, 0o666, dir_fd=directory)
        _writing.add(_identity(fd))
        if _is_mine(draft, directory, fd):
            return draft, fd
        _writing.discard(_identity(fd))
        os.close(fd)


def _is_mine(draft: str, directory: int, fd: int) -> bool:
    """Lock a draft; False where it was taken for dead, and removed, just before."""
    try:
        if not _locks.try_lock(fd):
            return False
        found = os.stat(draft, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    except OSError:  # a filesystem without locks, where none is taken for dead
        return True
    return (found.st_dev, found.st_ino) == _identity(fd)


def drop_dead(name: str, directory: int) -> bool:
    """Remove a draft that nobody writes any more; False where somebody does."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if (found.st_dev, found.st_ino) in _writing:
            return False
        fd = os.open(name, flags, dir_fd=directory)
    except OSError:  # gone, or another user's
        return False
    try:
        if not _locks.try_lock(fd):
            return False
        os.unlink(name, dir_fd=directory)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _stat(name: str, directory: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _in_the_way(root: Path, path: str, error: OSError) -> InvalidInputError:
    return InvalidInputError(
        f"{path!r} cannot be written below {root}: {error.strerror}.",
        hint="A link or a file is in its way; choose another directory.",
    )


@contextmanager
def opened(root: Path) -> Iterator[Target]:
    """A directory, made if need be, to write below.

    Raises:
        InvalidInputError: it cannot be written to.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        target = Target(root.absolute())
    except OSError as error:
        raise InvalidInputError(
            f"{root} cannot be written to: {error.strerror}.",
            hint="Name another directory.",
        ) from error
    try:
        yield target
    except WanllmdbError:
        raise
    except OSError as error:
        raise _files.explain_os_error(error, root) from error
    finally:
        target.close()


def refuse_alike(paths: Collection[str], target: Target) -> None:
    """Refuse names that a filesystem without case takes for one.

    Raises:
        InvalidInputError: there are such names, and the target is on one.
    """
    if len({path.casefold() for path in paths}) == len(paths):
        return
    first: dict[str, str] = {}
    for path in paths:
        other = first.setdefault(path.casefold(), path)
        if other != path and _ignores_case(target):
            raise InvalidInputError(
                f"{target.root} takes {other!r} and {path!r} for one file.",
                hint="Download to a filesystem that tells them apart.",
            )


def _ignores_case(target: Target) -> bool:
    fd, _, drop = target.create("case")
    os.close(fd)
    try:
        names = os.listdir(target.root)  # noqa: PTH208 - names are enough
        made = next(name for name in names if name.startswith(".wanllmdb-Case-"))
        return (target.root / made.lower()).exists()
    finally:
        drop()
