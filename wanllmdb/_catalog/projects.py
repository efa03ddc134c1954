"""Projects."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from wanllmdb import _clock, _ids, _names
from wanllmdb._catalog import events
from wanllmdb.errors import ConflictError, ProjectNotFoundError


@dataclass(frozen=True, slots=True)
class ProjectRecord:
    """One project, and how many runs it holds outside the trash."""

    name: str
    uid: str
    created_us: int
    runs: int
    running: int
    last_started_us: int | None


def ensure(connection: sqlite3.Connection, name: str) -> int:
    """The project's key; made if it does not exist, taken out of the trash if there.

    The uid is derived from the name, so two laptops agree on it before they meet.
    """
    import hashlib

    uid = hashlib.sha256(f"project:{name}".encode()).hexdigest()[:32]
    if connection.execute(
        "SELECT 1 FROM project WHERE uid = ? AND name != ?", (uid, name)
    ).fetchone():  # a renamed project keeps the uid that its first name gave it
        uid = _ids.uid()
    connection.execute(
        "INSERT INTO project (uid, name, created_us) VALUES (?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET deleted_us = NULL",
        (uid, name, _clock.now_us()),
    )
    row = connection.execute("SELECT id FROM project WHERE name = ?", (name,))
    key: int = row.fetchone()[0]
    return key


def read_all(connection: sqlite3.Connection) -> list[ProjectRecord]:
    """Every project outside the trash, by name, in one statement."""
    rows = connection.execute(
        "SELECT p.name, p.uid, p.created_us, count(r.id),"
        " coalesce(sum(r.state = 'running'), 0), max(r.started_us)"
        " FROM project p"
        " LEFT JOIN run r ON r.project_id = p.id AND r.deleted_us IS NULL"
        " WHERE p.deleted_us IS NULL GROUP BY p.id ORDER BY p.name"
    )
    return [ProjectRecord(*row) for row in rows]


def get(connection: sqlite3.Connection, name: str) -> ProjectRecord:
    """One project.

    Raises:
        ProjectNotFoundError: none has that name.
    """
    for record in read_all(connection):
        if record.name == name:
            return record
    raise ProjectNotFoundError(
        f"There is no project {name!r}.",
        hint="`wanllmdb project ls` shows them.",
        project=name,
    )


def rename(connection: sqlite3.Connection, old: str, new: str) -> None:
    """Give a project another name.

    Raises:
        ProjectNotFoundError: none has the old name.
        ConflictError: one has the new name.
    """
    record = get(connection, old)
    try:
        connection.execute(
            "UPDATE project SET name = ? WHERE uid = ?",
            (_names.project(new), record.uid),
        )
    except sqlite3.IntegrityError:
        raise ConflictError(
            f"A project {new!r} exists.", hint="Choose another name.", project=new
        ) from None
    events.record(connection, "rename", "project", record.uid, before=old, after=new)
    events.touch_fields(connection, "project", record.uid, ["name"])


def delete(connection: sqlite3.Connection, name: str) -> None:
    """Move a project and its runs to the trash."""
    record = get(connection, name)
    now = _clock.now_us()
    uids = connection.execute(
        "UPDATE run SET deleted_us = ? WHERE deleted_us IS NULL AND project_id ="
        " (SELECT id FROM project WHERE uid = ?) RETURNING uid",
        (now, record.uid),
    ).fetchall()
    for (uid,) in uids:
        events.record(connection, "delete", "run", uid, reason=f"project {name}")
        events.touch_fields(connection, "run", uid, ["deleted"])
    connection.execute(
        "UPDATE project SET deleted_us = ? WHERE uid = ?", (now, record.uid)
    )
    events.record(connection, "delete", "project", record.uid, before=name)
    events.touch_fields(connection, "project", record.uid, ["deleted"])
