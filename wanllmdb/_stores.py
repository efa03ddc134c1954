"""The Stores that this process has open for recording, one for each directory."""

from __future__ import annotations

from pathlib import Path

from wanllmdb import _settings
from wanllmdb._store import Store
from wanllmdb.types import Location

_open: dict[Path, Store] = {}
_disabled: bool | None = None


def follow_mode(*, disabled: bool | None) -> None:
    """Note whether the current run is disabled; None where there is none."""
    global _disabled
    _disabled = disabled


def keep_nothing() -> bool:
    """Whether what is added now is kept nowhere: mode "disabled".

    That of the current run counts, and where there is none that of the settings.

    Raises:
        InvalidSettingError: the settings cannot be read.
    """
    if _disabled is not None:
        return _disabled
    return bool(_settings.load(_settings.find_store().path)["mode"] == "disabled")


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
