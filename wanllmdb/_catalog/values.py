"""Config, summary, statistics and definitions of a run, as rows."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import astuple
from typing import Any

from wanllmdb import _clock, _json
from wanllmdb._catalog.schema import JSON_LIMIT, RUN_KEY_LIMIT
from wanllmdb.types import INT64_MAX, INT64_MIN, JSONValue, KeyStats

_SCOPES = {"config": 0, "summary": 1}


def set_json(
    connection: sqlite3.Connection,
    pk: int,
    scope: str,
    value: Mapping[str, JSONValue],
    text: str,
    blob: str | None,
) -> None:
    """Store config or summary: its JSON (or the blob that holds it), and its scalars.

    Args:
        connection: Inside a transaction.
        pk: The run.
        scope: ``config`` or ``summary``.
        value: The mapping itself.
        text: Its JSON, as `_json.dumps` wrote it.
        blob: Digest of the blob that holds the text where it is over the limit.
    """
    assert blob is not None or len(text) <= JSON_LIMIT
    connection.execute(
        f"UPDATE run SET {scope} = ?, {scope}_blob = ?, updated_us = ? WHERE id = ?",
        (text if blob is None else "{}", blob, _clock.now_us(), pk),
    )
    number = _SCOPES[scope]
    scalars = list(flatten(value))
    connection.execute(
        "DELETE FROM run_value WHERE run_id = ? AND scope = ?", (pk, number)
    )
    connection.executemany(
        "INSERT OR REPLACE INTO run_value VALUES (?, ?, ?, ?)",
        [(pk, number, key, item) for key, item in scalars[:RUN_KEY_LIMIT]],
    )
    if len(scalars) > RUN_KEY_LIMIT:
        connection.execute("UPDATE run SET wide = 1 WHERE id = ?", (pk,))


def flatten(
    value: Mapping[str, JSONValue], prefix: str = ""
) -> Iterable[tuple[str, Any]]:
    """Scalars of nested mappings with dotted keys, as SQLite can compare them.

    NaN becomes NULL, as SQLite would do on its own; an int beyond 64 bits a float.
    """
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from flatten(item, f"{prefix}{key}.")
        elif isinstance(item, bool):
            yield prefix + key, int(item)
        elif isinstance(item, int):
            yield prefix + key, _sql_int(item)
        elif isinstance(item, float):
            yield prefix + key, item if item == item else None
        elif isinstance(item, str) or item is None:
            yield prefix + key, item


def _sql_int(value: int) -> int | float:
    if INT64_MIN <= value <= INT64_MAX:
        return value
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def set_keys(
    connection: sqlite3.Connection, pk: int, stats: Mapping[str, KeyStats],
    defined: Iterable[str] = (),
) -> None:  # fmt: skip
    """Store the statistics of a run's keys: rows for the first 256, the rest packed."""
    first = dict.fromkeys([*list(stats)[:RUN_KEY_LIMIT], *defined])
    connection.execute("DELETE FROM run_key WHERE run_id = ?", (pk,))
    connection.executemany(
        "INSERT INTO run_key VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [(pk, key, *_sql_stats(stats[key])) for key in first if key in stats],
    )
    rest = [[key, *astuple(item)] for key, item in stats.items() if key not in first]
    connection.execute("DELETE FROM run_keys_packed WHERE run_id = ?", (pk,))
    if rest:
        packed = zlib.compress(_json.dumps(rest).encode())
        connection.execute("INSERT INTO run_keys_packed VALUES (?, ?)", (pk, packed))


def read_keys(connection: sqlite3.Connection, pk: int) -> dict[str, KeyStats]:
    """The statistics of every key of a run, in the order of first appearance."""
    rows = connection.execute(
        "SELECT key, count, nans, last, last_step, min, max, mean FROM run_key"
        " WHERE run_id = ?",
        (pk,),
    )
    stats = {row[0]: KeyStats(*row[1:]) for row in rows}
    packed = connection.execute(
        "SELECT rows FROM run_keys_packed WHERE run_id = ?", (pk,)
    ).fetchone()
    if packed is not None:
        for key, *fields in _json.loads(zlib.decompress(packed[0])):
            stats[key] = KeyStats(*fields)
    return stats


def _sql_stats(stats: KeyStats) -> tuple[Any, ...]:
    scalar = dict(flatten({"v": stats.last})).get("v")
    low = dict(flatten({"v": stats.min})).get("v")
    high = dict(flatten({"v": stats.max})).get("v")
    return (stats.count, stats.nans, scalar, stats.last_step, low, high, stats.mean)


def add_definition(
    connection: sqlite3.Connection, pk: int, glob: str, options: Mapping[str, JSONValue]
) -> None:
    """Store one `define_metric`; the same glob again replaces it."""
    connection.execute(
        "INSERT INTO metric_definition VALUES (?, (SELECT count(*) FROM"
        " metric_definition WHERE run_id = ?), ?, ?)"
        " ON CONFLICT DO UPDATE SET options = excluded.options",
        (pk, pk, glob, _json.dumps(dict(options))),
    )


def read_definitions(
    connection: sqlite3.Connection, pk: int
) -> dict[str, dict[str, JSONValue]]:
    """Every `define_metric` of a run, in order."""
    rows = connection.execute(
        "SELECT glob, options FROM metric_definition WHERE run_id = ?"
        " ORDER BY position",
        (pk,),
    )
    return {row[0]: _json.loads(row[1]) for row in rows}
