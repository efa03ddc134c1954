"""Decoded segments as columns, for those who take many rows at once. NumPy loads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from wanllmdb import _json
from wanllmdb._metrics.columns import DTYPES, Cells, ColumnRows, code_of
from wanllmdb._metrics.decode import ObjectRow, Segment, ShapeRows
from wanllmdb.types import JSONValue


def blocks(
    segment: Segment, resolve: Callable[[JSONValue], JSONValue] | None = None
) -> Iterator[ColumnRows]:
    """The rows of a segment, each once, in blocks of columns.

    Args:
        segment: Decoded.
        resolve: Turns a stored value into the user's (blob references); None leaves
            them as they are.
    """
    for shaped in segment.shaped:
        yield _of_shape(shaped)
    if segment.objects:
        yield _of_objects(segment.objects, resolve)
    for block in segment.columns:
        yield block if resolve is None else _resolved(block, resolve)


def _of_shape(block: ShapeRows) -> ColumnRows:
    import numpy as np

    head = [("crc", "<u4"), ("ws", "<u4"), ("step", "<i8"), ("time", "<i8")]
    fields: list[tuple[str, str]] = []
    for index, (_, code) in enumerate(block.shape.present):
        fields.append((f"v{index}", DTYPES[code]))
        if code == "b":
            fields.append((f"p{index}", "V7"))
    raw = np.frombuffer(block.frames, np.dtype(head + fields))
    cells = [
        Cells(key, code, None, raw[f"v{index}"])
        for index, (key, code) in enumerate(block.shape.present)
    ]
    cells += [
        Cells(key, "n", None, [None] * len(raw))
        for key, code in zip(block.shape.keys, block.shape.codes, strict=True)
        if code == "n"
    ]
    held = block.ordinals
    ordinals = (  # NumPy would walk through a range
        np.arange(held.start, held.stop) if isinstance(held, range)
        else np.asarray(held, np.int64)
    )  # fmt: skip
    return ColumnRows(ordinals, raw["step"], raw["time"], cells)


def _of_objects(
    objects: list[ObjectRow], resolve: Callable[[JSONValue], JSONValue] | None
) -> ColumnRows:
    import numpy as np

    gathered: dict[tuple[str, str], tuple[list[int], list[Any]]] = {}
    for row, item in enumerate(objects):
        for key, stored in item.values.items():
            value = stored if resolve is None else resolve(stored)
            at, values = gathered.setdefault((key, code_of(value)), ([], []))
            at.append(row)
            values.append(value)
    return ColumnRows(
        np.array([o.ordinal for o in objects], np.int64),
        np.array([o.step for o in objects], np.int64),
        np.array([o.time_us for o in objects], np.int64),
        [
            _cells(key, code, at, values)
            for (key, code), (at, values) in gathered.items()
        ],
    )


def _cells(key: str, code: str, at: list[int], values: list[Any]) -> Cells:
    import numpy as np

    held: Any = np.array(values, DTYPES[code]) if code in DTYPES else values
    return Cells(key, code, np.array(at, np.int64), held)


def _resolved(
    block: ColumnRows, resolve: Callable[[JSONValue], JSONValue]
) -> ColumnRows:
    """The same rows with blobs read: what is in one may be of any type."""
    made: list[Cells] = []
    for cells in block.cells:
        if cells.code != "o" or not any(
            isinstance(value, _json.BlobRef) for value in cells.values
        ):
            made.append(cells)
            continue
        rows = range(len(block.steps)) if cells.rows is None else cells.rows.tolist()
        by_code: dict[str, tuple[list[int], list[Any]]] = {}
        for row, stored in zip(rows, cells.values, strict=True):
            value = resolve(stored)
            at, values = by_code.setdefault(code_of(value), ([], []))
            at.append(row)
            values.append(value)
        made += [_cells(cells.key, code, *found) for code, found in by_code.items()]
    return ColumnRows(block.ordinals, block.steps, block.times, made)
