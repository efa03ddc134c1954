"""Projects."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from wanllmdb import _clock, _ids, _names
from wanllmdb._catalog import events, remotes
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
    raise _unknown(name)


def name_of(connection: sqlite3.Connection, uid: str) -> str:
    """The name of the project that has a uid, which there must be."""
    row = connection.execute("SELECT name FROM project WHERE uid = ?", (uid,))
    return str(row.fetchone()[0])


def _unknown(name: str) -> ProjectNotFoundError:
    return ProjectNotFoundError(
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
            "UPDATE project SET name = ?, given_name = NULL WHERE uid = ?",
            (_names.project(new), record.uid),
        )
    except sqlite3.IntegrityError:
        raise ConflictError(
            f"A project {new!r} exists.", hint="Choose another name.", project=new
        ) from None
    events.record(connection, "rename", "project", record.uid, before=old, after=new)
    events.touch_fields(connection, "project", record.uid, ["name"])
    remotes.resolve_conflicts(connection, "project name", record.uid)


def delete(connection: sqlite3.Connection, name: str, now: int) -> None:
    """Move a project and its runs to the trash.

    Args:
        connection: The transaction.
        name: The project's name.
        now: Microseconds since 1970; what goes with it goes at just that time.
    """
    record = get(connection, name)
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
    events.record(connection, "delete", "project", record.uid, before=name, after=now)
    events.touch_fields(connection, "project", record.uid, ["deleted"])


@dataclass(frozen=True, slots=True)
class Trashed:
    """What went with a project and is in the trash: keys of runs and of versions."""

    deleted: bool
    runs: list[int]
    versions: list[int]


def trashed(connection: sqlite3.Connection, name: str) -> Trashed:
    """What is in the trash of what went there with a project when it went last.

    Raises:
        ProjectNotFoundError: there is none of that name, in the trash or not.
    """
    row = connection.execute(
        "SELECT id, uid, deleted_us FROM project WHERE name = ?", (name,)
    ).fetchone()
    if row is None:
        raise _unknown(name)
    key, uid, deleted_us = row
    times = [
        event.after for event in events.read(connection, "project", uid)
        if event.kind == "delete"
    ]  # fmt: skip
    at = times[-1] if times and times[-1] is not None else deleted_us
    given = {"project": key, "at": at}
    gone = connection.execute(
        "SELECT id FROM run WHERE project_id = :project AND deleted_us = :at"
        " ORDER BY id", given,
    )  # fmt: skip
    lost = connection.execute(
        "SELECT version.id FROM version JOIN artifact ON artifact.id = artifact_id"
        " WHERE project_id = :project AND deleted_us = :at ORDER BY version.id", given,
    )  # fmt: skip
    return Trashed(
        deleted_us is not None,
        [pk for (pk,) in gone.fetchall()],
        [pk for (pk,) in lost.fetchall()],
    )


def take_out(connection: sqlite3.Connection, name: str) -> None:
    """Take a project out of the trash, if it is there."""
    row = connection.execute(
        "UPDATE project SET deleted_us = NULL WHERE name = ?"
        " AND deleted_us IS NOT NULL RETURNING uid",
        (name,),
    ).fetchone()
    if row is not None:
        events.record(connection, "restore", "project", row[0], after=name)
        events.touch_fields(connection, "project", row[0], ["deleted"])
