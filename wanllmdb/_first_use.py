"""Bytes that lie at a remote, brought when they are first used.

No socket is opened but for a blob that is missing here and known to be at a remote.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from wanllmdb import _names, _settings
from wanllmdb._catalog import remotes
from wanllmdb._store import Store
from wanllmdb.errors import (
    ArtifactNotFoundError,
    MissingBlobError,
    NotFoundError,
    RemoteError,
    RemoteNotFoundError,
    VersionNotFoundError,
)

if TYPE_CHECKING:
    from wanllmdb._artifacts import Artifact
    from wanllmdb._settings import Settings


def attach(store: Store, settings: Settings | None = None) -> None:
    """Let a Store that may be written fetch the blobs that it lacks.

    Args:
        store: The Store.
        settings: Whether that is wanted; default those in force when one is lacking.
    """
    if store.read_only:
        return

    def fetch(digests: Collection[str]) -> bool:
        names = _remotes_with(store, digests)
        if not names:
            return False
        if not (settings or _settings.load(store.path))["fetch"]:
            raise MissingBlobError(
                f"The blob {min(digests)} is at the remote {names[0]}, and fetching is"
                " switched off.",
                hint="`wanllmdb pull --full` brings all; fetch=1, what is used.",
                digest=min(digests), remote=names[0],
            )  # fmt: skip
        from wanllmdb._sync.fetch import fetch_blobs

        return fetch_blobs(store, digests)

    store.blobs.fetch = fetch


def _remotes_with(store: Store, digests: Collection[str]) -> list[str]:
    """The remotes, by name, that have one of some blobs."""
    reader = store.catalog.reader
    known = {record.uid: record.name for record in remotes.listed(reader)}
    if not known:
        return []
    held = {uid for digest in digests for uid, _ in remotes.places_of(reader, digest)}
    return [name for uid, name in known.items() if uid in held]


def find(
    store: Store,
    path: str,
    project: str,
    type: str | None,
    settings: Settings,
) -> Artifact:
    """The version of a path: here, else pulled from the remote that is configured.

    Args:
        store: Where.
        path: As `_artifacts.find` takes it.
        project: Where the path names none.
        type: Refuse another type than this.
        settings: Say which remote, and whether it may be asked.

    Raises:
        ArtifactNotFoundError: there is none of that name, here or there.
        VersionNotFoundError: it has no such version, here or there.
        RemoteError: the remote refuses.
    """
    from wanllmdb import _artifacts

    try:
        return _artifacts.find(store, path, project, type)
    except (ArtifactNotFoundError, VersionNotFoundError) as error:
        named, name, _ = _names.artifact_path(path)
        if _names.is_registry(named) or not _is_anywhere_to_ask(store, settings):
            raise
        try:
            _pull(store, settings["remote"], named or project, name)
        except ArtifactNotFoundError:
            raise _added(error, "Nor has the remote one.") from None
        except (RemoteError, RemoteNotFoundError) as fault:
            said = f"The remote cannot be asked: {fault}"
            raise _added(error, said) from fault
        return _artifacts.find(store, path, project, type)


def _is_anywhere_to_ask(store: Store, settings: Settings) -> bool:
    if not settings["fetch"] or store.read_only:
        return False
    default = remotes.find_default(store.catalog.reader)
    return settings["remote"] is not None or default is not None


def _pull(store: Store, remote: str | None, project: str, artifact: str) -> None:
    """Pull one artifact, where the remote has one of the name."""
    from wanllmdb import _sync
    from wanllmdb._sync import finding, peer
    from wanllmdb._sync.choice import Choice

    record = peer.choose(store, remote)
    there = finding.index(peer.Peer(store, record))
    uids = finding.artifacts(there, artifact, project, record.name)
    choice = Choice(artifacts=frozenset(uids))
    _sync.sync(store, record, choice, direction="pull")


def _added(error: NotFoundError, sentence: str) -> NotFoundError:
    """The same error, with one sentence more."""
    return type(error)(f"{error.message} {sentence}", hint=error.hint, **error.identity)
