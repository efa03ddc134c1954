"""Projects: one uid for one name, on every laptop."""

from __future__ import annotations

import sqlite3

from wanllmdb._catalog import registers
from wanllmdb._catalog.documents.merge import Documents, Merge, Reader, short

FIELDS = ("name", "deleted")


def read(reader: Reader, uid: str) -> Documents | None:
    """The document of a project."""
    row = reader.connection.execute(
        "SELECT coalesce(given_name, name), created_us, deleted_us FROM project"
        " WHERE uid = ?",
        (uid,),
    ).fetchone()
    if row is None:
        return None
    values = dict(zip(FIELDS, (row[0], row[2]), strict=True))
    return {
        "entity": "project", "uid": uid, "created_us": row[1],
        "fields": registers.document(reader.connection, "project", uid, values),
    }  # fmt: skip


def merge(context: Merge, document: Documents) -> None:
    """Merge a project: its name, and whether it is in the trash."""
    connection, uid = context.connection, document["uid"]
    mine = read(context.reader, uid)
    theirs = registers.later(mine["fields"] if mine else {}, document["fields"], FIELDS)
    registers.put(connection, "project", uid, theirs)
    if mine is None:
        connection.execute(
            "INSERT INTO project (uid, name, created_us, given_name)"
            " VALUES (?, ?, ?, ?)",
            (uid, f"@{uid}", document["created_us"], theirs["name"]["v"]),
        )
    if "name" in theirs:
        connection.execute(
            "UPDATE project SET given_name = ?, name = ? WHERE uid = ?",
            (theirs["name"]["v"], f"@{uid}", uid),
        )
        settle_name(context, str(theirs["name"]["v"]))
        if mine is not None:
            settle_name(context, mine["fields"]["name"]["v"])
    if "deleted" in theirs:
        connection.execute(
            "UPDATE project SET deleted_us = ? WHERE uid = ?",
            (theirs["deleted"]["v"], uid),
        )
    connection.execute(
        "UPDATE project SET created_us = min(created_us, ?) WHERE uid = ?",
        (document["created_us"], uid),
    )


def settle_name(context: Merge, name: str) -> None:
    """Give a name to one of the projects that want it: who had it first has it."""
    connection = context.connection
    wanting = connection.execute(
        "SELECT uid, name, created_us FROM project"
        " WHERE coalesce(given_name, name) = ?",
        (name,),
    ).fetchall()
    stamps = {
        uid: registers.stamps(connection, "project", uid).get("name", registers.NEVER)
        for uid, _, _ in wanting
    }
    ranked = sorted(wanting, key=lambda row: (stamps[row[0]], row[2], row[0]))
    for place, (uid, shown, _) in reversed(list(enumerate(ranked))):
        wanted = name if place == 0 else f"{name}@{short(stamps[uid].device or uid)}"
        if shown != wanted:
            _rename(connection, uid, wanted, None if place == 0 else name)
        if place:
            context.conflict(
                "project name", "project", uid, wanted, name,
                f"Two laptops have a project {name!r}: the later one shows as"
                f" {wanted!r}; `wanllmdb project rename {wanted} NEW` settles it.",
            )  # fmt: skip


def _rename(
    connection: sqlite3.Connection, uid: str, name: str, given: str | None
) -> None:
    connection.execute(
        "UPDATE project SET name = ?, given_name = ? WHERE uid = ?", (name, given, uid)
    )


def key_of(connection: sqlite3.Connection, uid: str) -> int | None:
    """The key of the project of a uid."""
    row = connection.execute("SELECT id FROM project WHERE uid = ?", (uid,)).fetchone()
    return None if row is None else int(row[0])
