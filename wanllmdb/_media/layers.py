"""Layers over an image: boxes, and masks that have a class for each pixel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from wanllmdb import _extras, _json, _values
from wanllmdb._media import pictures
from wanllmdb._media.arrays import as_numpy
from wanllmdb._media.base import Document, Place, extension_of
from wanllmdb._media.content import Content
from wanllmdb.errors import InvalidInputError
from wanllmdb.types import JSONValue

if TYPE_CHECKING:
    from wanllmdb._media.documents import Reader


def class_list(classes: Iterable[Any]) -> list[Document]:
    """Classes as they are stored: an int ``id`` and a ``name`` each.

    Raises:
        InvalidInputError: one is none.
    """
    found = []
    for one in classes:
        named = one.get("id") if isinstance(one, Mapping) else None
        if not isinstance(named, int) or not isinstance(one.get("name"), str):
            raise InvalidInputError(
                f"{_values.capped_repr(one)} is no class.",
                hint='Give {"id": 1, "name": "cat"}.',
            )
        found.append({"id": int(named), "name": str(one["name"])})
    return found


@dataclass(frozen=True, slots=True)
class Boxes:
    """One layer of boxes.

    Attributes:
        text: ``{"box_data": [...], "class_labels": {...}}`` as JSON.
    """

    text: str

    @classmethod
    def given(cls, layer: Any) -> Self:
        """What a user says of a layer, as W&B has it.

        Raises:
            InvalidInputError: it has no list of boxes that have positions.
        """
        data = layer.get("box_data") if isinstance(layer, Mapping) else None
        if not isinstance(data, (list, tuple)) or not all(
            isinstance(box, Mapping) and isinstance(box.get("position"), Mapping)
            for box in data
        ):
            raise InvalidInputError(
                f"{_values.capped_repr(layer)} is no layer of boxes.",
                hint='Give {"box_data": [{"position": {"minX": ...}, "class_id": 1}]}.',
            )
        return cls(_json.dumps(_values.config_value(layer)))

    def document(self, place: Place) -> Document:
        """Its JSON form; the boxes are a file."""
        content = Content.of(self.text.encode())
        put = place.put(content, "metadata/boxes2D", ".boxes2D.json")
        return {"_type": "boxes2D", **put}

    @classmethod
    def of(cls, document: Mapping[str, Any], reader: Reader) -> Self:
        """The layer of a JSON form.

        Raises:
            ValueError, TypeError, LookupError: it is none.
        """
        return cls.given(_json.loads(reader.content(document).read()))


@dataclass(frozen=True, slots=True)
class Mask:
    """One mask.

    Attributes:
        content: An image; a pixel's brightness is its class.
        extension: Of the file.
        labels: Names of the classes, by number as text.
    """

    content: Content
    extension: str
    labels: Mapping[str, JSONValue]

    @classmethod
    def given(cls, layer: Any) -> Self:
        """What a user says of a mask, as W&B has it.

        Raises:
            InvalidInputError: it has neither a path nor ints of 0 to 255.
        """
        if not isinstance(layer, Mapping) or not {"mask_data", "path"} & set(layer):
            raise InvalidInputError(
                f"{_values.capped_repr(layer)} is no mask.",
                hint='Give {"mask_data": array, "class_labels": {1: "cat"}}.',
            )
        labels = _labels(layer.get("class_labels") or {})
        if "path" in layer:
            content = Content.of_file(layer["path"])
            found = pictures.seen(content.read())
            return cls(content, extension_of(layer["path"]) or found.extension, labels)
        return cls(Content.of(_encoded(layer["mask_data"])), ".mask.png", labels)

    def document(self, place: Place) -> Document:
        """Its JSON form."""
        put = place.put(self.content, "images/mask", self.extension)
        made = {"_type": "mask", **put}
        return made | ({"class_labels": dict(self.labels)} if self.labels else {})

    @classmethod
    def of(cls, document: Mapping[str, Any], reader: Reader) -> Self:
        """The mask of a JSON form.

        Raises:
            ValueError, TypeError, LookupError: it is none.
        """
        content = reader.content(document)
        extension = extension_of(document["path"], (".mask.png",))
        return cls(content, extension, _labels(document.get("class_labels") or {}))


def _labels(given: Any) -> dict[str, JSONValue]:
    if not isinstance(given, Mapping):
        raise InvalidInputError(
            f"class_labels are a mapping, not a {type(given).__name__}.",
            hint='Give {1: "cat"}.',
        )
    return {str(number): str(name) for number, name in given.items()}


def _encoded(data: Any) -> bytes:
    """A mask's classes as a PNG of one channel."""
    pillow = _extras.need("PIL.Image", "media", "A mask of an array")
    pixels = as_numpy(data, "A mask")
    if pixels.ndim != 2 or not pixels.size or pixels.dtype.kind not in "biu":
        raise InvalidInputError(
            f"A mask is (height, width) of ints, not {pixels.shape} of {pixels.dtype}.",
            hint="Give a class for each pixel.",
        )
    if pixels.min() < 0 or pixels.max() > 255:
        raise InvalidInputError(
            f"A mask's classes are 0 to 255, not {pixels.min()} to {pixels.max()}.",
            hint="Number them anew.",
        )
    height, width = pixels.shape
    raw = pixels.astype("u1").tobytes()
    return pictures.encoded(pillow.frombytes("L", (width, height), raw), "png")
