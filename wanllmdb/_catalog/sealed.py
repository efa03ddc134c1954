"""What is sealed: the parts, the logs of small runs, and how far each stream went.

Parts, watermarks and inline logs of one seal or merge change in one transaction, so
that each row is visible exactly once at every moment.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from wanllmdb import _clock
from wanllmdb.types import Kind, StreamIdentity

KEY_LIMIT = 256
"""Keys of a part that `part_key` lists; a part of more is asked for any key."""

SMALL_BYTES = 8 << 20
"""A part that is no larger waits to be merged with others."""

GRACE_US = 60_000_000
"""How long what was replaced stays on the disk: a reader may be about to open it."""


@dataclass(frozen=True, slots=True)
class PartRows:
    """A run's rows in one part; see table `part_run`."""

    part: int
    path: str
    layout: str
    row_first: int
    rows: int
    step_min: int | None
    step_max: int | None
    epoch_min: int
    epoch_max: int
    plain: bool
    part_rows: int
    quarantined: bool


@dataclass(frozen=True, slots=True)
class Watermark:
    """How far a stream is sealed; see table `watermark`."""

    identity: StreamIdentity
    kind: Kind
    seq: int
    bytes: int
    rows: int


@dataclass(frozen=True, slots=True)
class InlineKey:
    """A segment that the Catalog itself holds; `rowid` finds its bytes."""

    rowid: int
    token: str
    kind: Kind
    seq: int
    crc: int


@dataclass(frozen=True, slots=True)
class Sealed:
    """All that is sealed of one run, as it stood at one moment."""

    marks: tuple[Watermark, ...] = ()
    parts: tuple[PartRows, ...] = ()
    inline: tuple[InlineKey, ...] = ()

    def mark(self, token: str, kind: Kind) -> Watermark | None:
        """How far a stream is sealed."""
        for mark in self.marks:
            if mark.identity.token == token and mark.kind is kind:
                return mark
        return None


@dataclass(frozen=True, slots=True)
class RunShare:
    """What a new part holds of one run."""

    run: int
    row_first: int
    rows: int
    step_min: int | None
    step_max: int | None
    epoch_min: int
    epoch_max: int
    plain: bool

    @property
    def end(self) -> int:
        """The row after its last one."""
        return self.row_first + self.rows


@dataclass(frozen=True, slots=True)
class NewPart:
    """A Parquet file that is in place, to be made visible."""

    name: str
    layout: str
    rows: int
    bytes: int
    digest: str
    shares: Sequence[RunShare]
    columns: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Column name and type codes of each key."""


@dataclass(frozen=True, slots=True)
class InlineSegment:
    """A segment that the Catalog shall hold."""

    token: str
    kind: Kind
    seq: int
    epoch: int
    rows: int
    crc: int
    plain: bool
    data: bytes


_PART_ROWS = """
SELECT part.id, project.uid || '/' || part.name, part.layout, part_run.row_first,
    part_run.rows, part_run.step_min, part_run.step_max, part_run.epoch_min,
    part_run.epoch_max, part_run.plain, part.rows, part.quarantined_us IS NOT NULL
FROM part_run JOIN part ON part.id = part_run.part_id
    JOIN project ON project.id = part.project_id
"""


def read(connection: sqlite3.Connection, pk: int) -> Sealed:
    """What is sealed of a run."""
    marks = connection.execute(
        "SELECT token, epoch, writer, kind, seq, bytes, rows FROM watermark"
        " WHERE run_id = ? ORDER BY token, kind",
        (pk,),
    ).fetchall()
    if not marks:
        return Sealed()
    rows = connection.execute(
        f"{_PART_ROWS} WHERE part_run.run_id = ? ORDER BY part.id", (pk,)
    )
    found = tuple(_part_rows(row) for row in rows)
    inline = connection.execute(
        "SELECT rowid, token, kind, seq, crc FROM inline_log WHERE run_id = ?"
        " ORDER BY token, kind, seq",
        (pk,),
    )
    return Sealed(
        tuple(
            Watermark(StreamIdentity(token, epoch, writer), Kind(kind), *rest)
            for token, epoch, writer, kind, *rest in marks
        ),
        found,
        tuple(InlineKey(row[0], row[1], Kind(row[2]), row[3], row[4])
              for row in inline),
    )  # fmt: skip


def _part_rows(row: Sequence[Any]) -> PartRows:
    *fields, plain, part_rows, quarantined = row
    return PartRows(*[*fields, bool(plain), part_rows, bool(quarantined)])


def inline_data(connection: sqlite3.Connection, rowid: int) -> bytes | None:
    """The bytes of an inline segment; None if it was merged out meanwhile."""
    row = connection.execute("SELECT data FROM inline_log WHERE rowid = ?", (rowid,))
    found = row.fetchone()
    return None if found is None else bytes(found[0])


def add_part(connection: sqlite3.Connection, project: str, part: NewPart) -> int:
    """Make a part visible; return its number.

    Args:
        connection: Inside the transaction that moves the watermarks, too.
        project: Name of the project.
        part: What it holds.
    """
    listed = list(part.columns.items())
    cursor = connection.execute(
        "INSERT INTO part (project_id, name, layout, merged, rows, bytes, digest,"
        " any_key, created_us) VALUES ((SELECT id FROM project WHERE name = ?),"
        " ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            project, part.name, part.layout, len(part.shares) > 1, part.rows,
            part.bytes, part.digest, len(listed) > KEY_LIMIT, _clock.now_us(),
        ),
    )  # fmt: skip
    number = cursor.lastrowid
    assert number is not None
    connection.executemany(
        "INSERT INTO part_run VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (s.run, number, s.row_first, s.rows, s.step_min, s.step_max, s.epoch_min,
             s.epoch_max, s.plain)
            for s in part.shares
        ],
    )  # fmt: skip
    if len(listed) <= KEY_LIMIT:
        connection.executemany(
            "INSERT INTO part_key VALUES (?, ?, ?, ?)",
            [(number, key, name, codes) for key, (name, codes) in listed],
        )
    return number


def set_watermarks(
    connection: sqlite3.Connection, pk: int, marks: Iterable[Watermark]
) -> None:
    """Note how far streams of a run are sealed now."""
    connection.executemany(
        "INSERT OR REPLACE INTO watermark VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (pk, m.identity.token, m.kind, m.identity.epoch, m.identity.writer, m.seq,
             m.bytes, m.rows)
            for m in marks
        ],
    )  # fmt: skip
    # A run that went on has other rows than those of its first, plain log.
    connection.execute(
        "UPDATE inline_log SET plain = 0 WHERE run_id = ? AND plain"
        " AND (SELECT count(*) FROM watermark WHERE run_id = ? AND kind = ?) > 1",
        (pk, pk, Kind.METRICS),
    )


def add_inline(
    connection: sqlite3.Connection, pk: int, segments: Iterable[InlineSegment]
) -> None:
    """Take small segments into the Catalog."""
    connection.executemany(
        "INSERT INTO inline_log VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (pk, s.token, s.kind, s.seq, s.epoch, s.rows, s.crc, s.plain, s.data)
            for s in segments
        ],
    )


def inline_rowids(connection: sqlite3.Connection, pk: int) -> set[int]:
    """The inline segments that the Catalog holds of a run."""
    rows = connection.execute("SELECT rowid FROM inline_log WHERE run_id = ?", (pk,))
    return {row[0] for row in rows}


def drop_inline(
    connection: sqlite3.Connection, runs: Mapping[int, Iterable[int]]
) -> None:
    """Forget these inline segments of runs, which a part holds now."""
    connection.executemany(
        "DELETE FROM inline_log WHERE run_id = ? AND rowid = ?",
        [(pk, rowid) for pk, rowids in runs.items() for rowid in rowids],
    )


def retire(
    connection: sqlite3.Connection, path: str, kind: str, after_us: int = GRACE_US
) -> None:
    """Note a file that nothing names any more, for `due` to find.

    Args:
        connection: Inside the transaction that gave it up.
        path: Below the Store.
        kind: ``part``, or ``log`` for the directory of a run.
        after_us: How long it must stay.
    """
    connection.execute(
        "INSERT OR REPLACE INTO retired VALUES (?, ?, ?)",
        (path, kind, _clock.now_us() + after_us),
    )


def is_retired(connection: sqlite3.Connection, path: str) -> bool:
    """Whether a file is given up already."""
    row = connection.execute("SELECT 1 FROM retired WHERE path = ?", (path,)).fetchone()
    return row is not None


def retire_parts(connection: sqlite3.Connection, parts: Iterable[int]) -> None:
    """Give up parts whose rows stand in others now."""
    for part in parts:
        row = connection.execute(
            "SELECT 'parts/' || project.uid || '/' || part.name FROM part"
            " JOIN project ON project.id = part.project_id WHERE part.id = ?",
            (part,),
        ).fetchone()
        if row is not None:
            retire(connection, row[0], "part")
            connection.execute("DELETE FROM part WHERE id = ?", (part,))


def swap_part(connection: sqlite3.Connection, part: int, new: NewPart) -> None:
    """Put another file in a part's place, of the runs that it holds still.

    It keeps its number: by that, a run's parts are in the order of its rows.
    """
    place = connection.execute(
        "SELECT 'parts/' || project.uid || '/' || part.name FROM part"
        " JOIN project ON project.id = part.project_id WHERE part.id = ?",
        (part,),
    ).fetchone()[0]
    retire(connection, place, "part")
    connection.execute(
        "UPDATE part SET name = ?, rows = ?, bytes = ?, digest = ? WHERE id = ?",
        (new.name, new.rows, new.bytes, new.digest, part),
    )
    connection.executemany(
        "UPDATE part_run SET row_first = ? WHERE run_id = ? AND part_id = ?",
        [(share.row_first, share.run, part) for share in new.shares],
    )


def drop_shares(connection: sqlite3.Connection, pk: int) -> None:
    """Forget what parts hold of a run; `retire_empty` finds those of nobody."""
    connection.execute("DELETE FROM part_run WHERE run_id = ?", (pk,))


def move_streams(
    connection: sqlite3.Connection, pk: int, tokens: Iterable[str], to: int
) -> None:
    """Hand streams of a run, and what the Catalog holds of them, to another one.

    The run keeps a watermark of no rows: its log may be on the disk for some time yet,
    and must not be read as if it were not sealed.
    """
    for token in tokens:
        connection.execute(
            "INSERT INTO watermark SELECT ?, token, kind, epoch, writer, seq, bytes,"
            " rows FROM watermark WHERE run_id = ? AND token = ?",
            (to, pk, token),
        )
        connection.execute(
            "UPDATE watermark SET rows = 0 WHERE run_id = ? AND token = ?", (pk, token)
        )
        for table in ("stream", "inline_log"):
            connection.execute(
                f"UPDATE {table} SET run_id = ? WHERE run_id = ? AND token = ?",
                (to, pk, token),
            )
    for run in (pk, to):  # neither has the rows that it had
        connection.execute("UPDATE inline_log SET plain = 0 WHERE run_id = ?", (run,))


def retire_empty(connection: sqlite3.Connection) -> None:
    """Give up parts of which no run is left."""
    rows = connection.execute(
        "SELECT id FROM part WHERE NOT EXISTS"
        " (SELECT 1 FROM part_run WHERE part_run.part_id = part.id)"
    ).fetchall()
    retire_parts(connection, [row[0] for row in rows])


def due(
    connection: sqlite3.Connection, now_us: int, limit: int = -1
) -> list[tuple[str, str]]:
    """(path, kind) of what may be removed now, the oldest first."""
    rows = connection.execute(
        "SELECT path, kind FROM retired WHERE due_us <= ? ORDER BY due_us LIMIT ?",
        (now_us, limit),
    )
    return [(path, kind) for path, kind in rows]


def forget_retired(connection: sqlite3.Connection, paths: Iterable[str]) -> None:
    """Take paths off the list: they are removed, or needed again."""
    connection.executemany("DELETE FROM retired WHERE path = ?", [(p,) for p in paths])


def quarantine(connection: sqlite3.Connection, part: int) -> None:
    """Mark a part as damaged: readers leave it out."""
    connection.execute(
        "UPDATE part SET quarantined_us = ? WHERE id = ?", (_clock.now_us(), part)
    )


def reinstate(connection: sqlite3.Connection, part: int) -> None:
    """Mark a part as whole again: its file is back in its place."""
    connection.execute("UPDATE part SET quarantined_us = NULL WHERE id = ?", (part,))


def replace_part(
    connection: sqlite3.Connection, part: int, new: NewPart | None
) -> bool:
    """Put what could be read of a damaged part in its place; None: nothing could.

    Runs that were purged since have no share in it; nor those of which nothing is left.

    Returns:
        False where the part is gone, or whole again.
    """
    gone = "DELETE FROM part WHERE id = ? AND quarantined_us IS NOT NULL"
    if new is None:
        return connection.execute(gone, (part,)).rowcount > 0
    done = connection.execute(
        "UPDATE part SET name = ?, rows = ?, bytes = ?, digest = ?,"
        " quarantined_us = NULL WHERE id = ? AND quarantined_us IS NOT NULL",
        (new.name, new.rows, new.bytes, new.digest, part),
    )
    if not done.rowcount:
        return False
    connection.executemany(
        "UPDATE part_run SET row_first = ?, rows = ?, step_min = ?, step_max = ?,"
        " epoch_min = ?, epoch_max = ?, plain = ? WHERE run_id = ? AND part_id = ?",
        [
            (s.row_first, s.rows, s.step_min, s.step_max, s.epoch_min, s.epoch_max,
             s.plain, s.run, part)
            for s in new.shares
        ],
    )  # fmt: skip
    kept = [share.run for share in new.shares]
    connection.execute(
        "DELETE FROM part_run WHERE part_id = ? AND run_id NOT IN"
        f" ({', '.join('?' * len(kept))})",
        (part, *kept),
    )
    return True


def part_names(connection: sqlite3.Connection, project: str | None = None) -> set[str]:
    """File names of the parts of a project, named by its uid, or of all."""
    where = "" if project is None else " WHERE project.uid = ?"
    rows = connection.execute(
        "SELECT part.name FROM part JOIN project ON project.id = part.project_id"
        + where,
        () if project is None else (project,),
    )
    return {row[0] for row in rows}


def retired_names(connection: sqlite3.Connection) -> set[str]:
    """File names of what was given up, and is still there."""
    rows = connection.execute("SELECT path FROM retired WHERE kind = 'part'")
    return {row[0].rpartition("/")[2] for row in rows}


@dataclass(frozen=True, slots=True)
class PartFacts:
    """A part that may be merged with others; see table `part`."""

    part: int
    name: str
    layout: str
    bytes: int
    rows: int
    digest: str
    merged: bool


def named(connection: sqlite3.Connection, digest: str) -> list[tuple[str, str]]:
    """(project's uid, name) of the parts that have a digest."""
    rows = connection.execute(
        "SELECT project.uid, part.name FROM part JOIN project"
        " ON project.id = part.project_id WHERE digest = ?",
        (digest,),
    )
    return [(row[0], row[1]) for row in rows]


def mergeable(
    connection: sqlite3.Connection, project: str, limit: int
) -> tuple[list[PartFacts], dict[int, list[RunShare]]]:
    """Parts of at most `limit` bytes whose runs all ended, and their shares.

    Args:
        connection: Where to read.
        project: The project's uid.
        limit: Bytes.
    """
    rows = connection.execute(
        "SELECT part.id, part.name, layout, bytes, rows, digest, merged FROM part"
        " JOIN project ON project.id = part.project_id"
        " WHERE project.uid = ? AND quarantined_us IS NULL AND bytes <= ?"
        " AND NOT EXISTS (SELECT 1 FROM part_run JOIN run ON run.id = part_run.run_id"
        " WHERE part_run.part_id = part.id AND run.state = 'running')"
        " ORDER BY part.bytes, part.id",
        (project, limit),
    ).fetchall()
    facts = [PartFacts(*[*row[:6], bool(row[6])]) for row in rows]
    shares: dict[int, list[RunShare]] = {}
    for fact in facts:
        shares[fact.part] = shares_of(connection, fact.part)
    return facts, shares


def facts_of(connection: sqlite3.Connection, parts: Iterable[int]) -> list[PartFacts]:
    """Facts of parts; one that is gone is left out."""
    found = []
    for part in parts:
        row = connection.execute(
            "SELECT id, name, layout, bytes, rows, digest, merged FROM part"
            " WHERE id = ?",
            (part,),
        ).fetchone()
        if row is not None:
            found.append(PartFacts(*[*row[:6], bool(row[6])]))
    return found


def shares_of(connection: sqlite3.Connection, part: int) -> list[RunShare]:
    """What a part holds of which runs, in the order of its rows."""
    found = connection.execute(
        "SELECT run_id, row_first, rows, step_min, step_max, epoch_min, epoch_max,"
        " plain FROM part_run WHERE part_id = ? ORDER BY row_first",
        (part,),
    )
    return [RunShare(*[*row[:7], bool(row[7])]) for row in found]


def waiting(connection: sqlite3.Connection, project: str) -> tuple[int, int]:
    """(parts of one run, bytes of inline logs) of a project, named by its uid."""
    parts = connection.execute(
        "SELECT count(*) FROM part WHERE merged = 0 AND bytes <= ? AND project_id ="
        " (SELECT id FROM project WHERE uid = ?)",
        (SMALL_BYTES, project),
    ).fetchone()[0]
    inline = connection.execute(
        "SELECT coalesce(sum(length(data)), 0) FROM inline_log JOIN run"
        " ON run.id = inline_log.run_id JOIN project ON project.id = run.project_id"
        " WHERE project.uid = ?",
        (project,),
    ).fetchone()[0]
    return parts, inline


class InlineRow(NamedTuple):
    """An inline segment of a run that ended, and whose it is."""

    run: int
    uid: str
    run_id: str
    rowid: int
    token: str
    kind: str
    plain: int
    crc: int


def inline_rows(connection: sqlite3.Connection, project: str) -> list[InlineRow]:
    """The inline segments of the ended runs of a project, named by its uid."""
    rows = connection.execute(
        "SELECT run.id, run.uid, run.run_id, inline_log.rowid, token, kind, plain,"
        " crc"
        " FROM inline_log JOIN run ON run.id = inline_log.run_id"
        " JOIN project ON project.id = run.project_id"
        " WHERE project.uid = ? AND run.state != 'running'"
        " ORDER BY run.uid, token, kind, seq",
        (project,),
    )
    return [InlineRow._make(row) for row in rows.fetchall()]


def parts_by_run(
    connection: sqlite3.Connection, project: str
) -> dict[int, dict[int, str]]:
    """The parts, and their layouts, that hold rows of each run of a project."""
    rows = connection.execute(
        "SELECT run_id, part_id, layout FROM part_run"
        " JOIN part ON part.id = part_run.part_id"
        " JOIN project ON project.id = part.project_id WHERE project.uid = ?",
        (project,),
    )
    found: dict[int, dict[int, str]] = {}
    for pk, part, layout in rows.fetchall():
        found.setdefault(pk, {})[part] = layout
    return found


@dataclass(frozen=True, slots=True)
class StoredPart:
    """A part as `doctor`, `du` and the trash see it; see table `part`."""

    part: int
    project: str
    path: str
    layout: str
    merged: bool
    rows: int
    bytes: int
    digest: str
    quarantined: bool


def parts(connection: sqlite3.Connection) -> list[StoredPart]:
    """Every part of the Store."""
    rows = connection.execute(
        "SELECT part.id, project.name, project.uid || '/' || part.name, layout,"
        " merged, rows, bytes, digest, quarantined_us IS NOT NULL FROM part"
        " JOIN project ON project.id = part.project_id ORDER BY part.id"
    )
    return [
        StoredPart(*[*row[:4], bool(row[4]), *row[5:8], bool(row[8])]) for row in rows
    ]


def run_bytes(connection: sqlite3.Connection) -> dict[int, int]:
    """Bytes that each run takes in parts, by its share of the rows, and inline."""
    rows = connection.execute(
        "SELECT run_id, sum(part.bytes * part_run.rows / max(part.rows, 1))"
        " FROM part_run JOIN part ON part.id = part_run.part_id GROUP BY run_id"
    )
    found = {pk: int(size) for pk, size in rows}
    inline = connection.execute(
        "SELECT run_id, sum(length(data)) FROM inline_log GROUP BY run_id"
    )
    for pk, size in inline:
        found[pk] = found.get(pk, 0) + size
    return found


def uids(connection: sqlite3.Connection, project: str) -> dict[int, str]:
    """The uid of each run of a project, which is named by its uid."""
    rows = connection.execute(
        "SELECT run.id, run.uid FROM run JOIN project ON project.id = run.project_id"
        " WHERE project.uid = ?",
        (project,),
    )
    return dict(rows.fetchall())
