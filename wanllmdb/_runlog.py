"""A run's log as it stands: which of its rows show, their sums, their table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wanllmdb import _json, _locks
from wanllmdb._blobs import Blobs
from wanllmdb._catalog import runs, streams
from wanllmdb._catalog.connection import Database
from wanllmdb._metrics import decode, segment
from wanllmdb._metrics.decode import VisibleStream
from wanllmdb._metrics.fold import Fold
from wanllmdb.types import (
    ALL_STEPS_SUPERSEDED,
    Damage,
    Epoch,
    JSONValue,
    Kind,
    Parent,
    RunRecord,
    StreamIdentity,
)

if TYPE_CHECKING:
    from wanllmdb._metrics.scan import Scan

BLOB_TYPE = "wanllmdb-blob"
"""``_type`` of what stands in a row for a value that is a blob."""


class RunLogs:
    """Reads the logs of a Store's runs, also while they are written."""

    def __init__(self, live: Path, catalog: Database, blobs: Blobs) -> None:
        self._live = live
        self._catalog = catalog
        self._blobs = blobs

    def directory(self, uid: str) -> Path:
        """The directory of a run's log and files."""
        return self._live / uid

    def fold(self, record: RunRecord) -> tuple[Fold, list[Damage]]:
        """Sum up a run's visible rows, in constant memory, and say what is damaged."""
        fold = Fold()
        damage: list[Damage] = []
        # By epoch: then the steps of a resumed run rise from stream to stream.
        for stream in sorted(
            self._visible(record, damage), key=lambda s: (s.epoch, s.token)
        ):
            fold.begin_stream(stream.writer)
            for decoded in stream.segments:
                _fold_segment(fold, decoded, stream)
        fold.begin_stream("")
        if fold.overlaps:
            for key, values in self.scan(record).shown():
                fold.recount(key, values)
        return fold, damage

    def scan(self, record: RunRecord, keys: Sequence[str] | None = None) -> Scan:
        """All visible rows of a run, exact; NumPy loads."""
        from wanllmdb._metrics.scan import Scan

        return Scan(self._visible(record, []), keys, self.resolve)

    def damage(self, record: RunRecord) -> list[Damage]:
        """What in a run's log is no frame."""
        found: list[Damage] = []
        for stream in self._visible(record, found):
            for _ in stream.segments:
                pass
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
        if isinstance(value, dict) and value.get("_type") == BLOB_TYPE:
            return _json.loads(self._blobs.get(value["digest"]))
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
        self, record: RunRecord, damage: list[Damage], fork: _Fork | None = None
    ) -> Iterator[VisibleStream]:
        """The streams of a run, and of what it was forked from, with their limits.

        Args:
            record: The run.
            damage: Gets what is no frame.
            fork: Show the run as it was when this fork of it was made.
        """
        parent = record.parent
        if parent is not None:
            origin = runs.read(self._catalog.reader, parent.run_pk)
            made = _Fork(parent, record.created_us)
            for stream in self._visible(origin, damage, made):
                limits = [x for x in (stream.limit, parent.step) if x is not None]
                rows = stream.max_rows  # what the parent itself took over
                if rows is None:
                    rows = parent.marks.get(stream.token, 0)
                # Epochs of the parent come before the child's own.
                yield VisibleStream(
                    stream.token, stream.epoch - parent.epoch, "primary",
                    stream.segments, min(limits), rows,
                )  # fmt: skip
        limits_of = _limits(runs.epochs(self._catalog.reader, record.pk), fork)
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


def _limits(epochs: Sequence[Epoch], fork: _Fork | None) -> dict[int, int | None]:
    """The greatest visible step of each epoch that was not reverted; None: any.

    For a fork, as it was then: nothing done to the parent later changes it.
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
