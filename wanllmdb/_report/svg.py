"""Charts as inline SVG: a smooth line over the band of what was logged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wanllmdb._markup import escape, number
from wanllmdb._report.curves import Curve
from wanllmdb._report.ticks import Axis, position_axis, value_axis

if TYPE_CHECKING:
    from wanllmdb._report.curves import Floats

WIDTH, HEIGHT = 400, 210
TOP, RIGHT, BOTTOM = 8, 12, 34
FINE = 10
"""Curves are drawn in tenths of a unit, as whole numbers: that halves the file."""

CHARACTER = 6.4
"""Width of a digit of a tick's label."""

FEW = 3
"""Bands of more runs are drawn fainter."""

WIDE = 8
"""Characters of a label from which on few of them fit beside each other."""

SMOOTHED = 0.015
"""Share of a curve's points over which its line is smoothed."""


@dataclass(frozen=True, slots=True)
class Series:
    """One run's curve in a chart.

    Attributes:
        label: What the run is called.
        color: Its number in the palette.
        curve: Its values.
    """

    label: str
    color: int
    curve: Curve


def chart(name: str, series: Sequence[Series], x_name: str, *, whole: bool) -> str:
    """One metric of one or more runs.

    Args:
        name: The metric.
        series: A curve for each run that logged it.
        x_name: What x is.
        whole: Whether x is counted in whole numbers.
    """
    drawn = [one for one in series if one.curve.last is not None]
    title = f"<title>{escape(described(name, series))}</title>"
    head = (f'<svg role="img" viewBox="0 0 {WIDTH} {HEIGHT}" '
            f'xmlns="http://www.w3.org/2000/svg">')  # fmt: skip
    if not drawn:
        middle = f'<text class="none" x="{WIDTH // 2}" y="{HEIGHT // 2}">'
        return f"{head}{title}{middle}nothing finite to draw</text></svg>"
    x_axis, y_axis = axes(drawn, whole=whole)
    y_ticks = y_axis.ticks(5)
    left = 12 + round(CHARACTER * max(4, *(len(text) for _, text in y_ticks)))
    width, height = WIDTH - left - RIGHT, HEIGHT - TOP - BOTTOM
    frame = "".join(
        [*_y_marks(y_ticks, left, height), *_x_marks(x_axis, left, width, x_name)]
    )
    shapes = [_shapes(one, x_axis, y_axis, width, height) for one in drawn]
    kind = "many" if len(drawn) > FEW else "few"
    bands = "".join(band for band, _ in shapes)
    lines = "".join(line for _, line in shapes)  # above the bands of all runs
    shift = f'<g class="{kind}" transform="translate({left} {TOP}) scale({1 / FINE})">'
    return f"{head}{title}{frame}{shift}{bands}{lines}</g></svg>"


def sample(color: int) -> str:
    """A piece of a run's line, for legends; markup."""
    return (f'<svg class="key r{color}" viewBox="0 0 26 8" aria-hidden="true">'
            f'<path class="line" d="M1 4H25"/></svg>')  # fmt: skip


def described(name: str, series: Sequence[Series]) -> str:
    """A chart in words, for those who cannot see it; plain text."""
    return "\n".join([name, *(f"{one.label}: {reading(one.curve)}" for one in series)])


def reading(curve: Curve) -> str:
    """What a curve came to; plain text."""
    import numpy as np

    if curve.last is None:
        return "no finite number"
    low, high = float(np.nanmin(curve.low)), float(np.nanmax(curve.high))
    return f"last {number(curve.last)}, from {number(low)} to {number(high)}"


def axes(series: Sequence[Series], *, whole: bool) -> tuple[Axis, Axis]:
    """The axes that hold all curves; one of them at least has a finite value."""
    import numpy as np

    x_low = min(float(one.curve.x[0]) for one in series)
    x_high = max(float(one.curve.x[-1]) for one in series)
    low = min(float(np.nanmin(one.curve.low)) for one in series)
    high = max(float(np.nanmax(one.curve.high)) for one in series)
    return position_axis(x_low, x_high, whole=whole), value_axis(low, high)


def _y_marks(
    ticks: Sequence[tuple[float, str]], left: int, height: int
) -> Iterator[str]:
    for place, text in ticks:
        y = TOP + (1 - place) * height
        yield f'<path class="grid" d="M{left} {y:.1f}H{WIDTH - RIGHT}"/>'
        yield f'<text class="y" x="{left - 6}" y="{y + 3.5:.1f}">{text}</text>'


def _x_marks(axis: Axis, left: int, width: int, name: str) -> Iterator[str]:
    bottom = HEIGHT - BOTTOM
    yield f'<path class="base" d="M{left} {bottom}H{left + width}"/>'
    ticks = axis.ticks(5)
    if max((len(text) for _, text in ticks), default=0) > WIDE:
        ticks = axis.ticks(2)
    for place, text in ticks:
        x = left + place * width
        # The last label would else leave the picture.
        anchor = ' text-anchor="end"' if place > 0.97 else ""
        yield f'<path class="base" d="M{x:.1f} {bottom}v4"/>'
        yield f'<text class="x" x="{x:.1f}" y="{bottom + 15}"{anchor}>{text}</text>'
    middle = left + width / 2
    yield f'<text class="name" x="{middle:.0f}" y="{HEIGHT - 3}">{escape(name)}</text>'


def _shapes(
    one: Series, x_axis: Axis, y_axis: Axis, width: int, height: int
) -> tuple[str, str]:
    """The band and the line of a curve."""
    curve = one.curve
    x = x_axis.place(curve.x) * width * FINE
    low, mean, high = (
        (1 - y_axis.place(values)) * height * FINE
        for values in (curve.low, curve.mean, curve.high)
    )
    line = smoothed(mean)
    bands, lines, dots = [], [], []
    for part in stretches(mean):
        if part.stop - part.start == 1:
            dots.append(_path(x[part], mean[part]) + "h1")
        else:
            bands.append(_band(x[part], low[part], high[part]))
            lines.append(_path(x[part], line[part]))
    color = f"r{one.color}"
    return (
        _drawn("band", color, bands),
        _drawn("line", color, lines) + _drawn("dot", color, dots),
    )


def _drawn(kind: str, color: str, parts: Sequence[str]) -> str:
    return f'<path class="{kind} {color}" d="{"".join(parts)}"/>' if parts else ""


def smoothed(values: Floats) -> Floats:
    """An exponential moving average, both ways so that it does not lag; gaps stay."""
    span = SMOOTHED * len(values)
    if span <= 1:
        return values
    keep = 1 - 2 / (span + 1)
    there = _averaged(values, keep)
    back = _averaged(values[::-1], keep)[::-1]
    return (there + back) / 2


def _averaged(values: Floats, keep: float) -> Floats:
    import numpy as np

    total, weight = 0.0, 0.0
    found = []
    for value in values.tolist():
        if value == value:  # not NaN
            total = keep * total + (1 - keep) * value
            weight = keep * weight + (1 - keep)
            found.append(total / weight)
        else:
            found.append(value)
    return np.array(found)


def stretches(values: Floats) -> Iterator[slice]:
    """The parts between the gaps."""
    import numpy as np

    there = np.concatenate(([False], np.isfinite(values), [False]))
    edges = np.flatnonzero(there[1:] != there[:-1]).tolist()
    for start, stop in zip(edges[::2], edges[1::2]):
        yield slice(start, stop)


def _band(x: Floats, low: Floats, high: Floats) -> str:
    import numpy as np

    around = np.concatenate((x, x[::-1])), np.concatenate((high, low[::-1]))
    return _path(*around) + "z"


def _path(x: Floats, y: Floats) -> str:
    """A line as SVG: its first point, then whole-numbered differences."""
    import numpy as np

    points = np.rint(np.column_stack((x, y))).astype(np.int64)
    start_x, start_y = points[0].tolist()
    moves = " ".join(f"{dx} {dy}" for dx, dy in np.diff(points, axis=0).tolist())
    return f"M{start_x} {start_y}" + (f"l{moves}" if moves else "")
