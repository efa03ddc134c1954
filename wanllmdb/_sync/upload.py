"""Bytes on their way to a remote: large objects alone, small ones packed.

Every object is named by its content, so that an interrupted upload is gone on with,
and a repeated one does no harm. What is there for certain, is noted at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from wanllmdb import _digest
from wanllmdb._catalog import remotes
from wanllmdb._catalog.remotes import Place
from wanllmdb._sync import keys
from wanllmdb._sync.peer import Peer
from wanllmdb.types import SyncReport

PACK_BYTES = 16 << 20
"""Bytes of a pack, at most."""

PACKED_BLOB = 256 << 10
"""A blob of this size or more is an object of its own."""

PACKED_PART = 12 << 20
"""The same for parts, so that a run of usual size is one object and a batch."""

THREADS = 8


@dataclass(frozen=True, slots=True)
class Item:
    """Bytes that a remote shall have.

    Attributes:
        digest: Their name, ``sha256:`` and hex.
        size: How many.
        key: Where they lie if they are not packed.
        limit: The size from which on they are not.
        path: Where they are here.
    """

    digest: str
    size: int
    key: str
    limit: int
    path: Path


def blob_item(digest: str, size: int, path: Path) -> Item:
    """A blob as an item."""
    key = keys.blob(_digest.hex_of(digest))
    return Item(digest, size, key, PACKED_BLOB, path)


def upload(
    peer: Peer, items: Iterable[Item], report: SyncReport, told: Callable[[int], None]
) -> dict[str, Place]:
    """Bring bytes to a remote; where each lies then.

    Args:
        peer: The remote.
        items: What; each digest once. Those that cannot be read here are left out.
        report: Counts what is written, and names what could not be read.
        told: Called with the bytes of what is done.
    """
    items = list(items)
    large = [[item] for item in items if item.size >= item.limit]
    packs = [*large, *_packs([item for item in items if item.size < item.limit])]
    done: dict[str, Place] = {}
    with ThreadPoolExecutor(THREADS) as pool:
        jobs = {
            pool.submit(
                _alone if pack[0].size >= pack[0].limit else _packed, peer, pack
            ): pack
            for pack in packs
        }
        for job in as_completed(jobs):  # noted at once: a killed push goes on from it
            pack, places = jobs[job], job.result()
            changed = [item.digest for item in pack if item.digest not in places]
            report.failed += [f"the bytes of {d} have changed here" for d in changed]
            if not places:
                continue
            with peer.store.catalog.transaction(durable=False) as connection:
                remotes.set_places(connection, peer.uid, places)
            size = sum(place.size for place in places.values())
            report.objects_written += 1
            report.bytes_written += size
            told(size)
            done |= places
    return done


def _alone(peer: Peer, pack: Sequence[Item]) -> dict[str, Place]:
    (item,) = pack
    with item.path.open("rb") as source:
        found = hashlib.file_digest(source, "sha256").hexdigest()
        if f"{_digest.PREFIX}{found}" != item.digest:
            return {}
        source.seek(0)
        peer.remote.upload(item.key, source, item.size)
    return {item.digest: Place(item.key, 0, item.size)}


def _packs(items: Sequence[Item]) -> Iterator[list[Item]]:
    pack: list[Item] = []
    size = 0
    for item in sorted(items, key=lambda item: item.digest):
        if pack and size + item.size > PACK_BYTES:
            yield pack
            pack, size = [], 0
        pack.append(item)
        size += item.size
    if pack:
        yield pack


def _packed(peer: Peer, pack: Sequence[Item]) -> dict[str, Place]:
    data = bytearray()
    spans: dict[str, tuple[int, int]] = {}
    for item in pack:
        found = item.path.read_bytes()
        if _digest.of_bytes(found) == item.digest:
            spans[item.digest] = (len(data), len(found))
            data += found
    if not spans:
        return {}
    key = keys.pack(hashlib.sha256(data).hexdigest())
    peer.remote.put(key, bytes(data))
    return {digest: Place(key, *span) for digest, span in spans.items()}
