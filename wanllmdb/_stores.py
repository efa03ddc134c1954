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
        location: Where; default the one that was asked for last, or where there is
            none by the rules of `find_store`.
    """
    if location is None and _open:
        return list(_open.values())[-1]
    place = location or _settings.find_store()
    store = _open.pop(place.path, None) or Store(place, create=True)
    return _open.setdefault(place.path, store)  # of two threads, the first one's


def close_all() -> None:
    """Close every one of them."""
    for store in list(_open.values()):
        store.close()
    _open.clear()
