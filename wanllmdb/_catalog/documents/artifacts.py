"""Artifacts: the series that versions are numbered in; their uid comes from names."""

from __future__ import annotations

from wanllmdb._catalog import registers
from wanllmdb._catalog.documents import projects
from wanllmdb._catalog.documents.merge import Deferred, Documents, Merge, Reader

_FIELDS = ("name", "type", "description", "first_version")


def read(reader: Reader, uid: str) -> Documents | None:
    """The document of an artifact; its versions and aliases have their own."""
    row = reader.connection.execute(
        "SELECT project.uid, artifact.created_us, artifact.name, type, description,"
        " first_version, artifact.id FROM artifact"
        " JOIN project ON project.id = project_id WHERE artifact.uid = ?",
        (uid,),
    ).fetchone()
    if row is None:
        return None
    values = dict(zip(_FIELDS, tuple(row)[2:6], strict=True))
    held = reader.connection.execute(
        "SELECT alias_key, protected FROM alias WHERE artifact_id = ?", (row[6],)
    ).fetchall()
    stamps = registers.stamps(reader.connection, "artifact", uid)
    values |= {
        f"protect.{key}": bool(protected) for key, protected in held
        if f"protect.{key}" in stamps
    }  # fmt: skip
    fields = registers.document(reader.connection, "artifact", uid, values)
    return {
        "entity": "artifact", "uid": uid, "project": row[0], "created_us": row[1],
        # Which version an alias names, is claimed by generations.
        "fields": {k: v for k, v in fields.items() if not k.startswith("alias.")},
    }  # fmt: skip


def merge(context: Merge, document: Documents) -> None:
    """Merge an artifact.

    Raises:
        Deferred: its project is not known.
    """
    connection, uid = context.connection, document["uid"]
    project = projects.key_of(connection, document["project"])
    if project is None:
        raise Deferred(f"artifact {uid} is of a project that is not known")
    mine = read(context.reader, uid)
    fields = document["fields"]
    if mine is None:
        connection.execute(
            "INSERT INTO artifact (uid, project_id, name, type, description,"
            " first_version, created_us) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                uid, project, *(fields[name]["v"] for name in _FIELDS),
                document["created_us"],
            ),
        )  # fmt: skip
        mine = {"fields": {}}
    elif mine["fields"]["type"]["v"] != fields["type"]["v"]:
        types = sorted((mine["fields"]["type"]["v"], fields["type"]["v"]))
        context.conflict(
            "type", "artifact", uid, types[0], types[1],
            f"Two laptops gave artifact {fields['name']['v']!r} the types {types[0]!r}"
            f" and {types[1]!r}: it has the latter now.",
        )  # fmt: skip
    theirs = registers.later(mine["fields"], fields)
    registers.put(connection, "artifact", uid, theirs)
    for name, field in theirs.items():
        if name.startswith("protect."):
            connection.execute(
                "UPDATE alias SET protected = ? WHERE alias_key = ? AND artifact_id ="
                " (SELECT id FROM artifact WHERE uid = ?)",
                (field.get("v", False), name.removeprefix("protect."), uid),
            )
        elif name in _FIELDS:
            connection.execute(
                f"UPDATE artifact SET {name} = ? WHERE uid = ?", (field["v"], uid)
            )
    connection.execute(
        "UPDATE artifact SET created_us = min(created_us, ?) WHERE uid = ?",
        (document["created_us"], uid),
    )
