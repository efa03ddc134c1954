"""Rows as columns: what a sealed part holds of one stream, and the columns' names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wanllmdb import _digest
from wanllmdb._metrics.segment import Shape
from wanllmdb.types import INT64_MAX, INT64_MIN, JSONValue

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

DTYPES = {"d": "<f8", "q": "<i8", "b": "?"}
"""NumPy's types of the codes whose values stand in arrays."""

SUFFIXES = {"d": "", "q": "#i", "b": "#b", "s": "#s"}
"""What a column's name ends with, by the type of its values."""

_DIGITS = 6


def code_of(value: JSONValue) -> str:
    """The type of a value: d q b s, o for what is no scalar, n for None."""
    if value is None:
        return "n"
    if isinstance(value, bool):
        return "b"
    if isinstance(value, int):
        return "q" if INT64_MIN <= value <= INT64_MAX else "o"
    if isinstance(value, float):
        return "d"
    return "s" if isinstance(value, str) else "o"


def column_names(keys: Iterable[str]) -> dict[str, str]:
    """The column of each key, without the suffix of its type.

    Parquet's readers ignore case: ``Loss`` and ``loss`` would silently be one column.
    A key that is not its own lower case, or that could be mistaken for another name,
    has a piece of its SHA-256 in its column's name.
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for key in sorted(keys):
        name = key
        if not key or key != key.lower() or key[0] == "_" or "#" in key or "~" in key:
            digits = _DIGITS
            digest = _digest.hex_of(_digest.of_bytes(key.encode()))
            while (name := f"{key}~{digest[:digits]}").lower() in taken:
                digits += 2
        names[key] = name
        taken.add(name.lower())
    return names


@dataclass(slots=True)
class Cells:
    """The values of one key and type in some of the rows.

    Attributes:
        key: The metric.
        code: The type, as `code_of` names it.
        rows: Which rows, rising; None for every row.
        values: An array, or a list where `DTYPES` knows no type.
    """

    key: str
    code: str
    rows: Ints | None
    values: Any


@dataclass(slots=True)
class ColumnRows:
    """Rows of one stream, in the order of their ordinals."""

    ordinals: Ints
    steps: Ints
    times: Ints
    cells: list[Cells] = field(default_factory=list)

    def tables(self) -> tuple[list[Any], list[Any]]:
        """The same as rows, for `Fold.add_rows`: tables of shapes, and objects."""
        import numpy as np

        masks = np.zeros((len(self.steps), len(self.cells)), bool)
        for index, cells in enumerate(self.cells):
            masks[slice(None) if cells.rows is None else cells.rows, index] = True
        packed = np.packbits(masks, axis=1) if self.cells else masks.astype(np.uint8)
        patterns, which = np.unique(packed, axis=0, return_inverse=True)
        tables, objects = [], []
        for number in range(len(patterns)):
            at = np.flatnonzero(which.reshape(-1) == number)
            present = [c for c, on in zip(self.cells, masks[at[0]], strict=True) if on]
            columns = [cells_at(cells, at) for cells in present]
            rows = zip(
                self.steps[at].tolist(), self.times[at].tolist(), *columns, strict=True
            )
            if all(cells.code in DTYPES for cells in present):
                keys, codes = [c.key for c in present], [c.code for c in present]
                shape = Shape(0, keys, "".join(codes))
                tables.append((shape, list(rows), self.ordinals[at].tolist()))
                continue
            for ordinal, (step, time_us, *values) in zip(
                self.ordinals[at].tolist(), rows, strict=True
            ):
                row = dict(zip([c.key for c in present], values, strict=True))
                objects.append((ordinal, step, time_us, row))
        return tables, objects

    def dicts(self) -> Iterator[tuple[int, int, int, dict[str, JSONValue]]]:
        """(ordinal, step, time, values) of each row."""
        columns = []
        for cells in self.cells:
            rows = range(len(self.steps)) if cells.rows is None else cells.rows.tolist()
            columns.append(
                (cells.key, dict(zip(rows, listed(cells.values), strict=True)))
            )
        heads = zip(
            self.ordinals.tolist(),
            self.steps.tolist(),
            self.times.tolist(),
            strict=True,
        )
        for index, (ordinal, step, time_us) in enumerate(heads):
            row = {key: held[index] for key, held in columns if index in held}
            yield ordinal, step, time_us, row


def cells_at(cells: Cells, at: Ints) -> Sequence[Any]:
    """The values of rows that all have one."""
    import numpy as np

    places = at if cells.rows is None else np.searchsorted(cells.rows, at)
    if isinstance(cells.values, list):
        return [cells.values[i] for i in places.tolist()]
    return cells.values[places].tolist()  # type: ignore[no-any-return]


def listed(values: Any) -> list[Any]:
    """An array or a list, as a list of Python's own values."""
    found: list[Any] = values if isinstance(values, list) else values.tolist()
    return found
