"""JSON that loses nothing: every float, every int, any key.

Plain JSON (RFC 8259) with two additions: a float that JSON cannot write is the object
``{"~f": "nan" | "inf" | "-inf"}``, and a value that is a blob is ``{"~b": {"digest":
..., "size": ...}}``. A user's key that starts with ``~`` is written with one more
``~``, so no user's value is taken for one of these. Everything else is what it looks
like, so any JSON reader can read a Store.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

_FLOAT_TAG = "~f"
_BLOB_TAG = "~b"
_encode_plain = json.JSONEncoder(
    ensure_ascii=True, allow_nan=False, separators=(",", ":"), check_circular=False
).encode


@dataclass(frozen=True, slots=True)
class BlobRef:
    """Stands for a value whose JSON is a blob.

    Attributes:
        digest: The blob's name.
        size: Its bytes.
    """

    digest: str
    size: int


def dumps(value: Any) -> str:
    """Encode a value made of None, bool, int, float, str, list and dict.

    The text is ASCII, so its length in characters is its length in bytes.

    Raises:
        TypeError: the value holds something else.
        RecursionError: it is nested too deeply, or holds itself.
    """
    try:
        text = _encode_plain(value)
    except (ValueError, TypeError):  # a non-finite float or a blob somewhere
        return _encode_plain(_tag(value))
    return text if '"~' not in text else _encode_plain(_tag(value))


def loads(text: str | bytes) -> Any:
    """Decode what :func:`dumps` wrote."""
    value = json.loads(text)
    tilde = b'"~' if isinstance(text, bytes) else '"~'
    return _untag(value) if tilde in text else value  # type: ignore[operator]


def to_plain(value: Any) -> Any:
    """Replace non-finite floats by their names, for readers of strict JSON."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(value)]
    if isinstance(value, dict):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [to_plain(item) for item in value]
    return value


def _tag(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else {_FLOAT_TAG: str(value)}
    if isinstance(value, BlobRef):
        return {_BLOB_TAG: {"digest": value.digest, "size": value.size}}
    if isinstance(value, dict):
        return {
            "~" + key if key.startswith("~") else key: _tag(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_tag(item) for item in value]
    return value


def _untag(value: Any) -> Any:
    if isinstance(value, dict):
        if len(value) == 1 and isinstance(value.get(_FLOAT_TAG), str):
            return float(value[_FLOAT_TAG])
        if len(value) == 1 and _BLOB_TAG in value:
            return BlobRef(**value[_BLOB_TAG])
        return {
            key[1:] if key.startswith("~~") else key: _untag(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_untag(item) for item in value]
    return value
