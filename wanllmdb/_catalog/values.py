"""Config, summary, statistics and definitions of a run, as rows."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

from wanllmdb import _clock, _json
from wanllmdb._catalog.schema import JSON_LIMIT, RUN_KEY_LIMIT
from wanllmdb.types import (
    ALL_STEPS_SUPERSEDED,
    INT64_MAX,
    INT64_MIN,
    Epoch,
    JSONValue,
    KeyStats,
    RunRecord,
)

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


@dataclass(frozen=True, slots=True)
class KeyRows:
    """The statistics of a run's keys as rows, made before a transaction begins."""

    rows: list[tuple[Any, ...]]
    packed: bytes | None


def key_rows(stats: Mapping[str, KeyStats], defined: Iterable[str] = ()) -> KeyRows:
    """Rows for the first 256 keys and every defined metric, the rest packed."""
    first = dict.fromkeys([*list(stats)[:RUN_KEY_LIMIT], *defined])
    rows = []
    rest = []
    for position, (key, item) in enumerate(stats.items()):
        if key in first:
            rows.append((key, *_sql_stats(item, position)))
        else:
            rest.append([key, *astuple(item)])
    packed = zlib.compress(_json.dumps(rest).encode()) if rest else None
    return KeyRows(rows, packed)


def set_keys(connection: sqlite3.Connection, pk: int, keys: KeyRows) -> None:
    """Store the statistics of a run's keys."""
    connection.execute("DELETE FROM run_key WHERE run_id = ?", (pk,))
    connection.executemany(
        "INSERT INTO run_key VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [(pk, *row) for row in keys.rows],
    )
    connection.execute("DELETE FROM run_keys_packed WHERE run_id = ?", (pk,))
    if keys.packed is not None:
        connection.execute(
            "INSERT INTO run_keys_packed VALUES (?, ?)", (pk, keys.packed)
        )


def read_keys(connection: sqlite3.Connection, pk: int) -> dict[str, KeyStats]:
    """The statistics of every key of a run, in the order of first appearance."""
    rows = connection.execute(
        "SELECT key, count, nans, last, last_step, min, max, mean, exact FROM run_key"
        " WHERE run_id = ? ORDER BY position",
        (pk,),
    )
    stats = {}
    for key, count, nans, last, last_step, low, high, mean, exact in rows:
        if exact is not None:
            last, low, high = _json.loads(exact)
        stats[key] = KeyStats(count, nans, last, last_step, low, high, mean)
    packed = connection.execute(
        "SELECT rows FROM run_keys_packed WHERE run_id = ?", (pk,)
    ).fetchone()
    if packed is not None:
        stats.update(_unpacked(packed[0]))
    return stats


def _sql_stats(stats: KeyStats, position: int) -> tuple[Any, ...]:
    """The columns of a key, as SQLite can compare them, and exact where it cannot."""
    given = [stats.last, stats.min, stats.max]
    held = [dict(flatten({"v": value})).get("v") for value in given]
    same = all(type(a) is type(b) and a == b for a, b in zip(given, held, strict=True))
    last, low, high = held
    exact = None if same else _json.dumps(given)
    return (
        stats.count, stats.nans, last, stats.last_step, low, high, stats.mean,
        position, exact,
    )  # fmt: skip


def add_definition(
    connection: sqlite3.Connection,
    record: RunRecord,
    glob: str,
    options: Mapping[str, JSONValue],
) -> None:
    """Store one `define_metric`; the same glob again replaces it."""
    connection.execute(
        "INSERT INTO metric_definition VALUES (?, ?, (SELECT count(*) FROM"
        " metric_definition WHERE run_id = ?), ?, ?)"
        " ON CONFLICT DO UPDATE SET options = excluded.options",
        (record.pk, record.epoch, record.pk, glob, _json.dumps(dict(options))),
    )


def read_definitions(
    connection: sqlite3.Connection, pk: int, epochs: Sequence[Epoch]
) -> dict[str, dict[str, JSONValue]]:
    """Every `define_metric` that holds, in order.

    Args:
        connection: Where to read.
        pk: The run.
        epochs: Its attempts; what was defined before it was begun anew is left out.
    """
    shown = [epoch for epoch in epochs if epoch.reverted_us is None]
    begun = [e.number for e in shown if e.keep_step == ALL_STEPS_SUPERSEDED]
    wanted = {e.number for e in shown if e.number >= max(begun, default=0)}
    rows = connection.execute(
        "SELECT epoch, glob, options FROM metric_definition WHERE run_id = ?"
        " ORDER BY epoch, position",
        (pk,),
    )
    return {
        glob: _json.loads(options) for epoch, glob, options in rows if epoch in wanted
    }


def runs_with(
    connection: sqlite3.Connection, keys: Sequence[str], project: str | None
) -> list[int]:
    """The runs, in no trash, that logged one of the keys; the oldest first."""
    rows = connection.execute(
        "SELECT DISTINCT run.id FROM run_key JOIN run ON run.id = run_key.run_id"
        " JOIN project ON project.id = run.project_id"
        " WHERE run_key.key IN (SELECT value FROM json_each(:keys))"
        " AND run.deleted_us IS NULL"
        " AND (:name IS NULL OR project.name = :name)",
        {"keys": json.dumps([*keys]), "name": project},
    )
    found = {row[0] for row in rows}
    for pk, stats in _packed(connection, project):
        if any(key in stats for key in keys):
            found.add(pk)
    return sorted(found)


def _packed(
    connection: sqlite3.Connection, project: str | None
) -> Iterable[tuple[int, dict[str, KeyStats]]]:
    """(run, statistics) of the keys beyond the first 256, of runs that have any."""
    rows = connection.execute(
        "SELECT run.id, rows FROM run_keys_packed"
        " JOIN run ON run.id = run_keys_packed.run_id"
        " JOIN project ON project.id = run.project_id"
        " WHERE run.deleted_us IS NULL AND (:name IS NULL OR project.name = :name)",
        {"name": project},
    )
    for pk, packed in rows:
        yield pk, _unpacked(packed)


def _unpacked(packed: bytes) -> dict[str, KeyStats]:
    rows = _json.loads(zlib.decompress(packed))
    return {key: KeyStats(*fields) for key, *fields in rows}


@dataclass(frozen=True, slots=True)
class Standing:
    """What one metric of a run came to."""

    run_id: str
    project: str
    name: str
    state: str
    stats: KeyStats


def standings(
    connection: sqlite3.Connection, key: str, project: str | None
) -> list[Standing]:
    """What a metric came to in each run that logged it; no rows are read."""
    heads = "run.run_id, project.name, run.name, run.state"
    rows = connection.execute(
        f"SELECT {heads}, count, nans, last, run_key.last_step, min, max, mean, exact"
        " FROM run_key JOIN run ON run.id = run_key.run_id"
        " JOIN project ON project.id = run.project_id WHERE run_key.key = :key"
        " AND run.deleted_us IS NULL"
        " AND (:name IS NULL OR project.name = :name)",
        {"key": key, "name": project},
    )
    found = []
    for *head, count, nans, last, step, low, high, mean, exact in rows:
        if exact is not None:
            last, low, high = _json.loads(exact)
        stats = KeyStats(count, nans, last, step, low, high, mean)
        found.append(Standing(*[*head, stats]))
    for pk, packed in _packed(connection, project):
        if key in packed:
            head = connection.execute(
                f"SELECT {heads} FROM run JOIN project ON project.id = run.project_id"
                " WHERE run.id = ?",
                (pk,),
            ).fetchone()
            found.append(Standing(*[*head, packed[key]]))
    return found
