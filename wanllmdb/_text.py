"""Text that is safe to look at, in cells and tables of one line each."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from wanllmdb import _json

MAX_CELL = 60
"""Characters of a table's cell; programs get the whole value."""

_UNSAFE = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))

Row = Mapping[str, Any]


def clean(text: str, keep: str = "") -> str:
    """Text on one line, with control and bidi characters escaped.

    Args:
        text: Any text.
        keep: Characters that stay all the same.
    """
    if text.isprintable():
        return text
    return "".join(
        c.encode("unicode_escape").decode()
        if unicodedata.category(c) in _UNSAFE and c not in keep
        else c
        for c in text
    )


def cell(value: Any) -> str:
    """A value as one line for people."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if hasattr(value, "isoformat"):
        return str(value)
    if isinstance(value, str):
        return clean(value)
    return clean(json.dumps(_json.to_plain(value), default=str))


def table(rows: Sequence[Row], names: Sequence[str]) -> str:
    """Rows with aligned columns, and their names above; empty without rows."""
    if not rows:
        return ""
    grid = [[_short(clean(name)) for name in names]]
    grid += [[_short(cell(row.get(name))) for name in names] for row in rows]
    widths = [max(_width(line[i]) for line in grid) for i in range(len(names))]
    return "".join(
        "  ".join(
            text + " " * (width - _width(text))
            for text, width in zip(line, widths, strict=True)
        ).rstrip()
        + "\n"
        for line in grid
    )


def _short(text: str) -> str:
    return text if len(text) <= MAX_CELL else f"{text[: MAX_CELL - 3]}..."


def _width(text: str) -> int:
    """Columns of a terminal: East Asian characters and emoji take two."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "FW")
        for c in text
    )
