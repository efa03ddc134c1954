"""Uploading again what a remote lost, and this Store has."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from wanllmdb import _digest, _layout
from wanllmdb._catalog import sealed
from wanllmdb._catalog.remotes import Place
from wanllmdb._sync import keys
from wanllmdb._sync.peer import Peer
from wanllmdb._sync.upload import PACK_BYTES


def heal(peer: Peer, key: str, spans: Mapping[Place, str]) -> bool:
    """Upload an object again under its key, if all of it is here and whole.

    Args:
        peer: The remote.
        key: The object.
        spans: The contents in it, by their place.
    """
    if len(spans) > 1 or key.startswith(keys.PACKS):
        return _heal_pack(peer, key, spans)
    ((_, digest),) = spans.items()
    path = _whole(peer, digest)
    if path is None:
        return False
    with path.open("rb") as source:
        peer.remote.upload(key, source, path.stat().st_size)
    return True


def _heal_pack(peer: Peer, key: str, spans: Mapping[Place, str]) -> bool:
    if sum(place.size for place in spans) > PACK_BYTES:
        return False
    data = b""
    for place, digest in sorted(spans.items()):
        path = _whole(peer, digest)
        if path is None or place.first != len(data):
            return False
        data += path.read_bytes()
    if keys.pack(hashlib.sha256(data).hexdigest()) != key:
        return False  # there is something in it that no batch tells of
    peer.remote.put(key, data)
    return True


def _whole(peer: Peer, digest: str) -> Path | None:
    """A file of this Store that has the very bytes: a blob, or a sealed part."""
    store = peer.store
    paths = [store.blobs.path_of(digest)]
    for project, name in sealed.named(store.catalog.reader, digest):
        paths.append(store.path / _layout.PARTS / project / name)
    for path in paths:
        if path.exists() and _digest.of_file(path) == digest:
            return path
    return None
