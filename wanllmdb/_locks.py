"""File locks that the kernel frees when their holder dies.

On Linux an *open file description* lock (``F_OFD_SETLK``): unlike a POSIX lock it is
not dropped when the process closes another descriptor of the same file. Elsewhere
``lockf``; there a process must never open a lock file that it owns, which the table
of owned locks prevents everywhere.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform != "win32":  # there `import wanllmdb` works, and init() refuses
    import fcntl

    _OFD_SETLK = getattr(fcntl, "F_OFD_SETLK", None)
_FLOCK = "hhqqi"  # struct flock of Linux: type, whence, start, length, pid
_BUSY = (errno.EACCES, errno.EAGAIN)

_owned: dict[tuple[int, int], int] = {}
"""(device, inode) of each lock held here -> its descriptor."""


_shared: dict[Path, tuple[int, list[int]]] = {}
"""Path of each lock that is shared here -> (its descriptor, the threads that do)."""
_sharing = threading.Lock()

TURN_SECONDS = 5.0
"""How long a lock's next owner keeps newcomers from sharing it, while it waits."""

REST_SECONDS = 45.0
"""How long it lets them in again, where somebody shares it for longer than that."""


class FileLock:
    """An exclusive lock held by this process until `release` or its death."""

    def __init__(self, fd: int, path: Path) -> None:
        self.path = path
        self._fd = fd
        stat = os.fstat(fd)
        self._key = (stat.st_dev, stat.st_ino)
        _owned[self._key] = fd

    def release(self, *, unlink: bool = False) -> None:
        """Free the lock, first removing its file if asked."""
        if self._fd < 0:
            return
        if unlink:
            self.path.unlink(missing_ok=True)
        _owned.pop(self._key, None)
        os.close(self._fd)
        self._fd = -1

    def __enter__(self) -> FileLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def create_locked(path: Path, tmp_dir: Path, content: bytes) -> FileLock:
    """Make a lock file that is locked from the first moment it can be seen.

    Made under `tmp_dir`, locked, then linked into place: no other process can find
    it unlocked while its owner lives.

    Raises:
        FileExistsError: the path exists.
        OSError: the filesystem refused.
    """
    # Not by pid: in containers each run of a program has the pid of the one before,
    # and what a killed one left would be in the way.
    draft = tmp_dir / f"lock-{os.urandom(8).hex()}"
    fd = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, content)
        if not _try_lock(fd, fcntl.LOCK_EX):
            message = f"a new file is locked already: {draft}"
            raise OSError(errno.EAGAIN, message)
        # Owned before it can be seen, so that no thread here opens and so frees it.
        lock = FileLock(fd, path)
    except BaseException:
        os.close(fd)
        draft.unlink(missing_ok=True)
        raise
    try:
        os.link(draft, path)
    except BaseException:
        lock.release()
        raise
    finally:
        with suppress(OSError):  # a name too many is in nobody's way
            draft.unlink()
    return lock


def is_held(path: Path) -> bool:
    """Whether a living process, this one included, holds the lock of a file.

    A file that is gone is not held. Probing takes a shared lock for a moment, so two
    probers do not take each other for the owner.
    """
    if is_owned(path):
        return True
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _try_lock(fd, fcntl.LOCK_SH)
    finally:
        os.close(fd)


def try_acquire(path: Path) -> FileLock | None:
    """Take the lock of a file, made if need be; None if another holds it now.

    Two threads of one process exclude each other too.
    """
    while True:
        if is_owned(path):  # with lockf, opening and closing it would free it
            return None
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not _try_lock(fd, fcntl.LOCK_EX):
                os.close(fd)
                return None
            if _same_file(fd, path):
                return FileLock(fd, path)
        except BaseException:
            os.close(fd)
            raise
        # Its last holder removed the file between our open and our lock.
        os.close(fd)


@contextmanager
def shared(path: Path, timeout: float, turn: Path | None = None) -> Iterator[bool]:
    """Share the lock of a file with others who do; whoever owns it keeps all out.

    Args:
        path: The file, made if need be; it is never removed.
        timeout: Seconds to wait for its owner.
        turn: What `acquire_in_turn` is given, too: its waiting owner goes first, but
            for threads that share the lock already.

    Yields:
        Whether it is shared now; False after `timeout`.
    """
    deadline = time.monotonic() + timeout
    if turn is not None:
        _let_pass(path, turn, min(timeout, TURN_SECONDS))
    while not (held := _share(path)) and time.monotonic() < deadline:
        time.sleep(0.01)
    thread, pid = threading.get_ident(), os.getpid()
    try:
        yield held
    finally:
        if held and pid == os.getpid():  # a child that was forked meanwhile has none
            _unshare(path, thread)


def _let_pass(path: Path, turn: Path, timeout: float) -> None:
    """Wait while the next owner of a lock waits, unless it waits for this thread.

    Never for long: another thread may wait for this one, and share the lock.
    """
    deadline = time.monotonic() + timeout
    while not _is_sharing(path) and is_held(turn) and time.monotonic() < deadline:
        time.sleep(0.01)


def _is_sharing(path: Path) -> bool:
    with _sharing:
        return path in _shared and threading.get_ident() in _shared[path][1]


def _share(path: Path) -> bool:
    with _sharing:
        if path in _shared:
            _shared[path][1].append(threading.get_ident())
            return True
        if is_owned(path):
            return False
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not _try_lock(fd, fcntl.LOCK_SH):
                os.close(fd)
                return False
        except BaseException:
            os.close(fd)
            raise
        _shared[path] = fd, [threading.get_ident()]
        stat = os.fstat(fd)
        _owned[stat.st_dev, stat.st_ino] = fd
        return True


def _unshare(path: Path, thread: int) -> None:
    with _sharing:
        fd, threads = _shared[path]
        threads.remove(thread)
        if threads:
            return
        del _shared[path]
        stat = os.fstat(fd)
        _owned.pop((stat.st_dev, stat.st_ino), None)
        os.close(fd)


def is_owned(path: Path) -> bool:
    """Whether this process holds the lock of a file; the file is not opened."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return False
    return (stat.st_dev, stat.st_ino) in _owned


def _same_file(fd: int, path: Path) -> bool:
    mine = os.fstat(fd)
    try:
        named = path.stat()
    except FileNotFoundError:
        return False
    return (mine.st_dev, mine.st_ino) == (named.st_dev, named.st_ino)


def acquire(path: Path, timeout: float) -> FileLock | None:
    """Take the lock of a file, waiting up to `timeout` seconds; None if in vain."""
    deadline = time.monotonic() + timeout
    while True:
        lock = try_acquire(path)
        if lock is not None or time.monotonic() >= deadline:
            return lock
        time.sleep(0.01)


def acquire_in_turn(path: Path, turn: Path, timeout: float) -> FileLock | None:
    """Take a lock that others share without a pause; None if in vain.

    Its newcomers wait for a while, see `shared`, so that those who share it end. Where
    one of them takes longer, newcomers are let in between: they wait for a tenth of the
    time at most.

    Args:
        path: The file of the lock.
        turn: A file whose lock is held by whoever is the next to own the other.
        timeout: Seconds to wait in all.
    """
    deadline = time.monotonic() + timeout
    while True:
        queue = acquire(turn, deadline - time.monotonic())
        if queue is None:
            return None
        with queue:
            lock = acquire(path, min(TURN_SECONDS, deadline - time.monotonic()))
        if lock is None and time.monotonic() < deadline:
            lock = acquire(path, min(REST_SECONDS, deadline - time.monotonic()))
        if lock is not None or time.monotonic() >= deadline:
            return lock


def forget_after_fork() -> None:
    """In a forked child: close inherited lock descriptors, own nothing.

    The locks belong to the parent's open file descriptions and stay held there.
    """
    global _sharing
    _sharing = threading.Lock()  # a thread that is not here may hold the other one
    for fd in _owned.values():
        try:
            os.close(fd)
        except OSError:  # closed meanwhile by the program itself
            pass
    _owned.clear()
    _shared.clear()


def try_lock(fd: int) -> bool:
    """Lock an open file until every descriptor of that opening is closed.

    Returns:
        False where another opening of it has a lock.

    Raises:
        OSError: the filesystem has no locks.
    """
    return _try_lock(fd, fcntl.LOCK_EX)


def _try_lock(fd: int, mode: int) -> bool:
    try:
        if _OFD_SETLK is None:
            fcntl.lockf(fd, mode | fcntl.LOCK_NB)
        else:
            kind = fcntl.F_WRLCK if mode == fcntl.LOCK_EX else fcntl.F_RDLCK
            fcntl.fcntl(fd, _OFD_SETLK, struct.pack(_FLOCK, kind, os.SEEK_SET, 0, 0, 0))
    except OSError as error:
        if error.errno in _BUSY:
            return False
        raise
    return True
