"""Files, blobs and alerts of a run."""

from __future__ import annotations

import sqlite3

from wanllmdb.types import Alert, AlertLevel, Digest, RunFile


def put(connection: sqlite3.Connection, pk: int, file: RunFile) -> None:
    """Record a file; a later save of the same path replaces it."""
    connection.execute(
        "INSERT INTO run_file VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
        " digest = excluded.digest, size = excluded.size, policy = excluded.policy,"
        " source = excluded.source, mtime_ns = excluded.mtime_ns,"
        " saved_us = excluded.saved_us",
        (
            pk, file.path, file.digest, file.size, file.policy, file.source,
            file.mtime_ns, file.saved_us,
        ),
    )  # fmt: skip


def read(connection: sqlite3.Connection, pk: int) -> list[RunFile]:
    """Every file of a run, by path."""
    rows = connection.execute(
        "SELECT path, digest, size, policy, source, mtime_ns, saved_us FROM run_file"
        " WHERE run_id = ? ORDER BY path",
        (pk,),
    )
    return [RunFile(row[0], Digest(row[1]), *row[2:]) for row in rows]


def refer(connection: sqlite3.Connection, pk: int, digest: str) -> None:
    """Note that a run's log, config or summary needs a blob."""
    connection.execute("INSERT OR IGNORE INTO run_blob VALUES (?, ?)", (pk, digest))


def add_alert(connection: sqlite3.Connection, pk: int, alert: Alert) -> None:
    """Store an alert."""
    connection.execute(
        "INSERT INTO alert (run_id, title, text, level, raised_us, step)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (pk, alert.title, alert.text, alert.level, alert.raised_us, alert.step),
    )


def alerts(connection: sqlite3.Connection, pk: int) -> list[Alert]:
    """Every alert of a run, oldest first."""
    rows = connection.execute(
        "SELECT title, text, level, raised_us, step FROM alert WHERE run_id = ?"
        " ORDER BY id",
        (pk,),
    )
    return [Alert(row[0], row[1], AlertLevel(row[2]), row[3], row[4]) for row in rows]
