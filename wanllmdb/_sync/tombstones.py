"""Tombstones: what a gc of a remote is about to delete, for pushes to know."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

from wanllmdb import _clock
from wanllmdb._remotes.port import Listed, MissingKeyError
from wanllmdb._sync import keys
from wanllmdb._sync.peer import Peer

LIMIT = 64 << 20
"""Bytes of a tombstone that are read at most."""


class Tombstone(NamedTuple):
    """Keys that are condemned, and since when by the remote's clock."""

    key: str
    since_us: int
    condemned: frozenset[str]


def read_tombstone(peer: Peer, listed: Listed) -> Tombstone | None:
    """A tombstone; None where it is gone, or none of ours.

    One that is no tombstone condemns nothing, and stays where it is.
    """
    try:
        raw = json.loads(peer.remote.get(listed.key, 0, LIMIT))
    except (MissingKeyError, ValueError, RecursionError):
        return None
    if not isinstance(raw, Mapping) or not isinstance(raw.get("keys"), list):
        return None
    condemned = frozenset(
        key
        for key in raw["keys"]
        if isinstance(key, str) and key.startswith((keys.BLOBS, keys.PACKS, keys.PARTS))
    )
    at_us = raw.get("at_us")
    since = listed.modified_us or (at_us if type(at_us) is int else _clock.now_us())
    return Tombstone(listed.key, since, condemned)
