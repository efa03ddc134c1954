"""Streams that `init` opened: who writes them, and how far a dead one was read."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from wanllmdb import _clock
from wanllmdb.types import End, State, StreamIdentity

Fence = tuple[int, int, str]
"""(last segment's number, its size in bytes, stream)."""


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """How a stream of a run stands: its writer's part, and its end if it has one."""

    creator: bool
    end: End | None


def add(
    connection: sqlite3.Connection, pk: int, identity: StreamIdentity, *, creator: bool
) -> None:
    """Register a stream that is being opened."""
    connection.execute(
        "INSERT INTO stream (token, run_id, epoch, writer, creator, opened_us)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (identity.token, pk, identity.epoch, identity.writer, creator, _clock.now_us()),
    )


def close(connection: sqlite3.Connection, token: str, end: End) -> None:
    """Note that a stream's writer finished, and how."""
    connection.execute(
        "UPDATE stream SET closed_us = ?, state = ?, exit_code = ?, error = ?"
        " WHERE token = ?",
        (_clock.now_us(), end.state, end.exit_code, end.error, token),
    )


def ends(connection: sqlite3.Connection, pk: int, epoch: int) -> list[StreamEnd]:
    """How each stream of an epoch stands."""
    rows = connection.execute(
        "SELECT creator, closed_us, state, exit_code, error FROM stream"
        " WHERE run_id = ? AND epoch = ? ORDER BY creator DESC, opened_us",
        (pk, epoch),
    )
    return [
        StreamEnd(
            bool(creator), None if closed is None else End(State(state), code, error)
        )
        for creator, closed, state, code, error in rows
    ]


def identities(connection: sqlite3.Connection, pk: int) -> dict[str, StreamIdentity]:
    """Who writes each stream of a run."""
    rows = connection.execute(
        "SELECT token, epoch, writer FROM stream WHERE run_id = ?", (pk,)
    )
    return {row[0]: StreamIdentity(*row) for row in rows}


def run_of(connection: sqlite3.Connection, token: str) -> int | None:
    """The key of the run that a stream is part of, if it is known."""
    row = connection.execute(
        "SELECT run_id FROM stream WHERE token = :token"
        " UNION SELECT run_id FROM watermark WHERE token = :token",
        {"token": token},
    ).fetchone()
    return None if row is None else int(row[0])


def set_fences(connection: sqlite3.Connection, fences: Sequence[Fence]) -> None:
    """Record how far the streams of a dead run were read."""
    connection.executemany(
        "UPDATE stream SET fence_seq = ?, fence_bytes = ? WHERE token = ?", fences
    )


def fences(connection: sqlite3.Connection, pk: int) -> list[Fence]:
    """How far the streams of a run were read when it was recovered."""
    rows = connection.execute(
        "SELECT fence_seq, fence_bytes, token FROM stream WHERE run_id = ?"
        " AND fence_seq IS NOT NULL",
        (pk,),
    )
    return [tuple(row) for row in rows]
