"""What `doctor` asks the Catalog: is it whole, and which blobs does it name."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BlobUse:
    """One place that a blob is named in.

    Attributes:
        digest: The blob.
        run: The run's key.
        what: What it holds, for people.
    """

    digest: str
    run: int
    what: str


def problems(connection: sqlite3.Connection) -> Iterator[str]:
    """What SQLite itself finds wrong with the file, and rows that point nowhere."""
    for (text,) in connection.execute("PRAGMA quick_check"):
        if text != "ok":
            yield f"catalog: {text}"
    for row in connection.execute("PRAGMA foreign_key_check"):
        yield f"catalog: a row of {row[0]} points nowhere, into {row[2]}"


def blob_uses(connection: sqlite3.Connection) -> Iterator[BlobUse]:
    """Every blob that a run needs, in the trash or not, by run."""
    rows = connection.execute(
        "SELECT digest, run_id, 'file ' || path FROM run_file"
        " UNION ALL SELECT config_blob, id, 'config' FROM run"
        " WHERE config_blob IS NOT NULL"
        " UNION ALL SELECT summary_blob, id, 'summary' FROM run"
        " WHERE summary_blob IS NOT NULL"
        " UNION ALL SELECT digest, run_blob.run_id, 'a large value' FROM run_blob"
        " JOIN run ON run.id = run_blob.run_id"
        " WHERE digest IS NOT config_blob AND digest IS NOT summary_blob"
        " ORDER BY 2, 3"
    )
    return (BlobUse(*row) for row in rows)


def blob_sizes(
    connection: sqlite3.Connection, elsewhere: Collection[str] = ()
) -> dict[int, int]:
    """Bytes of the files that each run saved; the same content counts once.

    Args:
        connection: The Catalog.
        elsewhere: The contents that are not here, and do not count.
    """
    rows = connection.execute("SELECT DISTINCT run_id, digest, size FROM run_file")
    sizes: dict[int, int] = {}
    for run, digest, size in rows:
        if digest not in elsewhere:
            sizes[run] = sizes.get(run, 0) + size
    return sizes
