"""Artifacts: a handle on one version, or on a draft that becomes one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path, PosixPath
from threading import RLock
from typing import IO, Any

from wanllmdb import (
    _clock,
    _downloads,
    _files,
    _json,
    _lineage,
    _models,
    _names,
    _progress,
    _settings,
    _stores,
    _values,
    _versions,
)
from wanllmdb._artifact_aliases import HasAliases
from wanllmdb._catalog import artifacts, runs, stat_cache
from wanllmdb._catalog.schema import METADATA_LIMIT
from wanllmdb._lineage import Lineage
from wanllmdb._manifest import Entry, Manifest, entry_path
from wanllmdb._scanning import check_file, is_directory, scan
from wanllmdb._staging import Staged, Staging
from wanllmdb._store import Store
from wanllmdb.errors import (
    ArtifactStateError,
    EntryNotFoundError,
    IntegrityError,
    InvalidInputError,
    VersionNotFoundError,
    WanllmdbError,
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

_POLICIES = ("mutable", "immutable")


class EntryPath(PosixPath):
    """The path of an entry's file, which `download` writes."""

    _entry: ArtifactEntry

    def download(self, root: str | os.PathLike[str] | None = None) -> str:
        """Write the entry's file; see `ArtifactEntry.download`."""
        return self._entry.download(root)


class ArtifactEntry:
    """One path of an artifact.

    Attributes:
        path: Where it is in the artifact.
        digest: ``sha256:`` and hex; None for a reference of unknown content.
        size: Bytes; None for a reference of unknown size.
        ref: What a reference points at; None for stored bytes.
        md5: Of a reference, the MD5 that was given for it; else None.
    """

    def __init__(self, artifact: Artifact, entry: Entry) -> None:
        self._artifact = artifact
        self.path = entry.path
        self.digest = entry.digest
        self.size = entry.size
        self.ref = entry.uri
        self.md5 = entry.md5

    def __repr__(self) -> str:
        return f"<Entry {self.path!r} of {self._artifact.name}>"

    @property
    def name(self) -> str:
        """Its path, as W&B calls it."""
        return self.path

    def ref_target(self) -> str:
        """What a reference points at.

        Raises:
            InvalidInputError: it is no reference.
        """
        if self.ref is None:
            raise InvalidInputError(
                f"{self.path!r} is no reference.", hint="download() gives its bytes."
            )
        return self.ref

    def download(
        self,
        root: str | os.PathLike[str] | None = None,
        *,
        references: bool = False,
        **_: Any,
    ) -> str:
        """Write the file, unless it is there and right; its path.

        Args:
            root: Below which directory; default as `Artifact.download`.
            references: Fetch what a reference points at.

        Raises:
            InvalidInputError: it is a reference, and fetching was not asked for.
        """
        if self.ref is not None and not references:
            raise InvalidInputError(
                f"{self.path!r} is a reference, whose bytes are elsewhere.",
                hint="Fetch them: download(references=True) of the entry.",
            )
        place = self._artifact._download(root, [self.path], references=references)
        return str(place / self.path)


class Artifact(HasAliases):
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

    @classmethod
    def _of(cls, store: Store, record: VersionRecord) -> Artifact:
        """A handle on a version."""
        made = cls.__new__(cls)
        made._staging = None
        made._mutex = os.getpid(), RLock()
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

    def __repr__(self) -> str:
        return f"<Artifact {self.qualified_name} ({self.type})>"

    # What it is

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
        reader = self._place().catalog.reader
        found = artifacts.runs_of(reader, self._committed().pk, "input")
        return [runs.read(reader, pk).path for pk in found]

    def lineage(self, depth: int | None = None) -> Lineage:
        """What it was made from, and what was made with it; runs and versions.

        Args:
            depth: Steps to follow; None: all.
        """
        return _lineage.of_version(self._place(), self._committed(), depth)

    # A draft's content

    def add_file(
        self,
        local_path: str | os.PathLike[str],
        name: str | None = None,
        is_tmp: bool | None = False,
        skip_cache: bool | None = False,
        policy: str | None = "mutable",
        overwrite: bool = False,
    ) -> ArtifactEntry:
        """Add a file's bytes as they are now; it may change or vanish afterwards.

        Args:
            local_path: The file; a link is followed.
            name: Its path in the artifact; default the file's name.
            is_tmp: The file's name is a passing one: it is put behind its digest.
            skip_cache: Read the file even where its stat says that it is unchanged.
            policy: Accepted as W&B has it: bytes are always taken at the call.
            overwrite: Take the place of other content of the same path.

        Raises:
            InvalidInputError: it cannot be read, is no regular file, or its path is
                taken by other content.
        """
        _check_policy(policy)
        path = Path(os.fspath(local_path))
        goal = entry_path(name if name is not None else path.name)
        with self._adding() as staging:
            check_file(path)
            source = path.absolute()
            known = (
                {} if skip_cache
                else stat_cache.of_file(staging.store.catalog.reader, str(source))
            )  # fmt: skip
            (held,) = staging.add_files([source], known)
            if is_tmp:
                head, _, tail = goal.rpartition("/")
                goal = entry_path(f"{head}/{held.digest[7:27]}.{tail}".lstrip("/"))
            self._put_all([(goal, held)], overwrite=overwrite)
        return self.get_entry(goal)

    def add_dir(
        self,
        local_path: str | os.PathLike[str],
        name: str | None = None,
        skip_cache: bool | None = False,
        policy: str | None = "mutable",
        merge: bool = False,
        **_: Any,
    ) -> None:
        """Add every file below a directory, as they are now.

        Args:
            local_path: The directory. Links to files are followed, and those to
                directories, but for loops; empty directories and Stores are left out.
            name: The path in the artifact that it becomes; default the root.
            skip_cache: Read all files, also those whose stat says unchanged.
            policy: Accepted as W&B has it.
            merge: Take the place of other content of the same paths.

        Raises:
            InvalidInputError: something in it cannot be added. All that cannot are
                named, and nothing was added.
        """
        _check_policy(policy)
        root = Path(os.fspath(local_path))
        if not is_directory(root):
            raise InvalidInputError(f"{root} is no directory.", hint="Use add_file.")
        with self._adding() as staging:
            place = root.absolute()
            found = scan(place, "" if name is None else entry_path(name))
            known = (
                {} if skip_cache
                else stat_cache.below(staging.store.catalog.reader, str(place))
            )  # fmt: skip
            with _progress.shown(f"adding {root}", sum(f.size for f in found)) as told:
                held = staging.add_files([f.source for f in found], known, told)
            pairs = zip((f.path for f in found), held, strict=True)
            self._put_all(pairs, overwrite=merge)

    def add_reference(
        self,
        uri: str,
        name: str | os.PathLike[str] | None = None,
        checksum: bool = True,
        max_objects: int | None = None,
        size: int | None = None,
        md5_hash: str | None = None,
        sha256_hash: str | None = None,
    ) -> list[ArtifactEntry]:
        """Refer to bytes that stay where they are; nothing of a network is asked.

        What is known of them is compared when they are fetched: see `download`.

        Args:
            uri: ``file://``, ``https://``, ``s3://``, ``gs://`` or ``az://``.
            name: Its path in the artifact, or that of a directory; default the last
                part of the URI, and of a directory's files their own paths.
            checksum: Hash a file now, and each file below a directory, which becomes
                an entry of its own. Of what is elsewhere only what is said is known.
            max_objects: Files that a directory may have; default 10,000.
            size: Bytes that there are.
            md5_hash: Their MD5, 32 hex digits.
            sha256_hash: Their SHA-256, 64 hex digits.

        Returns:
            The new entries.

        Raises:
            InvalidInputError: the URI is refused, a hash or the size is none, the file
                cannot be read, the directory holds too much, or a path is taken.
            DigestMismatchError: the file is not what was said of it.
        """
        from wanllmdb import _referring

        self._draft()
        known = _referring.known(size, md5_hash, sha256_hash)
        limit = _referring.MAX_OBJECTS if max_objects is None else max_objects
        path = None if name is None else entry_path(name)
        new = _referring.entries(uri, path, known, limit, hashed=checksum)
        self._put_entries(new, overwrite=False)
        return [ArtifactEntry(self, entry) for entry in new]

    @contextmanager
    def new_file(
        self, name: str, mode: str = "x", encoding: str | None = None
    ) -> Iterator[IO[Any]]:
        """Open a new file of the artifact for writing; it is added when closed.

        Args:
            name: Its path in the artifact.
            mode: ``x`` or ``w``, with ``b`` for bytes; ``w`` replaces other content.
            encoding: Of text; default UTF-8.

        Raises:
            InvalidInputError: the mode is unknown, or the path is taken.
        """
        kind = mode.replace("b", "").replace("t", "")
        if kind not in ("x", "w"):
            raise InvalidInputError(f"There is no mode {mode!r}.", hint="Use x or w.")
        goal = entry_path(name)
        with self._adding() as staging:
            if kind == "x" and goal in self._entries:
                raise InvalidInputError(
                    f"{goal!r} is in the artifact.", hint='Use mode "w" to replace it.'
                )
            draft = staging.new_path()
        text = None if "b" in mode else encoding or "utf-8"
        try:
            with draft.open(f"w{'b' if text is None else ''}", encoding=text) as file:
                yield file  # what is raised meanwhile is the caller's
            with self._adding() as staging:
                (held,) = staging.add_files([draft])
            self._put_all([(goal, held)], overwrite=kind == "w")
        finally:
            draft.unlink(missing_ok=True)

    def remove(self, item: str | os.PathLike[str] | ArtifactEntry) -> None:
        """Remove a path, or all below it, from the draft.

        Raises:
            EntryNotFoundError: there is none.
        """
        path = item.path if isinstance(item, ArtifactEntry) else entry_path(item)
        with self._alone():
            self._draft()
            found = self._entries.below(path)
            if (one := self._entries.find(path)) is not None:
                found = [one]
            if not found:
                raise self._lacks(path)
            for entry in found:
                self._entries.drop(entry.path)

    def _put_all(self, held: Iterable[tuple[str, Staged]], *, overwrite: bool) -> None:
        new = [Entry(path, staged.digest, staged.size) for path, staged in held]
        self._put_entries(new, overwrite=overwrite)

    def _put_entries(self, new: Sequence[Entry], *, overwrite: bool) -> None:
        """Add entries, all of them or none."""
        with self._alone():
            self._draft()  # another thread may have committed it
            for entry in new:
                before = self._entries.find(entry.path)
                if before is None:
                    self._entries.refuse(entry.path)
                elif before != entry and not overwrite:
                    raise self._taken(entry.path)
            for entry in new:
                self._entries.put(entry)

    def _taken(self, path: str) -> InvalidInputError:
        return InvalidInputError(
            f"{path!r} is in artifact {self.name}, with other content.",
            hint="Use another name, or overwrite=True (merge=True for directories).",
        )

    def _lacks(self, path: str) -> EntryNotFoundError:
        return EntryNotFoundError(
            f"Artifact {self.name} has no {path!r}.",
            hint="`files()` lists its paths.", artifact=self.name, path=path,
        )  # fmt: skip

    @contextmanager
    def _adding(self) -> Iterator[Staging]:
        with self._alone():
            self._draft()
            staging = self._own_staging()
        with _explained(staging.store):
            yield staging

    def _own_staging(self) -> Staging:
        """The draft's bytes, where this process can add to them."""
        held = self._staging
        if held is None or held.inherited or held.store.catalog.closed:
            store = _stores.opened()
            with _explained(store):
                self._staging = (
                    Staging(store) if held is None
                    else held.moved_to(store, self._stored())
                )  # fmt: skip
        assert self._staging is not None
        return self._staging

    def _alone(self) -> AbstractContextManager[bool]:
        """One thread at a time; in a forked child none of the parent's threads is."""
        if self._mutex[0] != os.getpid():
            self._mutex = os.getpid(), RLock()
        return self._mutex[1]

    def _stored(self) -> list[Digest]:
        """The contents that a draft needs the bytes of."""
        return [e.digest for e in self._entries if e.uri is None and e.digest]

    # A version

    def wait(self, timeout: float | None = None) -> Artifact:
        """Return at once: a commit is done when its call returns.

        Raises:
            ArtifactStateError: it is a draft.
        """
        del timeout
        self._committed()
        return self

    def get_entry(self, name: str | os.PathLike[str]) -> ArtifactEntry:
        """The entry of a path.

        Raises:
            EntryNotFoundError: there is none.
        """
        path = entry_path(name)
        entry = self._entries.find(path)
        if entry is None:
            raise self._lacks(path)
        return ArtifactEntry(self, entry)

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
            allow_missing_references: Accepted as W&B has it; without effect.
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
        del allow_missing_references, skip_cache, multipart
        if path_prefix is None:
            return str(self._download(root, None, references=references))
        path = entry_path(path_prefix)
        entry = self._entries.find(path)
        below = [entry] if entry is not None else self._entries.below(path)
        if not below:
            raise self._lacks(path)
        paths = [found.path for found in below]
        return str(self._download(root, paths, references=references))

    def _download(
        self,
        root: str | os.PathLike[str] | None,
        paths: Sequence[str] | None,
        *,
        references: bool = False,
    ) -> Path:
        record, store = self._committed(), self._place()
        place = Path(os.fspath(root)) if root is not None else self._default_root()
        wanted = None if paths is None else set(paths)
        entries = [e for e in self._entries if wanted is None or e.path in wanted]
        total = sum(entry.size or 0 for entry in entries)
        with _progress.shown(f"downloading {self.name}", total) as told:
            _downloads.write(store, record, entries, place, told, references=references)
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
            True, where all are right.

        Raises:
            IntegrityError: bytes are missing, or have changed; the message names them.
        """
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
                "; ".join(found[:5]) + more + ".", hint="Do not use it; add it again.",
                problems=len(found),
            )  # fmt: skip
        return True

    def save(self, *_: Any, **__: Any) -> None:
        """Store what was changed of a version: description, metadata, tags, aliases.

        Raises:
            ArtifactStateError: it is a draft; `Run.log_artifact` commits it.
            AliasConflictError: an alias that was moved is protected.
        """
        record, store = self._committed(), self._place()
        self._adopt(store, _versions.say(store, record, self._said(), self._aliases))

    def delete(self, delete_aliases: bool = False, force: bool = False) -> None:
        """Move the version to the trash.

        Args:
            delete_aliases: Remove its aliases, too.
            force: Also while a live run reads it.

        Raises:
            VersionInUseError: it has aliases, is a model's, or a live run reads it.
        """
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
        _models.unlink_version(self._place(), self._committed(), model, force=force)

    def new_draft(self) -> Artifact:
        """A draft of the same name, type and content."""
        made = Artifact(
            self._name, self._type, self._description, self._metadata, self._tags
        )
        made._manifest, made._origin = Manifest(self._entries), self._store
        if self._staging is not None:
            made._staging = Staging(self._staging.store)
            made._staging.copy(self._stored(), self._staging.path_of)
        return made

    # Inside

    @property
    def _entries(self) -> Manifest:
        if self._manifest is None:
            self._manifest = _versions.manifest_of(self._place(), self._committed())
        return self._manifest

    def _place(self) -> Store:
        self._committed()
        assert self._store is not None
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
        with self._alone(), _explained(store):
            self._draft()
            self._bring_to(store)
            draft = _versions.Draft(
                self._said(), self._entries, self._staging, [*self._aliases, *aliases]
            )
            self._adopt(store, _versions.commit(store, project, draft, run))

    def _bring_to(self, store: Store) -> None:
        """Have the draft's bytes in a Store, wherever they were put before."""
        staging, origin = self._staging, self._origin
        if staging is not None and (
            staging.inherited or staging.store.path != store.path
        ):
            self._staging = staging.moved_to(store, self._stored())
        if origin is not None and origin.path != store.path:
            self._staging = self._staging or Staging(store)
            self._staging.copy(self._stored(), origin.blobs.path_of)

    def _connect(
        self,
        store: Store,
        run: RunRecord,
        direction: str,
        aliases: Sequence[str],
        tags: Sequence[str] = (),
    ) -> None:
        """Note that a run made this version, or reads it."""
        record = self._committed()
        self._adopt(
            store, _versions.connect(store, record, run, direction, aliases, tags)
        )


def put(
    store: Store,
    source: Path,
    path: str,
    type: str,
    *,
    aliases: Sequence[str] = (),
    **said: Any,
) -> Artifact:
    """Commit a file or a directory without a run.

    Args:
        store: Where.
        source: The file or directory.
        path: ``[project/]name``; without a project that of the settings.
        type: The artifact's type.
        aliases: What shall name the version.
        **said: Description, metadata and tags, as `Artifact` takes them.
    """
    project, name, _ = _names.artifact_path(path)
    made = Artifact(name, type, **said)
    made._staging = Staging(store)
    (made.add_dir if source.is_dir() else made.add_file)(source)
    default = _settings.load(store.path)["project"]
    made._commit(store, project or default, aliases)
    return made


def differences(old: Artifact, new: Artifact) -> list[dict[str, Any]]:
    """Paths that one of two versions lacks, or that differ: what, path, both sizes."""
    rows = []
    for path in sorted({e.path for e in old._entries} | {e.path for e in new._entries}):
        before, after = old._entries.find(path), new._entries.find(path)
        if before != after:
            what = "changed" if before and after else "added" if after else "removed"
            rows.append({
                "what": what, "path": path,
                "old_size": before and before.size, "new_size": after and after.size,
            })  # fmt: skip
    return rows


def versions(store: Store, path: str, project: str | None = None) -> list[Artifact]:
    """Every version of an artifact, the newest first.

    Raises:
        ArtifactNotFoundError: there is none of that name.
        AmbiguousNameError: several projects have one of that name.
    """
    named, name, _ = _names.artifact_path(path)
    reader = store.catalog.reader
    found = artifacts.versions(reader, artifacts.find(reader, named or project, name))
    return [Artifact._of(store, record) for record in found]


def newest(
    store: Store, project: str | None = None, type: str | None = None
) -> list[Artifact]:
    """The newest version of each artifact, by project and name."""
    reader = store.catalog.reader
    found = [
        artifacts.newest(reader, record.pk)
        for record in artifacts.listed(reader, project, type)
    ]
    return [Artifact._of(store, record) for record in found if record is not None]


def restored(store: Store, path: str) -> Artifact:
    """Bring a version, given by its number, back from the trash.

    Raises:
        VersionNotFoundError: it is not in the trash.
        AliasConflictError: one of its aliases names another version by now.
    """
    wanted = _names.lookup(path)
    for record in artifacts.trash(store.catalog.reader):
        if wanted in (record.path, record.path.partition("/")[2]):
            return Artifact._of(store, _versions.restore(store, record))
    raise VersionNotFoundError(
        f"There is no version {path!r} in the trash.",
        hint="`wanllmdb trash ls` shows what is.", version=path,
    )  # fmt: skip


def of_run(store: Store, run: RunRecord, direction: str) -> list[Artifact]:
    """The versions that a run made (``output``) or reads (``input``), in that order."""
    found = artifacts.of_run(store.catalog.reader, run.pk, direction)
    return [Artifact._of(store, record) for record in found]


def find(
    store: Store, path: str, project: str | None = None, type: str | None = None
) -> Artifact:
    """The version of a path.

    Args:
        store: Where.
        path: ``[project/]name[:alias|:vN|:@digest]``; in place of the project,
            ``model-registry`` says that the name is a model's.
        project: Where the path names none; None: the only one that has such a name.
        type: Refuse another type than this.

    Raises:
        ArtifactNotFoundError: there is none of that name.
        ModelNotFoundError: there is no such model.
        VersionNotFoundError: it has no such version.
        AmbiguousNameError: several projects have one of that name.
        InvalidInputError: it is of another type.
    """
    named, name, selector = _names.artifact_path(path)
    reader = store.catalog.reader
    if _names.is_registry(named):
        model = _models.find_version(store, name, selector)
        record = artifacts.read(reader, model.version_pk)
    else:
        place = artifacts.find(reader, named or project, name)
        record = artifacts.resolve(reader, place, selector)
    if type is not None and record.type != type:
        raise InvalidInputError(
            f"{record.path} is of type {record.type!r}, not {type!r}.",
            hint="Leave the type out, or name its own.",
        )
    return Artifact._of(store, record)


@contextmanager
def _explained(store: Store) -> Iterator[None]:
    """Say what to do where the system refuses to keep bytes."""
    try:
        yield
    except WanllmdbError:
        raise
    except OSError as error:
        raise _files.explain_os_error(error, store.path) from error


def _check_policy(policy: str | None) -> None:
    if policy is not None and policy not in _POLICIES:
        raise InvalidInputError(
            f"There is no policy {policy!r}.", hint=f"Use {' or '.join(_POLICIES)}."
        )


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
