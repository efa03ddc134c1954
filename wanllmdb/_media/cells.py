"""Cells of a table: plain values, exact; and how they are written.

``{"_type": ...}`` stands for what JSON has no form of: media, arrays, times. A mapping
of a user's that has such a key is put inside one, so that it is not taken for any.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import date, datetime
from enum import Enum
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from wanllmdb import _values
from wanllmdb._media.arrays import native
from wanllmdb._media.base import Place, Value
from wanllmdb.errors import InvalidInputError

if TYPE_CHECKING:
    from wanllmdb._media.documents import Reader

ARRAY_KINDS = "biufcSUMm"
"""NumPy's kinds of what is kept byte for byte; the rest would be objects of Python."""

_PLAIN = (type(None), bool, int, float, str)
_NOTHING = ("NAType", "NaTType")


def plain(value: Any, around: tuple[int, ...] = ()) -> Any:
    """A cell as it is kept: numbers, text, lists, mappings, arrays, times, media.

    Containers and arrays are copied, so that a later change does not change the cell.

    Raises:
        InvalidInputError: it is of another type, too deep, or holds itself.
    """
    if type(value) in _PLAIN or isinstance(value, Value):
        return value
    if isinstance(value, Enum):
        return plain(value.value, around)
    if isinstance(value, (bool, int, float, str, PurePath)):
        return _values.to_json(value)
    if type(value).__name__ in _NOTHING:  # pandas'
        return None
    if isinstance(value, (date, datetime)):
        return _python_time(value)
    if hasattr(value, "shape") and hasattr(value, "tolist"):
        return _array(value)
    return _container(value, around)


def _python_time(value: Any) -> Any:
    """A time as Python's own; pandas' are of a subclass."""
    is_pandas = hasattr(value, "to_pydatetime")
    return value.to_pydatetime(warn=False) if is_pandas else value


def _container(value: Any, around: tuple[int, ...]) -> Any:
    if id(value) in around or len(around) >= _values.MAX_DEPTH:
        raise InvalidInputError(
            "A cell holds itself, or is nested too deep.",
            hint=f"Keep it under {_values.MAX_DEPTH} levels.",
        )
    around = (*around, id(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item, around) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        value = sorted(value, key=repr)
    if isinstance(value, (list, tuple)):
        return [plain(item, around) for item in value]
    raise InvalidInputError(
        f"A table keeps no {type(value).__name__}.",
        hint="Give numbers, text, lists, mappings, arrays, times, or media.",
    )


def _array(value: Any) -> Any:
    """An array as NumPy's, a copy; one without axes as what it holds."""
    import numpy as np

    found = np.array(native(value))
    if found.ndim == 0:
        if found.dtype.kind == "M":
            found = found.astype("M8[us]")
        return plain(found.item())
    if found.dtype.kind == "O":
        return plain(found.tolist())
    if found.dtype.kind not in ARRAY_KINDS:
        raise InvalidInputError(
            f"A table keeps no array of {found.dtype}.", hint="Give one of numbers."
        )
    return found


def encoded(value: Any, place: Place) -> Any:
    """A plain cell as JSON; the bytes of media go to a place."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, Value):
        return value._document(place)
    if isinstance(value, Mapping):
        made = {key: encoded(item, place) for key, item in value.items()}
        return {"_type": "mapping", "value": made} if "_type" in made else made
    if isinstance(value, list):
        return [encoded(item, place) for item in value]
    if isinstance(value, datetime):
        return {"_type": "datetime", "value": value.isoformat()}
    if isinstance(value, date):
        return {"_type": "date", "value": value.isoformat()}
    return {
        "_type": "ndarray",
        "dtype": value.dtype.newbyteorder("<").str,
        "shape": list(value.shape),
        "base64": base64.b64encode(
            value.astype(value.dtype.newbyteorder("<")).tobytes()
        ).decode(),
    }


def decoded(value: Any, reader: Reader) -> Any:
    """The cell of its JSON form.

    Raises:
        ValueError, TypeError, LookupError: it is none.
    """
    if isinstance(value, list):
        return [decoded(item, reader) for item in value]
    if not isinstance(value, dict):
        return value
    kind = value.get("_type")
    if kind is None:
        return {key: decoded(item, reader) for key, item in value.items()}
    if kind == "mapping":
        return {key: decoded(item, reader) for key, item in value["value"].items()}
    if kind == "datetime":
        return datetime.fromisoformat(value["value"])
    if kind == "date":
        return date.fromisoformat(value["value"])
    return _decoded_array(value) if kind == "ndarray" else reader.value(value)


def _decoded_array(document: Mapping[str, Any]) -> Any:
    import numpy as np

    dtype = np.dtype(document["dtype"])
    if dtype.kind not in ARRAY_KINDS:
        message = f"an array of {dtype} is none of plain values"
        raise ValueError(message)
    raw = base64.b64decode(document["base64"], validate=True)
    return np.frombuffer(raw, dtype).reshape(document["shape"]).copy()
