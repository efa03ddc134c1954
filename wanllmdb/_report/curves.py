"""Curves of a run, reduced to what a chart can show: the only place that reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wanllmdb._results import json_columns
from wanllmdb._stored_run import StoredRun

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    Floats = npt.NDArray[np.float64]

BUCKETS = 500
"""Points of a curve: more than a chart has pixels to show."""

MAX_CELLS = 16_000_000
"""Values read at once (128 MB); more keys than that are read in several passes."""

_NUMBER = r"^-?\d+(\.\d+)?([eE][+-]?\d+)?$"


@dataclass(frozen=True, slots=True)
class Curve:
    """A series as stretches of x, each with what its values came to.

    Attributes:
        x: Ascending, finite.
        low: Least value of the stretch; NaN, as the others, where none was finite.
        mean: Mean of its finite values.
        high: Greatest value.
        last: The last finite value; None if there was none.
        left_out: Values that no chart can show: NaN, infinite, or no number.
    """

    x: Floats
    low: Floats
    mean: Floats
    high: Floats
    last: float | None
    left_out: int


def curves(
    run: StoredRun, keys: Sequence[str], axis: str = "_step", buckets: int = BUCKETS
) -> dict[str, Curve]:
    """A curve for each key of a run.

    Args:
        run: The run.
        keys: Metrics that it logged.
        axis: What x is.
        buckets: Points of a curve, at most.
    """
    found = {}
    for some in _passes(run, keys):
        table = run.history(some, x=axis).arrow()
        x = numbers(table, axis)
        for key in some:
            there = table[key].is_valid().to_numpy()
            found[key] = reduced(x[there], numbers(table, key)[there], buckets)
    return found


def system_curves(run: StoredRun, buckets: int = BUCKETS) -> dict[str, Curve]:
    """A curve over seconds since the start for each gauge of the machine."""
    table = run.system.arrow()
    gauges = [name for name in table.column_names if not name.startswith("_")]
    if not gauges:
        return {}
    x = numbers(table, "_runtime")
    found = {}
    for name in gauges:
        there = table[name].is_valid().to_numpy()
        found[name] = reduced(x[there], numbers(table, name)[there], buckets)
    return found


def _passes(run: StoredRun, keys: Sequence[str]) -> Iterator[list[str]]:
    rows = max((run.keys[key].count for key in keys), default=1)
    most = max(1, MAX_CELLS // max(1, rows))
    for start in range(0, len(keys), most):
        yield list(keys[start : start + most])


def numbers(table: pa.Table, name: str) -> Floats:
    """A column as doubles; what is null or no number is NaN."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    column = table[name]
    if name in json_columns(table):
        is_number = pc.match_substring_regex(column, _NUMBER)
        column = pc.if_else(is_number, column, None)
    elif not _is_numeric(column.type):
        return np.full(len(column), np.nan)
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    found: Floats = column.cast(pa.float64(), safe=False).to_numpy()
    return found


def _is_numeric(kind: Any) -> bool:
    import pyarrow as pa

    return any(
        check(kind)
        for check in (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
    )


def reduced(x: Floats, y: Floats, buckets: int = BUCKETS) -> Curve:
    """A series of any order and length as at most so many stretches of x."""
    import numpy as np

    usable = np.isfinite(x)
    x, y = x[usable], y[usable]
    order = np.argsort(x, kind="stable")  # steps may go backwards, writers mix
    x, y = x[order], y[order]
    finite = np.isfinite(y)
    left_out = int(len(usable) - finite.sum())
    if not len(x):
        return Curve(x, x, x, x, None, left_out)
    starts = _starts(x, buckets)
    ends = np.append(starts[1:], len(x)) - 1
    y = np.where(finite, y, np.nan)
    low, high = np.fmin.reduceat(y, starts), np.fmax.reduceat(y, starts)
    middles = x[starts] / 2 + x[ends] / 2  # halves: the sum of two may overflow
    if len(starts) > 1:
        middles[0], middles[-1] = x[0], x[-1]  # so that no chart ends too early
    return Curve(
        x=middles,
        low=low,
        mean=np.clip(_means(y, finite, starts), low, high),  # rounding leads out
        high=high,
        last=float(y[finite][-1]) if finite.any() else None,
        left_out=left_out,
    )


def _starts(x: Floats, buckets: int) -> npt.NDArray[np.intp]:
    """Where each stretch of a sorted x begins: every value, or every bucket."""
    import numpy as np

    changes = np.flatnonzero(np.diff(x)) + 1
    if len(changes) >= buckets:
        span = x[-1] / 2 - x[0] / 2
        place = np.floor((x / 2 - x[0] / 2) / span * buckets)
        changes = np.flatnonzero(np.diff(np.minimum(place, buckets - 1))) + 1
    return np.concatenate(([0], changes))


def _means(y: Floats, finite: npt.NDArray[np.bool_], starts: Any) -> Floats:
    import numpy as np

    counts = np.add.reduceat(finite.astype(np.int64), starts)
    sizes = np.diff(np.append(starts, len(y)))
    shares = np.repeat(np.maximum(counts, 1), sizes)
    # Each value is divided before it is added: the sum of a few may overflow.
    with np.errstate(over="ignore"):  # by rounding alone
        means = np.add.reduceat(np.where(finite, y, 0) / shares, starts)
    return np.where(counts > 0, means, np.nan)
