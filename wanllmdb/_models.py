"""Models of the registry: linking versions to them, moving these through stages.

Each change is ONE durable transaction, with its event in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from wanllmdb import _names
from wanllmdb._catalog import (
    artifacts,
    deleted_models,
    events,
    model_aliases,
    models,
)
from wanllmdb._catalog.deleted_models import Trashed
from wanllmdb._store import Store, operation
from wanllmdb.errors import (
    AliasNotFoundError,
    InvalidInputError,
    InvalidNameError,
    StateError,
    VersionInUseError,
)
from wanllmdb.types import (
    STAGES,
    Event,
    ModelRecord,
    ModelVersionRecord,
    NewModelVersion,
    Stage,
    VersionRecord,
)

if TYPE_CHECKING:
    import sqlite3


@operation("create model")
def create(
    store: Store, name: str, description: str | None, *, single_holder: bool
) -> ModelRecord:
    """Make a model; durable on return.

    Raises:
        ConflictError: there is one of that name.
    """
    with store.catalog.transaction(durable=True) as connection:
        made = models.create(connection, name, description, single_holder=single_holder)
        return models.read_model(connection, made)


@operation("link model")
def link(
    store: Store, version: VersionRecord, name: str, new: NewModelVersion
) -> ModelVersionRecord:
    """Make a version of an artifact the next version of a model; durable on return.

    The model is made if there is none. What its newest version links to gives no new
    one, unless it is registered under another name: what is said of it is taken over.

    Args:
        store: Where.
        version: What to link.
        name: The model.
        new: What is said of it.

    Raises:
        StateError: the version is in the trash.
        ConflictError: the number is not the one that was asked for.
        AliasConflictError: an alias names another version for good.
        StageConflictError: another version holds the stage.
    """
    with store.catalog.transaction(durable=True) as connection:
        now = artifacts.read(connection, version.pk)
        if now.deleted_us is not None:
            raise StateError(f"{now.path} is in the trash.", hint="Restore it first.")
        model = models.find(connection, name) or models.create(connection, name)
        held = models.newest(connection, model.pk)
        if held is not None and _is_same(held, now, new):
            models.describe(connection, held, new)
        else:
            held = models.add(connection, model, now.pk, new)
        if new.label is not None:
            model_aliases.put(connection, held, new.label, fixed=True)
        for alias in new.aliases:
            model_aliases.put(connection, held, alias)
        if new.stage is not None and new.stage is not held.stage:
            models.set_stage(connection, held, new.stage)
        return models.read(connection, held.pk)


def _is_same(
    held: ModelVersionRecord, version: VersionRecord, new: NewModelVersion
) -> bool:
    """Whether a link would only say again what the newest version is."""
    labels = {_names.alias_key(x.label) for x in (held, new) if x.label is not None}
    numbers = {held.number, held.number if new.number is None else new.number}
    return held.version_pk == version.pk and len(labels) < 2 and len(numbers) == 1


@operation("unlink model version")
def unlink(
    store: Store, name: str, selector: str, *, force: bool = False
) -> ModelVersionRecord:
    """Take a version out of a model; what it links to stays. Durable on return.

    Raises:
        ModelNotFoundError: there is no such model.
        VersionNotFoundError: it has no such version.
        VersionInUseError: it is in production, and force is not given.
    """
    with store.catalog.transaction(durable=True) as connection:
        found = models.resolve(connection, models.get(connection, name), selector)
        if found.stage is Stage.PRODUCTION and not force:
            raise _in_production(found.model, [found.number])
        models.remove(connection, found)
        return found


@operation("unlink artifact")
def unlink_version(
    store: Store, version: VersionRecord, name: str | None, *, force: bool = False
) -> list[ModelVersionRecord]:
    """Take a version of an artifact out of the models that link to it.

    Args:
        store: Where.
        version: What.
        name: Out of this model only; None: out of all.
        force: Also where it is in production.

    Raises:
        StateError: no such link exists.
        VersionInUseError: it is in production, and force is not given.
    """
    with store.catalog.transaction(durable=True) as connection:
        links = [
            link for link in models.links_of(connection, version.pk)
            if name in (None, link.model)
        ]  # fmt: skip
        if not links:
            where = "a model" if name is None else f"model {name!r}"
            raise StateError(
                f"{version.path} is not linked to {where}.", hint="Nothing to do."
            )
        for held in links:
            if held.stage is Stage.PRODUCTION and not force:
                raise _in_production(held.model, [held.number])
            models.remove(connection, held)
        return links


@operation("delete model")
def delete(store: Store, name: str, *, force: bool = False) -> None:
    """Move a model to the trash; what it links to stays. Durable on return.

    Raises:
        ModelNotFoundError: there is none.
        VersionInUseError: it has versions in production, and force is not given.
    """
    with store.catalog.transaction(durable=True) as connection:
        model = models.get(connection, name)
        held = models.versions(connection, model.pk, Stage.PRODUCTION)
        if held and not force:
            raise _in_production(name, [version.number for version in held])
        deleted_models.delete(connection, model)


@operation("restore model")
def restore(store: Store, name: str) -> ModelRecord:
    """Bring a deleted model back, with its versions; durable on return.

    Raises:
        ModelNotFoundError: there is none in the trash.
        StateError: what its versions link to is in the trash.
    """
    with store.catalog.transaction(durable=True) as connection:
        model = deleted_models.find(connection, name)
        deleted_models.restore(connection, model)
        return models.read_model(connection, model)


@operation("purge model")
def purge(store: Store, name: str) -> None:
    """Remove a deleted model for good; its numbers and its history stay. Durable.

    Raises:
        ModelNotFoundError: there is none in the trash.
    """
    with store.catalog.transaction(durable=True) as connection:
        deleted_models.purge(connection, deleted_models.find(connection, name))


def trash(store: Store) -> list[Trashed]:
    """The models in the trash, the last one first."""
    return deleted_models.listed(store.catalog.reader)


@operation("change model")
def set_single_holder(store: Store, name: str, *, on: bool) -> ModelRecord:
    """Let a model's stages have one version each, or any number; durable on return.

    Raises:
        ModelNotFoundError: there is none.
        StageConflictError: several versions are in a stage that shall have one.
    """
    with store.catalog.transaction(durable=True) as connection:
        model = models.get(connection, name)
        if model.single_holder != on:
            models.set_single_holder(connection, model, on)
        return models.read_model(connection, model)


def _in_production(model: str, numbers: Iterable[int]) -> VersionInUseError:
    listed = ", ".join(f"v{number}" for number in numbers)
    return VersionInUseError(
        f"Of model {model!r}, {listed} is in production.",
        hint="Move it to another stage first, or force=True.", model=model,
    )  # fmt: skip


# Stages


@operation("move model version")
def transition(
    store: Store,
    name: str,
    selector: str,
    stage: Stage,
    *,
    comment: str | None = None,
    approver: str | None = None,
    archive_existing: bool = False,
) -> tuple[ModelVersionRecord, list[ModelVersionRecord]]:
    """Move a version to a stage; durable on return.

    Args:
        store: Where.
        name: The model.
        selector: The version.
        stage: Where to.
        comment: Why, for the history.
        approver: Who agreed: it is approved with the move.
        archive_existing: Archive the versions that are there, in the same transaction.

    Returns:
        The version as it is then, and those that were archived.

    Raises:
        ModelNotFoundError: there is no such model.
        VersionNotFoundError: it has no such version.
        StageConflictError: the stage has one holder, which is another version.
    """
    if archive_existing and stage not in models.HELD:
        raise InvalidInputError(
            f"archive_existing makes no sense for stage {str(stage)!r}.",
            hint="It is for staging and production.",
        )
    with store.catalog.transaction(durable=True) as connection:
        found = models.resolve(connection, models.get(connection, name), selector)
        moved = _archive(connection, found, stage) if archive_existing else []
        if found.stage is not stage:
            models.set_stage(
                connection, found, stage, approver=approver, reason=comment
            )
        elif approver is not None:
            models.record_approval(connection, found, approver, comment)
        if approver is not None:
            models.set_approved(connection, found, approver)
        return models.read(connection, found.pk), moved


def _archive(
    connection: sqlite3.Connection, successor: ModelVersionRecord, stage: Stage
) -> list[ModelVersionRecord]:
    """Archive what is in a stage, to make room for another version."""
    held = models.versions(connection, successor.model_pk, stage)
    others = [version for version in held if version.pk != successor.pk]
    for version in others:
        reason = f"v{successor.number} moved to {stage}"
        models.set_stage(connection, version, Stage.ARCHIVED, reason=reason)
    return others


@operation("approve model version")
def approve(
    store: Store, name: str, selector: str, approver: str | None, comment: str | None
) -> ModelVersionRecord:
    """Note that somebody approved a version; durable on return.

    Args:
        store: Where.
        name: The model.
        selector: The version.
        approver: Who; None: whoever runs this process.
        comment: Why, for the history.

    Raises:
        ModelNotFoundError: there is no such model.
        VersionNotFoundError: it has no such version.
    """
    who = approver if approver is not None else events.user_name()
    with store.catalog.transaction(durable=True) as connection:
        found = models.resolve(connection, models.get(connection, name), selector)
        models.set_approved(connection, found, who)
        models.record_approval(connection, found, who, comment)
        return models.read(connection, found.pk)


# Aliases


@operation("move model alias")
def set_alias(store: Store, name: str, selector: str, alias: str) -> ModelVersionRecord:
    """Let an alias name a version; durable on return.

    Raises:
        ModelNotFoundError: there is no such model.
        VersionNotFoundError: it has no such version.
        AliasConflictError: it names another version for good.
    """
    with store.catalog.transaction(durable=True) as connection:
        found = models.resolve(connection, models.get(connection, name), selector)
        model_aliases.put(connection, found, checked_alias(alias))
        return models.read(connection, found.pk)


@operation("remove model alias")
def drop_alias(store: Store, name: str, alias: str) -> None:
    """Remove an alias; durable on return.

    Raises:
        ModelNotFoundError: there is no such model.
        AliasNotFoundError: it has none of that name.
        AliasConflictError: it is what its version was registered under.
    """
    with store.catalog.transaction(durable=True) as connection:
        if not model_aliases.drop(connection, models.get(connection, name), alias):
            raise AliasNotFoundError(
                f"Model {name!r} has no alias {alias!r}.",
                hint=f"`wanllmdb model show {name}` lists them.",
                model=name, alias=alias,
            )  # fmt: skip


def checked_alias(value: object) -> str:
    """An alias of a model's version.

    Raises:
        InvalidNameError: it is none, or it is a stage.
    """
    name = _names.alias(value)
    if _names.alias_key(name) in STAGES:
        raise InvalidNameError(
            f"{name!r} is a stage, and no alias.", hint="Move the version to it."
        )
    return name


def checked_stage(value: object) -> Stage:
    """A stage, in any case.

    Raises:
        InvalidInputError: there is none of that name.
    """
    key = value.casefold() if isinstance(value, str) else None
    if key not in STAGES:
        raise InvalidInputError(
            f"There is no stage {str(value)[:40]!r}.", hint=f"Use {', '.join(STAGES)}."
        )
    return Stage(key)


def linked_as(aliases: Iterable[object], said: NewModelVersion) -> NewModelVersion:
    """What is said of a version, with the names that W&B's users give a link.

    Names of stages move it there: in W&B a stage is an alias. ``latest`` and ``vN``
    follow from the numbers, and are left out.

    Raises:
        InvalidNameError: one is no alias.
        InvalidInputError: these are several stages.
    """
    stages, names = [], []
    for alias in aliases:
        if isinstance(alias, str) and _names.alias_key(alias) in STAGES:
            stages.append(checked_stage(alias))
        elif not (isinstance(alias, str) and _names.is_derived(alias)):
            names.append(checked_alias(alias))
    if len(set(stages)) > 1:
        raise InvalidInputError(
            f"A version is in one stage, not in {' and '.join(stages)}.",
            hint="Name one.",
        )
    return replace(
        said, aliases=tuple(names), stage=stages[0] if stages else said.stage
    )


# Reading


def find_version(store: Store, name: str, selector: str) -> ModelVersionRecord:
    """The version of a model that a selector names; see `models.resolve`.

    Raises:
        ModelNotFoundError: there is no such model.
        VersionNotFoundError: it has no such version.
    """
    reader = store.catalog.reader
    return models.resolve(reader, models.get(reader, name), selector)


def history(store: Store, name: str) -> list[Event]:
    """Every change of a model and its versions, oldest first; also of a deleted one.

    Raises:
        ModelNotFoundError: there never was one of that name.
    """
    reader = store.catalog.reader
    return events.read(reader, "model", models.uid(reader, name))
