"""Projects as a whole: another name, into the trash, and out of it again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wanllmdb import _clock, _versions
from wanllmdb._catalog import artifacts, models, projects, runs
from wanllmdb._liveness import refuse_live
from wanllmdb._store import Store, operation
from wanllmdb.errors import ConflictError, StateError, VersionInUseError

if TYPE_CHECKING:
    import sqlite3

_NAMED = 5
"""So many of what is in the way are named."""


@operation("rename project")
def rename(store: Store, old: str, new: str) -> None:
    """Give a project another name.

    Raises:
        ProjectNotFoundError: none has the old name.
        ConflictError: one has the new name.
    """
    with store.catalog.transaction(durable=True) as connection:
        projects.rename(connection, old, new)


@operation("delete project")
def delete(store: Store, name: str, *, delete_artifacts: bool = False) -> None:
    """Move a project, its runs and its artifacts to the trash; durable on return.

    Args:
        store: Where.
        name: The project's name.
        delete_artifacts: Also where it has artifacts.

    Raises:
        ProjectNotFoundError: there is none.
        RunActiveError: one of its runs is being written.
        ConflictError: it has artifacts, and `delete_artifacts` is not given.
        VersionInUseError: a model links to a version of it, or a run of another project
            reads one.
    """
    with store.catalog.transaction(durable=True) as connection:
        running = runs.find_many(
            connection, project=name, condition={"state": "running"}
        )
        refuse_live(store.liveness, running)
        versions = artifacts.of_project(connection, projects.get(connection, name).name)
        if versions and not delete_artifacts:
            count = len({version.artifact_pk for version in versions})
            raise ConflictError(
                f"Project {name!r} has {len(versions)} versions of {count} artifacts.",
                hint="delete_artifacts=True (`project rm`, confirmed) moves them to the"
                " trash with it.",
                project=name, versions=len(versions), artifacts=count,
            )  # fmt: skip
        _refuse_used(connection, name)
        now = _clock.now_us()
        for version in versions:
            _versions.to_trash(connection, version, now, f"project {name}", force=True)
        projects.delete(connection, name, now)


def _refuse_used(connection: sqlite3.Connection, name: str) -> None:
    linked = models.links_into(connection, name)
    read = artifacts.read_elsewhere(connection, name)
    uses = [f"{version} is {link}" for version, link in linked]
    uses += [f"{version} is read by run {run}" for version, run in read]
    if uses:
        more = f"; and {len(uses) - _NAMED} more" if uses[_NAMED:] else ""
        raise VersionInUseError(
            f"Project {name!r} is needed: {'; '.join(uses[:_NAMED])}{more}.",
            hint="Unlink the models, and remove those runs, first.", project=name,
        )  # fmt: skip


@operation("restore project")
def restore(store: Store, name: str) -> None:
    """Bring back what went to the trash with a project; durable on return.

    Runs and versions that were removed before stay there.

    Raises:
        ProjectNotFoundError: there is none of that name, in the trash or not.
        StateError: nothing that went with it is in the trash.
        AliasConflictError: an alias of a version names another one by now.
    """
    with store.catalog.transaction(durable=True) as connection:
        found = projects.trashed(connection, name)
        if not (found.deleted or found.runs or found.versions):
            raise StateError(
                f"Nothing that went with project {name!r} is in the trash.",
                hint="`wanllmdb trash ls` shows what is.", project=name,
            )  # fmt: skip
        projects.take_out(connection, name)
        for pk in found.runs:
            runs.set_deleted(connection, runs.read(connection, pk), deleted=False)
        for pk in found.versions:
            _versions.out_of_trash(connection, artifacts.read(connection, pk))
