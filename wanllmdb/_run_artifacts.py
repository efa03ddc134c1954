"""What a run makes and reads: artifacts, as methods of the run.

Artifacts load when the first of them is made or asked for: `init` has no use for them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wanllmdb import _names
from wanllmdb._run_facts import RunFacts
from wanllmdb._store import Store
from wanllmdb.errors import (
    ArtifactNotFoundError,
    ArtifactStateError,
    InvalidInputError,
    VersionNotFoundError,
)

if TYPE_CHECKING:
    from wanllmdb._artifacts import Artifact
    from wanllmdb._media.base import Value

UNSPECIFIED = "unspecified"
"""The type of files that are logged without one, as W&B has it."""
RUN_TABLE = "run_table"
"""The type of logged tables."""
MODEL = "model"
"""The type of what `log_model` logs; models are what has it in their type's name."""


class RunArtifacts(RunFacts):
    """A run, as far as its artifacts are concerned."""

    def log_artifact(
        self,
        artifact_or_path: Artifact | str | os.PathLike[str],
        name: str | None = None,
        type: str | None = None,
        aliases: Sequence[str] | str | None = None,
        tags: Sequence[str] | str | None = None,
    ) -> Artifact:
        """Commit an artifact as what this run made; durable on return.

        Args:
            artifact_or_path: A draft; or a file, a directory or a reference
                (``s3://...``) that becomes one. A version is noted as made by this run,
                too.
            name: Of what a path becomes; default ``run-ID-FILENAME``.
            type: Its type; default ``unspecified``.
            aliases: Names that shall be this version's; ``latest`` and ``vN`` follow
                from the numbers.
            tags: Further tags of the version.

        Returns:
            The artifact, which is a version now. Content that the newest version has
            gives no new one.

        Raises:
            InvalidInputError: the path or the reference cannot be added.
            ConflictError: an artifact of the name has another type.
            AliasConflictError: an alias is protected.
        """
        artifact = self._as_artifact(artifact_or_path, name, type)
        given, more = _listed(aliases), _listed(tags)
        if artifact.is_draft:
            artifact.tags += [tag for tag in more if tag not in artifact.tags]
        if self._store is None:  # mode "disabled": nothing is kept
            return artifact
        if artifact.is_draft:
            artifact._commit(self._store, self.project, given, self._record)
        else:
            store = self._here(artifact)
            artifact._connect(store, self._record, "output", given, more)
        return artifact

    def use_artifact(
        self,
        artifact_or_name: Artifact | str,
        type: str | None = None,
        aliases: Sequence[str] | str | None = None,
        version: str | int | None = None,
        alias: str | None = None,
        use_as: str | None = None,
    ) -> Artifact:
        """Find an artifact's version, and note that this run reads it.

        Args:
            artifact_or_name: ``[project/]name[:alias|:vN|:@digest]``, without a suffix
                the newest version; or an artifact, which is logged first if it is a
                draft.
            type: Refuse another type than this.
            aliases: Names that shall be the version's from now on.
            version: ``vN`` or N, instead of a suffix.
            alias: An alias, instead of a suffix.
            use_as: Accepted as W&B has it; without effect.

        Raises:
            ArtifactNotFoundError: there is none of that name.
            VersionNotFoundError: it has no such version.
            InvalidInputError: it is of another type.
        """
        del use_as
        from wanllmdb._artifacts import Artifact

        if isinstance(artifact_or_name, Artifact):
            artifact = artifact_or_name
            if artifact.is_draft:
                self.log_artifact(artifact, aliases=aliases)
        else:
            path = _with_selector(artifact_or_name, version, alias)
            artifact = self._find(path, type)
        if self._store is not None:
            given = _listed(aliases)
            artifact._connect(self._here(artifact), self._record, "input", given)
        return artifact

    def logged_artifacts(self) -> list[Artifact]:
        """The versions that this run made, in that order."""
        return self._connected("output")

    def used_artifacts(self) -> list[Artifact]:
        """The versions that this run reads, in that order."""
        return self._connected("input")

    def _log_table(self, key: str, name: str, table: Value) -> None:
        """Commit a logged table as W&B does: `Artifact.get` gives it back."""
        from wanllmdb._artifacts import Artifact

        with self._voice.guarded("log table"):
            words = re.sub("[^A-Za-z0-9_]+", "", key)
            artifact = Artifact(_plain(f"run-{self.id}-{words}"), RUN_TABLE)
            artifact.add(table, name)
            self.log_artifact(artifact)

    # Models

    def log_model(
        self,
        path: str | os.PathLike[str],
        name: str | None = None,
        aliases: Sequence[str] | str | None = None,
    ) -> Artifact:
        """Commit a file or directory as a model that this run made.

        Args:
            path: What becomes an artifact of type ``model``.
            name: Its name; default ``run-ID-FILENAME``.
            aliases: Names that shall be this version's.

        Returns:
            The artifact, as `log_artifact` does.

        Raises:
            InvalidInputError: the path cannot be added.
            ConflictError: an artifact of the name has another type.
        """
        return self.log_artifact(path, name, MODEL, aliases)

    def use_model(self, name: str) -> str:
        """Download a model, and note that this run reads it.

        Args:
            name: As `use_artifact` takes it; ``model-registry/NAME[:vN|:stage|:alias]``
                is a model of the registry.

        Returns:
            The path of its file; of its directory where it has several.

        Raises:
            ArtifactNotFoundError: there is none of that name.
            ModelNotFoundError: the registry has none of that name.
            InvalidInputError: it is no model.
        """
        artifact = self._find(name)
        _refuse_other(artifact.type, artifact.qualified_name)
        self.use_artifact(artifact)
        return artifact.file() if artifact.file_count == 1 else artifact.download()

    def link_model(
        self,
        path: str | os.PathLike[str],
        registered_model_name: str,
        name: str | None = None,
        aliases: Sequence[str] | str | None = None,
    ) -> Artifact:
        """Log a model, and make it the next version of one in the registry.

        Args:
            path: As `log_model` takes it.
            registered_model_name: The model's name in the registry; made if there is
                none.
            name: The artifact's name; default ``run-ID-FILENAME``.
            aliases: Names of the registry's version; see `Artifact.link`.

        Returns:
            The artifact.

        Raises:
            InvalidInputError: the path cannot be added, or the artifact of the name is
                no model.
            StageConflictError: another version holds the stage.
        """
        model = _names.model(registered_model_name)
        kind = self._model_type(name)
        return self.link_artifact(self.log_artifact(path, name, kind), model, aliases)

    def link_artifact(
        self,
        artifact: Artifact,
        target_path: str,
        aliases: Sequence[str] | str | None = None,
    ) -> Artifact:
        """Make an artifact's version the next one of a model; see `Artifact.link`.

        Args:
            artifact: A version; or a draft, which is logged first.
            target_path: The model.
            aliases: Names of the registry's version.

        Raises:
            InvalidInputError: it is in another Store.
            StageConflictError: another version holds the stage.
        """
        _names.model_of(target_path)  # before anything is logged
        if artifact.is_draft:
            self.log_artifact(artifact)
        if self._store is not None:
            self._here(artifact)
            artifact.link(target_path, aliases)
        return artifact

    def _model_type(self, name: str | None) -> str:
        """The type of a model's artifact: another one than ``model`` may be kept."""
        if name is None or self._store is None:
            return MODEL
        try:
            found = self._find(_names.artifact(name))
        except (ArtifactNotFoundError, VersionNotFoundError):
            return MODEL
        _refuse_other(found.type, found.qualified_name)
        return found.type

    def _as_artifact(
        self,
        given: Artifact | str | os.PathLike[str],
        name: str | None,
        type: str | None,
    ) -> Artifact:
        from wanllmdb._artifacts import Artifact

        if isinstance(given, Artifact):
            return given
        path = Path(os.fspath(given))
        uri = given if isinstance(given, str) and "://" in given else None
        last = path.name if uri is None else _last_part(uri)
        artifact = Artifact(
            name or _plain(f"run-{self.id}-{last}"), type or UNSPECIFIED
        )
        if uri is not None:
            artifact.add_reference(uri)
        elif path.is_dir():
            artifact.add_dir(path)
        else:
            artifact.add_file(path)
        return artifact

    def _find(self, path: str, type: str | None = None) -> Artifact:
        from wanllmdb import _artifacts

        return _artifacts.find(self._required(), path, self.project, type)

    def _connected(self, direction: str) -> list[Artifact]:
        from wanllmdb import _artifacts

        return _artifacts.of_run(self._required(), self._record, direction)

    def _here(self, artifact: Artifact) -> Store:
        """This run's Store, in which an artifact must be."""
        store = self._required()
        if artifact._place().path != store.path:
            raise InvalidInputError(
                f"{artifact.qualified_name} is in another Store.",
                hint="Log a draft of it: artifact.new_draft().",
            )
        return store

    def _required(self) -> Store:
        if self._store is None:
            raise ArtifactStateError(
                'Nothing is stored in mode "disabled".', hint="Use mode local."
            )
        return self._store


def _refuse_other(kind: str, path: str) -> None:
    if MODEL not in kind.lower():
        raise InvalidInputError(
            f"{path} is of type {kind!r}, and no model.",
            hint="use_artifact and link_artifact take any type.",
        )


def _listed(given: Sequence[str] | str | None) -> list[str]:
    return [given] if isinstance(given, str) else list(given or ())


def _with_selector(name: str, version: str | int | None, alias: str | None) -> str:
    selector: Any = version if version is not None else alias
    if selector is None:
        return name
    if ":" in name.rpartition("/")[2]:
        raise InvalidInputError(
            f"{name!r} names a version, and so does {selector!r}.", hint="Give one."
        )
    return f"{name}:{f'v{selector}' if isinstance(selector, int) else selector}"


def _last_part(uri: str) -> str:
    from wanllmdb import _references

    return _references.parse(uri).name


def _plain(name: str) -> str:
    """A name as artifacts have it, of a file's name."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", name)[:128]
