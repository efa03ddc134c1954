"""Sync: a Store and a remote tell each other what they know.

A pull, then a push: so what is pushed is made with knowledge of what others did. Safe
at any time, from any process, and done twice is done once.
"""

from __future__ import annotations

from wanllmdb import _clock, _observers
from wanllmdb._catalog import documents, remotes
from wanllmdb._store import Store, operation
from wanllmdb._sync.choice import Choice
from wanllmdb._sync.fetch import fetch_all
from wanllmdb._sync.needs import blobs_of
from wanllmdb._sync.peer import Peer
from wanllmdb._sync.pull import pull
from wanllmdb._sync.push import push
from wanllmdb.types import RemoteRecord, SyncReport


@operation("sync")
def sync(
    store: Store,
    record: RemoteRecord,
    choice: Choice | None = None,
    *,
    direction: str = "both",
    full: bool = False,
) -> SyncReport:
    """Sync with a remote.

    Args:
        store: The Store.
        record: The remote.
        choice: What; default all.
        direction: ``both``, ``push`` or ``pull``.
        full: Fetch the bytes of artifacts and files, too; else they are when they are
            first used.

    Raises:
        StoreLockedError: a sync with it is under way.
        RemoteError: it cannot be reached, or refuses. What was done until then stays.
    """
    chosen = Choice() if choice is None else choice
    peer, report = Peer(store, record), SyncReport(record.name)
    with peer.alone():
        try:
            peer.check()
            if direction != "push":
                pull(peer, chosen, report)
            if direction != "pull":
                push(peer, chosen, report)
            if full:
                report.bytes_read += _fetch_all(peer, chosen)
        except BaseException as error:
            _note_end(peer, str(error) or "it was interrupted")
            raise
        _note_end(peer, "; ".join(report.failed) or None)
    _observers.notify("sync", report, store.debug.survived)
    return report


def _note_end(peer: Peer, failed: str | None) -> None:
    with peer.store.catalog.transaction(durable=False) as connection:
        state = remotes.state(connection, peer.uid)
        now = _clock.now_us() if failed is None else state.synced_us
        remotes.set_state(
            connection, peer.uid, state._replace(synced_us=now, failed=failed)
        )


def _fetch_all(peer: Peer, choice: Choice) -> int:
    store, reader = peer.store, peer.store.catalog.reader
    rows = remotes.things(reader)
    context = documents.Reader(reader, store.data, peer.uid, lambda _: {})
    total = 0
    for _ in ("manifests", "what they name"):
        wanted: set[str] = set()
        for entity, uid in rows:
            if entity in ("run", "version"):
                document = documents.read(context, entity, uid)
                if document is not None and choice.takes(document):
                    wanted |= blobs_of(store, document).keys()
        total += fetch_all(store, peer.record, peer.remote, wanted)
    return total
