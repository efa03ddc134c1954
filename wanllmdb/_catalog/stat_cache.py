"""What files outside the Store held when they were last hashed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from wanllmdb.types import Digest, Stat

Known = dict[str, tuple[Stat, Digest]]


def below(connection: sqlite3.Connection, directory: str) -> Known:
    """What is known of every file under a directory, by absolute path."""
    head = directory.rstrip("/")
    if not _storable(head):
        return {}
    rows = connection.execute(
        "SELECT path, digest, size, mtime_ns, ctime_ns, inode FROM stat_cache"
        " WHERE path >= ? AND path < ?",
        (head + "/", head + "0"),  # 0 comes after / in every encoding of both
    )
    return {row[0]: (Stat(*row[2:]), Digest(row[1])) for row in rows.fetchall()}


def of_file(connection: sqlite3.Connection, path: str) -> Known:
    """What is known of one file."""
    if not _storable(path):
        return {}
    rows = connection.execute(
        "SELECT path, digest, size, mtime_ns, ctime_ns, inode FROM stat_cache"
        " WHERE path = ?",
        (path,),
    )
    return {row[0]: (Stat(*row[2:]), Digest(row[1])) for row in rows.fetchall()}


def put(
    connection: sqlite3.Connection, found: Iterable[tuple[str, Stat, Digest]]
) -> None:
    """Note what files hold, in place of what was noted of them before."""
    connection.executemany(
        "INSERT INTO stat_cache (path, size, mtime_ns, ctime_ns, inode, digest)"
        " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET size = excluded.size,"
        " mtime_ns = excluded.mtime_ns, ctime_ns = excluded.ctime_ns,"
        " inode = excluded.inode, digest = excluded.digest",
        ((path, *stat, digest) for path, stat, digest in found if _storable(path)),
    )


def _storable(path: str) -> bool:
    """Whether a path is text to SQLite; a name that is not UTF-8 is not."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
