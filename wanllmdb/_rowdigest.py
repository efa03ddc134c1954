"""The items of a stream in their order, and the digest of a range of them.

An item is a row, or one key of a write into the summary. Items of a stream are numbered
as they stand in its log, from 0: rows and writes together, for a stream of edits has no
rows at all, and a write that comes after the last row must not be lost. Nothing that
happens to a log later (sealing, merging) changes the number of an item.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from wanllmdb import _json
from wanllmdb._metrics.columns import DTYPES, Cells, ColumnRows
from wanllmdb._metrics.decode import Segment, SummaryWrite
from wanllmdb._metrics.segment import parse_file_name
from wanllmdb.types import Kind, StreamIdentity

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from wanllmdb._metrics.columns import Ints
    from wanllmdb._segments import StoredStream, View


@dataclass(frozen=True, slots=True)
class Stretch:
    """Items of a stream that follow each other.

    Attributes:
        first: The first one's number.
        end: The number after the last one's.
        rows_before: Rows of the stream before them.
        rows: Rows of the stream up to their end; lost ones count.
        blocks: The rows among them.
        writes: The writes among them, of one key each.
    """

    first: int
    end: int
    rows_before: int
    rows: int
    blocks: Sequence[ColumnRows]
    writes: Sequence[SummaryWrite]

    def cut(self, first: int, end: int) -> Stretch | None:
        """Those of its items that are in [first, end); None where there are none."""
        import numpy as np

        first, end = max(first, self.first), min(end, self.end)
        if first >= end:
            return None
        if (first, end) == (self.first, self.end):
            return self
        base = self.first - self.rows_before
        ordinals = np.array([write.ordinal for write in self.writes], np.int64)
        places = base + ordinals + np.arange(len(ordinals))
        before, until = (int(np.searchsorted(places, at)) for at in (first, end))
        blocks = []
        for block in self.blocks:
            at = base + block.ordinals
            at = at + np.searchsorted(ordinals, block.ordinals, side="right")
            kept = some_rows(block, (at >= first) & (at < end))
            blocks += [kept] if len(kept.steps) else []
        return Stretch(
            first, end, first - base - before, end - base - until, blocks,
            self.writes[before:until],
        )  # fmt: skip


def some_rows(block: ColumnRows, kept: NDArray[Any]) -> ColumnRows:
    """The rows of a block at which `kept` is true."""
    import numpy as np

    if kept.all():
        return block
    places = np.cumsum(kept) - 1
    cells = []
    for held in block.cells:
        mask = kept if held.rows is None else kept[held.rows]
        rows = None if held.rows is None else places[held.rows[mask]]
        values = held.values
        if isinstance(values, list):
            values = [v for v, on in zip(values, mask.tolist(), strict=True) if on]
        else:
            values = values[mask]
        if len(values):
            cells.append(Cells(held.key, held.code, rows, values))
    return ColumnRows(block.ordinals[kept], block.steps[kept], block.times[kept], cells)


def stretches(
    view: View,
    pk: int,
    stored: StoredStream,
    identity: StreamIdentity,
    first: int = 0,
    rows_before: int = 0,
) -> Iterator[Stretch]:
    """All items of a stream, in order; what of it is in memory at once is one segment.

    Args:
        view: Where it is stored.
        pk: The run.
        stored: The stream.
        identity: Whose it is.
        first: The number of the first item that is stored there.
        rows_before: Rows of the stream before that.

    Raises:
        CorruptPartError: a part is damaged.
    """
    from wanllmdb._metrics.blocks import blocks

    waiting = _Writes()
    if stored.mark is not None:
        waiting.add(view.writes(pk, stored.mark))
    done, start, rows = first, rows_before, rows_before
    for segment in view.segments(pk, stored, identity):
        if segment.size:  # from a log; writes in parts are known already
            waiting.add(segment.summaries)
        elif not segment.columns:
            continue
        rows = max(rows, segment.rows)
        writes = waiting.take(rows)
        end = done + rows - start + len(writes)
        if end > done:
            held = [block for block in blocks(segment) if len(block.steps)]
            yield Stretch(done, end, start, rows, held, writes)
        done, start = end, rows
    if stored.mark is not None:  # rows that were lost, and what was written after them
        rows = max(rows, stored.mark.rows)
    writes = waiting.take(rows)
    end = done + rows - start + len(writes)
    if end > done:
        yield Stretch(done, end, start, rows, (), writes)


@dataclass(slots=True)
class _Writes:
    """Writes of a stream that wait for the rows before them."""

    held: list[SummaryWrite] = field(default_factory=list)

    def add(self, writes: Iterable[SummaryWrite]) -> None:
        self.held += [
            SummaryWrite(write.ordinal, write.time_us, {key: value})
            for write in writes
            for key, value in write.values.items()
        ]
        self.held.sort(key=lambda write: (write.ordinal, write.time_us // 1000))

    def take(self, rows: int) -> list[SummaryWrite]:
        """Those that were made before row `rows` was."""
        count = bisect_right(self.held, rows, key=lambda write: write.ordinal)
        taken, self.held = self.held[:count], self.held[count:]
        return taken


class RangeDigest:
    """The SHA-256 of items of a stream, however they are encoded.

    It is that of these lines, each ended by a line feed, JSON without spaces:

    - kind, stream, epoch, writer: ``["metrics","0123456789",1,"primary"]``
    - rows: ``[count,"<ordinals>","<steps>","<times>"]``, the SHA-256 in hex of the
      numbers as int64, little-endian, end to end; times are whole milliseconds
    - one for each key and type, by key and then type: ``[key,type,count,"<ordinals>",
      "<values>"]``, the SHA-256 of the ordinals of the rows that have a value, and of
      the values: ``d`` float64 and ``q`` int64, little-endian; ``b`` one byte, 0 or 1;
      ``s`` ``o`` ``n`` JSON and a line feed each, as in a segment
    - writes into the summary: ``[count,"<writes>"]``, the SHA-256 of a line each,
      ``[rows before it,time in ms,key,value]``
    """

    def __init__(self, kind: Kind, identity: StreamIdentity) -> None:
        self._head = [kind.value, identity.token, identity.epoch, identity.writer]
        self._rows = 0
        self._places = [hashlib.sha256() for _ in range(3)]
        self._columns: dict[tuple[str, str], _Column] = {}
        self._writes, self._written = hashlib.sha256(), 0

    def add(self, stretch: Stretch) -> None:
        """Take items that follow those before."""
        if stretch.blocks:
            self._add_rows(_Gathered(stretch.blocks))
        for write in stretch.writes:
            for key, value in write.values.items():
                row = [write.ordinal, write.time_us // 1000, key]
                text = f"{_json.dumps(row)[:-1]},{_json.dumps(value)}]\n"
                self._writes.update(text.encode())
                self._written += 1

    def _add_rows(self, found: _Gathered) -> None:
        before = self._places[0].copy()
        self._places[0].update(found.ordinals)
        self._places[1].update(found.steps)
        self._places[2].update(found.times)
        for place, (ordinals, values) in found.columns.items():
            column = self._columns.get(place)
            if column is None:
                column = self._columns[place] = _Column()
                column.ordinals = hashlib.sha256() if self._rows else None
            if column.ordinals is None and len(ordinals) < len(found.ordinals):
                column.ordinals = before.copy()
            if column.ordinals is not None:
                column.ordinals.update(ordinals)
            column.count += len(ordinals)
            column.values.update(_as_bytes(place[1], values))
        for place, column in self._columns.items():
            if column.ordinals is None and place not in found.columns:
                column.ordinals = before.copy()
        self._rows += len(found.ordinals)

    def hex(self) -> str:
        """The digest of all that was taken."""
        whole = hashlib.sha256()

        def line(row: list[Any]) -> None:
            whole.update(_json.dumps(row).encode() + b"\n")

        line(self._head)
        line([self._rows, *(held.hexdigest() for held in self._places)])
        for (key, code), column in sorted(self._columns.items()):
            ordinals = column.ordinals or self._places[0]
            line([
                key, code, column.count, ordinals.hexdigest(),
                column.values.hexdigest(),
            ])  # fmt: skip
        line([self._written, self._writes.hexdigest()])
        return whole.hexdigest()


@dataclass(slots=True)
class _Column:
    """The values of one key and type.

    Attributes:
        count: How many there are.
        ordinals: The digest of the ordinals of their rows; None while every row has
            one, for then it is that of the rows.
        values: The digest of the values.
    """

    count: int = 0
    ordinals: Any = None
    values: Any = field(default_factory=hashlib.sha256)


class _Gathered:
    """Rows of several blocks, in order, with one column for each key and type."""

    def __init__(self, blocks: Sequence[ColumnRows]) -> None:
        import numpy as np

        def joined(arrays: Sequence[Any]) -> Any:
            return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)

        ordinals = joined([block.ordinals for block in blocks])
        order = _order(ordinals)

        def ordered(arrays: Sequence[Any]) -> Any:
            found = joined(arrays)
            found = found if order is None else found[order]
            return np.ascontiguousarray(found, np.int64)

        self.ordinals = ordered([block.ordinals for block in blocks])
        self.steps = ordered([block.steps for block in blocks])
        self.times = ordered([block.times for block in blocks]) // 1000
        held: dict[tuple[str, str], list[tuple[Ints, Any]]] = {}
        for block in blocks:
            for cells in block.cells:
                at = (
                    block.ordinals if cells.rows is None else block.ordinals[cells.rows]
                )
                held.setdefault((cells.key, cells.code), []).append((at, cells.values))
        self.columns = {
            place: _in_order(found, listed=place[1] not in DTYPES)
            for place, found in held.items()
        }


def _order(ordinals: Any) -> Any:
    """How to sort ordinals; None where they are."""
    import numpy as np

    if (np.diff(ordinals) > 0).all():
        return None
    return np.argsort(ordinals, kind="stable")


def _in_order(found: list[tuple[Ints, Any]], *, listed: bool) -> tuple[Ints, Any]:
    import numpy as np

    ordinals = np.concatenate([at for at, _ in found]) if found[1:] else found[0][0]
    if listed:
        values: Any = [value for _, held in found for value in held]
    else:
        values = np.concatenate([v for _, v in found]) if found[1:] else found[0][1]
    order = _order(ordinals)
    if order is not None:
        ordinals = ordinals[order]
        values = [values[i] for i in order.tolist()] if listed else values[order]
    return np.ascontiguousarray(ordinals, np.int64), values


def _as_bytes(code: str, values: Any) -> Any:
    import numpy as np

    if code in DTYPES:
        return np.ascontiguousarray(values, DTYPES[code]).view(np.uint8)
    return "".join(f"{_json.dumps(value)}\n" for value in values).encode()


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a stream goes.

    Attributes:
        sealed: The number after its last item in parts and in the Catalog.
        end: The number after its last item of all.
        live: Number and bytes of its last live segment; None where there is none.
    """

    sealed: int
    end: int
    live: tuple[int, int] | None


def reach(
    view: View, pk: int, stored: StoredStream, identity: StreamIdentity | None
) -> Reach:
    """How far a stream goes; of parts, only writes into the summary are read."""
    mark = stored.mark
    rows = mark.rows if mark is not None else 0
    writes = [] if mark is None else view.writes(pk, mark)
    inline = list(view.segments(pk, replace(stored, paths=()), identity, unsealed=True))
    writes += [write for decoded in inline for write in decoded.summaries]
    sealed, live = rows + _keys(writes), None
    found = list(view.segments(pk, stored, identity, unsealed=True))[len(inline) :]
    for path, decoded in zip(stored.paths, found, strict=False):
        writes += decoded.summaries
        rows = max(rows, decoded.rows)
        parsed = parse_file_name(path.name)
        assert parsed is not None
        live = (parsed[2], decoded.size)
    return Reach(sealed, rows + _keys(writes), live)


def _keys(writes: Sequence[SummaryWrite]) -> int:
    return sum(len(write.values) for write in writes)


def segment_of(stretch: Stretch, identity: StreamIdentity) -> Segment:
    """A stretch as what `Batch.add` takes."""
    return Segment(
        identity, columns=list(stretch.blocks), summaries=list(stretch.writes)
    )
