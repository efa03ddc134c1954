"""Metrics for charts, statistics, leaderboards and differences, and their commands."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
import statistics

import pytest

import wanllmdb
from wanllmdb.errors import InvalidInputError, MetricNotFoundError

NAN, INF = math.nan, math.inf


@pytest.fixture
def runs(record):
    """Two runs of 1,000 steps with one spike each; half of `x` is not there."""
    for name, scale in (("a", 1.0), ("b", 2.0)):
        rows = [
            {"loss": scale * math.sin(n), **({"x": n / 7} if n % 2 else {})}
            for n in range(1000)
        ]
        rows[501]["loss"] = scale * 99
        rows[503]["loss"] = NAN
        record(rows, id=name, config={"lr": scale, "k": "same"}, group="g")


@pytest.mark.parametrize("x", ["step", "time", "relative", "x"])
@pytest.mark.parametrize("buckets", [1, 7, 200, 100_000])
def test_envelopes_keep_every_extreme_and_count_every_value(runs, api, x, buckets):
    """Whatever x is: min, max, counts and NaNs are those of all values."""
    whole = api.metrics("loss", ["p/a"], x=x).to_pylist()
    found = api.metrics("loss", ["p/a"], x=x, buckets=buckets).to_pylist()
    finite = [row["value"] for row in whole if row["value"] == row["value"]]
    shown = [row for row in found if row["min"] is not None]
    assert len(found) <= buckets
    assert min(row["min"] for row in shown) == min(finite)
    assert max(row["max"] for row in shown) == max(finite)
    assert sum(row["count"] for row in found) == len(whole)
    assert sum(row["nans"] for row in found) == len(whole) - len(finite)
    assert all(isinstance(row["x"], (int, float)) for row in found)


def test_all_runs_share_one_grid(runs, api):
    """Buckets begin at the same places in each run."""
    found = api.metrics("loss", buckets=10).to_pylist()
    places = [{row["x"] for row in found if row["run"] == name} for name in "ab"]
    assert places[0] == places[1] == set(range(0, 1000, 100))


@pytest.mark.parametrize(("how", "first"), [("mean", 4.5), ("last", 9.0)])
def test_a_bucket_says_what_how_says(record, api, how, first):
    """The mean, or the value of the greatest x."""
    record([{"n": float(n)} for n in range(100)])
    found = api.metrics("n", buckets=10, how=how).to_pylist()
    assert found[0]["value"] == first


def test_steps_up_to_64_bits_have_their_buckets(record, api):
    """They are divided as whole numbers."""
    record([(0, {"n": 1.0}), (2**62, {"n": 2.0}), (2**63 - 1, {"n": 3.0})])
    found = api.metrics("n", buckets=2).to_pylist()
    assert [(row["x"], row["count"]) for row in found] == [(0, 1), (2**62, 2)]


def test_an_x_that_is_infinite_has_no_bucket(record, api):
    """It is in no chart; the range of all floats is."""
    rows = [(x, {"n": 1.0, "x": x}) for x in (-1.7e308, 1.7e308, INF, -INF, NAN)]
    record([row for _, row in rows])
    found = api.metrics("n", x="x", buckets=2).to_pylist()
    assert sum(row["count"] for row in found) == 2
    assert len(api.metrics("n", x="x", by="state")) == 2


def test_values_that_are_infinite_are_extremes(record, api):
    """Minimum and maximum show them."""
    record([{"n": value} for value in (1.0, INF, -INF, NAN, 2.0)])
    (row,) = api.metrics("n", buckets=1).to_pylist()
    assert (row["min"], row["max"], row["count"], row["nans"]) == (-INF, INF, 5, 1)
    (row,) = api.statistics("n").to_pylist()
    assert (row["min"], row["max"], row["nans"]) == (-INF, INF, 1)


def test_bands_count_each_run_once(runs, api):
    """Mean and deviation are of the runs' means."""
    (row,) = api.metrics("loss", by="group", buckets=1).to_pylist()
    means = []
    for name in "ab":
        values = [r["value"] for r in api.metrics("loss", f"p/{name}")]
        means.append(statistics.fmean(v for v in values if v == v))
    assert row["runs"] == 2
    assert row["mean"] == pytest.approx(statistics.fmean(means))
    assert row["std"] == pytest.approx(statistics.pstdev(means))
    found = api.metrics("loss", by="config.lr", buckets=1).to_pylist()
    assert [row["group"] for row in found] == ["1.0", "2.0"]


def test_smoothing_passes_over_nan_and_begins_unbiased(record, api):
    """The first smooth value is the first value; a constant stays constant."""
    record([{"n": value} for value in (3.0, NAN, 3.0, 3.0)])
    found = api.metrics("n", smooth=0.9)["smooth"].to_pylist()
    assert found[1] is None
    assert [found[i] for i in (0, 2, 3)] == pytest.approx([3.0, 3.0, 3.0])


def test_statistics_are_those_of_the_values(runs, api):
    """Count, NaN, mean, deviation and quantiles."""
    (row,) = api.statistics("loss", "p/a").to_pylist()
    values = [r["value"] for r in api.metrics("loss", "p/a")]
    finite = [v for v in values if v == v]
    assert (row["count"], row["nans"]) == (1000, 1)
    assert row["mean"] == pytest.approx(statistics.fmean(finite))
    assert row["std"] == pytest.approx(statistics.pstdev(finite))
    assert row["median"] == pytest.approx(statistics.median(finite))
    assert row["p05"] <= row["median"] <= row["p95"] <= row["max"]


def test_a_run_that_has_just_begun_is_read(api):
    """Its statistics are not yet stored; its log is there."""
    run = wanllmdb.init(project="p", id="live")
    run.log({"loss": 1.0, "x": 5.0})
    assert [row["value"] for row in api.metrics("loss")] == [1.0]
    assert [row["x"] for row in api.metrics("loss", "p/live", x="x")] == [5.0]
    assert [row["max"] for row in api.statistics("loss")] == [1.0]
    run.finish()


@pytest.mark.parametrize(
    "wrong",
    [{"buckets": 0}, {"buckets": 10**7}, {"how": "sum"}, {"smooth": 1.0},
     {"smooth": NAN}, {"x": ""}, {"by": "colour"}],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(runs, api, wrong):
    """Before anything is read."""
    with pytest.raises(InvalidInputError):
        api.metrics("loss", **wrong)


def test_what_nobody_logged_is_refused(runs, api):
    """The metric, or x."""
    for call in (
        lambda: api.metrics("nope"), lambda: api.metrics("nope", "p/a"),
        lambda: api.metrics("loss", x="nope"), lambda: api.statistics("nope"),
    ):  # fmt: skip
        with pytest.raises(MetricNotFoundError, match="nope"):
            call()


# Leaderboards


@pytest.fixture
def board(record):
    """Runs a to f that end with different losses, of which two are no number."""
    values = {"a": [3.0, 1.0], "b": [2.0], "c": [NAN], "d": [INF], "e": [10**400]}
    for name, held in values.items():
        record([{"loss": value} for value in held], id=name)
    record([{"loss": "text"}], id="f")


@pytest.mark.parametrize(
    ("how", "goal", "order"),
    [("best", None, "abdecf"), ("best", "maximize", "deabcf"), ("last", None, "abdecf"),
     ("mean", "minimize", "abdecf"), ("max", None, "badecf"), ("min", None, "abdecf")],
)  # fmt: skip
def test_runs_are_ranked_by_what_the_metric_came_to(board, api, how, goal, order):
    """Those without a number come last."""
    found = api.leaderboard("loss", how, goal=goal).to_pylist()
    names = [row["run"] for row in found]
    assert sorted(names[-2:]) == ["c", "f"]
    assert [n for n in names if n in "ab"] == [n for n in order if n in "ab"]
    assert [row["rank"] for row in found] == [1, 2, 3, 4, 5, 6]
    assert [row["value"] for row in found[-2:]] == [None, None]


def test_define_metric_gives_the_goal(api):
    """Of the newest run that says anything of it."""
    for name, value in (("a", 0.5), ("b", 0.9)):
        with wanllmdb.init(project="p", id=name) as run:
            run.define_metric("acc", goal="maximize")
            run.log({"acc": value})
    assert [row["run"] for row in api.leaderboard("acc")] == ["b", "a"]
    assert len(api.leaderboard("acc", limit=1)) == 1
    with pytest.raises(InvalidInputError):
        api.leaderboard("acc", limit=-1)
    with pytest.raises(InvalidInputError):
        api.leaderboard("acc", "median")


@pytest.mark.usefixtures("sealed")
def test_a_leaderboard_opens_no_part(record, api, store):
    """Also of keys beyond the 256th; the parts may be gone."""
    for name, scale in (("a", 2.0), ("b", 1.0)):
        record([{f"k{n:03}": scale * n for n in range(300)}], id=name)
    shutil.rmtree(store / "parts")
    assert [row["run"] for row in api.leaderboard("k299")] == ["b", "a"]
    assert [row["value"] for row in api.leaderboard("k001")] == [1.0, 2.0]


# Differences


def test_a_difference_is_of_types_too(record, api):
    """1 and 1.0 differ, NaN and NaN do not; missing is None."""
    record([], id="a", config={"n": 1, "nan": NAN, "same": {"x": 1}, "only": 1})
    record([], id="b", config={"n": 1.0, "nan": NAN, "same": {"x": 1}})
    record([], id="key", config={"n": 1, "nan": NAN, "same": {"x": 1}})
    rows = {row["key"]: row for row in api.diff(["p/a", "p/b"])}
    assert set(rows) == {"config.n", "config.only"}
    assert rows["config.only"] == {"key": "config.only", "a": 1, "b": None}
    assert "config.same.x" in {r["key"] for r in api.diff(["p/a", "p/b"], same=True)}
    three = {row["key"]: row for row in api.diff(["p/a", "p/b", "p/key"])}
    assert three["config.n"]["p/key"] == 1


# Commands


COMMANDS = [
    (
        "query",
        "SELECT run, count(*) AS n, max(ts) AS t FROM metrics GROUP BY run"
        " ORDER BY run",
    ),
    ("metric", "stats", "p/a", "loss"),
    ("metric", "rank", "loss"),
    ("diff", "p/a", "p/b", "--all"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: " ".join(c[:2])[:12])
def test_commands_have_every_format(runs, invoke, tmp_path, command):
    """The same rows as table, JSON, JSON lines, CSV and Parquet."""
    import pyarrow.parquet as pq

    listed = json.loads(invoke(*command, "--format", "json"))
    lines = invoke(*command, "--format", "jsonl").splitlines()
    assert [json.loads(line) for line in lines] == listed
    rows = list(csv.DictReader(io.StringIO(invoke(*command, "--format", "csv"))))
    assert [list(row) for row in rows] == [list(row) for row in listed]
    file = tmp_path / "out.parquet"
    invoke(*command, "--format", "parquet", "-o", file)
    assert pq.read_table(file).num_rows == len(listed) > 0
    assert len(invoke(*command).splitlines()) == len(listed) + 1


def test_plot_takes_x_and_smooth(runs, invoke, cli):
    """And says so where nobody logged x."""
    pytest.importorskip("plotext")
    for options in ([], ["--x", "time"], ["--x", "x", "--smooth", "0.9"]):
        assert "loss" in invoke("plot", "p/a", "p/b", "loss", *options)
    assert cli("plot", "p/a", "loss", "--x", "nope")[0] == 3


def test_query_takes_parameters_and_stdin(runs, invoke, cli):
    """JSON where it is JSON, else text."""
    sql = "SELECT count(*) AS n FROM metrics WHERE run = $run AND step < $most"
    options = ["--param", "run=a", "--param", "most=10", "--format", "csv"]
    assert invoke("query", sql, *options) == "n\n15\n"
    assert invoke("query", "-", *options, input=sql) == "n\n15\n"
    assert cli("query", sql, "--param", "run")[0] == 2
