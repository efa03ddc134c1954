"""Artifacts: a handle on one version, or on a draft that becomes one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any

from wanllmdb import (
    _changes,
    _downloads,
    _joint,
    _json,
    _models,
    _names,
    _progress,
    _values,
    _versions,
)
from wanllmdb._artifacts import unstored
from wanllmdb._artifacts.draft import explained
from wanllmdb._artifacts.entries import ArtifactEntry, EntryPath
from wanllmdb._artifacts.media import HoldsMedia
from wanllmdb._catalog.schema import METADATA_LIMIT
from wanllmdb._manifest import Manifest, entry_path
from wanllmdb._staging import Staging
from wanllmdb._store import Store
from wanllmdb.errors import (
    ArtifactStateError,
    IntegrityError,
    InvalidInputError,
    MissingBlobError,
)
from wanllmdb.types import (
    Digest,
    JSONValue,
    NewModelVersion,
    NewVersion,
    RunRecord,
    VersionRecord,
)

DIRECTORY = "artifacts"
"""Where downloads go, below the working directory."""


class Artifact(HoldsMedia):
    """A named, typed series of versions; this is a handle on one of them.

    Made here, it is a draft: files are added, and `Run.log_artifact` commits it. Got by
    `Run.use_artifact` or `Api.artifact`, it is a version, whose content never changes.

    Args:
        name: 1 to 128 letters, digits, dots, dashes and underscores.
        type: What kind of thing it is: ``dataset``, ``model``, ...
        description: For people.
        metadata: Anything JSON holds, 100 KB at most.
        tags: Of this version.
        incremental: Accepted as W&B has it; without effect.
        use_as: Accepted as W&B has it; without effect.

    Raises:
        InvalidNameError: the name or the type is none.
    """

    def __init__(
        self,
        name: str,
        type: str,
        description: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        tags: Sequence[str] | str | None = None,
        incremental: bool = False,
        use_as: str | None = None,
        **_: Any,
    ) -> None:
        del incremental, use_as
        self._name = _names.artifact(name)
        self._type = _names.artifact_type(type)
        self._description = description
        self._metadata: dict[str, Any] = dict(metadata or {})
        self._tags = list(_names.tags(tags))
        self._aliases: list[str] = []
        self._ttl_us: int | None = None
        self._store: Store | None = None
        self._record: VersionRecord | None = None
        self._manifest: Manifest | None = Manifest()
        self._staging: Staging | None = None
        self._origin: Store | None = None
        self._mutex = os.getpid(), RLock()
        self._unkept = self._added = False

    @classmethod
    def _of(cls, store: Store, record: VersionRecord) -> Artifact:
        """A handle on a version."""
        made = cls.__new__(cls)
        made._staging = None
        made._mutex = os.getpid(), RLock()
        made._unkept = made._added = False
        made._adopt(store, record)
        return made

    def _adopt(self, store: Store, record: VersionRecord) -> None:
        if self._staging is not None:
            self._staging.discard()
        self._name, self._type = record.name, record.type
        self._description = record.description
        self._metadata = _json.loads(record.metadata_json)
        self._tags, self._aliases = list(record.tags), list(record.aliases)
        self._ttl_us = record.ttl_us
        self._store, self._record = store, record
        self._manifest = self._staging = self._origin = None

    def _vanish(
        self,
        project: str,
        selector: str = _names.LATEST,
        aliases: Sequence[str] = (),
    ) -> None:
        """Be a handle on a version that is nowhere, as mode "disabled" has them."""
        digest = self.digest
        if self._staging is not None:
            self._staging.discard()
        self._staging = self._origin = None
        self._aliases = list(dict.fromkeys([*self._aliases, *aliases]))
        self._record = unstored.record(project, self._said(), digest, selector)

    def _follow(self, store: Store, record: VersionRecord) -> None:
        """Be a handle on the version as it is now, with what is not saved yet."""
        read, said = self._committed(), (self._description, self._ttl_us)
        before, mine = _json.loads(read.metadata_json), self._metadata
        tags, names = self._tags, self._aliases
        self._adopt(store, record)
        if said[0] != read.description:
            self._description = said[0]
        if said[1] != read.ttl_us:
            self._ttl_us = said[1]
        self._metadata = _changes.rebased(before, mine, self._metadata)
        self._tags = _changes.rebased_names(read.tags, tags, record.tags)
        self._aliases = _changes.rebased_names(read.aliases, names, record.aliases)

    def wait(self, timeout: float | None = None) -> Artifact:
        """Return at once: a commit is done when its call returns, and so is an upsert.

        Raises:
            ArtifactStateError: it is a draft, and was not added to a joint one.
        """
        del timeout
        if not self._added:
            self._committed()
        return self

    def get_path(self, name: str | os.PathLike[str]) -> EntryPath:
        """The path of an entry's file, written if it is not there.

        Raises:
            EntryNotFoundError: there is none.
        """
        entry = self.get_entry(name)
        path = EntryPath(entry.download())
        path._entry = entry
        return path

    def files(
        self, names: Sequence[str] | None = None, **_: Any
    ) -> list[ArtifactEntry]:
        """Its entries, by path; or those of some paths.

        Raises:
            EntryNotFoundError: there is none of one of the paths.
        """
        if names is not None:
            return [self.get_entry(name) for name in names]
        return list(self.manifest.values())

    def file(self, root: str | os.PathLike[str] | None = None) -> str:
        """Download the one file of an artifact that has one; its path.

        Raises:
            InvalidInputError: it has none, or several.
        """
        if self._is_nowhere and not self.file_count:
            return self.download(root)
        if self.file_count != 1:
            raise InvalidInputError(
                f"Artifact {self.name} has {self.file_count} files.",
                hint="Use download(), or get_entry(name).download().",
            )
        return self.files()[0].download(root)

    def download(
        self,
        root: str | os.PathLike[str] | None = None,
        allow_missing_references: bool = False,
        skip_cache: bool | None = None,
        path_prefix: str | os.PathLike[str] | None = None,
        multipart: bool | None = None,
        *,
        references: bool = False,
    ) -> str:
        """Write its files, as copies that may be changed; those that are right stay.

        Args:
            root: The directory; default ``./artifacts/NAME-vN``.
            allow_missing_references: Leave out references at which nothing is any more,
                with a warning each; what fails otherwise, fails.
            skip_cache: Accepted as W&B has it; without effect.
            path_prefix: Only this path, or what is below it.
            multipart: Accepted as W&B has it; without effect.
            references: Fetch what references point at, too; otherwise they are left
                out, and no network is asked.

        Returns:
            The directory.

        Raises:
            EntryNotFoundError: nothing is at `path_prefix`.
            DigestMismatchError: bytes have changed, in the Store or where a reference
                points.
            RemoteError: what a reference points at cannot be read.
        """
        del skip_cache, multipart
        how = {"references": references, "allow_missing": allow_missing_references}
        if path_prefix is None or self._is_nowhere:
            return str(self._download(root, None, **how))
        path = entry_path(path_prefix)
        entry = self._entries.find(path)
        below = [entry] if entry is not None else self._entries.below(path)
        if not below:
            raise self._lacks(path)
        paths = [found.path for found in below]
        return str(self._download(root, paths, **how))

    def _download(
        self,
        root: str | os.PathLike[str] | None,
        paths: Sequence[str] | None,
        *,
        references: bool = False,
        allow_missing: bool = False,
    ) -> Path:
        place = Path(os.fspath(root)) if root is not None else self._default_root()
        if self._is_nowhere:
            return place
        record, store = self._committed(), self._place()
        wanted = None if paths is None else set(paths)
        entries = [e for e in self._entries if wanted is None or e.path in wanted]
        total = sum(entry.size or 0 for entry in entries)
        with _progress.shown(f"downloading {self.name}", total) as told:
            _downloads.write(
                store, record, entries, place, told, references=references,
                allow_missing=allow_missing,
                tidy=len(entries) == len(self._entries),  # once, not for each of many
            )  # fmt: skip
        return place

    def _default_root(self) -> Path:
        return Path(DIRECTORY) / f"{self._name}-{self.version}"

    def checkout(self, root: str | os.PathLike[str] | None = None) -> str:
        """Make a directory hold exactly its files: what else is in it is removed.

        Args:
            root: The directory; default as `download`.

        Raises:
            InvalidInputError: the directory is the home, a root, or holds the Store.
        """
        place = Path(os.fspath(root)) if root is not None else self._default_root()
        if self._is_nowhere:
            return str(place)
        goal, store = place.resolve(), self._place()
        for kept in (store.path.resolve(), Path.home().resolve()):
            if kept.is_relative_to(goal):
                raise InvalidInputError(
                    f"A checkout would remove all else in {goal}.",
                    hint="Name a directory of its own.",
                )
        _downloads.refuse_store(store, place)
        # First: a file of another version may be where this one has a directory.
        _downloads.remove_others(place, self._entries)
        self._download(place, None)
        return str(place)

    def verify(
        self,
        root: str | os.PathLike[str] | None = None,
        *,
        references: bool = False,
    ) -> bool:
        """Compare every byte with its digest.

        Args:
            root: A directory that it was downloaded to; default the bytes in the Store.
            references: Read what references point at, too, and compare it with what is
                known of it; below a `root`, what was fetched there.

        Returns:
            True, where all are right; bytes that lie at a remote, and are not here,
            are left to it.

        Raises:
            IntegrityError: bytes are missing, or have changed; the message names them.
        """
        if self._is_nowhere:
            return True
        place = None if root is None else Path(os.fspath(root))
        found = list(
            _downloads.problems(
                self._place(), self._committed(), self._entries, place,
                references=references,
            )
        )  # fmt: skip
        if found:
            more = f"; and {len(found) - 5} more" if found[5:] else ""
            raise IntegrityError(
                "; ".join(found[:5]) + more + ".",
                hint=f"Do not use it. {_downloads.HEALED}" if place is None
                else "Download it again.",
                problems=len(found),
            )  # fmt: skip
        return True

    def save(self, *_: Any, **__: Any) -> None:
        """Store what was changed of a version: description, metadata, tags, aliases.

        Raises:
            ArtifactStateError: it is a draft; `Run.log_artifact` commits it.
            AliasConflictError: an alias that was moved is protected.
        """
        if self._is_nowhere:
            return
        store = self._place()
        self._adopt(store, _versions.say(store, self._edits()))

    def delete(self, delete_aliases: bool = False, force: bool = False) -> None:
        """Move the version to the trash.

        Args:
            delete_aliases: Remove its aliases, too.
            force: Also while a live run reads it.

        Raises:
            VersionInUseError: it has aliases, is a model's, or a live run reads it.
        """
        if self._is_nowhere:
            return
        _versions.delete(
            self._place(), self._committed(),
            delete_aliases=delete_aliases, force=force,
        )  # fmt: skip

    def link(
        self, target_path: str, aliases: Sequence[str] | str | None = None
    ) -> Artifact:
        """Make the version the next one of a model; see `ModelRegistry`.

        Args:
            target_path: The model: ``NAME``, ``model-registry/NAME`` or
                ``wandb-registry-model/NAME``; it is made if there is none.
            aliases: Names of the model's version. Those of stages (``staging``,
                ``production``) move it there.

        Returns:
            The artifact itself.

        Raises:
            ArtifactStateError: it is a draft.
            StageConflictError: another version holds the stage.
        """
        given = [aliases] if isinstance(aliases, str) else aliases or ()
        said = _models.linked_as(given, NewModelVersion())
        model = _names.model_of(target_path)
        if not self._is_nowhere:
            _models.link(self._place(), self._committed(), model, said)
        return self

    def unlink(self, target_path: str | None = None, force: bool = False) -> None:
        """Take the version out of the models that link to it.

        Args:
            target_path: Out of this model only.
            force: Also where it is in production.

        Raises:
            StateError: it is not linked.
            VersionInUseError: it is in production, and force is not given.
        """
        model = None if target_path is None else _names.model_of(target_path)
        if self._is_nowhere:
            return
        _models.unlink_version(self._place(), self._committed(), model, force=force)

    def new_draft(self) -> Artifact:
        """A draft of the same name, type and content."""
        made = Artifact(
            self._name, self._type, self._description, self._metadata, self._tags
        )
        made._manifest, made._origin = Manifest(self._entries), self._store
        made._unkept = self._unkept
        if self._staging is not None:
            made._staging = Staging(self._staging.store)
            made._staging.copy(self._stored(), self._staging.path_of)
        return made

    # Inside

    def _said(self) -> NewVersion:
        return NewVersion(
            self._name, self._type, Digest(""), self.file_count, self.size,
            self._description,
            metadata_json(self._metadata, f"artifact {self._name!r}"),
            _names.tags(self._tags), self._ttl_us,
        )  # fmt: skip

    def _commit(
        self,
        store: Store,
        project: str,
        aliases: Sequence[str],
        run: RunRecord | None = None,
    ) -> None:
        """Make the draft a version, and this a handle on it."""
        with self._alone(), explained(store), self._bytes_there():
            draft = self._to_commit(store, aliases)
            self._adopt(store, _versions.commit(store, project, draft, run))

    def _add_jointly(
        self, store: Store, adder: _joint.Adder, aliases: Sequence[str]
    ) -> None:
        """Add the draft's content to a joint draft; it stays a draft."""
        with self._alone(), explained(store):
            with self._bytes_there():
                _joint.add(store, self._to_commit(store, aliases), adder)
            # Its bytes are blobs now, of that Store.
            self._staging, self._origin, self._added = None, store, True

    def _finish_jointly(
        self, store: Store, adder: _joint.Adder, aliases: Sequence[str]
    ) -> None:
        """Make a joint draft a version, and this a handle on it."""
        with self._alone(), explained(store), self._bytes_there():
            draft = self._to_commit(store, aliases)
            self._adopt(store, _joint.finish(store, draft, adder))

    def _to_commit(self, store: Store, aliases: Sequence[str]) -> _versions.Draft:
        self._draft()
        self._bring_to(store)
        return _versions.Draft(
            self._said(), self._entries, self._staging, [*self._aliases, *aliases]
        )

    @contextmanager
    def _bytes_there(self) -> Iterator[None]:
        """Say it where bytes are missing because they were not to be kept."""
        try:
            yield
        except MissingBlobError as error:
            if not self._unkept:
                raise
            raise ArtifactStateError(
                f'Artifact {self._name!r} was made in mode "disabled", which keeps no'
                " bytes.",
                hint="Add its files again while a run is recorded.",
                artifact=self._name,
            ) from error

    def _edits(self) -> _versions.Edits:
        return _versions.Edits(self._committed(), self._said(), self._aliases)

    def _made_by(self, store: Store, run: RunRecord, aliases: Sequence[str]) -> None:
        """Note that a run made this version, too; what was not saved yet is."""
        edits = self._edits()
        self._adopt(
            store,
            _versions.connect(store, edits.read, run, "output", aliases, edits),
        )

    def _read_by(self, store: Store, run: RunRecord, aliases: Sequence[str]) -> None:
        """Note that a run reads this version."""
        record = self._committed()
        self._follow(store, _versions.connect(store, record, run, "input", aliases))


def metadata_json(metadata: Mapping[str, Any], whose: str) -> str:
    """Metadata as the Catalog holds it.

    Raises:
        InvalidInputError: it is too large; the message says `whose`, and which key.
    """
    clean: JSONValue = _values.config_value(metadata)
    assert isinstance(clean, dict)
    text = _json.dumps(clean)
    if len(text.encode()) > METADATA_LIMIT:
        largest = max(clean, key=lambda key: len(json.dumps(clean[key], default=str)))
        raise InvalidInputError(
            f"The metadata of {whose} has {len(text.encode())} bytes of"
            f" {METADATA_LIMIT}; its largest key is {largest!r}.",
            hint="Add it as a file instead.", key=largest,
        )  # fmt: skip
    return text
