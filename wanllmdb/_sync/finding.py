"""Things at a remote by their names: what is not here yet can be asked for, too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from wanllmdb import _names
from wanllmdb._sync.batch import read
from wanllmdb._sync.peer import Peer
from wanllmdb._sync.pull import devices
from wanllmdb.errors import (
    AmbiguousNameError,
    ArtifactNotFoundError,
    ProjectNotFoundError,
    RunNotFoundError,
)


@dataclass(slots=True)
class Index:
    """What batches tell of names: of each thing the ones that it ever had.

    Attributes:
        projects: Names, by uid.
        runs: (uid of the project, ids), by uid.
        artifacts: (uid of the project, names), by uid.
    """

    projects: dict[str, set[str]] = field(default_factory=dict)
    runs: dict[str, tuple[str, set[str]]] = field(default_factory=dict)
    artifacts: dict[str, tuple[str, set[str]]] = field(default_factory=dict)

    def add(self, document: dict[str, Any]) -> None:
        """Note the name of a thing, if it has one."""
        entity, uid = document["entity"], document["uid"]
        if "gone" in document:
            return
        if entity == "project":
            name = document["fields"]["name"]["v"]
            self.projects.setdefault(uid, set()).add(name)
        elif entity == "run":
            held = self.runs.setdefault(uid, (document["project"], set()))
            held[1].add(document["fields"]["run_id"]["v"])
        elif entity == "artifact":
            held = self.artifacts.setdefault(uid, (document["project"], set()))
            held[1].add(document["fields"]["name"]["v"])

    def in_project(self, uid: str, name: str | None) -> bool:
        """Whether a project has a name; None: any will do."""
        return name is None or name in self.projects.get(uid, ())


def index(peer: Peer) -> Index:
    """The names of all that a remote was ever told of; every batch is read.

    Raises:
        IntegrityError: a batch is damaged.
        RemoteError: it cannot be reached, or refuses.
    """
    peer.check()
    found = Index()
    for document in _documents(peer):
        found.add(document)
    return found


def _documents(peer: Peer) -> Iterator[dict[str, Any]]:
    for device in devices(peer):
        seq = 1
        while (batch := read(peer.remote, device, seq)) is not None:
            yield from batch.documents
            seq += 1


def run(found: Index, path: str, project: str | None, remote: str) -> str:
    """The uid of a run at a remote.

    Args:
        found: What is there.
        path: ``[project/]id``.
        project: Where the path names none; None: any.
        remote: The remote's name, for people.

    Raises:
        RunNotFoundError: it has none.
        AmbiguousNameError: it has several.
    """
    head, _, run_id = path.rpartition("/")
    wanted = head or project
    uids = [
        uid
        for uid, (place, ids) in found.runs.items()
        if run_id in ids and found.in_project(place, wanted)
    ]
    if not uids:
        raise RunNotFoundError(
            f"There is no run {path!r}, neither here nor at {remote}.",
            hint="Give its id, or PROJECT/ID; names and prefixes are known of runs that"
            " are here.",
            run=path,
        )
    if len(uids) > 1:
        raise AmbiguousNameError(
            f"{remote} has several runs {path!r}.", hint="Name the project.", run=path
        )
    return uids[0]


def projects(found: Index, name: str, remote: str) -> set[str]:
    """The uids of the projects of a name at a remote.

    Raises:
        ProjectNotFoundError: there is none.
    """
    uids = {uid for uid, names in found.projects.items() if name in names}
    if not uids:
        raise ProjectNotFoundError(
            f"There is no project {name!r}, neither here nor at {remote}.",
            hint="Check the name; `wanllmdb pull` takes all.", project=name,
        )  # fmt: skip
    return uids


def artifacts(found: Index, path: str, project: str | None, remote: str) -> set[str]:
    """The uids of the artifacts of a name at a remote.

    Args:
        found: What is there.
        path: ``[project/]name``.
        project: Where the path names none; None: any.
        remote: The remote's name, for people.

    Raises:
        ArtifactNotFoundError: there is none.
    """
    named, name, _ = _names.artifact_path(path)
    uids = {
        uid
        for uid, (place, names) in found.artifacts.items()
        if name in names and found.in_project(place, named or project)
    }
    if not uids:
        raise ArtifactNotFoundError(
            f"There is no artifact {path!r} at {remote}.",
            hint="Check the name; `wanllmdb pull` takes all.", artifact=path,
        )  # fmt: skip
    return uids
