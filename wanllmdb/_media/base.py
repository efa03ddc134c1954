"""What all media have in common: bytes, a caption, and a JSON form that names both."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from wanllmdb import _json, _values
from wanllmdb._media.content import Content
from wanllmdb.errors import InvalidInputError
from wanllmdb.types import JSONValue

if TYPE_CHECKING:
    from wanllmdb._media.documents import Reader

_T = TypeVar("_T")
_EXTENSION = re.compile(r"\.[a-z0-9]{1,16}")

Document = dict[str, Any]
"""The JSON form of a value; its bytes are elsewhere, under the ``path`` it names."""


class Place:
    """Where the bytes of media go, before somebody stores them in a run or an artifact.

    Args:
        name: Names a content's file, without folder and extension, by its hex digest.

    Attributes:
        contents: What was put there, by path.
    """

    def __init__(self, name: Callable[[str], str] = lambda sha256: sha256) -> None:
        self._name = name
        self.contents: dict[str, Content] = {}

    def put(self, content: Content, folder: str, extension: str) -> Document:
        """Take some bytes; ``path``, ``sha256`` (hex) and ``size`` of them there.

        Args:
            content: The bytes.
            folder: Below ``media/``.
            extension: What the file's name ends with: ``.png``.
        """
        sha256 = content.digest.partition(":")[2]
        path = f"media/{folder}/{self._name(sha256)}{extension}"
        self.contents[path] = content
        return {"path": path, "sha256": sha256, "size": content.size}


class Value(ABC):
    """What `Artifact.add` and `Run.log` take beside plain values."""

    TYPE: ClassVar[str]
    """The ``_type`` of its JSON form in an artifact."""

    @abstractmethod
    def _document(self, place: Place) -> Document:
        """The JSON form, from which `_of` makes an equal value."""

    @classmethod
    @abstractmethod
    def _of(cls, document: Mapping[str, Any], reader: Reader) -> Self:
        """The value of a JSON form.

        Raises:
            ValueError, TypeError, LookupError: it is none.
        """

    def _reference(self, place: Place) -> Document:
        """The JSON form in the row of a run."""
        return self._document(place)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        assert isinstance(other, Value)
        mine, its = self._document(Place()), other._document(Place())
        return _json.dumps(mine) == _json.dumps(its)

    __hash__ = None  # type: ignore[assignment]


class Media(Value):
    """A value whose bytes are a file."""

    FOLDER: ClassVar[str]
    """Where its files are, below ``media/``."""

    _content: Content
    _extension: str
    _caption: str | None

    @property
    def caption(self) -> str | None:
        """What it shows, for people."""
        return self._caption

    @property
    def format(self) -> str:
        """What the file's name ends with: ``png``."""
        return self._extension[1:]

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._content.size

    @property
    def sha256(self) -> str:
        """The SHA-256 of the file, in hex."""
        return self._content.digest.partition(":")[2]

    def read(self) -> bytes:
        """The file's bytes.

        Raises:
            IntegrityError: it was got from an artifact whose bytes are damaged.
        """
        return self._content.read()

    def __repr__(self) -> str:
        named = "" if self._caption is None else f" {self._caption!r}"
        return f"<{type(self).__name__}{named} {self.format} {self.size} bytes>"

    def _document(self, place: Place) -> Document:
        return {
            "_type": self.TYPE,
            **place.put(self._content, self.FOLDER, self._extension),
            **present(caption=self._caption, **self._facts()),
        }

    def _facts(self) -> Document:
        """What else the JSON form says; None is left out."""
        return {}

    @classmethod
    def _of(cls, document: Mapping[str, Any], reader: Reader) -> Self:
        made = cls.__new__(cls)
        made._content = reader.content(document)
        made._extension = extension_of(document["path"])
        made._caption = optional(document, "caption", str)
        return made

    @classmethod
    @abstractmethod
    def _reference_of_all(cls, items: Sequence[Any], place: Place) -> Document:
        """The JSON form of a list of them, as W&B has it."""


def present(**facts: Any) -> Document:
    """Those that are not None."""
    return {name: value for name, value in facts.items() if value is not None}


def captions(items: Sequence[Media]) -> dict[str, JSONValue]:
    """The captions of several media, where one of them has one."""
    if all(item.caption is None for item in items):
        return {}
    return {"captions": [item.caption or "" for item in items]}


def caption_of(caption: Any) -> str | None:
    """A caption as it is stored."""
    return None if caption is None else _values.clean_text(str(caption))


def required(document: Mapping[str, Any], name: str, kind: type[_T]) -> _T:
    """A field that must be there.

    Raises:
        TypeError: it is missing, or of another type.
    """
    value = document.get(name)
    if type(value) is not kind:
        message = f"its {name!r} is {type(value).__name__}, not {kind.__name__}"
        raise TypeError(message)
    return value


def optional(document: Mapping[str, Any], name: str, kind: type[_T]) -> _T | None:
    """A field that may be missing.

    Raises:
        TypeError: it is of another type.
    """
    return None if document.get(name) is None else required(document, name, kind)


def extension_of(path: str | os.PathLike[str], known: Sequence[str] = ()) -> str:
    """What a path ends with, lower case and with its dot; "" for nothing.

    Args:
        path: The path.
        known: Longer ones that count as one: ``.pts.json``.
    """
    name = os.fspath(path).rpartition("/")[2].lower()
    for extension in known:
        if name.endswith(extension):
            return extension
    found = os.path.splitext(name)[1]  # noqa: PTH122 - a name, no path
    return found if _EXTENSION.fullmatch(found) else ""


def is_path(value: Any) -> bool:
    """Whether media are given by path."""
    return isinstance(value, (str, os.PathLike))


def refuse_remote(path: Any, what: str) -> None:
    """Refuse a URI: media hold bytes.

    Raises:
        InvalidInputError: it is one.
    """
    if isinstance(path, str) and path.startswith(
        ("s3://", "gs://", "http://", "https://")
    ):
        raise InvalidInputError(
            f"{what} takes a file of this machine, not {path[:80]!r}.",
            hint="Fetch it first, or use Artifact.add_reference.",
        )


def read_all(file: Any, what: str) -> bytes:
    """The bytes of an open file, from its start where it can go there; text as UTF-8.

    Raises:
        InvalidInputError: it gives neither bytes nor text.
    """
    if hasattr(file, "seekable") and file.seekable():
        file.seek(0)
    data = file.read()
    if isinstance(data, str):
        return data.encode()
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise InvalidInputError(
            f"{what} read {type(data).__name__} from a file, not bytes.",
            hint="Open it in binary mode.",
        )
    return bytes(data)
