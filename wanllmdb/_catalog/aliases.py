"""Aliases: one name, one version, with a history that can be undone."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from wanllmdb import _clock, _names
from wanllmdb._catalog import events
from wanllmdb.errors import AliasConflictError, AliasNotFoundError, StateError
from wanllmdb.types import Event, VersionRecord

UNDO = "undo of event "


class Holder(NamedTuple):
    """An alias as it stands: how it is written, and its version's key and number."""

    alias: str
    version: int
    number: int
    protected: bool


def find(connection: sqlite3.Connection, artifact: int, alias: str) -> Holder | None:
    """What an alias names, if anything."""
    row = connection.execute(
        "SELECT alias, version_id, number, protected FROM alias"
        " JOIN version ON version.id = version_id"
        " WHERE alias.artifact_id = ? AND alias_key = ?",
        (artifact, _names.alias_key(alias)),
    ).fetchone()
    if row is None:
        return None
    return Holder(
        row["alias"], row["version_id"], row["number"], bool(row["protected"])
    )


def put(
    connection: sqlite3.Connection,
    version: VersionRecord,
    alias: str,
    *,
    expected: int | None = None,
    force: bool = False,
    reason: str | None = None,
) -> bool:
    """Let an alias name a version, in the caller's transaction.

    Args:
        connection: The transaction.
        version: What it shall name.
        alias: Checked by `_names.alias`.
        expected: The number of the version that it must name now, 0 for none; None:
            whatever it names.
        force: Move a protected alias too.
        reason: Why, for the history.

    Returns:
        False where it named that version already.

    Raises:
        AliasConflictError: it is protected, or names something else than expected.
    """
    held = find(connection, version.artifact_pk, alias)
    _refuse(version, alias, held, expected, force=force)
    if held is not None and held.version == version.pk and held.alias == alias:
        return False
    connection.execute(
        "INSERT INTO alias (artifact_id, alias_key, alias, version_id, moved_us)"
        " VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET alias = excluded.alias,"
        " version_id = excluded.version_id, moved_us = excluded.moved_us",
        (
            version.artifact_pk, _names.alias_key(alias), alias, version.pk,
            _clock.now_us(),
        ),
    )  # fmt: skip
    _record(connection, version, alias, held, version.number, reason)
    return True


def drop(
    connection: sqlite3.Connection,
    version: VersionRecord,
    alias: str,
    *,
    expected: int | None = None,
    force: bool = False,
    reason: str | None = None,
) -> None:
    """Remove an alias, in the caller's transaction.

    Args:
        connection: The transaction.
        version: Any version of the artifact.
        alias: In any case.
        expected: As in `put`.
        force: Remove a protected alias too.
        reason: Why, for the history.

    Raises:
        AliasNotFoundError: the artifact has none of that name.
        AliasConflictError: it is protected, or names something else than expected.
    """
    held = find(connection, version.artifact_pk, alias)
    if held is None:
        raise _unknown(version, alias)
    _refuse(version, alias, held, expected, force=force, removal=True)
    connection.execute(
        "DELETE FROM alias WHERE artifact_id = ? AND alias_key = ?",
        (version.artifact_pk, _names.alias_key(alias)),
    )
    _record(connection, version, held.alias, held, None, reason)


def protect(
    connection: sqlite3.Connection, version: VersionRecord, alias: str, *, on: bool
) -> None:
    """Let an alias be moved and removed by force only; or lift that.

    Raises:
        AliasNotFoundError: the artifact has none of that name.
    """
    held = find(connection, version.artifact_pk, alias)
    if held is None:
        raise _unknown(version, alias)
    connection.execute(
        "UPDATE alias SET protected = ? WHERE artifact_id = ? AND alias_key = ?",
        (on, version.artifact_pk, _names.alias_key(alias)),
    )
    events.record(
        connection, "protect" if on else "unprotect", "alias",
        _uid(version, alias), after=held.alias,
    )  # fmt: skip
    events.touch_fields(
        connection, "artifact", version.artifact_uid,
        [f"protect.{_names.alias_key(alias)}"],
    )  # fmt: skip


def history(
    connection: sqlite3.Connection, version: VersionRecord, alias: str
) -> list[Event]:
    """Every move of an alias, oldest first: `before` and `after` are version numbers.

    Args:
        connection: The Catalog.
        version: Any version of the artifact.
        alias: In any case.
    """
    return events.read(connection, "alias", _uid(version, alias))


def last_move(
    connection: sqlite3.Connection, version: VersionRecord, alias: str
) -> tuple[int, Event]:
    """The last move of an alias that was not undone: (the event's key, the event).

    Raises:
        StateError: there is nothing to undo.
    """
    rows = connection.execute(
        "SELECT id FROM event WHERE entity = 'alias' AND uid = ? ORDER BY id",
        (_uid(version, alias),),
    ).fetchall()
    moves = [
        (row[0], event)
        for row, event in zip(rows, history(connection, version, alias), strict=True)
        if event.kind == "alias" and event.before != event.after  # or it was respelled
    ]
    undone = {e.reason for _, e in moves if e.reason and e.reason.startswith(UNDO)}
    for number, event in reversed(moves):
        taken_back = f"{UNDO}{number}" in undone
        if not taken_back and not (event.reason or "").startswith(UNDO):
            return number, event
    raise StateError(
        f"There is no move of alias {alias!r} to undo.",
        hint=f"`wanllmdb artifact alias log {version.name} {alias}` shows them.",
    )


def was_protected(
    connection: sqlite3.Connection, version: VersionRecord, alias: str, number: int
) -> bool:
    """Whether an alias was protected just before the event of a key."""
    row = connection.execute(
        "SELECT kind FROM event WHERE entity = 'alias' AND uid = ? AND id < ?"
        " AND (kind != 'alias' OR after = 'null') ORDER BY id DESC LIMIT 1",
        (_uid(version, alias), number),
    ).fetchone()  # one that was removed is not protected when it comes back
    return row is not None and row[0] == "protect"


def _refuse(
    version: VersionRecord,
    alias: str,
    held: Holder | None,
    expected: int | None,
    *,
    force: bool,
    removal: bool = False,
) -> None:
    now = 0 if held is None else held.number
    if expected is not None and expected != now:
        names, wanted = (f"v{n}" if n else "nothing" for n in (now, expected))
        raise AliasConflictError(
            f"Alias {alias!r} of {version.name} names {names}, not {wanted}.",
            hint="Somebody moved it; look again.",
            alias=alias, artifact=version.name, version=now,
        )  # fmt: skip
    moves = held is not None and (removal or held.version != version.pk)
    if held is not None and held.protected and moves and not force:
        raise AliasConflictError(
            f"Alias {alias!r} of {version.name} is protected; it names v{now}.",
            hint="force=True (--force) overrides that.",
            alias=alias, artifact=version.name,
        )  # fmt: skip


def _unknown(version: VersionRecord, alias: str) -> AliasNotFoundError:
    return AliasNotFoundError(
        f"{version.project}/{version.name} has no alias {alias!r}.",
        hint=f"`wanllmdb artifact show {version.name}` lists them.",
        alias=alias, artifact=version.name,
    )  # fmt: skip


def _record(
    connection: sqlite3.Connection,
    version: VersionRecord,
    alias: str,
    held: Holder | None,
    number: int | None,
    reason: str | None,
) -> None:
    events.record(
        connection, "alias", "alias", _uid(version, alias),
        before=None if held is None else held.number, after=number, reason=reason,
    )  # fmt: skip
    events.touch_fields(
        connection, "artifact", version.artifact_uid, [f"alias.{alias}"]
    )


def _uid(version: VersionRecord, alias: str) -> str:
    return f"{version.artifact_uid}:{_names.alias_key(alias)}"
