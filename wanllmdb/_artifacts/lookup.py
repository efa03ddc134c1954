"""Finding versions by their paths, listing them, comparing two of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wanllmdb import _downloads, _models, _names, _settings, _versions
from wanllmdb._artifacts.handle import Artifact
from wanllmdb._catalog import artifacts
from wanllmdb._staging import Staging
from wanllmdb._store import Store
from wanllmdb.errors import InvalidInputError, VersionNotFoundError
from wanllmdb.types import RunRecord


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


def count_elsewhere(found: Artifact) -> int:
    """How many of a version's files are not here, but lie at a remote."""
    store = found._place()
    return sum(_downloads.is_elsewhere(store, entry) for entry in found._entries)


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


def nowhere(path: str, type: str, project: str) -> Artifact:
    """A version that is nowhere, for who looks for one in mode "disabled".

    Args:
        path: As `find` takes it.
        type: Its type.
        project: Where the path names none.
    """
    named, name, selector = _names.artifact_path(path)
    made = Artifact(name, type)
    made._vanish(named or project, selector)
    return made


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
