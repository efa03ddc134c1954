"""Documents: what a remote is told of a thing, and how two of them become one.

A document is all that the Catalog says of a project, run, artifact, version or model,
but for its rows and bytes. It is the same text on every laptop that knows the same,
and merging is idempotent, commutative and associative: in whatever order batches are
read, laptops come to the same.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence

from wanllmdb import _json
from wanllmdb._catalog.documents import artifacts, models, projects, runs, versions
from wanllmdb._catalog.documents.merge import (
    Deferred as Deferred,
)
from wanllmdb._catalog.documents.merge import (
    Documents as Documents,
)
from wanllmdb._catalog.documents.merge import (
    Merge as Merge,
)
from wanllmdb._catalog.documents.merge import (
    Reader as Reader,
)
from wanllmdb.errors import IntegrityError

_READERS: Mapping[str, Callable[[Reader, str], Documents | None]] = {
    "project": projects.read,
    "artifact": artifacts.read,
    "run": runs.read,
    "version": versions.read,
    "model": models.read,
    "model_version": models.read_version,
    "model_aliases": models.read_aliases,
}
_MERGERS: Mapping[str, Callable[[Merge, Documents], None]] = {
    "project": projects.merge,
    "artifact": artifacts.merge,
    "run": runs.merge,
    "version": versions.merge,
    "model": models.merge,
    "model_version": models.merge_version,
    "model_aliases": models.merge_aliases,
}
MALFORMED = (
    sqlite3.IntegrityError, ValueError, TypeError, LookupError, AttributeError,
    ArithmeticError, AssertionError, RecursionError,
)  # fmt: skip
"""What is raised over content that no Store of ours would have written."""

ENTITIES = tuple(_READERS)
"""The kinds of things, in the order in which they are merged."""


def read(reader: Reader, entity: str, uid: str) -> Documents | None:
    """The document of a thing; one that says so, where it was removed for good.

    None where there never was such a thing.
    """
    found = _READERS[entity](reader, uid)
    if found is not None:
        return found
    row = reader.connection.execute(
        "SELECT hlc, device FROM gone WHERE entity = ? AND uid = ?", (entity, uid)
    ).fetchone()
    if row is None:
        return None
    return {"entity": entity, "uid": uid, "gone": {"at": row[0], "by": row[1]}}


def merge(context: Merge, document: Documents) -> None:
    """Make what a remote says of a thing, and what is known here, one.

    Raises:
        Deferred: that cannot be done now.
        IntegrityError: it holds what no Store of ours would have said.
    """
    entity, uid = document["entity"], document["uid"]
    if _is_gone(context.connection, entity, uid):
        return
    try:
        _MERGERS[entity](context, document)
    except MALFORMED as error:
        raise IntegrityError(
            f"The remote says of {entity} {uid} what cannot be: {error}.",
            hint="`wanllmdb remote verify` tells what else is wrong there.",
            entity=entity, uid=uid,
        ) from error  # fmt: skip


def in_order(found: Sequence[Documents]) -> list[Documents]:
    """Documents in the order in which they are merged: forks after their parents."""
    order = {entity: place for place, entity in enumerate(ENTITIES)}
    parents = {
        document["uid"]: document["parent"]["uid"]
        for document in found if document.get("parent")
    }  # fmt: skip

    def depth(uid: str) -> int:
        steps = 0
        while uid in parents and steps <= len(parents):
            uid, steps = parents[uid], steps + 1
        return steps

    return sorted(found, key=lambda d: (order[d["entity"]], depth(d["uid"])))


def text_of(document: Documents) -> str:
    """A document as it is hashed: the same text on every laptop."""
    return _json.dumps({key: document[key] for key in sorted(document)})


def _is_gone(connection: sqlite3.Connection, entity: str, uid: str) -> bool:
    row = connection.execute(
        "SELECT 1 FROM gone WHERE entity = ? AND uid = ?", (entity, uid)
    ).fetchone()
    return row is not None
