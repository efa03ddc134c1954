"""A run's log as it stands: which of its rows show, their sums, their table."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from wanllmdb import _files, _json, _locks
from wanllmdb._blobs import Blobs
from wanllmdb._catalog import runs, streams
from wanllmdb._catalog.connection import Database
from wanllmdb._metrics import decode, segment
from wanllmdb._metrics.decode import VisibleStream
from wanllmdb._metrics.fold import Fold
from wanllmdb._segments import Segments, StoredStream, View
from wanllmdb.types import (
    ALL_STEPS_SUPERSEDED,
    CHILD_WRITERS,
    Damage,
    Epoch,
    JSONValue,
    KeyStats,
    Kind,
    Parent,
    RunRecord,
    StreamIdentity,
)

if TYPE_CHECKING:
    from wanllmdb._metrics.columns import ColumnRows
    from wanllmdb._metrics.scan import Scan


R = TypeVar("R")


@dataclass(slots=True)
class Sums:
    """What a run's log comes to.

    Attributes:
        own: The rows of its writers, which make the summary.
        children: The rows of forked and spawned children.
        damage: What in the log is no frame; None where it was not read.
        streams: The streams that were summed up, edits among them.
    """

    own: Fold
    children: Fold = field(default_factory=Fold)
    damage: list[Damage] | None = None
    streams: frozenset[str] = frozenset()

    @property
    def last_step(self) -> int | None:
        """The greatest visible step."""
        steps = [self.own.last_step, self.children.last_step]
        return max((step for step in steps if step is not None), default=None)

    def stats(self) -> dict[str, KeyStats]:
        """The statistics of every key; the children's only where the run has none."""
        return {**self.own.stats(), **{
            key: stats for key, stats in self.children.stats().items()
            if key not in self.own.keys
        }}  # fmt: skip


class RunLogs:
    """Reads the logs of a Store's runs, also while they are written.

    Args:
        live: The directory of live logs.
        parts: The directory of sealed parts.
        catalog: Says what is sealed, and which epochs show.
        blobs: Holds large values.
    """

    def __init__(
        self, live: Path, parts: Path, catalog: Database, blobs: Blobs
    ) -> None:
        self._live = live
        self._catalog = catalog
        self._blobs = blobs
        self._segments = Segments(live, parts, catalog)

    def directory(self, uid: str) -> Path:
        """The directory of a run's log and files."""
        return self._live / uid

    def view(self) -> View:
        """What is stored now, for a compactor that holds the run's lock."""
        return View(self._segments)

    def read(self, compute: Callable[[View], R]) -> R:
        """Compute something from what is stored, again whenever it moved meanwhile."""
        return self._segments.read(compute)

    def identity_of(
        self, record: RunRecord, stored: StoredStream
    ) -> StreamIdentity | None:
        """Who writes a stream: by the Catalog, its header, or its lock file."""
        known = streams.identities(self._catalog.reader, record.pk)
        return (
            known.get(stored.token)
            or (stored.mark.identity if stored.mark else None)
            or _identity_in_header(stored.token, stored.paths)
            or self._identity_in_lock(self.directory(record.uid), stored.token)
        )

    def sums(self, record: RunRecord, epochs: Sequence[Epoch] | None = None) -> Sums:
        """Sum up a run's visible rows, in constant memory, and say what is damaged.

        Args:
            record: The run.
            epochs: Its attempts, where they are about to become others than they are.
        """
        return self._segments.read(lambda view: self._sums(view, record, epochs))

    def _sums(
        self, view: View, record: RunRecord, epochs: Sequence[Epoch] | None
    ) -> Sums:
        if epochs is None:
            epochs = runs.epochs(self._catalog.reader, record.pk)
        damage: list[Damage] = []
        sums = Sums(Fold(), Fold(), damage, _tokens(view, record.pk, record.uid))
        # By epoch: then the steps of a resumed run rise from stream to stream.
        visible = self._visible(view, record, damage, epochs)
        for stream in sorted(visible, key=lambda s: (s.epoch, s.token)):
            fold = sums.children if _is_child(stream) else sums.own
            fold.begin_stream(stream.writer)
            for decoded in stream.segments:
                _fold_segment(fold, decoded, stream)
        for fold, children in ((sums.own, False), (sums.children, True)):
            fold.begin_stream("")
            if fold.overlaps:
                shown = self._visible(view, record, [], epochs)
                _recount(fold, (s for s in shown if _is_child(s) is children))
        self._add_edits(view, sums.own, record, epochs)
        return sums

    def add_edits(self, fold: Fold, record: RunRecord) -> None:
        """Take over what users wrote into the summary from outside the run."""
        self._segments.read(lambda view: self._add_edits(view, fold, record, None))

    def _add_edits(
        self, view: View, fold: Fold, record: RunRecord, epochs: Sequence[Epoch] | None
    ) -> None:
        if epochs is None:
            epochs = runs.epochs(self._catalog.reader, record.pk)
        limits = limits_of(epochs, None)
        for stream in view.streams(record.pk, record.uid, Kind.EDITS):
            for decoded in view.segments(record.pk, stream):
                epoch = decoded.identity.epoch if decoded.identity else -1
                if limits.get(epoch, ALL_STEPS_SUPERSEDED) != ALL_STEPS_SUPERSEDED:
                    for write in decoded.summaries:
                        at = (epoch, write.time_us // 1000, stream.token, 0.0)
                        fold.write_summary(write.values, at)

    def tokens(self, pk: int, uid: str) -> frozenset[str]:
        """The streams that have a say in a run's sums: those of rows and of edits."""
        return self._segments.read(lambda view: _tokens(view, pk, uid))

    def row_counts(self, record: RunRecord) -> dict[str, int]:
        """Rows that each metric stream of a run holds now."""
        return self._segments.read(lambda view: _row_counts(view, record))

    def sync(self, uid: str) -> None:
        """Make everything in a run's log survive a power cut."""
        directory = self.directory(uid)
        for name in os.listdir(directory):  # noqa: PTH208 - glob hides what fails
            if name.endswith(".wlog"):
                _files.fsync_file(directory / name)
        _files.fsync_dir(directory)
        _files.fsync_dir(directory.parent)

    def scan(
        self,
        record: RunRecord,
        keys: Sequence[str] | None = None,
        *,
        resolved: bool = True,
    ) -> Scan:
        """All visible rows of a run, exact; NumPy loads.

        Args:
            record: The run.
            keys: Metrics wanted; None for all.
            resolved: Whether large values are read, or left as references.
        """
        from wanllmdb._metrics.scan import Scan

        resolve = self.resolve if resolved else None
        return self._segments.read(
            lambda view: Scan(self._visible(view, record, [], keys=keys), keys, resolve)
        )

    def unsealed(
        self, pk: int, uid: str
    ) -> list[tuple[StreamIdentity, decode.Segment]]:
        """All rows of a run's metric streams that are in no part, hidden ones too."""
        view = self.view()
        return [
            (decoded.identity, decoded)
            for stored in view.streams(pk, uid, Kind.METRICS)
            for decoded in view.segments(pk, stored, unsealed=True)
            if decoded.identity is not None
        ]

    def damage(self, record: RunRecord) -> list[Damage]:
        """What in a run's log is no frame, or is missing; sealed rows are not read."""
        return self._segments.read(lambda view: self._damage(view, record))

    def _damage(self, view: View, record: RunRecord) -> list[Damage]:
        found: list[Damage] = []
        for stream in self._visible(view, record, found):
            for _ in stream.segments:
                pass
        for kind in (Kind.CONSOLE, Kind.SYSTEM, Kind.EDITS):
            for stored in view.streams(record.pk, record.uid, kind):
                for decoded in view.segments(record.pk, stored):
                    found += decoded.damage
        return found

    def records(
        self, record: RunRecord, kind: Kind
    ) -> Iterator[tuple[int, int, str, dict[str, JSONValue]]]:
        """(time in us, ordinal, writer, values) of console or system rows, in order.

        Times are whole milliseconds, as sealed rows have them.
        """
        yield from self._segments.read(lambda view: _records(view, record, kind))

    def resolve(self, value: JSONValue) -> JSONValue:
        """The value that a blob reference stands for; any other value as it is."""
        if isinstance(value, _json.BlobRef):
            return _json.loads(self._blobs.get(value.digest))
        return value

    def fences(self, record: RunRecord) -> list[streams.Fence]:
        """How far each live stream goes now."""
        while True:
            try:
                return self._fences(record)
            except FileNotFoundError:
                continue  # sealed and swept away since it was listed

    def _fences(self, record: RunRecord) -> list[streams.Fence]:
        found = []
        logs = decode.list_segments(self.directory(record.uid), Kind.METRICS)
        for token, paths in logs.items():
            parsed = segment.parse_file_name(paths[-1].name)
            assert parsed is not None
            found.append((parsed[2], paths[-1].stat().st_size, token))
        return found

    def _visible(
        self,
        view: View,
        record: RunRecord,
        damage: list[Damage],
        epochs: Sequence[Epoch] | None = None,
        fork: _Fork | None = None,
        keys: Sequence[str] | None = None,
    ) -> Iterator[VisibleStream]:
        """The streams of a run, and of what it was forked from, with their limits.

        Args:
            view: Where they are.
            record: The run.
            damage: Gets what is no frame.
            epochs: Its attempts, if they are not to be read.
            fork: Show the run as it was when this fork of it was made.
            keys: Metrics wanted of what is sealed; None for all.
        """
        if epochs is None:
            epochs = runs.epochs(self._catalog.reader, record.pk)
        limits = limits_of(epochs, fork)
        if record.parent is not None:
            lowest = limits[_BEFORE_THE_FIRST]
            yield from self._inherited(
                view, record, record.parent, lowest, damage, keys
            )
        for stored in view.streams(record.pk, record.uid, Kind.METRICS):
            identity = self.identity_of(record, stored)
            segments = view.segments(record.pk, stored, identity, keys)
            if identity is not None and identity.epoch in limits:
                yield VisibleStream(
                    stored.token, identity.epoch, identity.writer,
                    _noting(segments, damage), limits[identity.epoch],
                )  # fmt: skip

    def _inherited(
        self,
        view: View,
        record: RunRecord,
        parent: Parent,
        lowest: int | None,
        damage: list[Damage],
        keys: Sequence[str] | None,
    ) -> Iterator[VisibleStream]:
        """The parent's streams as they were when a fork was made.

        Args:
            view: Where they are.
            record: The fork.
            parent: What it took over.
            lowest: The greatest step that the fork's own epochs left of it.
            damage: Gets what is no frame.
            keys: Metrics wanted; None for all.
        """
        origin = runs.read(self._catalog.reader, parent.run_pk)
        made = _Fork(parent, record.created_us)
        for stream in self._visible(view, origin, damage, None, made, keys):
            limits = [stream.limit, parent.step, lowest]
            rows = stream.max_rows  # what the parent itself took over
            if rows is None:
                rows = parent.marks.get(stream.token, 0)
            # Epochs of the parent come before the child's own.
            yield VisibleStream(
                stream.token, stream.epoch - parent.epoch, stream.writer,
                stream.segments, min(x for x in limits if x is not None), rows,
            )  # fmt: skip

    def _identity_in_lock(self, directory: Path, token: str) -> StreamIdentity | None:
        path = directory / f"{token}.lock"
        try:
            if _locks.is_held(path):
                return None  # never open a lock file that this process may own
            content = json.loads(path.read_bytes())
            return StreamIdentity(token, content["epoch"], content["writer"])
        except (OSError, ValueError, KeyError):
            return None


@dataclass(frozen=True, slots=True)
class _Fork:
    """What a fork took over, and when."""

    parent: Parent
    made_us: int


_BEFORE_THE_FIRST = 0


def _is_child(stream: VisibleStream) -> bool:
    return stream.writer.startswith(CHILD_WRITERS)


def limits_of(
    epochs: Sequence[Epoch], fork: _Fork | None = None
) -> dict[int, int | None]:
    """The greatest visible step of each epoch that was not reverted; None: any.

    Rows that a fork took over count as an epoch before the first. For a fork, as it
    was then: nothing done to the parent later changes it.
    """
    limits: dict[int, int | None] = {}
    lowest: int | None = None
    for epoch in reversed(epochs):
        reverted = epoch.reverted_us
        if fork is not None:
            if epoch.number > fork.parent.epoch:
                continue
            if reverted is not None and reverted > fork.made_us:
                reverted = None
        if reverted is not None:
            continue
        limits[epoch.number] = lowest
        if epoch.keep_step is not None:
            lowest = epoch.keep_step if lowest is None else min(lowest, epoch.keep_step)
    limits[_BEFORE_THE_FIRST] = lowest
    return limits


def _identity_in_header(token: str, paths: Sequence[Path]) -> StreamIdentity | None:
    for path in paths:
        with path.open("rb") as file:
            head = segment.parse_header(file.read(segment.HEADER_BYTES))
        if head is not None:
            return StreamIdentity(token, head[1], head[2])
    return None


def _noting(
    segments: Iterator[decode.Segment], damage: list[Damage]
) -> Iterator[decode.Segment]:
    for decoded in segments:
        damage += decoded.damage
        yield decoded


def _tokens(view: View, pk: int, uid: str) -> frozenset[str]:
    kinds = (Kind.METRICS, Kind.EDITS)
    return frozenset(s.token for kind in kinds for s in view.streams(pk, uid, kind))


def _row_counts(view: View, record: RunRecord) -> dict[str, int]:
    totals = {}
    for stored in view.streams(record.pk, record.uid, Kind.METRICS):
        totals[stored.token] = stored.mark.rows if stored.mark else 0
        for decoded in decode.read_stream(stored.paths, None, totals[stored.token]):
            totals[stored.token] = decoded.rows
    return totals


def _records(
    view: View, record: RunRecord, kind: Kind
) -> list[tuple[int, int, str, dict[str, JSONValue]]]:
    found = []
    for stored in view.streams(record.pk, record.uid, kind):
        for decoded in view.segments(record.pk, stored):
            found += list(_rows_of(decoded, stored.token))
    found.sort(key=lambda row: (row[0], row[2], row[1]))
    return found


def _recount(fold: Fold, visible: Iterator[VisibleStream]) -> None:
    from wanllmdb._metrics.scan import Scan

    for key, values in Scan(visible).shown():
        fold.recount(key, values)


def _rows_of(
    decoded: decode.Segment, token: str
) -> Iterator[tuple[int, int, str, dict[str, JSONValue]]]:
    writer = decoded.identity.writer if decoded.identity else token
    for row in decoded.objects:
        yield _whole_ms(row.time_us), row.ordinal, writer, row.values
    for block in decoded.shaped:
        names = [key for key, _ in block.shape.present]
        for ordinal, (_step, time_us, *cells) in zip(
            block.ordinals, block.rows(), strict=True
        ):
            values = dict(zip(names, cells, strict=True))
            yield _whole_ms(time_us), ordinal, writer, values
    for held in decoded.columns:
        for ordinal, _step, time_us, values in held.dicts():
            yield time_us, ordinal, writer, values


def _whole_ms(time_us: int) -> int:
    return time_us // 1000 * 1000


def _fold_segment(fold: Fold, decoded: decode.Segment, stream: VisibleStream) -> None:
    """Fold a segment: the rows that show, and what was written to the summary."""
    tables = []
    for block in decoded.shaped:
        rows, ordinals = [*block.rows()], block.ordinals
        if stream.limit is not None or stream.max_rows is not None:
            kept = [
                (row, n)
                for row, n in zip(rows, ordinals, strict=True)
                if stream.shows(row[0], n)
            ]
            rows, ordinals = [row for row, _ in kept], [n for _, n in kept]
        tables.append((block.shape, rows, ordinals))
    objects: list[Any] = [
        (row.ordinal, row.step, row.time_us, row.values)
        for row in decoded.objects
        if stream.shows(row.step, row.ordinal)
    ]
    for held in decoded.columns:
        _take_columns(held, stream, tables, objects)
    fold.add_rows(tables, objects, stream.epoch, stream.token)
    for write in decoded.summaries:
        # A write after the last row that a fork took over is not the fork's.
        end = stream.max_rows
        if stream.limit != ALL_STEPS_SUPERSEDED and (
            end is None or write.ordinal <= end
        ):
            at = (
                stream.epoch, write.time_us // 1000, stream.token, write.ordinal - 0.5
            )  # fmt: skip
            fold.write_summary(write.values, at)


def _take_columns(
    held: ColumnRows, stream: VisibleStream, tables: list[Any], objects: list[Any]
) -> None:
    """Add the visible rows that were read from a sealed part."""
    shaped, others = held.tables()
    for shape, rows, ordinals in shaped:
        kept = [
            (row, n)
            for row, n in zip(rows, ordinals, strict=True)
            if stream.shows(row[0], n)
        ]
        tables.append((shape, [row for row, _ in kept], [n for _, n in kept]))
    objects += [row for row in others if stream.shows(row[1], row[0])]
