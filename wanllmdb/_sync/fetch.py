"""Bytes of pulled versions and files, fetched when they are first used."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from wanllmdb import _digest, _progress
from wanllmdb._catalog import remotes
from wanllmdb._catalog.remotes import Place
from wanllmdb._remotes.address import open_remote
from wanllmdb._remotes.port import BLOCK, MissingKeyError, Remote
from wanllmdb._store import Store
from wanllmdb._sync.peer import address_of
from wanllmdb._sync.upload import THREADS
from wanllmdb.errors import DigestMismatchError, MissingBlobError
from wanllmdb.types import Digest, RemoteRecord

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


def fetch_blobs(store: Store, digests: Iterable[str]) -> bool:
    """Fetch blobs that are not here from whichever remote has them.

    Returns:
        Whether there was one to fetch, and all of them are here now.

    Raises:
        DigestMismatchError: the bytes of one are not what they should be.
        RemoteError: a remote cannot be reached, or refuses.
    """
    wanted = [d for d in digests if not store.blobs.path_of(d).exists()]
    left = wanted
    for record in remotes.listed(store.catalog.reader):
        if not _placed(store, record, left):
            continue
        remote = open_remote(address_of(record))
        try:
            fetch_all(store, record, remote, left)
        except MissingBlobError as error:  # another remote may have it
            store.debug.survived(f"fetching from {record.name}", error)
        finally:
            remote.close()
        left = [d for d in left if not store.blobs.path_of(d).exists()]
    return bool(wanted) and not left


def _placed(
    store: Store, record: RemoteRecord, digests: Iterable[str]
) -> dict[Digest, Place]:
    """Where a remote has blobs that are not here."""
    reader = store.catalog.reader
    return {
        Digest(digest): place
        for digest in digests
        if (place := remotes.place_of(reader, record.uid, digest)) is not None
        and not store.blobs.path_of(digest).exists()
    }


def _fetch(store: Store, remote: Remote, wanted: Mapping[Digest, Place]) -> None:
    """Fetch blobs of one object, in one go; durable on return.

    Raises:
        DigestMismatchError: the bytes there are not those of a digest; the others are
            stored.
        MissingKeyError: there is no such object.
    """
    first = min(place.first for place in wanted.values())
    end = max(place.first + place.size for place in wanted.values())
    key = next(iter(wanted.values())).key
    whole = store.tmp / f"fetch-{os.urandom(8).hex()}"
    drafts: dict[Digest, Path] = {}
    try:
        with os.fdopen(os.open(whole, _FLAGS, 0o400), "w+b") as file:
            remote.download(key, file, first, end - first)
            file.seek(0)
            if len(wanted) == 1:
                drafts = dict.fromkeys(wanted, whole)
                found = hashlib.file_digest(file, "sha256").hexdigest()
                wrong = {d for d in wanted if d != f"{_digest.PREFIX}{found}"}
            else:
                drafts = {d: store.tmp / f"fetch-{os.urandom(8).hex()}" for d in wanted}
                wrong = set()
                for digest, place in wanted.items():
                    file.seek(place.first - first)
                    if not _cut_out(file, drafts[digest], digest, place.size):
                        wrong.add(digest)
        store.blobs.adopt({d: str(p) for d, p in drafts.items() if d not in wrong})
    finally:
        for path in (whole, *drafts.values()):
            path.unlink(missing_ok=True)
    if wrong:
        raise DigestMismatchError(
            f"{key} of {remote.url} is not what it was: its bytes have changed.",
            hint="`wanllmdb remote verify --level 2` tells what else has.",
            digest=min(wrong),
        )


def _cut_out(source: BinaryIO, draft: Path, digest: Digest, size: int) -> bool:
    """Write the next bytes of a source to a file; whether they have a digest."""
    found = hashlib.sha256()
    with os.fdopen(os.open(draft, _FLAGS, 0o400), "wb") as sink:
        while size and (data := source.read(min(size, BLOCK))):
            found.update(data)
            sink.write(data)
            size -= len(data)
    return not size and f"{_digest.PREFIX}{found.hexdigest()}" == digest


def fetch_all(
    store: Store, record: RemoteRecord, remote: Remote, wanted: Iterable[str]
) -> int:
    """Fetch the blobs that are not here; how many bytes there were.

    Blobs of one pack come in one piece.

    Raises:
        MissingBlobError: the remote lacks one.
        DigestMismatchError: one is not what it should be.
    """
    by_key: dict[str, dict[Digest, Place]] = {}
    for digest, place in _placed(store, record, wanted).items():
        by_key.setdefault(place.key, {})[digest] = place
    sizes = [sum(place.size for place in each.values()) for each in by_key.values()]

    def one(found: dict[Digest, Place]) -> None:
        try:
            _fetch(store, remote, found)
        except MissingKeyError as error:
            raise MissingBlobError(
                f"{next(iter(found.values())).key} is missing at {record.name}.",
                hint="`wanllmdb remote verify` tells what else is.",
                digest=next(iter(found)),
            ) from error

    with (
        _progress.shown("fetching", sum(sizes)) as told,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        for size, _ in zip(sizes, pool.map(one, by_key.values()), strict=True):
            told(size)
    return sum(sizes)
