"""Entries by reference: what is known of bytes that stay where they are.

A file of this machine is hashed where it lies, and a directory file by file. Of what is
elsewhere only what was said is known: nothing is asked of a network here.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from wanllmdb import _digest, _progress, _references
from wanllmdb._manifest import Entry, entry_path
from wanllmdb._scanning import scan
from wanllmdb._staging import hash_file
from wanllmdb.errors import DigestMismatchError, InvalidInputError
from wanllmdb.types import Digest


class Known(NamedTuple):
    """What was said of the bytes; None for what was not."""

    digest: Digest | None = None
    size: int | None = None
    md5: str | None = None


def known(size: object, md5: object, sha256: object) -> Known:
    """What is said of bytes, in the forms that manifests have.

    Raises:
        InvalidInputError: it cannot be of any bytes.
    """
    if size is not None and (type(size) is not int or size < 0):
        raise InvalidInputError(
            f"A size of {size!r} is none.", hint="Give the number of bytes, or None."
        )
    if isinstance(sha256, str):
        sha256 = sha256.removeprefix(_digest.PREFIX)
    return Known(
        None if sha256 is None
        else Digest(_digest.PREFIX + _hex(sha256, 64, "sha256_hash")),
        size,
        None if md5 is None else _hex(md5, 32, "md5_hash"),
    )  # fmt: skip


def _hex(value: object, digits: int, what: str) -> str:
    if not isinstance(value, str) or not re.fullmatch(
        rf"[0-9A-Fa-f]{{{digits}}}", value
    ):
        raise InvalidInputError(
            f"{what}={value!r} is none.", hint=f"Give {digits} hexadecimal digits."
        )
    return value.lower()


def entries(
    uri: str, name: str | None, said: Known, limit: int, *, hashed: bool
) -> list[Entry]:
    """The entries of a reference: one, or one for each file of a directory.

    Args:
        uri: What to refer to.
        name: The path in the artifact; None for the last part of the URI, and of a
            directory for the root.
        said: What is known beforehand.
        limit: Files that a directory may have.
        hashed: Read what is on this machine.

    Raises:
        InvalidInputError: the URI is refused, or the file cannot be read; or the
            directory holds too much, or what cannot be added.
        DigestMismatchError: the file is not what was said of it.
    """
    reference = _references.for_storage(uri)
    place = reference.local
    if hashed and place is not None and os.path.isdir(place):  # noqa: PTH112 - never raises
        if said != Known():
            raise InvalidInputError(
                f"{_references.shown(uri)} is a directory, which has no size or hash.",
                hint="Give these for files.",
            )
        return _below(place, name or "", limit)
    path = entry_path(reference.name if name is None else name)
    if hashed and place is not None:
        said = _found(place, said)
    return [Entry(path, said.digest, said.size, uri, said.md5)]


def _below(root: Path, prefix: str, limit: int) -> list[Entry]:
    files = scan(root, prefix, limit).files
    uris = [_references.for_storage(Path(file.source).as_uri()).uri for file in files]
    made = []
    total = sum(file.stat.size for file in files)
    with _progress.shown(f"hashing {root}", total) as told:
        for file, uri in zip(files, uris, strict=True):
            held = hash_file(Path(file.source))
            made.append(Entry(file.path, held.digest, held.size, uri))
            told(file.stat.size)
    return made


def _found(path: Path, said: Known) -> Known:
    """What a file holds now, which must be what was said."""
    digest, size, _ = hash_file(path)
    right = said.digest in (None, digest) and said.size in (None, size)
    if not right or said.md5 not in (None, said.md5 and _md5(path)):
        raise DigestMismatchError(
            f"{path} is not what was said of it: it has {digest} and {size} bytes.",
            hint="Leave size and hash out, or see which file is meant.",
            path=str(path), digest=digest,
        )  # fmt: skip
    return Known(digest, size, said.md5)


def _md5(path: Path) -> str:
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(
            file, lambda: hashlib.md5(usedforsecurity=False)
        ).hexdigest()
