"""From what users log to what is stored: exact numbers, nothing imported.

Torch, JAX and NumPy values are recognised by what they can do (`item`, `tolist`,
`shape`), never by importing their libraries.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any

from wanllmdb import _json, _names
from wanllmdb.errors import InvalidNameError
from wanllmdb.types import JSONValue

MAX_DEPTH = 100
MAX_VALUE_BYTES = 1 << 20
MAX_LIST_ARRAY = 32
"""Arrays of up to this many elements stay lists; larger ones become histograms."""
HISTOGRAM_BINS = 64
RESERVED = frozenset({"_step", "_timestamp", "_runtime", "_writer"})
MAX_KEY_BYTES = 4096
_REPR_CHARS = 200

Complain = Callable[[str, str], None]
"""Told (key, what was done and why) of each value that could not be kept."""

_UNKNOWN = object()
"""Stands for a value that has no JSON form."""

Foreign = Callable[[str, Any], Any]
"""Given (key, value) of no plain type, its JSON form, or None: it is not for this."""

_Ancestors = tuple[int, ...]
"""The ids of the containers around a value: none may hold itself."""


# Rows


def metric_row(
    data: Mapping[Any, Any], complain: Complain, foreign: Foreign
) -> dict[str, Any]:
    """A logged mapping as one flat row of storable values.

    Nested mappings flatten with dots; None stays None; bad values become their capped
    repr and bad keys are left out, each with a complaint.
    """
    row: dict[str, Any] = {}
    _flatten(data, "", row, (complain, foreign), (id(data),))
    return row


def _flatten(
    data: Mapping[Any, Any], prefix: str, row: dict[str, Any],
    ways: tuple[Complain, Foreign], around: _Ancestors,
) -> None:  # fmt: skip
    complain = ways[0]
    for raw, value in data.items():
        key = _key(raw, prefix, complain)
        if key is None:
            continue
        if isinstance(value, Mapping) and value.get("_type") is None:
            if id(value) in around:
                complain(key, "a mapping inside itself; left out")
            elif len(around) > MAX_DEPTH:
                complain(key, f"nested deeper than {MAX_DEPTH} levels; left out")
            else:
                _flatten(value, key + ".", row, ways, (*around, id(value)))
            continue
        if key in row:
            complain(key, "given twice in one call; the last one is kept")
        row[key] = metric_value(key, value, *ways)


def _key(raw: Any, prefix: str, complain: Complain) -> str | None:
    key = prefix + (raw if isinstance(raw, str) else _text_of_key(raw))
    if type(raw) is not str and not isinstance(raw, str):
        complain(key, f"a key of type {type(raw).__name__} was made text")
    try:
        key = _names.text(key, "key")
    except InvalidNameError as error:
        complain(ascii(key)[:40], f"{error.message} left out")
        return None
    if not key.strip() or key in RESERVED:
        complain(key, "an empty or reserved key; left out")
        return None
    if len(key.encode()) > MAX_KEY_BYTES:
        complain(key[:40], f"a key longer than {MAX_KEY_BYTES} bytes; left out")
        return None
    return key


def _text_of_key(raw: Any) -> str:
    try:
        return str(raw)
    except Exception:  # noqa: BLE001 - a user's __str__ may raise anything
        return type(raw).__name__


def metric_value(key: str, value: Any, complain: Complain, foreign: Foreign) -> Any:
    """One value as it is stored."""
    kind = type(value)
    if kind in (float, bool) or value is None:
        return value
    if kind in (int, str):
        return _bounded(key, value, complain)
    try:
        stored = foreign(key, value)
        if stored is None:
            stored = _stored(value)
    except Exception as error:  # noqa: BLE001 - foreign tensors may raise anything
        complain(
            key, f"a {kind.__name__} that cannot be read ({error}); its text is kept"
        )
        return capped_repr(value)
    if stored is _UNKNOWN:
        complain(key, f"a {kind.__name__} cannot be logged; its text is kept")
        return capped_repr(value)
    return stored if isinstance(stored, float) else _bounded(key, stored, complain)


def _stored(value: Any) -> Any:
    """A value of a foreign type as JSON types; may raise whatever its methods raise."""
    if type(value).__module__ == "numpy" and not getattr(value, "shape", ()):
        item = value.item()
        return item if isinstance(item, (bool, int, float, str)) else _UNKNOWN
    if hasattr(value, "shape") and hasattr(value, "tolist"):
        return _array(value)
    stored = to_json(value)
    return _number(value) if stored is _UNKNOWN else stored


def _array(value: Any) -> Any:
    value = value.detach() if hasattr(value, "detach") else value
    size = math.prod(value.shape)
    listed = value.tolist()
    if size == 1:
        while isinstance(listed, list):
            listed = listed[0]
        return to_json(listed)
    if size <= MAX_LIST_ARRAY:
        return to_json(listed)
    numbers = [x for x in _leaves(listed) if isinstance(x, (bool, int, float))]
    return _UNKNOWN if len(numbers) < size else histogram(numbers)


def _leaves(value: Any) -> Iterable[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def histogram(values: Iterable[float], bins: int = HISTOGRAM_BINS) -> dict[str, Any]:
    """Counts in equal bins, as W&B stores a histogram; non-finite values are left out.

    Returns:
        ``{"_type": "histogram", "values": [count, ...], "bins": [edge, ...]}`` with one
        edge more than counts.
    """
    numbers = [v for v in map(_as_float, values) if math.isfinite(v)]
    if not numbers:
        return {"_type": "histogram", "values": [0], "bins": [0.0, 1.0]}
    low, high = min(numbers), max(numbers)
    if low == high:
        low, high = low - 0.5, high + 0.5
    # Halves, because the whole range of the extreme floats is beyond a float.
    width = (high / 2 - low / 2) / bins
    counts = [0] * bins
    for v in numbers:
        place = int((v / 2 - low / 2) / width) if width else 0
        counts[min(place, bins - 1)] += 1
    edges = [low * (1 - i / bins) + high * (i / bins) for i in range(bins)]
    return {"_type": "histogram", "values": counts, "bins": [*edges, high]}


def _as_float(value: float | int) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _number(value: Any) -> Any:
    for convert in ("__index__", "__float__"):
        method = getattr(value, convert, None)
        if method is not None:
            try:
                return method()
            except (TypeError, ValueError, OverflowError):
                continue
    return _UNKNOWN


def _bounded(key: str, value: Any, complain: Complain) -> Any:
    try:
        if isinstance(value, str):
            value = _names.text(value, "text")
            size = len(value) if value.isascii() else len(value.encode())
        else:
            size = len(_json.dumps(value))
    except InvalidNameError as error:
        complain(key, f"{error.message} its escaped text is kept")
        return capped_repr(value)
    except (ValueError, TypeError, RecursionError):
        complain(key, "a value too large or too deep to write; its text is kept")
        return capped_repr(value)
    if size > MAX_VALUE_BYTES:
        complain(key, f"a value of {size} bytes; its first characters are kept")
        return capped_repr(value)
    return value


# JSON types


def to_json(value: Any, around: _Ancestors = ()) -> Any:
    """A value as JSON types, exact; `_UNKNOWN` for what has no such form."""
    if value is None or isinstance(value, (bool, str, int, float)):
        return _plain(value)
    if isinstance(value, Enum):
        return to_json(value.value, around)
    if isinstance(value, PurePath):
        return str(value)
    if len(around) > MAX_DEPTH or id(value) in around:
        return _UNKNOWN
    around = (*around, id(value))
    if isinstance(value, Mapping):
        items = {str(k): to_json(v, around) for k, v in value.items()}
        return _UNKNOWN if any(v is _UNKNOWN for v in items.values()) else items
    if isinstance(value, (list, tuple)):
        return _list_of(value, around)
    if isinstance(value, (set, frozenset)):
        return _list_of(sorted(value, key=repr), around)
    if hasattr(value, "tolist") and hasattr(value, "shape"):
        listed = value.detach() if hasattr(value, "detach") else value
        return to_json(listed.tolist(), around)
    return _UNKNOWN


def _list_of(values: Iterable[Any], around: _Ancestors) -> Any:
    cells = [to_json(v, around) for v in values]
    return _UNKNOWN if any(c is _UNKNOWN for c in cells) else cells


def _plain(value: Any) -> Any:
    """A scalar of a subclass (NumPy's, an enum's) as Python's own."""
    if value is None or type(value) in (bool, str, int, float):
        return value
    if isinstance(value, Enum):
        return _plain(value.value)
    if isinstance(value, str):
        return str(value)
    return int(value) if isinstance(value, int) else float(value)


# Config


def config_value(value: Any, around: _Ancestors = ()) -> JSONValue:
    """A config value: JSON types stay, objects become mappings or their capped repr."""
    if isinstance(value, str) and not isinstance(value, Enum):
        return clean_text(str(value))
    if isinstance(value, int) and not isinstance(value, (bool, Enum)):
        return _writable_int(int(value))
    if len(around) > MAX_DEPTH or id(value) in around:
        return capped_repr(value)
    inside = (*around, id(value))
    if isinstance(value, (set, frozenset)):
        value = sorted(value, key=repr)
    if isinstance(value, (list, tuple)) or _is_omegaconf_list(value):
        return [config_value(v, inside) for v in value]
    try:
        mapping = as_mapping(value)
        if mapping is not None:
            return {config_key(k): config_value(v, inside) for k, v in mapping.items()}
        stored = to_json(value)
    except Exception:  # noqa: BLE001 - foreign objects may raise anything
        return capped_repr(value)
    if stored is _UNKNOWN:
        return capped_repr(value)
    return config_value(stored, inside) if isinstance(stored, (str, list)) else stored


def config_key(key: Any) -> str:
    """A key of config or summary as it is stored: NFC, no NUL, no half characters."""
    return clean_text(key if isinstance(key, str) else _text_of_key(key))


def _writable_int(value: int) -> JSONValue:
    try:
        _json.dumps(value)
    except ValueError:  # more digits than Python writes
        return capped_repr(value)
    return value


def _is_omegaconf_list(value: Any) -> bool:
    return type(value).__module__.startswith("omegaconf") and not hasattr(value, "keys")


def as_mapping(value: Any) -> Mapping[Any, Any] | None:
    """A mapping from a dataclass, Namespace, OmegaConf, absl FLAGS or mapping."""
    if isinstance(value, Mapping):
        return value
    if hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
        return {name: getattr(value, name) for name in value.__dataclass_fields__}
    if type(value).__module__.startswith("omegaconf") and hasattr(value, "items"):
        return dict(value.items())
    if hasattr(value, "flag_values_dict"):
        return dict(value.flag_values_dict())
    if type(value).__name__ in ("Namespace", "SimpleNamespace"):
        return dict(vars(value))
    return None


# Text


def clean_text(text: str) -> str:
    """Text as it is stored; what cannot be stored is escaped."""
    try:
        return _names.text(text, "text")
    except InvalidNameError:
        return capped_repr(text)


def error_text(error: BaseException) -> str:
    """What an exception says, whatever its `__str__` does."""
    try:
        text = f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - a user's __str__ may raise anything
        text = type(error).__name__
    text = text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
    return clean_text(text)


def capped_repr(value: Any) -> str:
    """A value's repr, its first 200 characters, as text that can be stored."""
    try:
        text = repr(value) if not isinstance(value, str) else ascii(value[:_REPR_CHARS])
    except Exception as error:  # noqa: BLE001 - a user's __repr__ may raise anything
        text = f"<{type(value).__name__}: repr failed with {type(error).__name__}>"
    text = text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
    return text if len(text) <= _REPR_CHARS else text[:_REPR_CHARS] + "..."


def step_of(step: Any) -> int | None:
    """A step as an int64, or None if it is none: 3, 3.0 and array scalars are.

    A bool, a fraction, NaN, text and what needs more than 64 bits are not.
    """
    if type(step) is not int:
        if isinstance(step, (bool, str)):
            return None
        try:
            number = step.item() if hasattr(step, "item") else step
        except Exception:  # noqa: BLE001 - foreign arrays may raise anything
            return None
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            return None
        if isinstance(number, float) and not number.is_integer():
            return None
        step = int(number)
    return step if -(1 << 63) <= step < 1 << 63 else None
