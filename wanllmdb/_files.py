"""Files: durable replacement, mounts, and what a filesystem can be trusted with."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from wanllmdb.errors import (
    DiskFullError,
    InvalidInputError,
    ReadOnlyError,
    StoreUnavailableError,
)

NETWORK_FILESYSTEMS = frozenset(
    "nfs nfs4 cifs smb3 smbfs lustre gpfs beegfs ceph 9p virtiofs afs".split()  # noqa: SIM905
)
"""Filesystem types, as in mountinfo, whose locks and shared memory cannot be trusted.

Any ``fuse*`` type counts too, by :func:`is_network`.
"""

SYNCED_ONE_BY_ONE = 8
"""Files that are flushed each by itself; of more, the whole filesystem is."""


def make_private_dir(path: Path) -> None:
    """Create a directory, and its parents, readable by its owner only."""
    for directory in (*reversed(path.parents), path):
        if not directory.exists():
            directory.mkdir(mode=0o700, exist_ok=True)


def write_private(path: Path, data: bytes) -> None:
    """Write a small file that only its owner can read."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        write_all(fd, data)
    finally:
        os.close(fd)


def fsync_dir(path: Path) -> None:
    """Make renames and new names in a directory survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def fsync_file(path: str | Path) -> None:
    """Make a file's bytes survive a power cut; one that is gone is no matter."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_files(paths: Sequence[str]) -> None:
    """Make the bytes of files survive a power cut; of many at once, their filesystem's.

    One flush of a filesystem takes the place of a wait for the disk per file.

    Args:
        paths: Files, all on one filesystem.
    """
    if len(paths) > SYNCED_ONE_BY_ONE and _sync_filesystem(paths[0]):
        return
    for path in paths:
        fsync_file(path)


def sync_dirs(directories: Iterable[Path]) -> None:
    """Make renames in directories, all on one filesystem, survive a power cut."""
    found = sorted(set(directories))
    if len(found) > SYNCED_ONE_BY_ONE and _sync_filesystem(found[0]):
        return
    for directory in found:
        fsync_dir(directory)


def _sync_filesystem(path: str | Path) -> bool:
    """Flush everything on the filesystem of a path; False where that cannot be done."""
    import ctypes

    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:  # Linux alone has it
        return False
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if syncfs(fd):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(path))
    finally:
        os.close(fd)
    return True


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write every byte; a short count (quota, RLIMIT_FSIZE) goes on where it ended."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def write_durably(path: Path, data: bytes, tmp_dir: Path, mode: int = 0o600) -> None:
    """Put a whole file in place: it is there complete, or not at all.

    Written under `tmp_dir` (same filesystem), fsynced, renamed, directory fsynced.
    """
    draft = tmp_dir / f"draft-{os.urandom(8).hex()}"
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        try:
            write_all(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    fsync_dir(path.parent)


def save(path: Path, fill: Callable[[Path], Any]) -> None:
    """Write a file whole or not at all; a device or a pipe is written in place.

    Raises:
        InvalidInputError: it cannot be written.
    """
    try:
        target = path.resolve()
        if target.exists() and not target.is_file() and not target.is_dir():
            fill(target)
            return
        draft = target.with_name(f".{target.name}.{os.urandom(4).hex()}.part")
        try:
            fill(draft)
            if target.is_file():
                draft.chmod(target.stat().st_mode & 0o777)
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links
        reason = getattr(error, "strerror", None) or error
        raise InvalidInputError(
            f"{path} cannot be written: {reason}.", hint="Name another file."
        ) from error


def size_below(directory: Path) -> int:
    """Bytes of all files below a directory; what is removed meanwhile is left out."""
    total, waiting = 0, [str(directory)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as found:
                for item in found:
                    if item.is_dir(follow_symlinks=False):
                        waiting.append(item.path)
                    else:
                        with suppress(FileNotFoundError):
                            total += item.stat(follow_symlinks=False).st_size
        except FileNotFoundError:
            continue
    return total


def filesystem_type(path: Path) -> str:
    """The filesystem type a path is on, from mountinfo by device; "" where unknown.

    Reading mountinfo never touches the mounts themselves, so a dead NFS server
    cannot hang it.
    """
    try:
        device = path.stat().st_dev
        lines = Path("/proc/self/mountinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in reversed(lines):
        before, _, after = line.partition(" - ")
        if before.split()[2] == wanted:
            return after.split()[0]
    return ""


def is_network(fs_type: str) -> bool:
    """Whether a filesystem type is shared over a network or by a user process."""
    return fs_type in NETWORK_FILESYSTEMS or fs_type.startswith("fuse")


def free_bytes(path: Path) -> int:
    """Bytes that an ordinary user can still write below a path."""
    stat = os.statvfs(path)
    return stat.f_bavail * stat.f_frsize


def explain_os_error(error: OSError, path: Path) -> Exception:
    """Turn an operating system's refusal into the error that says what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DiskFullError(
            f"No space left for {path}.",
            hint="Free some space, or set WANLLMDB_DIR to a larger disk.",
            path=str(path),
        )
    if error.errno == errno.EROFS:
        return ReadOnlyError(
            f"{path} is on a read-only filesystem.",
            hint="Set WANLLMDB_DIR to a writable directory.",
            path=str(path),
        )
    return StoreUnavailableError(
        f"{path} cannot be used as uid {os.getuid()}: {error.strerror}.",
        hint="Set WANLLMDB_DIR to a directory that you may write.",
        path=str(path),
    )
