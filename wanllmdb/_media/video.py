"""Video."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from wanllmdb import _extras
from wanllmdb._media.arrays import as_numpy
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
)
from wanllmdb._media.content import Content
from wanllmdb.errors import InvalidInputError

if TYPE_CHECKING:
    import numpy as np

    from wanllmdb._media.documents import Reader

FORMATS = ("gif", "mp4", "webm", "ogg")


class Video(Media):
    """A video.

    Its bytes are taken at the call. Those of a file stay as they are; an array becomes
    a GIF, which needs Pillow (extra ``media``).

    Args:
        data_or_path: The path of a GIF, MP4, WebM or Ogg file, or an open one; or an
            array of (time, channel, height, width), 1, 3 or 4 channels of 0 to 255. In
            front there may be a batch, whose videos are laid side by side.
        caption: For people.
        fps: Frames per second of an array; default 4. A GIF holds at most 50.
        format: Of an open file: ``gif``, ``mp4``, ``webm`` or ``ogg``; default gif.

    Raises:
        InvalidInputError: it cannot be read, has no such format, or the array has
            another shape.
        MissingExtraError: an array takes Pillow, which is not installed.
    """

    TYPE = "video-file"
    FOLDER = "videos"

    def __init__(
        self,
        data_or_path: Any,
        caption: str | None = None,
        fps: float | None = None,
        format: str | None = None,
    ) -> None:
        self._caption = caption_of(caption)
        self._width: int | None = None
        self._height: int | None = None
        if is_path(data_or_path):
            refuse_remote(data_or_path, "Video")
            self._extension = extension_of(data_or_path)
            _check_format(self._extension[1:])
            self._content = Content.of_file(data_or_path)
            return
        _check_format(format or "gif")
        self._extension = f".{format or 'gif'}"
        if hasattr(data_or_path, "read"):
            self._content = Content.of(read_all(data_or_path, "Video"))
            return
        if self._extension != ".gif":
            raise InvalidInputError(
                f"An array becomes a GIF, not {format}.",
                hint="Encode it with a library of your choice, and give the path.",
            )
        frames = _frames(as_numpy(data_or_path, "Video"))
        self._height, self._width = frames.shape[1:3]
        self._content = Content.of(_as_gif(frames, 4 if fps is None else fps))

    @property
    def width(self) -> int | None:
        """Pixels, of what was an array."""
        return self._width

    @property
    def height(self) -> int | None:
        """Pixels, of what was an array."""
        return self._height

    def _facts(self) -> Document:
        return {"format": self.format, "width": self._width, "height": self._height}

    @classmethod
    def _of(cls, document: Mapping[str, Any], reader: Reader) -> Self:
        made = super()._of(document, reader)
        made._width = optional(document, "width", int)
        made._height = optional(document, "height", int)
        return made

    @classmethod
    def _reference_of_all(cls, items: Sequence[Video], place: Place) -> Document:
        return {
            "_type": "videos",
            "count": len(items),
            "videos": [item._reference(place) for item in items],
            **captions(items),
        }


def _check_format(name: str) -> None:
    if name not in FORMATS:
        raise InvalidInputError(
            f"A video is not {name!r}.", hint=f"Use {', '.join(FORMATS)}."
        )


def _frames(video: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(time, height, width, channel) of 8 bits; a batch becomes rows and columns."""
    import numpy as np

    shape = video.shape
    if video.ndim == 4:
        video = video[np.newaxis]
    if video.ndim != 5 or video.shape[2] not in (1, 3, 4) or not video.size:
        raise InvalidInputError(
            f"A video is no array of shape {shape}.",
            hint="Give (time, channel, height, width), with 1, 3 or 4 channels.",
        )
    if video.dtype != np.uint8:
        video = np.nan_to_num(video).clip(0, 255).astype(np.uint8)
    count, time, channels, height, width = video.shape
    rows = 1 << ((count.bit_length() - 1) // 2)
    columns = -(-count // rows)
    empty = np.zeros((rows * columns - count, *video.shape[1:]), np.uint8)
    grid = np.concatenate((video, empty)).reshape(
        rows, columns, time, channels, height, width
    )
    laid = grid.transpose(2, 0, 4, 1, 5, 3)
    return laid.reshape(time, rows * height, columns * width, channels)


def _as_gif(frames: np.ndarray[Any, Any], fps: float) -> bytes:
    pillow = _extras.need("PIL.Image", "media", "A video of an array")
    if not 0 < fps <= 50:
        raise InvalidInputError(
            f"A GIF has no {fps!r} frames per second.", hint="Give up to 50."
        )
    time, height, width, channels = frames.shape
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    images = [
        pillow.frombytes(mode, (width, height), frames[at].tobytes())
        for at in range(time)
    ]
    file = io.BytesIO()
    images[0].save(
        file, "GIF", save_all=True, append_images=images[1:], loop=0,
        duration=1000 / fps,
    )  # fmt: skip
    return file.getvalue()
