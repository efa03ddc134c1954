"""Summing up: what the values of each key came to, in constant memory per key.

The writer folds its own rows as it goes; recovery folds a whole log. Both feed the
same rows to the same code, so both come to the same numbers.

A value that a later row of the same step replaces must not count. While steps rise,
only the newest step of a key can be written again, so one open value per key is
enough. Where a writer's steps went back, `Fold.overlaps` says so, and `Fold.recount`
takes the merged values instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from math import inf, isfinite
from operator import ge, itemgetter
from typing import Any

from wanllmdb._metrics.segment import Shape
from wanllmdb.types import JSONValue, KeyStats

KEY_LIMIT = 100_000
"""Distinct keys of a run that are summed up; rows of further keys are only stored."""

Row = tuple[Any, ...]
"""A row of a fixed shape: (step, time in us, value, ...), as its struct reads it."""

Table = tuple[Shape, Sequence[Row], Sequence[int]]
"""Rows of one shape in order, and their ordinals."""

Object = tuple[int, int, int, Mapping[str, JSONValue]]
"""A row of any values: (ordinal, step, time in us, values)."""

Place = tuple[int, int, str, float]
"""Total order of rows: (epoch, ms, stream, ordinal)."""


_NUMBERS = (bool, int, float)
_INFINITIES = (inf, -inf)

Span = tuple[int, int]
"""The least and the greatest step of a stretch of rows."""


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
        sure = values[:-1]
        if self.open_step is not None and self.open_step != steps[0]:
            if isinstance(self.open, _NUMBERS):
                sure = (self.open, *sure)
            else:
                self.close()
        if sure:
            self.count_in(sure)
        self.open, self.open_step = values[-1], steps[-1]

    def add_other(self, value: JSONValue, step: int) -> None:
        """Count in a value that is no number."""
        if self.open_step != step:
            self.close()
        self.open, self.open_step = value, step

    def restart(self) -> None:
        """Forget what was counted; first and last stay."""
        self.count = self.nans = self.numbers = 0
        self.sum = 0
        self.min = self.max = self.open = self.open_step = None

    def close(self) -> None:
        """Count the open number: no further row of its step can come."""
        if self.open_step is not None:
            if isinstance(self.open, _NUMBERS):
                self.count_in((self.open,))
            else:
                self.count += 1
            self.open = self.open_step = None

    def count_in(self, values: Sequence[Any]) -> None:
        """Count in numbers of which none will be replaced."""
        self.count += len(values)
        total = _sum(values)
        if total != total:
            kept = [v for v in values if v == v]
            self.nans += len(values) - len(kept)
            if not kept:
                return
            values, total = kept, _sum(kept)
        low, high = min(values), max(values)
        self.numbers += len(values)
        self.sum = _sum((self.sum, total))
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
        self.sum = _sum((self.sum, other.sum))
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


def _sum(values: Sequence[Any]) -> Any:
    """The sum of numbers; a Fraction where it is beyond the floats, or one of them is.

    Thus the mean of two great floats is their mean.
    """
    try:
        total = sum(values)
        if total not in _INFINITIES or not all(map(isfinite, values)):
            return total
    except OverflowError:  # an int beyond the floats, among floats
        pass
    from fractions import Fraction

    infinite = [v for v in values if v in _INFINITIES or v != v]
    return sum(infinite) if infinite else sum(map(Fraction, values))


def _mean(total: Any, count: int) -> float:
    try:
        return float(total / count)
    except OverflowError:
        return inf if total > 0 else -inf


class Fold:
    """Statistics per key, and what the user wrote into the summary.

    Attributes:
        keys: The sums of each key, in the order of first appearance.
        written: What the user wrote into the summary, and when.
        last_step: The greatest step, None before the first row.
        last_us: The latest time.
        rows: Rows folded.
        overlaps: Whether a writer's steps went back, so that values that were
            replaced may be counted.
        overflowed: Whether there were keys beyond `KEY_LIMIT`.
        writes: How often something was written into the summary.
    """

    def __init__(self, writer: str = "primary") -> None:
        self.keys: dict[str, KeyFold] = {}
        self.written: dict[str, tuple[Place, JSONValue]] = {}
        self.last_step: int | None = None
        self.last_us: int | None = None
        self.rows = 0
        self.overlaps = False
        self.overflowed = False
        self.writes = 0
        self._writer = writer
        self._span: Span | None = None
        self._spans: dict[str, Span] = {}

    def add_rows(
        self,
        tables: Sequence[Table],
        objects: Sequence[Object],
        epoch: int,
        token: str,
    ) -> None:
        """Fold rows of one stream that follow all rows folded before.

        Args:
            tables: Rows of fixed shapes.
            objects: Rows of any values.
            epoch: The epoch of the stream.
            token: The stream.
        """
        columns = [
            (shape, list(zip(*rows, strict=True)), ordinals)
            for shape, rows, ordinals in tables
            if rows
        ]
        if not objects and _independent(columns):
            self._note_block([table[1] for table in columns])
            for shape, cells, ordinals in columns:
                self._add_columns(shape, cells, ordinals, epoch, token)
        else:
            self._add_in_order(tables, objects, epoch, token)

    def _add_columns(
        self,
        shape: Shape,
        columns: Sequence[Any],
        ordinals: Sequence[int],
        epoch: int,
        token: str,
    ) -> None:
        steps, times, *cells = columns
        first_at: Place = (epoch, times[0] // 1000, token, ordinals[0])
        last_at: Place = (epoch, times[-1] // 1000, token, ordinals[-1])
        for (key, _), column in zip(shape.present, cells, strict=True):
            fold = self._key(key)
            if fold is not None:
                fold.add_numbers(column, steps)
                fold.note_ends(column[0], first_at, column[-1], last_at, steps[-1])

    def _add_in_order(
        self,
        tables: Sequence[Table],
        objects: Sequence[Object],
        epoch: int,
        token: str,
    ) -> None:
        """Row by row: shapes share keys at the same steps, or a step repeats."""
        found: list[Object] = [*objects]
        for shape, rows, ordinals in tables:
            keys = [key for key, _ in shape.present]
            for ordinal, (step, time_us, *cells) in zip(ordinals, rows, strict=True):
                row = dict(zip(keys, cells, strict=True))
                found.append((ordinal, step, time_us, row))
        found.sort(key=itemgetter(0))
        for ordinal, step, time_us, values in found:
            place = (epoch, time_us // 1000, token, ordinal)
            self.add_row(values, step, time_us, place)

    def begin_stream(self, writer: str) -> None:
        """The rows that follow are another stream's.

        Rows of another writer never replace those of the one before.
        """
        for fold in self.keys.values():
            fold.close()
        self._end_span()
        self._writer = writer

    def _end_span(self) -> None:
        """Keep the range of steps that a writer has covered so far."""
        if self._span is not None:
            whole = self._spans.get(self._writer)
            if whole is not None:
                self.overlaps = self.overlaps or _meet(whole, self._span)
                low, high = whole
                self._span = (min(low, self._span[0]), max(high, self._span[1]))
            self._spans[self._writer] = self._span
            self._span = None

    def recount(self, key: str, values: Sequence[JSONValue]) -> None:
        """Replace a key's sums by those of its merged values, in total order."""
        fold = self.keys.get(key)
        if fold is None:  # only None was logged, or it came after too many others
            return
        fold.restart()
        numbers = [v for v in values if isinstance(v, _NUMBERS)]
        if numbers:
            fold.count_in(numbers)
        fold.count += len(values) - len(numbers)
        fold.first = values[0] if values else None

    def add_row(
        self, row: Mapping[str, JSONValue], step: int, time_us: int, place: Place
    ) -> None:
        """Fold one row of any values."""
        self._note_rows(1, step, step, time_us)
        for key, value in row.items():
            # None is no value: where nothing else is logged, there is no such key.
            fold = None if value is None else self._key(key)
            if fold is None:
                continue
            if isinstance(value, _NUMBERS):
                fold.add_numbers((value,), (step,))
            else:
                fold.add_other(value, step)
            fold.note_ends(value, place, value, place, step)

    def write_summary(self, values: Mapping[str, JSONValue], place: Place) -> None:
        """Take over what the user set; a later log of the key wins again."""
        self.writes += 1
        for key, value in values.items():
            known = self.written.get(key)
            if known is None or place >= known[0]:
                self.written[key] = (place, value)

    def merged(self, other: Fold) -> Fold:
        """A new fold: this one's rows, and then another's."""
        whole = Fold(other._writer)
        for part in (self, other):
            for key, fold in part.keys.items():
                mine = whole._key(key)
                if mine is not None:
                    mine.absorb(fold)
            for key, (place, value) in part.written.items():
                whole.write_summary({key: value}, place)
            whole.rows += part.rows
            whole.last_step = _largest(whole.last_step, part.last_step)
            whole.last_us = _largest(whole.last_us, part.last_us)
            whole.overlaps = whole.overlaps or part.overlaps
            spans = [*part._spans.items()]
            if part._span is not None:
                spans.append((part._writer, part._span))
            for writer, span in spans:
                whole._writer, whole._span = writer, span
                whole._end_span()
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

    def _note_block(self, tables: Sequence[Sequence[Any]]) -> None:
        """Note rows of several shapes, none of which replaces another's."""
        if tables:
            rows = sum(len(steps) for steps, *_ in tables)
            first = min(steps[0] for steps, *_ in tables)
            last = max(steps[-1] for steps, *_ in tables)
            latest = max(times[-1] for _, times, *_ in tables)
            self._note_rows(rows, first, last, latest)

    def _note_rows(self, count: int, first: int, last: int, time_us: int) -> None:
        """Take over the steps (rising from first to last) and the time of rows."""
        self.rows += count
        low, high = self._span or (first, first)
        if first < high:
            self.overlaps = True  # back behind a step that may hold a value already
        self._span = (min(low, first), max(high, last))
        self.last_step = _largest(self.last_step, last)
        self.last_us = _largest(self.last_us, time_us)

    def _key(self, key: str) -> KeyFold | None:
        fold = self.keys.get(key)
        if fold is None:
            if len(self.keys) >= KEY_LIMIT:
                self.overflowed = True
                return None
            fold = self.keys[key] = KeyFold()
        return fold


def _independent(tables: Sequence[tuple[Shape, Sequence[Any], Any]]) -> bool:
    """Whether each shape can be folded on its own: no cell has two values."""
    seen: set[str] = set()
    shared = False
    for shape, columns, _ in tables:
        steps = columns[0]
        if any(map(ge, steps, steps[1:])):
            return False
        keys = {key for key, _ in shape.present}
        shared = shared or not seen.isdisjoint(keys)
        seen |= keys
    if not shared:
        return True
    count = sum(len(columns[0]) for _, columns, _ in tables)
    return count == len({step for _, columns, _ in tables for step in columns[0]})


def _meet(one: Span, other: Span) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]


def _largest(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else max(one, other)


def _as_int(value: float | int | None) -> float | int | None:
    return int(value) if isinstance(value, bool) else value
