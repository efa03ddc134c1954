"""What was set aside because it is damaged: looked at, saved in part, removed.

A damaged part is some pages of a file. Before it goes for good, the rows whose pages
are whole take its place, and its runs say what they have lost. Of a damaged segment all
that can be read was sealed when it was set aside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from wanllmdb import _digest, _files, _layout
from wanllmdb._blobs import DAMAGED
from wanllmdb._catalog import events, runs, sealed
from wanllmdb._catalog.sealed import NewPart, RunShare, StoredPart
from wanllmdb._compaction import share_of
from wanllmdb._store import Store, operation
from wanllmdb.errors import CorruptPartError, ReadOnlyError, StoreLockedError

if TYPE_CHECKING:
    import pyarrow as pa

WHOLE = "it is whole, and back in its place"

PARTS = "parts"
"""Where in the trash damaged parts lie. Damaged segments lie below their run's uid."""

_TAKEN = "blobs"
"""Where in the trash whole blobs lie, which nothing needs: they are gc's."""


@dataclass(frozen=True, slots=True)
class Aside:
    """A damaged file in the trash.

    Attributes:
        path: Where it is.
        what: ``part``, ``log`` or ``blob``.
        of: The runs that it is of, as far as that is known.
        size: Bytes.
        since_us: When it was set aside.
    """

    path: Path
    what: str
    of: tuple[str, ...]
    size: int
    since_us: int


@dataclass(slots=True)
class _Saved:
    """What can be read of a part: the rows of each run, and what of them is lost."""

    tables: dict[int, list[pa.Table]]
    columns: dict[int, set[str]]


def listed(store: Store) -> list[Aside]:
    """The damaged files in the trash, the oldest first."""
    found = []
    for path in (store.path / _layout.TRASH).glob("*/*"):
        kind = path.parent.name
        if kind == _TAKEN:
            continue
        try:
            status = path.lstat()
        except FileNotFoundError:  # removed just now
            continue
        what = {PARTS: "part", DAMAGED: "blob"}.get(kind, "log")
        # A rename changes a file's ctime, and nothing else.
        since_us = status.st_ctime_ns // 1000
        found.append(
            Aside(path, what, _runs_of(store, path, what), status.st_size, since_us)
        )
    return sorted(found, key=lambda aside: (aside.since_us, aside.path))


def _runs_of(store: Store, path: Path, what: str) -> tuple[str, ...]:
    reader = store.catalog.reader
    if what == "part":
        part = _part(store, path)
        shares = [] if part is None else sealed.shares_of(reader, part.part)
        return tuple(runs.read(reader, share.run).path for share in shares)
    pk = runs.find_uid(reader, path.parent.name) if what == "log" else None
    return () if pk is None else (runs.read(reader, pk).path,)


def _part(store: Store, path: Path) -> StoredPart | None:
    """The part that a file in the trash is, if a run still needs it."""
    for part in sealed.parts(store.catalog.reader):
        if part.quarantined and part.path.endswith(f"/{path.name}"):
            return part
    return None


@operation("discard damaged file")
def discard(store: Store, aside: Aside) -> str | None:
    """Remove a damaged file for good, and keep what can be read of it; durable.

    Returns:
        What was kept of it, for people; None for nothing.

    Raises:
        ReadOnlyError: the Store can only be read.
        StoreLockedError: the project's parts are being merged.
        StoreError: the disk refuses; it can be tried again.
    """
    if store.read_only:
        raise ReadOnlyError("This Store is read-only.", hint="Use --dry-run.")
    try:
        return _discarded(store, aside)
    except FileNotFoundError:  # somebody else was quicker
        return None
    except OSError as error:
        raise _files.explain_os_error(error, store.path) from error


def _discarded(store: Store, aside: Aside) -> str | None:
    part = _part(store, aside.path) if aside.what == "part" else None
    if part is not None:
        return _discard_part(store, aside.path, part)
    if aside.what == "blob" and _comes_back(store, aside.path):
        return WHOLE
    aside.path.unlink(missing_ok=True)
    with suppress(OSError):  # it holds something
        aside.path.parent.rmdir()
    return None


def _comes_back(store: Store, path: Path) -> bool:
    """Put a blob back that was misread, not damaged."""
    place = store.blobs.path_of(f"{_digest.PREFIX}{path.name}")
    if place.exists() or not _has(path, f"{_digest.PREFIX}{path.name}"):
        return False
    store.blobs.make_dirs([place.parent])
    path.rename(place)
    _files.fsync_dir(place.parent)
    return True


def _has(path: Path, digest: str) -> bool:
    """Whether a file can be read, and its bytes are these."""
    try:
        return _digest.of_file(path) == digest
    except OSError:
        return False


def _discard_part(store: Store, path: Path, part: StoredPart) -> str | None:
    owner = part.path.partition("/")[0]
    with store.sweeper.alone(owner) as mine:
        if not mine:
            raise StoreLockedError(
                f"The parts of project {part.project} are being merged.",
                hint="Try again when that has ended.",
            )
        if _has(path, part.digest):  # the disk misread it, once
            _bring_back(store, path, part)
            return WHOLE
        kept = _replaced(store, path, part, owner)
        path.unlink(missing_ok=True)
    return f"{kept} of its {part.rows} rows are kept" if kept else None


def _bring_back(store: Store, path: Path, part: StoredPart) -> None:
    place = store.parts / part.path
    _files.make_private_dir(place.parent)
    path.rename(place)
    _files.fsync_dir(place.parent)
    with store.catalog.transaction(durable=True) as connection:
        sealed.reinstate(connection, part.part)
        events.record(connection, "reinstate", "part", part.path)


def _replaced(store: Store, path: Path, part: StoredPart, owner: str) -> int:
    """Let the rows that can be read take a part's place; how many there are."""
    shares = sealed.shares_of(store.catalog.reader, part.part)
    saved = _saved(path, shares)
    new = _written(store, part, owner, shares, saved)
    kept = {} if new is None else {share.run: share.rows for share in new.shares}
    done = False
    try:
        with store.catalog.transaction(durable=True) as connection:
            done = sealed.replace_part(connection, part.part, new)
            if done:
                events.record(
                    connection, "salvage", "part", part.path,
                    before={"rows": part.rows}, after={"rows": sum(kept.values())},
                )  # fmt: skip
                for share in shares:
                    lost = saved.columns.get(share.run, set())
                    told = _told(share.rows, kept.get(share.run, 0), lost)
                    if told is not None:
                        runs.add_damage(connection, share.run, told)
    finally:
        if new is not None and not done:
            (store.parts / owner / new.name).unlink(missing_ok=True)
    return sum(kept.values()) if done else 0


def _told(rows: int, kept: int, columns: set[str]) -> str | None:
    """What a run has lost with a part."""
    found = []
    if kept < rows:
        found.append(f"{rows - kept} of {rows} rows")
    if columns:
        found.append(f"values of {', '.join(sorted(columns))}")
    if not found:
        return None
    return f"damaged bytes in a sealed part cost {' and '.join(found)}"


def _saved(path: Path, shares: Sequence[RunShare]) -> _Saved:
    found = _Saved({}, {})
    for first, table, lost in _pieces(path):
        for share in shares:
            low = max(first, share.row_first)
            high = min(first + table.num_rows, share.end)
            if low < high:
                rows = table.slice(low - first, high - low)
                found.tables.setdefault(share.run, []).append(rows)
                found.columns.setdefault(share.run, set()).update(lost)
    return found


def _pieces(path: Path) -> Iterator[tuple[int, pa.Table, list[str]]]:
    from wanllmdb._metrics import parts

    try:
        yield from parts.readable(path)
    except CorruptPartError:  # nobody can tell what any of its pages is
        return


def _written(
    store: Store,
    part: StoredPart,
    owner: str,
    shares: Sequence[RunShare],
    saved: _Saved,
) -> NewPart | None:
    """Write what could be read as a part of its own; None where that is nothing."""
    import pyarrow as pa

    from wanllmdb._metrics import parts
    from wanllmdb._metrics.seal import Table

    tables: list[pa.Table] = []
    new: list[RunShare] = []
    start = 0
    for share in shares:
        held = saved.tables.get(share.run)
        if held:
            mine = pa.concat_tables(held).unify_dictionaries()
            made = share_of(mine, share.run, start, part.layout)
            new.append(replace(made, plain=made.plain and share.plain))
            tables.append(mine)
            start += mine.num_rows
    if not tables:
        return None
    whole = pa.concat_tables(tables).unify_dictionaries()
    columns: Mapping[str, tuple[str, str]] = parts.columns_of(whole.schema.metadata)
    described = Table(part.layout, whole, dict(columns))
    done = parts.write(iter([whole]), described, store.parts / owner, store.tmp, owner)
    return NewPart(done.name, part.layout, start, done.bytes, done.digest, new)
