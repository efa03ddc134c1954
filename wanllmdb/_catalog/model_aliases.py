"""Aliases of models: each names one version; some for good."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from wanllmdb import _names
from wanllmdb._catalog import events, models
from wanllmdb.errors import AliasConflictError
from wanllmdb.types import ModelVersionRecord


class Named(NamedTuple):
    """An alias as it stands: the version that it names, and whether for good."""

    version: int
    number: int
    alias: str
    fixed: bool


def put(
    connection: sqlite3.Connection,
    version: ModelVersionRecord,
    alias: str,
    *,
    fixed: bool = False,
) -> None:
    """Let an alias name a version.

    Args:
        connection: The transaction.
        version: What it shall name.
        alias: Checked by `_names.alias`.
        fixed: For good: it is what the version was registered under.

    Raises:
        AliasConflictError: it names another version, and it or that one is fixed.
    """
    held = _named(connection, version.model_pk, alias)
    if held is not None and held.version == version.pk:
        if held.fixed or (held.alias == alias and not fixed):
            return
    elif held is not None and (fixed or held.fixed):
        raise AliasConflictError(
            f"{alias!r} names {version.model}:v{held.number} already.",
            hint="Choose another name.",
            alias=alias, model=version.model, version=held.number,
        )  # fmt: skip
    connection.execute(
        "INSERT INTO model_alias VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
        " alias = excluded.alias, model_version_id = excluded.model_version_id,"
        " fixed = excluded.fixed",
        (version.model_pk, _names.alias_key(alias), alias, version.pk, fixed),
    )
    _record(connection, version, alias, held, version.number)


def drop(connection: sqlite3.Connection, model: models.Model, alias: str) -> bool:
    """Remove an alias; False where the model has none of that name.

    Raises:
        AliasConflictError: it is what its version was registered under.
    """
    held = _named(connection, model.pk, alias)
    if held is None:
        return False
    version = models.read(connection, held.version)
    if held.fixed:
        raise AliasConflictError(
            f"{version.path} was registered as {held.alias!r}.",
            hint="Unlink the version instead.", alias=alias, model=model.name,
        )  # fmt: skip
    connection.execute(
        "DELETE FROM model_alias WHERE model_id = ? AND alias_key = ?",
        (model.pk, _names.alias_key(alias)),
    )
    _record(connection, version, held.alias, held, None)
    return True


def _named(connection: sqlite3.Connection, model: int, alias: str) -> Named | None:
    row = connection.execute(
        "SELECT model_version_id, number, alias, fixed FROM model_alias"
        " JOIN model_version ON model_version.id = model_version_id"
        " WHERE model_alias.model_id = ? AND alias_key = ?",
        (model, _names.alias_key(alias)),
    ).fetchone()
    return None if row is None else Named(row[0], row[1], row[2], bool(row[3]))


def _record(
    connection: sqlite3.Connection,
    version: ModelVersionRecord,
    alias: str,
    held: Named | None,
    number: int | None,
) -> None:
    before = None if held is None else held.number
    models.record(
        connection, "alias", version, before={"alias": alias, "names": before},
        after={"alias": alias, "names": number},
    )  # fmt: skip
    events.touch_fields(connection, "model", version.model_uid, [f"alias.{alias}"])
