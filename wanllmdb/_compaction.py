"""Compaction: live logs become sealed parts, and small parts become large ones.

The order, which lives here and only here: rows are decoded, written to a draft,
synced, renamed into ``parts/``, the directory is synced; then ONE durable transaction
makes the part visible and moves the watermarks; only then is what it replaced given
up, and removed after a time of grace. Killed anywhere before the transaction, all is
as it was; anywhere after it, the log is ignored. Each row shows exactly once.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

from wanllmdb import _files, _layout, _locks
from wanllmdb._catalog import runs, sealed
from wanllmdb._catalog.connection import Database
from wanllmdb._catalog.sealed import InlineSegment, NewPart, RunShare, Watermark
from wanllmdb._debuglog import DebugLog
from wanllmdb._metrics import decode, segment
from wanllmdb._runlog import RunLogs
from wanllmdb._segments import LAYOUTS, leave_out_sealed, size_of
from wanllmdb._sweeping import Sweeper
from wanllmdb.errors import RunNotFoundError
from wanllmdb.types import Kind, RunRecord, RunRef, State, StreamIdentity

if TYPE_CHECKING:
    from wanllmdb._metrics.seal import Batch, Table

INLINE_BYTES = 16 << 10
"""A run's log of one kind that is no larger stays in the Catalog when the run ends."""

BATCH_BYTES = 32 << 20
"""Bytes of log that are sealed together: a compaction takes about five times as much
memory."""

WAITING_BYTES = 64 << 20
"""Bytes of log at which a live run's are sealed, all but the last segment."""

LEFT_BYTES = 1 << 20
"""A log of at most so many bytes is left to who loads pyarrow next: for so few rows
loading it (200 ms) would be most of what `finish` costs."""

SEALED_AT_ONCE = 64 << 20
"""Bytes of logs of others' runs that a reader seals, for it would merge them else."""

FENCE_US = 86_400_000_000
"""How long a log stays whose writer did not close it: it may live after all."""


@dataclass(slots=True)
class Inline:
    """What of a run goes into the Catalog in the transaction that ends it.

    Attributes:
        segments: Its logs.
        marks: How far these go.
        whole: Whether nothing of the run is left to be sealed.
    """

    segments: list[InlineSegment] = field(default_factory=list)
    marks: list[Watermark] = field(default_factory=list)
    whole: bool = False


@dataclass(slots=True)
class _Pending:
    """Whole segments of a stream that wait to be sealed."""

    kind: Kind
    token: str
    mark: Watermark | None
    identity: StreamIdentity
    paths: list[Path]
    closed: bool
    """Whether nobody writes the stream any more."""


class Compactor:
    """Seals the logs of a Store's runs. Safe beside writers and other compactors.

    Args:
        root: The Store's directory.
        catalog: Its Catalog.
        logs: Its runs' logs.
        sweeper: Gives turns, and removes drafts.
        debug: Told what was survived.
    """

    def __init__(
        self,
        root: Path,
        catalog: Database,
        logs: RunLogs,
        sweeper: Sweeper,
        debug: DebugLog,
    ) -> None:
        self.root = root
        self._catalog = catalog
        self._logs = logs
        self._sweeper = sweeper
        self._debug = debug

    # The end of a run

    def small(self, record: RunRecord, own: str | None = None) -> Inline:
        """What of a run that ends now is small enough for the Catalog.

        Args:
            record: The run; its compaction lock is held.
            own: A stream of this process that is closed, though still locked.
        """
        found = Inline(whole=True)
        pending = self._pending(record, own, ended=True)
        for layout in {layout_of(item.kind) for item in pending}:
            items = [item for item in pending if layout_of(item.kind) == layout]
            size = sum(path.stat().st_size for item in items for path in item.paths)
            if size > INLINE_BYTES or not all(item.closed for item in items):
                found.whole = False
                continue
            taken = Inline()
            alone = len(items) == 1
            if all(_take_inline(taken, item, alone=alone) for item in items):
                found.segments += taken.segments
                found.marks += taken.marks
            else:
                found.whole = False
        return found

    def put_inline(self, connection: Any, record: RunRecord, inline: Inline) -> None:
        """Take small logs into the Catalog, inside the transaction of the end."""
        sealed.add_inline(connection, record.pk, inline.segments)
        sealed.set_watermarks(connection, record.pk, inline.marks)
        if inline.whole:
            self._retire_log(connection, record)

    def seal(self, record: RunRecord, limit: int | None = None) -> int:
        """Seal what of a run's log nobody writes any more.

        Args:
            record: The run.
            limit: Leave alone a log of more bytes; None: any size.

        Returns:
            Bytes of log that were sealed; 0 where another compactor is at it.
        """
        with self._sweeper.alone(record.uid) as mine:
            if not mine:
                return 0
            now = runs.read(self._catalog.reader, record.pk)
            ended = now.state is not State.RUNNING
            pending = self._pending(now, None, ended=ended)
            size = sum(path.stat().st_size for item in pending for path in item.paths)
            if not size and ended:  # killed right after it was sealed?
                self._give_up_log(now, anew=False)
            if not size or (limit is not None and size > limit):
                return 0
            if ended:
                inline = self.small(now)
                if inline.marks:
                    with self._catalog.transaction(durable=True) as connection:
                        self.put_inline(connection, now, inline)
                    pending = self._pending(now, None, ended=ended)
            self._sweeper.collect_drafts(now.uid, now.project)
            for layout in ("wide", "system", "console"):
                items = [i for i in pending if layout_of(i.kind) == layout]
                if items:
                    self._seal_layout(now, layout, items)
            if ended:
                self._give_up_log(now)
        return size

    def _pending(
        self, record: RunRecord, own: str | None, *, ended: bool
    ) -> list[_Pending]:
        """What can be sealed of a run.

        That is what is behind a stream's last segment, and that one too where nobody
        writes the stream.
        """
        view = self._logs.view()
        directory = self._logs.directory(record.uid)
        found = []
        for kind in Kind:
            for stored in view.streams(record.pk, record.uid, kind):
                held = stored.token != own and _locks.is_held(
                    directory / f"{stored.token}.lock"
                )
                paths = [path for path in stored.paths if path.stat().st_size]
                closed = ended and not held
                if not closed:
                    paths = paths[:-1]
                identity = self._logs.identity_of(record, stored)
                if paths and identity is not None:
                    found.append(
                        _Pending(
                            kind, stored.token, stored.mark, identity, paths, closed
                        )
                    )
        return found

    def _seal_layout(
        self, record: RunRecord, layout: str, items: Sequence[_Pending]
    ) -> None:
        """Seal segments in batches, each in a transaction of its own."""
        ref = RunRef(record.uid, record.run_id)
        batch, marks, done, size = _new_batch(layout), [], [], 0
        for item in items:
            rows = item.mark.rows if item.mark else 0
            found = decode.read_stream(item.paths, item.identity, rows)
            for path, decoded in zip(item.paths, found, strict=False):
                if item.mark is not None:
                    leave_out_sealed(decoded, path, item.mark)
                batch.add(ref, item.identity, decoded, written_by(item.kind))
                marks.append(_mark_of(item, path, decoded))
                done.append((item, path))
                self._keep_damaged(record, path, decoded)
                size += decoded.bytes
                if size >= BATCH_BYTES:
                    self._seal_batch(record, batch, marks, done)
                    batch, marks, done, size = _new_batch(layout), [], [], 0
        if marks:
            self._seal_batch(record, batch, marks, done)

    def _seal_batch(
        self,
        record: RunRecord,
        batch: Batch,
        marks: Sequence[Watermark],
        done: Sequence[tuple[_Pending, Path]],
    ) -> None:
        tables = batch.tables()
        project = runs.project_uid(self._catalog.reader, record.project)
        target = self.root / _layout.PARTS / project
        before = sealed.read(self._catalog.reader, record.pk).parts
        new = [self._write(record, table, target, before) for table in tables]
        try:
            with self._catalog.transaction(durable=True) as connection:
                for part in new:
                    sealed.add_part(connection, record.project, part)
                sealed.set_watermarks(connection, record.pk, _last_of_each(marks))
                for item, path in done:
                    if not item.closed:
                        place = path.relative_to(self.root).as_posix()
                        sealed.retire(connection, place, "log")
        except BaseException:
            for part in new:
                (target / part.name).unlink(missing_ok=True)
            raise

    def _write(
        self,
        record: RunRecord,
        table: Table,
        target: Path,
        before: Sequence[sealed.PartRows],
    ) -> NewPart:
        from wanllmdb._metrics import parts

        tmp = self.root / _layout.TMP
        done = parts.write(iter([table.arrow]), table, target, tmp, record.uid)
        share = share_of(table.arrow, record.pk, 0, table.layout)
        last = max((p.step_max for p in before if p.step_max is not None), default=None)
        after = last is None or share.step_min is None or share.step_min > last
        share = RunShare(
            share.run, 0, share.rows, share.step_min, share.step_max,
            share.epoch_min, share.epoch_max, share.plain and after,
        )  # fmt: skip
        return NewPart(
            done.name, table.layout, table.arrow.num_rows, done.bytes, done.digest,
            [share], table.columns,
        )  # fmt: skip

    def _keep_damaged(
        self, record: RunRecord, path: Path, decoded: decode.Segment
    ) -> None:
        """A segment whose bytes are not all frames goes to the trash as it is."""
        if all(item.torn for item in decoded.damage):
            return
        trash = self.root / _layout.TRASH / record.uid
        _files.make_private_dir(trash)
        if not (trash / path.name).exists():
            _files.write_durably(trash / path.name, path.read_bytes(), trash)

    def _give_up_log(self, record: RunRecord, *, anew: bool = True) -> None:
        """Note that a run's directory may go, if all that is in it is sealed.

        Args:
            record: The run.
            anew: Whether its time begins anew where that is noted already.
        """
        view = self._logs.view()
        if any(
            stored.paths
            for kind in Kind
            for stored in view.streams(record.pk, record.uid, kind)
        ):
            return
        directory = self._logs.directory(record.uid)
        if not directory.is_dir():
            return
        place = f"{_layout.LIVE}/{record.uid}"
        if anew or not sealed.is_retired(self._catalog.reader, place):
            with self._catalog.transaction(durable=False) as connection:
                self._retire_log(connection, record)

    def _retire_log(self, connection: Any, record: RunRecord) -> None:
        """A dead writer's log stays longer: it may live after all."""
        crashed = record.state is State.CRASHED
        after = FENCE_US if crashed else sealed.GRACE_US
        place = f"{_layout.LIVE}/{record.uid}"
        sealed.retire(connection, place, "log", after)

    def may_wait(self, record: RunRecord) -> bool:
        """Whether sealing a run that ended can be left to another process."""
        if "pyarrow" in sys.modules:
            return False
        directory = self._logs.directory(record.uid)
        # Another compactor may sweep some of them away just now.
        return sum(map(size_of, directory.glob("*.wlog"))) <= LEFT_BYTES

    def seal_ended(self, most: int = SEALED_AT_ONCE) -> None:
        """Seal logs of runs that ended, and were left as they were.

        Args:
            most: Bytes of log after which the others stay.
        """
        for record in self._waiting():
            if record.state is not State.RUNNING and most > 0:
                most -= self.seal(record, most)

    def _waiting(self) -> Iterator[RunRecord]:
        """The runs that have a log which is not given up."""
        reader = self._catalog.reader
        for uid in sorted(path.name for path in (self.root / _layout.LIVE).iterdir()):
            if sealed.is_retired(reader, f"{_layout.LIVE}/{uid}"):
                continue
            pk = runs.find_uid(reader, uid)
            with suppress(RunNotFoundError):  # purged meanwhile
                if pk is not None:
                    yield runs.read(reader, pk)

    def seal_all(self) -> Iterator[tuple[RunRecord, int]]:
        """Seal every live log, as far as nobody writes it any more.

        Yields:
            Each run of which something was sealed, and how many bytes of log.
        """
        for uid in sorted(path.name for path in (self.root / _layout.LIVE).iterdir()):
            pk = runs.find_uid(self._catalog.reader, uid)
            try:
                record = None if pk is None else runs.read(self._catalog.reader, pk)
                size = 0 if record is None else self.seal(record)
            except (RunNotFoundError, FileNotFoundError) as error:  # purged meanwhile
                self._debug.survived(f"compaction of {uid}", error)
                continue
            if record is not None and size:
                yield record, size


def layout_of(kind: Kind) -> str:
    """The layout of the part that a kind's rows go to."""
    return LAYOUTS.get(kind, "wide")  # edits lie with the metrics


def written_by(kind: Kind) -> str:
    """What a stream's writes into the summary count as."""
    from wanllmdb._metrics import seal

    return seal.EDIT if kind is Kind.EDITS else seal.SUMMARY


def _new_batch(layout: str) -> Batch:
    from wanllmdb._metrics.seal import Batch

    return Batch(layout)


def _mark_of(item: _Pending, path: Path, decoded: decode.Segment) -> Watermark:
    parsed = segment.parse_file_name(path.name)
    assert parsed is not None
    # Not what the file has now: whoever writes it may have gone on since.
    return Watermark(item.identity, item.kind, parsed[2], decoded.size, decoded.rows)


def _last_of_each(marks: Sequence[Watermark]) -> list[Watermark]:
    found = {(mark.identity.token, mark.kind): mark for mark in marks}
    return list(found.values())


def _take_inline(found: Inline, item: _Pending, *, alone: bool) -> bool:
    """Take a whole stream; False where it must be sealed into a part.

    That is if it is damaged, for its bytes are kept in the trash then, and if it went
    on after it was compacted, for its first rows may be in a part by now.
    """
    if item.mark is not None:
        return False
    for path, decoded in zip(
        item.paths, decode.read_stream(item.paths, item.identity), strict=False
    ):
        if not all(damage.torn for damage in decoded.damage):
            return False
        data = path.read_bytes()[: decoded.size]
        mark = _mark_of(item, path, decoded)
        plain = alone and len(item.paths) == 1 and item.identity.writer == "primary"
        found.segments.append(
            InlineSegment(
                item.token, item.kind, mark.seq, item.identity.epoch,
                decoded.rows - decoded.first_row, crc32(data),
                plain and _is_plain(data, decoded), data,
            )
        )  # fmt: skip
        found.marks.append(mark)
    found.marks = _last_of_each(found.marks)
    return True


def _is_plain(data: bytes, decoded: decode.Segment) -> bool:
    """Whether a segment is one stretch of rows of one shape, whose steps rise."""
    if decoded.objects or decoded.summaries or decoded.damage:
        return False
    if len(decoded.shaped) != 1:
        return False
    block = decoded.shaped[0]
    start = segment.HEADER_BYTES + len(block.shape.definition())
    steps = [row[0] for row in block.rows()]
    rising = all(a < b for a, b in pairwise(steps))
    same = data[start : start + len(block.frames)] == block.frames
    return rising and same and "n" not in block.shape.codes


def share_of(table: Any, pk: int, row_first: int, layout: str) -> RunShare:
    """What a sealed table of one run's rows holds."""
    import numpy as np
    import pyarrow.compute as pc

    from wanllmdb._metrics.arrow import numbers

    steps = pc.min_max(table["_step"]).as_py()
    epochs = pc.min_max(table["_epoch"]).as_py()
    plain = True
    if layout not in ("tall", "objects"):
        values = numbers(table["_step"])
        writers = table["_writer"].combine_chunks()
        if len(writers.dictionary) > 1 or not (np.diff(values) > 0).all():
            pairs = np.stack([numbers(writers.indices).astype(np.int64), values])
            plain = np.unique(pairs, axis=1).shape[1] == len(values)
    return RunShare(
        pk, row_first, table.num_rows, steps["min"], steps["max"], epochs["min"],
        epochs["max"], plain,
    )  # fmt: skip
