"""The directory of a Store: what is in it, how it is made, which versions are known."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from wanllmdb import _files
from wanllmdb.errors import NewerStoreError, StoreUnavailableError
from wanllmdb.types import Location

FORMAT = "FORMAT"
FORMAT_VERSION = 1
CATALOG = "catalog.db"
LIVE, PARTS, BLOBS, TMP, LOCKS = "live", "parts", "blobs", "tmp", "locks"
TRASH = "trash"
FEW_BYTES = 256 << 20
"""A disk with less than this left is worth a warning."""


def prepare(path: Path, *, create: bool) -> bool:
    """Check or make a Store's directory; False if it can only be read.

    Raises:
        StoreUnavailableError: there is none, or the place cannot be used.
        NewerStoreError: a newer wanllmdb made it.
        DiskFullError: no space to make it.
    """
    marker = path / FORMAT
    made = False
    try:
        made = marker.exists()
        if made:
            _check_format(marker)
        elif create:
            _create(path)
        else:
            raise StoreUnavailableError(
                f"There is no Store at {path}.",
                hint="Record a run first, or set WANLLMDB_DIR.",
                path=str(path),
            )
        for name in (LIVE, TMP, LOCKS):
            (path / name).mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        if made and _exists(path / CATALOG):
            return False
        raise _files.explain_os_error(error, path) from error
    except ValueError as error:  # a NUL in the path
        raise StoreUnavailableError(
            f"{str(path)!r} is no path: {error}.",
            hint="Set WANLLMDB_DIR to a directory.",
        ) from error
    return os.access(path, os.W_OK)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # not even to be looked at
        return False


def is_store(names: Iterable[str]) -> bool:
    """Whether a directory that holds these names is a Store."""
    return {FORMAT, CATALOG} <= set(names)


def is_catalog(path: Path) -> bool:
    """Whether a path leads to a Catalog, or to a file that SQLite keeps beside it."""
    real = Path(os.path.realpath(path))
    return real.name.startswith(CATALOG) and (real.parent / FORMAT).is_file()


def is_on_network(path: Path) -> bool:
    """Whether a Store lies on a network or user-space filesystem."""
    return _files.is_network(_files.filesystem_type(path))


def concerns(location: Location) -> list[str]:
    """What a user should know of the place of a Store, one sentence each."""
    path = location.path
    kind = _files.filesystem_type(path)
    found = []
    if _files.is_network(kind):
        found.append(
            f"{path} is on a network filesystem ({kind}): SQLite's rollback journal is"
            " used, and durability='buffered' is quicker there. WANLLMDB_DIR names"
            " another place."
        )
    if kind == "overlay" and location.reason == "user data directory":
        found.append(
            f"{path} is in a container's own layer, and gone with the container; set"
            " WANLLMDB_DIR to a mounted directory."
        )
    free = _files.free_bytes(path)
    if free < FEW_BYTES:
        found.append(
            f"{path} has {free / 1e6:.0f} MB left; set WANLLMDB_DIR to a larger disk."
        )
    return found


def _create(path: Path) -> None:
    for directory in (path, path / TMP, path / LIVE, path / LOCKS):
        _files.make_private_dir(directory)
    # Its own .gitignore: a Store inside a repository is never committed.
    _files.write_private(path / ".gitignore", b"*\n")
    line = f"wanllmdb store {FORMAT_VERSION}\n"
    _files.write_durably(path / FORMAT, line.encode(), path / TMP)


def _check_format(marker: Path) -> None:
    line = marker.read_text("utf-8", "replace")
    name, _, version = line.strip().rpartition(" ")
    if name != "wanllmdb store" or not version.isdigit():
        raise StoreUnavailableError(
            f"{marker} is not the FORMAT file of a Store.",
            hint="Point WANLLMDB_DIR at another directory.",
        )
    if int(version) > FORMAT_VERSION:
        raise NewerStoreError(
            f"The Store at {marker.parent} has format {version}; this wanllmdb"
            f" knows {FORMAT_VERSION}.",
            hint="Upgrade wanllmdb: pip install -U wanllmdb",
        )
