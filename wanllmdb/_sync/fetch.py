"""Bytes of pulled versions and files, fetched when they are first used."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from wanllmdb import _digest, _progress
from wanllmdb._catalog import remotes
from wanllmdb._catalog.remotes import Place
from wanllmdb._remotes.address import open_remote
from wanllmdb._remotes.port import MissingKeyError, Remote
from wanllmdb._store import Store
from wanllmdb._sync.peer import address_of
from wanllmdb._sync.upload import THREADS
from wanllmdb.errors import DigestMismatchError, MissingBlobError
from wanllmdb.types import Digest, RemoteRecord


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


def fetch(store: Store, remote: Remote, digest: Digest, place: Place) -> None:
    """Fetch a blob from a place; durable on return, or not there at all.

    Raises:
        DigestMismatchError: the bytes there are not those of the digest.
        MissingKeyError: there are none.
    """
    draft = store.tmp / f"fetch-{os.urandom(8).hex()}"
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with os.fdopen(os.open(draft, flags, 0o400), "wb") as sink:
            remote.download(place.key, sink, place.first, place.size)
        if _digest.of_file(draft) != digest:
            raise DigestMismatchError(
                f"{place.key} of {remote.url} is not what it was: its bytes have"
                " changed.",
                hint="`wanllmdb remote verify --level 2` tells what else has.",
                digest=digest,
            )
        store.blobs.adopt({digest: str(draft)})
    finally:
        draft.unlink(missing_ok=True)


def fetch_all(
    store: Store, record: RemoteRecord, remote: Remote, wanted: Iterable[str]
) -> int:
    """Fetch the blobs that are not here; how many bytes there were.

    Raises:
        MissingBlobError: the remote lacks one.
        DigestMismatchError: one is not what it should be.
    """
    lacking = _placed(store, record, wanted)
    total = sum(place.size for place in lacking.values())

    def one(item: tuple[Digest, Place]) -> None:
        try:
            fetch(store, remote, *item)
        except MissingKeyError as error:
            raise MissingBlobError(
                f"{item[1].key} is missing at {record.name}.",
                hint="`wanllmdb remote verify` tells what else is.", digest=item[0],
            ) from error  # fmt: skip

    with (
        _progress.shown("fetching", total) as told,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        for digest, _ in zip(lacking, pool.map(one, lacking.items()), strict=True):
            told(lacking[digest].size)
    return total
