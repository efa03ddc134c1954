"""Reductions of metrics for charts: buckets on one grid, envelopes, bands, smoothing.

Nothing is sampled: each bucket says how many values it holds, and their minimum and
maximum stay. NaN is in none of the numbers, and counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from wanllmdb import _sources, _sql, _views
from wanllmdb._store import Store
from wanllmdb.errors import InvalidInputError

if TYPE_CHECKING:
    import pyarrow as pa

AXES = ("step", "time", "relative")
HOWS = ("minmax", "mean", "last")

_FINITE = "isfinite(CAST(x AS DOUBLE))"
"""Rows that have a place on a grid."""

_REDUCED = {
    "minmax": "min(v) AS min, max(v) AS max, avg(v) AS mean",
    "mean": "avg(v) AS value",
    "last": "arg_max(value, x) AS value",
}


class Reducer:
    """Metrics of some runs as a relation that can be reduced.

    Args:
        store: The Store.
        keys: The metrics.
        chosen: Keys of the runs.
        x: ``step``, ``time`` (seconds since 1970), ``relative`` (seconds since the
            run's start), or a metric that was logged in the same rows.

    Raises:
        CorruptPartError: a part is damaged.
    """

    def __init__(
        self, store: Store, keys: Sequence[str], chosen: Sequence[int], x: str
    ) -> None:
        self._connection = _sql.connect()
        wanted = [*keys] if x in AXES else [*keys, x]
        self._x = x
        lost = _sources.Lost()
        self._sources = _sources.gather(store, lost, None, chosen, wanted)
        lost.warn()
        _sql.make_served(self._connection, self._sources)
        self._tables: list[Any] = []
        with self._explaining():
            self._connection.execute(f"CREATE VIEW points AS {self._points(keys, x)}")

    def __enter__(self) -> Reducer:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def values(self) -> pa.Table:
        """Every value: run, project, key, x, value; by run, key and x."""
        return self._fetch(
            "SELECT run, project, key, x, value FROM points"
            " ORDER BY project, run, key, x"
        )

    def buckets(self, count: int, how: str) -> pa.Table:
        """At most `count` buckets of one grid for all runs and keys.

        Returns:
            run, project, key, x (where the bucket begins), count, nans, and ``min``,
            ``max``, ``mean`` (`how` minmax) or ``value`` (mean, last).
        """
        bucket, begin = self._grid(count)
        return self._fetch(
            f"SELECT run, project, key, {begin} AS x,"
            f" count(*) AS count, count(*) - count(v) AS nans, {_REDUCED[how]}"
            f" FROM (SELECT *, {bucket} AS bucket,"
            " CASE WHEN isnan(value) THEN NULL ELSE value END AS v FROM points"
            f" WHERE {_FINITE}) GROUP BY run, project, key, bucket"
            " ORDER BY project, run, key, x"
        )

    def bands(self, count: int, groups: Mapping[tuple[str, str], str]) -> pa.Table:
        """Bands over groups of runs: each run counts once in each bucket.

        Args:
            count: Buckets, at most.
            groups: The group of each (project, run).

        Returns:
            group, key, x, runs, mean, min, max, std (of the runs' means; population).
        """
        import pyarrow as pa

        bucket, begin = self._grid(count)
        self._connection.register("_groups", pa.table({
            "project": pa.array([project for project, _ in groups], pa.string()),
            "run": pa.array([run for _, run in groups], pa.string()),
            "group": pa.array(list(groups.values()), pa.string()),
        }))  # fmt: skip
        return self._fetch(
            f'SELECT "group", key, {begin} AS x, count(*) AS runs,'
            " avg(m) AS mean, min(m) AS min, max(m) AS max, stddev_pop(m) AS std"
            f" FROM (SELECT project, run, key, {bucket} AS bucket,"
            f" avg(value) AS m FROM points WHERE {_FINITE} AND NOT isnan(value)"
            " GROUP BY ALL) JOIN _groups USING (project, run)"
            ' GROUP BY "group", key, bucket ORDER BY "group", key, x'
        )

    def statistics(self) -> pa.Table:
        """run, project, key, count, nans, mean, std, min, p05, median, p95, max."""
        return self._fetch(
            "SELECT run, project, key, count(*) AS count, count(*) - count(v) AS nans,"
            " avg(v) AS mean, stddev_pop(v) AS std, min(v) AS min,"
            " quantile_cont(v, 0.05) AS p05, median(v) AS median,"
            " quantile_cont(v, 0.95) AS p95, max(v) AS max FROM (SELECT *,"
            " CASE WHEN isnan(value) THEN NULL ELSE value END AS v FROM points)"
            " GROUP BY run, project, key ORDER BY project, run, key"
        )

    def _fetch(self, sql: str) -> pa.Table:
        with self._explaining():
            return _sql.fetched(self._connection, sql)

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        import duckdb

        try:
            yield
        except duckdb.Error as error:
            paths = [str(s.path) for s in self._sources.items if s.path is not None]
            raise _sql.explained(error, paths) from error

    def _points(self, keys: Sequence[str], x: str) -> str:
        body = _views.numbers(self._sources.items, self._register, keys)
        names = "m._run AS run, m.project, m.key"
        if x == "step":
            return f"SELECT {names}, m._step AS x, m.value FROM ({body}) m"
        if x == "time":
            return (
                f"SELECT {names}, epoch_ms(m._ts) / 1e3 AS x, m.value FROM ({body}) m"
            )
        if x == "relative":
            starts = self._register(self._starts())
            return (
                f"SELECT {names}, (epoch_ms(m._ts) - s.started_ms) / 1e3 AS x, m.value"
                f" FROM ({body}) m JOIN {starts} s ON s.uid = m._uid"
            )
        along = _views.numbers(self._sources.items, self._register, [x])
        return (
            f"SELECT {names}, a.value AS x, m.value FROM ({body}) m JOIN ({along}) a"
            " ON a._uid = m._uid AND a._step = m._step AND a._writer = m._writer"
            " WHERE NOT isnan(a.value)"
        )

    def _starts(self) -> pa.Table:
        import pyarrow as pa

        lines = self._sources.runs
        return pa.table({
            "uid": pa.array([line.uid for line in lines], pa.string()),
            "started_ms": pa.array([n.started_us // 1000 for n in lines], pa.int64()),
        })  # fmt: skip

    def _register(self, table: pa.Table) -> str:
        self._tables.append(table)
        name = f"_table_{len(self._tables) - 1}"
        self._connection.register(name, table)
        return name

    def _grid(self, count: int) -> tuple[str, str]:
        """The SQL of a row's bucket, and of where a bucket begins; whole for steps."""
        span = self._sources.span if self._x == "step" else None
        if span is not None:
            return _whole_buckets(*span, count)
        with self._explaining():
            ((low, high),) = self._connection.execute(
                f"SELECT min(x), max(x) FROM points WHERE {_FINITE}"
            ).fetchall()
        if isinstance(low, int):
            return _whole_buckets(low, high, count)
        low, high = low or 0.0, high or 0.0
        wide = high / count - low / count or 1.0
        # Halves, because the whole range of the extreme floats is beyond a float.
        at = f"floor((x / 2 - '{low / 2}'::DOUBLE) / '{wide / 2}'::DOUBLE)"
        bucket = f"least(greatest({at}, 0), {count - 1})::BIGINT"
        return bucket, f"'{low}'::DOUBLE + bucket * '{wide}'::DOUBLE"


def _whole_buckets(low: int, high: int, count: int) -> tuple[str, str]:
    width = max(1, -(-(high - low + 1) // count))
    # A BIGINT where it suffices: it is twice as quick.
    x = "x" if max(-low, high) < 1 << 62 else "x::HUGEINT"
    return f"({x} - {low}) // {width}", f"{low} + bucket * {width}"


def smoothed(table: pa.Table, weight: float, column: str) -> pa.Table:
    """A table with one more column, `smooth`: an average that follows the values.

    Source: exponential moving average with the debiasing of TensorBoard's scalar
    charts (value / (1 - weight^n)); NaN is passed over.

    Args:
        table: By run, key and x.
        weight: Of what was before, 0 <= weight < 1.
        column: What is smoothed.
    """
    import pyarrow as pa

    names = [table[name].to_pylist() for name in ("project", "run", "key")]
    found: list[float | None] = []
    series, total, count = None, 0.0, 0
    for value, *now in zip(table[column].to_pylist(), *names, strict=True):
        if now != series:
            series, total, count = now, 0.0, 0
        if value is None or value != value:
            found.append(None)
            continue
        total = total * weight + (1 - weight) * value
        count += 1
        found.append(total / (1 - weight**count))
    return table.append_column("smooth", pa.array(found, pa.float64()))


def check(x: str, buckets: int | None, how: str, smooth: float) -> None:
    """Refuse what makes no sense.

    Raises:
        InvalidInputError: one of them is out of its range.
    """
    if not x:
        raise InvalidInputError("There is no x.", hint="Use step, time, relative.")
    if buckets is not None and not 1 <= buckets <= 1_000_000:
        raise InvalidInputError(f"{buckets} buckets?", hint="Give 1 to 1,000,000.")
    if how not in HOWS:
        raise InvalidInputError(f"There is no how={how!r}.", hint=f"Use {HOWS}.")
    if not 0 <= smooth < 1:
        raise InvalidInputError(
            f"A smoothing of {smooth}?", hint="Give 0 (none) to less than 1."
        )
