"""The registry: models, whose versions link to versions of artifacts.

Every change writes its event, which is the model's, into the same transaction.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple

from wanllmdb import _clock, _ids, _names
from wanllmdb._catalog import events
from wanllmdb.errors import (
    ConflictError,
    ModelNotFoundError,
    StageConflictError,
    VersionNotFoundError,
)
from wanllmdb.types import (
    STAGES,
    JSONValue,
    ModelRecord,
    ModelVersionRecord,
    NewModelVersion,
    Stage,
)

HELD = (Stage.STAGING, Stage.PRODUCTION)
"""The stages of which a model made with `single_holder` has one version each."""

_MODEL = """
SELECT model.id, model.uid, model.name, model.description, model.single_holder,
  model.created_us, count(held.id), max(held.number),
  json_group_array(held.number) FILTER (WHERE held.stage = 'staging'),
  json_group_array(held.number) FILTER (WHERE held.stage = 'production')
FROM model LEFT JOIN model_version held ON held.model_id = model.id
"""

_VERSION = """
SELECT held.id, held.uid, model.id, model.uid, model.name, held.number, version.id,
  version.uid, project.name || '/' || artifact.name || ':v' || version.number,
  (SELECT home.name || '/' || run.run_id FROM run
    JOIN project home ON home.id = run.project_id WHERE run.id = version.run_id),
  held.stage, held.description, held.metadata, held.tags, held.created_us,
  held.staged_us, held.approved_by, held.approved_us,
  (SELECT alias FROM model_alias WHERE model_version_id = held.id AND fixed = 1),
  (SELECT json_group_array(alias) FROM model_alias WHERE model_version_id = held.id)
FROM model_version held JOIN model ON model.id = held.model_id
JOIN version ON version.id = held.version_id
JOIN artifact ON artifact.id = version.artifact_id
JOIN project ON project.id = artifact.project_id
"""


class Model(NamedTuple):
    """A model, as far as changing it is concerned; counting its versions takes time."""

    pk: int
    uid: str
    name: str
    single_holder: bool


# Models


def create(
    connection: sqlite3.Connection,
    name: str,
    description: str | None = None,
    *,
    single_holder: bool = False,
) -> Model:
    """Make a model; one that was deleted goes on with its numbers and its history.

    The versions that it had are gone for good then.

    Raises:
        ConflictError: there is one of that name.
    """
    connection.execute(
        "DELETE FROM model_version WHERE model_id IN"
        " (SELECT id FROM model WHERE name = ? AND deleted_us IS NOT NULL)",
        (name,),
    )
    row = connection.execute(
        "INSERT INTO model (uid, name, description, single_holder, created_us)"
        " VALUES (?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET deleted_us = NULL,"
        " description = excluded.description, single_holder = excluded.single_holder,"
        " created_us = excluded.created_us WHERE deleted_us IS NOT NULL"
        " RETURNING uid",
        (_uid_of(name), name, description, single_holder, _clock.now_us()),
    ).fetchone()
    if row is None:
        raise ConflictError(
            f"There is a model {name!r} already.",
            hint="Link versions to it, or choose another name.", model=name,
        )  # fmt: skip
    said = {"description": description, "single_holder": single_holder}
    events.record(connection, "create", "model", row["uid"], after=said)
    events.touch_fields(
        connection, "model", row["uid"], ["deleted", "description", "single_holder"]
    )
    return get(connection, name)


def _uid_of(name: str) -> str:
    """A model's uid: from its name, so two laptops agree before they meet."""
    return hashlib.sha256(f"model:{name}".encode()).hexdigest()[:32]


def find(connection: sqlite3.Connection, name: str) -> Model | None:
    """The model of a name, if there is one."""
    row = connection.execute(
        "SELECT id, uid, name, single_holder FROM model"
        " WHERE name = ? AND deleted_us IS NULL",
        (name,),
    ).fetchone()
    return None if row is None else Model(row[0], row[1], row[2], bool(row[3]))


def get(connection: sqlite3.Connection, name: str) -> Model:
    """The model of a name.

    Raises:
        ModelNotFoundError: there is none.
        InvalidNameError: it is no model's name.
    """
    found = find(connection, _names.model(name))
    if found is None:
        raise unknown(name)
    return found


def read_model(connection: sqlite3.Connection, model: Model) -> ModelRecord:
    """All that is known of a model."""
    row = connection.execute(
        f"{_MODEL} WHERE model.id = ? GROUP BY model.id", (model.pk,)
    ).fetchone()
    return _model(row)


def listed(
    connection: sqlite3.Connection, search: str | None = None
) -> list[ModelRecord]:
    """Models by name; or those whose name holds a text, whatever the case."""
    rows = connection.execute(
        f"{_MODEL} WHERE model.deleted_us IS NULL AND (:search IS NULL"
        " OR instr(lower(model.name), lower(:search)) > 0)"
        " GROUP BY model.id ORDER BY model.name",
        {"search": search},
    )
    return [_model(row) for row in rows.fetchall()]


def set_single_holder(
    connection: sqlite3.Connection, model: Model, single_holder: bool
) -> None:
    """Let a model's stages have one version each, or any number.

    Raises:
        StageConflictError: several versions are in a stage that shall have one.
    """
    try:
        connection.execute(
            "UPDATE model SET single_holder = ? WHERE id = ?",
            (single_holder, model.pk),
        )
    except sqlite3.IntegrityError as error:
        # model_stage_holder, to which the versions come along.
        raise _crowded(connection, model) from error
    events.record(
        connection, "single_holder", "model", model.uid,
        before={"single_holder": model.single_holder},
        after={"single_holder": single_holder},
    )  # fmt: skip
    events.touch_fields(connection, "model", model.uid, ["single_holder"])


def _crowded(connection: sqlite3.Connection, model: Model) -> StageConflictError:
    found = {stage: versions(connection, model.pk, stage) for stage in HELD}
    told = [
        f"{', '.join(f'v{version.number}' for version in reversed(held))} in {stage}"
        for stage, held in found.items() if held[1:]
    ]  # fmt: skip
    return StageConflictError(
        f"Model {model.name!r} has {' and '.join(told)}, which shall have one each.",
        hint="Move the others to another stage first.", model=model.name,
    )  # fmt: skip


def uid(connection: sqlite3.Connection, name: str) -> str:
    """The uid of a model, also of one that was deleted.

    Raises:
        ModelNotFoundError: there never was one of that name.
        InvalidNameError: it is no model's name.
    """
    row = connection.execute(
        "SELECT uid FROM model WHERE name = ?", (_names.model(name),)
    ).fetchone()
    if row is None:
        raise unknown(name)
    found: str = row["uid"]
    return found


def unknown(name: str) -> ModelNotFoundError:
    """That there is no model of a name."""
    return ModelNotFoundError(
        f"There is no model {name!r}.",
        hint="`wanllmdb model ls` shows them.", model=name,
    )  # fmt: skip


# Versions


def add(
    connection: sqlite3.Connection,
    model: Model,
    version: int,
    new: NewModelVersion,
) -> ModelVersionRecord:
    """Link a version of an artifact as the model's next version.

    Raises:
        ConflictError: the next number is not the one that was asked for.
    """
    (number,) = connection.execute(
        "UPDATE model SET last_number = last_number + 1 WHERE id = ?"
        " RETURNING last_number",
        (model.pk,),
    ).fetchone()
    if new.number not in (None, number):
        raise ConflictError(
            f"The next version of model {model.name!r} is v{number},"
            f" not v{new.number}.",
            hint="Leave the version out, or give it a name such as 1.0.0.",
            model=model.name, version=number,
        )  # fmt: skip
    (pk,) = connection.execute(
        "INSERT INTO model_version (uid, model_id, single_holder, number, version_id,"
        " description, metadata, tags, created_us)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
        (
            _ids.uid(), model.pk, model.single_holder, number, version,
            new.description, new.metadata_json, json.dumps(list(new.tags)),
            _clock.now_us(),
        ),
    ).fetchone()  # fmt: skip
    made = read(connection, pk)
    record(connection, "link", made, after=noted(made))
    return made


def describe(
    connection: sqlite3.Connection, version: ModelVersionRecord, new: NewModelVersion
) -> None:
    """Take over what is said anew of a version; what is not said again, stays."""
    tags = dict.fromkeys([*version.tags, *new.tags])
    connection.execute(
        "UPDATE model_version SET description = coalesce(?, description),"
        " metadata = coalesce(?, metadata), tags = ? WHERE id = ?",
        (
            new.description,
            None if new.metadata_json == "{}" else new.metadata_json,
            json.dumps(list(tags)), version.pk,
        ),
    )  # fmt: skip
    events.touch_fields(
        connection, "model_version", version.uid, ["description", "metadata", "tags"]
    )


def read(connection: sqlite3.Connection, pk: int) -> ModelVersionRecord:
    """A version by its key."""
    row = connection.execute(f"{_VERSION} WHERE held.id = ?", (pk,)).fetchone()
    return _version(row)


def versions(
    connection: sqlite3.Connection, model: int, stage: Stage | None = None
) -> list[ModelVersionRecord]:
    """The versions of a model, or those of a stage, the newest first."""
    staged = "" if stage is None else " AND held.stage = :stage"
    rows = connection.execute(
        f"{_VERSION} WHERE held.model_id = :model{staged} ORDER BY held.number DESC",
        {"model": model, "stage": stage},
    )
    return [_version(row) for row in rows.fetchall()]


def newest(connection: sqlite3.Connection, model: int) -> ModelVersionRecord | None:
    """The version of the highest number."""
    row = connection.execute(
        f"{_VERSION} WHERE held.model_id = ? ORDER BY held.number DESC LIMIT 1",
        (model,),
    ).fetchone()
    return None if row is None else _version(row)


def resolve(
    connection: sqlite3.Connection, model: Model, selector: str
) -> ModelVersionRecord:
    """The version of a model that a selector names.

    Args:
        connection: The Catalog.
        model: The model.
        selector: ``latest``, ``vN``, a stage (its newest version), or an alias in any
            case.

    Raises:
        VersionNotFoundError: it has no such version.
    """
    where, given = _condition(selector)
    row = connection.execute(
        f"{_VERSION} WHERE held.model_id = ? AND {where}"
        " ORDER BY held.number DESC LIMIT 1",
        (model.pk, *given),
    ).fetchone()
    if row is None:
        raise VersionNotFoundError(
            f"Model {model.name!r} has no version {selector!r}.",
            hint=f"`wanllmdb model show {model.name}` lists them.",
            model=model.name, selector=selector,
        )  # fmt: skip
    return _version(row)


def _condition(selector: str) -> tuple[str, tuple[Any, ...]]:
    key = _names.alias_key(selector)
    if key == _names.LATEST:
        return "1", ()
    if _names.is_derived(selector):
        return "held.number = ?", (_names.version_number(key),)
    if key in STAGES:
        return "held.stage = ?", (key,)
    return (
        "held.id = (SELECT model_version_id FROM model_alias"
        " WHERE model_id = held.model_id AND alias_key = ?)",
        (key,),
    )


def links_of(connection: sqlite3.Connection, version: int) -> list[ModelVersionRecord]:
    """The models' versions that link to a version of an artifact, by model."""
    rows = connection.execute(
        f"{_VERSION} WHERE held.version_id = ? AND model.deleted_us IS NULL"
        " ORDER BY model.name, held.number",
        (version,),
    )
    return [_version(row) for row in rows.fetchall()]


def links_into(connection: sqlite3.Connection, project: str) -> list[tuple[str, str]]:
    """The versions in a project that models link to: (version, ``model NAME:vN``)."""
    rows = connection.execute(
        f"{_VERSION} WHERE project.name = ? ORDER BY model.name, held.number",
        (project,),
    )
    links = [_version(row) for row in rows.fetchall()]
    return [(link.artifact, f"model {link.path}") for link in links]


def links_to(connection: sqlite3.Connection, version: int) -> list[str]:
    """The models' versions, as ``model NAME:vN``, that link to a version."""
    return [f"model {link.path}" for link in links_of(connection, version)]


def remove(connection: sqlite3.Connection, version: ModelVersionRecord) -> None:
    """Unlink a version; its number is not given again."""
    connection.execute("DELETE FROM model_version WHERE id = ?", (version.pk,))
    record(connection, "unlink", version, before=noted(version))
    events.touch_fields(connection, "model_version", version.uid, ["deleted"])


# Stages


def set_stage(
    connection: sqlite3.Connection,
    version: ModelVersionRecord,
    stage: Stage,
    *,
    approver: str | None = None,
    reason: str | None = None,
) -> None:
    """Move a version to a stage.

    Args:
        connection: The transaction.
        version: What.
        stage: Where to.
        approver: Who agreed, if it was asked.
        reason: Why, for the history.

    Raises:
        StageConflictError: another version holds it, and the model is one whose stages
            have one holder.
    """
    now = _clock.now_us()
    try:
        connection.execute(
            "UPDATE model_version SET stage = ?, staged_us = ? WHERE id = ?",
            (stage, now, version.pk),
        )
    except sqlite3.IntegrityError as error:
        # model_stage_holder: the constraint decides, whoever looked before.
        raise _occupied(connection, version, stage) from error
    record(
        connection, "stage", version, before={"stage": str(version.stage)},
        after={"stage": str(stage), "approver": approver}, reason=reason,
    )  # fmt: skip
    events.touch_fields(connection, "model_version", version.uid, ["stage"])


def _occupied(
    connection: sqlite3.Connection, version: ModelVersionRecord, stage: Stage
) -> StageConflictError:
    holder = versions(connection, version.model_pk, stage)[0]
    return StageConflictError(
        f"{holder.path} is in {stage}, and that stage has one version at a time.",
        hint="archive_existing=True (--archive-existing) archives it.",
        model=version.model, stage=str(stage), version=holder.number,
    )  # fmt: skip


def set_approved(
    connection: sqlite3.Connection, version: ModelVersionRecord, approver: str
) -> None:
    """Note who approved a version, and when; the caller records the event."""
    connection.execute(
        "UPDATE model_version SET approved_by = ?, approved_us = ? WHERE id = ?",
        (approver, _clock.now_us(), version.pk),
    )
    events.touch_fields(connection, "model_version", version.uid, ["approved"])


def record_approval(
    connection: sqlite3.Connection,
    version: ModelVersionRecord,
    approver: str,
    reason: str | None,
) -> None:
    """Write the event of an approval that came without a move."""
    record(
        connection, "approve", version, before={"approver": version.approved_by},
        after={"approver": approver}, reason=reason,
    )  # fmt: skip


# What SQL sees


def facts(connection: sqlite3.Connection) -> list[dict[str, Any]]:
    """Every version of every model, and the version of an artifact that it is."""
    rows = connection.execute(
        "SELECT model.name, held.number, held.stage, project.name, artifact.name,"
        " version.number FROM model_version held"
        " JOIN model ON model.id = held.model_id"
        " JOIN version ON version.id = held.version_id"
        " JOIN artifact ON artifact.id = version.artifact_id"
        " JOIN project ON project.id = artifact.project_id"
        " WHERE model.deleted_us IS NULL ORDER BY model.name, held.number"
    )
    names = ("model", "version", "stage", "project", "artifact", "artifact_version")
    return [dict(zip(names, row, strict=True)) for row in rows.fetchall()]


def record(
    connection: sqlite3.Connection,
    kind: str,
    version: ModelVersionRecord,
    *,
    before: dict[str, JSONValue] | None = None,
    after: dict[str, JSONValue] | None = None,
    reason: str | None = None,
) -> None:
    """Write an event of the model into the transaction that makes the change."""
    which = {"version": version.number}
    events.record(
        connection, kind, "model", version.model_uid,
        before=None if before is None else {**which, **before},
        after=None if after is None else {**which, **after}, reason=reason,
    )  # fmt: skip


def noted(version: ModelVersionRecord) -> dict[str, JSONValue]:
    """What an event tells of a version that comes or goes."""
    return {
        "version": version.number, "artifact": version.artifact,
        "artifact_uid": version.version_uid, "stage": str(version.stage),
        "aliases": list(version.aliases),
    }  # fmt: skip


def _model(row: Sequence[Any]) -> ModelRecord:
    *plain, staging, production = row
    pk, uid_, name, description, single_holder, created_us, count, latest = plain
    return ModelRecord(
        pk, uid_, name, description, bool(single_holder), created_us, count, latest,
        tuple(sorted(json.loads(staging))), tuple(sorted(json.loads(production))),
    )  # fmt: skip


def _version(row: sqlite3.Row) -> ModelVersionRecord:
    fields = list(row)
    fields[10] = Stage(fields[10])
    fields[13] = tuple(json.loads(fields[13]))
    fields[19] = tuple(sorted(json.loads(fields[19]), key=_names.alias_key))
    return ModelVersionRecord(*fields)
