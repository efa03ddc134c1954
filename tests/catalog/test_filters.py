"""Run filters in both forms, against a plain-Python oracle."""

from __future__ import annotations

import math
import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wanllmdb import _json
from wanllmdb._catalog import filters, runs, values
from wanllmdb._catalog.filter_grammar import parse
from wanllmdb._catalog.migrations import _run_script
from wanllmdb._catalog.schema import SCHEMA
from wanllmdb.errors import FilterError
from wanllmdb.types import NewRun

RUNS = [
    {"config": {"lr": 0.1, "opt": {"name": "adam"}}, "summary": {"val/loss": 0.3}},
    {"config": {"lr": 1, "big": True}, "summary": {"val/loss": math.nan}},
    {"config": {"lr": "auto"}, "summary": {}, "tags": ("best", "with space")},
    {"config": {}, "summary": {"val/loss": -2}},
    {"config": {f"k{i}": i for i in range(300)} | {"lr": 0.05}, "summary": {}},
]


@pytest.fixture(scope="module")
def connection():
    """A Catalog in memory with runs r0 to r4."""
    found = sqlite3.connect(":memory:", isolation_level=None)
    found.row_factory = sqlite3.Row
    _run_script(found, SCHEMA)
    found.execute("INSERT INTO meta VALUES ('hlc', '0'), ('device', 'd')")
    filters.register_functions(found, lambda digest: b"{}")
    for index, run in enumerate(RUNS):
        new = NewRun(f"u{index}", "p", f"r{index}", f"run {index}",
                     tags=run.get("tags", ()))  # fmt: skip
        pk = runs.insert(found, new, 1)
        for scope in ("config", "summary"):
            values.set_json(found, pk, scope, run[scope], _json.dumps(run[scope]), None)
    yield found
    found.close()


def ids(connection, condition, order="id"):
    """Ids of the runs that fit."""
    found = runs.find_many(connection, condition=condition, order=order)
    return " ".join(record.run_id for record in found)


@pytest.mark.parametrize(
    ("text", "mapping", "expected"),
    [
        ("config.lr < 0.5", {"config.lr": {"$lt": 0.5}}, "r0 r4"),
        ("config.lr = 1", {"config.lr.value": 1}, "r1"),
        ("config.lr = auto", {"config.lr": "auto"}, "r2"),
        ("config.lr != 1", {"config.lr": {"$ne": 1}}, "r0 r2 r3 r4"),
        ("config.lr is null", {"config.lr": None}, "r3"),
        ("config.lr exists", {"config.lr": {"$exists": True}}, "r0 r1 r2 r4"),
        ("config.k299 = 299", {"config.k299": 299}, "r4"),
        ("config.k299 exists", {"config.k299": {"$exists": True}}, "r4"),
        ("config.opt.name = adam", {"config.opt.name": "adam"}, "r0"),
        ("config.big = true", {"config.big": True}, "r1"),
        ('summary."val/loss" < 1', {"summary_metrics.val/loss": {"$lt": 1}}, "r0 r3"),
        ("summary.val/loss <= nan", {"summary.val/loss": {"$lte": math.nan}}, ""),
        ("not (summary.val/loss < 1)",
         {"summary.val/loss": {"$not": {"$lt": 1}}}, "r1 r2 r4"),
        ("tag:best", {"tags": "best"}, "r2"),
        ('tag:"with space"', {"tags": {"$all": ["best", "with space"]}}, "r2"),
        ("config.lr in (1, 0.1)", {"config.lr": {"$in": [1, 0.1]}}, "r0 r1"),
        ("config.lr not in (1, 0.1)", {"config.lr": {"$nin": [1, 0.1]}}, "r2 r3 r4"),
        ('name ~ "[01]$"', {"display_name": {"$regex": "[01]$"}}, "r0 r1"),
        ("id = r1 or id = r2", {"$or": [{"id": "r1"}, {"id": "r2"}]}, "r1 r2"),
        ("created > -1h and state = running", {"state": {"$in": ["running"]}},
         "r0 r1 r2 r3 r4"),
        ("created < 2020-01-01", {"created_at": {"$lt": "2020-01-01"}}, ""),
        ("id = \"r1'; DROP TABLE run;--\"", {"id": "'; DROP TABLE run;--"}, ""),
        ("", {}, "r0 r1 r2 r3 r4"),
    ],
)  # fmt: skip
def test_both_forms_find_the_same_runs(connection, text, mapping, expected):
    """Text and dict mean the same."""
    assert ids(connection, text) == expected
    assert ids(connection, mapping) == expected


@pytest.mark.parametrize(
    "text",
    ["config.lr <", "(id = 1", "foo = 1", "id ~ '['", "<", "id = r1 and", "not",
     "(" * 200 + "id=1", "created > soon", "created > -99999999999999999w"],
)  # fmt: skip
def test_what_cannot_be_read_is_one_clear_error(connection, text):
    """A FilterError, never an SQL error."""
    with pytest.raises(FilterError):
        ids(connection, text)


def test_errors_point_at_the_place():
    """A caret stands under what was not expected."""
    with pytest.raises(FilterError, match="column 13"):
        parse("config.lr < < 3")


def test_missing_values_come_last_in_either_direction(connection):
    """Sorting never hides a run."""
    assert ids(connection, None, "+summary.val/loss").startswith("r3 r0 ")
    assert ids(connection, None, "-summary.val/loss").startswith("r0 r3 ")


def test_config_filters_use_the_index(connection):
    """No scan of run_value."""
    where, params = filters.compile_filters("config.lr < 0.5", 0)
    plan = connection.execute(
        "EXPLAIN QUERY PLAN SELECT 1 FROM run JOIN project ON"
        f" project.id = run.project_id WHERE {where}", params,
    )  # fmt: skip
    assert any("run_by_value" in row["detail"] for row in plan)


COMPARISONS = st.tuples(
    st.sampled_from(["lr", "big", "k1", "zz"]),
    st.sampled_from(["<", "<=", ">", ">=", "=", "!="]),
    st.sampled_from([0.05, 0.1, 1, 0, "auto", True]),
)


@settings(max_examples=200, deadline=None)
@given(COMPARISONS, COMPARISONS, st.sampled_from(["and", "or", "and not", "or not"]))
def test_any_two_comparisons_equal_the_oracle(connection, first, second, word):
    """Two-valued logic, across types and missing values."""

    def holds(run, test):
        key, op, value = test
        found = run["config"].get(key)
        if op == "!=":
            return not holds(run, (key, "=", value))
        if found is None or isinstance(found, str) != isinstance(value, str):
            return False
        return {"<": found < value, "<=": found <= value, ">": found > value,
                ">=": found >= value, "=": found == value}[op]  # fmt: skip

    def shown(test):
        value = {True: "true"}.get(test[2], test[2]) if test[2] is True else test[2]
        return f"config.{test[0]} {test[1]} {value}"

    def whole(run):
        a, b = holds(run, first), holds(run, second)
        b = not b if word.endswith("not") else b
        return (a and b) if word.startswith("and") else (a or b)

    expected = " ".join(f"r{i}" for i, run in enumerate(RUNS) if whole(run))
    assert ids(connection, f"{shown(first)} {word} {shown(second)}") == expected
