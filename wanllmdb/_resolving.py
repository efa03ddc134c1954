"""Conflicts between laptops, as people settle them."""

from __future__ import annotations

from collections.abc import Iterator

from wanllmdb import _clock, _names
from wanllmdb._catalog import events, remotes, runs
from wanllmdb._catalog.documents import aliases
from wanllmdb._store import Store, operation
from wanllmdb.errors import InvalidInputError
from wanllmdb.types import RunRecord, VersionRecord

_KINDS = ("run", "run id")


@operation("resolve alias")
def resolve_alias(
    store: Store, version: VersionRecord, alias: str, take: str
) -> int | None:
    """Settle an alias that two laptops moved; durable on return, told by the next sync.

    Args:
        store: Where.
        version: Any version of the artifact.
        alias: Its name.
        take: ``mine``: what it named here; ``theirs``: what it names at the remote.

    Returns:
        The number of the version that it names then, or None.

    Raises:
        InvalidInputError: there is no such conflict, or no such side.
    """
    if take not in ("mine", "theirs"):
        raise InvalidInputError(
            f"An alias is not resolved by {take!r}.", hint="Take mine or theirs."
        )
    with store.catalog.transaction(durable=True) as connection:
        uid = f"{version.artifact_uid}:{_names.alias_key(alias)}"
        open_ = remotes.conflicts(connection)
        if not any(each.kind == "alias" and each.uid == uid for each in open_):
            raise InvalidInputError(
                f"Alias {alias!r} of {version.name} has no conflict.",
                hint="`wanllmdb sync --status` shows those that there are.",
                artifact=version.name, alias=alias,
            )  # fmt: skip
        return aliases.resolve(connection, version.artifact_pk, alias, take)


def described(store: Store, record: RunRecord) -> Iterator[str]:
    """What a run is that sync gave another name, and what can be done; a line each.

    Raises:
        InvalidInputError: it is none.
    """
    reader = store.catalog.reader
    wanted = runs.given_id(reader, record.pk)
    parent = record.parent
    is_branch = any(
        each.kind == "run" and each.uid == record.uid
        for each in remotes.all_conflicts(reader)
    )
    if wanted is None and not is_branch:
        raise InvalidInputError(
            f"Run {record.path} has no conflict.",
            hint="`wanllmdb sync --status` shows those that there are.",
            run=record.path,
        )
    at = _clock.iso(record.started_us)
    if is_branch and parent is not None:
        base = runs.read(reader, parent.run_pk)
        yield (
            f"{record.path} is a branch of {base.path} from step {parent.step + 1},"
            f" written on {record.host} from {at}."
        )
    else:
        yield (
            f"{record.path} is another run that was made as {wanted!r}, on"
            f" {record.host} at {at}."
        )
    short = f"{record.project}/{record.run_id}"
    yield f"`wanllmdb run resolve {short} --id NEW` gives it an id of its own;"
    yield f"`wanllmdb rm {short}` moves it to the trash; or it stays as it is."


@operation("settle run")
def settle(store: Store, record: RunRecord) -> None:
    """Note that people have seen what became of a run, and leave it at that."""
    with store.catalog.transaction(durable=True) as connection:
        count = sum(
            remotes.resolve_conflicts(connection, kind, record.uid) for kind in _KINDS
        )
        if count:
            events.record(connection, "resolve", "run", record.uid, after=record.run_id)


@operation("give run an id")
def give_id(store: Store, record: RunRecord, new: str) -> RunRecord:
    """Give a run an id for good; durable on return, told by the next sync.

    Returns:
        The run as it is then.

    Raises:
        InvalidNameError: it can be no id.
        InvalidInputError: the run has an id of its own.
        RunExistsError: another run of the project has that id.
    """
    list(described(store, record))  # it has a conflict
    with store.catalog.transaction(durable=True) as connection:
        runs.set_id(connection, record, _names.run_id(new))
        for kind in _KINDS:
            remotes.resolve_conflicts(connection, kind, record.uid)
    return runs.read(store.catalog.reader, record.pk)
