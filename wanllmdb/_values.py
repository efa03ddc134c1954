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
_REPR_CHARS = 200

Complain = Callable[[str, str], None]
"""Told (key, what was done and why) of each value that could not be kept."""


def metric_row(data: Mapping[Any, Any], complain: Complain) -> dict[str, Any]:
    """A logged mapping as one flat row of storable values.

    Nested mappings flatten with dots; None stays None; bad values become their capped
    repr and bad keys are left out, each with a complaint.
    """
    row: dict[str, Any] = {}
    _flatten(data, "", row, complain, 0)
    return row


def _flatten(
    data: Mapping[Any, Any], prefix: str, row: dict[str, Any], complain: Complain,
    depth: int,
) -> None:  # fmt: skip
    for raw, value in data.items():
        key = _key(raw, prefix, complain)
        if key is None:
            continue
        if isinstance(value, Mapping) and value.get("_type") is None:
            if depth >= MAX_DEPTH:
                complain(key, f"nested deeper than {MAX_DEPTH} levels; left out")
            else:
                _flatten(value, key + ".", row, complain, depth + 1)
            continue
        if key in row:
            complain(key, "given twice in one call; the last one is kept")
        row[key] = metric_value(key, value, complain)


def _key(raw: Any, prefix: str, complain: Complain) -> str | None:
    key = raw
    if not isinstance(raw, str):
        key = str(raw)
        complain(key, f"a key of type {type(raw).__name__} was made text")
    try:
        key = _names.text(prefix + key, "key")
    except InvalidNameError as error:
        complain(repr(raw)[:40], f"{error.message} left out")
        return None
    if not key.strip() or key in RESERVED:
        complain(key, "an empty or reserved key; left out")
        return None
    if len(key.encode()) > 4096:
        complain(key[:40], "a key longer than 4096 bytes; left out")
        return None
    return key


def metric_value(key: str, value: Any, complain: Complain) -> Any:
    """One value as it is stored."""
    kind = type(value)
    if kind in (float, int, bool, str) or value is None:
        return _bounded(key, value, complain) if kind in (str, int) else value
    if kind.__module__ == "numpy" and not getattr(value, "shape", ()):
        return _item(key, value, complain)
    if hasattr(value, "shape") and hasattr(value, "tolist"):
        return _array(key, value, complain)
    stored = to_json(value)
    if stored is _UNKNOWN:
        stored = _number(value)
    if stored is _UNKNOWN:
        complain(key, f"a {kind.__name__} cannot be logged; its text is kept")
        return _capped_repr(value)
    return _bounded(key, stored, complain)


def _item(key: str, value: Any, complain: Complain) -> Any:
    item = value.item()
    if isinstance(item, (bool, int, float)):
        return item
    complain(key, f"a {type(value).__name__} cannot be logged; its text is kept")
    return _capped_repr(value)


def _array(key: str, value: Any, complain: Complain) -> Any:
    value = value.detach() if hasattr(value, "detach") else value
    size = math.prod(value.shape)
    if size == 1:
        while True:
            value = value.tolist() if hasattr(value, "tolist") else value
            if not isinstance(value, list):
                break
            value = value[0]
        if isinstance(value, (bool, int, float)):
            return value
        complain(key, f"a {type(value).__name__} cannot be logged; its text is kept")
        return _capped_repr(value)
    listed = value.tolist()
    if size <= MAX_LIST_ARRAY:
        return to_json(listed)
    numbers = [x for x in _leaves(listed) if isinstance(x, (bool, int, float))]
    if len(numbers) < size:
        complain(key, "an array of no numbers cannot be logged; its text is kept")
        return _capped_repr(value)
    return histogram(numbers)


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
    numbers = [float(v) for v in values]
    numbers = [v for v in numbers if math.isfinite(v)]
    if not numbers:
        return {"_type": "histogram", "values": [0], "bins": [0.0, 1.0]}
    low, high = min(numbers), max(numbers)
    if low == high:
        low, high = low - 0.5, high + 0.5
    width = (high - low) / bins
    counts = [0] * bins
    for v in numbers:
        counts[min(int((v - low) / width) if width else 0, bins - 1)] += 1
    edges = [low + width * i for i in range(bins)] + [high]
    return {"_type": "histogram", "values": counts, "bins": edges}


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
        size = 0 if isinstance(value, float) else len(_json.dumps(value))
    except InvalidNameError as error:
        complain(key, f"{error.message} its escaped text is kept")
        return _capped_repr(value)
    except (ValueError, TypeError, RecursionError):
        complain(key, "a value too large or too deep to write; its text is kept")
        return _capped_repr(value)
    if size > MAX_VALUE_BYTES:
        complain(key, f"a value of {size} bytes; its first characters are kept")
        return _capped_repr(value)
    return value


_UNKNOWN = object()


def to_json(value: Any, depth: int = 0) -> Any:
    """A value as JSON types, exact; `_UNKNOWN` for what has no such form."""
    if isinstance(value, Enum):
        return to_json(value.value, depth + 1)
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, float)):
        return value if type(value) in (int, float) else _plain_number(value)
    if depth > MAX_DEPTH:
        return _UNKNOWN
    if isinstance(value, Mapping):
        items = {str(k): to_json(v, depth + 1) for k, v in value.items()}
        return _UNKNOWN if _UNKNOWN in items.values() else items
    if isinstance(value, (list, tuple)):
        cells = [to_json(v, depth + 1) for v in value]
        return _UNKNOWN if any(c is _UNKNOWN for c in cells) else cells
    if isinstance(value, (set, frozenset)):
        return to_json(sorted(value, key=repr), depth + 1)
    if isinstance(value, PurePath):
        return str(value)
    if hasattr(value, "tolist") and hasattr(value, "shape"):
        listed = value.detach() if hasattr(value, "detach") else value
        return to_json(listed.tolist(), depth + 1)
    return _UNKNOWN


def _plain_number(value: int | float) -> int | float:
    return int(value) if isinstance(value, int) else float(value)


def config_value(value: Any, depth: int = 0) -> JSONValue:
    """A config value: JSON types stay, objects become mappings or their capped repr."""
    if depth > MAX_DEPTH:
        return _capped_repr(value)
    if isinstance(value, str) and not isinstance(value, Enum):
        return _clean(value)
    if isinstance(value, Mapping):
        return {_clean(str(k)): config_value(v, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [config_value(v, depth + 1) for v in value]
    if isinstance(value, (set, frozenset)):
        return [config_value(v, depth + 1) for v in sorted(value, key=repr)]
    stored = to_json(value)
    if stored is not _UNKNOWN:
        return stored
    mapping = as_mapping(value)
    if mapping is not None:
        return config_value(mapping, depth + 1)
    return _capped_repr(value)


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


def _clean(text: str) -> str:
    try:
        return _names.text(text, "text")
    except InvalidNameError:
        return _capped_repr(text)


def _capped_repr(value: Any) -> str:
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
        number = step.item() if hasattr(step, "item") else step
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            return None
        if isinstance(number, float) and not number.is_integer():
            return None
        step = int(number)
    return step if -(1 << 63) <= step < 1 << 63 else None
