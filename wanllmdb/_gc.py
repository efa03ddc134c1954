"""gc: what nothing needs goes to the trash, and what lay there long enough goes.

First all that is needed is marked, then the rest is swept. Killed at any point, nothing
that is needed is lost: a blob is moved before it is removed, and whoever needs it again
meanwhile takes it back. Nothing is written to the Catalog before space was made, so it
works on a full disk.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from wanllmdb import _files, _joint, _layout, _locks, _models, _reach, _trash, _versions
from wanllmdb._catalog import artifacts, runs, stat_cache
from wanllmdb._reach import DamagedManifest
from wanllmdb._store import Store, operation
from wanllmdb._sweeping import GC_SECONDS
from wanllmdb.errors import (
    IntegrityError,
    InvalidInputError,
    ReadOnlyError,
    StoreLockedError,
    WanllmdbError,
)
from wanllmdb.types import Digest

GRACE_SECONDS = 86_400.0
"""How long a blob stays that nothing needs, and again in the trash."""

LEAST_SECONDS = 60.0
"""A blob is stored before it is named: so long that takes at the very most."""

TRASH_SECONDS = 30 * 86_400.0
"""How long deleted versions can be restored, and damaged files looked at."""


@dataclass(slots=True)
class Swept:
    """What a gc did, or would do: how many of each kind, and their bytes."""

    counts: dict[str, int] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)

    def add(self, kind: str, size: int = 0) -> None:
        """Count one more."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self.bytes[kind] = self.bytes.get(kind, 0) + size


@operation("gc")
def collect(
    store: Store,
    *,
    grace: float = GRACE_SECONDS,
    trash: float = TRASH_SECONDS,
    dry_run: bool = False,
) -> Swept:
    """Remove what nothing needs.

    Args:
        store: Where.
        grace: Seconds that what is not needed stays, and again in the trash; at least
            a minute.
        trash: Seconds that deleted versions stay, damaged files, and joint drafts that
            nobody finishes.
        dry_run: Only say what would be done.

    Raises:
        InvalidInputError: the grace is under a minute.
        IntegrityError: a manifest is damaged, so that nobody knows what it needs.
        StoreLockedError: another gc runs, or a commit that does not end.
        StoreError: a file cannot be moved or removed; the next gc goes on.
    """
    if grace < LEAST_SECONDS:
        raise InvalidInputError(
            f"A grace of {grace:.0f} s is too short.", hint="Give a minute or more."
        )
    if store.read_only and not dry_run:
        raise ReadOnlyError("This Store is read-only.", hint="Use --dry-run.")
    lock = None
    if not dry_run:
        sweeper = store.sweeper
        lock = _locks.acquire_in_turn(sweeper.gc_lock, sweeper.gc_turn, GC_SECONDS)
        if lock is None:
            raise StoreLockedError(
                f"Another gc, or a commit, holds {store.path}.", hint="Wait for it."
            )
    try:
        sweep = _Sweep(store, time.time() - grace, dry_run=dry_run)
        sweep.empty_trash()  # first: it may be what makes room for all else
        sweep.remove_drafts()
        sweep.move_blobs()
        if not dry_run:
            sweep.tidy(time.time() - trash)
        sweep.remove_damaged(time.time() - trash)
    except WanllmdbError:
        raise
    except OSError as error:
        raise _files.explain_os_error(error, store.path) from error
    finally:
        if lock is not None:
            lock.release()
    return sweep.done


class _Sweep:
    """One gc.

    Args:
        store: Where.
        cutoff: Seconds since 1970: what was touched later is young, and stays.
        dry_run: Change nothing.
    """

    def __init__(self, store: Store, cutoff: float, *, dry_run: bool) -> None:
        self._store = store
        self._cutoff = cutoff
        self._dry_run = dry_run
        self._trash = store.path / _layout.TRASH / "blobs"
        self.done = Swept()

    def _needed(self) -> set[Digest]:
        found = {use.digest for use in _reach.of_runs(self._store)}
        for use in _reach.of_versions(self._store):
            if isinstance(use, DamagedManifest):
                raise IntegrityError(
                    f"The manifest of {use.versions[-1]} is damaged: what it needs is"
                    " not known.",
                    hint="Restore it from a backup, or delete and purge that version.",
                    digest=use.digest,
                ) from use.error
            found.add(use.digest)
        found.update(_reach.of_drafts(self._store))
        return found

    def move_blobs(self) -> None:
        """Move to the trash what nothing needs, and nobody touched lately."""
        needed = self._needed()
        for path in self._blobs():
            if f"sha256:{path.name}" in needed:
                continue
            status = _status(path)
            if status is None:
                continue
            if status.st_mtime > self._cutoff:
                self.done.add("young blobs", status.st_size)
                continue
            if self._dry_run or self._moved(path):
                self.done.add("blobs moved to the trash", status.st_size)

    def _moved(self, path: Path) -> bool:
        """Move a blob, and back where somebody touched it just then."""
        goal = self._trash / path.name
        _files.make_private_dir(self._trash)
        try:
            path.rename(goal)
            if goal.stat().st_mtime > self._cutoff:
                goal.rename(path)
                return False
        except FileNotFoundError:  # its user took it back
            return False
        return True

    def _blobs(self) -> Iterator[Path]:
        root = self._store.path / _layout.BLOBS / "sha256"
        for directory in sorted(root.glob("??")):
            yield from sorted(directory.iterdir())

    def empty_trash(self) -> None:
        """Remove the blobs that were moved there long ago."""
        for path in sorted(self._trash.glob("*")):
            status = _status(path)
            # A rename changes a file's ctime, and nothing else.
            if status is not None and status.st_ctime <= self._cutoff:
                self._remove(path, "blobs removed", status.st_size)

    def remove_drafts(self) -> None:
        """Remove what killed processes left in tmp/."""
        for path in sorted(self._store.tmp.iterdir()):
            status = _status(path)
            if status is None or status.st_mtime > self._cutoff:
                continue
            if _locks.is_held(path / "lock" if path.is_dir() else path):
                continue
            self._remove(path, "drafts removed", _size_below(path))

    def _remove(self, path: Path, kind: str, size: int) -> None:
        if not self._dry_run:
            try:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            except FileNotFoundError:
                return
        self.done.add(kind, size)

    def remove_damaged(self, before: float) -> None:
        """Remove files that were set aside, and keep what can be read of them.

        Args:
            before: Seconds since 1970: when they were set aside at the latest.
        """
        for aside in _trash.listed(self._store):
            if aside.since_us > before * 1e6:
                continue
            try:
                if not self._dry_run:
                    _trash.discard(self._store, aside)
            except StoreLockedError as error:  # the next gc takes it
                self._store.debug.survived(f"removing {aside.path.name}", error)
                continue
            self.done.add("damaged files removed", aside.size)

    def tidy(self, before: float) -> None:
        """Versions whose time is over, lost directories and files of no part.

        Args:
            before: Seconds since 1970; versions and models deleted earlier are purged,
                and drafts given up to which nothing was added since.
        """
        self._expire()
        self._purge(before)
        for _ in range(_joint.drop_unfinished(self._store, int(before * 1e6))):
            self.done.add("unfinished drafts given up")
        self._remove_lost_logs()
        for _ in range(self._store.sweeper.sweep()):
            self.done.add("replaced files removed")
        for _ in range(self._store.sweeper.collect_orphans()):
            self.done.add("orphans removed")
        with self._store.catalog.transaction(durable=False) as connection:
            stat_cache.prune(connection, os.path.lexists)

    def _expire(self) -> None:
        now = time.time() * 1e6
        for version in artifacts.with_ttl(self._store.catalog.reader):
            assert version.ttl_us is not None
            if version.created_us + version.ttl_us < now and not version.aliases:
                try:
                    _versions.delete(self._store, version)
                except WanllmdbError as error:  # a model's, or it is read just now
                    self._store.debug.survived(f"ttl of {version.path}", error)
                else:
                    self.done.add("versions expired", version.size)

    def _purge(self, before: float) -> None:
        for version in artifacts.trash(self._store.catalog.reader):
            assert version.deleted_us is not None
            if version.deleted_us < before * 1e6:
                _versions.purge(self._store, version)
                self.done.add("versions purged", version.size)
        for model in _models.trash(self._store):
            if model.deleted_us < before * 1e6:
                _models.purge(self._store, model.name)
                self.done.add("models purged")

    def _remove_lost_logs(self) -> None:
        """Directories of runs that were purged, by a process that was killed then."""
        for path in sorted((self._store.path / _layout.LIVE).iterdir()):
            status = _status(path)
            if status is None or status.st_mtime > self._cutoff:
                continue
            if runs.find_uid(self._store.catalog.reader, path.name) is not None:
                continue
            if not any(_locks.is_held(lock) for lock in path.glob("*.lock")):
                self._remove(path, "lost logs removed", _size_below(path))


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except FileNotFoundError:
        return None


def _size_below(path: Path) -> int:
    """Bytes of a file, or of all files below a directory."""
    if not path.is_dir():
        status = _status(path)
        return 0 if status is None else status.st_size
    found = (_status(item) for item in path.rglob("*") if not item.is_dir())
    return sum(status.st_size for status in found if status is not None)
