"""What is where, and what waits: of the Catalog alone, or of a look at the remote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wanllmdb import _clock, _reach
from wanllmdb._catalog import events, remotes, runs
from wanllmdb._catalog.remotes import Conflict
from wanllmdb._reach import Use
from wanllmdb._store import Store
from wanllmdb._sync import keys
from wanllmdb._sync.choice import Choice
from wanllmdb._sync.peer import Peer
from wanllmdb._sync.pull import devices
from wanllmdb._sync.push import waiting as to_push
from wanllmdb.types import Kind, RemoteRecord


def waiting(peer: Peer, choice: Choice, direction: str) -> list[dict[str, Any]]:
    """What a sync would find to do; nothing is written, here or there.

    Args:
        peer: The remote.
        choice: What the sync would be about.
        direction: ``both``, ``push`` or ``pull``.

    Returns:
        `what`, `count` and `direction` of each kind of thing to push, and of batches
        of other devices that were not read.

    Raises:
        RemoteError: it cannot be reached, or refuses.
    """
    rows = []
    if direction != "push":
        cursors = remotes.cursors(peer.store.catalog.reader, peer.uid)
        for device in devices(peer):
            if device == peer.device:
                continue
            after = keys.batch(device, cursors.get(device, 0))
            unread = sum(
                1 for _ in peer.remote.iter_keys(f"{keys.LOG}{device}/", after)
            )
            if unread:
                what = f"batches of device {device}"
                rows.append({"what": what, "count": unread, "direction": "pull"})
    if direction != "pull":
        counts = to_push(peer, choice)
        rows += [
            {"what": entity, "count": count, "direction": "push"}
            for entity, count in counts.items()
        ]
    return rows


def of_store(store: Store) -> list[dict[str, Any]]:
    """Of each remote what is known without asking it."""
    reader = store.catalog.reader
    return [_of_remote(store, record) for record in remotes.listed(reader)]


def _of_remote(store: Store, record: RemoteRecord) -> dict[str, Any]:
    reader = store.catalog.reader
    state = remotes.state(reader, record.uid)
    return {
        "remote": record.name, "url": record.url,
        "last_synced": _clock.iso(state.synced_us), "failed": state.failed,
        "waiting": to_push(Peer(store, record), Choice()),
        "rows": _rows(store, record.uid),
        "blobs": _blobs(store, record.uid),
        "deferred": [
            {"device": device, "seq": seq, "reason": reason}
            for (device, seq), reason in remotes.deferred(reader, record.uid).items()
        ],
    }  # fmt: skip


def _rows(store: Store, remote: str) -> dict[str, int]:
    """Rows of metrics that are here, and those of them that the remote has."""
    here = there = 0
    for record in runs.find_many(store.catalog.reader):
        counts = store.logs.row_counts(record)
        here += sum(counts.values())
        held = remotes.rows_held(store.catalog.reader, remote, record.uid)
        there += sum(
            min(count, held[token, Kind.METRICS].rows)
            for token, count in counts.items()
            if (token, Kind.METRICS) in held
        )
    return {"here": here, "at_remote": there}


def _blobs(store: Store, remote: str) -> dict[str, int]:
    """Blobs that are needed: only here, only there, in both, in neither."""
    reader = store.catalog.reader
    needed = {
        use.digest
        for use in [*_reach.of_runs(store), *_reach.of_versions(store)]
        if isinstance(use, Use)
    }
    here = store.blobs.present(dict.fromkeys(needed))
    there = {d for d in needed if remotes.place_of(reader, remote, d) is not None}
    return {
        "here": len(here - there), "at_remote": len(there - here),
        "both": len(here & there), "nowhere": len(needed - here - there),
    }  # fmt: skip


def lines(found: Mapping[str, Any], plurals: Mapping[str, str]) -> list[str]:
    """What `of_store` says of a remote, for people."""
    synced = found["last_synced"]
    text = [f"{found['remote']}: {found['url']}",
            f"  last synced: {synced or 'never'}"]  # fmt: skip
    if found["failed"]:
        text.append(f"  failed: {found['failed']}")
    counts = [
        f"{count} {plurals[entity]}" for entity, count in found["waiting"].items()
    ]
    text.append(f"  waiting: {', '.join(counts) or 'nothing'}")
    rows, blobs = found["rows"], found["blobs"]
    text += [
        f"  metric rows: {rows['here']} here, {rows['at_remote']} of them there",
        f"  blobs: {blobs['both']} in both, {blobs['here']} only here,"
        f" {blobs['at_remote']} only at the remote",
    ]
    if blobs["nowhere"]:
        text.append(f"  blobs: {blobs['nowhere']} in neither")
    text += [
        f"  deferred: batch {each['seq']} of device {each['device']}: {each['reason']}"
        for each in found["deferred"]
    ]
    return text


def told(connection: Any, conflict: Conflict) -> str:
    """A conflict as it was told when it was found, with what resolves it."""
    for event in reversed(events.read(connection, conflict.entity, conflict.uid)):
        sides = (event.before, event.after)
        if event.kind == "conflict" and sides == (conflict.mine, conflict.theirs):
            return event.reason or ""
    return f"{conflict.kind}: {conflict.mine} here, {conflict.theirs} there"
