"""Aliases: generations at a remote, of which the highest says what an alias names.

One generation is created once. Two laptops that moved an alias cannot both have the
next one: the other's pointer is kept as ``alias@device``, until somebody decides.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from wanllmdb import _clock, _names
from wanllmdb._catalog import aliases, artifacts, events, remotes
from wanllmdb._catalog.documents.merge import Deferred, Merge, short

MARK = "@"
"""Stands in names of what was kept of a conflict; users' aliases have none."""


class Claim(NamedTuple):
    """What an alias names from a generation on; no target: it is removed.

    Attributes:
        artifact: The artifact's uid.
        alias: As it is written.
        gen: The generation, from 1 on.
        target: The version's uid.
    """

    artifact: str
    alias: str
    gen: int
    target: str | None

    @property
    def key(self) -> str:
        """The alias, whatever the case."""
        return _names.alias_key(self.alias)


def outgoing(connection: sqlite3.Connection, remote: str, artifact: str) -> list[Claim]:
    """What of an artifact's aliases a remote does not know, as the next generations."""
    now = _held(connection, artifact)
    known = remotes.alias_known(connection, remote, artifact)
    claims = [
        Claim(artifact, alias, known.get(key, (0, None))[0] + 1, target)
        for key, (alias, target) in now.items()
        if known.get(key, (0, None))[1] != target and MARK not in alias
    ]
    claims += [
        Claim(artifact, key, gen + 1, None)
        for key, (gen, target) in known.items()
        if target is not None and key not in now
    ]
    return sorted(claims)


def _held(connection: sqlite3.Connection, artifact: str) -> dict[str, tuple[str, str]]:
    rows = connection.execute(
        "SELECT alias_key, alias, version.uid FROM alias"
        " JOIN version ON version.id = version_id"
        " JOIN artifact ON artifact.id = alias.artifact_id WHERE artifact.uid = ?",
        (artifact,),
    )
    return {key: (alias, uid) for key, alias, uid in rows}


def merge(context: Merge, claim: Claim) -> None:
    """Let an alias name what a remote's generation says.

    A move of ours that the remote does not know is kept beside it.

    Raises:
        Deferred: it names a version that is not known.
    """
    connection = context.connection
    known = remotes.alias_known(connection, context.remote, claim.artifact)
    gen, target = known.get(claim.key, (0, None))
    if claim.gen <= gen:
        return
    held = _held(connection, claim.artifact).get(claim.key)
    ours = None if held is None else held[1]
    if ours not in (target, claim.target):
        _keep_ours(context, claim, held)
    if ours != claim.target:
        _point(context, claim)
    remotes.set_alias(
        connection, context.remote, claim.artifact, claim.key, claim.gen, claim.target
    )


def _point(context: Merge, claim: Claim) -> None:
    connection = context.connection
    row = connection.execute(
        "SELECT id FROM artifact WHERE uid = ?", (claim.artifact,)
    ).fetchone()
    if row is None:
        raise Deferred(f"alias {claim.alias!r} is of an artifact that is not known")
    if claim.target is None:
        connection.execute(
            "DELETE FROM alias WHERE artifact_id = ? AND alias_key = ?",
            (row[0], claim.key),
        )
    else:
        found = connection.execute(
            "SELECT id FROM version WHERE uid = ?", (claim.target,)
        ).fetchone()
        if found is None:
            if _is_gone(connection, claim.target):
                return
            raise Deferred(f"alias {claim.alias!r} names a version that is not known")
        connection.execute(
            "INSERT INTO alias (artifact_id, alias_key, alias, version_id, moved_us)"
            " VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET alias = excluded.alias,"
            " version_id = excluded.version_id, moved_us = excluded.moved_us",
            (row[0], claim.key, claim.alias, found[0], _clock.now_us()),
        )


def _is_gone(connection: sqlite3.Connection, uid: str) -> bool:
    return remotes.gone(connection, "version", uid) is not None


def _keep_ours(context: Merge, claim: Claim, held: tuple[str, str] | None) -> None:
    """Keep what an alias named here as ``alias@device``, and say so."""
    connection = context.connection
    name, path, project = connection.execute(
        "SELECT artifact.name, project.name || '/' || artifact.name, project.name"
        " FROM artifact JOIN project ON project.id = project_id WHERE artifact.uid = ?",
        (claim.artifact,),
    ).fetchone()
    mine = "removed" if held is None else _number(connection, held[1])
    theirs = "removed" if claim.target is None else _number(connection, claim.target)
    if held is not None:
        kept = f"{claim.alias}{MARK}{short(remotes.device(connection))}"
        connection.execute(
            "INSERT OR REPLACE INTO alias (artifact_id, alias_key, alias, version_id,"
            " moved_us) SELECT artifact_id, ?, ?, id, ? FROM version WHERE uid = ?",
            (_names.alias_key(kept), kept, _clock.now_us(), held[1]),
        )
    context.conflict(
        "alias", "alias", f"{claim.artifact}:{claim.key}", mine, theirs,
        f"Two laptops moved alias {claim.alias!r} of {path}: it is {theirs} at the"
        f" remote, {mine} here; `wanllmdb artifact alias resolve {name} {claim.alias}"
        f" --take mine|theirs -p {project}` settles it.",
    )  # fmt: skip


def _number(connection: sqlite3.Connection, uid: str) -> str:
    row = connection.execute(
        "SELECT number FROM version WHERE uid = ?", (uid,)
    ).fetchone()
    return "a version that is not here" if row is None else f"v{row[0]}"


def resolve(
    connection: sqlite3.Connection, artifact: int, alias: str, take: str
) -> int | None:
    """Settle an alias that two laptops moved.

    Args:
        connection: The transaction.
        artifact: The artifact's key.
        alias: Its name.
        take: ``mine`` lets it name what it named here before, as the next generation;
            ``theirs`` lets it be.

    Returns:
        The number of the version that it names now; None: nothing.
    """
    uid = artifacts.uid(connection, artifact)
    key = _names.alias_key(alias)
    rows = connection.execute(
        "SELECT alias, version_id FROM alias WHERE artifact_id = ?"
        " AND alias_key >= ? AND alias_key < ?",
        (artifact, f"{key}{MARK}", f"{key}A"),
    ).fetchall()
    remotes.resolve_conflicts(connection, "alias", f"{uid}:{key}")
    version = None
    for kept, held in rows:
        version = artifacts.read(connection, held)
        connection.execute(
            "DELETE FROM alias WHERE artifact_id = ? AND alias_key = ?",
            (artifact, _names.alias_key(kept)),
        )
    if take == "mine":
        if version is not None:
            aliases.put(connection, version, alias, force=True, reason="resolve: mine")
        elif aliases.find(connection, artifact, alias) is not None:
            held = aliases.find(connection, artifact, alias)
            assert held is not None
            shown = artifacts.read(connection, held.version)
            aliases.drop(connection, shown, alias, force=True, reason="resolve: mine")
    events.record(connection, "resolve", "alias", f"{uid}:{key}", after=take)
    now = aliases.find(connection, artifact, alias)
    return None if now is None else now.number
