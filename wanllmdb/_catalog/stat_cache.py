"""What files outside the Store held when they were last hashed.

By directory: that every file of it is as it was, one comparison tells. A file that was
added by itself has a place of its own, so that its neighbours cost it nothing.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from wanllmdb import _digest
from wanllmdb.types import Digest, Stat

ALONE = ""
"""The name that a file has in its own place."""

_STAT = len(Stat._fields)
_DIGEST_BYTES = 32


class Listing(NamedTuple):
    """Files of one place: what the system said of each, and what it held.

    Attributes:
        names: Of the files, sorted.
        stats: Their stats, as `packed` has them.
        digests: Their SHA-256, 32 bytes each.
    """

    names: list[str]
    stats: bytes
    digests: bytes

    @classmethod
    def of(cls, files: Mapping[str, tuple[Stat, Digest]]) -> Listing | None:
        """The listing of files; None where the Catalog cannot keep it."""
        names = sorted(name for name in files if _storable(name))
        stats = packed([number for name in names for number in files[name][0]])
        if not names or stats is None:
            return None
        digests = "".join(_digest.hex_of(files[name][1]) for name in names)
        return cls(names, stats, bytes.fromhex(digests))

    def held(self) -> list[Digest]:
        """What each file held."""
        text = self.digests.hex()
        step = 2 * _DIGEST_BYTES
        return [
            Digest(_digest.PREFIX + text[start : start + step])
            for start in range(0, len(text), step)
        ]

    def sizes(self) -> list[int]:
        """Bytes of each file."""
        return array("q", self.stats).tolist()[::_STAT]

    def files(self) -> dict[str, tuple[Stat, Digest]]:
        """Each file's stat and digest."""
        numbers = array("q", self.stats).tolist()
        stats = [
            Stat(*numbers[start : start + _STAT])
            for start in range(0, len(numbers), _STAT)
        ]
        return dict(zip(self.names, zip(stats, self.held(), strict=True), strict=True))


Known = Mapping[str, Listing]


def packed(numbers: list[int]) -> bytes | None:
    """The numbers of stats, each 8 bytes; None where one is larger."""
    try:
        return array("q", numbers).tobytes()
    except OverflowError:
        return None


def below(connection: sqlite3.Connection, directory: str) -> Known:
    """What is known of a directory, and of every place under it, by absolute path."""
    head = directory.rstrip("/")
    if not _storable(head):
        return {}
    rows = connection.execute(
        "SELECT place, names, stats, digests FROM stat_cache"
        " WHERE place = ? OR (place >= ? AND place < ?)",
        (
            directory,
            head + "/",
            head + "0",
        ),  # 0 comes after / in every encoding of both
    )
    return {row[0]: Listing(row[1].split("/"), *row[2:]) for row in rows.fetchall()}


def of_file(connection: sqlite3.Connection, path: str) -> tuple[Stat, Digest] | None:
    """What is known of a file that was added by itself."""
    if not _storable(path):
        return None
    row = connection.execute(
        "SELECT names, stats, digests FROM stat_cache WHERE place = ?", (path,)
    ).fetchone()
    return None if row is None else Listing([row[0]], *row[1:]).files().get(ALONE)


def put(
    connection: sqlite3.Connection, listings: Iterable[tuple[str, Listing]]
) -> None:
    """Note what places hold, instead of what was noted of them before."""
    connection.executemany(
        "INSERT OR REPLACE INTO stat_cache VALUES (?, ?, ?, ?)",
        (
            (place, "/".join(listing.names), listing.stats, listing.digests)
            for place, listing in listings
            if _storable(place)
        ),
    )


def prune(connection: sqlite3.Connection, exists: Callable[[str], bool]) -> None:
    """Forget places that are gone."""
    rows = connection.execute("SELECT place FROM stat_cache").fetchall()
    connection.executemany(
        "DELETE FROM stat_cache WHERE place = ?",
        [(place,) for (place,) in rows if not exists(place)],
    )


def _storable(text: str) -> bool:
    """Whether a path is text to SQLite; a name that is not UTF-8 is not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
