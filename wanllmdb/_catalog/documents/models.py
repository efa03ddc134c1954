"""Models of the registry, their versions and the names of these."""

from __future__ import annotations

import sqlite3
from typing import Any

from wanllmdb import _json, _names
from wanllmdb._catalog import events, registers
from wanllmdb._catalog.documents import numbers
from wanllmdb._catalog.documents.merge import Deferred, Documents, Merge, Reader
from wanllmdb._catalog.models import HELD

_FIELDS = ("name", "description", "single_holder", "deleted")
_SAID = ("description", "metadata", "tags", "stage", "approved")


def read(reader: Reader, uid: str) -> Documents | None:
    """The document of a model."""
    connection = reader.connection
    row = connection.execute(
        "SELECT id, name, description, single_holder, deleted_us, created_us"
        " FROM model WHERE uid = ?",
        (uid,),
    ).fetchone()
    if row is None:
        return None
    values: dict[str, Any] = {
        "name": row["name"], "description": row["description"],
        "single_holder": bool(row["single_holder"]), "deleted": row["deleted_us"],
    }  # fmt: skip
    fields = registers.document(connection, "model", uid, values)
    return {
        "entity": "model", "uid": uid, "created_us": row["created_us"],
        "fields": {name: fields[name] for name in _FIELDS},
    }  # fmt: skip


def merge(context: Merge, document: Documents) -> None:
    """Merge what is said of a model."""
    connection, uid = context.connection, document["uid"]
    mine = read(context.reader, uid)
    fields = document["fields"]
    if mine is None:
        connection.execute(
            "INSERT INTO model (uid, name, created_us) VALUES (?, ?, ?)",
            (uid, fields["name"]["v"], document["created_us"]),
        )
    theirs = registers.later(mine["fields"] if mine else {}, fields)
    registers.put(connection, "model", uid, theirs)
    for name, field in theirs.items():
        column = "deleted_us" if name == "deleted" else name
        if name == "single_holder" and field["v"]:
            _settle_stages(context, uid)
        connection.execute(
            f"UPDATE model SET {column} = ? WHERE uid = ?", (field["v"], uid)
        )
    connection.execute(
        "UPDATE model SET created_us = min(created_us, ?) WHERE uid = ?",
        (document["created_us"], uid),
    )


def read_aliases(reader: Reader, uid: str) -> Documents | None:
    """The document of what the aliases of a model name.

    It is merged after the versions that they name.
    """
    connection = reader.connection
    rows = connection.execute(
        "SELECT alias, held.uid, fixed FROM model_alias JOIN model_version held"
        " ON held.id = model_version_id JOIN model ON model.id = model_alias.model_id"
        " WHERE model.uid = ?",
        (uid,),
    )
    values = {f"alias.{name}": [held, bool(fixed)] for name, held, fixed in rows}
    fields = registers.document(connection, "model", uid, values)
    found = {k: v for k, v in fields.items() if k.startswith("alias.")}
    if not found:
        return None
    return {"entity": "model_aliases", "uid": uid, "fields": found}


def merge_aliases(context: Merge, document: Documents) -> None:
    """Let the aliases of a model name what they were last given to."""
    connection, uid = context.connection, document["uid"]
    mine = read_aliases(context.reader, uid)
    theirs = registers.later(mine["fields"] if mine else {}, document["fields"])
    registers.put(connection, "model", uid, theirs)
    for name, field in theirs.items():
        alias = name.removeprefix("alias.")
        connection.execute(
            "DELETE FROM model_alias WHERE alias_key = ? AND model_id ="
            " (SELECT id FROM model WHERE uid = ?)",
            (_names.alias_key(alias), uid),
        )
        if "v" in field:
            held, fixed = field["v"]
            connection.execute(
                "INSERT INTO model_alias SELECT model_id, ?, ?, id, ?"
                " FROM model_version WHERE uid = ?",
                (_names.alias_key(alias), alias, fixed, held),
            )


def read_version(reader: Reader, uid: str) -> Documents | None:
    """The document of a model's version."""
    connection = reader.connection
    row = connection.execute(
        "SELECT held.*, model.uid AS model, version.uid AS version"
        " FROM model_version held JOIN model ON model.id = held.model_id"
        " JOIN version ON version.id = held.version_id WHERE held.uid = ?",
        (uid,),
    ).fetchone()
    if row is None:
        return None
    values = {
        "description": row["description"], "metadata": _json.loads(row["metadata"]),
        "tags": _json.loads(row["tags"]), "stage": [row["stage"], row["staged_us"]],
        "approved": [row["approved_by"], row["approved_us"]],
    }  # fmt: skip
    return {
        "entity": "model_version", "uid": uid, "model": row["model"],
        "version": row["version"], "number": row["number"],
        "created_us": row["created_us"],
        "fields": registers.document(connection, "model_version", uid, values),
    }  # fmt: skip


def merge_version(context: Merge, document: Documents) -> None:
    """Merge a model's version. Its number is the remote's: ours make room.

    Raises:
        Deferred: its model, or what it links to, is not known.
    """
    connection, uid = context.connection, document["uid"]
    if "gone" in document:
        connection.execute("DELETE FROM model_version WHERE uid = ?", (uid,))
        gone = document["gone"]
        connection.execute(
            "INSERT OR REPLACE INTO gone VALUES ('model_version', ?, ?, ?)",
            (uid, gone["at"], gone["by"]),
        )
        return
    model = connection.execute(
        "SELECT id, name, single_holder FROM model WHERE uid = ?",
        (document["model"],),
    ).fetchone()
    version = connection.execute(
        "SELECT id FROM version WHERE uid = ?", (document["version"],)
    ).fetchone()
    if model is None or version is None:
        raise Deferred(f"model version {uid} links to what is not known")
    mine = read_version(context.reader, uid)
    if mine is None:
        _insert(context, model, version[0], document)
    theirs = registers.later(mine["fields"] if mine else {}, document["fields"])
    registers.put(connection, "model_version", uid, theirs)
    if "stage" in theirs and model["single_holder"]:
        _make_way(context, model["id"], uid, theirs["stage"])
        theirs = {**theirs, "stage": read_stage(context, uid, theirs["stage"])}
    _say(connection, uid, theirs)


def _insert(
    context: Merge, model: sqlite3.Row, version: int, document: Documents
) -> None:
    connection, number = context.connection, document["number"]
    if numbers.holder(connection, "model_version", model["id"], number) is not None:
        moved = numbers.make_room(connection, "model_version", model["id"], [number])
        context.notices += [
            numbers.told(f"model {model['name']}", *ends) for ends in moved.values()
        ]
    connection.execute(
        "INSERT INTO model_version (uid, model_id, single_holder, number, version_id,"
        " created_us) VALUES (?, ?, ?, ?, ?, ?)",
        (
            document["uid"], model["id"], model["single_holder"], number, version,
            document["created_us"],
        ),
    )  # fmt: skip
    numbers.claim(connection, "model_version", context.remote, document["uid"])
    connection.execute(
        "UPDATE model SET last_number = max(last_number, ?) WHERE id = ?",
        (number, model["id"]),
    )


def _say(connection: sqlite3.Connection, uid: str, theirs: registers.Fields) -> None:
    columns: dict[str, Any] = {}
    for name, field in theirs.items():
        value = field["v"]
        if name == "stage":
            columns |= {"stage": value[0], "staged_us": value[1]}
        elif name == "approved":
            columns |= {"approved_by": value[0], "approved_us": value[1]}
        elif name in ("metadata", "tags"):
            columns[name] = _json.dumps(value)
        elif name in _SAID:
            columns[name] = value
    for column, value in columns.items():
        connection.execute(
            f"UPDATE model_version SET {column} = ? WHERE uid = ?", (value, uid)
        )


def read_stage(context: Merge, uid: str, field: dict[str, Any]) -> dict[str, Any]:
    """What stage a version gets that another one may hold by a later right."""
    row = context.connection.execute(
        "SELECT 1 FROM model_version other JOIN model_version mine"
        " ON mine.model_id = other.model_id AND mine.uid = ?"
        " WHERE other.stage = ? AND other.uid != mine.uid",
        (uid, field["v"][0]),
    ).fetchone()
    held = field["v"][0] in HELD and row is not None
    return {**field, "v": ["archived", field["v"][1]]} if held else field


def _make_way(context: Merge, model: int, uid: str, field: dict[str, Any]) -> None:
    """A stage of one holder goes to whoever was put there last."""
    connection, stage = context.connection, field["v"][0]
    if stage not in HELD:
        return
    row = connection.execute(
        "SELECT uid FROM model_version WHERE model_id = ? AND stage = ? AND uid != ?",
        (model, stage, uid),
    ).fetchone()
    if row is None:
        return
    theirs = registers.stamp_of(field)
    mine = registers.stamps(connection, "model_version", row[0]).get(
        "stage", registers.NEVER
    )
    if mine < theirs:
        connection.execute(
            "UPDATE model_version SET stage = 'archived' WHERE uid = ?", (row[0],)
        )
        registers.put(
            connection, "model_version", row[0],
            {"stage": {"at": theirs.hlc, "by": theirs.device}},
        )  # fmt: skip
        events.record(
            connection, "stage", "model", uid, before=stage, after="archived",
            reason="another version was put there later, on another laptop",
        )  # fmt: skip


def _settle_stages(context: Merge, uid: str) -> None:
    """Before a model gets stages of one holder: the last ones put there stay."""
    connection = context.connection
    for stage in HELD:
        rows = connection.execute(
            "SELECT held.uid FROM model_version held JOIN model"
            " ON model.id = held.model_id WHERE model.uid = ? AND stage = ?",
            (uid, stage),
        ).fetchall()
        ranked = sorted(
            (
                registers.stamps(connection, "model_version", row[0]).get(
                    "stage", registers.NEVER
                ),
                row[0],
            )
            for row in rows
        )
        for _, other in ranked[:-1]:
            connection.execute(
                "UPDATE model_version SET stage = 'archived' WHERE uid = ?", (other,)
            )
