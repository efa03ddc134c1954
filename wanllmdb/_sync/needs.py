"""Which blobs a thing needs, going by its document."""

from __future__ import annotations

from typing import Any

from wanllmdb._manifest import Manifest, decode
from wanllmdb._store import Store


def blobs_of(store: Store, document: dict[str, Any]) -> dict[str, int]:
    """The blobs that a document's thing needs, and their sizes (0: not known).

    Of a version, those that its manifest names, if that is here.

    Raises:
        IntegrityError: a version's manifest is damaged.
    """
    entity = document["entity"]
    if "gone" in document or entity not in ("run", "version"):
        return {}
    if entity == "run":
        found = {row[1]: row[2] for row in document["files"]}
        return {**{row[0]: 0 for row in document["blobs"]}, **found}
    digest = document["digest"]
    if not store.blobs.path_of(digest).exists():
        return {digest: 0}
    return {digest: 0, **sizes_of(decode(store.blobs.get(digest)))}


def sizes_of(manifest: Manifest) -> dict[str, int]:
    """The blobs that a manifest names, and their sizes."""
    return {
        entry.digest: entry.size or 0
        for entry in manifest
        if entry.uri is None and entry.digest is not None
    }
