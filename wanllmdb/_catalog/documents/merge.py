"""What merging of all documents has in common."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from wanllmdb._catalog import events, remotes
from wanllmdb.types import JSONValue, Kind, RunRecord

Documents = dict[str, Any]
"""A document, as JSON has it."""


class Deferred(Exception):  # noqa: N818 - nobody outside sees it
    """Something cannot be merged now, and is tried again at the next sync."""


class Data(Protocol):
    """Reads and writes config and summary, which may be blobs."""

    def load_json(self, record: RunRecord, scope: str) -> dict[str, JSONValue]:
        """Config or summary of a run."""

    def write_json(
        self,
        connection: Any,
        pk: int,
        scope: str,
        value: Mapping[str, JSONValue],
    ) -> None:
        """Store it, inside a transaction."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Where documents are read.

    Attributes:
        connection: The Catalog, at one moment.
        data: Config and summary.
        remote: The uid of the remote that is told.
        rows: How much it has of each stream of a run, with what it is just given.
    """

    connection: sqlite3.Connection
    data: Data
    remote: str
    rows: Callable[[str], Mapping[tuple[str, Kind], remotes.Held]]


@dataclass(slots=True)
class Merge:
    """One batch that is being merged.

    Attributes:
        connection: The transaction.
        data: Config and summary.
        remote: The uid of the remote that it comes from.
        device: Whose batch it is.
        is_live: Whether a process here writes a run.
        split: Hands streams of a run to another one: (run, its streams, to).
        notices: What people should be told.
        recount: Uids of the runs whose sums are to be made anew from their rows.
    """

    connection: sqlite3.Connection
    data: Data
    remote: str
    device: str
    is_live: Callable[[RunRecord], bool]
    split: Callable[[RunRecord, set[str], RunRecord], None]
    notices: list[str] = field(default_factory=list)
    recount: set[str] = field(default_factory=set)

    @property
    def reader(self) -> Reader:
        """The Catalog as it is now, to be read."""
        return Reader(
            self.connection, self.data, self.remote,
            lambda uid: remotes.rows_held(self.connection, self.remote, uid),
        )  # fmt: skip

    def conflict(
        self, kind: str, entity: str, uid: str, mine: str, theirs: str, told: str
    ) -> None:
        """Note a conflict, with its event; each is told once.

        Args:
            kind: ``alias``, ``run``, ``run id``, ``project name``, ``version``.
            entity: What kind of thing it is about.
            uid: Which.
            mine: What it is here.
            theirs: What it is at the remote.
            told: What happened, and which command resolves it.
        """
        if remotes.add_conflict(
            self.connection, self.remote, kind, entity, uid, mine, theirs
        ):
            events.record(
                self.connection, "conflict", entity, uid, before=mine, after=theirs,
                reason=told,
            )  # fmt: skip
            self.notices.append(told)


def short(device: str) -> str:
    """What of a device stands in names: the end, for the beginning is the time."""
    return device[-6:]
