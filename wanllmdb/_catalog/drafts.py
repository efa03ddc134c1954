"""Joint drafts: what several processes added to a version that is not committed yet.

Each addition is an event, and so is the end of a draft; what came after the last end is
what the next version is made of.
"""

from __future__ import annotations

import sqlite3
from dataclasses import asdict, dataclass

from wanllmdb import _json
from wanllmdb._catalog import events

_OPEN = """
SELECT id, uid, at_us, after FROM event WHERE entity = 'draft' AND kind = 'upsert'
  AND id > coalesce((SELECT max(ended.id) FROM event AS ended
    WHERE ended.entity = 'draft' AND ended.uid = event.uid
    AND ended.kind IN ('finish', 'drop')), 0)
"""


@dataclass(frozen=True, slots=True)
class Addition:
    """What was added in one go.

    Attributes:
        run: The uid of the run that added it.
        adder: Who of its writers did.
        manifest: The digest of a manifest of it.
        description: As of a version.
        metadata_json: As of a version.
        tags: As of a version.
        aliases: As of a version.
        ttl_us: As of a version.
    """

    run: str
    adder: str
    manifest: str
    description: str | None
    metadata_json: str
    tags: list[str]
    aliases: list[str]
    ttl_us: int | None


@dataclass(frozen=True, slots=True)
class Added:
    """An addition, and when it was made in which draft: its event's key, and time."""

    number: int
    draft: str
    at_us: int
    addition: Addition


def uid_of(artifact_uid: str, distributed_id: str) -> str:
    """A draft's uid."""
    return f"{artifact_uid}:{distributed_id}"


def add(connection: sqlite3.Connection, uid: str, addition: Addition) -> None:
    """Add to a draft, in the caller's transaction."""
    events.record(connection, "upsert", "draft", uid, after=asdict(addition))


def end(
    connection: sqlite3.Connection, uid: str, kind: str, version: str | None = None
) -> None:
    """End a draft: ``finish`` where a version was made of it, else ``drop``.

    Args:
        connection: The transaction.
        uid: The draft's.
        kind: How it ends.
        version: The version's uid.
    """
    events.record(connection, kind, "draft", uid, after=version)


def additions(connection: sqlite3.Connection, uid: str) -> list[Added]:
    """What a draft holds, in the order in which it was added."""
    return _read(connection.execute(f"{_OPEN} AND uid = ? ORDER BY id", (uid,)))


def last_number(connection: sqlite3.Connection, uid: str) -> int:
    """The key of a draft's last event; 0 where there is none."""
    (number,) = connection.execute(
        "SELECT coalesce(max(id), 0) FROM event WHERE entity = 'draft' AND uid = ?",
        (uid,),
    ).fetchone()
    return int(number)


def unfinished(connection: sqlite3.Connection) -> dict[str, list[Added]]:
    """What every draft holds, by the drafts' uids."""
    found: dict[str, list[Added]] = {}
    for added in _read(connection.execute(f"{_OPEN} ORDER BY id")):
        found.setdefault(added.draft, []).append(added)
    return found


def finished_as(connection: sqlite3.Connection, uid: str) -> str | None:
    """The uid of the version that was made of a draft last, if any was."""
    row = connection.execute(
        "SELECT after FROM event WHERE entity = 'draft' AND uid = ?"
        " AND kind = 'finish' ORDER BY id DESC LIMIT 1",
        (uid,),
    ).fetchone()
    return None if row is None else _json.loads(row[0])


def _read(rows: sqlite3.Cursor) -> list[Added]:
    return [
        Added(number, uid, at_us, Addition(**_json.loads(after)))
        for number, uid, at_us, after in rows.fetchall()
    ]
