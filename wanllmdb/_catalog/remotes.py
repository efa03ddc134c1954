"""Remotes, and how far this Store and each of them know each other."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from wanllmdb import _clock, _ids
from wanllmdb.errors import ConflictError, RemoteNotFoundError
from wanllmdb.types import Digest, Kind, RemoteRecord


class Held(NamedTuple):
    """How much of a stream a remote holds: items, and the rows among them."""

    items: int
    rows: int


RowsHeld = dict[tuple[str, str, Kind], Held]
"""How much a remote holds of each stream: (run's uid, stream, kind)."""


class Place(NamedTuple):
    """Where bytes lie at a remote: `size` of them in an object, from `first` on."""

    key: str
    first: int
    size: int


class SyncState(NamedTuple):
    """How far a remote knows this Store; see table `sync_state`."""

    device: str
    seq: int
    change_id: int
    event_id: int
    synced_us: int | None
    failed: str | None
    nonce: str | None


class Conflict(NamedTuple):
    """What two laptops did that is to be resolved; see table `conflict`."""

    remote: str
    kind: str
    entity: str
    uid: str
    mine: str
    theirs: str
    found_us: int


# Remotes by name


_READ = (
    "SELECT name, url, endpoint_url, profile, path_style, single_writer, is_default,"
    " uid, added_us FROM remote"
)


def listed(connection: sqlite3.Connection) -> list[RemoteRecord]:
    """Every remote, by name."""
    rows = connection.execute(f"{_READ} ORDER BY name")
    return [_record(row) for row in rows]


def get(connection: sqlite3.Connection, name: str) -> RemoteRecord:
    """The remote of a name.

    Raises:
        RemoteNotFoundError: there is none.
    """
    row = connection.execute(f"{_READ} WHERE name = ?", (name,)).fetchone()
    if row is None:
        raise RemoteNotFoundError(
            f"There is no remote {name!r}.",
            hint="`wanllmdb remote ls` shows them; `wanllmdb remote add` adds one.",
            remote=name,
        )
    return _record(row)


def find_default(connection: sqlite3.Connection) -> RemoteRecord | None:
    """The remote that is meant where none is named: the default, or the only one."""
    found = listed(connection)
    chosen = [remote for remote in found if remote.default]
    return chosen[0] if chosen else found[0] if len(found) == 1 else None


def find_url(
    connection: sqlite3.Connection, url: str, endpoint_url: str | None
) -> RemoteRecord | None:
    """The remote at a URL, if it has a name."""
    for remote in listed(connection):
        if (remote.url, remote.endpoint_url) == (url, endpoint_url):
            return remote
    return None


def add(connection: sqlite3.Connection, remote: RemoteRecord) -> None:
    """Name a remote.

    Raises:
        ConflictError: there is one of that name.
    """
    try:
        connection.execute(
            "INSERT INTO remote VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                remote.name, remote.url, remote.endpoint_url, remote.profile,
                remote.path_style, remote.single_writer, remote.default, remote.uid,
                remote.added_us,
            ),
        )  # fmt: skip
    except sqlite3.IntegrityError:
        raise _taken(remote.name) from None


def check_free(connection: sqlite3.Connection, name: str) -> None:
    """See that no remote has a name, before anything is made there.

    Raises:
        ConflictError: there is one.
    """
    if any(remote.name == name for remote in listed(connection)):
        raise _taken(name)


def _taken(name: str) -> ConflictError:
    return ConflictError(
        f"There is a remote {name!r} already.",
        hint=f"Choose another name, or `wanllmdb remote rm {name}` first.",
        remote=name,
    )


def remove(connection: sqlite3.Connection, name: str) -> None:
    """Forget a remote's name; what is known of its content stays, for its return.

    Raises:
        RemoteNotFoundError: there is none.
    """
    connection.execute(
        "DELETE FROM remote WHERE name = ?", (get(connection, name).name,)
    )


def set_default(connection: sqlite3.Connection, name: str) -> None:
    """Let a remote be the one that is meant where none is named.

    Raises:
        RemoteNotFoundError: there is none of that name.
    """
    get(connection, name)
    connection.execute("UPDATE remote SET is_default = 0 WHERE is_default")
    connection.execute("UPDATE remote SET is_default = 1 WHERE name = ?", (name,))


def set_single_writer(connection: sqlite3.Connection, name: str, on: bool) -> None:
    """Note whether a remote's exclusive create can be trusted."""
    connection.execute("UPDATE remote SET single_writer = ? WHERE name = ?", (on, name))


def _record(row: Sequence[object]) -> RemoteRecord:
    name, url, endpoint, profile, path_style, single, default, uid, added = row
    return RemoteRecord(
        str(name), str(url), endpoint, profile, bool(path_style), bool(single),  # type: ignore[arg-type]
        bool(default), str(uid), int(added),  # type: ignore[call-overload]
    )  # fmt: skip


# This Store's device


def device(connection: sqlite3.Connection) -> str:
    """What this Store is called at remotes."""
    row = connection.execute("SELECT value FROM meta WHERE key = 'device'").fetchone()
    return str(row[0])


def devices(connection: sqlite3.Connection) -> list[str]:
    """What this Store is called at remotes, and what it was called before."""
    rows = connection.execute(
        "SELECT value FROM meta WHERE key = 'device' OR key = 'former_devices'"
    )
    return [name for row in rows for name in row[0].split()]


def clock(connection: sqlite3.Connection) -> int:
    """This Store's hybrid logical clock."""
    row = connection.execute("SELECT value FROM meta WHERE key = 'hlc'").fetchone()
    return int(row[0])


def bind_device(connection: sqlite3.Connection, binding: str) -> str | None:
    """Give the Store a new device where it is not the one that it was made as.

    Args:
        connection: A transaction.
        binding: What tells this copy of the Store from any other one.

    Returns:
        The device that it had before, where it has a new one now.
    """
    row = connection.execute("SELECT value FROM meta WHERE key = 'binding'").fetchone()
    if row is None:
        connection.execute("INSERT INTO meta VALUES ('binding', ?)", (binding,))
        return None
    if row[0] == binding:
        return None
    connection.execute("UPDATE meta SET value = ? WHERE key = 'binding'", (binding,))
    return renew_device(connection)


def renew_device(connection: sqlite3.Connection) -> str:
    """Give the Store a new device; return the one that it had.

    What it pushed under the old one is read like another's from then on.
    """
    old = device(connection)
    connection.execute("UPDATE meta SET value = ? WHERE key = 'device'", (_ids.uid(),))
    connection.execute(
        "INSERT INTO meta VALUES ('former_devices', ?)"
        " ON CONFLICT DO UPDATE SET value = value || ' ' || excluded.value",
        (old,),
    )
    connection.execute(
        "INSERT OR REPLACE INTO sync_cursor SELECT remote, device, seq FROM sync_state"
        " WHERE device = ?",
        (old,),
    )
    connection.execute(
        "UPDATE sync_state SET seq = 0, nonce = NULL, device ="
        " (SELECT value FROM meta WHERE key = 'device')"
    )
    return old


# How far


def state(connection: sqlite3.Connection, remote: str) -> SyncState:
    """How far a remote knows this Store."""
    row = connection.execute(
        "SELECT device, seq, change_id, event_id, synced_us, failed, nonce"
        " FROM sync_state WHERE remote = ?",
        (remote,),
    ).fetchone()
    if row is None:
        return SyncState(device(connection), 0, 0, 0, None, None, None)
    return SyncState(*row)


def set_state(connection: sqlite3.Connection, remote: str, state: SyncState) -> None:
    """Note how far a remote knows this Store now."""
    connection.execute(
        "INSERT OR REPLACE INTO sync_state VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (remote, *state),
    )


def cursors(connection: sqlite3.Connection, remote: str) -> dict[str, int]:
    """The last batch of each other device that was applied here."""
    rows = connection.execute(
        "SELECT device, seq FROM sync_cursor WHERE remote = ?", (remote,)
    )
    return {row[0]: row[1] for row in rows}


def set_cursor(
    connection: sqlite3.Connection, remote: str, device: str, seq: int
) -> None:
    """Note that a device's batches are applied up to one."""
    connection.execute(
        "INSERT OR REPLACE INTO sync_cursor VALUES (?, ?, ?)", (remote, device, seq)
    )


def deferred(connection: sqlite3.Connection, remote: str) -> dict[tuple[str, int], str]:
    """Batches that are to be looked at again, and why."""
    rows = connection.execute(
        "SELECT device, seq, reason FROM sync_deferred WHERE remote = ?"
        " ORDER BY device, seq",
        (remote,),
    )
    return {(row[0], row[1]): row[2] for row in rows}


def set_deferred(
    connection: sqlite3.Connection,
    remote: str,
    device: str,
    seq: int,
    reason: str | None,
) -> None:
    """Note that a batch is to be looked at again; None: that it need not be."""
    connection.execute(
        "DELETE FROM sync_deferred WHERE remote = ? AND device = ? AND seq = ?",
        (remote, device, seq),
    )
    if reason is not None:
        connection.execute(
            "INSERT INTO sync_deferred VALUES (?, ?, ?, ?)",
            (remote, device, seq, reason),
        )


def news(
    connection: sqlite3.Connection, remote: str
) -> tuple[int, list[tuple[str, str]]]:
    """What changed here and may be news to a remote.

    Returns:
        Up to which change was looked; and (entity, uid) of each thing, in the order of
        their last changes.
    """
    after = state(connection, remote).change_id
    upto = connection.execute("SELECT coalesce(max(id), 0) FROM change").fetchone()[0]
    rows = connection.execute(
        "SELECT entity, uid FROM change WHERE id > :after AND NOT EXISTS"
        " (SELECT 1 FROM sync_document AS known WHERE remote = :remote"
        " AND known.entity = change.entity AND known.uid = change.uid"
        " AND change_id = change.id) ORDER BY id",
        {"after": after, "remote": remote},
    )
    return max(after, upto), [(row[0], row[1]) for row in rows]


def set_known(
    connection: sqlite3.Connection, remote: str, entity: str, uid: str
) -> None:
    """Note that the last change of a thing is no news to a remote."""
    connection.execute(
        "UPDATE sync_document SET change_id = coalesce((SELECT id FROM change"
        " WHERE entity = :entity AND uid = :uid), 0)"
        " WHERE remote = :remote AND entity = :entity AND uid = :uid",
        {"remote": remote, "entity": entity, "uid": uid},
    )


def things(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """(entity, uid) of everything that there is or was, by last change."""
    rows = connection.execute("SELECT entity, uid FROM change ORDER BY id")
    return [(row[0], row[1]) for row in rows]


def events_after(
    connection: sqlite3.Connection, after: int
) -> list[tuple[int, list[object]]]:
    """The events that were recorded here after one: (its key, its columns)."""
    rows = connection.execute(
        "SELECT id, at_us, kind, entity, uid, who, host, op_id, before, after, reason"
        " FROM event WHERE id > ? AND origin IS NULL ORDER BY id",
        (after,),
    )
    return [(row[0], list(row)[1:]) for row in rows]


def add_events(
    connection: sqlite3.Connection,
    device: str,
    rows: Iterable[tuple[int, Sequence[object]]],
) -> None:
    """Take over events of another device, each once."""
    connection.executemany(
        "INSERT OR IGNORE INTO event (origin, at_us, kind, entity, uid, who, host,"
        " op_id, before, after, reason) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [(f"{device}:{number}", *columns) for number, columns in rows],
    )


# What a remote holds


def digest_of(
    connection: sqlite3.Connection, remote: str, entity: str, uid: str
) -> str | None:
    """The digest of the document that a remote has of a thing."""
    row = connection.execute(
        "SELECT digest FROM sync_document WHERE remote = ? AND entity = ? AND uid = ?",
        (remote, entity, uid),
    ).fetchone()
    return None if row is None else str(row[0])


def set_digests(
    connection: sqlite3.Connection,
    remote: str,
    digests: Iterable[tuple[str, str, str]],
) -> None:
    """Note (entity, uid, digest) of documents that a remote has now."""
    connection.executemany(
        "INSERT INTO sync_document (remote, entity, uid, digest) VALUES (?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET digest = excluded.digest, change_id = 0",
        [(remote, *row) for row in digests],
    )


def rows_held(
    connection: sqlite3.Connection, remote: str, run: str
) -> dict[tuple[str, Kind], Held]:
    """How much of each stream of a run a remote holds."""
    rows = connection.execute(
        "SELECT token, kind, items, rows FROM sync_rows WHERE remote = ? AND run = ?"
        " ORDER BY token, kind",
        (remote, run),
    )
    return {(row[0], Kind(row[1])): Held(row[2], row[3]) for row in rows}


def set_rows(connection: sqlite3.Connection, remote: str, rows: RowsHeld) -> None:
    """Note that a remote holds at least so much of streams."""
    connection.executemany(
        "INSERT INTO sync_rows VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
        " items = max(items, excluded.items), rows = max(rows, excluded.rows)",
        [(remote, *key, *held) for key, held in rows.items()],
    )


def place_of(connection: sqlite3.Connection, remote: str, digest: str) -> Place | None:
    """Where the bytes of a digest lie at a remote."""
    row = connection.execute(
        "SELECT key, first, size FROM sync_object WHERE remote = ? AND digest = ?",
        (remote, digest),
    ).fetchone()
    return None if row is None else Place(*row)


def places_of(connection: sqlite3.Connection, digest: str) -> list[tuple[str, Place]]:
    """(remote, place) wherever the bytes of a digest lie."""
    rows = connection.execute(
        "SELECT remote, key, first, size FROM sync_object WHERE digest = ?", (digest,)
    )
    return [(row[0], Place(*row[1:])) for row in rows]


def set_places(
    connection: sqlite3.Connection, remote: str, places: Mapping[str, Place]
) -> None:
    """Note where bytes lie at a remote."""
    connection.executemany(
        "INSERT OR REPLACE INTO sync_object VALUES (?, ?, ?, ?, ?)",
        [(remote, digest, *place) for digest, place in places.items()],
    )


def forget_keys(
    connection: sqlite3.Connection, remote: str, keys: Iterable[str]
) -> None:
    """Note that objects are gone from a remote, or soon will be."""
    connection.executemany(
        "DELETE FROM sync_object WHERE remote = ? AND key = ?",
        [(remote, key) for key in keys],
    )


def keys_known(connection: sqlite3.Connection, remote: str) -> set[str]:
    """The keys of all objects of bytes that a remote is known to have."""
    rows = connection.execute(
        "SELECT DISTINCT key FROM sync_object WHERE remote = ?", (remote,)
    )
    return {row[0] for row in rows}


def gc_seen(connection: sqlite3.Connection, remote: str) -> str | None:
    """Which gc of a remote was the last that this Store took notice of."""
    row = connection.execute(
        "SELECT value FROM meta WHERE key = ?", (f"gc:{remote}",)
    ).fetchone()
    return None if row is None else str(row[0])


def set_gc_seen(connection: sqlite3.Connection, remote: str, which: str) -> None:
    """Note which gc of a remote was the last one."""
    connection.execute(
        "INSERT OR REPLACE INTO meta VALUES (?, ?)", (f"gc:{remote}", which)
    )


def held_elsewhere(connection: sqlite3.Connection) -> set[Digest]:
    """Every digest whose bytes lie at some remote."""
    rows = connection.execute("SELECT DISTINCT digest FROM sync_object")
    return {Digest(row[0]) for row in rows}


# Aliases


def alias_known(
    connection: sqlite3.Connection, remote: str, artifact: str
) -> dict[str, tuple[int, str | None]]:
    """The last generation and target of each alias of an artifact at a remote."""
    rows = connection.execute(
        "SELECT alias_key, gen, target FROM sync_alias"
        " WHERE remote = ? AND artifact = ?",
        (remote, artifact),
    )
    return {row[0]: (row[1], row[2]) for row in rows}


def set_alias(
    connection: sqlite3.Connection,
    remote: str,
    artifact: str,
    alias_key: str,
    gen: int,
    target: str | None,
) -> None:
    """Note the last generation of an alias at a remote."""
    connection.execute(
        "INSERT OR REPLACE INTO sync_alias VALUES (?, ?, ?, ?, ?)",
        (remote, artifact, alias_key, gen, target),
    )


# Conflicts


def add_conflict(
    connection: sqlite3.Connection,
    remote: str,
    kind: str,
    entity: str,
    uid: str,
    mine: str,
    theirs: str,
) -> bool:
    """Note a conflict; False where it is known already."""
    done = connection.execute(
        "INSERT OR IGNORE INTO conflict (remote, kind, entity, uid, mine, theirs,"
        " found_us) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (remote, kind, entity, uid, mine, theirs, _clock.now_us()),
    )
    return done.rowcount > 0


def conflicts(connection: sqlite3.Connection) -> list[Conflict]:
    """The conflicts that are not resolved, the oldest first."""
    rows = connection.execute(
        "SELECT remote, kind, entity, uid, mine, theirs, found_us FROM conflict"
        " WHERE resolved_us IS NULL ORDER BY id"
    )
    return [Conflict(*row) for row in rows]


def all_conflicts(connection: sqlite3.Connection) -> list[Conflict]:
    """Every conflict there was, resolved ones too, the oldest first."""
    rows = connection.execute(
        "SELECT remote, kind, entity, uid, mine, theirs, found_us FROM conflict"
        " ORDER BY id"
    )
    return [Conflict(*row) for row in rows]


def resolve_conflicts(connection: sqlite3.Connection, kind: str, uid: str) -> int:
    """Note that the conflicts of a thing are resolved; return how many."""
    done = connection.execute(
        "UPDATE conflict SET resolved_us = ? WHERE kind = ? AND uid = ?"
        " AND resolved_us IS NULL",
        (_clock.now_us(), kind, uid),
    )
    return done.rowcount


# What was removed for good


def gone(
    connection: sqlite3.Connection, entity: str, uid: str
) -> tuple[int, str] | None:
    """The stamp of a thing's removal for good, if it was removed here."""
    row = connection.execute(
        "SELECT hlc, device FROM gone WHERE entity = ? AND uid = ?", (entity, uid)
    ).fetchone()
    return None if row is None else (row[0], row[1])
