"""Removing from a remote what nothing there needs any more: in two phases, days apart.

First what no batch needs is condemned: its keys are written to a tombstone, and whoever
needs one of them again uploads it anew. What is condemned for longer than any sync
takes, and still needed by no batch, and not uploaded since, is deleted. Objects are
listed before batches are read: so what was uploaded for a batch that is read is either
older than both, or not looked at. Claims stay, with or without a batch: a number that
was given once is never given twice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field

from wanllmdb import _clock
from wanllmdb._store import Store, operation
from wanllmdb._sync import keys
from wanllmdb._sync.peer import Peer
from wanllmdb._sync.survey import Survey, batches, entries, objects
from wanllmdb._sync.tombstones import Tombstone, read_tombstone
from wanllmdb.errors import IntegrityError
from wanllmdb.types import RemoteRecord

GRACE_DAYS = 14.0
"""Days between the two phases; longer than any sync takes."""

STALE_S = 86_400.0
"""Seconds after which an upload that never ended is aborted."""

_DAY_US = 86_400 * _clock.US_PER_SECOND
_KEYS_EACH = 100_000
"""Keys of one tombstone, at most."""


@dataclass(slots=True)
class Collected:
    """What a gc of a remote did, or would do.

    Attributes:
        done: Whether anything was changed.
        condemned: Bytes of each object that nothing needs since now.
        deleted: Bytes of each object whose grace is over.
        waiting: Objects whose grace is not over.
        aborted: Uploads that never ended.
    """

    done: bool
    condemned: dict[str, int] = field(default_factory=dict)
    deleted: dict[str, int] = field(default_factory=dict)
    waiting: int = 0
    aborted: int = 0


@operation("remote gc")
def collect(
    store: Store,
    record: RemoteRecord,
    *,
    grace_days: float = GRACE_DAYS,
    dry_run: bool = True,
) -> Collected:
    """Condemn what nothing at a remote needs, and delete what was long ago.

    Pushes may go on meanwhile. Killed at any moment, the next one goes on.

    Args:
        store: A Store that syncs with it.
        record: The remote.
        grace_days: Days between the two; no push may take longer.
        dry_run: Change nothing.

    Raises:
        IntegrityError: a batch or a manifest there cannot be read, so that nobody
            knows what it needs: nothing is changed.
        RemoteError: it cannot be reached, or refuses.
    """
    peer = Peer(store, record)
    with closing(peer.remote):
        peer.check()
        before_us = _clock.now_us() - int(grace_days * _DAY_US)
        done = Collected(not dry_run)
        tombstones = _tombstones(peer)
        _condemn(peer, tombstones, done)
        for tombstone in tombstones:
            if tombstone.since_us <= before_us:
                _bury(peer, tombstone, done)
            else:
                done.waiting += len(tombstone.condemned)
        if done.done:
            done.aborted = peer.remote.abort_stale(STALE_S)
    return done


def _condemn(peer: Peer, known: Iterable[Tombstone], done: Collected) -> None:
    listed = objects(peer)
    needed = needed_keys(peer, surveyed(peer))
    said = {key for tombstone in known for key in tombstone.condemned}
    done.condemned = {
        key: found.size
        for key, found in listed.items()
        if key not in needed and key not in said
    }
    if not done.done:
        return
    condemned = sorted(done.condemned)
    for start in range(0, len(condemned), _KEYS_EACH):
        now = _clock.now_us()
        body = {"keys": condemned[start : start + _KEYS_EACH], "at_us": now}
        key = f"{keys.GC}{now}-{os.urandom(8).hex()}.json"
        peer.remote.create(key, json.dumps(body).encode())


def _bury(peer: Peer, tombstone: Tombstone, done: Collected) -> None:
    """Delete what is condemned, still not needed, and was not uploaded since."""
    listed = objects(peer)
    survey = surveyed(peer)
    needed = needed_keys(peer, survey)
    dead = {
        key: listed[key].size
        for key in tombstone.condemned
        if key in listed
        and key not in needed
        and listed[key].modified_us < tombstone.since_us
    }
    done.deleted |= dead
    if not done.done:
        return
    peer.remote.delete(sorted(dead))
    if dead:
        # Who missed the tombstone learns of it by this; see push.
        peer.remote.put(
            keys.GC_DONE, json.dumps({"nonce": os.urandom(8).hex()}).encode()
        )
    peer.remote.delete([tombstone.key])


def surveyed(peer: Peer) -> Survey:
    """What all batches tell.

    Raises:
        IntegrityError: one of them cannot be read.
    """
    survey = Survey()
    for batch in batches(peer, survey):
        if isinstance(batch, IntegrityError):
            raise batch
        survey.add(batch)
    return survey


def needed_keys(peer: Peer, survey: Survey) -> set[str]:
    """The keys of all objects that something at the remote needs.

    Raises:
        IntegrityError: a manifest cannot be read.
    """
    digests = {digest for digest, _, _ in survey.wanted()}
    for _, named in entries(peer, survey, survey.manifests()):
        if isinstance(named, IntegrityError):
            raise named
        digests |= named.keys()
    found = {place.key for digest in digests for place in survey.places.get(digest, ())}
    for part, runs in survey.parts:
        if any(survey.is_live("run", uid) for uid in runs):
            found.add(part.place.key)
    return found


def _tombstones(peer: Peer) -> list[Tombstone]:
    found = []
    for listed in peer.remote.iter_keys(keys.GC):
        if listed.key != keys.GC_DONE:
            condemned = read_tombstone(peer, listed)
            if condemned is not None:
                found.append(condemned)
    return found
