"""Registers: fields that sync, each with the stamp of its last change.

A field's later change wins, by (hlc, device); of two values that nobody ever changed,
the greater text, so that every laptop comes to the same. Tags are an add-wins set.
Merging is idempotent, commutative and associative, whatever the order of batches.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from wanllmdb import _clock, _json
from wanllmdb.types import JSONValue

AHEAD_US = 600_000_000
"""A clock that runs ahead further than this is not taken over."""

Fields = dict[str, dict[str, JSONValue]]
"""Registers as documents hold them: ``at``, ``by``, and ``v`` unless it was removed."""


class Stamp(NamedTuple):
    """When a field was changed, by the hybrid logical clock, and on which device."""

    hlc: int
    device: str


NEVER = Stamp(0, "")
"""The stamp of a field that is as it was made."""


@contextmanager
def merging(connection: sqlite3.Connection) -> Iterator[None]:
    """Within a transaction: what is written has stamps of its own."""
    connection.execute("INSERT INTO meta VALUES ('merging', '1')")
    yield
    connection.execute("DELETE FROM meta WHERE key = 'merging'")


def stamps(connection: sqlite3.Connection, entity: str, uid: str) -> dict[str, Stamp]:
    """The stamps of the fields of a thing that were ever changed."""
    rows = connection.execute(
        "SELECT field, hlc, device FROM field_rev WHERE entity = ? AND uid = ?",
        (entity, uid),
    )
    return {row[0]: Stamp(row[1], row[2]) for row in rows}


def document(
    connection: sqlite3.Connection, entity: str, uid: str, values: Mapping[str, Any]
) -> Fields:
    """The registers of a thing: its values with their stamps, and what was removed.

    Args:
        connection: The Catalog.
        entity: What kind of thing.
        uid: Which.
        values: Every field that it has now. Stamps of others tell of a removal, if
            their names have the prefix of a map (``config.``).
    """
    known = stamps(connection, entity, uid)
    found: Fields = {}
    for name in sorted({*values, *(n for n in known if "." in n)}):
        at = known.get(name, NEVER)
        found[name] = {"at": at.hlc, "by": at.device}
        if name in values:
            found[name]["v"] = values[name]
    return found


def stamp_of(field: Mapping[str, JSONValue]) -> Stamp:
    """The stamp of a document's field."""
    return Stamp(field["at"], field["by"])


def later(
    mine: Fields, theirs: Fields, prefixes: Sequence[str] = ()
) -> dict[str, dict[str, JSONValue]]:
    """The fields of `theirs` that win over `mine`.

    Args:
        mine: As `document` made them here.
        theirs: As a remote has them.
        prefixes: Only fields that start with one of these; none: all.
    """
    found = {}
    for name, field in theirs.items():
        if prefixes and not name.startswith(tuple(prefixes)):
            continue
        if name not in mine or _rank(field) > _rank(mine[name]):
            found[name] = field
    return found


def _rank(field: Mapping[str, JSONValue]) -> tuple[int, str, str]:
    value = _json.dumps(field["v"]) if "v" in field else ""
    return field["at"], field["by"], value


def put(connection: sqlite3.Connection, entity: str, uid: str, fields: Fields) -> None:
    """Take over the stamps of fields that won; those never changed have none."""
    connection.executemany(
        "INSERT OR REPLACE INTO field_rev VALUES (?, ?, ?, ?, ?)",
        [
            (entity, uid, name, field["at"], field["by"])
            for name, field in fields.items()
            if field["at"]
        ],
    )


def absorb(connection: sqlite3.Connection, hlc: int) -> bool:
    """Let this Store's clock be no earlier than another's.

    Returns:
        False where that one runs more than ten minutes ahead, and is left alone.
    """
    if hlc > _clock.now_us() + AHEAD_US:
        return False
    connection.execute(
        "UPDATE meta SET value = ? WHERE key = 'hlc' AND CAST(value AS INTEGER) < ?",
        (str(hlc), hlc),
    )
    return True


# Tags


def tags(connection: sqlite3.Connection, entity: str, uid: str) -> list[list[Any]]:
    """[tag, device, added, removed] of every tag that a thing ever had, in order."""
    rows = connection.execute(
        "SELECT tag, device, added, removed FROM tag_rev WHERE entity = ? AND uid = ?"
        " ORDER BY tag, device",
        (entity, uid),
    )
    return [list(row) for row in rows]


def merge_tags(
    connection: sqlite3.Connection,
    entity: str,
    uid: str,
    pk: int,
    theirs: Sequence[Sequence[Any]],
) -> None:
    """Join what two laptops did to the tags of a thing."""
    connection.executemany(
        "INSERT INTO tag_rev VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
        " added = max(added, excluded.added), removed = max(removed, excluded.removed)",
        [(entity, uid, *row) for row in theirs],
    )
    shown = (
        "SELECT tag FROM tag_rev WHERE entity = :entity AND uid = :uid"
        " AND added > removed"
    )
    given = {"entity": entity, "uid": uid, "pk": pk}
    connection.execute(
        f"DELETE FROM {entity}_tag WHERE {entity}_id = :pk AND tag NOT IN ({shown})",
        given,
    )
    connection.execute(
        f"INSERT OR IGNORE INTO {entity}_tag SELECT DISTINCT :pk, tag FROM ({shown})",
        given,
    )
