"""Where things lie at a remote (docs/format.md, "A remote")."""

from __future__ import annotations

import re
from urllib.parse import quote

FORMAT_FILE = "wanllmdb.json"
FORMAT = 1
"""The format of a remote that this library writes; it refuses a newer one."""

LOG = "log/"
PARTS = "parts/"
BLOBS = "blobs/"
PACKS = "packs/"
VERSIONS = "versions/"
ALIASES = "aliases/"
GC = "gc/"
GC_DONE = "gc/done.json"
"""Says by a nonce that a gc deleted something since: what was known may be gone."""

_DEVICE = re.compile(r"[0-9a-f]{32}\Z")
_BATCH = re.compile(r"log/([0-9a-f]{32})/(\d{10})\.json\Z")


def batch(device: str, seq: int) -> str:
    """A device's batch."""
    return f"{LOG}{device}/{seq:010d}.json"


def parse_batch(key: str) -> tuple[str, int] | None:
    """(device, number) of a batch's key; None if it is no such key."""
    match = _BATCH.match(key)
    return None if match is None else (match[1], int(match[2]))


def is_device(text: str) -> bool:
    """Whether a text can be a device."""
    return _DEVICE.match(text) is not None


def part(project: str, name: str) -> str:
    """A sealed part."""
    return f"{PARTS}{project}/{name}"


def blob(name: str) -> str:
    """A blob, by its hex digest."""
    return f"{BLOBS}{name[:2]}/{name}"


def pack(name: str) -> str:
    """Many small objects end to end, by the hex digest of it all."""
    return f"{PACKS}{name[:2]}/{name}"


def version(series: str, number: int) -> str:
    """The claim of a version's number."""
    return f"{VERSIONS}{series}/{number}.json"


def alias(artifact: str, alias_key: str, gen: int) -> str:
    """A generation of an alias."""
    return f"{ALIASES}{artifact}/{quote(alias_key, safe='')}/{gen:08d}.json"
