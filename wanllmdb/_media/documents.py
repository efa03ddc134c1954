"""The JSON of media in an artifact: written, and read with care.

A document may come from anywhere, so its types are checked, and the bytes that it names
are looked for among the artifact's own entries and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from wanllmdb import _json
from wanllmdb._media.base import Document, Value, required
from wanllmdb._media.content import Content
from wanllmdb.errors import IntegrityError, InvalidInputError

MAX_BYTES = 1 << 30
"""A document of more bytes is not read: it would not fit the memory."""

CLASSES = {
    "image-file": ("image", "Image"),
    "audio-file": ("audio", "Audio"),
    "video-file": ("video", "Video"),
    "html-file": ("html", "Html"),
    "object3D-file": ("solid", "Object3D"),
    "molecule-file": ("solid", "Molecule"),
    "histogram": ("histogram", "Histogram"),
    "table": ("table", "Table"),
}
"""Where the class of each ``_type`` is. Each loads when it is first needed."""


def path_of(name: str, type_: str) -> str:
    """Where the document of a value is in an artifact: ``name.table.json``."""
    ending = f".{type_}.json"
    return name if name.endswith(ending) else name + ending


def paths_of(name: str) -> list[str]:
    """Where the document of a name may be."""
    return [path_of(name, type_) for type_ in CLASSES]


def encoded(document: Document) -> bytes:
    """The bytes of a document: one line of JSON.

    Raises:
        InvalidInputError: it cannot be written: an int has thousands of digits.
    """
    try:
        return f"{_json.dumps(document)}\n".encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidInputError(
            f"This value cannot be written: {error}.", hint="Keep it as text."
        ) from error


class Reader:
    """Makes values of documents.

    Args:
        find: The content of a path; raises LookupError where there is none.
    """

    def __init__(self, find: Callable[[str], Content]) -> None:
        self._find = find

    def content(self, document: Mapping[str, Any]) -> Content:
        """The bytes that a document names.

        Raises:
            ValueError, TypeError, LookupError: there are none, or they are others.
        """
        path, sha256 = required(document, "path", str), document.get("sha256")
        found = self._find(path)
        if sha256 is not None and found.digest != f"sha256:{sha256}":
            message = f"{path!r} is not what it was"
            raise ValueError(message)
        return found

    def value(self, document: Any) -> Value:
        """The value of a document.

        Raises:
            ValueError, TypeError, LookupError: it is none.
        """
        kind = document.get("_type") if isinstance(document, dict) else None
        if not isinstance(kind, str) or kind not in CLASSES:
            message = f"its _type is {kind!r}"
            raise ValueError(message)
        module, name = CLASSES[kind]
        home = import_module(f"wanllmdb._media.{module}")
        made: Value = getattr(home, name)._of(document, self)
        return made

    def read(self, path: str, whose: str) -> Value:
        """The value whose document is at a path.

        Args:
            path: The path, which says of what type it is.
            whose: Where the path is, for the message.

        Raises:
            IntegrityError: there is no such document, or its bytes have changed.
        """
        try:
            content = self._find(path)
            if content.size > MAX_BYTES:
                message = f"it has {content.size} bytes of {MAX_BYTES}"
                raise ValueError(message)
            made = self.value(_json.loads(content.read()))
            if path != path_of(path, made.TYPE):
                message = f"its _type is {made.TYPE!r}"
                raise ValueError(message)
            return made
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError,
                RecursionError, MemoryError) as error:  # fmt: skip
            raise IntegrityError(
                f"{path!r} of {whose} is no document of media: {error}.",
                hint="Do not use it; see where it is from.",
            ) from error
