"""Manifests: what a version holds, one entry for each path, in one canonical form.

The same content has the same bytes, so a manifest's digest is the version's. Paths and
digests are checked by the same rules when they are added, read and downloaded.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from wanllmdb import _digest
from wanllmdb.errors import IntegrityError, InvalidNameError
from wanllmdb.types import Digest

FORMAT = 1
MAX_PATH_BYTES = 1024
MAX_PART_BYTES = 255
"""What most filesystems take as one name."""

PLAIN = 200
"""Characters of a path that is too short for any limit."""

_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._ -]*(?:/[A-Za-z0-9_-][A-Za-z0-9._ -]*)*")
"""Paths that are canonical at a glance: most are."""

_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\\]")
_DRIVE = re.compile(r"[A-Za-z]:")
_MD5 = re.compile(r"[0-9a-f]{32}\Z")


class Entry(NamedTuple):
    """One path of a version.

    Attributes:
        path: Where it is in the version: POSIX, relative, NFC.
        digest: ``sha256:`` and hex. Of a reference: what was said of its bytes, else
            None.
        size: Bytes; of a reference None where it is not known.
        uri: What a reference points at; None for stored bytes.
        md5: Of a reference, the MD5 that was given for its bytes: 32 hex digits.
    """

    path: str
    digest: Digest | None
    size: int | None
    uri: str | None = None
    md5: str | None = None


def entry_path(value: str | os.PathLike[str]) -> str:
    r"""The canonical form of an entry's path: ``./a//b`` is ``a/b``.

    Raises:
        InvalidNameError: it is absolute, leads outside (``..``), has a drive, ``\``, a
            control character or half a character, or is too long.
    """
    raw: object = os.fspath(value)
    text = raw if isinstance(raw, str) else ""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if reason := _fault(text, parts):
        raise InvalidNameError(
            f"The entry path {str(raw)[:80]!r} {reason}.",
            hint="Use a relative path with / between names.",
        )
    return "/".join(parts)


def _fault(text: str, parts: list[str]) -> str | None:
    if _FORBIDDEN.search(text):
        return "holds a backslash, a control character or half a character"
    if text.startswith("/") or _DRIVE.match(text):
        return "is absolute"
    if ".." in parts:
        return "leads outside by .."
    if not parts:
        return "is empty, or no text"
    if len(text) * 4 > MAX_PART_BYTES and (
        len(text.encode()) > MAX_PATH_BYTES
        or any(len(part.encode()) > MAX_PART_BYTES for part in parts)
    ):
        return f"is longer than {MAX_PATH_BYTES} bytes, or a name in it than 255"
    return None


class Manifest:
    """Entries by path. A path is a file or a directory, never both.

    Args:
        entries: What it holds; each path once.
    """

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._entries: dict[str, Entry] = {}
        self._directories: dict[str, int] = {}
        self.put_all(entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return (self._entries[path] for path in sorted(self._entries))

    def __contains__(self, path: object) -> bool:
        return path in self._entries

    def find(self, path: str) -> Entry | None:
        """The entry of a path, if there is one."""
        return self._entries.get(path)

    def put(self, entry: Entry) -> None:
        """Add an entry, in place of one of the same path.

        Raises:
            InvalidNameError: the path is a directory of other entries, or the reverse.
        """
        self.put_all([entry])

    def put_all(self, entries: Iterable[Entry]) -> None:
        """Add entries, in place of those of the same paths; all of them or none.

        Raises:
            InvalidNameError: a path is a directory of other entries, or the reverse.
        """
        new = {entry.path: entry for entry in entries}
        inside: dict[str, int] = {}
        for path in new.keys() - self._entries.keys():
            above = path.rpartition("/")[0]
            inside[above] = inside.get(above, 0) + 1
        self._refuse(new, inside)
        for above, more in inside.items():
            self._count(above, more)
        self._entries.update(new)

    def _refuse(self, new: Mapping[str, Entry], inside: Iterable[str]) -> None:
        """Raise where a path would be a file and a directory at once."""
        above: set[str] = set()
        for directory in inside:
            while directory and directory not in above:
                above.add(directory)
                directory = directory.rpartition("/")[0]
        for directory in [d for d in above if d in self._entries or d in new]:
            path = next(p for p in sorted(new) if p.startswith(f"{directory}/"))
            raise InvalidNameError(
                f"{path!r} needs {directory!r} to be a directory, and it is a file.",
                hint="Give one of them another name.",
            )
        if taken := new.keys() & self._directories.keys():
            raise InvalidNameError(
                f"{min(taken)!r} is a directory of other entries.",
                hint="Give the file another name.",
            )

    def _count(self, directory: str, more: int) -> None:
        """Count what is in a directory, and in those above where it comes or goes."""
        while directory:
            before = self._directories.get(directory, 0)
            self._directories[directory] = before + more
            if before and before + more:
                return
            if not before + more:
                del self._directories[directory]
            directory, more = directory.rpartition("/")[0], 1 if more > 0 else -1

    def drop(self, path: str) -> Entry | None:
        """Remove an entry; None if there was none."""
        entry = self._entries.pop(path, None)
        if entry is not None:
            self._count(path.rpartition("/")[0], -1)
        return entry

    def below(self, directory: str) -> list[Entry]:
        """Entries under a directory, sorted; "" for all."""
        if not directory:
            return list(self)
        return [e for e in self if e.path.startswith(directory + "/")]

    @property
    def size(self) -> int:
        """Bytes of all entries, as far as they are known."""
        return sum(entry.size or 0 for entry in self._entries.values())

    def encode(self) -> bytes:
        """Its canonical bytes: JSON without spaces, sorted by path."""
        from json.encoder import encode_basestring as quoted

        found = ",".join(
            f'[{quoted(path)},"{digest}",{size}]' if uri is None
            else _json_of(path, digest, size, uri, md5)
            for path, digest, size, uri, md5 in self
        )  # fmt: skip
        return f'{{"format":{FORMAT},"entries":[{found}]}}\n'.encode()


def _json_of(*fields: str | int | None) -> str:
    import json

    given = fields if fields[-1] is not None else fields[:-1]
    return json.dumps(given, ensure_ascii=False, separators=(",", ":"))


def decode(data: bytes) -> Manifest:
    """The manifest of bytes that are its canonical form.

    Raises:
        IntegrityError: they are none, an entry breaks the rules for paths, or they say
            it in other bytes than `encode` does: content has one digest.
    """
    import json

    try:
        found = json.loads(data)
        if found["format"] != FORMAT:
            message = f"its format is {found['format']!r}"
            raise ValueError(message)
        if not isinstance(found["entries"], list):
            message = "its entries are no list"
            raise TypeError(message)
        manifest = Manifest(_entry(*fields) for fields in found["entries"])
        if len(manifest) != len(found["entries"]):
            message = "a path is there twice"
            raise ValueError(message)
        if manifest.encode() != data:
            message = "it is not in its canonical form"
            raise ValueError(message)
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise IntegrityError(
            f"This is no manifest: {error}.",
            hint="Do not use it; see where it is from.",
        ) from error
    return manifest


def _entry(
    path: str,
    digest: str | None,
    size: int | None,
    uri: Any = None,
    md5: Any = None,
) -> Entry:
    plain = len(path) <= PLAIN and _PLAIN.fullmatch(path)
    if not plain and entry_path(path) != path:
        message = f"{path!r} is not in its canonical form"
        raise ValueError(message)
    if digest is not None:
        _digest.hex_of(digest)
    elif uri is None:
        message = f"{path!r} has neither digest nor reference"
        raise ValueError(message)
    known = type(size) is int and size >= 0
    if not known and not (size is None and uri is not None):
        message = f"{path!r} has a size of {size!r}"
        raise ValueError(message)
    if uri is not None and not isinstance(uri, str):
        message = f"{path!r} refers to {uri!r}"
        raise ValueError(message)
    if md5 is not None and (uri is None or not _MD5.match(md5)):
        message = f"{path!r} has an MD5 of {md5!r}"
        raise ValueError(message)
    return Entry(path, None if digest is None else Digest(digest), size, uri, md5)
