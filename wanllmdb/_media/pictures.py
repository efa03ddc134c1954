"""What is in a file of an image, as its first bytes say; and arrays as images."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from wanllmdb import _extras
from wanllmdb._media.arrays import as_numpy, is_tensor
from wanllmdb.errors import InvalidInputError

if TYPE_CHECKING:
    import numpy as np

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Pillow's names for so many channels."""

FILE_TYPES = {"png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "bmp": "BMP"}
"""What images are encoded as, and Pillow's names for it."""

_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16")


class Seen(NamedTuple):
    """What a file of an image is.

    Attributes:
        extension: The usual one of its format, with a dot.
        width: Pixels.
        height: Pixels.
    """

    extension: str
    width: int
    height: int


def seen(data: bytes) -> Seen:
    """What an image's bytes are; PNG, JPEG, GIF and BMP need no library.

    Raises:
        InvalidInputError: they are no image.
        MissingExtraError: it takes Pillow to tell.
    """
    for read in (_png, _jpeg, _gif, _bmp):
        try:
            found = read(data)
        except (struct.error, IndexError):  # it ends too early
            continue
        if found is not None:
            return found
    with opened(data) as image:
        return Seen(f".{str(image.format).lower()}", *image.size)


def opened(data: bytes) -> Any:
    """An image's bytes as Pillow's image.

    Raises:
        InvalidInputError: they are none that it knows.
        MissingExtraError: Pillow is not installed.
    """
    pillow = _extras.need("PIL.Image", "media", "An image of this format")
    try:
        return pillow.open(io.BytesIO(data))
    except Exception as error:
        raise InvalidInputError(
            f"These {len(data)} bytes are no image ({error}).",
            hint="Give a PNG, JPEG, GIF, BMP, or another format that Pillow reads.",
        ) from error


def _png(data: bytes) -> Seen | None:
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return None
    return Seen(".png", *struct.unpack_from(">II", data, 16))


def _gif(data: bytes) -> Seen | None:
    if data[:6] not in (b"GIF87a", b"GIF89a"):
        return None
    return Seen(".gif", *struct.unpack_from("<HH", data, 6))


def _bmp(data: bytes) -> Seen | None:
    if not data.startswith(b"BM") or struct.unpack_from("<I", data, 14)[0] < 40:
        return None
    width, height = struct.unpack_from("<ii", data, 18)
    return Seen(".bmp", width, abs(height))


def _jpeg(data: bytes) -> Seen | None:
    if not data.startswith(b"\xff\xd8\xff"):
        return None
    at = 2
    while True:
        while data[at] == 0xFF and data[at + 1] == 0xFF:  # filling
            at += 1
        mark, length = struct.unpack_from(">xBH", data, at)
        if mark in _JPEG_SIZES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return Seen(".jpg", width, height)
        at += 2 + max(length, 2)


def encoded(image: Any, file_type: str) -> bytes:
    """Pillow's image as the bytes of a file.

    Args:
        image: The image.
        file_type: One of `FILE_TYPES`.

    Raises:
        InvalidInputError: it has no pixels, or Pillow cannot write it.
    """
    lossy = FILE_TYPES[file_type] != "PNG"
    if lossy and image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    elif image.mode not in _PNG_MODES:
        image = image.convert("RGBA" if image.mode in ("PA", "La", "RGBa") else "RGB")
    return _saved(lambda file: image.save(file, FILE_TYPES[file_type]))


def drawn(figure: Any, file_type: str) -> bytes:
    """Matplotlib's figure as the bytes of a file.

    Raises:
        InvalidInputError: it cannot be drawn.
    """
    return _saved(lambda file: figure.savefig(file, format=file_type))


def _saved(save: Callable[[io.BytesIO], Any]) -> bytes:
    file = io.BytesIO()
    try:
        save(file)
    except Exception as error:
        raise InvalidInputError(
            f"This image cannot be written: {error}.", hint="Give the path of a file."
        ) from error
    return file.getvalue()


def figure_of(value: Any) -> Any:
    """The figure of matplotlib's figure, axes or pyplot module; None for all else."""
    if hasattr(value, "savefig"):
        return value
    figure = getattr(value, "figure", None)
    return figure if hasattr(figure, "savefig") else None


def is_pillow(value: Any) -> bool:
    """Whether it is Pillow's image."""
    return all(hasattr(value, name) for name in ("getbands", "save", "mode", "size"))


def from_array(data: Any, mode: str | None, *, normalize: bool) -> Any:
    """An array as Pillow's image.

    Args:
        data: (height, width), or with 1, 3 or 4 channels: last of an array, first of a
            torch tensor. Axes of one element in front are taken out.
        mode: Pillow's name of what the channels are; default by their number.
        normalize: Take values between 0 and 1, or -1 and 1, for the whole range of
            brightness, and cut others off at 0 and 255; otherwise they are taken for
            8 bits as they are.

    Raises:
        InvalidInputError: it has another shape, or does not fit the mode.
        MissingExtraError: Pillow is not installed.
    """
    pillow = _extras.need("PIL.Image", "media", "An image of an array")
    pixels = as_numpy(data, "Image")
    while pixels.ndim > 3 and pixels.shape[0] == 1:
        pixels = pixels[0]
    if is_tensor(data) and pixels.ndim == 3:
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim == 3 and pixels.shape[0] == 1 and pixels.shape[2] not in MODES:
        pixels = pixels[0]
    channels = pixels.shape[-1] if pixels.ndim == 3 else 1
    if pixels.ndim not in (2, 3) or channels not in MODES or not pixels.size:
        raise InvalidInputError(
            f"An image is no array of shape {tuple(getattr(data, 'shape', ()))}.",
            hint="Give (height, width), or (height, width, channels) with 1, 3 or 4.",
        )
    raw = _as_bytes(pixels, normalize=normalize)
    height, width = pixels.shape[:2]
    try:
        return pillow.frombytes(mode or MODES[channels], (width, height), raw)
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInputError(
            f"{channels} channels are no image of mode {mode!r} ({error}).",
            hint="Leave the mode out.",
        ) from error


def _as_bytes(pixels: np.ndarray[Any, Any], *, normalize: bool) -> bytes:
    import numpy as np

    if pixels.dtype.kind == "f":
        pixels = np.nan_to_num(pixels)
    if normalize:
        low, high = pixels.min(), pixels.max()
        if low >= 0 and high <= 1:
            pixels = pixels * 255
        elif low >= -1 and high <= 1:
            pixels = 255 * 0.5 * (pixels.astype("f8") + 1)
        else:
            pixels = pixels.clip(0, 255)
    elif (
        pixels.dtype.kind == "f"
    ):  # as ints wrap: what a float beyond does is undefined
        pixels = np.trunc(pixels) % 256
    return pixels.astype(np.uint8).tobytes()
