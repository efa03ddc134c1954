"""What a run makes and reads: artifacts, as methods of the run.

Artifacts load when the first of them is made or asked for: `init` has no use for them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wanllmdb import _names
from wanllmdb._run_facts import RunFacts
from wanllmdb._store import Store
from wanllmdb.errors import (
    ArtifactNotFoundError,
    InvalidInputError,
    VersionNotFoundError,
)

if TYPE_CHECKING:
    from wanllmdb._artifacts import Artifact
    from wanllmdb._joint import Adder
    from wanllmdb._liveness import OpenStream
    from wanllmdb._media.base import Value
    from wanllmdb._settings import Settings

UNSPECIFIED = "unspecified"
"""The type of files that are logged without one, as W&B has it."""
RUN_TABLE = "run_table"
"""The type of logged tables."""
MODEL = "model"
"""The type of what `log_model` logs; models are what has it in their type's name."""


class RunArtifacts(RunFacts):
    """A run, as far as its artifacts are concerned."""

    _stream: OpenStream | None
    _settings: Settings

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
                too, and what was changed of its handle is saved.
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
        given = _listed(aliases)
        if self._store is None and not artifact.is_draft:  # mode "disabled"
            return artifact
        artifact.tags = list(dict.fromkeys([*artifact.tags, *_listed(tags)]))
        if self._store is None:
            artifact._vanish(self.project, aliases=given)
        elif artifact.is_draft:
            artifact._commit(self._store, self.project, given, self._record)
        else:
            artifact._made_by(self._here(artifact), self._record, given)
        return artifact

    def upsert_artifact(
        self,
        artifact_or_path: Artifact | str | os.PathLike[str],
        name: str | None = None,
        type: str | None = None,
        aliases: Sequence[str] | str | None = None,
        distributed_id: str | None = None,
    ) -> Artifact:
        """Add to a version that several processes make; durable on return.

        It is committed by `finish_artifact`. What was added stays, whatever becomes of
        its process: while a run of the group lives, and for 30 days.

        Args:
            artifact_or_path: As `log_artifact` takes it, but for a version.
            name: As `log_artifact` takes it.
            type: As `log_artifact` takes it.
            aliases: Names that shall be the version's.
            distributed_id: What all that add to it have in common; default the run's
                group, without one the run, for its ranks.

        Returns:
            The artifact, which is a draft still. More can be added to it, and that be
            added again: what a writer adds takes the place of what it added before.

        Raises:
            ConflictError: somebody else added other content under one of its paths, or
                the artifact of the name has another type. Nothing was added.
            InvalidInputError: the path or the reference cannot be added.
            ArtifactStateError: it is a version.
        """
        artifact = self._as_artifact(artifact_or_path, name, type)
        adder = self._adder(distributed_id)
        if self._store is None:
            artifact._added = True
        else:
            artifact._add_jointly(self._store, adder, _listed(aliases))
        return artifact

    def finish_artifact(
        self,
        artifact_or_path: Artifact | str | os.PathLike[str],
        name: str | None = None,
        type: str | None = None,
        aliases: Sequence[str] | str | None = None,
        distributed_id: str | None = None,
    ) -> Artifact:
        """Commit what was added by `upsert_artifact`, and this, as one version.

        What is added afterwards under the same id is of the next version. Finished
        again with an empty draft, while nothing was added, it is the same version.

        Args:
            artifact_or_path: As `upsert_artifact` takes it; a draft may be empty. A
                version is logged as it is.
            name: As `log_artifact` takes it.
            type: As `log_artifact` takes it.
            aliases: Names that shall be the version's.
            distributed_id: As `upsert_artifact` takes it.

        Returns:
            The artifact, which is a version now: durable, and made by each run that
            added to it. Of metadata that several gave the last value of a key counts.

        Raises:
            ConflictError: as `upsert_artifact`; what others added stays.
            ArtifactStateError: the draft is empty, and nothing was ever added.
            AliasConflictError: an alias is protected.
        """
        artifact = self._as_artifact(artifact_or_path, name, type)
        adder = self._adder(distributed_id)
        if self._store is None or not artifact.is_draft:
            return self.log_artifact(artifact, aliases=aliases)
        artifact._finish_jointly(self._store, adder, _listed(aliases))
        return artifact

    def _adder(self, distributed_id: str | None) -> Adder:
        from wanllmdb._joint import Adder

        stream = self._stream
        writer = f"child {os.getpid()}" if stream is None else stream.identity.writer
        shared = distributed_id or self.group or self.id
        return Adder(self._record, writer, _names.text(shared, "distributed_id"))

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
            version: ``vN``, ``N`` or N, instead of a suffix.
            alias: An alias, instead of a suffix; beside `version` it must name that.
            use_as: Accepted as W&B has it; without effect.

        What is not here is pulled from the remote that is configured, if there is one
        and the setting ``fetch`` allows it; its bytes come when they are first used.

        Raises:
            ArtifactNotFoundError: there is none of that name.
            VersionNotFoundError: it has no such version.
            InvalidInputError: it is of another type, or two versions are named.
        """
        del use_as
        artifact = self._chosen(artifact_or_name, type, version, alias)
        if artifact.is_draft:
            self.log_artifact(artifact, aliases=aliases)
        if self._store is not None:
            given = _listed(aliases)
            artifact._read_by(self._here(artifact), self._record, given)
        return artifact

    def _chosen(
        self,
        given: Artifact | str,
        type: str | None,
        version: str | int | None,
        alias: str | None,
    ) -> Artifact:
        """What `use_artifact` is asked for, in one way or in several."""
        from wanllmdb._artifacts import Artifact

        wanted = [s for s in (_number(version), alias) if s is not None]
        if isinstance(given, Artifact):
            artifact = given
            _refuse_type(artifact, type)
            others = self._named_by(artifact, wanted)
        else:
            paths = [f"{_without_selector(given, s)}:{s}" for s in wanted] or [given]
            artifact, *others = [self._found(path, type) for path in paths]
        for other in others:
            if other.id != artifact.id:
                raise InvalidInputError(
                    f"Two versions are asked for: {artifact.qualified_name} and"
                    f" {other.qualified_name}.",
                    hint="Give one of version and alias.",
                )
        return artifact

    def _named_by(self, artifact: Artifact, selectors: Sequence[str]) -> list[Artifact]:
        """The versions of a handle's artifact that selectors name."""
        if selectors and artifact.is_draft:
            raise InvalidInputError(
                f"{artifact.name!r} is a draft, and no version {selectors[0]!r}.",
                hint="Leave version and alias out, or give the artifact's name.",
            )
        base = artifact.qualified_name.partition(":")[0]
        return [self._find(f"{base}:{selector}") for selector in selectors]

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
        artifact = self._find(name, MODEL if self._store is None else None)
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

        if self._store is None:
            return _artifacts.nowhere(path, type or UNSPECIFIED, self.project)
        return _artifacts.find(self._store, path, self.project, type)

    def _found(self, path: str, type: str | None) -> Artifact:
        """As `_find`, but also at the remote that is configured."""
        from wanllmdb import _first_use

        if self._store is None:
            return self._find(path, type)
        return _first_use.find(self._store, path, self.project, type, self._settings)

    def _connected(self, direction: str) -> list[Artifact]:
        from wanllmdb import _artifacts

        if self._store is None:
            return []
        return _artifacts.of_run(self._store, self._record, direction)

    def _here(self, artifact: Artifact) -> Store:
        """This run's Store, in which an artifact must be."""
        assert self._store is not None
        if artifact._place().path != self._store.path:
            raise InvalidInputError(
                f"{artifact.qualified_name} is in another Store.",
                hint="Log a draft of it: artifact.new_draft().",
            )
        return self._store


def _refuse_type(artifact: Artifact, type: str | None) -> None:
    if type not in (None, artifact.type):
        raise InvalidInputError(
            f"{artifact.qualified_name} is of type {artifact.type!r}, not {type!r}.",
            hint="Leave the type out, or name its own.",
        )


def _refuse_other(kind: str, path: str) -> None:
    if MODEL not in kind.lower():
        raise InvalidInputError(
            f"{path} is of type {kind!r}, and no model.",
            hint="use_artifact and link_artifact take any type.",
        )


def _listed(given: Sequence[str] | str | None) -> list[str]:
    return [given] if isinstance(given, str) else list(given or ())


def _number(version: str | int | None) -> str | None:
    """``vN`` of N; a text as it is, where it is that already."""
    text = None if version is None else str(version)
    return f"v{text}" if text is not None and text.isdecimal() else text


def _without_selector(name: str, selector: str) -> str:
    if ":" in name.rpartition("/")[2]:
        raise InvalidInputError(
            f"{name!r} names a version, and so does {selector!r}.", hint="Give one."
        )
    return name


def _last_part(uri: str) -> str:
    from wanllmdb import _references

    return _references.parse(uri).name


def _plain(name: str) -> str:
    """A name as artifacts have it, of a file's name."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", name)[:128]
