"""Summing up: what the values of each key came to, in constant memory per key.

The writer folds its own rows as it goes; recovery folds a whole log. Both feed the
same frames to the same code, so both come to the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from wanllmdb._metrics.segment import Shape
from wanllmdb.types import JSONValue, KeyStats

KEY_LIMIT = 100_000
"""Distinct keys of a run that are summed up; rows of further keys are only stored."""

Place = tuple[int, int, str, float]
"""Total order of rows: (epoch, ms, stream, ordinal)."""


class KeyFold:
    """The running sums of one key; numbers exclude NaN."""

    __slots__ = (
        "count", "first", "first_place", "last", "last_place", "last_step", "max",
        "min", "nans", "numbers", "sum",
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

    def add_numbers(self, values: Sequence[Any]) -> None:
        """Count in a column of numbers."""
        self.count += len(values)
        total = sum(values)
        if total != total:  # noqa: PLR0124 - some NaN, or inf - inf
            kept = [v for v in values if v == v]  # noqa: PLR0124
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

    def absorb(self, other: KeyFold) -> None:
        """Count in what another fold of the same key saw."""
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
        mean = None if not self.numbers else _mean(self.sum, self.numbers)
        return KeyStats(
            self.count, self.nans, self.last, self.last_step, self.min, self.max, mean
        )


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

    def add_shape(
        self,
        shape: Shape,
        frames: bytes,
        ordinals: Sequence[int],
        epoch: int,
        token: str,
        limit: int | None = None,
    ) -> None:
        """Fold rows of one shape.

        Args:
            shape: Their shape.
            frames: Their frames, end to end.
            ordinals: The ordinal of each.
            epoch: The epoch of their stream.
            token: Their stream.
            limit: Rows of a greater step are superseded and left out.
        """
        rows: Iterable[tuple[Any, ...]] = shape.struct.iter_unpack(frames)
        if limit is not None:
            kept = [(r, n) for r, n in zip(rows, ordinals) if r[2] <= limit]
            if not kept:
                return
            rows, ordinals = zip(*kept)
        _words, _schema, steps, times, *columns = zip(*rows)
        self._note_rows(len(steps), max(steps), times[-1])
        first_at: Place = (epoch, times[0] // 1000, token, ordinals[0])
        last_at: Place = (epoch, times[-1] // 1000, token, ordinals[-1])
        for (key, code), column in zip(shape.present, columns):
            fold = self._key(key)
            if fold is not None:
                fold.add_numbers(column)
                if code == "b":
                    fold.min, fold.max = _as_int(fold.min), _as_int(fold.max)
                fold.note_ends(column[0], first_at, column[-1], last_at, steps[-1])

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
                fold.add_numbers((value,))
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


def _as_int(value: float | int | None) -> float | int | None:
    return int(value) if isinstance(value, bool) else value
