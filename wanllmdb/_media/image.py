"""Images, with the boxes and masks that lie over them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from wanllmdb import _values
from wanllmdb._media import pictures
from wanllmdb._media.base import (
    Document,
    Media,
    Place,
    caption_of,
    captions,
    extension_of,
    is_path,
    optional,
    read_all,
    refuse_remote,
    required,
)
from wanllmdb._media.content import Content
from wanllmdb._media.layers import Boxes, Mask, class_list
from wanllmdb.errors import InvalidInputError

if TYPE_CHECKING:
    from wanllmdb._media.documents import Reader


class Classes:
    """Names of classes, for the boxes and masks of images.

    Args:
        class_set: Mappings with an ``id`` and a ``name``.

    Raises:
        InvalidInputError: one has not.
    """

    def __init__(self, class_set: Iterable[Mapping[str, Any]]) -> None:
        self.class_set = class_list(class_set)

    def __repr__(self) -> str:
        return f"<Classes {', '.join(str(one['name']) for one in self.class_set)}>"


class Image(Media):
    """An image.

    Its bytes are taken at the call. Those of a file stay as they are; PNG, JPEG, GIF
    and BMP by path need no library, and arrays need Pillow (extra ``media``).

    Args:
        data_or_path: The path of a file, or an open one; an array of (height, width)
            or (height, width, channels); a torch tensor of (channels, height, width);
            a Pillow image, a matplotlib figure, or another Image.
        mode: Pillow's name of what an array's channels are; default L, RGB or RGBA.
        caption: For people.
        grouping: A number, kept as W&B has it.
        classes: Names of classes: mappings with ``id`` and ``name``, or `Classes`.
        boxes: Layers of boxes by name: ``{"box_data": [...], "class_labels": {...}}``.
        masks: Layers of masks by name: ``{"mask_data": array, "class_labels": {...}}``,
            whose ints of 0 to 255 are classes; or ``{"path": ...}`` of an image.
        file_type: What arrays, Pillow images and figures become: ``png`` (default),
            ``jpg``, ``jpeg`` or ``bmp``.
        normalize: Take an array's values between 0 and 1, or -1 and 1, for the whole
            range of brightness, and cut others off at 0 and 255.

    Raises:
        InvalidInputError: it is no image, or something said of it makes no sense.
        MissingExtraError: it takes Pillow, which is not installed.
    """

    TYPE = "image-file"
    FOLDER = "images"

    def __init__(
        self,
        data_or_path: Any,
        mode: str | None = None,
        caption: str | None = None,
        grouping: int | None = None,
        classes: Classes | Iterable[Mapping[str, Any]] | None = None,
        boxes: Mapping[str, Any] | None = None,
        masks: Mapping[str, Any] | None = None,
        file_type: str | None = None,
        normalize: bool = True,
    ) -> None:
        self._caption = caption_of(caption)
        self._grouping = _grouping(grouping)
        self._classes: list[Document] = []
        if isinstance(data_or_path, Image):
            self._take_over(data_or_path)
        else:
            data, known = _bytes_of(
                data_or_path, mode, file_type or "png", normalize=normalize
            )
            self._content, found = data, pictures.seen(data.read())
            self._extension = known or found.extension
            self._width, self._height = found.width, found.height
        if classes is not None:
            named = classes.class_set if isinstance(classes, Classes) else classes
            self._classes = class_list(named)
        self._boxes = {
            str(name): Boxes.given(layer) for name, layer in _layers(boxes, "boxes")
        }
        self._masks = {
            str(name): Mask.given(layer) for name, layer in _layers(masks, "masks")
        }

    def _take_over(self, other: Image) -> None:
        """Become a copy, but for what was said here."""
        self._content, self._extension = other._content, other._extension
        self._width, self._height = other._width, other._height
        self._classes = other._classes
        if self._caption is None:
            self._caption = other._caption
        if self._grouping is None:
            self._grouping = other._grouping

    @property
    def width(self) -> int:
        """Pixels."""
        return self._width

    @property
    def height(self) -> int:
        """Pixels."""
        return self._height

    @property
    def image(self) -> Any:
        """Pillow's image of it.

        Raises:
            MissingExtraError: Pillow is not installed.
        """
        return pictures.opened(self.read())

    def _document(self, place: Place) -> Document:
        made = super()._document(place)
        for name, layers in (("boxes", self._boxes), ("masks", self._masks)):
            if layers:
                made[name] = {key: one.document(place) for key, one in layers.items()}
        return made

    def _facts(self) -> Document:
        return {
            "format": self.format,
            "width": self._width,
            "height": self._height,
            "grouping": self._grouping,
            "classes": self._classes or None,
        }

    @classmethod
    def _of(cls, document: Mapping[str, Any], reader: Reader) -> Self:
        made = super()._of(document, reader)
        made._width = required(document, "width", int)
        made._height = required(document, "height", int)
        made._grouping = optional(document, "grouping", int)
        made._classes = class_list(optional(document, "classes", list) or ())
        boxes = optional(document, "boxes", dict) or {}
        masks = optional(document, "masks", dict) or {}
        made._boxes = {name: Boxes.of(one, reader) for name, one in boxes.items()}
        made._masks = {name: Mask.of(one, reader) for name, one in masks.items()}
        return made

    @classmethod
    def _reference_of_all(cls, items: Sequence[Image], place: Place) -> Document:
        found = [item._reference(place) for item in items]
        made: Document = {
            "_type": "images/separated",
            "width": items[0].width,
            "height": items[0].height,
            "format": items[0].format,
            "count": len(items),
            "filenames": [one["path"] for one in found],
            **captions(items),
        }
        for name in ("boxes", "masks"):
            if any(name in one for one in found):
                made[f"all_{name}"] = [one.get(name) for one in found]
        return made


def _grouping(grouping: Any) -> int | None:
    found = None if grouping is None else _values.step_of(grouping)
    if found is None and grouping is not None:
        raise InvalidInputError(
            f"{_values.capped_repr(grouping)} is no grouping.", hint="Give an int."
        )
    return found


def _bytes_of(
    data: Any, mode: str | None, file_type: str, *, normalize: bool
) -> tuple[Content, str]:
    """The bytes of an image, and the extension that its path has."""
    if is_path(data):
        refuse_remote(data, "Image")
        return Content.of_file(data), extension_of(data)
    if file_type not in pictures.FILE_TYPES:
        raise InvalidInputError(
            f"An image is not written as {file_type!r}.",
            hint=f"Use {', '.join(pictures.FILE_TYPES)}.",
        )
    figure = pictures.figure_of(data)
    if figure is not None:
        return Content.of(pictures.drawn(figure, file_type)), f".{file_type}"
    if pictures.is_pillow(data):
        return Content.of(pictures.encoded(data, file_type)), f".{file_type}"
    if hasattr(data, "read"):
        return Content.of(read_all(data, "Image")), ""
    image = pictures.from_array(data, mode, normalize=normalize)
    return Content.of(pictures.encoded(image, file_type)), f".{file_type}"


def _layers(given: Any, what: str) -> Iterable[tuple[Any, Any]]:
    if given is None:
        return ()
    if not isinstance(given, Mapping):
        raise InvalidInputError(
            f"An image's {what} are a mapping of layers, not a {type(given).__name__}.",
            hint=f'Give {what}={{"predictions": {{...}}}}.',
        )
    return given.items()
