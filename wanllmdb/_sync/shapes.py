"""The shapes of what remotes hold: which types stand where. Nothing else is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LONGEST = 1_000_000
"""Characters of a name, at most."""


class ShapeError(ValueError):
    """A value has another shape than it should."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A mapping of exactly these keys.

    A value's shape is a type; a list of one shape, for lists of that; a mapping of one
    pair, for any keys; a tuple, for a list of just these (of a type and None: either);
    or another Shape. ``object`` takes anything.
    """

    keys: Mapping[str, Any]
    optional: frozenset[str] = frozenset()


def checked(value: Any, shape: Any, place: str = "it") -> None:
    """Refuse a value of another shape.

    Raises:
        ShapeError: it names the place.
    """
    if isinstance(shape, Shape):
        _check_keys(value, shape, place)
    elif isinstance(shape, list):
        _expect(value, list, place)
        for index, item in enumerate(value):
            checked(item, shape[0], f"{place}[{index}]")
    elif isinstance(shape, dict):
        _check_map(value, shape, place)
    elif isinstance(shape, tuple):
        _check_tuple(value, shape, place)
    else:
        _expect(value, shape, place)


def _check_map(value: Any, shape: dict[Any, Any], place: str) -> None:
    _expect(value, dict, place)
    ((of_key, of_value),) = shape.items()
    for key, item in value.items():
        checked(key, of_key, f"a key of {place}")
        checked(item, of_value, f"{place}.{key[:40]}")


def _check_tuple(value: Any, shape: tuple[Any, ...], place: str) -> None:
    if None in shape:  # a type or nothing
        if value is not None:
            checked(value, shape[0], place)
        return
    _expect(value, list, place)
    if len(value) != len(shape):
        raise ShapeError(f"{place} has {len(value)} items, not {len(shape)}")
    for index, (item, each) in enumerate(zip(value, shape, strict=True)):
        checked(item, each, f"{place}[{index}]")


def _check_keys(value: Any, shape: Shape, place: str) -> None:
    _expect(value, dict, place)
    missing = shape.keys.keys() - value.keys() - shape.optional
    unknown = value.keys() - shape.keys.keys()
    if missing or unknown:
        name = sorted(missing or unknown)[0]
        what = "lacks" if missing else "has an unknown"
        raise ShapeError(f"{place} {what} {str(name)[:40]!r}")
    for key, item in value.items():
        checked(item, shape.keys[key], f"{place}.{key}")


def _expect(value: Any, kind: type, place: str) -> None:
    right = isinstance(value, kind) and (kind is not int or not isinstance(value, bool))
    if not right:
        raise ShapeError(f"{place} is no {kind.__name__}")
    if kind is str and (len(value) > LONGEST or "\0" in value):
        raise ShapeError(f"{place} is no text that can be kept")
    if kind is int and not -(1 << 63) <= value < 1 << 63:
        raise ShapeError(f"{place} is beyond 64 bits")


_STAMPED = Shape({"at": int, "by": str, "v": object}, frozenset({"v"}))
_FIELDS = {str: _STAMPED}
_TAGS = [(str, str, int, int)]
_NUMBER = (int, None)
_TEXT = (str, None)

DOCUMENTS: Mapping[str, Shape] = {
    "gone": Shape({
        "entity": str, "uid": str, "gone": Shape({"at": int, "by": str}),
    }),
    "project": Shape({
        "entity": str, "uid": str, "created_us": int, "fields": _FIELDS,
    }),
    "artifact": Shape({
        "entity": str, "uid": str, "project": str, "created_us": int,
        "fields": _FIELDS,
    }),
    "version": Shape({
        "entity": str, "uid": str, "project": str, "artifact": str, "number": int,
        "digest": str,
        "files": int, "size": int, "created_us": int, "run": _TEXT, "fields": _FIELDS,
        "tags": _TAGS, "edges": [(str, str, int)],
    }),
    "model": Shape({
        "entity": str, "uid": str, "created_us": int, "fields": _FIELDS,
    }),
    "model_version": Shape({
        "entity": str, "uid": str, "model": str, "version": str, "number": int,
        "created_us": int, "fields": _FIELDS,
    }),
    "model_aliases": Shape({"entity": str, "uid": str, "fields": _FIELDS}),
    "run": Shape({
        "entity": str, "uid": str, "project": str, "created_us": int,
        "parent": (
            Shape({"uid": str, "epoch": int, "step": int, "marks": {str: int}}), None,
        ),
        "fields": _FIELDS, "tags": _TAGS, "rows": [(str, str, int, int)],
        "epochs": [(int, str, str, _NUMBER, int, int, _NUMBER, str, int, _NUMBER,
                    _TEXT)],
        "streams": [(str, int, str, int, int, _NUMBER, _TEXT, _NUMBER, _TEXT)],
        "definitions": [(int, int, str, str)],
        "files": [(str, str, int, str, _TEXT, int, int)],
        "blobs": [(str,)],
        "alerts": [(str, str, str, int, _NUMBER)],
    }),
}  # fmt: skip
"""Documents, by entity; ``gone`` is that of anything that was removed for good."""
