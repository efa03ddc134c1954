"""Summing up: what the values of each key came to, in constant memory per key.

The writer folds its own rows as it goes; recovery folds a whole log. Both feed the
same frames to the same code, so both come to the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from operator import ge, itemgetter
from typing import Any

from wanllmdb._metrics.segment import Shape
from wanllmdb.types import INT64_MAX, JSONValue, KeyStats

KEY_LIMIT = 100_000
"""Distinct keys of a run that are summed up; rows of further keys are only stored."""

Block = tuple[Shape, bytes, Sequence[int]]
"""Rows of one shape: their frames end to end, and their ordinals."""

Place = tuple[int, int, str, float]
"""Total order of rows: (epoch, ms, stream, ordinal)."""


class KeyFold:
    """The running sums of one key; numbers exclude NaN.

    The number of the newest step stays open: another row of the same step replaces
    it, as it does in the merged history.
    """

    __slots__ = (
        "count", "first", "first_place", "last", "last_place", "last_step", "max",
        "min", "nans", "numbers", "open", "open_step", "sum",
    )  # fmt: skip

    def __init__(self) -> None:
        self.count = 0
        self.nans = 0
        self.numbers = 0
        self.sum: float | int = 0
        self.min: float | int | None = None
        self.max: float | int | None = None
        self.first: JSONValue = None
        self.last: JSONValue = None
        self.last_step: int | None = None
        self.first_place: Place | None = None
        self.last_place: Place | None = None
        self.open: Any = None
        self.open_step: int | None = None

    def add_numbers(self, values: Sequence[Any], steps: Sequence[int]) -> None:
        """Count in a column of numbers whose steps differ from row to row."""
        if self.open_step != steps[0]:
            self.close()
        if len(values) > 1:
            self._count(values[:-1])
        self.open, self.open_step = values[-1], steps[-1]

    def close(self) -> None:
        """Count the open number: no further row of its step can come."""
        if self.open_step is not None:
            self._count((self.open,))
            self.open = self.open_step = None

    def _count(self, values: Sequence[Any]) -> None:
        self.count += len(values)
        total = sum(values)
        if total != total:
            kept = [v for v in values if v == v]
            self.nans += len(values) - len(kept)
            if not kept:
                return
            values, total = kept, sum(kept)
        low, high = min(values), max(values)
        self.numbers += len(values)
        self.sum += total
        self.min = low if self.min is None else min(self.min, low)
        self.max = high if self.max is None else max(self.max, high)

    def note_ends(
        self, first: JSONValue, first_at: Place, last: JSONValue, at: Place, step: int
    ) -> None:
        """Take over the first and last value, by total order."""
        if self.first_place is None or first_at < self.first_place:
            self.first, self.first_place = first, first_at
        if self.last_place is None or at >= self.last_place:
            self.last, self.last_place, self.last_step = last, at, step

    def closed(self) -> KeyFold:
        """A copy with nothing open."""
        same = copy(self)
        same.close()
        return same

    def absorb(self, other: KeyFold) -> None:
        """Count in what another fold of the same key saw."""
        self.close()
        other = other.closed()
        self.count += other.count
        self.nans += other.nans
        self.numbers += other.numbers
        self.sum += other.sum
        for low in [v for v in (other.min,) if v is not None]:
            self.min = low if self.min is None else min(self.min, low)
        for high in [v for v in (other.max,) if v is not None]:
            self.max = high if self.max is None else max(self.max, high)
        if other.first_place is not None and other.last_place is not None:
            self.note_ends(
                other.first, other.first_place, other.last, other.last_place,
                other.last_step or 0,
            )  # fmt: skip

    def stats(self) -> KeyStats:
        """The sums as a record."""
        whole = self.closed()
        mean = None if not whole.numbers else _mean(whole.sum, whole.numbers)
        return KeyStats(
            whole.count, whole.nans, whole.last, whole.last_step, _as_int(whole.min),
            _as_int(whole.max), mean,
        )  # fmt: skip


def _mean(total: float, count: int) -> float:
    try:
        return total / count
    except OverflowError:  # an int sum beyond the floats
        return float("inf") if total > 0 else float("-inf")


class Fold:
    """Statistics per key, and what the user wrote into the summary."""

    def __init__(self) -> None:
        self.keys: dict[str, KeyFold] = {}
        self.written: dict[str, tuple[Place, JSONValue]] = {}
        self.last_step: int | None = None
        self.last_us: int | None = None
        self.rows = 0
        self.overflowed = False

    def add_blocks(
        self,
        blocks: Sequence[Block],
        epoch: int,
        token: str,
        limit: int | None = None,
        max_rows: int | None = None,
    ) -> None:
        """Fold rows of one stream that follow all rows folded before.

        Args:
            blocks: (shape, frames end to end, ordinals) of each shape.
            epoch: The epoch of the stream.
            token: The stream.
            limit: Rows of a greater step are superseded and left out.
            max_rows: Rows from this ordinal on are left out.
        """
        tables = []
        for shape, frames, ordinals in blocks:
            rows: Any = shape.struct.iter_unpack(frames)
            if limit is not None or max_rows is not None:
                top = INT64_MAX if limit is None else limit
                end = INT64_MAX if max_rows is None else max_rows
                pairs = zip(rows, ordinals, strict=True)
                kept = [(r, n) for r, n in pairs if r[2] <= top and n < end]
                rows, ordinals = [r for r, _ in kept], [n for _, n in kept]
            columns = list(zip(*rows, strict=True))
            if columns:
                tables.append((shape, columns, ordinals))
        if _independent(tables):
            for shape, columns, ordinals in tables:
                self._add_table(shape, columns, ordinals, epoch, token)
        else:
            self._add_in_order(tables, epoch, token)

    def _add_table(
        self, shape: Shape, columns: Any, ordinals: Any, epoch: int, token: str
    ) -> None:
        _words, _schema, steps, times, *cells = columns
        self._note_rows(len(steps), max(steps), times[-1])
        first_at: Place = (epoch, times[0] // 1000, token, ordinals[0])
        last_at: Place = (epoch, times[-1] // 1000, token, ordinals[-1])
        for (key, _), column in zip(shape.present, cells, strict=True):
            fold = self._key(key)
            if fold is not None:
                fold.add_numbers(column, steps)
                fold.note_ends(column[0], first_at, column[-1], last_at, steps[-1])

    def _add_in_order(self, tables: Any, epoch: int, token: str) -> None:
        """Row by row: shapes share keys at the same steps, or a step repeats."""
        rows = []
        for shape, columns, ordinals in tables:
            keys = [key for key, _ in shape.present]
            rows += [
                (ordinal, keys, row)
                for ordinal, row in zip(
                    ordinals, zip(*columns, strict=True), strict=True
                )
            ]
        rows.sort(key=itemgetter(0))
        for ordinal, keys, (_words, _schema, step, time_us, *cells) in rows:
            place = (epoch, time_us // 1000, token, ordinal)
            self.add_row(dict(zip(keys, cells, strict=True)), step, time_us, place)

    def end_stream(self) -> None:
        """Rows of another writer never replace those of this one."""
        for fold in self.keys.values():
            fold.close()

    def add_row(
        self, row: Mapping[str, JSONValue], step: int, time_us: int, place: Place
    ) -> None:
        """Fold one row of any values."""
        self._note_rows(1, step, time_us)
        for key, value in row.items():
            fold = self._key(key)
            if fold is None or value is None:
                continue
            if isinstance(value, (bool, int, float)):
                fold.add_numbers((value,), (step,))
            else:
                fold.count += 1
            fold.note_ends(value, place, value, place, step)

    def write_summary(self, values: Mapping[str, JSONValue], place: Place) -> None:
        """Take over what the user set; a later log of the key wins again."""
        for key, value in values.items():
            known = self.written.get(key)
            if known is None or place >= known[0]:
                self.written[key] = (place, value)

    def merged(self, other: Fold) -> Fold:
        """A new fold: this one's rows, and another's."""
        whole = Fold()
        for part in (self, other):
            for key, fold in part.keys.items():
                mine = whole._key(key)
                if mine is not None:
                    mine.absorb(fold)
            for key, (place, value) in part.written.items():
                whole.write_summary({key: value}, place)
            if part.last_step is not None and part.last_us is not None:
                whole._note_rows(part.rows, part.last_step, part.last_us)
        return whole

    def stats(self) -> dict[str, KeyStats]:
        """The statistics of every key, in the order of first appearance."""
        return {key: fold.stats() for key, fold in self.keys.items()}

    def entries(self) -> list[tuple[Place, str, JSONValue, bool]]:
        """(place, key, value, written by the user) in total order."""
        found = [
            (fold.last_place, key, fold.last, False)
            for key, fold in self.keys.items()
            if fold.last_place is not None
        ]
        found += [(at, key, value, True) for key, (at, value) in self.written.items()]
        return sorted(found, key=itemgetter(0))

    def _note_rows(self, count: int, step: int, time_us: int) -> None:
        self.rows += count
        if self.last_step is None or step > self.last_step:
            self.last_step = step
        if self.last_us is None or time_us > self.last_us:
            self.last_us = time_us

    def _key(self, key: str) -> KeyFold | None:
        fold = self.keys.get(key)
        if fold is None:
            if len(self.keys) >= KEY_LIMIT:
                self.overflowed = True
                return None
            fold = self.keys[key] = KeyFold()
        return fold


def _independent(tables: Sequence[Any]) -> bool:
    """Whether each shape can be folded on its own: no cell has two values."""
    seen: set[str] = set()
    shared = False
    for shape, columns, _ in tables:
        steps = columns[2]
        if any(map(ge, steps, steps[1:])):
            return False
        keys = {key for key, _ in shape.present}
        shared = shared or not seen.isdisjoint(keys)
        seen |= keys
    if not shared:
        return True
    count = sum(len(columns[2]) for _, columns, _ in tables)
    return count == len({step for _, columns, _ in tables for step in columns[2]})


def _as_int(value: float | int | None) -> float | int | None:
    return int(value) if isinstance(value, bool) else value
