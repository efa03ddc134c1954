"""What an artifact is: its names, its size, what is said of it, where it is from."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wanllmdb import _clock, _lineage, _versions
from wanllmdb._artifacts.aliases import HasAliases
from wanllmdb._artifacts.entries import ArtifactEntry
from wanllmdb._catalog import artifacts, runs
from wanllmdb._lineage import Lineage
from wanllmdb._manifest import Entry, Manifest, entry_path
from wanllmdb._store import Store
from wanllmdb.errors import ArtifactStateError, EntryNotFoundError
from wanllmdb.types import VersionRecord


class ArtifactFacts(HasAliases):
    """A version, or a draft of one, as far as it is only looked at."""

    _name: str
    _type: str
    _description: str | None
    _metadata: dict[str, Any]
    _tags: list[str]
    _aliases: list[str]
    _ttl_us: int | None
    _store: Store | None
    _record: VersionRecord | None
    _manifest: Manifest | None

    def __repr__(self) -> str:
        return f"<Artifact {self.qualified_name} ({self.type})>"

    @property
    def is_draft(self) -> bool:
        """Whether it is not committed yet."""
        return self._record is None

    @property
    def state(self) -> str:
        """``PENDING`` for a draft, ``COMMITTED`` for a version; as W&B has it."""
        return "PENDING" if self._record is None else "COMMITTED"

    @property
    def id(self) -> str | None:
        """The version's uid; None for a draft."""
        return None if self._record is None else self._record.uid

    @property
    def name(self) -> str:
        """``name:vN``; of a draft the name alone, as W&B has it."""
        return self._name if self._record is None else f"{self._name}:{self.version}"

    @property
    def type(self) -> str:
        """What kind of thing it is."""
        return self._type

    @property
    def project(self) -> str:
        """The project's name.

        Raises:
            ArtifactStateError: it is a draft.
        """
        return self._committed().project

    @property
    def qualified_name(self) -> str:
        """``project/name:vN``; of a draft the name alone."""
        return self._name if self._record is None else self._record.path

    @property
    def version(self) -> str:
        """``vN``.

        Raises:
            ArtifactStateError: it is a draft.
        """
        return f"v{self._committed().number}"

    @property
    def digest(self) -> str:
        """The digest of what it holds: equal content, equal digest."""
        if self._record is not None:
            return self._record.digest
        from wanllmdb import _digest

        return _digest.of_bytes(self._entries.encode())

    @property
    def size(self) -> int:
        """Bytes of all entries, as far as they are known."""
        return self._entries.size if self._record is None else self._record.size

    @property
    def file_count(self) -> int:
        """How many entries it has."""
        return len(self._entries) if self._record is None else self._record.files

    @property
    def manifest(self) -> dict[str, ArtifactEntry]:
        """Its entries by path, sorted."""
        return {entry.path: ArtifactEntry(self, entry) for entry in self._entries}

    @property
    def description(self) -> str | None:
        """What people should know of it; set it, and `save` a version."""
        return self._description

    @description.setter
    def description(self, text: str | None) -> None:
        self._description = text

    @property
    def metadata(self) -> dict[str, Any]:
        """What programs should know of it; change it, and `save` a version."""
        return self._metadata

    @metadata.setter
    def metadata(self, value: Mapping[str, Any]) -> None:
        self._metadata = dict(value)

    @property
    def tags(self) -> list[str]:
        """Its tags; change them, and `save` a version."""
        return self._tags

    @tags.setter
    def tags(self, value: Sequence[str]) -> None:
        self._tags = list(value)

    @property
    def aliases(self) -> list[str]:
        """The names of this version, without those that are derived.

        Change them, and `save` a version.
        """
        return self._aliases

    @aliases.setter
    def aliases(self, value: Sequence[str]) -> None:
        self._aliases = list(value)

    @property
    def ttl(self) -> float | None:
        """Seconds from its creation after which gc may remove it; None: never."""
        return None if self._ttl_us is None else self._ttl_us / 1e6

    @ttl.setter
    def ttl(self, seconds: Any) -> None:
        whole = getattr(seconds, "total_seconds", lambda: seconds)()
        self._ttl_us = None if whole is None else int(whole * 1e6)

    @property
    def created_at(self) -> str | None:
        """When it was committed, ISO 8601 in UTC; None for a draft."""
        return None if self._record is None else _clock.iso(self._record.created_us)

    @property
    def updated_at(self) -> str | None:
        """When something was last said of it, ISO 8601 in UTC; None for a draft."""
        return None if self._record is None else _clock.iso(self._record.updated_us)

    @property
    def source_run(self) -> str | None:
        """``project/id`` of the run that committed it; None where none did."""
        record = self._committed()
        if record.run_pk is None:
            return None
        return runs.read(self._place().catalog.reader, record.run_pk).path

    def logged_by(self) -> str | None:
        """The run that committed it; see `source_run`."""
        return self.source_run

    def used_by(self) -> list[str]:
        """``project/id`` of the runs that read it, in that order."""
        if self._is_nowhere:
            return []
        reader = self._place().catalog.reader
        found = artifacts.runs_of(reader, self._committed().pk, "input")
        return [runs.read(reader, pk).path for pk in found]

    def lineage(self, depth: int | None = None) -> Lineage:
        """What it was made from, and what was made with it; runs and versions.

        Args:
            depth: Steps to follow; None: all.
        """
        if self._is_nowhere:
            node = _lineage.Node("version", 0, self.qualified_name, deleted=False)
            return Lineage(node, [node])
        return _lineage.of_version(self._place(), self._committed(), depth)

    def get_entry(self, name: str | os.PathLike[str]) -> ArtifactEntry:
        """The entry of a path.

        Raises:
            EntryNotFoundError: there is none.
        """
        path = entry_path(name)
        entry = self._entries.find(path)
        if entry is None and self._is_nowhere:
            entry = Entry(path, None, None)
        if entry is None:
            raise self._lacks(path)
        return ArtifactEntry(self, entry)

    # Inside

    @property
    def _is_nowhere(self) -> bool:
        """Whether it is a version of mode "disabled"."""
        return self._record is not None and self._store is None

    @abstractmethod
    def _download(
        self,
        root: str | os.PathLike[str] | None,
        paths: Sequence[str] | None,
        *,
        references: bool = False,
    ) -> Path: ...

    @property
    def _entries(self) -> Manifest:
        if self._manifest is None:
            self._manifest = _versions.manifest_of(self._place(), self._committed())
        return self._manifest

    def _place(self) -> Store:
        record = self._committed()
        if self._store is None:
            raise ArtifactStateError(
                f"{record.path} is of mode \"disabled\", and stored nowhere.",
                hint="Log a draft with a run that is recorded.", artifact=record.path,
            )  # fmt: skip
        return self._store

    def _committed(self) -> VersionRecord:
        if self._record is None:
            raise ArtifactStateError(
                f"Artifact {self._name!r} is a draft.",
                hint="Commit it: run.log_artifact(artifact).", artifact=self._name,
            )  # fmt: skip
        return self._record

    def _draft(self) -> None:
        if self._record is not None:
            raise ArtifactStateError(
                f"{self._record.path} is committed, and never changes.",
                hint="Use new_draft() and log that.", artifact=self._record.path,
            )  # fmt: skip

    def _lacks(self, path: str) -> EntryNotFoundError:
        return EntryNotFoundError(
            f"Artifact {self.name} has no {path!r}.",
            hint="`files()` lists its paths.", artifact=self.name, path=path,
        )  # fmt: skip
