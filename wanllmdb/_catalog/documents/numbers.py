"""Numbers of versions: provisional until a remote has them.

Where another laptop's version has a number by right, unpushed ones of ours move up, in
the order in which they were committed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping

from wanllmdb import _json
from wanllmdb._catalog import events, remotes

SERIES = {
    "version": ("artifact", "artifact_id"),
    "model_version": ("model", "model_id"),
}
"""What versions are numbered in: the table, and the column that names its row."""


def claimed(connection: sqlite3.Connection, entity: str, remote: str, uid: str) -> bool:
    """Whether a remote has a version, so that its number stands."""
    row = connection.execute(
        "SELECT 1 FROM sync_document WHERE remote = ? AND entity = ? AND uid = ?",
        (remote, entity, uid),
    ).fetchone()
    return row is not None


def claim(connection: sqlite3.Connection, entity: str, remote: str, uid: str) -> None:
    """Note at once that a remote has a version: others of the batch must not move it.

    What it says of it is noted when the batch is merged.
    """
    remotes.set_digests(connection, remote, [(entity, uid, "")])


def stands(connection: sqlite3.Connection, entity: str, uid: str) -> bool:
    """Whether any remote has a version, so that it keeps its number for good."""
    row = connection.execute(
        "SELECT 1 FROM sync_document WHERE entity = ? AND uid = ?", (entity, uid)
    ).fetchone()
    return row is not None


def holder(
    connection: sqlite3.Connection, entity: str, series: int, number: int
) -> tuple[int, str] | None:
    """(key, uid) of the version that has a number here."""
    column = SERIES[entity][1]
    row = connection.execute(
        f"SELECT id, uid FROM {entity} WHERE {column} = ? AND number = ?",
        (series, number),
    ).fetchone()
    return None if row is None else (int(row[0]), str(row[1]))


def make_room(
    connection: sqlite3.Connection,
    entity: str,
    series: int,
    taken: Iterable[int],
) -> dict[str, tuple[int, int]]:
    """Move unpushed versions off numbers that others have at a remote.

    Args:
        connection: The transaction.
        entity: ``version`` or ``model_version``.
        series: Key of the artifact or model.
        taken: Numbers that are another laptop's.

    Returns:
        (former number, number) of each version that moved, by its uid.
    """
    table, column = SERIES[entity]
    rows = connection.execute(
        "SELECT made.uid, number, EXISTS (SELECT 1 FROM sync_document"
        f" WHERE entity = ? AND uid = made.uid) FROM {entity} AS made"
        f" WHERE {column} = ? ORDER BY number",
        (entity, series),
    ).fetchall()
    held = {number for _, number, pushed in rows if pushed} | {*taken}
    moved: dict[str, tuple[int, int]] = {}
    last = -1
    for uid, number, pushed in rows:
        if pushed:
            continue
        wanted = max(last + 1, number)
        while wanted in held:
            wanted += 1
        last = wanted
        if wanted != number:
            moved[uid] = (number, wanted)
    _renumber(connection, entity, moved)
    highest = max([0, *held, last])
    connection.execute(
        f"UPDATE {table} SET last_number = max(coalesce(last_number, 0), ?)"
        " WHERE id = ?",
        (highest, series),
    )
    return moved


def take(
    connection: sqlite3.Connection,
    entity: str,
    given: Mapping[str, int],
    after: int,
) -> list[str]:
    """Give versions the numbers that they got at a remote.

    Args:
        connection: The transaction.
        entity: ``version`` or ``model_version``.
        given: Each version's number, by its uid. Others that have one of these move to
            the end.
        after: The last event that was pushed.

    Returns:
        A line for each version that has another number now.
    """
    table, column = SERIES[entity]
    by_series: dict[int, dict[str, tuple[int, int]]] = {}
    for uid, number in given.items():
        series, former = connection.execute(
            f"SELECT {column}, number FROM {entity} WHERE uid = ?", (uid,)
        ).fetchone()
        by_series.setdefault(series, {})[uid] = (former, number)
    notices = []
    for series, moves in by_series.items():
        name, uid, last = connection.execute(
            f"SELECT name, uid, last_number FROM {table} WHERE id = ?", (series,)
        ).fetchone()
        taken = {number for _, number in moves.values()}
        last = max(last or 0, *taken)
        rows = connection.execute(
            f"SELECT uid, number FROM {entity} WHERE {column} = ? ORDER BY number",
            (series,),
        )
        for other, number in rows.fetchall():
            if other not in moves and number in taken:
                last += 1
                moves[other] = (number, last)
        moved = {key: ends for key, ends in moves.items() if ends[0] != ends[1]}
        _renumber(connection, entity, moved)
        if entity == "version":
            renumber_moves(connection, uid, moved.values(), after)
        connection.execute(
            f"UPDATE {table} SET last_number = ? WHERE id = ?", (last, series)
        )
        notices += [told(name, *ends) for ends in moved.values()]
    return notices


def told(name: str, former: int, new: int) -> str:
    """That a version has another number now."""
    return (
        f"{name}:v{former} is {name}:v{new} now: another laptop's v{former} came first."
    )


def _renumber(
    connection: sqlite3.Connection, entity: str, moved: dict[str, tuple[int, int]]
) -> None:
    # By way of negative numbers: two of them never have one at once.
    for sign in (-1, 1):
        connection.executemany(
            f"UPDATE {entity} SET number = ? WHERE uid = ?",
            [(sign * new, uid) for uid, (_, new) in moved.items()],
        )
    for uid, (former, new) in moved.items():
        events.record(
            connection, "renumber", entity, uid, before=former, after=new,
            reason="another laptop has the former number",
        )  # fmt: skip


def renumber_moves(
    connection: sqlite3.Connection,
    artifact: str,
    moved: Iterable[tuple[int, int]],
    after: int,
) -> None:
    """Let events of aliases that no remote has tell of the new numbers.

    Args:
        connection: The transaction.
        artifact: The artifact's uid.
        moved: (former number, number) of versions that moved.
        after: The last event that was pushed.
    """
    numbers = dict(moved)
    rows = connection.execute(
        "SELECT id, before, after FROM event WHERE entity = 'alias' AND kind = 'alias'"
        " AND origin IS NULL AND id > ? AND uid >= ? AND uid < ?",
        (after, f"{artifact}:", f"{artifact};"),
    ).fetchall()
    for key, *ends in rows:
        told = [_json.loads(end) for end in ends]
        now = [numbers.get(end, end) for end in told]
        if now != told:
            connection.execute(
                "UPDATE event SET before = ?, after = ? WHERE id = ?",
                (_json.dumps(now[0]), _json.dumps(now[1]), key),
            )
