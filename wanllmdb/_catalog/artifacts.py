"""Artifacts, their versions, and which runs made and read them."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from wanllmdb import _changes, _clock, _ids, _json, _names
from wanllmdb._catalog import events
from wanllmdb.errors import (
    AmbiguousNameError,
    ArtifactNotFoundError,
    ConflictError,
    InvalidInputError,
    VersionNotFoundError,
)
from wanllmdb.types import (
    ArtifactRecord,
    Digest,
    JSONValue,
    NewVersion,
    VersionRecord,
)

_DIGEST = re.compile(r"@(?:sha256:)?([0-9a-f]{6,64})\Z")

_READ = """
SELECT version.id, version.uid, artifact.id, artifact.uid, project.name, artifact.name,
  artifact.type, version.number, version.digest, version.files, version.size,
  version.description, version.metadata, version.run_id, version.created_us,
  version.updated_us, version.ttl_us, version.deleted_us,
  version.deleted_us IS NULL AND NOT EXISTS (
    SELECT 1 FROM version newer WHERE newer.artifact_id = version.artifact_id
    AND newer.deleted_us IS NULL AND newer.number > version.number),
  (SELECT json_group_array(alias) FROM alias WHERE version_id = version.id),
  (SELECT json_group_array(tag) FROM version_tag WHERE version_id = version.id)
FROM version JOIN artifact ON artifact.id = version.artifact_id
JOIN project ON project.id = artifact.project_id
"""


def uid_of(project_uid: str, name: str) -> str:
    """An artifact's uid: from its names, so two laptops agree before they meet."""
    import hashlib

    text = f"artifact:{project_uid}/{name}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def uid(connection: sqlite3.Connection, artifact: int) -> str:
    """An artifact's uid, by its key."""
    (found,) = connection.execute(
        "SELECT uid FROM artifact WHERE id = ?", (artifact,)
    ).fetchone()
    return str(found)


def ensure(
    connection: sqlite3.Connection,
    project: int,
    name: str,
    kind: str,
    description: str | None = None,
) -> int:
    """The key of an artifact; made if it does not exist.

    Raises:
        ConflictError: it exists with another type.
    """
    row = connection.execute(
        "SELECT id, type FROM artifact WHERE project_id = ? AND name = ?",
        (project, name),
    ).fetchone()
    if row is None:
        (project_uid,) = connection.execute(
            "SELECT uid FROM project WHERE id = ?", (project,)
        ).fetchone()
        row = connection.execute(
            "INSERT INTO artifact (uid, project_id, name, type, description,"
            " created_us) VALUES (?, ?, ?, ?, ?, ?) RETURNING id, type",
            (
                uid_of(project_uid, name), project, name, kind, description,
                _clock.now_us(),
            ),
        ).fetchone()  # fmt: skip
    key: int = row[0]
    if row[1] != kind:
        raise ConflictError(
            f"Artifact {name!r} is of type {row[1]!r}, not {kind!r}.",
            hint="Use its type, or another name.", artifact=name,
        )  # fmt: skip
    return key


def add_version(
    connection: sqlite3.Connection, artifact: int, new: NewVersion, run: int | None
) -> int:
    """Add a version under the next number; its key."""
    now = _clock.now_us()
    (number,) = connection.execute(
        "UPDATE artifact SET last_number = coalesce(last_number + 1, first_version)"
        " WHERE id = ? RETURNING last_number",
        (artifact,),
    ).fetchone()
    (pk,) = connection.execute(
        "INSERT INTO version (uid, artifact_id, number, digest, files, size,"
        " description, metadata, run_id, created_us, updated_us, ttl_us)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
        (
            _ids.uid(), artifact, number, new.digest, new.files, new.size,
            new.description, new.metadata_json, run, now, now, new.ttl_us,
        ),
    ).fetchone()  # fmt: skip
    _add_tags(connection, pk, new.tags)
    key: int = pk
    return key


def _add_tags(connection: sqlite3.Connection, pk: int, tags: Sequence[str]) -> None:
    connection.executemany(
        "INSERT OR IGNORE INTO version_tag VALUES (?, ?)", [(pk, tag) for tag in tags]
    )


def describe(
    connection: sqlite3.Connection, version: VersionRecord, said: NewVersion
) -> None:
    """Store what is said of a version; each change with its event and its revision.

    Args:
        connection: The transaction.
        version: As it is now.
        said: Description, metadata, tags and time to live.
    """
    _describe_metadata(connection, version, said)
    if said.description != version.description:
        _set(connection, version, "description", version.description, said.description)
    if said.ttl_us != version.ttl_us:
        _set(connection, version, "ttl_us", version.ttl_us, said.ttl_us)
    added = [tag for tag in said.tags if tag not in version.tags]
    gone = [tag for tag in version.tags if tag not in said.tags]
    if added or gone:
        connection.executemany(
            "DELETE FROM version_tag WHERE version_id = ? AND tag = ?",
            [(version.pk, tag) for tag in gone],
        )
        _add_tags(connection, version.pk, added)
        before, after = sorted(version.tags), sorted(said.tags)
        _changed(connection, version, "tags", before, after, ["tags"])


def _describe_metadata(
    connection: sqlite3.Connection, version: VersionRecord, said: NewVersion
) -> None:
    before, after = _json.loads(version.metadata_json), _json.loads(said.metadata_json)
    changed = _changes.keys(before, after)
    if not changed:
        return
    connection.execute(
        "UPDATE version SET metadata = ? WHERE id = ?",
        (said.metadata_json, version.pk),
    )
    _changed(
        connection, version, "metadata",
        {key: before[key] for key in changed if key in before},
        {key: after[key] for key in changed if key in after},
        [f"metadata.{key}" for key in changed],
    )  # fmt: skip


def _set(
    connection: sqlite3.Connection,
    version: VersionRecord,
    column: str,
    before: JSONValue,
    after: JSONValue,
) -> None:
    connection.execute(
        f"UPDATE version SET {column} = ? WHERE id = ?", (after, version.pk)
    )
    _changed(connection, version, f"set {column}", before, after, [column])


def _changed(
    connection: sqlite3.Connection,
    version: VersionRecord,
    kind: str,
    before: JSONValue,
    after: JSONValue,
    fields: Sequence[str],
) -> None:
    connection.execute(
        "UPDATE version SET updated_us = ? WHERE id = ?", (_clock.now_us(), version.pk)
    )
    record(connection, kind, version, before=before, after=after)
    events.touch_fields(connection, "version", version.uid, fields)


def read(connection: sqlite3.Connection, pk: int) -> VersionRecord:
    """A version by its key, in the trash or not.

    Raises:
        VersionNotFoundError: it was purged.
    """
    return _read_one(connection, "version.id = ?", pk)


def with_uid(connection: sqlite3.Connection, uid: str) -> VersionRecord:
    """A version by its uid; as `read`.

    Raises:
        VersionNotFoundError: it was purged.
    """
    return _read_one(connection, "version.uid = ?", uid)


def _read_one(
    connection: sqlite3.Connection, condition: str, value: int | str
) -> VersionRecord:
    row = connection.execute(f"{_READ} WHERE {condition}", (value,)).fetchone()
    if row is None:
        raise VersionNotFoundError("This version is gone.", hint="It was purged.")
    return _version(row)


def newest(connection: sqlite3.Connection, artifact: int) -> VersionRecord | None:
    """The version of the highest number that is not in the trash."""
    row = connection.execute(
        f"{_READ} WHERE version.artifact_id = ? AND version.deleted_us IS NULL"
        " ORDER BY version.number DESC LIMIT 1",
        (artifact,),
    ).fetchone()
    return None if row is None else _version(row)


def find(connection: sqlite3.Connection, project: str | None, name: str) -> int:
    """The key of an artifact.

    Args:
        connection: The Catalog.
        project: The project's name; None: the only one that has such an artifact.
        name: The artifact's name.

    Raises:
        ArtifactNotFoundError: there is none.
        AmbiguousNameError: several projects have one of that name.
    """
    rows = connection.execute(
        "SELECT artifact.id, project.name FROM artifact"
        " JOIN project ON project.id = project_id WHERE artifact.name = :name"
        " AND (:project IS NULL OR project.name = :project) ORDER BY project.name",
        {"name": name, "project": project},
    ).fetchall()
    if not rows:
        where = "" if project is None else f" in project {project!r}"
        raise ArtifactNotFoundError(
            f"There is no artifact {name!r}{where}.",
            hint="`wanllmdb artifact ls` shows them.", artifact=name,
        )  # fmt: skip
    if len(rows) > 1:
        paths = ", ".join(f"{held}/{name}" for _, held in rows[:10])
        raise AmbiguousNameError(
            f"{name!r} could be {paths}.", hint="Name the project.", artifact=name
        )
    key: int = rows[0][0]
    return key


def resolve(
    connection: sqlite3.Connection, artifact: int, selector: str
) -> VersionRecord:
    """The version of an artifact that a selector names.

    Args:
        connection: The Catalog.
        artifact: The artifact's key.
        selector: ``latest``, ``vN``, ``@digest`` (six hex digits at least; the newest
            that matches), or an alias in any case.

    Raises:
        VersionNotFoundError: it has no such version, or it is in the trash.
    """
    where, given = _condition(selector)
    row = connection.execute(
        f"{_READ} WHERE version.artifact_id = ? AND {where}"
        " ORDER BY version.deleted_us IS NOT NULL, version.number DESC LIMIT 1",
        (artifact, *given),
    ).fetchone()
    if row is None:
        (name,) = connection.execute(
            "SELECT name FROM artifact WHERE id = ?", (artifact,)
        ).fetchone()
        raise VersionNotFoundError(
            f"Artifact {name!r} has no version {selector!r}.",
            hint=f"`wanllmdb artifact show {name}` lists them.",
            artifact=name, selector=selector,
        )  # fmt: skip
    found = _version(row)
    if found.deleted_us is not None:
        raise VersionNotFoundError(
            f"{found.path} is in the trash.",
            hint=f"`wanllmdb trash restore {found.path}` brings it back.",
            version=found.path,
        )
    return found


def _condition(selector: str) -> tuple[str, tuple[Any, ...]]:
    key = _names.alias_key(selector)
    if key == _names.LATEST:
        return "version.deleted_us IS NULL", ()
    if _names.is_derived(selector):
        return "version.number = ?", (_names.version_number(key),)
    if selector.startswith("@"):
        match = _DIGEST.match(selector.lower())
        if match is None:
            raise InvalidInputError(
                f"{selector!r} is no digest.", hint="Give 6 to 64 hexadecimal digits."
            )
        low = f"sha256:{match[1]}"
        return "version.digest >= ? AND version.digest < ?", (low, low + "g")
    return (
        "version.id = (SELECT version_id FROM alias WHERE artifact_id ="
        " version.artifact_id AND alias_key = ?)",
        (key,),
    )


def versions(connection: sqlite3.Connection, artifact: int) -> list[VersionRecord]:
    """The versions of an artifact that are not in the trash, the newest first."""
    rows = connection.execute(
        f"{_READ} WHERE version.artifact_id = ? AND version.deleted_us IS NULL"
        " ORDER BY version.number DESC",
        (artifact,),
    )
    return [_version(row) for row in rows.fetchall()]


def of_project(connection: sqlite3.Connection, project: str) -> list[VersionRecord]:
    """The versions in a project that are not in the trash, by name and number."""
    rows = connection.execute(
        f"{_READ} WHERE project.name = ? AND version.deleted_us IS NULL"
        " ORDER BY artifact.name, version.number",
        (project,),
    )
    return [_version(row) for row in rows.fetchall()]


def read_elsewhere(
    connection: sqlite3.Connection, project: str
) -> list[tuple[str, str]]:
    """The versions in a project that runs of other projects read: (version, run)."""
    rows = connection.execute(
        "SELECT project.name || '/' || artifact.name || ':v' || version.number,"
        " home.name || '/' || run.run_id"
        " FROM version JOIN artifact ON artifact.id = version.artifact_id"
        " JOIN project ON project.id = artifact.project_id"
        " JOIN edge ON edge.version_id = version.id AND edge.direction = 'input'"
        " JOIN run ON run.id = edge.run_id AND run.deleted_us IS NULL"
        " JOIN project home ON home.id = run.project_id"
        " WHERE project.name = ? AND home.id != project.id"
        " AND version.deleted_us IS NULL"
        " ORDER BY artifact.name, version.number, edge.at_us",
        (project,),
    )
    return [(version, run) for version, run in rows.fetchall()]


def trash(connection: sqlite3.Connection) -> list[VersionRecord]:
    """Every version in the trash, the last one first."""
    rows = connection.execute(
        f"{_READ} WHERE version.deleted_us IS NOT NULL"
        " ORDER BY version.deleted_us DESC, version.id DESC"
    )
    return [_version(row) for row in rows.fetchall()]


def listed(
    connection: sqlite3.Connection,
    project: str | None = None,
    kind: str | None = None,
) -> list[ArtifactRecord]:
    """Artifacts with a version that is not in the trash, by project and name.

    Args:
        connection: The Catalog.
        project: A project's name; None for all.
        kind: A type; None for all.
    """
    rows = connection.execute(
        "SELECT artifact.id, artifact.uid, project.name, artifact.name, artifact.type,"
        " artifact.description, count(*), sum(version.size), max(version.number),"
        " artifact.created_us, max(version.updated_us)"
        " FROM artifact JOIN project ON project.id = artifact.project_id"
        " JOIN version ON version.artifact_id = artifact.id"
        " AND version.deleted_us IS NULL"
        " WHERE (:project IS NULL OR project.name = :project)"
        " AND (:kind IS NULL OR artifact.type = :kind)"
        " GROUP BY artifact.id ORDER BY project.name, artifact.name",
        {"project": project, "kind": kind},
    )
    return [ArtifactRecord(*row) for row in rows.fetchall()]


def set_deleted(connection: sqlite3.Connection, pk: int, at_us: int | None) -> None:
    """Move a version to the trash, or out of it."""
    connection.execute("UPDATE version SET deleted_us = ? WHERE id = ?", (at_us, pk))


def with_ttl(connection: sqlite3.Connection) -> list[VersionRecord]:
    """The versions that have a time to live, and are not in the trash."""
    rows = connection.execute(
        f"{_READ} WHERE version.ttl_us IS NOT NULL AND version.deleted_us IS NULL"
    )
    return [_version(row) for row in rows.fetchall()]


def purge(connection: sqlite3.Connection, pk: int) -> None:
    """Remove a version for good; its blobs are gc's."""
    connection.execute("DELETE FROM version WHERE id = ?", (pk,))


def manifests(connection: sqlite3.Connection) -> dict[Digest, list[str]]:
    """Every manifest that a version has, in the trash or not, and whose it is."""
    found: dict[Digest, list[str]] = {}
    rows = connection.execute(
        "SELECT version.digest, project.name || '/' || artifact.name || ':v' || number"
        " FROM version JOIN artifact ON artifact.id = artifact_id"
        " JOIN project ON project.id = project_id ORDER BY version.id"
    )
    for digest, path in rows.fetchall():
        found.setdefault(Digest(digest), []).append(path)
    return found


# Lineage


def add_edge(connection: sqlite3.Connection, pk: int, run: int, direction: str) -> None:
    """Note that a run made a version (``output``), or read it (``input``)."""
    connection.execute(
        "INSERT OR IGNORE INTO edge VALUES (?, ?, ?, ?)",
        (pk, run, direction, _clock.now_us()),
    )


def of_run(
    connection: sqlite3.Connection, run: int, direction: str
) -> list[VersionRecord]:
    """The versions that a run made or read, in that order."""
    rows = connection.execute(
        f"{_READ} JOIN edge ON edge.version_id = version.id"
        " WHERE edge.run_id = ? AND edge.direction = ? ORDER BY edge.at_us, version.id",
        (run, direction),
    )
    return [_version(row) for row in rows.fetchall()]


def runs_of(connection: sqlite3.Connection, pk: int, direction: str) -> list[int]:
    """The keys of the runs that made or read a version, in that order."""
    rows = connection.execute(
        "SELECT run_id FROM edge WHERE version_id = ? AND direction = ?"
        " ORDER BY at_us, run_id",
        (pk, direction),
    )
    return [run for (run,) in rows.fetchall()]


def made_by(connection: sqlite3.Connection, runs: Iterable[str]) -> set[str]:
    """The uids of the artifacts that runs, by uid, made versions of."""
    rows = connection.execute(
        "SELECT DISTINCT artifact.uid FROM edge JOIN run ON run.id = edge.run_id"
        " JOIN version ON version.id = version_id"
        " JOIN artifact ON artifact.id = artifact_id WHERE direction = 'output'"
        " AND run.uid IN (SELECT value FROM json_each(?))",
        (json.dumps(sorted(runs)),),
    )
    return {uid for (uid,) in rows.fetchall()}


def record(
    connection: sqlite3.Connection, kind: str, version: VersionRecord, **said: Any
) -> None:
    """Write an event of a version into the transaction that makes the change."""
    events.record(connection, kind, "version", version.uid, **said)


def _version(row: Sequence[Any]) -> VersionRecord:
    *fields, latest, aliases, tags = row
    names = tuple(sorted(json.loads(aliases), key=_names.alias_key))
    return VersionRecord(
        *[*fields, bool(latest), names, tuple(sorted(json.loads(tags)))]
    )
