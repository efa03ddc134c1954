"""Joint drafts: several processes add to one version, and one of them commits it.

What is added is durable when the call returns, whatever becomes of its process: blobs,
a manifest of them, and an event that names it. gc keeps what these need while a run of
the group lives, and after the last addition as long as what is in the trash.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from wanllmdb import _digest, _json, _versions
from wanllmdb._catalog import artifacts, drafts, projects, runs
from wanllmdb._catalog.drafts import Added, Addition
from wanllmdb._catalog.schema import METADATA_LIMIT
from wanllmdb._manifest import Entry, Manifest, decode
from wanllmdb._store import Store, operation
from wanllmdb.errors import (
    ArtifactStateError,
    ConflictError,
    InvalidInputError,
    VersionNotFoundError,
)
from wanllmdb.types import RunRecord, VersionRecord

if TYPE_CHECKING:
    import sqlite3


@dataclass(frozen=True, slots=True)
class Adder:
    """Who adds.

    Attributes:
        run: The run.
        writer: Which of its writers; what one adds again takes the place of what it
            added before.
        distributed_id: What all that add to one draft have in common.
    """

    run: RunRecord
    writer: str
    distributed_id: str


class _Grown(Exception):  # noqa: N818 - no error: others added meanwhile
    """The draft is not what it was when it was read."""


class _Union:
    """What a draft holds together.

    Args:
        store: Where.
        found: What was added, in that order.
    """

    def __init__(self, store: Store, found: Sequence[Added]) -> None:
        self.manifest = Manifest()
        self._by: dict[str, set[str]] = {}
        for added in found:
            digest = added.addition.manifest
            for entry in decode(store.blobs.get(digest)):
                self.put(entry, added.addition.adder)

    def put(self, entry: Entry, adder: str) -> None:
        """Add an entry.

        Raises:
            ConflictError: somebody else added other content under its path.
            InvalidNameError: the path is a directory of other entries, or the reverse.
        """
        before = self.manifest.find(entry.path)
        by = self._by.setdefault(entry.path, set())
        if before is not None and before != entry and by != {adder}:
            raise ConflictError(
                f"{entry.path!r} was added with other content by"
                f" {', '.join(sorted(by - {adder}))}.",
                hint="Add it under another name; nothing of this call was added.",
                path=entry.path,
            )
        self.manifest.put(entry)
        by.add(adder)


@operation("add to joint draft")
def add(store: Store, draft: _versions.Draft, adder: Adder) -> None:
    """Add what a draft holds to what others add; durable on return.

    Args:
        store: Where.
        draft: What.
        adder: Who adds it; the version will be in the project of their run.

    Raises:
        ConflictError: somebody else added other content under one of its paths, or the
            artifact has another type. Nothing was added.
        InvalidNameError: an alias or a path cannot be.
        InvalidInputError: with what others added the metadata is too large.
        MissingBlobError: bytes that were there when they were added are gone.
    """
    _versions.given_aliases(draft.aliases)
    project, new = adder.run.project, draft.new
    with store.sweeper.gc_kept_out():
        uid = _uid(store, draft, adder)
        manifest = draft.manifest.encode()
        addition = Addition(
            run=adder.run.uid, adder=f"{adder.run.path} ({adder.writer})",
            manifest=_digest.of_bytes(manifest),
            description=new.description, metadata_json=new.metadata_json,
            tags=list(new.tags), aliases=list(draft.aliases), ttl_us=new.ttl_us,
        )  # fmt: skip
        # First: what is refused stays the draft's own, so that gc leaves it.
        last = _checked(store, uid, draft, addition)
        _versions.keep_bytes(store, project, draft, manifest)
        while not _added(store, uid, addition, last):
            last = _checked(store, uid, draft, addition)
    _versions.remember(store, draft.staging)


def _uid(store: Store, draft: _versions.Draft, adder: Adder) -> str:
    with store.catalog.transaction(durable=False) as connection:
        project = projects.ensure(connection, adder.run.project)
        key = artifacts.ensure(connection, project, draft.new.name, draft.new.type)
        return drafts.uid_of(artifacts.uid(connection, key), adder.distributed_id)


def _checked(store: Store, uid: str, draft: _versions.Draft, addition: Addition) -> int:
    """Refuse what does not go with what is there; the last event of that."""
    reader = store.catalog.reader
    last = drafts.last_number(reader, uid)
    found = drafts.additions(reader, uid)
    union = _Union(store, found)
    for entry in draft.manifest:
        union.put(entry, addition.adder)
    texts = [added.addition.metadata_json for added in found]
    _metadata([*texts, addition.metadata_json], draft.new.name)
    return last


def _metadata(texts: Sequence[str], name: str) -> str:
    """What several said of metadata: of each key what was said last.

    Raises:
        InvalidInputError: together it is too large.
    """
    metadata = {}
    for text in texts:
        metadata.update(_json.loads(text))
    text = _json.dumps(metadata)
    if len(text) > METADATA_LIMIT:
        raise InvalidInputError(
            f"The metadata of artifact {name!r} has {len(text)} bytes of"
            f" {METADATA_LIMIT} with what others added to it.",
            hint="Add it as a file instead.", artifact=name,
        )  # fmt: skip
    return text


def _added(store: Store, uid: str, addition: Addition, last: int) -> bool:
    """Whether it was added; not where others added something just then."""
    with store.catalog.transaction(durable=True) as connection:
        if drafts.last_number(connection, uid) != last:
            return False
        drafts.add(connection, uid, addition)
    return True


@operation("finish joint draft")
def finish(store: Store, draft: _versions.Draft, adder: Adder) -> VersionRecord:
    """Make all that was added a version; durable on return.

    Args:
        store: Where.
        draft: What is added before, if it holds anything.
        adder: Who does it, and to which draft.

    Returns:
        The version; where nothing was added since the last one was made, that one.

    Raises:
        ConflictError: as `add`. What others added stays.
        ArtifactStateError: nothing was ever added.
        AliasConflictError: an alias is protected.
        MissingBlobError: bytes that were there when they were added are gone.
    """
    if len(draft.manifest):
        add(store, draft, adder)
    uid = _uid(store, draft, adder)
    while True:
        last = drafts.last_number(store.catalog.reader, uid)
        found = drafts.additions(store.catalog.reader, uid)
        if not found:
            return _made_before(store, uid, draft, adder)
        try:
            return _committed(store, uid, last, found, draft, adder)
        except _Grown:
            continue


def _committed(
    store: Store,
    uid: str,
    last: int,
    found: Sequence[Added],
    draft: _versions.Draft,
    adder: Adder,
) -> VersionRecord:
    def settle(connection: sqlite3.Connection, version: VersionRecord) -> None:
        if drafts.last_number(connection, uid) != last:
            raise _Grown
        for each in dict.fromkeys(added.addition.run for added in found):
            run = runs.find_uid(connection, each)
            if run is not None:  # else it was purged
                artifacts.add_edge(connection, version.pk, run, "output")
        drafts.end(connection, uid, "finish", version.uid)

    whole = _together(draft, found, _Union(store, found).manifest)
    return _versions.commit(store, adder.run.project, whole, adder.run, settle)


def _together(
    draft: _versions.Draft, found: Sequence[Added], manifest: Manifest
) -> _versions.Draft:
    """A draft of all; of what is said in several ways, what was said last counts."""
    said = [added.addition for added in found]
    metadata = [*(a.metadata_json for a in said), draft.new.metadata_json]
    texts = [a.description for a in said if a.description is not None]
    times = [a.ttl_us for a in said if a.ttl_us is not None]
    tags = [*(tag for a in said for tag in a.tags), *draft.new.tags]
    new = replace(
        draft.new,
        files=len(manifest), size=manifest.size,
        description=draft.new.description or (texts[-1] if texts else None),
        metadata_json=_metadata(metadata, draft.new.name),
        tags=tuple(dict.fromkeys(tags)),
        ttl_us=draft.new.ttl_us or (times[-1] if times else None),
    )  # fmt: skip
    aliases = [*(name for a in said for name in a.aliases), *draft.aliases]
    return _versions.Draft(new, manifest, draft.staging, list(dict.fromkeys(aliases)))


def _made_before(
    store: Store, uid: str, draft: _versions.Draft, adder: Adder
) -> VersionRecord:
    reader = store.catalog.reader
    made = drafts.finished_as(reader, uid)
    try:
        version = None if made is None else artifacts.with_uid(reader, made)
    except VersionNotFoundError:
        version = None
    if version is None:
        raise ArtifactStateError(
            f"Nothing was added to artifact {draft.new.name!r} under"
            f" {adder.distributed_id!r}.",
            hint="Check the distributed_id; upsert_artifact adds to it.",
            artifact=draft.new.name, distributed_id=adder.distributed_id,
        )  # fmt: skip
    return _versions.connect(store, version, adder.run, "output", draft.aliases)


def drop_unfinished(store: Store, before_us: int) -> int:
    """Give up drafts that nobody will finish; how many.

    Args:
        store: Where.
        before_us: The last addition is older than this, and no run of those that
            added, or of their groups, lives.
    """
    dropped = 0
    for uid, found in drafts.unfinished(store.catalog.reader).items():
        if found[-1].at_us >= before_us or _is_awaited(store, found):
            continue
        with store.catalog.transaction(durable=False) as connection:
            if drafts.last_number(connection, uid) == found[-1].number:
                drafts.end(connection, uid, "drop")
                dropped += 1
    return dropped


def _is_awaited(store: Store, found: Sequence[Added]) -> bool:
    reader = store.catalog.reader
    groups = set()
    for uid in {added.addition.run for added in found}:
        pk = runs.find_uid(reader, uid)
        if pk is None:
            continue
        run = runs.read(reader, pk)
        if store.liveness.is_live(run):
            return True
        if run.group is not None:
            groups.add((run.project, run.group))
    return any(
        store.liveness.is_live(run)
        for project, group in groups
        for run in runs.find_many(
            reader, project=project, condition={"group": group, "state": "running"}
        )
    )
