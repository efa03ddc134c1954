"""A run's log as it stands: which of its rows show, their sums, their table."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from wanllmdb import _files, _json, _locks
from wanllmdb._blobs import Blobs
from wanllmdb._catalog import runs, streams
from wanllmdb._catalog.connection import Database
from wanllmdb._metrics import decode, segment
from wanllmdb._metrics.decode import VisibleStream
from wanllmdb._metrics.fold import Fold
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
    from wanllmdb._metrics.scan import Scan


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
    """Reads the logs of a Store's runs, also while they are written."""

    def __init__(self, live: Path, catalog: Database, blobs: Blobs) -> None:
        self._live = live
        self._catalog = catalog
        self._blobs = blobs

    def directory(self, uid: str) -> Path:
        """The directory of a run's log and files."""
        return self._live / uid

    def sums(self, record: RunRecord, epochs: Sequence[Epoch] | None = None) -> Sums:
        """Sum up a run's visible rows, in constant memory, and say what is damaged.

        Args:
            record: The run.
            epochs: Its attempts, where they are about to become others than they are.
        """
        if epochs is None:
            epochs = runs.epochs(self._catalog.reader, record.pk)
        damage: list[Damage] = []
        sums = Sums(Fold(), Fold(), damage, self.tokens(record.uid))
        # By epoch: then the steps of a resumed run rise from stream to stream.
        visible = self._visible(record, damage, epochs)
        for stream in sorted(visible, key=lambda s: (s.epoch, s.token)):
            fold = sums.children if _is_child(stream) else sums.own
            fold.begin_stream(stream.writer)
            for decoded in stream.segments:
                _fold_segment(fold, decoded, stream)
        for fold, children in ((sums.own, False), (sums.children, True)):
            fold.begin_stream("")
            if fold.overlaps:
                self._recount(fold, record, epochs, children=children)
        self.add_edits(sums.own, record, epochs)
        return sums

    def _recount(
        self,
        fold: Fold,
        record: RunRecord,
        epochs: Sequence[Epoch],
        *,
        children: bool,
    ) -> None:
        from wanllmdb._metrics.scan import Scan

        visible = self._visible(record, [], epochs)
        scan = Scan(s for s in visible if _is_child(s) is children)
        for key, values in scan.shown():
            fold.recount(key, values)

    def add_edits(
        self, fold: Fold, record: RunRecord, epochs: Sequence[Epoch] | None = None
    ) -> None:
        """Take over what users wrote into the summary from outside the run."""
        if epochs is None:
            epochs = runs.epochs(self._catalog.reader, record.pk)
        limits_of = _limits(epochs, None)
        logs = decode.list_segments(self.directory(record.uid), Kind.EDITS)
        for token, paths in logs.items():
            for decoded in decode.read_stream(paths):
                epoch = decoded.identity.epoch if decoded.identity else -1
                if limits_of.get(epoch, ALL_STEPS_SUPERSEDED) != ALL_STEPS_SUPERSEDED:
                    for write in decoded.summaries:
                        at = (epoch, write.time_us // 1000, token, 0.0)
                        fold.write_summary(write.values, at)

    def tokens(self, uid: str) -> frozenset[str]:
        """The streams that have a say in a run's sums: those of rows and of edits."""
        directory = self.directory(uid)
        return frozenset(decode.list_segments(directory, Kind.METRICS)) | frozenset(
            decode.list_segments(directory, Kind.EDITS)
        )

    def sync(self, uid: str) -> None:
        """Make everything in a run's log survive a power cut."""
        directory = self.directory(uid)
        for name in os.listdir(directory):  # noqa: PTH208 - glob hides what fails
            if name.endswith(".wlog"):
                _files.fsync_file(directory / name)
        _files.fsync_dir(directory)
        _files.fsync_dir(directory.parent)

    def scan(self, record: RunRecord, keys: Sequence[str] | None = None) -> Scan:
        """All visible rows of a run, exact; NumPy loads."""
        from wanllmdb._metrics.scan import Scan

        return Scan(self._visible(record, []), keys, self.resolve)

    def damage(self, record: RunRecord) -> list[Damage]:
        """What in a run's log is no frame, or is missing."""
        found: list[Damage] = []
        for stream in self._visible(record, found):
            for _ in stream.segments:
                pass
        for kind in (Kind.CONSOLE, Kind.SYSTEM, Kind.EDITS):
            logs = decode.list_segments(self.directory(record.uid), kind)
            for paths in logs.values():
                for decoded in decode.read_stream(paths):
                    found += decoded.damage
        return found

    def records(
        self, record: RunRecord, kind: Kind
    ) -> Iterator[tuple[int, int, str, dict[str, JSONValue]]]:
        """(time in us, ordinal, writer, values) of console or system rows, in order."""
        found = []
        logs = decode.list_segments(self.directory(record.uid), kind)
        for token, paths in logs.items():
            for decoded in decode.read_stream(paths):
                found += list(_rows_of(decoded, token))
        found.sort(key=lambda row: (row[0] // 1000, row[2], row[1]))
        yield from found

    def resolve(self, value: JSONValue) -> JSONValue:
        """The value that a blob reference stands for; any other value as it is."""
        if isinstance(value, _json.BlobRef):
            return _json.loads(self._blobs.get(value.digest))
        return value

    def fences(self, record: RunRecord) -> list[streams.Fence]:
        """How far each stream goes now."""
        found = []
        logs = decode.list_segments(self.directory(record.uid), Kind.METRICS)
        for token, paths in logs.items():
            parsed = segment.parse_file_name(paths[-1].name)
            assert parsed is not None
            found.append((parsed[2], paths[-1].stat().st_size, token))
        return found

    def _visible(
        self,
        record: RunRecord,
        damage: list[Damage],
        epochs: Sequence[Epoch] | None = None,
        fork: _Fork | None = None,
    ) -> Iterator[VisibleStream]:
        """The streams of a run, and of what it was forked from, with their limits.

        Args:
            record: The run.
            damage: Gets what is no frame.
            epochs: Its attempts, if they are not to be read.
            fork: Show the run as it was when this fork of it was made.
        """
        if epochs is None:
            epochs = runs.epochs(self._catalog.reader, record.pk)
        limits_of = _limits(epochs, fork)
        if record.parent is not None:
            lowest = limits_of[_BEFORE_THE_FIRST]
            yield from self._inherited(record, record.parent, lowest, damage)
        known = streams.identities(self._catalog.reader, record.pk)
        directory = self.directory(record.uid)
        for token, paths in decode.list_segments(directory, Kind.METRICS).items():
            identity = (
                known.get(token)
                or _identity_in_header(token, paths)
                or self._identity_in_lock(directory, token)
            )
            segments = _read_noting(paths, identity, damage)
            if identity is not None and identity.epoch in limits_of:
                limit = limits_of[identity.epoch]
                yield VisibleStream(
                    token, identity.epoch, identity.writer, segments, limit
                )

    def _inherited(
        self,
        record: RunRecord,
        parent: Parent,
        lowest: int | None,
        damage: list[Damage],
    ) -> Iterator[VisibleStream]:
        """The parent's streams as they were when a fork was made.

        Args:
            record: The fork.
            parent: What it took over.
            lowest: The greatest step that the fork's own epochs left of it.
            damage: Gets what is no frame.
        """
        origin = runs.read(self._catalog.reader, parent.run_pk)
        made = _Fork(parent, record.created_us)
        for stream in self._visible(origin, damage, None, made):
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


def _limits(epochs: Sequence[Epoch], fork: _Fork | None) -> dict[int, int | None]:
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


def _read_noting(
    paths: Sequence[Path], identity: StreamIdentity | None, damage: list[Damage]
) -> Iterator[decode.Segment]:
    for decoded in decode.read_stream(paths, identity):
        damage += decoded.damage
        yield decoded


def _rows_of(
    decoded: decode.Segment, token: str
) -> Iterator[tuple[int, int, str, dict[str, JSONValue]]]:
    writer = decoded.identity.writer if decoded.identity else token
    for row in decoded.objects:
        yield row.time_us, row.ordinal, writer, row.values
    for block in decoded.shaped:
        names = [key for key, _ in block.shape.present]
        for ordinal, (_step, time_us, *cells) in zip(
            block.ordinals, block.rows(), strict=True
        ):
            yield time_us, ordinal, writer, dict(zip(names, cells, strict=True))


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
    objects = [
        (row.ordinal, row.step, row.time_us, row.values)
        for row in decoded.objects
        if stream.shows(row.step, row.ordinal)
    ]
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
