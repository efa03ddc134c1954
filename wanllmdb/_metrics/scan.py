"""From decoded streams to one exact table: visible rows, merged, in step order.

Within a writer the rows of one step merge, per key the last in total order wins;
rows of different writers never merge. NumPy and pyarrow load when this is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from wanllmdb import _json
from wanllmdb._metrics.arrow import array, coded, texts
from wanllmdb._metrics.blocks import blocks
from wanllmdb._metrics.columns import DTYPES, Cells, ColumnRows
from wanllmdb._metrics.decode import VisibleStream
from wanllmdb.types import JSONValue

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

JSON_METADATA = {b"wanllmdb.encoding": b"json"}
"""Marks a column of JSON text: its key held values that share no Arrow type."""

_EXACT_FLOAT_INT = 1 << 53


@dataclass(slots=True)
class _Rows:
    """Columns of the rows themselves, one list item per block."""

    steps: list[Ints] = field(default_factory=list)
    """Times are in ms: the log's us would differ from what is sealed."""
    times: list[Ints] = field(default_factory=list)
    ordinals: list[Ints] = field(default_factory=list)
    epochs: list[Ints] = field(default_factory=list)
    tokens: list[Ints] = field(default_factory=list)
    writers: list[Ints] = field(default_factory=list)


@dataclass(slots=True)
class _Part:
    """Values of one key and type: row numbers and values, side by side."""

    code: str
    rows: Ints
    values: Any


class Scan:
    """All visible rows of a run, ready to be asked for columns.

    Args:
        streams: The run's streams.
        keys: Keys wanted; None for all.
        resolve: Turns a stored value into the user's (blob references); None leaves
            them as they are.
    """

    def __init__(
        self,
        streams: Iterable[VisibleStream],
        keys: Sequence[str] | None = None,
        resolve: Callable[[JSONValue], JSONValue] | None = None,
    ) -> None:
        import numpy as np

        self._np = np
        self._wanted = None if keys is None else frozenset(keys)
        self._parts: dict[str, list[_Part]] = {}
        self._rows = _Rows()
        self._count = 0
        self.writers: list[str] = []
        for rank, stream in enumerate(sorted(streams, key=lambda s: s.token)):
            for decoded in stream.segments:
                for block in blocks(decoded, resolve):
                    self._add_block(block, stream, rank)
        self._order()

    @property
    def keys(self) -> list[str]:
        """Keys found, in the order of first appearance."""
        return list(self._parts)

    def table(self, start_us: int) -> pa.Table:
        """An Arrow table: `_step, _timestamp, _runtime, _writer`, then the keys.

        Args:
            start_us: When the run started, for `_runtime` (seconds).
        """
        import pyarrow as pa

        names = coded(self._writer_ids, self.writers)
        columns = {
            "_step": array(self._steps),
            "_timestamp": array(self._times / 1e3),
            "_runtime": array((self._times - start_us // 1000) / 1e3),
            "_writer": names.cast(pa.string()),
        }
        fields = [pa.field(name, column.type) for name, column in columns.items()]
        arrays = list(columns.values())
        for key, parts in self._parts.items():
            column, metadata = self._column(parts)
            fields.append(pa.field(key, column.type, metadata=metadata))
            arrays.append(column)
        return pa.Table.from_arrays(arrays, schema=pa.schema(fields))

    def dicts(self, start_us: int) -> Iterator[dict[str, JSONValue]]:
        """Each row as a dict of Python's own types; keys it lacks are absent."""
        columns = []
        for key, parts in self._parts.items():
            cells: list[Any] = [_ABSENT] * self._groups
            for part in self._one_per_cell([p for p in parts if p.code != "n"]):
                values = part.values
                if not isinstance(values, list):
                    values = values.tolist()
                for row, value in zip(self._target(part).tolist(), values, strict=True):
                    cells[row] = value
            for part in parts:  # None shows only where nothing else was logged
                for row in self._target(part).tolist() if part.code == "n" else ():
                    cells[row] = None if cells[row] is _ABSENT else cells[row]
            columns.append((key, cells))
        for index in range(self._groups):
            time_ms = int(self._times[index])
            found: dict[str, JSONValue] = {
                "_step": int(self._steps[index]),
                "_timestamp": time_ms / 1e3,
                "_runtime": (time_ms - start_us // 1000) / 1e3,
                "_writer": self.writers[self._writer_ids[index]],
            }
            for key, cells in columns:
                if cells[index] is not _ABSENT:
                    found[key] = cells[index]
            yield found

    def pieces(self) -> list[tuple[str, ColumnRows]]:
        """The rows as `table` shows them, by writer: (writer, rows in step order).

        Each row is there once, and per row and key the value that shows.
        """
        found = []
        for number, writer in enumerate(self.writers):
            at = self._np.flatnonzero(self._writer_ids == number)
            if not len(at):
                continue
            place = self._np.full(self._groups, -1, self._np.int64)
            place[at] = self._np.arange(len(at))
            cells = []
            for key, parts in self._parts.items():
                cells += self._cells_of(key, parts, place)
            found.append(
                (writer, ColumnRows(at, self._steps[at], self._times[at] * 1000, cells))
            )
        return found

    def _cells_of(self, key: str, parts: list[_Part], place: Ints) -> list[Cells]:
        """A key's values of the rows that have a place, one per row and type."""
        np = self._np
        made = []
        told = np.zeros(len(place), bool)
        valued = self._one_per_cell([p for p in parts if p.code != "n"])
        nones = [p for p in parts if p.code == "n"]
        for part in [*valued, *nones]:
            target = self._target(part)
            values = part.values
            last = np.full(self._groups, -1, np.int64)
            last[target] = np.arange(len(target))  # of several, the last one stays
            groups = np.flatnonzero((last >= 0) & (place >= 0))
            if part.code == "n":
                groups = groups[~told[groups]]
            told[groups] = True
            if len(groups):
                chosen = last[groups]
                held = (
                    [values[i] for i in chosen.tolist()]
                    if isinstance(values, list) else values[chosen]
                )  # fmt: skip
                made.append(Cells(key, part.code, place[groups], held))
        return made

    def shown(self) -> Iterator[tuple[str, list[JSONValue]]]:
        """Each key's values in total order, None left out: one per row that has it."""
        for key, parts in self._parts.items():
            cells: dict[int, tuple[int, JSONValue]] = {}
            for part in parts:
                if part.code == "n":
                    continue
                rows = part.rows.tolist()
                ranks = rows if self._rank is None else self._rank[part.rows].tolist()
                groups = self._group[part.rows].tolist()
                values = part.values
                if not isinstance(values, list):
                    values = values.tolist()
                for group, rank, value in zip(groups, ranks, values, strict=True):
                    if group not in cells or rank > cells[group][0]:
                        cells[group] = (rank, value)
            yield key, [value for _, value in sorted(cells.values(), key=_rank_of)]

    def _add_block(self, block: ColumnRows, stream: VisibleStream, rank: int) -> None:
        np = self._np
        steps, times, ordinals = block.steps, block.times, block.ordinals
        kept = self._visible(steps, ordinals, stream)
        if kept is not None:
            steps, times, ordinals = steps[kept], times[kept], ordinals[kept]
        if not len(steps):
            return
        rows = self._add_rows(steps, times, ordinals, stream, rank)
        place = None if kept is None else np.cumsum(kept) - 1
        for cells in block.cells:
            if not self._wants(cells.key):
                continue
            at, values = cells.rows, cells.values
            if kept is not None and place is not None:
                own = np.arange(len(kept)) if at is None else at
                shown = kept[own]
                at = place[own[shown]]
                values = (
                    [v for v, show in zip(values, shown, strict=True) if show]
                    if isinstance(values, list) else values[shown]
                )  # fmt: skip
            if at is None or len(at):
                self._add_part(
                    cells.key,
                    _Part(cells.code, rows if at is None else rows[at], values),
                )

    def _wants(self, key: str) -> bool:
        return self._wanted is None or key in self._wanted

    def _visible(
        self, steps: Ints, ordinals: Ints, s: VisibleStream
    ) -> NDArray[np.bool_] | None:
        if s.limit is None and s.max_rows is None:
            return None
        kept = self._np.ones(len(steps), bool)
        if s.limit is not None:
            kept &= steps <= s.limit
        if s.max_rows is not None:
            kept &= ordinals < s.max_rows
        return kept

    def _add_rows(
        self,
        steps: Ints,
        times: Ints,
        ordinals: Ints,
        stream: VisibleStream,
        rank: int,
    ) -> Ints:
        np = self._np
        count = len(steps)
        if stream.writer not in self.writers:
            self.writers.append(stream.writer)
        self._rows.steps.append(steps)
        self._rows.times.append(times // 1000)
        self._rows.ordinals.append(ordinals)
        self._rows.epochs.append(np.full(count, stream.epoch, np.int64))
        self._rows.tokens.append(np.full(count, rank, np.int64))
        writer = self.writers.index(stream.writer)
        self._rows.writers.append(np.full(count, writer, np.int64))
        rows: Ints = np.arange(self._count, self._count + count)
        self._count += count
        return rows

    def _add_part(self, key: str, part: _Part) -> None:
        self._parts.setdefault(key, []).append(part)

    def _order(self) -> None:
        """Find each row's place in total order and its group in the result."""
        np = self._np

        def joined(blocks: list[Ints]) -> Ints:
            whole: Ints = np.concatenate(blocks) if blocks else np.empty(0, np.int64)
            return whole

        steps, times = joined(self._rows.steps), joined(self._rows.times)
        writers, tokens = joined(self._rows.writers), joined(self._rows.tokens)
        self._rank: Ints | None = None
        one_stream = len(tokens) == 0 or bool(np.all(tokens == tokens[0]))
        if one_stream and bool(np.all(steps[1:] > steps[:-1])):
            # The common case: nothing to merge, the file is in order already.
            self._group = np.arange(len(steps))
            self._steps, self._times, self._writer_ids = steps, times, writers
            self._groups = len(steps)
            return
        order = np.lexsort(
            (
                joined(self._rows.ordinals),
                tokens,
                times,
                joined(self._rows.epochs),
            )
        )
        self._rank = np.empty(len(order), np.int64)
        self._rank[order] = np.arange(len(order))
        by_group = np.lexsort((self._rank, writers, steps))
        changed = np.ones(len(order), bool)
        changed[1:] = (np.diff(steps[by_group]) != 0) | (
            np.diff(writers[by_group]) != 0
        )
        number = np.cumsum(changed) - 1
        self._group = np.empty(len(order), np.int64)
        self._group[by_group] = number
        self._groups = int(number[-1]) + 1 if len(number) else 0
        last = np.flatnonzero(np.append(changed[1:], True)) if len(number) else number
        chosen = by_group[last]  # the last row of a group gives it its time
        self._steps, self._times = steps[chosen], times[chosen]
        self._writer_ids = writers[chosen]

    def _target(self, part: _Part) -> Ints:
        """The result rows of a part, which is first put in total order."""
        if self._rank is not None:
            rank = self._rank[part.rows]
            if bool(self._np.any(rank[1:] < rank[:-1])):
                order = self._np.argsort(rank, kind="stable")
                part.rows = part.rows[order]
                if isinstance(part.values, list):
                    part.values = [part.values[i] for i in order]
                else:
                    part.values = part.values[order]
        target: Ints = self._group[part.rows]
        return target

    def _column(self, parts: list[_Part]) -> tuple[pa.Array, dict[bytes, bytes] | None]:

        np = self._np
        parts = self._one_per_cell([p for p in parts if p.code != "n"])
        codes = {part.code for part in parts}
        if codes == {"d", "q"} and all(
            part.code == "d" or bool(np.all(np.abs(part.values) <= _EXACT_FLOAT_INT))
            for part in parts
        ):
            codes = {"d"}
        if len(codes) == 1 and (code := next(iter(codes))) in DTYPES:
            return self._typed(parts, DTYPES[code]), None
        cells: list[Any] = [None] * self._groups
        as_text = codes <= {"s"}
        for part in parts:
            values = part.values
            values = values if isinstance(values, list) else values.tolist()
            for row, value in zip(self._target(part).tolist(), values, strict=True):
                cells[row] = value if as_text else _json.dumps(value)
        return texts(cells), None if as_text else JSON_METADATA

    def _typed(self, parts: list[_Part], dtype: str) -> pa.Array:

        np = self._np
        if len(parts) == 1 and len(parts[0].rows) == self._groups:
            target = self._target(parts[0])
            if bool(np.all(target[1:] > target[:-1])):
                return array(parts[0].values.astype(dtype))
        out = np.zeros(self._groups, dtype)
        missing = np.ones(self._groups, bool)
        for part in parts:
            target = self._target(part)
            out[target] = part.values
            missing[target] = False
        return array(out, missing)

    def _one_per_cell(self, parts: list[_Part]) -> list[_Part]:
        """Drop values that a later one of the same cell, in another part, replaces."""
        if self._rank is None or len(parts) < 2:
            return parts
        np = self._np
        latest = np.full(self._groups, -1, np.int64)
        for part in parts:
            np.maximum.at(latest, self._group[part.rows], self._rank[part.rows])
        kept = []
        for part in parts:
            wins = self._rank[part.rows] == latest[self._group[part.rows]]
            if wins.any():
                values = part.values
                if isinstance(values, list):
                    values = [v for v, w in zip(values, wins, strict=True) if w]
                else:
                    values = values[wins]
                kept.append(_Part(part.code, part.rows[wins], values))
        return kept


_ABSENT = object()
_rank_of = itemgetter(0)
