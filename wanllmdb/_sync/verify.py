"""Whether a Store and a remote hold the same, by the digests of all that is theirs."""

from __future__ import annotations

from collections.abc import Iterator

from wanllmdb import _upkeep
from wanllmdb._catalog import documents, remotes, runs, streams
from wanllmdb._rowsets import RowRange, digest_of
from wanllmdb._store import Store
from wanllmdb._sync.batch import read
from wanllmdb._sync.peer import Peer
from wanllmdb._sync.pull import devices
from wanllmdb._sync.push import digest_of as document_digest
from wanllmdb.errors import WanllmdbError


def problems(peer: Peer) -> Iterator[str]:
    """What differs between a Store and a remote that were synced just now.

    Every batch there, every row, and every blob here is read. Runs that are written
    here meanwhile are left out: their rows grow.

    Yields:
        One sentence for each range of rows, thing and blob that is not the same.

    Raises:
        RemoteError: the remote cannot be reached, or refuses.
    """
    for device in devices(peer):
        seq = 1
        while True:
            try:
                batch = read(peer.remote, device, seq)
            except WanllmdbError as error:
                if error.exit_code != 5:
                    raise
                yield error.message
                seq += 1
                continue
            if batch is None:
                break
            for each in batch.sets:
                for span in each.ranges:
                    yield from _range_problems(peer.store, span)
            seq += 1
    yield from _document_problems(peer)
    yield from _upkeep.blob_problems(peer.store)


def _range_problems(store: Store, span: RowRange) -> Iterator[str]:
    reader = store.catalog.reader
    if remotes.gone(reader, "run", span.run) is not None:
        return
    # A branch that lost is a run of its own: its streams are there.
    pk = streams.run_of(reader, span.token) or runs.find_uid(reader, span.run)
    if pk is None:
        yield f"run {span.run}: it is at the remote, and not here"
        return
    record = runs.read(reader, pk)
    what = f"{record.path}: {span.kind} {span.first} to {span.end} of {span.token}"
    try:
        found = digest_of(
            store.logs, record, span.token, span.kind, span.first, span.end
        )
    except WanllmdbError as error:
        yield f"{what}: {error.message}"
        return
    if found is None:
        yield f"{what} are at the remote, and not here"
    elif found != span.digest:
        yield f"{what} are others at the remote"


def _document_problems(peer: Peer) -> Iterator[str]:
    store = peer.store
    reader = store.catalog.reader
    context = documents.Reader(
        reader, store.data, peer.uid,
        lambda uid: remotes.rows_held(reader, peer.uid, uid),
    )  # fmt: skip
    for entity, uid in remotes.things(reader):
        if entity not in documents.ENTITIES or _is_live(store, entity, uid):
            continue
        document = documents.read(context, entity, uid)
        if document is None:
            continue
        known = remotes.digest_of(reader, peer.uid, entity, uid)
        if known != document_digest(document):
            yield f"{entity} {uid}: what is said of it here is not what the remote has"


def _is_live(store: Store, entity: str, uid: str) -> bool:
    pk = runs.find_uid(store.catalog.reader, uid) if entity == "run" else None
    return pk is not None and store.liveness.is_live(
        runs.read(store.catalog.reader, pk)
    )
