"""Forks, of which SQLite does not know.

A forked child has its parent's connections in SQLite's tables, and so takes no lock
that one of them holds: for the child, nobody holds it. When the parent closed, the WAL
was removed under the child, and the child's commits were lost. A transaction that
another thread was in would keep the child from writing for ever.

So no thread is in a transaction when a process forks, and a child that opens a Catalog
first takes the locks for itself that SQLite believes it has.
Source: SQLite, os_unix.c (unixLock, unixLockSharedMemory) and "How To Corrupt", 2.6.
"""

from __future__ import annotations

import os
import sys
import time
import weakref
from pathlib import Path
from threading import RLock
from typing import Protocol

from wanllmdb.errors import StoreClosedError

if sys.platform != "win32":  # there `import wanllmdb` works, and init() refuses
    import fcntl

SECONDS = 1.0
"""How long a child waits for whoever is closing the Catalog."""

FORK_SECONDS = 10.0
"""How long a fork waits for the transaction of another thread: a slow disk takes
seconds for one, and a child that is forked within it may hang for ever."""

_FILE_LOCK = 0x40000002, 510
_SHM_LOCK = 128, 1
"""What an open connection shares of the file and of -shm: (first byte, how many)."""


class Forked(Protocol):
    """A Catalog whose connections a fork concerns."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def write_lock(self) -> RLock:
        """Held by the thread that is in a transaction."""

    @property
    def connected(self) -> bool:
        """Whether this process has it open for writing, in WAL mode."""


_watched: weakref.WeakSet[Forked] = weakref.WeakSet()
_waiting: list[RLock] = []
_open: dict[Path, tuple[int, int] | None] = {}
_inherited: dict[Path, tuple[int, int] | None] = {}
"""Path of each Catalog that the parent had open -> its -shm then (device, inode)."""
_kept: list[int] = []
"""Descriptors that are never closed, for that would drop the locks."""


def watch(database: Forked) -> None:
    """Have forks take care of a Catalog."""
    _watched.add(database)


def take_over(path: Path) -> None:
    """Before a child opens a Catalog that its parent had open: take its locks.

    Raises:
        StoreClosedError: the parent has closed it meanwhile, and SQLite cannot know.
    """
    if path not in _inherited:
        return
    before = _inherited[path]
    # Once the file is shared nobody removes -wal and -shm; are they still the same?
    if not (
        before is not None
        and _share(path, _FILE_LOCK) is not None
        and _share(Path(f"{path}-shm"), _SHM_LOCK) == before
    ):
        _inherited[path] = None  # it is not tried again
        raise StoreClosedError(
            f"The Store at {path.parent} was closed by the process that forked this"
            " one.",
            hint="Let the parent close it last, or start the child by spawn.",
        )
    del _inherited[path]


def _share(path: Path, place: tuple[int, int]) -> tuple[int, int] | None:
    """Share bytes of a file for as long as this process lives; which file it is."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    _kept.append(fd)
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB, place[1], place[0])
        except OSError:  # somebody is closing it
            if time.monotonic() > deadline:
                return None
            time.sleep(0.01)
        else:
            return _identity(os.fstat(fd))


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _before() -> None:
    _open.clear()
    _open.update(_inherited)
    for database in list(_watched):
        if database.write_lock.acquire(timeout=FORK_SECONDS):
            _waiting.append(database.write_lock)
        if database.connected:
            try:
                shm = Path(f"{database.path}-shm").stat()
            except OSError:
                continue
            _open[database.path] = _identity(shm)


def _after_in_parent() -> None:
    while _waiting:
        _waiting.pop().release()


def _after_in_child() -> None:
    _after_in_parent()
    _inherited.update(_open)


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(
        before=_before, after_in_parent=_after_in_parent,
        after_in_child=_after_in_child,
    )  # fmt: skip
