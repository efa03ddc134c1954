"""The Stores that this user has recorded in: one path a line, beside the user's config.

Only a convenience of `ls`: nothing depends on it, and nothing here raises.
"""

from __future__ import annotations

import os
from pathlib import Path

from wanllmdb import _settings

_FILE = "stores"


def remember(store: Path) -> None:
    """Note a Store, once."""
    path = _path()
    if path is None or "\n" in str(store) or store in stores():
        return
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        fd = os.open(path, flags, 0o600)
        try:
            os.write(fd, os.fsencode(store) + b"\n")
        finally:
            os.close(fd)
    except OSError:  # a home that cannot be written
        pass


def stores() -> list[Path]:
    """The Stores noted so far, also those that are gone."""
    path = _path()
    try:
        lines = path.read_bytes().splitlines() if path is not None else []
    except OSError:
        return []
    return [Path(os.fsdecode(line)) for line in lines if line]


def _path() -> Path | None:
    config = _settings.user_config()
    return None if config is None else config.with_name(_FILE)
