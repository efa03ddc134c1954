"""Looking after a Store: copies of it, and what is wrong with it."""

from __future__ import annotations

import os
import random
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from wanllmdb import _digest, _files, _locks, _reach
from wanllmdb._blobs import Blobs
from wanllmdb._catalog import checks, events, remotes, runs, sealed, values
from wanllmdb._catalog.connection import Database, translated
from wanllmdb._layout import BLOBS, CATALOG, FORMAT, LIVE, LOCKS, PARTS, TMP, TRASH
from wanllmdb._reach import DamagedManifest, Use
from wanllmdb._store import Store
from wanllmdb.errors import (
    ConflictError,
    IntegrityError,
    InvalidInputError,
    StoreLockedError,
    StoreUnavailableError,
    WanllmdbError,
)
from wanllmdb.types import Digest, JSONValue, RunRecord, State

BACKUP_TURN = 600.0
"""Seconds that a backup waits for another one."""

_SETTINGS = ("config.toml", ".gitignore")

# Copies


def backup(store: Store, target: Path) -> Path:
    """Copy a Store to a new directory, while runs are written.

    The copy is a Store itself, private to its owner. It holds every row that `log`
    had returned for; a run that is live now is `crashed` in it once it is read.

    Args:
        store: What to copy.
        target: Must not exist; its parents are made.

    Returns:
        The copy's absolute path.

    Raises:
        ConflictError: the target exists.
        InvalidInputError: it lies in the Store itself.
    """
    with _explained(target):
        goal = target.absolute()
        if os.path.lexists(goal):
            raise ConflictError(f"{goal} exists.", hint="Name a new directory.")
        _refuse_inside(goal, store.path)
        with _kept(store), _drafted(goal) as draft:
            # The Catalog first: whatever it names is then still there to be copied.
            store.catalog.backup_to(draft / CATALOG)
            _copy_rest(store.path, draft)
        return goal


@contextmanager
def _kept(store: Store) -> Iterator[None]:
    """Nothing that was replaced by a compaction is removed meanwhile."""
    if store.read_only:
        yield
        return
    lock = _locks.acquire(store.sweeper.sweep_lock, BACKUP_TURN)
    if lock is None:
        raise StoreLockedError(
            f"Another backup of {store.path} is being made.", hint="Wait for it."
        )
    with lock, store.sweeper.gc_kept_out():
        yield


def restore(source: Path, target: Path) -> Path:
    """Copy a backup to where a Store shall be.

    Args:
        source: What `backup` made.
        target: Must not exist, or be an empty directory.

    Returns:
        The Store's absolute path.

    Raises:
        StoreUnavailableError: the source is no backup.
        ConflictError: the target holds something.
        InvalidInputError: the target lies in the source.
    """
    with _explained(target):
        origin, goal = source.absolute(), target.absolute()
        if not (origin / FORMAT).is_file():
            raise StoreUnavailableError(
                f"{origin} is no backup.", hint="Check the path.", path=str(origin)
            )
        if os.path.lexists(goal) and not (goal.is_dir() and not any(goal.iterdir())):
            raise ConflictError(
                f"{goal} is not empty.", hint="Move it away first, or set --store."
            )
        _refuse_inside(goal, origin)
        with _drafted(goal) as draft:
            catalog = Database(
                origin / CATALOG, origin / LOCKS, wal=False, read_only=True,
                load_blob=Blobs(origin / BLOBS, origin, origin / TRASH).get,
            )  # fmt: skip
            try:
                catalog.backup_to(draft / CATALOG)
            finally:
                catalog.close()
            _copy_rest(origin, draft)
        return goal


def _refuse_inside(goal: Path, source: Path) -> None:
    if goal.resolve().is_relative_to(source.resolve()):
        raise InvalidInputError(
            f"{goal} is inside {source} itself.", hint="Name a place outside it."
        )


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _files.explain_os_error(error, path) from error


@contextmanager
def _drafted(goal: Path) -> Iterator[Path]:
    """A new directory that takes its name when it is complete, or goes again."""
    _files.make_private_dir(goal.parent)
    draft = goal.with_name(f"{goal.name}.{os.urandom(6).hex()}.part")
    draft.mkdir(mode=0o700)
    try:
        yield draft
        (draft / CATALOG).chmod(0o600)
        _sync(draft)
        draft.rename(goal)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    _files.fsync_dir(goal.parent)


def _copy_rest(source: Path, draft: Path) -> None:
    """Copy all but the Catalog; FORMAT, which makes it a Store, at last."""
    for name in (LIVE, PARTS, BLOBS):
        if os.path.lexists(source / name):
            _copy_tree(source / name, draft / name)
    for name in (*_SETTINGS, FORMAT):
        if (source / name).is_file():
            _copy_file(source / name, draft / name)


def _copy_tree(source: Path, target: Path) -> None:
    for name, _, files in os.walk(source, onerror=_raise_unless_gone(source)):
        directory = target / Path(name).relative_to(source)
        directory.mkdir(mode=0o700)
        for file in files:
            # Liveness locks lie beside the segments; below that are users' files.
            if not (file.endswith(".lock") and directory.parent == target):
                _copy_file(Path(name) / file, directory / file)


def _raise_unless_gone(root: Path) -> Callable[[OSError], None]:
    def judge(error: OSError) -> None:
        # A run may be purged while it is copied; the root itself must be there.
        if not isinstance(error, FileNotFoundError) or error.filename == str(root):
            raise error

    return judge


def _copy_file(source: Path, target: Path) -> None:
    try:
        mode = source.lstat().st_mode
        if stat.S_ISREG(mode):
            shutil.copyfile(source, target, follow_symlinks=False)
            target.chmod(mode & 0o700 | 0o400)
        elif stat.S_ISLNK(mode):
            target.symlink_to(source.readlink())
    except FileNotFoundError:  # removed since it was listed
        pass


def _sync(directory: Path) -> None:
    for name, _, files in os.walk(directory):
        for file in files:
            path = Path(name) / file
            if not path.is_symlink():
                _files.fsync_file(path)
        _files.fsync_dir(Path(name))


# Checks


def check(store: Store) -> Iterator[str]:
    """Look at all that a Store holds, and say what is wrong; nothing is changed.

    Reads every log and every blob.

    Yields:
        One sentence for each problem.
    """
    try:
        with translated(store.path / CATALOG):
            reader = store.catalog.reader
            yield from checks.problems(reader)
            for deleted in (False, True):
                for record in runs.find_many(reader, deleted=deleted):
                    for problem in _log_problems(store, record):
                        yield f"{record.path}: {problem}"
            yield from blob_problems(store)
            for part in sealed.parts(reader):
                if (trouble := _part_problem(store, part)) is not None:
                    yield trouble
    except IntegrityError as error:  # the Catalog cannot even be read
        yield f"catalog: {error.message}"


def dead_runs(store: Store) -> list[RunRecord]:
    """Runs of this Store's own that count as running, and have no writer."""
    reader = store.catalog.reader
    return [
        record
        for record in runs.running(reader)
        if runs.is_ours(reader, record) and not store.liveness.is_live(record)
    ]


def _log_problems(store: Store, record: RunRecord) -> Iterator[str]:
    try:
        damaged = [item for item in store.logs.damage(record) if not item.torn]
        yield from map(str, damaged)
        if not damaged and record.damage and "damaged bytes" in record.damage:
            yield f"{record.damage} (sealed since)"
            return
        if not damaged and record.state is not State.RUNNING:
            yield from _missing_values(store, record)
    except OSError as error:
        yield f"its log cannot be read: {error.strerror}"
    except WanllmdbError as error:
        yield error.message


def _missing_values(store: Store, record: RunRecord) -> Iterator[str]:
    """Whether the log still holds what was counted when the run ended."""
    counted = values.read_keys(store.catalog.reader, record.pk)
    held = store.logs.sums(record).stats() if counted else {}
    # More than was counted is no loss: a child may have outlived its run.
    lacking = [
        f"{held[key].count if key in held else 0} of {stats.count} values of {key!r}"
        for key, stats in counted.items()
        if key not in held or held[key].count < stats.count
    ]
    if lacking:
        more = f", and {len(lacking) - 1} more keys lack some" if lacking[1:] else ""
        yield f"its log holds {lacking[0]}{more}"


def _part_problem(store: Store, part: sealed.StoredPart) -> str | None:

    path = store.parts / part.path
    name = f"{part.project}: part {path.name}"
    if part.quarantined:
        return f"{name} is damaged, and was set aside"
    try:
        if _digest.of_file(path) != part.digest:
            return f"{name} has changed ({part.digest})"
    except FileNotFoundError:
        if path.name not in sealed.part_names(store.catalog.reader):
            return None  # merged away since it was listed
        return f"{name} is missing"
    except OSError as error:
        return f"{name} cannot be read: {error.strerror}"
    return None


def verify(store: Store, share: float = 1.0, *, quick: bool = False) -> Iterator[str]:
    """Look at the bytes of sealed parts and blobs; set aside what is damaged.

    A blob that was set aside is stored again by whoever adds its content.

    Args:
        store: Where.
        share: Of the blobs, the part that is looked at, taken at random.
        quick: Of blobs look at the sizes alone.

    Yields:
        One sentence for each part that is damaged, and for each thing that needs a
        damaged blob.
    """
    for part in sealed.parts(store.catalog.reader):
        problem = _part_problem(store, part)
        if problem is None:
            continue
        yield problem
        if not store.read_only:
            _set_aside(store, part, problem)
    for use, problem in _judged(store, share, quick=quick):
        yield problem
        store.set_blob_aside(use.digest)


def _set_aside(store: Store, part: sealed.StoredPart, problem: str) -> None:
    if not part.quarantined:
        with store.catalog.transaction(durable=True) as connection:
            sealed.quarantine(connection, part.part)
            events.record(
                connection, "quarantine", "part", part.path, reason=problem
            )  # fmt: skip
    aside = store.path / TRASH / "parts"
    _files.make_private_dir(aside)
    path = store.parts / part.path
    with suppress(FileNotFoundError):
        path.replace(aside / path.name)


# Sizes


def part_statistics(store: Store) -> list[dict[str, JSONValue]]:
    """Per layout: how many parts, merged ones among them, rows and bytes."""
    found: dict[str, dict[str, int]] = {}
    for part in sealed.parts(store.catalog.reader):
        held = found.setdefault(
            part.layout, {"parts": 0, "merged": 0, "rows": 0, "bytes": 0}
        )
        held["parts"] += 1
        held["merged"] += part.merged
        held["rows"] += part.rows
        held["bytes"] += part.bytes
    return [{"layout": layout, **held} for layout, held in sorted(found.items())]


def usage(store: Store, by: str) -> list[dict[str, JSONValue]]:
    """Bytes on the disk, the most first.

    Args:
        store: The Store.
        by: ``kind`` of file, and then the bytes are all there are; ``run``, whose rows
            in parts of several runs count by their number, or ``project``.
    """
    if by == "kind":
        sizes = _by_kind(store)
    else:
        sizes = {}
        for record, size in _by_run(store):
            name = record.path if by == "run" else record.project
            sizes[name] = sizes.get(name, 0) + size
    order = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))
    return [{by: name, "bytes": size} for name, size in order]


def _by_kind(store: Store) -> dict[str, int]:
    kinds = {
        LIVE: "live logs", PARTS: "parts", BLOBS: "blobs", TRASH: "trash",
        TMP: "drafts", LOCKS: "locks", "logs": "debug log",
    }  # fmt: skip
    sizes: dict[str, int] = {}
    for path in store.path.iterdir():
        name = "catalog" if path.name.startswith("catalog.") else "other"
        size = path.lstat().st_size if path.is_file() else _files.size_below(path)
        name = kinds.get(path.name, name)
        sizes[name] = sizes.get(name, 0) + size
    return sizes


def _by_run(store: Store) -> Iterator[tuple[RunRecord, int]]:
    reader = store.catalog.reader
    sealed_bytes = sealed.run_bytes(reader)
    blobs = checks.blob_sizes(reader, {use.digest for use in elsewhere(store)})
    for deleted in (False, True):
        for record in runs.find_many(reader, deleted=deleted):
            size = sealed_bytes.get(record.pk, 0) + blobs.get(record.pk, 0)
            yield record, size + _files.size_below(store.run_dir(record.uid))


def elsewhere(store: Store) -> list[Use]:
    """The blobs that are needed and not here, but lie at a remote; each once."""
    placed = remotes.held_elsewhere(store.catalog.reader)
    if not placed:
        return []
    uses = {
        use.digest: use
        for use in [*_reach.of_runs(store), *_reach.of_versions(store)]
        if isinstance(use, Use) and use.digest in placed
    }
    here = store.blobs.present(dict.fromkeys(uses))
    return [use for digest, use in uses.items() if digest not in here]


def blob_problems(store: Store) -> Iterator[str]:
    """What is wrong with the blobs that runs and versions need.

    Yields:
        One sentence for each damaged blob and each thing that needs it.
    """
    for _, problem in _judged(store):
        yield problem


def _judged(
    store: Store, share: float = 1.0, *, quick: bool = False
) -> Iterator[tuple[Use, str]]:
    """Each use of a damaged blob, and a sentence on it."""
    judged: dict[Digest, str | None] = {}
    away = {use.digest for use in elsewhere(store)}
    dice = random.Random()
    for use in [*_reach.of_runs(store), *_reach.of_versions(store)]:
        if isinstance(use, DamagedManifest):
            for version in use.versions[1:]:  # the first one is named as its user
                told = f"{version}: the manifest is damaged ({use.digest})"
                yield Use(use.digest, version, "the manifest"), told
            continue
        if use.digest not in judged:
            chosen = use.digest not in away and (share >= 1 or dice.random() < share)
            judged[use.digest] = _blob_problem(store, use, quick) if chosen else None
        if problem := judged[use.digest]:
            yield use, f"{use.by}: {use.what} {problem}"


def _blob_problem(store: Store, use: Use, quick: bool) -> str | None:
    import hashlib

    try:
        with store.blobs.path_of(use.digest).open("rb") as file:
            if use.size is not None and os.fstat(file.fileno()).st_size != use.size:
                return f"have another size ({use.digest})"
            if quick:
                return None
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return f"are missing ({use.digest})"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except ValueError:
        return f"have no digest, but {use.digest!r}"
    return None if use.digest.endswith(f":{found}") else f"have changed ({use.digest})"
