"""The model registry, as users call it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wanllmdb import _artifacts, _model_facts, _models, _names, _settings, _stores
from wanllmdb._artifacts import Artifact
from wanllmdb._catalog import models
from wanllmdb._process import process
from wanllmdb._run import Run
from wanllmdb._run_artifacts import MODEL
from wanllmdb._store import Store
from wanllmdb.errors import InvalidInputError, NoActiveRunError, VersionNotFoundError
from wanllmdb.types import ModelVersionRecord, NewModelVersion


class ModelRegistry:
    """Models: names whose numbered versions link to versions of artifacts.

    A version is named by ``N`` or ``vN``, by ``latest``, by an alias, and by what
    `log_model` registered it as (``"1.2.0"``). Each is in one of the stages ``none``,
    ``staging``, ``production`` and ``archived``. A number is never given twice, and
    what a model links to cannot be deleted. Every change is durable on return, and in
    `history`. Safe for threads and processes.

    Args:
        store: The Store, or its directory; default the active run's, else by the rules
            in docs/guide.md. What the old SDK gave here, its client, is ignored.
        project_id: Accepted as the old SDK has it; models belong to no project.
        api_client: Accepted as the old SDK has it; without effect.
    """

    def __init__(
        self, store: Any = None, project_id: Any = None, *, api_client: Any = None
    ) -> None:
        del project_id, api_client
        self._given: Store | None = None
        if isinstance(store, Store):
            self._given = store
        elif isinstance(store, (str, os.PathLike)):
            self._given = _stores.opened(_settings.find_store(store))

    @property
    def store(self) -> Store:
        """The Store that is read and written."""
        if self._given is not None:
            return self._given
        run = process.active
        if run is not None and run._store is not None:
            return run._store
        return _stores.opened()

    # Models

    def create(
        self, name: str, description: str | None = None, single_holder: bool = False
    ) -> dict[str, Any]:
        """Make a model; `log_model` and `link` make one without these facts.

        Args:
            name: 1 to 128 letters, digits, dots, dashes and underscores.
            description: For people.
            single_holder: At most one version is in staging, and one in production.

        Raises:
            ConflictError: there is one of that name.
        """
        made = _models.create(
            self.store, _names.model(name), _text(description, "description"),
            single_holder=bool(single_holder),
        )  # fmt: skip
        return _model_facts.of_model(made)

    def list_models(self, search: str | None = None) -> list[dict[str, Any]]:
        """Models by name, with what is in production.

        Args:
            search: Only those whose name holds this text, whatever the case.
        """
        wanted = None if search is None else _names.lookup(search)
        found = models.listed(self.store.catalog.reader, wanted)
        return [_model_facts.of_model(record) for record in found]

    def delete(self, name: str, force: bool = False) -> None:
        """Move a model to the trash; the artifacts stay, and nothing keeps them.

        `restore` brings it back for 30 days, or until the trash is emptied. A model
        that is made again under the name goes on with its numbers and history, without
        its versions.

        Raises:
            ModelNotFoundError: there is none.
            VersionInUseError: it has versions in production, and force is not given.
        """
        _models.delete(self.store, name, force=force)

    def restore(self, name: str) -> dict[str, Any]:
        """Bring a deleted model back, with its versions, stages and aliases.

        Versions whose artifacts were purged meanwhile are lost.

        Raises:
            ModelNotFoundError: there is none in the trash.
            StateError: what its versions link to is in the trash.
        """
        return _model_facts.of_model(_models.restore(self.store, _names.model(name)))

    def set_single_holder(self, name: str, on: bool = True) -> dict[str, Any]:
        """Let a model's stages have one version each, or any number.

        Raises:
            ModelNotFoundError: there is no such model.
            StageConflictError: several versions are in a stage that shall have one;
                nothing is changed.
        """
        changed = _models.set_single_holder(self.store, name, on=bool(on))
        return _model_facts.of_model(changed)

    # Versions

    def log_model(
        self,
        run: Run | None,
        model_path: str | os.PathLike[str],
        registered_model_name: str,
        version: int | str | None = None,
        description: str | None = None,
        tags: Sequence[str] | str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Log a model as what a run made, and link it as a model's next version.

        Args:
            run: The run; None: the active one.
            model_path: A file or a directory, which becomes an artifact of type
                ``model`` and of the model's name. It may vanish afterwards.
            registered_model_name: The model; made if there is none.
            version: A name for the version that is its own for good (``"1.2.0"``); or
                the number that it must get.
            description: For people.
            tags: Of the version.
            metadata: Anything JSON holds, 100 KB at most.

        Returns:
            `model_id`, `version_id` and `artifact_version_id`, which are uids, and
            `version`, as given, else ``vN``. What the newest version holds, logged
            again under the same name, gives no new one. In mode "disabled" all are
            None but a version that was given.

        Raises:
            NoActiveRunError: no run is given, and none is active.
            InvalidInputError: the path cannot be added, or the run is in another Store.
            AliasConflictError: another version was registered under that name.
            ConflictError: the number is not the next one, or an artifact of the
                model's name has another type.
        """
        run = _run_or_active(run)
        if self._given is not None and run._store is not None:
            self._refuse_elsewhere(run._store, f"Run {run.path}")
        name = _names.model(registered_model_name)
        number, label = _asked(version)
        said = NewModelVersion(
            _text(description, "description"), _metadata_json(metadata, name),
            _names.tags(tags), number, label,
        )  # fmt: skip
        artifact = Artifact(name, MODEL, said.description, metadata, said.tags)
        path = Path(os.fspath(model_path))
        if path.is_dir():
            artifact.add_dir(path)
        else:
            artifact.add_file(path)
        run.log_artifact(artifact)
        if run.disabled:
            names = ("model_id", "version_id", "version", "artifact_version_id")
            return {**dict.fromkeys(names), "version": label}
        made = _models.link(artifact._place(), artifact._committed(), name, said)
        return {
            "model_id": made.model_uid, "version_id": made.uid,
            "version": label or f"v{made.number}",
            "artifact_version_id": made.version_uid,
        }  # fmt: skip

    def link(
        self,
        version: Artifact | str,
        name: str,
        *,
        aliases: Sequence[str] | str | None = None,
        description: str | None = None,
        tags: Sequence[str] | str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Make a version of an artifact, of any project, a model's next version.

        Args:
            version: An artifact, or ``[project/]name[:alias|:vN|:@digest]``.
            name: The model; made if there is none.
            aliases: Names of the model's version. Those of stages move it there.
            description: For people.
            tags: Of the model's version.
            metadata: Anything JSON holds, 100 KB at most.

        Returns:
            The model's version. What its newest version links to gives no new one.

        Raises:
            ArtifactNotFoundError: there is no such artifact.
            VersionNotFoundError: it has no such version.
            ArtifactStateError: it is a draft.
            StageConflictError: another version holds the stage.
        """
        model = _names.model(name)
        said = NewModelVersion(
            _text(description, "description"), _metadata_json(metadata, model),
            _names.tags(tags),
        )  # fmt: skip
        names = [aliases] if isinstance(aliases, str) else aliases or ()
        said = _models.linked_as(names, said)
        if not isinstance(version, Artifact):
            version = _artifacts.find(self.store, version)
        self._refuse_elsewhere(version._place(), version.qualified_name)
        made = _models.link(self.store, version._committed(), model, said)
        return _model_facts.of_version(made)

    def _refuse_elsewhere(self, store: Store, what: str) -> None:
        if store.path != self.store.path:
            raise InvalidInputError(
                f"{what} is in another Store than the registry, {self.store.path}.",
                hint="Use ModelRegistry(store=...) of that one.",
            )

    def unlink(self, name: str, version: int | str, force: bool = False) -> None:
        """Take a version out of a model; the artifact stays, the number is gone.

        Raises:
            ModelNotFoundError: there is no such model.
            VersionNotFoundError: it has no such version.
            VersionInUseError: it is in production, and force is not given.
        """
        _models.unlink(self.store, name, _selector(version), force=force)

    def get_model_versions(
        self, registered_model_name: str, stage: str | None = None
    ) -> list[dict[str, Any]]:
        """The versions of a model, the newest first; or those in a stage.

        Raises:
            ModelNotFoundError: there is no such model.
            InvalidInputError: there is no such stage.
        """
        wanted = None if stage is None else _models.checked_stage(stage)
        reader = self.store.catalog.reader
        model = models.get(reader, registered_model_name)
        found = models.versions(reader, model.pk, wanted)
        return [_model_facts.of_version(record) for record in found]

    def get_model_version(
        self, registered_model_name: str, version: int | str
    ) -> dict[str, Any]:
        """One version of a model.

        Raises:
            ModelNotFoundError: there is no such model.
            VersionNotFoundError: it has no such version.
        """
        return _model_facts.of_version(self._find(registered_model_name, version, None))

    def get_latest_version(
        self, registered_model_name: str, stage: str | None = None
    ) -> dict[str, Any]:
        """The newest version of a model, or of a stage.

        Raises:
            ModelNotFoundError: there is no such model.
            VersionNotFoundError: it has none, or none in that stage.
            InvalidInputError: there is no such stage.
        """
        return _model_facts.of_version(self._find(registered_model_name, None, stage))

    def use_model(
        self,
        registered_model_name: str,
        version: int | str | None = None,
        stage: str | None = None,
        download_path: str | os.PathLike[str] | None = None,
        run: Run | None = None,
    ) -> str:
        """Download a version of a model; the run notes that it reads it.

        Args:
            registered_model_name: The model.
            version: Its number or a name of it; default the newest.
            stage: The newest version of this stage.
            download_path: The directory; default ``./artifacts/NAME-vN``.
            run: Who reads it; default the active run, if it is of this Store.

        Returns:
            The directory.

        Raises:
            ModelNotFoundError: there is no such model.
            VersionNotFoundError: it has no such version.
            InvalidInputError: both a version and a stage are given, or the stage is
                none.
            DigestMismatchError: bytes in the Store have changed.
        """
        found = self._find(registered_model_name, version, stage)
        artifact = _artifacts.find(self.store, f"{_names.REGISTRY}/{found.path}")
        if run is None and _records_in(process.active, self.store):
            run = process.active
        if run is not None:
            run.use_artifact(artifact)
        return artifact.download(download_path)

    def _find(
        self, name: str, version: int | str | None, stage: str | None
    ) -> ModelVersionRecord:
        if version is not None and stage is not None:
            raise InvalidInputError(
                f"Both version {version!r} and stage {stage!r}?", hint="Give one."
            )
        if stage is not None:
            wanted = _models.checked_stage(stage)
            try:
                return _models.find_version(self.store, name, wanted)
            except VersionNotFoundError:
                raise VersionNotFoundError(
                    f"Model {name!r} has no version in {wanted}.",
                    hint=f"`wanllmdb model stage {name} VERSION {wanted}` moves one.",
                    model=name, stage=str(wanted),
                ) from None  # fmt: skip
        selector = _names.LATEST if version is None else _selector(version)
        return _models.find_version(self.store, name, selector)

    # Stages

    def transition_stage(
        self,
        registered_model_name: str,
        version: int | str,
        stage: str,
        comment: str | None = None,
        approver: str | None = None,
        archive_existing: bool = False,
    ) -> dict[str, Any]:
        """Move a version to a stage.

        As in MLflow, a version joins those that are in the stage unless
        `archive_existing` is set. Of a model made with ``single_holder=True`` it cannot
        join: without `archive_existing` the move to an occupied stage is refused.

        Args:
            registered_model_name: The model.
            version: Its number or a name of it.
            stage: ``none``, ``staging``, ``production`` or ``archived``.
            comment: Why, for the history.
            approver: Who agreed: the version is approved with the move.
            archive_existing: Archive what is in the stage, in the same transaction.

        Returns:
            The version, as `get_model_version`; and `archived`, the versions that were
            archived for it, as ``vN``.

        Raises:
            ModelNotFoundError: there is no such model.
            VersionNotFoundError: it has no such version.
            InvalidInputError: there is no such stage, or nothing to archive in it.
            StageConflictError: another version holds the stage.
        """
        moved, archived = _models.transition(
            self.store, registered_model_name, _selector(version),
            _models.checked_stage(stage), comment=_text(comment, "comment"),
            approver=_text(approver, "approver"), archive_existing=archive_existing,
        )  # fmt: skip
        return {
            **_model_facts.of_version(moved),
            "archived": [f"v{version.number}" for version in archived],
        }  # fmt: skip

    def approve_version(
        self,
        registered_model_name: str,
        version: int | str,
        approver: str | None = None,
        comment: str | None = None,
    ) -> dict[str, Any]:
        """Note that somebody approved a version; a later approval replaces it.

        Args:
            registered_model_name: The model.
            version: Its number or a name of it.
            approver: Who; default whoever runs this process.
            comment: Why, for the history.

        Raises:
            ModelNotFoundError: there is no such model.
            VersionNotFoundError: it has no such version.
        """
        approved = _models.approve(
            self.store, registered_model_name, _selector(version),
            _text(approver, "approver"), _text(comment, "comment"),
        )  # fmt: skip
        return _model_facts.of_version(approved)

    def set_alias(self, name: str, version: int | str, alias: str) -> dict[str, Any]:
        """Let an alias name a version; it moves, if it names another one.

        Raises:
            ModelNotFoundError: there is no such model.
            VersionNotFoundError: it has no such version.
            InvalidNameError: it is no alias; a stage is none.
            AliasConflictError: another version was registered under that name.
        """
        found = _models.set_alias(self.store, name, _selector(version), alias)
        return _model_facts.of_version(found)

    def delete_alias(self, name: str, alias: str) -> None:
        """Remove an alias.

        Raises:
            ModelNotFoundError: there is no such model.
            AliasNotFoundError: it has none of that name.
            AliasConflictError: a version was registered under that name.
        """
        _models.drop_alias(self.store, name, _names.lookup(alias))

    def history(self, name: str) -> list[dict[str, Any]]:
        """Every change of a model, oldest first; also of one that was deleted.

        Returns:
            `at` (ISO 8601 in UTC), `kind` (create, link, stage, approve, alias, unlink,
            delete, restore, purge, single_holder), `version`, `from`, `to`, `who`,
            `host`, `approver`, `comment`, `alias`; None where they do not apply.

        Raises:
            ModelNotFoundError: there never was one of that name.
        """
        return [
            _model_facts.of_event(event) for event in _models.history(self.store, name)
        ]


def _run_or_active(run: Run | None) -> Run:
    found = run if run is not None else process.active
    if found is None:
        raise NoActiveRunError(
            "ModelRegistry.log_model needs a run.", hint="Call wanllmdb.init() first."
        )
    return found


def _records_in(run: Run | None, store: Store) -> bool:
    return run is not None and run._store is not None and run._store.path == store.path


def _asked(version: int | str | None) -> tuple[int | None, str | None]:
    """(the number that must come next, the name of its own) that a version asks for."""
    if version is None:
        return None, None
    selector = _selector(version)
    if _names.alias_key(selector) == _names.LATEST:
        return None, None
    if _names.is_derived(selector):
        return _names.version_number(selector), None
    return None, _models.checked_alias(selector)


def _selector(version: int | str) -> str:
    """What names a version, of N, ``"N"``, ``vN`` or a name."""
    if isinstance(version, bool) or not isinstance(version, (int, str)):
        raise InvalidInputError(
            f"A version is a number or a name, not {type(version).__name__}.",
            hint="Use N, vN, or a name of it.",
        )
    text = _names.lookup(str(version))
    return f"v{text}" if text.isascii() and text.isdecimal() else text


def _metadata_json(metadata: Mapping[str, Any] | None, name: str) -> str:
    if metadata is not None and not isinstance(metadata, Mapping):
        raise InvalidInputError(
            f"Metadata is a mapping, not {type(metadata).__name__}.", hint="Use a dict."
        )
    return _artifacts.metadata_json(metadata or {}, f"model {name!r}")


def _text(value: str | None, what: str) -> str | None:
    return None if value is None else _names.text(str(value), what)
