"""Rows for sync: what a remote lacks of runs, as sealed parts that say what they hold.

Rows are named by the run's uid, the stream, its kind, and their numbers in it (see
`_rowdigest`), so that it does not matter how a Store holds them: in a live log, inline,
in a part of its own or merged with other runs' rows.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from wanllmdb import _digest
from wanllmdb._compaction import layout_of, written_by
from wanllmdb._metrics.columns import DTYPES
from wanllmdb._rowdigest import RangeDigest, Stretch, segment_of, stretches
from wanllmdb._runlog import RunLogs
from wanllmdb._segments import LAYOUTS, StoredStream
from wanllmdb.errors import CorruptPartError
from wanllmdb.types import INT64_MAX, Kind, RunRecord, RunRef, StreamIdentity

if TYPE_CHECKING:
    from wanllmdb._metrics.seal import Batch
    from wanllmdb._segments import View

PACKED_BYTES = 32 << 20
"""Bytes of values that are written together: about five times that is in memory."""

RUNS_AT_ONCE = 2_000
"""Runs that are read from one view: it is read again if rows moved meanwhile."""

Place = tuple[str, str, Kind]
"""A run's uid, a stream's name, and its kind."""


@dataclass(frozen=True, slots=True)
class RowRange:
    """Items of a stream that follow each other: rows, and writes into the summary.

    Attributes:
        run: The run's uid.
        token: The stream's name.
        kind: What it holds.
        epoch: The run's attempt that it belongs to.
        writer: Who wrote it.
        first: The number of the first item; see `_rowdigest` for what an item is.
        end: The number after the last one's: as much of the stream as there is then.
        rows_before: Rows of the stream before them.
        rows: Rows of the stream up to their end.
        digest: SHA-256 in hex of the items, by the rule of `RangeDigest`. Neither the
            run nor the numbers are in it.
    """

    run: str
    token: str
    kind: Kind
    epoch: int
    writer: str
    first: int
    end: int
    rows_before: int
    rows: int
    digest: str

    @property
    def place(self) -> Place:
        """Which stream's they are."""
        return self.run, self.token, self.kind

    @property
    def identity(self) -> StreamIdentity:
        """Who wrote them."""
        return StreamIdentity(self.token, self.epoch, self.writer)


@dataclass(frozen=True, slots=True)
class PartFile:
    """A sealed part (docs/format.md).

    Attributes:
        path: Where it lies. What stands before its extension ends with the checksum of
            its description; readers need it, so a copy keeps the name.
        sha256: Of its bytes, in hex.
        size: Its bytes.
        layout: ``wide``, ``tall``, ``objects``, ``system`` or ``console``.
        rows: Rows of the table, of whatever runs.
    """

    path: Path
    sha256: str
    size: int
    layout: str
    rows: int


@dataclass(frozen=True, slots=True)
class RowSet:
    """Parts that belong together, and the ranges that they hold together.

    A row's values may stand in up to three of them: scalars in a wide one, rare ones in
    a tall one, all else in one of objects. So a set is taken whole or not at all.
    """

    parts: tuple[PartFile, ...]
    ranges: tuple[RowRange, ...]


@dataclass(slots=True)
class _Open:
    """A range that still grows."""

    identity: StreamIdentity
    first: int
    rows_before: int
    digest: RangeDigest
    end: int = 0
    rows: int = 0


@dataclass(slots=True)
class Packer:
    """Gathers items of runs, and writes them as parts.

    Args:
        target: The directory of the parts.
        tmp: Where drafts are, on the same filesystem.
        owner: Begins the parts' names: whose lock is held while they are no one's.
    """

    target: Path
    tmp: Path
    owner: str
    _batches: dict[str, Batch] = field(default_factory=dict)
    _open: dict[Place, _Open] = field(default_factory=dict)
    _size: int = 0

    def add(
        self, ref: RunRef, kind: Kind, identity: StreamIdentity, stretch: Stretch
    ) -> None:
        """Take items that follow those of the same stream before."""
        from wanllmdb._metrics.seal import Batch

        place = (ref.uid, identity.token, kind)
        if place not in self._open:
            digest = RangeDigest(kind, identity)
            self._open[place] = _Open(
                identity, stretch.first, stretch.rows_before, digest
            )
        self._open[place].digest.add(stretch)
        self._open[place].end = stretch.end
        self._open[place].rows = stretch.rows
        layout = layout_of(kind)
        batch = self._batches.setdefault(layout, Batch(layout))
        batch.add(ref, identity, segment_of(stretch, identity), written_by(kind))
        self._size += _size_of(stretch)

    @property
    def full(self) -> bool:
        """Whether what was gathered should be written now."""
        return self._size >= PACKED_BYTES

    def flush(self) -> Iterator[RowSet]:
        """Write what was gathered: one set, or none; durable when it is yielded."""
        from wanllmdb._metrics import parts

        if not self._open:
            return
        files = []
        for batch in self._batches.values():
            for table in batch.tables():
                pieces = iter([table.arrow])
                done = parts.write(pieces, table, self.target, self.tmp, self.owner)
                files.append(
                    PartFile(
                        self.target / done.name, _digest.hex_of(done.digest),
                        done.bytes, table.layout, table.arrow.num_rows,
                    )
                )  # fmt: skip
        ranges = [
            RowRange(
                uid, token, kind, held.identity.epoch, held.identity.writer,
                held.first, held.end, held.rows_before, held.rows, held.digest.hex(),
            )
            for (uid, token, kind), held in self._open.items()
        ]  # fmt: skip
        self._batches, self._open, self._size = {}, {}, 0
        yield RowSet(tuple(files), tuple(ranges))


def _size_of(stretch: Stretch) -> int:
    size = 0
    for block in stretch.blocks:
        size += 24 * len(block.steps)
        for cells in block.cells:
            if cells.code in DTYPES:
                size += 8 * len(cells.values)
            else:
                size += sum(len(str(value)) for value in cells.values)
    return size + 100 * len(stretch.writes)


def outgoing(
    logs: RunLogs,
    project: str,
    runs: Sequence[RunRecord],
    held: Mapping[Place, int],
    target: Path,
) -> Iterator[RowSet]:
    """All that these runs have and a remote has not, as sealed parts.

    Of a run that is being written, all up to its last whole frame; its writer is not
    kept waiting, and no lock is taken. In memory is what `PACKED_BYTES` says, or one
    part.

    Args:
        logs: The Store's.
        project: The uid of the project that all the runs are of.
        runs: Any of its runs.
        held: `end` of the last range of each stream that the remote has; it has nothing
            of what is not named.
        target: Where parts are written, a directory below the Store's ``tmp/``. It is
            made, and stays the caller's to remove.

    Yields:
        Sets of parts, of about `PACKED_BYTES` of values each; ranges of one stream
        follow each other. They are durable.

    Raises:
        CorruptPartError: a part of one of the runs is damaged.
    """
    for start in range(0, len(runs), RUNS_AT_ONCE):
        chosen = runs[start : start + RUNS_AT_ONCE]
        yield from logs.read(
            lambda view, chosen=chosen: list(  # type: ignore[misc]
                _sets(view, logs, chosen, held, Packer(target, target, project))
            )
        )


def _sets(
    view: View,
    logs: RunLogs,
    runs: Sequence[RunRecord],
    held: Mapping[Place, int],
    packer: Packer,
) -> Iterator[RowSet]:
    packer.target.mkdir(mode=0o700, exist_ok=True)
    whole = _Whole(view, runs, held)
    yield from whole.sets(packer.target)
    for record in runs:
        ref = RunRef(record.uid, record.run_id)
        now = view.sealed(record.pk)
        left = tuple(part for part in now.parts if part.part not in whole.taken)
        rest = view.of({record.pk: replace(now, parts=left)})
        for kind in Kind:
            for stored in view.streams(record.pk, record.uid, kind):
                identity = logs.identity_of(record, stored)
                if identity is None:
                    continue
                place = (record.uid, stored.token, kind)
                begun, rows = whole.ends.get(place, (0, 0))
                first = max(begun, held.get(place, 0))
                for stretch in stretches(
                    rest, record.pk, stored, identity, begun, rows
                ):
                    wanted = stretch.cut(first, INT64_MAX)
                    if wanted is not None:
                        packer.add(ref, kind, identity, wanted)
                    if packer.full:
                        yield from packer.flush()
    yield from packer.flush()


class _Whole:
    """Parts all of whose rows are wanted: their files are taken as they are.

    Values of one row may stand in several parts, so a run that has tall ones or ones of
    objects binds all its parts of metrics together. A run of which something is in
    the Catalog is left alone: items of its parts may come after that.

    Attributes:
        taken: The parts that are taken.
        ends: (items, rows) of each stream up to where they reach.
    """

    def __init__(
        self, view: View, runs: Sequence[RunRecord], held: Mapping[Place, int]
    ) -> None:
        self._view = view
        known = {uid for (uid, _, _), end in held.items() if end}
        self._runs = {run.pk: run for run in runs if run.uid not in known}
        self.taken: set[int] = set()
        self.ends: dict[Place, tuple[int, int]] = {}

    def sets(self, target: Path) -> Iterator[RowSet]:
        """The sets that are there already, linked into a directory."""
        for group in self._groups():
            shares = {part: self._view.shares(part) for part in group}
            owners = dict.fromkeys(s.run for held in shares.values() for s in held)
            if owners.keys() <= self._runs.keys() and not any(
                map(self._is_inline, owners)
            ):
                self.taken |= group
                ranges = [found for pk in owners for found in self._ranges(pk, group)]
                files = self._linked(group, next(iter(owners)), target)
                yield RowSet(tuple(files), tuple(ranges))

    def _groups(self) -> list[set[int]]:
        """Parts that can only be taken together, in the order of their rows."""
        groups: dict[int, set[int]] = {}
        for pk in self._runs:
            found = self._view.sealed(pk).parts
            metrics = {p.part for p in found if p.layout not in ("system", "console")}
            bound = any(part.layout in ("tall", "objects") for part in found)
            for part in found:
                groups.setdefault(part.part, {part.part})
            if bound:
                united = set().union(*(groups[part] for part in metrics))
                groups.update(dict.fromkeys(united, united))
        unique = {min(group): group for group in groups.values()}
        return [unique[first] for first in sorted(unique)]

    def _is_inline(self, pk: int) -> bool:
        return bool(self._view.sealed(pk).inline)

    def _ranges(self, pk: int, group: set[int]) -> Iterator[RowRange]:
        now, uid = self._view.sealed(pk), self._runs[pk].uid
        held = tuple(part for part in now.parts if part.part in group)
        layouts = {part.layout for part in held}
        view = self._view.of({pk: replace(now, parts=held)})
        for mark in now.marks:
            if LAYOUTS.get(mark.kind, "objects") not in layouts and not (
                mark.kind is Kind.METRICS and "objects" in layouts
            ):
                continue
            place = (uid, mark.identity.token, mark.kind)
            first, rows = self.ends.get(place, (0, 0))
            # How far the stream goes is not how far these parts do.
            mark = mark if "objects" in layouts else replace(mark, rows=0)
            stored = StoredStream(mark.identity.token, mark, ())
            digest, end, before = RangeDigest(mark.kind, mark.identity), first, rows
            for stretch in stretches(view, pk, stored, mark.identity, first, rows):
                digest.add(stretch)
                end, rows = stretch.end, stretch.rows
            self.ends[place] = (end, rows)
            if end > first:
                yield RowRange(
                    *place, mark.identity.epoch, mark.identity.writer, first, end,
                    before, rows, digest.hex(),
                )  # fmt: skip

    def _linked(self, group: set[int], pk: int, target: Path) -> Iterator[PartFile]:
        directory = self._view.path(self._view.sealed(pk).parts[0]).parent
        for fact in self._view.files(sorted(group)):
            path = target / fact.name
            try:
                path.hardlink_to(directory / fact.name)
            except FileExistsError:  # from a view that did not hold
                pass
            except OSError as error:
                if isinstance(error, FileNotFoundError):
                    raise
                shutil.copyfile(directory / fact.name, path)
            if _digest.of_file(path) != fact.digest:
                raise CorruptPartError(
                    f"{fact.name} is damaged.",
                    hint="`wanllmdb store verify` sets it aside; a backup may have it"
                    " whole.",
                    part=fact.name,
                )
            yield PartFile(
                path, _digest.hex_of(fact.digest), fact.bytes, fact.layout, fact.rows
            )


def streams_of(
    view: View, logs: RunLogs, record: RunRecord
) -> Iterator[tuple[Kind, StreamIdentity, Iterator[Stretch]]]:
    """Each stream of a run, and what of it is stored."""
    for kind in Kind:
        for stored in view.streams(record.pk, record.uid, kind):
            identity = logs.identity_of(record, stored)
            if identity is not None:
                yield kind, identity, stretches(view, record.pk, stored, identity)


def digest_of(
    logs: RunLogs, record: RunRecord, token: str, kind: Kind, first: int, end: int
) -> str | None:
    """The digest of a range as this Store holds it; None where it lacks some of it.

    Args:
        logs: The Store's.
        record: The run.
        token: The stream's name.
        kind: Its kind.
        first: As in `RowRange`.
        end: As in `RowRange`.

    Raises:
        CorruptPartError: a part of the run is damaged.
    """
    return logs.read(
        lambda view: _digest_in(view, logs, record, (token, kind), first, end)
    )


def _digest_in(
    view: View,
    logs: RunLogs,
    record: RunRecord,
    stream: tuple[str, Kind],
    first: int,
    end: int,
) -> str | None:
    for kind, identity, items in streams_of(view, logs, record):
        if (identity.token, kind) != stream:
            continue
        digest = RangeDigest(kind, identity)
        for stretch in items:
            wanted = stretch.cut(first, end)
            if wanted is not None:
                digest.add(wanted)
            if stretch.end >= end:
                return digest.hex()
    return None
