"""Sound."""

from __future__ import annotations

import io
import wave
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

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
    from wanllmdb._media.documents import Reader

_FULL = 32767
"""The loudest that 16 bits hold."""


class Audio(Media):
    """Sound.

    Its bytes are taken at the call. Those of a file stay as they are; an array becomes
    a WAV file: floats between -1 and 1 and other ints than 8 and 32 bits as 16 bits.

    Args:
        data_or_path: The path of a file, or an open one, which is taken for WAV; or an
            array of (samples,) or (samples, channels).
        sample_rate: Samples per second; an array needs it, and a WAV file says it.
        caption: For people.

    Raises:
        InvalidInputError: it cannot be read, or the array has no sample rate, another
            shape, or values that are no sound.
    """

    TYPE = "audio-file"
    FOLDER = "audio"

    def __init__(
        self,
        data_or_path: Any,
        sample_rate: float | None = None,
        caption: str | None = None,
    ) -> None:
        self._caption = caption_of(caption)
        if is_path(data_or_path):
            refuse_remote(data_or_path, "Audio")
            self._content = Content.of_file(data_or_path)
            self._extension = extension_of(data_or_path)
        else:
            if hasattr(data_or_path, "read"):
                data = read_all(data_or_path, "Audio")
            else:
                data = _as_wave(data_or_path, sample_rate)
            self._content, self._extension = Content.of(data), ".wav"
        rate, self._duration = _length(self._content, self._extension)
        self._sample_rate = rate if sample_rate is None else int(sample_rate)

    @property
    def sample_rate(self) -> int | None:
        """Samples per second, where that is known."""
        return self._sample_rate

    @property
    def duration(self) -> float | None:
        """Seconds, where that is known."""
        return self._duration

    def _facts(self) -> Document:
        return {"sample_rate": self._sample_rate, "duration": self._duration}

    @classmethod
    def _of(cls, document: Mapping[str, Any], reader: Reader) -> Self:
        made = super()._of(document, reader)
        made._sample_rate = optional(document, "sample_rate", int)
        made._duration = optional(document, "duration", float)
        return made

    @classmethod
    def _reference_of_all(cls, items: Sequence[Audio], place: Place) -> Document:
        return {
            "_type": "audio",
            "count": len(items),
            "audio": [item._reference(place) for item in items],
            "sampleRates": [item.sample_rate for item in items],
            "durations": [item.duration for item in items],
            **captions(items),
        }


def _length(content: Content, extension: str) -> tuple[int | None, float | None]:
    """Samples per second, and seconds, as a WAV file says; else None."""
    if extension != ".wav":
        return None, None
    try:
        with wave.open(io.BytesIO(content.read()), "rb") as file:
            rate = file.getframerate()
            return rate, file.getnframes() / rate
    except (wave.Error, EOFError, ZeroDivisionError):  # compressed, or cut short
        return None, None


def _as_wave(data: Any, sample_rate: float | None) -> bytes:
    samples = as_numpy(data, "Audio")
    if sample_rate is None or not 0 < int(sample_rate) < 1 << 32:
        raise InvalidInputError(
            f"An array of sound has no sample rate {sample_rate!r}.",
            hint="Give sample_rate=, in samples per second.",
        )
    if samples.ndim not in (1, 2) or not 0 < samples[:1].size < 1 << 16:
        raise InvalidInputError(
            f"Sound is no array of shape {samples.shape}.",
            hint="Give (samples,) or (samples, channels).",
        )
    pcm = _as_pcm(samples)
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        writer.setsampwidth(pcm.dtype.itemsize)
        writer.setframerate(int(sample_rate))
        writer.writeframes(pcm.tobytes())
    return file.getvalue()


def _as_pcm(samples: Any) -> Any:
    """Samples as ints of 8, 16 or 32 bits, as WAV has them."""
    import numpy as np

    if samples.dtype.kind == "f":
        loud = np.nan_to_num(samples.astype("f8")).clip(-1, 1)
        return np.rint(loud * _FULL).astype("<i2")
    if samples.dtype == np.uint8 or samples.dtype == np.int32:
        return samples.astype(samples.dtype.newbyteorder("<"))
    if samples.min() < -_FULL - 1 or samples.max() > _FULL:
        raise InvalidInputError(
            f"Sound of {samples.dtype} goes from {samples.min()} to {samples.max()}.",
            hint="Give int16, int32, uint8, or floats between -1 and 1.",
        )
    return samples.astype("<i2")
