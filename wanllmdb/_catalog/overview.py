"""What SQL over a whole Store needs of the Catalog: lean rows of all runs and parts.

Called inside one read transaction, so that parts, watermarks and inline logs are those
of one moment.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from wanllmdb.types import Kind, PlainLog


class RunLine(NamedTuple):
    """A run, as far as its rows are concerned."""

    pk: int
    uid: str
    run_id: str
    project: str
    epoch: int
    forked: bool
    started_us: int


class Share(NamedTuple):
    """A run's rows in a part."""

    run: int
    part: int
    row_first: int
    rows: int
    step_min: int | None
    step_max: int | None
    epoch_min: int
    epoch_max: int
    plain: bool


class PartLine(NamedTuple):
    """A part: where it is, and how many rows of how many runs it holds."""

    part: int
    project: str
    path: str
    layout: str
    rows: int
    any_key: bool
    quarantined: bool


@contextmanager
def moment(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """One moment of the Catalog, for as many statements as it takes."""
    connection.execute("BEGIN")
    try:
        yield connection
    finally:
        connection.execute("COMMIT")


def generation(connection: sqlite3.Connection) -> tuple[int, ...]:
    """Changes whenever rows were sealed, merged or set aside."""
    row = connection.execute(
        "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'part'), 0),"
        " (SELECT count(*) FROM part), (SELECT count(*) FROM watermark),"
        " (SELECT count(quarantined_us) FROM part)"
    ).fetchone()
    return tuple(row)


def runs(
    connection: sqlite3.Connection,
    projects: Sequence[str] | None = None,
    chosen: Sequence[int] | None = None,
) -> list[RunLine]:
    """The runs that are in no trash, by key.

    Args:
        connection: Where to read.
        projects: Names; None for all.
        chosen: Keys of runs; None for all.
    """
    rows = connection.execute(
        "SELECT run.id, run.uid, run.run_id, project.name, run.epoch,"
        " run.parent_id IS NOT NULL, run.started_us FROM run"
        " JOIN project ON project.id = run.project_id WHERE run.deleted_us IS NULL"
        " AND (:projects IS NULL"
        " OR project.name IN (SELECT value FROM json_each(:projects)))"
        " AND (:runs IS NULL OR run.id IN (SELECT value FROM json_each(:runs)))"
        " ORDER BY run.id",
        {"projects": _listed(projects), "runs": _listed(chosen)},
    )
    return [*map(RunLine._make, _fetched(rows))]


def shares(
    connection: sqlite3.Connection, chosen: Sequence[int] | None = None
) -> list[Share]:
    """Who has rows in which part."""
    fields = (
        "run_id, part_id, row_first, rows, step_min, step_max, epoch_min, epoch_max,"
        " plain"
    )
    if chosen is None:
        rows = connection.execute(f"SELECT {fields} FROM part_run")
    else:
        rows = connection.execute(
            f"SELECT {fields} FROM json_each(?) CROSS JOIN part_run"
            " ON part_run.run_id = value",
            (_listed(chosen),),
        )
    return [*map(Share._make, _fetched(rows))]


def parts(
    connection: sqlite3.Connection, layouts: Sequence[str]
) -> dict[int, PartLine]:
    """The parts of some layouts."""
    rows = connection.execute(
        "SELECT part.id, project.name, project.uid || '/' || part.name, layout, rows,"
        " any_key, quarantined_us IS NOT NULL FROM part"
        " JOIN project ON project.id = part.project_id"
        " WHERE layout IN (SELECT value FROM json_each(?))",
        (_listed(layouts),),
    )
    return {row[0]: PartLine._make(row) for row in _fetched(rows)}


def part_runs(
    connection: sqlite3.Connection, chosen: Iterable[int]
) -> dict[int, tuple[int, int]]:
    """(rows, runs) that parts hold of runs that exist, in the trash or not."""
    rows = connection.execute(
        "SELECT part_id, sum(rows), count(*) FROM json_each(?) CROSS JOIN part_run"
        " ON part_run.part_id = value GROUP BY part_id",
        (_listed([*chosen]),),
    )
    return {part: (held, count) for part, held, count in rows}


def part_keys(connection: sqlite3.Connection, part: int) -> dict[str, tuple[str, str]]:
    """Column name and type codes of each listed key of a part."""
    rows = connection.execute(
        "SELECT key, name, codes FROM part_key WHERE part_id = ?", (part,)
    )
    return {key: (name, codes) for key, name, codes in rows}


def plain_logs(
    connection: sqlite3.Connection, chosen: Sequence[int] | None = None
) -> list[PlainLog]:
    """The inline metric logs that are plain."""
    fields = (
        "SELECT run.id, run.uid, run.run_id, project.name, log.token, log.epoch,"
        " log.rows, log.crc, log.data FROM"
    )
    joined = (
        "JOIN run ON run.id = log.run_id JOIN project ON project.id = run.project_id"
        " WHERE log.kind = 'metrics' AND log.plain"
    )
    if chosen is None:
        rows = connection.execute(f"{fields} inline_log log {joined}")
    else:
        rows = connection.execute(
            f"{fields} json_each(?) CROSS JOIN inline_log log ON log.run_id = value"
            f" {joined}",
            (_listed(chosen),),
        )
    return [*map(PlainLog._make, _fetched(rows))]


def logged(
    connection: sqlite3.Connection, kind: Kind, *, rough: bool = False
) -> set[int]:
    """Runs with inline logs of a kind; `rough`: with one that is not plain."""
    rows = connection.execute(
        "SELECT DISTINCT run_id FROM inline_log WHERE kind = ? AND plain <= ?",
        (kind, not rough),
    )
    return {pk for (pk,) in _fetched(rows)}


def _listed(values: Sequence[Any] | None) -> str | None:
    return None if values is None else json.dumps(list(values))


def run_facts(
    connection: sqlite3.Connection, projects: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Everything that SQL says of runs, but their config and summary."""
    cursor = connection.execute(
        "SELECT run.run_id AS run, project.name AS project, run.uid, run.name,"
        ' run.state, run.run_group AS "group", run.job_type, run.notes,'
        " (SELECT json_group_array(tag) FROM run_tag WHERE run_tag.run_id = run.id)"
        " AS tags, run.created_us AS created_at, run.started_us AS started_at,"
        " run.ended_us AS ended_at, run.last_step, run.epoch AS epochs, run.exit_code,"
        " run.error, run.host, run.dropped_rows, run.damage,"
        " (SELECT parent.run_id FROM run AS parent WHERE parent.id = run.parent_id)"
        " AS parent, run.parent_step FROM run"
        " JOIN project ON project.id = run.project_id WHERE run.deleted_us IS NULL"
        " AND (:projects IS NULL"
        " OR project.name IN (SELECT value FROM json_each(:projects)))"
        " ORDER BY run.id",
        {"projects": _listed(projects)},
    )
    names = [column[0] for column in cursor.description]
    rows = [dict(zip(names, row, strict=True)) for row in cursor]
    for row in rows:
        row["tags"] = json.loads(row["tags"])
    return rows


def documents(
    connection: sqlite3.Connection, scope: str, projects: Sequence[str] | None = None
) -> list[tuple[str, str | None]]:
    """(JSON, digest of the blob that holds it instead) of config or summary, by run."""
    rows = connection.execute(
        f"SELECT run.{scope}, run.{scope}_blob FROM run"
        " JOIN project ON project.id = run.project_id WHERE run.deleted_us IS NULL"
        " AND (:projects IS NULL"
        " OR project.name IN (SELECT value FROM json_each(:projects)))"
        " ORDER BY run.id",
        {"projects": _listed(projects)},
    )
    return [(text, blob) for text, blob in rows]


def project_facts(connection: sqlite3.Connection) -> list[dict[str, Any]]:
    """Every project that is in no trash."""
    rows = connection.execute(
        "SELECT name, created_us, (SELECT count(*) FROM run WHERE"
        " run.project_id = project.id AND run.deleted_us IS NULL) FROM project"
        " WHERE deleted_us IS NULL ORDER BY name"
    )
    return [
        {"project": name, "created_at": at, "runs": count} for name, at, count in rows
    ]


def events(connection: sqlite3.Connection) -> list[dict[str, Any]]:
    """Every recorded change; `run` and `project` where it is a run's."""
    rows = connection.execute(
        "SELECT event.at_us, event.kind, event.entity, event.uid, run.run_id,"
        " project.name, who, event.host, before, after, reason FROM event"
        " LEFT JOIN run ON event.entity = 'run' AND run.uid = event.uid"
        " LEFT JOIN project ON project.id = run.project_id ORDER BY event.id"
    )
    names = ("ts", "kind", "entity", "uid", "run", "project", "who", "host", "before",
             "after", "reason")  # fmt: skip
    return [dict(zip(names, row, strict=True)) for row in rows]


OF_ARTIFACTS = {
    "artifacts": (
        "SELECT project.name AS project, artifact.name AS artifact, artifact.type,"
        " number AS version, digest, size, files, version.created_us AS created_at,"
        " run.run_id AS run, metadata, version.description,"
        " (SELECT json_group_array(tag) FROM version_tag"
        "  WHERE version_id = version.id) AS tags"
        " FROM version JOIN artifact ON artifact.id = artifact_id"
        " JOIN project ON project.id = artifact.project_id"
        " LEFT JOIN run ON run.id = version.run_id"
        " WHERE version.deleted_us IS NULL"
    ),
    "aliases": (
        "SELECT project.name AS project, artifact.name AS artifact, alias,"
        " number AS version, protected, moved_us AS moved_at FROM alias"
        " JOIN version ON version.id = alias.version_id"
        " JOIN artifact ON artifact.id = version.artifact_id"
        " JOIN project ON project.id = artifact.project_id"
        " WHERE version.deleted_us IS NULL"
    ),
    "lineage": (
        "SELECT project.name AS project, run.run_id AS run, artifact.name AS artifact,"
        " number AS version, direction, made.name AS artifact_project, at_us AS ts"
        " FROM edge JOIN version ON version.id = edge.version_id"
        " JOIN artifact ON artifact.id = version.artifact_id"
        " JOIN project made ON made.id = artifact.project_id"
        " JOIN run ON run.id = edge.run_id"
        " JOIN project ON project.id = run.project_id"
        " WHERE version.deleted_us IS NULL AND run.deleted_us IS NULL"
    ),
}
"""Each relation of artifacts in one statement; what is in the trash is in none."""


def artifact_facts(connection: sqlite3.Connection, name: str) -> list[dict[str, Any]]:
    """The rows of one of `OF_ARTIFACTS`."""
    rows = connection.execute(OF_ARTIFACTS[name]).fetchall()
    found = [dict(zip(row.keys(), row, strict=True)) for row in rows]
    for row in found:
        if "tags" in row:
            row["tags"] = sorted(json.loads(row["tags"]))
        if "protected" in row:
            row["protected"] = bool(row["protected"])
    return found


def _fetched(cursor: sqlite3.Cursor) -> list[tuple[Any, ...]]:
    """Rows as plain tuples: twice as quick as sqlite3.Row for very many."""
    cursor.row_factory = None
    return cursor.fetchall()
