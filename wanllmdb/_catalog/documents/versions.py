"""Versions: immutable content under a number, and what is said of it."""

from __future__ import annotations

import sqlite3
from typing import Any

from wanllmdb import _json
from wanllmdb._catalog import events, registers, remotes
from wanllmdb._catalog.documents import numbers
from wanllmdb._catalog.documents.merge import Deferred, Documents, Merge, Reader

_COLUMNS = ("description", "ttl_us", "deleted")


def read(reader: Reader, uid: str) -> Documents | None:
    """The document of a version, with its lineage."""
    connection = reader.connection
    row = connection.execute(
        "SELECT version.id, artifact.uid AS artifact, project.uid AS project, number,"
        " digest, files, size, version.description, version.metadata,"
        " version.created_us, ttl_us, version.deleted_us,"
        " coalesce((SELECT uid FROM run WHERE run.id = version.run_id),"
        " (SELECT run FROM sync_edge WHERE version = version.uid"
        " AND direction = 'made')) AS run"
        " FROM version JOIN artifact ON artifact.id = artifact_id"
        " JOIN project ON project.id = project_id WHERE version.uid = ?",
        (uid,),
    ).fetchone()
    if row is None:
        return None
    values: dict[str, Any] = {
        "description": row["description"], "ttl_us": row["ttl_us"],
        "deleted": row["deleted_us"],
        **{f"metadata.{k}": v for k, v in _json.loads(row["metadata"]).items()},
    }  # fmt: skip
    edges = connection.execute(
        "SELECT run.uid AS run, direction, at_us FROM edge"
        " JOIN run ON run.id = edge.run_id WHERE version_id = ?"
        " UNION SELECT run, direction, at_us FROM sync_edge WHERE version = ?"
        " AND direction != 'made' ORDER BY run, direction",
        (row["id"], uid),
    )
    return {
        "entity": "version", "uid": uid,
        **{
            name: row[name]
            for name in (
                "project", "artifact", "number", "digest", "files", "size",
                "created_us", "run",
            )
        },
        "fields": registers.document(connection, "version", uid, values),
        "tags": registers.tags(connection, "version", uid),
        "edges": [list(edge) for edge in edges],
    }  # fmt: skip


def merge(context: Merge, document: Documents) -> None:
    """Merge a version. Its number is the remote's: ours make room.

    Raises:
        Deferred: its artifact is not known.
    """
    connection, uid = context.connection, document["uid"]
    if "gone" in document:
        _to_trash(context, document)
        return
    artifact = connection.execute(
        "SELECT id, uid, name FROM artifact WHERE uid = ?", (document["artifact"],)
    ).fetchone()
    if artifact is None:
        raise Deferred(f"version {uid} is of an artifact that is not known")
    if _key(connection, uid) is None:
        _insert(context, artifact, document)
    mine = read(context.reader, uid)
    assert mine is not None
    theirs = registers.later(mine["fields"], document["fields"])
    registers.put(connection, "version", uid, theirs)
    _say(connection, uid, theirs)
    pk = _key(connection, uid)
    assert pk is not None
    connection.execute(  # it may have come without its run, by a pull of it alone
        "UPDATE version SET run_id = (SELECT id FROM run WHERE uid = ?)"
        " WHERE id = ? AND run_id IS NULL",
        (document["run"], pk),
    )
    registers.merge_tags(connection, "version", uid, pk, document["tags"])
    edges = [(uid, *edge) for edge in document["edges"]]
    if document["run"] is not None:
        edges.append((uid, document["run"], "made", 0))
    connection.executemany("INSERT OR IGNORE INTO sync_edge VALUES (?, ?, ?, ?)", edges)
    link(connection, "version", uid)


def link(connection: sqlite3.Connection, column: str, uid: str) -> None:
    """Turn lineage that waited for a version or a run into rows of its own.

    Args:
        connection: The transaction.
        column: ``version`` or ``run``.
        uid: What is here now.
    """
    found = (
        "FROM sync_edge AS waiting JOIN version ON version.uid = waiting.version"
        f" JOIN run ON run.uid = waiting.run WHERE waiting.{column} = ?"
    )
    connection.execute(
        "INSERT INTO edge SELECT version.id, run.id, direction, at_us"
        f" {found} AND direction != 'made' ON CONFLICT DO UPDATE SET"
        " at_us = excluded.at_us WHERE excluded.at_us < at_us",
        (uid,),
    )
    connection.execute(
        "UPDATE version SET run_id = (SELECT run.id FROM sync_edge AS waiting"
        " JOIN run ON run.uid = waiting.run WHERE waiting.version = version.uid"
        " AND direction = 'made') WHERE run_id IS NULL AND uid IN"
        f" (SELECT version.uid {found} AND direction = 'made')",
        (uid,),
    )
    connection.execute(
        f"DELETE FROM sync_edge WHERE {column} = ? AND EXISTS"
        " (SELECT 1 FROM run WHERE run.uid = sync_edge.run)"
        " AND EXISTS (SELECT 1 FROM version WHERE version.uid = sync_edge.version)",
        (uid,),
    )


def _key(connection: sqlite3.Connection, uid: str) -> int | None:
    row = connection.execute("SELECT id FROM version WHERE uid = ?", (uid,)).fetchone()
    return None if row is None else int(row[0])


def _insert(context: Merge, artifact: sqlite3.Row, document: Documents) -> None:
    connection, number = context.connection, document["number"]
    series, artifact_uid, name = artifact
    held = numbers.holder(connection, "version", series, number)
    if held is not None:
        same = connection.execute(
            "SELECT digest = ? FROM version WHERE id = ?", (document["digest"], held[0])
        ).fetchone()[0]
        if same and not numbers.stands(connection, "version", held[1]):
            _adopt(connection, held, document)
            numbers.claim(connection, "version", context.remote, document["uid"])
            return
        moved = numbers.make_room(connection, "version", series, [number])
        after = remotes.state(connection, context.remote).event_id
        numbers.renumber_moves(connection, artifact_uid, moved.values(), after)
        context.notices += [numbers.told(name, *ends) for ends in moved.values()]
        if numbers.holder(connection, "version", series, number) is not None:
            # Two remotes gave the number to two versions: this one goes to the end.
            (number,) = connection.execute(
                "SELECT last_number + 1 FROM artifact WHERE id = ?", (series,)
            ).fetchone()
            context.conflict(
                "version", "version", document["uid"], f"v{number}",
                f"v{document['number']}",
                f"{name}:v{document['number']} of this remote is {name}:v{number}"
                " here: another remote gave that number to another version.",
            )  # fmt: skip
    connection.execute(
        "INSERT INTO version (uid, artifact_id, number, digest, files, size,"
        " created_us, updated_us) VALUES (:uid, :series, :number, :digest, :files,"
        " :size, :created_us, :created_us)",
        {**{k: document[k] for k in ("uid", "digest", "files", "size", "run",
         "created_us")}, "series": series, "number": number},
    )  # fmt: skip
    numbers.claim(connection, "version", context.remote, document["uid"])
    connection.execute(
        "UPDATE artifact SET last_number = max(coalesce(last_number, 0), ?)"
        " WHERE id = ?",
        (number, series),
    )


def _adopt(
    connection: sqlite3.Connection, held: tuple[int, str], document: Documents
) -> None:
    """The same content under the same number is the same version: the remote's."""
    (pk, former), uid = held, document["uid"]
    connection.execute(
        "UPDATE version SET uid = ?, created_us = ?, run_id = NULL WHERE id = ?",
        (uid, document["created_us"], pk),
    )
    for table in ("field_rev", "tag_rev"):
        connection.execute(
            f"UPDATE OR IGNORE {table} SET uid = ? WHERE entity = 'version'"
            " AND uid = ?",
            (uid, former),
        )
    connection.execute(
        "UPDATE event SET uid = ? WHERE entity = 'version' AND uid = ?", (uid, former)
    )
    events.record(connection, "adopt", "version", uid, before=former, after=uid)


def _say(connection: sqlite3.Connection, uid: str, theirs: registers.Fields) -> None:
    (text,) = connection.execute(
        "SELECT metadata FROM version WHERE uid = ?", (uid,)
    ).fetchone()
    metadata = _json.loads(text)
    for name, field in theirs.items():
        if name.startswith("metadata."):
            key = name.removeprefix("metadata.")
            metadata.pop(key, None)
            if "v" in field:
                metadata[key] = field["v"]
        elif name in _COLUMNS:
            column = "deleted_us" if name == "deleted" else name
            connection.execute(
                f"UPDATE version SET {column} = ? WHERE uid = ?", (field["v"], uid)
            )
    if theirs:
        connection.execute(
            "UPDATE version SET metadata = ?, updated_us = max(updated_us, ?)"
            " WHERE uid = ?",
            (
                _json.dumps(dict(sorted(metadata.items()))),
                max(field["at"] for field in theirs.values()), uid,
            ),
        )  # fmt: skip


def _to_trash(context: Merge, document: Documents) -> None:
    """What another laptop removed for good, goes to the trash here."""
    connection, uid = context.connection, document["uid"]
    held = connection.execute(
        "SELECT 1 FROM version WHERE uid = ? AND deleted_us IS NULL", (uid,)
    ).fetchone()
    if held is None:
        return
    at = document["gone"]["at"]
    connection.execute(
        "DELETE FROM alias WHERE version_id = (SELECT id FROM version WHERE uid = ?)",
        (uid,),
    )
    field = {"deleted": {"at": at, "by": document["gone"]["by"], "v": at}}
    mine = read(context.reader, uid)
    assert mine is not None
    theirs = registers.later(mine["fields"], field)
    registers.put(connection, "version", uid, theirs)
    _say(connection, uid, theirs)
