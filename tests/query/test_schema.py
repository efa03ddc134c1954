"""The stable schema: every relation with its columns, and config and summary."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import wanllmdb
from wanllmdb.errors import QueryError

PAGE = Path(__file__).parents[2] / "docs" / "sql.md"
RELATIONS = (
    "projects", "runs", "metrics", "metrics_all", "history", "artifacts", "aliases",
    "lineage", "models", "events", "logs", "system",
)  # fmt: skip


def documented(name):
    """(column, type) of a relation, as docs/sql.md has it."""
    text = PAGE.read_text("utf-8")
    section = re.search(rf"^### {name}\n(.*?)(?=^##|\Z)", text, re.M | re.S)[1]
    return re.findall(r"^\| `(\w+)` \| ([A-Z]+(?:\[\])?) \|", section, re.M)


@pytest.mark.parametrize("name", RELATIONS)
@pytest.mark.parametrize("filled", [False, True])
def test_every_relation_has_its_documented_columns(
    record, empty_store, ask, name, filled
):
    """Of the documented types, and in the order; also where the Store is empty."""
    assert empty_store.is_dir()
    if filled:
        record([{"loss": 1.0}], config={"lr": 0.1})
    found = []
    for column, kind, *_ in ask(f"DESCRIBE {name}"):
        kind = kind.replace("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ")
        found.append((column, "STRUCT" if kind.startswith("STRUCT") else kind))
    loss = [("loss", "DOUBLE")] if filled and name == "history" else []
    assert found == documented(name) + loss


@pytest.fixture
def configs(api):
    """Record a run of each config; the values of an expression over `runs`."""

    def values(expression, *held):
        for number, config in enumerate(held):
            with wanllmdb.init(project="p", id=f"r{number}", config=config):
                pass
        return [row[0] for row in api.query(
            f"SELECT {expression} FROM runs ORDER BY run").fetchall()]  # fmt: skip

    return values


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        ([1, 2], [1, 2]),
        ([1, 2.5], [1.0, 2.5]),
        ([True, 2, 0.5], [1.0, 2.0, 0.5]),
        ([True, False], [True, False]),
        (["x", None], ["x", None]),
        (["x", True, 1, [1, "y"], float("nan")],
         ["x", "true", "1", '[1,"y"]', '{"~f":"nan"}']),
        ([2**60, 2**60 + 1], [2**60, 2**60 + 1]),
        ([2**60 + 1, 0.5], [str(2**60 + 1), "0.5"]),
        ([2**70, 1], [str(2**70), "1"]),
        ([float("inf"), 1], [float("inf"), 1.0]),
    ],
)  # fmt: skip
def test_a_key_has_one_type_over_all_runs(configs, held, expected):
    """Numbers are DOUBLE if each is exact, and else text."""
    found = configs("config.k", *({"k": value} for value in held))
    assert found == expected
    assert list(map(type, found)) == list(map(type, expected))


def test_nan_is_nan_and_a_missing_key_is_null(configs):
    """The two are told apart."""
    held = [{"k": float("nan")}, {"other": 1}, {"k": None}]
    assert configs("isnan(config.k)", *held) == [True, None, None]


def test_nested_keys_have_dots(configs):
    """`config."a.b"`, however deep."""
    held = {"a": {"b": 1, "c": {"d": "x"}}, "val/loss": 2, 'q"': 3, "e🚀": 4}
    names = ["a.b", "val/loss", 'q""', "e🚀"]
    listed = ", ".join(f'config."{name}"' for name in names)
    assert configs(f"[{listed}]", held) == [[1, 2, 3, 4]]
    assert configs('config."a.c.d"') == ["x"]


def test_keys_that_differ_in_case_are_told_apart(configs):
    """The one in lower case keeps its name; a key called like a column keeps its."""
    found = configs("config", {"LR": 1, "lr": 2, "project": 3, "run": 4, "step": 5})[0]
    assert found == {"LR~9c6fd1": 1, "lr": 2, "project": 3, "run": 4, "step": 5} or (
        found.pop(next(key for key in found if key.startswith("LR~"))) == 1
        and found == {"lr": 2, "project": 3, "run": 4, "step": 5}
    )


def test_the_summary_is_reached_as_well(record, ask):
    """Keys with slashes are quoted."""
    record([{"val/loss": 0.5, "acc": {"top": 1}}])
    sql = 'SELECT summary."val/loss", summary."acc.top" FROM runs'
    assert ask(sql) == [(0.5, 1)]


def test_a_large_config_is_whole(configs):
    """A config of 1 MiB, which lies in a blob, is read as any other."""
    held = {"text": "x" * (1 << 20), "lr": 0.1}
    assert configs("length(config.text)", held, {"lr": 1}) == [1 << 20, None]


def test_config_that_no_run_has_is_refused_clearly(record, api):
    """Where all are empty, and where the key is in none."""
    record([{"loss": 1.0}])
    with pytest.raises(QueryError, match="no such key"):
        api.query("SELECT config.a FROM runs")
    assert api.query("SELECT * FROM runs").to_pylist()[0]["config"] == {}
    record([], id="s", config={"b": 1})
    with pytest.raises(QueryError, match='"a"'):
        api.query("SELECT config.a FROM runs")


def test_from_runs_shows_config_and_summary(record, api):
    """FROM without SELECT is SELECT *."""
    record([{"loss": 1.0}], config={"lr": 0.1})
    (row,) = api.query("FROM runs").to_pylist()
    assert (row["config"], row["summary"]["loss"]) == ({"lr": 0.1}, 1.0)


def test_runs_tell_how_they_stand(record, ask):
    """State, duration, epochs, parent and tags are those of the Catalog."""
    record([{"loss": 1.0}], tags=["a", "b"], group="g", notes="n")
    with wanllmdb.init(project="p", id="f", fork_from="r?_step=0"):
        pass
    sql = (
        'SELECT run, state, duration >= 0, epochs, parent, parent_step, tags, "group"'
        " FROM runs ORDER BY run"
    )
    assert ask(sql) == [
        ("f", "finished", True, 1, "r", 0, [], None),
        ("r", "finished", True, 1, None, None, ["a", "b"], "g"),
    ]


def test_logs_events_and_system_are_rows(record, ask, api, monkeypatch):
    """What was printed, what was changed, what the machine did."""
    monkeypatch.setenv("WANLLMDB_SYSTEM_INTERVAL", "0.05")
    with wanllmdb.init(project="p", id="r", monitor_system=True) as run:
        run.log_message("half way", level="WARN")
    api.run("p/r").add_tags(["x"])
    assert ask("SELECT run, stream, level, text FROM logs") == [
        ("r", "log", "WARN", "half way")
    ]
    ((after,),) = ask("SELECT after FROM events WHERE kind LIKE '%tag%' AND run = 'r'")
    assert "x" in json.dumps(after)
    assert all(value is not None for (value,) in ask("SELECT value FROM system"))


def test_a_query_sees_the_projects_asked_for(record, ask, api):
    """One, several, or an error where there is none of that name."""
    for name in "pqs":
        record([{"loss": 1.0}], project=name)
    for table in ("projects", "runs", "metrics", "metrics_all"):
        sql = f"SELECT DISTINCT project FROM {table} ORDER BY 1"
        assert ask(sql, project=["p", "s"]) == [("p",), ("s",)]
    assert ask("SELECT DISTINCT project FROM history", project="q") == [("q",)]
    with pytest.raises(wanllmdb.errors.NotFoundError):
        api.query("SELECT 1", project="nope")
