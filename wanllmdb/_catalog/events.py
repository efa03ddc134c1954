"""The event log, and the clocks of fields that sync."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable

from wanllmdb import _clock, _json
from wanllmdb.errors import current_op
from wanllmdb.types import Event, JSONValue


def host_name() -> str:
    """This machine's name."""
    return os.uname().nodename


def user_name() -> str:
    """Who runs this process; the uid where it has no name."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def record(
    connection: sqlite3.Connection,
    kind: str,
    entity: str,
    uid: str,
    *,
    before: JSONValue = None,
    after: JSONValue = None,
    reason: str | None = None,
) -> None:
    """Write one event into the transaction that makes the change."""
    connection.execute(
        "INSERT INTO event (at_us, kind, entity, uid, who, host, op_id, before, after,"
        " reason) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            _clock.now_us(), kind, entity, uid, user_name(), host_name(),
            current_op.get(), _json.dumps(before), _json.dumps(after), reason,
        ),
    )  # fmt: skip


def read(connection: sqlite3.Connection, entity: str, uid: str) -> list[Event]:
    """All events of one thing, oldest first."""
    rows = connection.execute(
        "SELECT at_us, kind, entity, uid, who, host, op_id, before, after, reason"
        " FROM event WHERE entity = ? AND uid = ? ORDER BY id",
        (entity, uid),
    )
    made = []
    for *plain, before, after, reason in rows:
        at_us, kind, entity_, uid_, who, host, op = plain
        made.append(
            Event(
                at_us, kind, entity_, uid_, who, host, op,
                _json.loads(before), _json.loads(after), reason,
            )
        )  # fmt: skip
    return made


def touch_fields(
    connection: sqlite3.Connection, entity: str, uid: str, fields: Iterable[str]
) -> None:
    """Advance the hybrid logical clock and stamp fields with it.

    Source: HLC = max(wall, last seen) + counter (Kulkarni et al., "Logical Physical
    Clocks", 2014), in microseconds.
    """
    last = int(
        connection.execute("SELECT value FROM meta WHERE key = 'hlc'").fetchone()[0]
    )
    hlc = max(_clock.now_us(), last + 1)
    connection.execute("UPDATE meta SET value = ? WHERE key = 'hlc'", (str(hlc),))
    connection.executemany(
        "INSERT INTO field_rev SELECT ?, ?, ?, ?, value FROM meta WHERE key = 'device'"
        # Later than what was seen, also of a clock that is too far ahead to take over.
        " ON CONFLICT DO UPDATE SET hlc = max(excluded.hlc, hlc + 1),"
        " device = excluded.device",
        [(entity, uid, name, hlc) for name in fields],
    )
