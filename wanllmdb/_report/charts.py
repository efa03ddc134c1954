"""Which charts a report shows: metrics by the prefix of their names, then gauges."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wanllmdb._markup import escape, folded
from wanllmdb._metrics.summary import options_of
from wanllmdb._report.curves import BUCKETS, Curve, curves, system_curves
from wanllmdb._report.svg import Series, axes, chart, reading, sample
from wanllmdb._stored_run import StoredRun

if TYPE_CHECKING:
    from wanllmdb.types import KeyStats

MAX_POINTS = 300_000
"""Points of all curves together: they keep a report below some ten megabytes."""

MIN_BUCKETS = 60
OPEN_CHARTS = 36
"""Groups are shown unfolded until there were so many charts."""

MAX_LEGEND = 8
"""Runs that a chart names itself; of more, the legend above has the names."""

_TIME_UNITS = ((86_400, "days"), (3600, "hours"), (60, "minutes"), (1, "seconds"))


@dataclass(frozen=True, slots=True)
class Labelled:
    """A run, what the report calls it, and its number in the palette."""

    run: StoredRun
    label: str
    color: int

    @property
    def title(self) -> str:
        """A sample of its line, and its name; markup."""
        return f"{sample(self.color)}<bdi>{escape(self.label)}</bdi>"


_Charts = dict[str, list[Series]]


def metrics(runs: Sequence[Labelled]) -> str:
    """The curves of every metric that is a number."""
    stats = [one.run.keys for one in runs]
    names = sorted({key for keys in stats for key, s in keys.items() if _drawable(s)})
    names = [key for key in names if not _is_hidden(runs, key)]
    axis_of = {key: _axis_of(runs, stats, key) for key in names}
    buckets = _buckets(len(names) * len(runs))
    found: _Charts = {key: [] for key in names}
    for one, keys in zip(runs, stats):
        for axis in sorted(set(axis_of.values())):
            wanted = [k for k in names if k in keys and axis_of[k] == axis]
            if wanted:
                read = curves(one.run, wanted, axis, buckets)
                _collect(found, one, read)
    return _groups(runs, found, "/", lambda key: _name_of_axis(axis_of[key]))


def _drawable(stats: KeyStats) -> bool:
    return stats.min is not None or stats.nans > 0


def _is_hidden(runs: Sequence[Labelled], key: str) -> bool:
    return any(options_of(key, one.run.definitions).get("hidden") for one in runs)


def _axis_of(
    runs: Sequence[Labelled], stats: Sequence[Mapping[str, KeyStats]], key: str
) -> str:
    """What `define_metric` made x of a key, where all its runs agree on it."""
    axes_named = set()
    for one, keys in zip(runs, stats):
        if key in keys:
            name = str(options_of(key, one.run.definitions).get("step_metric"))
            usable = name in keys and keys[name].min is not None
            axes_named.add(name if usable else "_step")
    return axes_named.pop() if len(axes_named) == 1 else "_step"


def _name_of_axis(axis: str) -> str:
    return "step" if axis == "_step" else axis


def _buckets(count: int) -> int:
    return max(MIN_BUCKETS, min(BUCKETS, MAX_POINTS // max(1, count)))


def _collect(found: _Charts, one: Labelled, read: Mapping[str, Curve]) -> None:
    for key, curve in read.items():
        found.setdefault(key, []).append(Series(one.label, one.color, curve))


def system(runs: Sequence[Labelled]) -> str:
    """The curves of the machines, over the time since each run's start."""
    found: _Charts = {}
    for one in runs:
        _collect(found, one, system_curves(one.run, BUCKETS // 2))
    unit, name = _time_unit(found)
    in_units = {
        key: [_scaled(series, unit) for series in found[key]] for key in sorted(found)
    }
    return _groups(runs, in_units, ".", lambda _: f"{name} since the start")


def _time_unit(found: _Charts) -> tuple[int, str]:
    ends = [float(s.curve.x[-1]) for each in found.values() for s in each
            if len(s.curve.x)]  # fmt: skip
    longest = max(ends, default=0)
    return next(((u, n) for u, n in _TIME_UNITS if longest >= 3 * u), (1, "seconds"))


def _scaled(series: Series, unit: int) -> Series:
    c = series.curve
    scaled = Curve(c.x / unit, c.low, c.mean, c.high, c.last, c.left_out)
    return Series(series.label, series.color, scaled)


def _groups(
    runs: Sequence[Labelled],
    charts: Mapping[str, list[Series]],
    mark: str,
    x_name: Callable[[str], str],
) -> str:
    groups: dict[str, list[str]] = {}
    for key in charts:
        prefix, found, _ = key.partition(mark)
        groups.setdefault(prefix if found else "", []).append(key)
    parts, shown = [], 0
    for prefix, keys in sorted(groups.items()):
        figures = "\n".join(
            _figure(key, charts[key], x_name(key), alone=len(runs) == 1) for key in keys
        )
        title = f"<bdi>{escape(prefix)}</bdi>" if prefix else "without a prefix"
        body = f'<div class="charts">\n{figures}\n</div>'
        is_open = shown < OPEN_CHARTS
        shown += len(keys)
        parts.append(
            body if len(groups) == 1 and is_open and not prefix
            else folded(title, len(keys), body, is_open=is_open)
        )  # fmt: skip
    return _legend(runs) + "".join(parts) if parts else ""


def _legend(runs: Sequence[Labelled]) -> str:
    if len(runs) == 1:
        return ""
    items = "".join(f"<li>{one.title}</li>" for one in runs)
    return f'<ul class="legend all">{items}</ul>\n'


def _figure(key: str, series: Sequence[Series], x_name: str, *, alone: bool) -> str:
    picture = chart(key, series, x_name, whole=x_name == "step")
    lost = sum(one.curve.left_out for one in series)
    badges = ""
    drawn = [one for one in series if one.curve.last is not None]
    if drawn and axes(drawn, whole=False)[1].is_log:
        badges += '<span class="badge">log scale</span>'
    if lost:
        badges += f'<span class="badge lost">{lost:,} not finite</span>'
    below = (
        f'<p class="reading">{escape(reading(series[0].curve))}</p>'
        if alone
        else _last_values(series)
    )
    return (
        f"<figure><figcaption><bdi>{escape(key)}</bdi>{badges}</figcaption>"
        f"{picture}{below}</figure>"
    )


def _last_values(series: Sequence[Series]) -> str:
    if len(series) > MAX_LEGEND:
        return ""
    items = "".join(_last_value(one) for one in series)
    return f'<ul class="legend">{items}</ul>'


def _last_value(one: Series) -> str:
    last = "none" if one.curve.last is None else f"{one.curve.last:.4g}"
    name = escape(one.label)
    who = f'<bdi class="who" title="{name}">{name}</bdi>'
    return f"<li>{sample(one.color)}{who}<b>{escape(last)}</b></li>"
