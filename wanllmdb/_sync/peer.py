"""A remote as this Store meets it: opened, known by its uid, and one sync at a time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wanllmdb import _clock, _ids, _locks
from wanllmdb._catalog import remotes
from wanllmdb._remotes.address import Address, open_remote, refuse_nested
from wanllmdb._remotes.port import MissingKeyError, Remote
from wanllmdb._remotes.probe import probe
from wanllmdb._store import Store
from wanllmdb._sync import keys
from wanllmdb.errors import (
    IntegrityError,
    NewerRemoteError,
    RemoteNotFoundError,
    StoreLockedError,
)
from wanllmdb.types import RemoteRecord


class Peer:
    """A remote, open; and this Store's device there.

    Args:
        store: The Store.
        record: The remote's name and place.
    """

    def __init__(self, store: Store, record: RemoteRecord) -> None:
        self.store = store
        self.record = record
        self.uid = record.uid
        self.remote: Remote = open_remote(address_of(record))

    @property
    def device(self) -> str:
        """What this Store is called there."""
        return remotes.device(self.store.catalog.reader)

    def check(self) -> None:
        """See that it is the remote that it was.

        Raises:
            NewerRemoteError: a newer wanllmdb made it.
            RemoteNotFoundError: it is none any more.
            IntegrityError: it is another one.
        """
        held = identity(self.remote)
        if held is None:
            raise RemoteNotFoundError(
                f"{self.remote.url} is no remote of wanllmdb any more.",
                hint=f"`wanllmdb remote rm {self.record.name}`, and add it anew.",
                remote=self.record.name,
            )
        if held != self.uid:
            raise IntegrityError(
                f"{self.remote.url} is another remote than it was.",
                hint=f"`wanllmdb remote rm {self.record.name}`, and add it anew.",
                remote=self.record.name,
            )

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other syncs of this Store with this remote out.

        Raises:
            StoreLockedError: one is under way.
        """
        lock = _locks.try_acquire(self.store.lock_dir / f"sync-{self.uid}.lock")
        if lock is None:
            raise StoreLockedError(
                f"A sync with {self.record.name} is under way in another process.",
                hint="Wait for it; what it does not take along, the next one does.",
            )
        try:
            with self.store.catalog.transaction(durable=True) as connection:
                remotes.bind_device(connection, binding(self.store.path))
            yield
        finally:
            lock.release(unlink=False)
            self.remote.close()


def address_of(record: RemoteRecord) -> Address:
    """Where a remote is."""
    return Address(record.url, record.endpoint_url, record.profile, record.path_style)


def binding(path: Path) -> str:
    """What tells a Store from any copy of it: the machine, and the directory itself."""
    try:
        machine = Path("/etc/machine-id").read_text("ascii").strip()
    except (OSError, ValueError):
        machine = os.uname().nodename
    found = path.stat()
    return f"{machine}/{found.st_dev}/{found.st_ino}"


def identity(remote: Remote) -> str | None:
    """The uid of a remote; None where nobody made it one yet.

    Raises:
        NewerRemoteError: a newer wanllmdb made it.
        IntegrityError: what stands there is none of ours.
    """
    try:
        data = remote.get(keys.FORMAT_FILE, 0, 4096)
    except MissingKeyError:
        return None
    try:
        raw: Any = json.loads(data)
        version, uid = raw["format"], raw["uid"]
        right = isinstance(version, int) and keys.is_device(uid)
    except (ValueError, TypeError, KeyError, RecursionError):
        right = False
    if not right:
        raise IntegrityError(
            f"{keys.FORMAT_FILE} of {remote.url} is none of ours.",
            hint="Choose another prefix.", remote=remote.url,
        )  # fmt: skip
    if version > keys.FORMAT:
        raise NewerRemoteError(
            f"{remote.url} has format {version}; this wanllmdb knows {keys.FORMAT}.",
            hint="Upgrade wanllmdb: pip install -U wanllmdb", remote=remote.url,
        )  # fmt: skip
    return str(uid)


def found(remote: Remote) -> str:
    """The uid of a remote, which is made one where it is none yet."""
    held = identity(remote)
    if held is not None:
        return held
    text = json.dumps({"format": keys.FORMAT, "uid": _ids.uid()})
    remote.create(keys.FORMAT_FILE, text.encode())
    held = identity(remote)
    assert held is not None
    return held


def add_remote(
    store: Store, name: str, address: Address, *, single_writer: bool = False
) -> RemoteRecord:
    """Name a remote, and see whether exclusive create holds there.

    Args:
        store: The Store.
        name: What it shall be called.
        address: Where it is.
        single_writer: Do not try: one device alone shall write there.

    Raises:
        ConflictError: there is one of that name.
        RemoteError: it cannot be reached, or not written.
    """
    refuse_nested(address, store.path)
    remotes.check_free(store.catalog.reader, name)
    remote = open_remote(address)
    try:
        uid = found(remote)
        alone = single_writer or not probe(remote)
    finally:
        remote.close()
    with store.catalog.transaction(durable=True) as connection:
        first = not remotes.listed(connection)
        record = RemoteRecord(
            name, address.url, address.endpoint_url, address.profile,
            address.path_style, alone, first, uid, _clock.now_us(),
        )  # fmt: skip
        remotes.add(connection, record)
    return record


def test_remote(store: Store, record: RemoteRecord) -> bool:
    """Try a remote again; whether exclusive create holds there."""
    peer = Peer(store, record)
    try:
        peer.check()
        safe = probe(peer.remote)
    finally:
        peer.remote.close()
    with store.catalog.transaction(durable=True) as connection:
        remotes.set_single_writer(connection, record.name, not safe)
    return safe


def choose(store: Store, wanted: str | None, *, add: bool = True) -> RemoteRecord:
    """The remote that is meant: by name, by URL, or the default.

    Args:
        store: The Store.
        wanted: Name or URL; None: the default.
        add: Whether a URL that has no name yet is added, as the name of its last part.

    Raises:
        RemoteNotFoundError: there is none.
    """
    reader = store.catalog.reader
    if wanted is None:
        default = remotes.find_default(reader)
        if default is None:
            raise RemoteNotFoundError(
                "No remote is chosen.",
                hint="`wanllmdb remote add NAME URL` adds one; `remote default NAME`"
                " chooses among several.",
            )
        return default
    if "://" not in wanted and "/" not in wanted:
        return remotes.get(reader, wanted)
    address = Address(wanted)
    known = remotes.find_url(reader, address.url, address.endpoint_url)
    if known is not None:
        return known
    name = address.url.rstrip("/").rpartition("/")[2]
    if not add:
        raise RemoteNotFoundError(
            f"{address.url} is no remote of this Store yet.",
            hint=f"`wanllmdb remote add {name} {address.url}` makes it one.",
            remote=address.url,
        )
    return add_remote(store, name, address)
