"""Axes: from values to places between 0 and 1, and the numbers written beside them."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wanllmdb._report.curves import Floats

LOG_SPAN = 1000
"""Positive values whose greatest is so many times the least are drawn by powers."""

_LEAST_POWER, _GREATEST_POWER = -323, 308  # what a double can be
_HUGE = sys.float_info.max
_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis.

    Attributes:
        low: The value at place 0; of a logarithmic axis its exponent of 10.
        high: The value at place 1, greater than `low`.
        is_log: Whether it is logarithmic.
        whole: Whether only whole numbers are marked, as for steps.
    """

    low: float
    high: float
    is_log: bool = False
    whole: bool = False

    def place(self, values: Floats) -> Floats:
        """Where values stand, 0 to 1; NaN stays NaN."""
        import numpy as np

        if self.is_log:
            values = np.log10(values)
        # Halves: the difference of two large doubles is infinite.
        span = self.high / 2 - self.low / 2
        return (values / 2 - self.low / 2) / span

    def ticks(self, most: int) -> list[tuple[float, str]]:
        """At most so many good numbers, each as (place, label)."""
        import numpy as np

        values = _decades(self, most) if self.is_log else _steps(self, most)
        places = self.place(np.array(values)).tolist()
        texts = labels(values)
        # Where neighbouring doubles are far apart two ticks may read the same.
        return list({text: (at, text) for at, text in zip(places, texts)}.values())


def value_axis(low: float, high: float) -> Axis:
    """The axis for values between two numbers, with a little room around them."""
    if low > 0 and high / LOG_SPAN >= low:
        bottom, top = math.log10(low), math.log10(high)
        room = 0.04 * (top - bottom)
        return Axis(bottom - room, top + room, is_log=True)
    room = 0.05 * (high / 2 - low / 2) * 2
    if not room:
        room = min(abs(low) * 0.1, _HUGE / 10) or 1.0
    bottom, top = max(low - room, -_HUGE), min(high + room, _HUGE)
    if not bottom < top:
        bottom, top = -1.0, 1.0
    return Axis(bottom, top)


def position_axis(low: float, high: float, *, whole: bool) -> Axis:
    """The axis for x, which needs no room."""
    if low / 2 == high / 2:
        room = max(0.5, abs(low) * 1e-9)
        return Axis(max(low - room, -_HUGE), min(high + room, _HUGE), whole=whole)
    return Axis(low, high, whole=whole)


def _steps(axis: Axis, most: int) -> list[float]:
    step = _good((axis.high / 2 - axis.low / 2) / most * 2)
    if axis.whole:
        step = max(1.0, step)
    first, last = math.ceil(axis.low / step), math.floor(axis.high / step)
    return [count * step for count in range(first, last + 1)]


def _good(step: float) -> float:
    """The next of 1, 2, 5, 10 ... that is no smaller."""
    power = math.floor(math.log10(step))
    for factor in (1, 2, 5, 10):
        # By its text: 10.0 ** -5 is not exactly 1e-5.
        good = float(f"{factor}e{power}")
        if good >= step:
            return good
    return step


def _decades(axis: Axis, most: int) -> list[float]:
    first, last = math.ceil(axis.low), math.floor(axis.high)
    stride = max(1, -(-(last - first + 1) // most))
    first, last = max(first, _LEAST_POWER), min(last, _GREATEST_POWER)
    return [float(f"1e{power}") for power in range(first, last + 1, stride)]


def labels(values: Sequence[float]) -> list[str]:
    """Numbers as short as they can be told apart, all in one style."""
    sizes = [abs(value) for value in values if value]
    if not sizes:
        return ["0" for _ in values]
    # Evenly spaced numbers without 0 are never that far apart: these are powers of 10.
    decades = max(sizes) >= 100 * min(sizes) and 0 not in values
    if max(sizes) >= 1e15 or min(sizes) < 1e-4:
        gap = math.inf if decades else _gap(values)
        return [_scientific(value, min(gap, abs(value))) for value in values]
    if decades:
        return [_decimal(value) for value in values]
    unit, suffix = next(
        ((u, s) for u, s in _UNITS if max(sizes) >= u * (10 if s == "k" else 1)),
        (1.0, ""),
    )
    scaled = [value / unit for value in values]
    digits = _digits(scaled)
    return [_signed(f"{value:.{digits}f}") + (suffix if value else "")
            for value in scaled]  # fmt: skip


def _digits(values: Sequence[float]) -> int:
    """Decimal places that keep ticks apart."""
    return max(0, -_power(_gap(values)))


def _gap(values: Sequence[float]) -> float:
    gaps = [abs(b - a) for a, b in pairwise(values) if a != b]
    return min(gaps, default=abs(values[0]) or 1.0)


def _power(value: float) -> int:
    return math.floor(math.log10(value) + 1e-6)


def _decimal(value: float) -> str:
    unit, suffix = next(((u, s) for u, s in _UNITS if abs(value) >= u), (1.0, ""))
    return _signed(f"{value / unit:.6g}{suffix}")


def _scientific(value: float, gap: float) -> str:
    if not value:
        return "0"
    places = min(16, max(0, _power(abs(value)) - _power(gap)))
    digits, _, power = f"{value:.{places}e}".partition("e")
    if places:
        digits = digits.rstrip("0").rstrip(".")
    return _signed(f"{digits}e{int(power)}")


def _signed(text: str) -> str:
    return text.replace("-", "−")
