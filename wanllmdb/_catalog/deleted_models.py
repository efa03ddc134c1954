"""Models in the trash: they keep their versions and aliases until they are purged.

Nobody is kept from anything by them: a version of an artifact that only such a model
links to can be deleted, and its link goes with it when it is purged.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from wanllmdb import _clock
from wanllmdb._catalog import events, models
from wanllmdb._catalog.models import Model
from wanllmdb.errors import ModelNotFoundError, StateError


class Trashed(NamedTuple):
    """A model in the trash: when it was deleted, and how many versions it has."""

    name: str
    deleted_us: int
    versions: int


def delete(connection: sqlite3.Connection, model: Model) -> None:
    """Move a model to the trash, with its versions and aliases."""
    before = [models.noted(held) for held in models.versions(connection, model.pk)]
    connection.execute(
        "UPDATE model SET deleted_us = ? WHERE id = ?", (_clock.now_us(), model.pk)
    )
    events.record(connection, "delete", "model", model.uid, before=before)
    events.touch_fields(connection, "model", model.uid, ["deleted"])


def listed(connection: sqlite3.Connection) -> list[Trashed]:
    """The models in the trash that there is something of, the last one first."""
    rows = connection.execute(
        "SELECT name, deleted_us, count(held.id) AS versions FROM model"
        " LEFT JOIN model_version held ON held.model_id = model.id"
        " WHERE deleted_us IS NOT NULL GROUP BY model.id"
        " HAVING versions > 0 OR model.description IS NOT NULL"
        " ORDER BY deleted_us DESC, name"
    )
    return [Trashed(*row) for row in rows.fetchall()]


def find(connection: sqlite3.Connection, name: str) -> Model:
    """The deleted model of a name, also one that was purged: its history is there.

    Raises:
        ModelNotFoundError: there is none.
    """
    row = connection.execute(
        "SELECT id, uid, name, single_holder FROM model"
        " WHERE name = ? AND deleted_us IS NOT NULL",
        (name,),
    ).fetchone()
    if row is None:
        raise ModelNotFoundError(
            f"There is no model {name!r} in the trash.",
            hint="`wanllmdb trash ls` shows what is.", model=name,
        )  # fmt: skip
    return Model(row[0], row[1], row[2], bool(row[3]))


def restore(connection: sqlite3.Connection, model: Model) -> None:
    """Bring a model back, with the versions and aliases that it had.

    Raises:
        StateError: what its versions link to is in the trash.
    """
    gone = connection.execute(
        "SELECT project.name || '/' || artifact.name || ':v' || version.number"
        " FROM model_version held JOIN version ON version.id = held.version_id"
        " JOIN artifact ON artifact.id = version.artifact_id"
        " JOIN project ON project.id = artifact.project_id"
        " WHERE held.model_id = ? AND version.deleted_us IS NOT NULL"
        " ORDER BY held.number",
        (model.pk,),
    ).fetchall()
    if gone:
        raise StateError(
            f"Model {model.name!r} links to {', '.join(row[0] for row in gone)},"
            " in the trash.",
            hint="Restore these first, or purge them.", model=model.name,
        )  # fmt: skip
    connection.execute("UPDATE model SET deleted_us = NULL WHERE id = ?", (model.pk,))
    after = [models.noted(held) for held in models.versions(connection, model.pk)]
    events.record(connection, "restore", "model", model.uid, after=after)
    events.touch_fields(connection, "model", model.uid, ["deleted"])


def purge(connection: sqlite3.Connection, model: Model) -> None:
    """Remove what is left of a deleted model but for its numbers and its history."""
    connection.execute("DELETE FROM model_version WHERE model_id = ?", (model.pk,))
    connection.execute("UPDATE model SET description = NULL WHERE id = ?", (model.pk,))
    events.record(connection, "purge", "model", model.uid)


def forget_links(connection: sqlite3.Connection, version: int) -> None:
    """Remove the links of deleted models to a version of an artifact."""
    connection.execute(
        "DELETE FROM model_version WHERE version_id = ? AND model_id IN"
        " (SELECT id FROM model WHERE deleted_us IS NOT NULL)",
        (version,),
    )
