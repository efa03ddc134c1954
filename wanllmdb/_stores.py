"""The Stores that this process has open for recording, one for each directory."""

from __future__ import annotations

from pathlib import Path

from wanllmdb import _settings
from wanllmdb._store import Store
from wanllmdb.types import Location

_open: dict[Path, Store] = {}


def opened(location: Location | None = None) -> Store:
    """The Store of a directory, opened if need be, made if there is none.

    Args:
        location: Where; default by the rules of `find_store`.
    """
    place = location or _settings.find_store()
    if place.path not in _open:
        _open[place.path] = Store(place, create=True)
    return _open[place.path]


def close_all() -> None:
    """Close every one of them."""
    for store in list(_open.values()):
        store.close()
    _open.clear()
