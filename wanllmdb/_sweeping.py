"""Removing what compaction replaced, and what an interrupted one left behind.

Nothing goes while it may be read: what was given up waits for a time of grace, and a
backup holds the lock of all removal. Who compacts a run, or merges a project, holds its
lock; so its drafts are nobody else's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from wanllmdb import _clock, _digest, _layout, _locks
from wanllmdb._catalog import files as run_files
from wanllmdb._catalog import runs, sealed
from wanllmdb._catalog.connection import Database
from wanllmdb._debuglog import DebugLog
from wanllmdb._metrics import segment
from wanllmdb.errors import StoreLockedError

SWEPT_AT_ONCE = 50
"""Retired paths that the end of a run removes; `compact` removes all that are due."""

GC_SECONDS = 600.0
"""Seconds that a gc is waited for, and that it waits itself."""


class Sweeper:
    """Removes what nothing names any more. Safe beside readers and compactors.

    Args:
        root: The Store's directory.
        catalog: Its Catalog.
        debug: Told what was survived.
    """

    def __init__(self, root: Path, catalog: Database, debug: DebugLog) -> None:
        self.root = root
        self._catalog = catalog
        self._debug = debug

    @contextmanager
    def alone(self, uid: str) -> Iterator[bool]:
        """Hold the compaction lock of a run, or of a project.

        False where another compactor holds it, or the disk does not give it.
        """
        path = self.root / _layout.LOCKS / f"compact-{uid}.lock"
        try:
            lock = _locks.try_acquire(path)
        except OSError as error:
            self._debug.survived("compaction lock", error)
            lock = None
        try:
            yield lock is not None
        finally:
            if lock is not None:
                _released(lock)

    def sweep(self, limit: int = -1) -> int:
        """Remove what was given up, and whose time has come.

        Args:
            limit: At most so many paths; -1: all.

        Returns:
            How many paths were removed.
        """
        found = sealed.due(self._catalog.reader, _clock.now_us(), limit)
        lock = _locks.try_acquire(self.sweep_lock) if found else None
        if lock is None:  # a backup is copying what may go, or nothing may
            return 0
        with lock:
            judged = [(*item, self._remove(*item)) for item in found]
            with self._catalog.transaction(durable=False) as connection:
                for path, kind, removed in judged:
                    if removed is None:  # it could not be removed now
                        sealed.retire(connection, path, kind)
                    else:
                        sealed.forget_retired(connection, [path])
        return sum(removed is True for _, _, removed in judged)

    @property
    def sweep_lock(self) -> Path:
        """Whoever holds the lock of this file keeps what was given up on the disk."""
        return self.root / _layout.LOCKS / "sweep.lock"

    @property
    def gc_lock(self) -> Path:
        """A gc owns the lock of this file; whoever needs blobs shares it."""
        return self.root / _layout.LOCKS / "gc.lock"

    @property
    def gc_turn(self) -> Path:
        """A gc that waits for its lock holds that of this file: it is the next one."""
        return self.root / _layout.LOCKS / "gc-turn.lock"

    @contextmanager
    def gc_kept_out(self) -> Iterator[None]:
        """No gc runs meanwhile.

        Raises:
            StoreLockedError: one ran for ten minutes.
        """
        with _locks.shared(self.gc_lock, GC_SECONDS, self.gc_turn) as held:
            if not held:
                raise StoreLockedError(
                    f"A gc of {self.root} is running.", hint="Wait, and try again."
                )
            yield

    def _remove(self, place: str, kind: str) -> bool | None:
        """Whether a path was removed, or is needed again; None if it was not possible.

        A directory that holds what is not stored elsewhere is needed.
        """
        path = self.root / place
        try:
            if kind == "part" or path.suffix == ".wlog":
                path.unlink(missing_ok=True)
                return True
            return self._remove_log(path)
        except OSError as error:
            self._debug.survived(f"removing {place}", error)
            return None

    def _remove_log(self, directory: Path) -> bool | None:
        """Remove a run's directory, unless something in it is needed again."""
        uid = directory.name
        if not directory.is_dir():
            return True
        with self.alone(uid) as mine:
            if not mine:
                return None
            pk = runs.find_uid(self._catalog.reader, uid)
            if pk is None:
                return False
            # Listed first: what is made after that is not touched, and rmdir refuses a
            # directory that holds something. A run that is resumed just now puts its
            # lock here, an edit of its summary a segment.
            found = list(directory.iterdir())
            if not all(self._is_dead(pk, path) for path in found):
                return False
            kept = self._ingested(pk, directory / "files")
            if kept is None:
                return False
            _remove_listed([directory, *found, *kept])
        return True

    def _is_dead(self, pk: int, path: Path) -> bool:
        """Whether a file of a run's directory is sealed, or a dead writer's lock."""
        if path.suffix == ".lock":
            return not _locks.is_held(path)
        parsed = segment.parse_file_name(path.name)
        if parsed is None:
            return path.name == "files"
        token, kind, seq = parsed
        mark = sealed.read(self._catalog.reader, pk).mark(token, kind)
        size = path.stat().st_size
        if mark is None:
            return False
        return seq < mark.seq or (seq == mark.seq and size <= mark.bytes) or not size

    def _ingested(self, pk: int, directory: Path) -> list[Path] | None:
        """What a run's directory of files holds; None if not all of it is stored."""
        stored = {f.path: f for f in run_files.read(self._catalog.reader, pk)}
        listed = []
        for path in directory.rglob("*"):
            listed.append(path)
            if path.is_dir() and not path.is_symlink():
                continue
            known = stored.get(path.relative_to(directory).as_posix())
            found = path.lstat()
            if known is None or known.size != found.st_size:
                return None
            # A copy of a Store has other times.
            if (
                known.mtime_ns != found.st_mtime_ns
                and _digest.of_file(path) != known.digest
            ):
                return None
        return listed

    def collect_drafts(self, owner: str, project: str) -> None:
        """Remove what an interrupted compaction of the same owner left behind.

        Its lock is held, so nobody else is writing such files now.
        """
        for path in (self.root / _layout.TMP).glob(f"{owner}-*.parquet"):
            path.unlink(missing_ok=True)
        uid = runs.project_uid(self._catalog.reader, project)
        found = list((self.root / _layout.PARTS / uid).glob(f"{owner}-*.parquet"))
        reader = self._catalog.reader
        known = set()
        if found:  # what was replaced is still read: by a query, by a backup
            known = sealed.part_names(reader, uid) | sealed.retired_names(reader)
        for path in found:
            if path.name not in known:
                path.unlink(missing_ok=True)

    def collect_orphans(self) -> int:
        """Remove every part and draft that nothing names and nobody is writing."""
        removed = 0
        reader = self._catalog.reader
        known = sealed.part_names(reader) | sealed.retired_names(reader)
        root = self.root
        for path in [
            *(root / _layout.TMP).glob("*.parquet"),
            *(root / _layout.PARTS).glob("*/*.parquet"),
        ]:
            owner = path.name.partition("-")[0]
            if path.name in known:
                continue
            with self.alone(owner) as mine:
                # Asked again under the lock: its writer may have just finished.
                if mine and path.name not in sealed.part_names(reader):
                    path.unlink(missing_ok=True)
                    removed += 1
        return removed


def _released(lock: _locks.FileLock) -> None:
    try:
        lock.release(unlink=True)
    except OSError:  # the file stays; nobody holds it any more
        lock.release()


def _remove_listed(paths: Sequence[Path]) -> None:
    """Remove files, and directories that are empty then; what is new in them stays."""
    for path in reversed(paths):  # what a directory holds comes after it
        if path.is_dir() and not path.is_symlink():
            with suppress(OSError):
                path.rmdir()
        else:
            path.unlink(missing_ok=True)
