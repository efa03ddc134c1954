"""Filters and orders of runs as SQL with bound parameters.

Two-valued: a comparison with a missing value, or across types, is false, and ``not``
of it is true; ``!=`` is the negation of ``=``. A bool equals 0 or 1. NaN equals
nothing. Config and summary are compared through the index of `run_value`; of a run
with more than 256 keys (`run.wide`) the JSON itself is asked for those beyond.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wanllmdb import _clock, _json, _names
from wanllmdb._catalog.filter_grammar import (
    Both,
    Compare,
    Condition,
    Not,
    from_mapping,
    parse,
)
from wanllmdb.errors import FilterError

_COLUMNS = {
    "id": "run.run_id", "run_id": "run.run_id", "name": "run.name",
    "display_name": "run.name", "displayname": "run.name", "state": "run.state",
    "project": "project.name", "group": "run.run_group", "notes": "run.notes",
    "job_type": "run.job_type", "jobtype": "run.job_type", "host": "run.host",
    "exit_code": "run.exit_code", "steps": "run.last_step + 1", "error": "run.error",
    "created": "run.created_us", "created_at": "run.created_us",
    "createdat": "run.created_us", "started": "run.started_us",
    "started_at": "run.started_us", "ended": "run.ended_us",
    "ended_at": "run.ended_us",
    "duration": "(coalesce(run.ended_us, run.updated_us) - run.started_us) / 1e6",
}  # fmt: skip
_TIMES = ("run.created_us", "run.started_us", "run.ended_us")
_TEXTS = (
    "run.run_id", "run.name", "run.state", "project.name", "run.run_group",
    "run.notes", "run.job_type", "run.host", "run.error", "tag",
)  # fmt: skip
_NEVER_MISSING = (
    "run.run_id", "run.name", "run.state", "project.name", "run.host",
    "run.created_us", "run.started_us",
)  # fmt: skip
_WIDE = {
    0: "wanllmdb_value(run.config, run.config_blob, ?)",
    1: "wanllmdb_value(run.summary, run.summary_blob, ?)",
}  # fmt: skip
_WANDB_SUFFIX = ".value"
_SCOPES = {"config.": 0, "summary.": 1, "summary_metrics.": 1}


@dataclass(frozen=True, slots=True)
class Order:
    """What runs are sorted by, as SQL.

    Attributes:
        joins: What has to be joined, and its parameters.
        terms: Each expression and its parameters.
        clauses: ORDER BY of the terms, which are called k0, k1 and so on.
    """

    joins: list[tuple[str, list[Any]]]
    terms: list[tuple[str, list[Any]]]
    clauses: list[str]

    def add(self, expression: str, given: list[Any], *, down: bool) -> None:
        """Sort by one more expression."""
        name = f"k{len(self.terms)}"
        self.terms.append((expression, given))
        # Missing values come last in either direction.
        last = "" if expression in _NEVER_MISSING else f"{name} IS NULL, "
        self.clauses.append(f"{last}{name} {'DESC' if down else 'ASC'}")


def compile_filters(
    filters: str | Mapping[str, Any] | None, now_us: int
) -> tuple[str, list[Any]]:
    """A WHERE fragment over `run` and `project`, and its parameters.

    Raises:
        FilterError: the filter cannot be read.
    """
    if filters is None or not filters:
        return "1", []
    if isinstance(filters, str):
        condition = parse(filters) if filters.strip() else None
    elif isinstance(filters, Mapping):
        condition = from_mapping(filters)
    else:
        raise FilterError(
            f"A filter is text or a dict, not {type(filters).__name__}.",
            hint='Example: "config.lr < 0.01 and tag:best"',
        )
    return ("1", []) if condition is None else _compile(condition, now_us)


def compile_order(order: str | Sequence[str] | None) -> Order:
    """What ``-created_at``, ``+summary.loss`` and so on sort by; default newest first.

    Raises:
        FilterError: a field is unknown.
    """
    words = order.split(",") if isinstance(order, str) else list(order or ())
    found = Order([], [], [])
    for index, raw in enumerate(word.strip() for word in words):
        down = raw.startswith("-")
        name = raw.lstrip("+-")
        scope, key = _scope_of(name)
        if scope is None:
            found.add(_column(name), [], down=down)
            continue
        alias = f"o{index}"
        join = (
            "LEFT JOIN (SELECT run_id, value FROM run_value WHERE scope = ?"
            f" AND key = ?) AS {alias} ON {alias}.run_id = run.id"
        )
        found.joins.append((join, [scope, key]))
        beyond = f"CASE WHEN run.wide THEN {_WIDE[scope]} END"
        found.add(f"coalesce({alias}.value, {beyond})", [key], down=down)
    if not found.terms:
        found.add("run.started_us", [], down=True)
    return found


def register_functions(
    connection: sqlite3.Connection, load_blob: Callable[[str], bytes]
) -> None:
    """Add the SQL functions that compiled filters use.

    Args:
        connection: Gets them.
        load_blob: Reads a config or summary that is too large for its row.
    """

    def value_in(document: str, blob: str | None, key: str) -> Any:
        text = document if blob is None else load_blob(blob)
        return _value_in(text, key)

    connection.create_function("REGEXP", 2, _matches, deterministic=True)
    connection.create_function("wanllmdb_value", 3, value_in)


def _compile(condition: Condition, now_us: int) -> tuple[str, list[Any]]:
    if isinstance(condition, Not):
        sql, values = _compile(condition.item, now_us)
        return f"NOT ({sql})", values
    if isinstance(condition, Both):
        if not condition.items:
            return ("1" if condition.word == "and" else "0"), []
        parts = [_compile(item, now_us) for item in condition.items]
        joined = f" {condition.word.upper()} ".join(f"({sql})" for sql, _ in parts)
        return joined, [value for _, values in parts for value in values]
    if condition.op == "!=":
        equal = Compare(condition.field, "=", condition.value)
        return _compile(Not(equal), now_us)
    if condition.op == "=" and condition.value is None:
        return _compile(Not(Compare(condition.field, "exists", None)), now_us)
    return _compare(condition, now_us)


def _compare(test: Compare, now_us: int) -> tuple[str, list[Any]]:
    if test.field.lower() in ("tag", "tags"):
        inner, values = _test("tag", test, now_us)
        return f"run.id IN (SELECT run_id FROM run_tag WHERE {inner})", values
    scope, key = _scope_of(test.field)
    if scope is None:
        return _test(_column(test.field), test, now_us)
    keys = [key]
    if scope == 0 and key.endswith(_WANDB_SUFFIX):  # W&B's spelling of a config key
        keys.append(key.removesuffix(_WANDB_SUFFIX))
    parts = [_compare_value(test, scope, name, now_us) for name in keys]
    sql = " OR ".join(f"({part})" for part, _ in parts)
    return sql, [value for _, values in parts for value in values]


def _compare_value(
    test: Compare, scope: int, key: str, now_us: int
) -> tuple[str, list[Any]]:
    """A test of one key of config or summary; beyond 256 of them, in the JSON."""
    inner, values = _test("value", test, now_us)
    wide, wide_values = _test(_WIDE[scope], test, now_us)
    sql = (
        f"run.id IN (SELECT run_id FROM run_value WHERE scope = ? AND key = ?"
        f" AND {inner}) OR (run.wide = 1 AND {wide})"
    )
    # Each mention of the function takes the key; they all stand before the values.
    keys = [key] * wide.count("wanllmdb_value")
    return sql, [scope, key, *values, *keys, *wide_values]


def _test(column: str, test: Compare, now_us: int) -> tuple[str, list[Any]]:
    """A test that is 0 or 1, never NULL; `column` stands before the parameters."""
    if test.op == "exists":
        return f"{column} IS NOT NULL", []
    if test.op == "in":
        given = test.value if isinstance(test.value, (list, tuple)) else [test.value]
        items = [_bound(value, column, now_us) for value in given if value is not None]
        marks = ", ".join("?" * len(items))
        return f"coalesce({column} IN ({marks}), 0)", items
    value = _bound(test.value, column, now_us)
    if value != value:  # NaN, as which SQLite would see NULL
        return "0", []
    if test.op == "~":
        _pattern(value)
        return f"coalesce({column} REGEXP ?, 0)", [value]
    kinds = "('text')" if isinstance(value, str) else "('integer', 'real')"
    return f"(typeof({column}) IN {kinds} AND {column} {test.op} ?)", [value]


def _bound(value: Any, column: str, now_us: int) -> Any:
    if column in _TEXTS and isinstance(value, (int, float)):
        return str(value).lower() if isinstance(value, bool) else str(value)
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str) and column in _TIMES:
        return _time(value, now_us)
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        return float(value)
    if isinstance(value, str):
        return _names.lookup(value)
    if isinstance(value, (int, float)):
        return value
    raise FilterError(
        f"A filter compares with numbers and text, not {type(value).__name__}.",
        hint="Compare a nested key, such as config.optim.lr.",
    )


def _time(text: str, now_us: int) -> int:
    try:
        return _clock.parse(text, now_us)
    except (ValueError, OverflowError):
        raise FilterError(
            f"{text!r} is no time.", hint="Write 2026-01-31, or -7d for a week ago."
        ) from None


def _scope_of(name: str) -> tuple[int | None, str]:
    for prefix, scope in _SCOPES.items():
        if name.startswith(prefix):
            key = name[len(prefix) :]
            if len(key) > 1 and key[0] == key[-1] == '"':
                key = key[1:-1]
            return scope, key
    return None, name


def _column(name: str) -> str:
    column = _COLUMNS.get(name.lower())
    if column is None:
        from difflib import get_close_matches

        near = get_close_matches(
            name.lower(), [*_COLUMNS, "tag", "config.", "summary."]
        )
        raise FilterError(
            f"Runs have no field {name!r}.",
            hint=f"Did you mean {near[0]!r}?"
            if near
            else "Try config.KEY or summary.KEY.",
        )
    return column


def _pattern(value: Any) -> re.Pattern[str]:
    try:
        return re.compile(value)
    except (re.error, TypeError) as error:
        raise FilterError(
            f"{value!r} is no regular expression: {error}.", hint="Escape it."
        ) from None


def _matches(pattern: str, value: Any) -> bool:
    return isinstance(value, str) and re.search(pattern, value) is not None


def _value_in(document: str | bytes, key: str) -> Any:
    """The scalar of a dotted key in config or summary JSON, as SQL compares it."""
    item = _find(_json.loads(document), key)
    if isinstance(item, bool):
        return int(item)
    if isinstance(item, int) and not -(1 << 63) <= item < 1 << 63:
        return float(item)
    return item if isinstance(item, (int, float, str)) else None


def _find(value: Any, key: str) -> Any:
    if not isinstance(value, dict):
        return None
    if key in value and not isinstance(value[key], dict):
        return value[key]
    for head, item in value.items():
        if key.startswith(f"{head}."):
            found = _find(item, key[len(head) + 1 :])
            if found is not None:
                return found
    return None
