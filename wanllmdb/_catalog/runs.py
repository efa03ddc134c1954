"""Runs: creating, finding, changing, finishing, deleting."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from wanllmdb import _clock, _json, _names
from wanllmdb._catalog import events, filters, projects, remotes
from wanllmdb.errors import (
    AmbiguousNameError,
    ConflictError,
    InvalidInputError,
    RunExistsError,
    RunNotFoundError,
)
from wanllmdb.types import (
    End,
    Epoch,
    JSONValue,
    Losses,
    NewRun,
    Parent,
    RunRecord,
    State,
)

_SELECT = """
SELECT run.id, run.uid, project.name AS project, run.run_id, run.name, run.notes,
    run.run_group, run.job_type, run.state, run.exit_code, run.error, run.epoch,
    run.last_step, run.created_us, run.started_us, run.ended_us, run.deleted_us,
    run.host, run.pid, run.dropped_rows, run.coerced_values, run.damage,
    run.config, run.config_blob, run.summary, run.summary_blob,
    run.parent_id, run.parent_epoch, run.parent_step, run.parent_marks,
    (SELECT uid FROM run AS parent WHERE parent.id = run.parent_id) AS parent_uid,
    (SELECT json_group_array(tag) FROM run_tag WHERE run_tag.run_id = run.id) AS tags
FROM run JOIN project ON project.id = run.project_id
"""
_SPECIAL = re.compile(r"@(last(~[^/]*)?|best:.+)\Z")
_EDITABLE = {
    "name": "name",
    "notes": "notes",
    "group": "run_group",
    "job_type": "job_type",
}


def insert(connection: sqlite3.Connection, new: NewRun, pid: int) -> int:
    """Add a run in state running and its first epoch; return its key."""
    now = _clock.now_us()
    project = projects.ensure(connection, new.project)
    parent = new.parent
    try:
        cursor = connection.execute(
            "INSERT INTO run (uid, project_id, run_id, name, notes, run_group,"
            " job_type, created_us, started_us, updated_us, host, pid, identity,"
            " parent_id, parent_epoch, parent_step, parent_marks)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                new.uid, project, new.run_id, new.name, new.notes, new.group,
                new.job_type, now, now, now, events.host_name(), pid, new.identity,
                parent and parent.run_pk, parent and parent.epoch,
                parent and parent.step, parent and _json.dumps(dict(parent.marks)),
            ),
        )  # fmt: skip
    except sqlite3.IntegrityError:
        raise RunExistsError(
            f"A run {new.run_id!r} exists in project {new.project!r}.",
            hint="Choose another id, or go on with it by resume='allow'.",
            run=new.run_id,
        ) from None
    assert cursor.lastrowid is not None
    add_tags(connection, cursor.lastrowid, new.tags)
    events.record(connection, "create", "run", new.uid, after=new.name)
    given = {
        "name": new.name, "notes": new.notes, "group": new.group,
        "job_type": new.job_type, "tags": new.tags or None,
        **{f"config.{key}": True for key in new.config},
    }  # fmt: skip
    fields = [name for name, value in given.items() if value is not None]
    events.touch_fields(connection, "run", new.uid, fields)
    return cursor.lastrowid


def next_number(connection: sqlite3.Connection, project: str) -> int:
    """The number that a generated name ends with: runs so far, plus one."""
    row = connection.execute(
        "SELECT count(*) FROM run JOIN project ON project.id = run.project_id"
        " WHERE project.name = ?",
        (project,),
    )
    return int(row.fetchone()[0]) + 1


def add_epoch(
    connection: sqlite3.Connection,
    pk: int,
    kind: str,
    pid: int,
    *,
    first_step: int = 0,
    keep_step: int | None = None,
    job: str | None = None,
) -> int:
    """Open the next epoch of a run, which makes it running; return its number."""
    row = connection.execute(
        "SELECT coalesce(max(epoch), 0) + 1 FROM epoch WHERE run_id = ?", (pk,)
    )
    number: int = row.fetchone()[0]
    now, host = _clock.now_us(), events.host_name()
    connection.execute(
        "INSERT INTO epoch (run_id, epoch, kind, keep_step, first_step, started_us,"
        " host, pid, job, device) SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, value FROM meta"
        " WHERE key = 'device'",
        (pk, number, kind, keep_step, first_step, now, host, pid, job),
    )
    connection.execute(
        "UPDATE run SET epoch = ?, state = 'running', exit_code = NULL, error = NULL,"
        " ended_us = NULL, deleted_us = NULL, host = ?, pid = ?, updated_us = ?"
        " WHERE id = ?",
        (number, host, pid, now, pk),
    )
    if number > 1:
        uid = connection.execute("SELECT uid FROM run WHERE id = ?", (pk,)).fetchone()
        events.record(connection, kind, "run", uid[0], before=keep_step, after=number)
        connection.execute(
            "UPDATE project SET deleted_us = NULL WHERE id ="
            " (SELECT project_id FROM run WHERE run.id = ?)",
            (pk,),
        )
    return number


def job_of(connection: sqlite3.Connection, record: RunRecord) -> str | None:
    """The torchrun job that opened a run's latest epoch, if one did."""
    row = connection.execute(
        "SELECT job FROM epoch WHERE run_id = ? AND epoch = ?",
        (record.pk, record.epoch),
    ).fetchone()
    return None if row is None else row[0]


def epochs(connection: sqlite3.Connection, pk: int) -> list[Epoch]:
    """All epochs of a run, in order."""
    rows = connection.execute(
        "SELECT epoch, kind, keep_step, first_step, started_us, ended_us,"
        " reverted_us FROM epoch WHERE run_id = ? ORDER BY epoch",
        (pk,),
    )
    return [
        Epoch(number, kind, keep, first, started, ended, reverted)
        for number, kind, keep, first, started, ended, reverted in rows
    ]


def revert_epochs(connection: sqlite3.Connection, record: RunRecord, to: int) -> None:
    """Hide every epoch after `to`, so that what they superseded shows again."""
    changed = connection.execute(
        "UPDATE epoch SET reverted_us = ? WHERE run_id = ? AND epoch > ?"
        " AND reverted_us IS NULL",
        (_clock.now_us(), record.pk, to),
    )
    connection.execute(
        "UPDATE epoch SET reverted_us = NULL WHERE run_id = ? AND epoch <= ?",
        (record.pk, to),
    )
    if changed.rowcount == 0:
        raise InvalidInputError(
            f"Run {record.run_id} has no epoch after {to}.",
            hint="`wanllmdb show` lists its epochs.",
        )
    events.record(connection, "revert", "run", record.uid, after=to)


def set_ended(
    connection: sqlite3.Connection, pk: int, end: End, *, ended_us: int
) -> None:
    """Give a run and its current epoch an end."""
    connection.execute(
        "UPDATE run SET state = ?, exit_code = ?, error = ?, ended_us = ?,"
        " updated_us = ? WHERE id = ?",
        (end.state, end.exit_code, end.error, ended_us, _clock.now_us(), pk),
    )
    connection.execute(
        "UPDATE epoch SET ended_us = ? WHERE run_id = ? AND epoch ="
        " (SELECT epoch FROM run WHERE id = ?)",
        (ended_us, pk, pk),
    )


def set_crashed(connection: sqlite3.Connection, pk: int, *, ended_us: int) -> None:
    """Give a run whose writers died its end."""
    set_ended(connection, pk, End(State.CRASHED), ended_us=ended_us)
    connection.execute("UPDATE run SET exit_code = NULL WHERE id = ?", (pk,))


def set_last_step(connection: sqlite3.Connection, pk: int, step: int | None) -> None:
    """Store the greatest visible step."""
    connection.execute("UPDATE run SET last_step = ? WHERE id = ?", (step, pk))


def add_losses(connection: sqlite3.Connection, pk: int, losses: Losses) -> None:
    """Count further rows and values that could not be kept as they were logged."""
    connection.execute(
        "UPDATE run SET dropped_rows = dropped_rows + ?,"
        " coerced_values = coerced_values + ? WHERE id = ?",
        (losses.rows, losses.values, pk),
    )


def set_damage(connection: sqlite3.Connection, pk: int, damage: str | None) -> None:
    """Say what in a run's log is no frame."""
    connection.execute("UPDATE run SET damage = ? WHERE id = ?", (damage, pk))


def add_damage(connection: sqlite3.Connection, pk: int, damage: str) -> None:
    """Note further damage to what a run has logged."""
    connection.execute(
        "UPDATE run SET damage = coalesce(damage || '; ', '') || ? WHERE id = ?",
        (damage, pk),
    )


def set_environment(
    connection: sqlite3.Connection, pk: int, facts: Mapping[str, JSONValue]
) -> None:
    """Store what was captured of a run's surroundings."""
    connection.execute(
        "UPDATE run SET environment = ? WHERE id = ?", (_json.dumps(dict(facts)), pk)
    )


def revive(connection: sqlite3.Connection, record: RunRecord) -> None:
    """Return a run that has an end to `running`: somebody writes it after all."""
    changed = connection.execute(
        "UPDATE run SET state = 'running', ended_us = NULL, exit_code = NULL,"
        " error = NULL WHERE id = ? AND state != 'running'",
        (record.pk,),
    )
    if changed.rowcount:
        events.record(connection, "revive", "run", record.uid, before=str(record.state))


def purge(connection: sqlite3.Connection, record: RunRecord) -> None:
    """Remove a run for good, with everything that the Catalog knows of it.

    Raises:
        ConflictError: a fork of it shows some of its rows.
    """
    path = f"{record.project}/{record.run_id}"
    try:
        connection.execute("DELETE FROM run WHERE id = ?", (record.pk,))
    except sqlite3.IntegrityError:
        raise ConflictError(
            f"Run {path} cannot be removed: a fork of it shows its rows.",
            hint="Remove the fork first.",
            run=record.run_id,
        ) from None
    events.record(connection, "purge", "run", record.uid, before=path)


def find_newest_dead(
    connection: sqlite3.Connection, project: str, identity: str
) -> RunRecord | None:
    """The newest run of a script that did not end well, or None."""
    row = connection.execute(
        f"{_SELECT} WHERE project.name = ? AND run.identity = ? AND run.state IN"
        " ('crashed', 'failed', 'killed') AND run.deleted_us IS NULL"
        " ORDER BY run.started_us DESC, run.id DESC LIMIT 1",
        (project, identity),
    ).fetchone()
    return None if row is None else _record(row)


def running(
    connection: sqlite3.Connection, project: str | None = None
) -> list[RunRecord]:
    """The runs in state running, of one project or of all, the newest first."""
    rows = connection.execute(
        # A literal, for the partial index to be used.
        f"{_SELECT} WHERE run.state = 'running' AND run.deleted_us IS NULL"
        " AND (:name IS NULL OR project.name = :name) ORDER BY run.started_us DESC",
        {"name": None if project is None else _names.lookup(project)},
    )
    return [_record(row) for row in rows.fetchall()]


def is_ours(connection: sqlite3.Connection, record: RunRecord) -> bool:
    """Whether a run's last attempt was begun in this Store, by whatever device it was.

    What another Store began is its to end: nobody here can say whether it lives.
    """
    row = connection.execute(
        "SELECT device FROM epoch WHERE run_id = ? ORDER BY epoch DESC LIMIT 1",
        (record.pk,),
    ).fetchone()
    return row is None or row[0] in ("", *remotes.devices(connection))


def count(connection: sqlite3.Connection) -> tuple[int, int, int]:
    """(all runs, those running, those in the trash)."""
    row = connection.execute(
        "SELECT count(*), coalesce(sum(state = 'running'), 0),"
        " coalesce(sum(deleted_us IS NOT NULL), 0) FROM run"
    ).fetchone()
    return row[0], row[1], row[2]


def read(connection: sqlite3.Connection, pk: int) -> RunRecord:
    """The run of a key.

    Raises:
        RunNotFoundError: it was purged.
    """
    row = connection.execute(f"{_SELECT} WHERE run.id = ?", (pk,)).fetchone()
    if row is None:
        raise RunNotFoundError("That run was purged.", hint="List the runs again.")
    return _record(row)


def find_uid(connection: sqlite3.Connection, uid: str) -> int | None:
    """The key of the run with a uid of ours, in the trash or not, or None."""
    row = connection.execute("SELECT id FROM run WHERE uid = ?", (uid,)).fetchone()
    return None if row is None else int(row[0])


def exists(connection: sqlite3.Connection, pk: int) -> bool:
    """Whether a run was not purged."""
    row = connection.execute("SELECT 1 FROM run WHERE id = ?", (pk,)).fetchone()
    return row is not None


def project_uid(connection: sqlite3.Connection, name: str) -> str:
    """The uid of a run's project."""
    row = connection.execute("SELECT uid FROM project WHERE name = ?", (name,))
    return str(row.fetchone()[0])


def find(connection: sqlite3.Connection, project: str, run_id: str) -> RunRecord | None:
    """The run with an exact id, in the trash or not, or None."""
    row = connection.execute(
        f"{_SELECT} WHERE project.name = ? AND run.run_id = ?", (project, run_id)
    ).fetchone()
    return None if row is None else _record(row)


def find_many(
    connection: sqlite3.Connection,
    *,
    project: str | None = None,
    condition: str | Mapping[str, Any] | None = None,
    order: str | Sequence[str] | None = None,
    limit: int | None = None,
    offset: int = 0,
    deleted: bool = False,
) -> list[RunRecord]:
    """Runs by project, filter and order, in one statement.

    Raises:
        FilterError: the filter or the order cannot be parsed.
    """
    where, values = filters.compile_filters(condition, _clock.now_us())
    ordering = filters.compile_order(order)
    parts = [where, f"run.deleted_us IS {'NOT ' if deleted else ''}NULL"]
    if project is not None:
        parts.append("project.name = ?")
        values = [*values, _names.lookup(project)]
    columns = ", ".join(f"{sql} AS k{i}" for i, (sql, _) in enumerate(ordering.terms))
    by = ", ".join(ordering.clauses)
    # Chosen by key first: the wide rows are read only for the runs that are wanted.
    rows = connection.execute(
        f"WITH chosen AS (SELECT run.id AS chosen_id, {columns} FROM run"
        f" JOIN project ON project.id = run.project_id"
        f" {' '.join(join for join, _ in ordering.joins)}"
        f" WHERE {' AND '.join(f'({p})' for p in parts)}"
        f" ORDER BY {by}, run.id DESC LIMIT ? OFFSET ?)"
        f" {_SELECT} JOIN chosen ON chosen.chosen_id = run.id"
        f" ORDER BY {by}, run.id DESC",
        (
            *(v for _, given in ordering.terms for v in given),
            *(v for _, given in ordering.joins for v in given),
            *values, -1 if limit is None else limit, offset,
        ),
    )  # fmt: skip
    return [_record(row) for row in rows]


def select(
    connection: sqlite3.Connection,
    selector: str,
    project: str | None = None,
    *,
    deleted: bool = False,
) -> RunRecord:
    """The run that a person means: exact id, else unique name, else unique prefix.

    ``@last`` and ``@last~N`` count back from the newest; ``@best:KEY`` is the run with
    the smallest summary value of KEY.

    Raises:
        RunNotFoundError: nothing fits.
        AmbiguousNameError: several runs fit; the message lists them.
    """
    state = f"run.deleted_us IS {'NOT ' if deleted else ''}NULL"
    scope, values = (state, []) if project is None else (
        f"{state} AND project.name = ?", [_names.lookup(project)],
    )  # fmt: skip
    selector = _names.lookup(selector)
    tests = [("run.run_id = ?", [selector]), ("run.name = ?", [selector])]
    if not is_special(selector):
        # Not LIKE, which knows no case.
        prefix = "substr(run.run_id, 1, length(?)) = ?"
        tests.append((prefix, [selector, selector]))
    for test, given in tests if selector else ():
        rows = connection.execute(
            f"{_SELECT} WHERE {scope} AND {test} ORDER BY run.started_us DESC LIMIT 6",
            (*values, *given),
        ).fetchall()
        if len(rows) == 1:
            return _record(rows[0])
        if rows:
            found = ", ".join(
                f"{r['project']}/{r['run_id']} ({r['name']})" for r in rows
            )
            raise AmbiguousNameError(
                f"{selector!r} fits several runs: {found}.",
                hint="Give the project and the full id.",
                run=selector,
            )
    if selector.startswith("@"):
        return _special(connection, selector, project)
    where = f" in project {project!r}" if project else ""
    raise RunNotFoundError(
        f"There is no run {selector!r}{where}.",
        hint="`wanllmdb ls` shows the runs.",
        run=selector,
    )


def find_named(
    connection: sqlite3.Connection, name: str, *, deleted: bool = False
) -> RunRecord | None:
    """The only run of a display name, or None."""
    rows = connection.execute(
        f"{_SELECT} WHERE run.deleted_us IS {'NOT ' if deleted else ''}NULL"
        " AND run.name = ? LIMIT 2",
        (_names.lookup(name),),
    ).fetchall()
    return _record(rows[0]) if len(rows) == 1 else None


def update(
    connection: sqlite3.Connection, record: RunRecord, changes: Mapping[str, str | None]
) -> None:
    """Change name, notes, group or job_type of a run."""
    for field, value in changes.items():
        column = _EDITABLE[field]
        clean = None if value is None else _names.text(value, field)
        connection.execute(
            f"UPDATE run SET {column} = ?, updated_us = ? WHERE id = ?",
            (clean, _clock.now_us(), record.pk),
        )
        events.record(
            connection, f"set {field}", "run", record.uid,
            before=getattr(record, field), after=clean,
        )  # fmt: skip
    events.touch_fields(connection, "run", record.uid, changes)


def given_id(connection: sqlite3.Connection, pk: int) -> str | None:
    """The id that a run was made with, where another run has it."""
    row = connection.execute("SELECT given_id FROM run WHERE id = ?", (pk,)).fetchone()
    return None if row is None else row[0]


def set_id(connection: sqlite3.Connection, record: RunRecord, new: str) -> None:
    """Give a run another id, for good.

    Raises:
        RunExistsError: a run of the project has it.
    """
    try:
        connection.execute(
            "UPDATE run SET run_id = ?, given_id = NULL WHERE id = ?", (new, record.pk)
        )
    except sqlite3.IntegrityError:
        raise RunExistsError(
            f"Run {record.project}/{new} exists.",
            hint="Choose another id.", run=f"{record.project}/{new}",
        ) from None  # fmt: skip
    events.record(
        connection, "resolve", "run", record.uid, before=record.run_id, after=new
    )
    events.touch_fields(connection, "run", record.uid, ["run_id"])


def add_tags(connection: sqlite3.Connection, pk: int, tags: Sequence[str]) -> None:
    """Add tags; those already there stay."""
    connection.executemany(
        "INSERT OR IGNORE INTO run_tag VALUES (?, ?)", [(pk, tag) for tag in tags]
    )


def remove_tags(connection: sqlite3.Connection, pk: int, tags: Sequence[str]) -> None:
    """Remove tags; those absent are no matter."""
    connection.executemany(
        "DELETE FROM run_tag WHERE run_id = ? AND tag = ?", [(pk, t) for t in tags]
    )


def set_deleted(
    connection: sqlite3.Connection, record: RunRecord, *, deleted: bool
) -> None:
    """Move a run to the trash or out of it."""
    connection.execute(
        "UPDATE run SET deleted_us = ? WHERE id = ?",
        (_clock.now_us() if deleted else None, record.pk),
    )
    if not deleted:
        projects.take_out(connection, record.project)
    kind = "delete" if deleted else "restore"
    events.record(connection, kind, "run", record.uid)
    events.touch_fields(connection, "run", record.uid, ["deleted"])


def is_special(selector: str) -> bool:
    """Whether a selector is ``@last``, ``@last~N`` or ``@best:KEY``."""
    return _SPECIAL.match(selector) is not None


def _special(
    connection: sqlite3.Connection, selector: str, project: str | None
) -> RunRecord:
    head, _, tail = selector[1:].partition("~")
    if head == "last" and (not tail or tail.isdigit()):
        found = find_many(connection, project=project, limit=1, offset=int(tail or 0))
    elif selector.startswith("@best:"):
        found = find_many(
            connection, project=project, limit=1, order=f"+summary.{selector[6:]}"
        )
    else:
        raise InvalidInputError(
            f"{selector!r} is no run selector.", hint="Use @last, @last~N, @best:KEY."
        )
    if not found:
        raise RunNotFoundError(
            f"No run fits {selector!r}.", hint="`wanllmdb ls` shows the runs."
        )
    return found[0]


def _record(row: sqlite3.Row) -> RunRecord:
    *fields, parent_id, parent_epoch, parent_step, marks, parent_uid, tags = row
    parent = None
    if parent_id is not None:
        parent = Parent(
            parent_id, parent_uid, parent_epoch, parent_step, _json.loads(marks)
        )
    fields[8] = State(fields[8])
    names = RunRecord.__dataclass_fields__
    known: dict[str, Any] = dict(zip(names, fields, strict=False))
    return RunRecord(**known, parent=parent, tags=tuple(_json.loads(tags)))


def environment(connection: sqlite3.Connection, pk: int) -> dict[str, JSONValue]:
    """What was captured of a run's surroundings."""
    row = connection.execute("SELECT environment FROM run WHERE id = ?", (pk,))
    value: dict[str, JSONValue] = _json.loads(row.fetchone()[0])
    return value
