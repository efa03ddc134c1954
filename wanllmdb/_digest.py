"""Digests: SHA-256, written with the name of the algorithm."""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO

from wanllmdb.types import Digest

PREFIX = "sha256:"
_CHUNK = 1 << 20
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")


def of_bytes(data: bytes) -> Digest:
    """The digest of bytes in memory."""
    import hashlib

    return Digest(PREFIX + hashlib.sha256(data).hexdigest())


def of_file(path: Path) -> Digest:
    """The digest of a file's bytes, streaming.

    Raises:
        OSError: it cannot be read.
    """
    import hashlib

    with path.open("rb") as file:
        return Digest(PREFIX + hashlib.file_digest(file, "sha256").hexdigest())


def of_copied(reader: BinaryIO, writer: BinaryIO) -> tuple[Digest, int]:
    """Copy bytes, streaming; their digest, and how many there were."""
    import hashlib

    digest, size = hashlib.sha256(), 0
    while chunk := reader.read(_CHUNK):
        digest.update(chunk)
        writer.write(chunk)
        size += len(chunk)
    return Digest(PREFIX + digest.hexdigest()), size


def hex_of(digest: str) -> str:
    """The hexadecimal part.

    Raises:
        ValueError: the text is no digest, so it must never become a path.
    """
    if not _DIGEST.match(digest):
        message = f"{digest[:80]!r} is not a sha256 digest"
        raise ValueError(message)
    return digest.removeprefix(PREFIX)
