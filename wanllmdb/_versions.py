"""Versions: committing them, moving their aliases, the trash.

The order of a commit: new blobs are durable, and so is the manifest; then ONE durable
transaction adds the version, its aliases and its lineage. Meanwhile gc is kept out.
Every change writes its event in the same transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from wanllmdb import (
    _changes,
    _clock,
    _digest,
    _files,
    _json,
    _names,
    _observers,
    _voice,
)
from wanllmdb._catalog import (
    aliases,
    artifacts,
    deleted_models,
    events,
    models,
    projects,
    remotes,
    runs,
    stat_cache,
)
from wanllmdb._manifest import Manifest, decode
from wanllmdb._staging import Staging
from wanllmdb._store import Store, operation
from wanllmdb.errors import (
    AliasConflictError,
    ArtifactNotFoundError,
    IntegrityError,
    MissingBlobError,
    StateError,
    VersionInUseError,
)
from wanllmdb.types import (
    Digest,
    JSONValue,
    NewVersion,
    RunRecord,
    State,
    VersionRecord,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    Settle = Callable[[sqlite3.Connection, VersionRecord], None]


@dataclass(frozen=True, slots=True)
class Draft:
    """What is to be committed.

    Attributes:
        new: What is said of it; its digest is not looked at.
        manifest: Its entries.
        staging: Where the bytes are that the Store has no blob of.
        aliases: What shall name it, besides those that are derived.
    """

    new: NewVersion
    manifest: Manifest
    staging: Staging | None
    aliases: Sequence[str] = ()


@operation("commit artifact")
def commit(
    store: Store,
    project: str,
    draft: Draft,
    run: RunRecord | None = None,
    settle: Settle | None = None,
) -> VersionRecord:
    """Make a draft a version; durable on return, and nothing is there before.

    Content that the newest version has gives no new one: what is said of it is taken
    over, and the aliases and the lineage are recorded.

    Args:
        store: Where.
        project: The project's name.
        draft: What.
        run: The run that made it.
        settle: Called with the version in the same transaction; where it raises,
            nothing was committed.

    Raises:
        ConflictError: the artifact has another type.
        AliasConflictError: an alias is protected.
        MissingBlobError: bytes that were there when they were added are gone.
    """
    names = given_aliases(draft.aliases)
    manifest = draft.manifest.encode()
    with store.sweeper.gc_kept_out():
        digest = keep_bytes(store, project, draft, manifest)
        new = replace(draft.new, digest=digest)
        with store.catalog.transaction(durable=True) as connection:
            key = artifacts.ensure(
                connection, projects.ensure(connection, project), new.name, new.type
            )
            newest = artifacts.newest(connection, key)
            if newest is not None and newest.digest == digest:
                pk = newest.pk
                artifacts.describe(connection, newest, _taken_over(newest, new))
            else:
                run_pk = None if run is None else run.pk
                pk = artifacts.add_version(connection, key, new, run_pk)
            version = artifacts.read(connection, pk)
            if newest is None or newest.pk != pk:
                artifacts.record(connection, "commit", version, after=digest)
            if run is not None:
                artifacts.add_edge(connection, pk, run.pk, "output")
            for alias in names:
                aliases.put(connection, version, alias)
            if settle is not None:
                settle(connection, version)
            version = artifacts.read(connection, pk)
    remember(store, draft.staging)
    _warn_of_derived(draft.aliases, version)
    _observers.notify("artifact", version, store.debug.survived)
    return version


def keep_bytes(store: Store, project: str, draft: Draft, manifest: bytes) -> Digest:
    """Make every byte of a draft durable, and its manifest; the manifest's digest.

    Raises:
        MissingBlobError: an entry's bytes are gone.
    """
    staged = {} if draft.staging is None else draft.staging.new
    whole = _digest.of_bytes(manifest)
    if (
        not staged
        and _is_newest(store, project, draft.new.name, whole)
        and store.blobs.present({whole: len(manifest)})
    ):
        return whole  # a version has them, and gc is kept out
    needed = {e.digest: e for e in draft.manifest if e.uri is None and e.digest}
    kept = store.blobs.adopt({d: staged[d] for d in needed.keys() & staged})
    # What a draft shares was looked at when it named it for gc, which leaves it; but
    # for what was found to be damaged since.
    if draft.staging is not None:
        kept |= draft.staging.held
    kept -= {Digest(_digest.PREFIX + name) for name in store.blobs.damaged()}
    unsure = needed.keys() - kept
    gone = unsure - store.blobs.listed(unsure)
    if gone:
        gone -= remotes.held_elsewhere(store.catalog.reader)
    for digest in sorted(gone):
        path = needed[digest].path
        raise MissingBlobError(
            f"The bytes of {path!r} were in the Store, and are gone.",
            hint="Add the file again.", path=path, digest=digest,
        )  # fmt: skip
    return store.blobs.put_bytes(manifest)


def _is_newest(store: Store, project: str, name: str, digest: Digest) -> bool:
    """Whether an artifact's newest version has this manifest."""
    reader = store.catalog.reader
    try:
        newest = artifacts.newest(reader, artifacts.find(reader, project, name))
    except ArtifactNotFoundError:
        return False
    return newest is not None and newest.digest == digest


def _taken_over(newest: VersionRecord, new: NewVersion) -> NewVersion:
    """What is said of a version whose content is committed again."""
    plain = new.metadata_json == "{}"
    return replace(
        new,
        description=newest.description if new.description is None else new.description,
        metadata_json=newest.metadata_json if plain else new.metadata_json,
        tags=tuple(dict.fromkeys((*newest.tags, *new.tags))),
        ttl_us=newest.ttl_us if new.ttl_us is None else new.ttl_us,
    )


def given_aliases(given: Sequence[str]) -> list[str]:
    """The names among these that are aliases; the others follow from the numbers.

    Raises:
        InvalidNameError: one is no alias.
    """
    return [_names.alias(name) for name in given if not _names.is_derived(name)]


def _warn_of_derived(given: Sequence[str], version: VersionRecord) -> None:
    right = (_names.LATEST, f"v{version.number}")
    for name in given:
        if _names.is_derived(name) and _names.alias_key(name) not in right:
            _voice.warn(f"{name!r} is no alias: {version.name} got v{version.number}.")


def remember(store: Store, staging: Staging | None) -> None:
    """Drop a draft's bytes, which are blobs now; what was hashed is not read again."""
    if staging is None:
        return
    try:
        if staging.listings:
            with store.catalog.transaction(durable=False) as connection:
                stat_cache.put(connection, staging.listings.items())
    except Exception as error:  # noqa: BLE001 - the version is committed all the same
        store.debug.survived("stat cache", error)
    staging.discard()


def manifest_of(store: Store, version: VersionRecord) -> Manifest:
    """What a version holds.

    Raises:
        IntegrityError: its manifest is missing, or damaged.
        StoreUnavailableError: the system refused to read it.
    """
    try:
        return decode(store.blobs.get(version.digest))
    except OSError as error:
        raise _files.explain_os_error(error, store.path) from error
    except IntegrityError as error:
        if "remote" in error.identity:  # it lies there, and must not be fetched
            raise
        store.set_blob_aside(version.digest)  # so that the same content mends it
        raise type(error)(
            f"The manifest of {version.path}: {error.message}",
            hint="Log the same content again, or restore a backup.",
            version=version.path, digest=version.digest,
        ) from error  # fmt: skip


@dataclass(frozen=True, slots=True)
class Edits:
    """What a handle says of its version.

    Attributes:
        read: The version as it was read before that.
        said: Description, metadata, tags and time to live.
        aliases: What shall name it. What others did to all of these meanwhile stays.
    """

    read: VersionRecord
    said: NewVersion
    aliases: Sequence[str]


@operation("link artifact and run")
def connect(
    store: Store,
    version: VersionRecord,
    run: RunRecord,
    direction: str,
    given: Sequence[str] = (),
    edits: Edits | None = None,
) -> VersionRecord:
    """Note that a run made a version, or reads it; durable on return.

    Args:
        store: Where both are.
        version: Which version.
        run: Which run.
        direction: ``output`` or ``input``.
        given: Aliases that shall name the version.
        edits: What is to be stored of it besides.

    Raises:
        StateError: the version is in the trash.
        AliasConflictError: an alias is protected.
    """
    names = given_aliases(given)
    with store.catalog.transaction(durable=True) as connection:
        now = _alive(artifacts.read(connection, version.pk))
        if edits is not None:
            _say(connection, now, edits)
        artifacts.add_edge(connection, now.pk, run.pk, direction)
        for name in names:
            aliases.put(connection, now, name)
        return artifacts.read(connection, now.pk)


@operation("describe version")
def say(store: Store, edits: Edits) -> VersionRecord:
    """Store what a handle says of a version; durable on return.

    Raises:
        StateError: the version is in the trash.
        AliasConflictError: one that moves is protected, or was moved by others.
    """
    with store.catalog.transaction(durable=True) as connection:
        now = _alive(artifacts.read(connection, edits.read.pk))
        _say(connection, now, edits)
        return artifacts.read(connection, now.pk)


def _say(connection: sqlite3.Connection, now: VersionRecord, edits: Edits) -> None:
    read, said = edits.read, edits.said
    metadata = _changes.rebased(
        *(_json.loads(each.metadata_json) for each in (read, said, now))
    )
    kept = said.description == read.description
    artifacts.describe(
        connection, now,
        replace(
            said,
            description=now.description if kept else said.description,
            metadata_json=_json.dumps(metadata),
            tags=tuple(_changes.rebased_names(read.tags, said.tags, now.tags)),
            ttl_us=now.ttl_us if said.ttl_us == read.ttl_us else said.ttl_us,
        ),
    )  # fmt: skip
    new = {_names.alias_key(name): name for name in map(_names.alias, edits.aliases)}
    old = {_names.alias_key(name): name for name in read.aliases}
    for key, name in old.items():
        if key not in new and aliases.find(connection, now.artifact_pk, name):
            aliases.drop(connection, now, name, expected=now.number)
    for key, name in new.items():
        if key not in old:
            aliases.put(connection, now, name)


def read_again(store: Store, version: VersionRecord) -> VersionRecord:
    """A version as it is now."""
    return artifacts.read(store.catalog.reader, version.pk)


# Aliases


@operation("move alias")
def move_alias(
    store: Store,
    version: VersionRecord,
    alias: str,
    *,
    expected: int | None = None,
    force: bool = False,
    reason: str | None = None,
) -> VersionRecord:
    """Let an alias name a version; durable on return.

    Args:
        store: Where.
        version: What it shall name.
        alias: Its name.
        expected: The number that it must name now, 0 for none; None: whatever.
        force: Move a protected alias too.
        reason: Why, for the history.

    Raises:
        AliasConflictError: it is protected, or names something else than expected.
    """
    name = _names.alias(alias)
    with store.catalog.transaction(durable=True) as connection:
        now = _alive(artifacts.read(connection, version.pk))
        aliases.put(
            connection, now, name, expected=expected, force=force, reason=reason
        )
        return artifacts.read(connection, version.pk)


@operation("remove alias")
def remove_alias(
    store: Store,
    version: VersionRecord,
    alias: str,
    *,
    expected: int | None = None,
    force: bool = False,
    reason: str | None = None,
) -> VersionRecord:
    """Remove an alias; as `move_alias`.

    Raises:
        AliasNotFoundError: the artifact has none of that name.
        AliasConflictError: it is protected, or names something else than expected.
    """
    with store.catalog.transaction(durable=True) as connection:
        aliases.drop(
            connection, version, alias, expected=expected, force=force, reason=reason
        )
        return artifacts.read(connection, version.pk)


@operation("undo alias")
def undo_alias(
    store: Store, version: VersionRecord, alias: str, *, force: bool = False
) -> int | None:
    """Take back the last move of an alias that was not taken back yet.

    Args:
        store: Where.
        version: Any version of the artifact.
        alias: Its name.
        force: Move a protected alias too.

    Returns:
        The number that it names then, or None.

    Raises:
        StateError: there is nothing to undo.
        AliasConflictError: it is protected.
        VersionNotFoundError: what it named before is in the trash.
    """
    with store.catalog.transaction(durable=True) as connection:
        number, event = aliases.last_move(connection, version, alias)
        reason = f"{aliases.UNDO}{number}"
        held = aliases.find(connection, version.artifact_pk, alias)
        name = alias if held is None else held.alias
        if event.before is None:
            aliases.drop(connection, version, name, force=force, reason=reason)
            return None
        before = artifacts.resolve(connection, version.artifact_pk, f"v{event.before}")
        aliases.put(connection, before, name, force=force, reason=reason)
        if event.after is None and aliases.was_protected(
            connection, before, name, number
        ):
            aliases.protect(connection, before, name, on=True)
        return before.number


@operation("protect alias")
def protect_alias(
    store: Store, version: VersionRecord, alias: str, *, on: bool = True
) -> None:
    """Let an alias be moved by force only; or lift that.

    Raises:
        AliasNotFoundError: the artifact has none of that name.
    """
    with store.catalog.transaction(durable=True) as connection:
        aliases.protect(connection, version, alias, on=on)


# The trash


@operation("delete version")
def delete(
    store: Store,
    version: VersionRecord,
    *,
    delete_aliases: bool = False,
    force: bool = False,
) -> None:
    """Move a version to the trash; durable on return.

    Args:
        store: Where.
        version: What.
        delete_aliases: Remove its aliases, too.
        force: Also while a live run reads it.

    Raises:
        VersionInUseError: it has aliases, a model links to it, or a live run reads it.
    """
    with store.catalog.transaction(durable=True) as connection:
        now = artifacts.read(connection, version.pk)
        if now.deleted_us is not None:
            return
        _refuse_used(store, connection, now, force=force)
        if now.aliases and not delete_aliases:
            raise VersionInUseError(
                f"{now.path} has aliases: {', '.join(now.aliases)}.",
                hint="Move them, or delete them with it: delete_aliases=True.",
                version=now.path,
            )
        to_trash(connection, now, _clock.now_us(), f"rm v{now.number}", force=force)


def to_trash(
    connection: sqlite3.Connection,
    version: VersionRecord,
    at_us: int,
    reason: str,
    *,
    force: bool,
) -> None:
    """Move a version to the trash, with its aliases, in the caller's transaction.

    Raises:
        AliasConflictError: an alias is protected, and `force` is not given.
    """
    names = _protected(connection, version)
    for alias in names:
        aliases.drop(connection, version, alias, force=force, reason=reason)
    artifacts.set_deleted(connection, version.pk, at_us)
    artifacts.record(connection, "delete", version, before=names, reason=reason)
    events.touch_fields(connection, "version", version.uid, ["deleted"])


def _protected(
    connection: sqlite3.Connection, version: VersionRecord
) -> dict[str, JSONValue]:
    """A version's aliases, and whether each is protected."""
    held = (
        aliases.find(connection, version.artifact_pk, name) for name in version.aliases
    )
    return {alias.alias: alias.protected for alias in held if alias is not None}


def _refuse_used(
    store: Store, connection: sqlite3.Connection, version: VersionRecord, *, force: bool
) -> None:
    links = models.links_to(connection, version.pk)
    if links:
        raise VersionInUseError(
            f"{version.path} is {', '.join(links)}.",
            hint="Unlink it from the model first.", version=version.path,
        )  # fmt: skip
    for pk in artifacts.runs_of(connection, version.pk, "input"):
        run = runs.read(connection, pk)
        if run.state is State.RUNNING and store.liveness.is_live(run) and not force:
            raise VersionInUseError(
                f"The live run {run.path} reads {version.path}.",
                hint="Wait for it, or force=True.", version=version.path, run=run.path,
            )  # fmt: skip


@operation("restore version")
def restore(store: Store, version: VersionRecord) -> VersionRecord:
    """Bring a version back from the trash, with the aliases that it had.

    Raises:
        StateError: it is not in the trash.
        AliasConflictError: one of its aliases names another version by now.
    """
    with store.catalog.transaction(durable=True) as connection:
        now = artifacts.read(connection, version.pk)
        if now.deleted_us is None:
            raise StateError(f"{now.path} is not in the trash.", hint="Nothing to do.")
        out_of_trash(connection, now)
        projects.take_out(connection, now.project)
        return artifacts.read(connection, now.pk)


def out_of_trash(connection: sqlite3.Connection, version: VersionRecord) -> None:
    """Bring a version back, with its aliases, in the caller's transaction.

    Raises:
        AliasConflictError: one of its aliases names another version by now.
    """
    names = _at_deletion(connection, version)
    artifacts.set_deleted(connection, version.pk, None)
    for name in names:
        held = aliases.find(connection, version.artifact_pk, name)
        if held is not None:
            raise AliasConflictError(
                f"Alias {name!r} of {version.name} names v{held.number} by now.",
                hint=f"Remove that alias first, or give it to v{version.number}.",
                alias=name, artifact=version.name,
            )  # fmt: skip
        aliases.put(connection, version, name, reason=f"restore v{version.number}")
        if names[name]:
            aliases.protect(connection, version, name, on=True)
    artifacts.record(connection, "restore", version, after=names)
    events.touch_fields(connection, "version", version.uid, ["deleted"])


def _at_deletion(
    connection: sqlite3.Connection, version: VersionRecord
) -> dict[str, JSONValue]:
    found = events.read(connection, "version", version.uid)
    before = [event.before for event in found if event.kind == "delete"]
    return before[-1] if before and isinstance(before[-1], dict) else {}


@operation("purge version")
def purge(store: Store, version: VersionRecord) -> None:
    """Remove a version that is in the trash for good; its lineage goes with it.

    Its number is not given again, and its blobs are gc's.

    Raises:
        VersionInUseError: a model links to it.
        StateError: it is not in the trash.
    """
    with store.catalog.transaction(durable=True) as connection:
        now = artifacts.read(connection, version.pk)
        if now.deleted_us is None:
            raise StateError(
                f"{now.path} is not in the trash.", hint="Delete it first."
            )
        _refuse_used(store, connection, now, force=True)
        deleted_models.forget_links(connection, now.pk)
        artifacts.record(connection, "purge", now, before=now.path)
        artifacts.purge(connection, now.pk)


def _alive(version: VersionRecord) -> VersionRecord:
    if version.deleted_us is not None:
        raise StateError(f"{version.path} is in the trash.", hint="Restore it first.")
    return version
