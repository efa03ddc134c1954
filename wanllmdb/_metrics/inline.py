"""Many small logs at once: rows of one shape, from thousands of runs, as one table.

What the Catalog calls plain is a header, one definition, and rows of one length. Logs
whose definitions are the same bytes differ in their rows alone, so these are joined end
to end and read as one array.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zlib import crc32

from wanllmdb._metrics import segment
from wanllmdb._metrics.arrow import array, coded
from wanllmdb._metrics.blocks import blocks
from wanllmdb._metrics.columns import SUFFIXES, column_names
from wanllmdb._metrics.decode import Segment, ShapeRows
from wanllmdb._metrics.seal import Table
from wanllmdb._metrics.segment import FRAME_HEAD, HEADER_BYTES, Shape
from wanllmdb.errors import CorruptPartError
from wanllmdb.types import PlainLog

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(slots=True)
class PlainTable:
    """A wide table of logs of one shape, and whose rows it holds, in its order."""

    table: Table
    logs: list[PlainLog]


def plain_tables(
    logs: Iterable[PlainLog], keys: Sequence[str] | None = None
) -> list[PlainTable]:
    """Wide tables of the rows of plain logs, one or more for each shape.

    Args:
        logs: What the Catalog holds.
        keys: Metrics wanted; None for all.

    Raises:
        CorruptPartError: a log's bytes are not what was stored.
    """
    alike: dict[tuple[int, int], list[PlainLog]] = {}
    for log in logs:
        if crc32(log.data) != log.crc:
            raise CorruptPartError(
                f"The Catalog's copy of the log of run {log.run_id} is damaged.",
                hint="Restore a backup.", run=log.run_id,
            )  # fmt: skip
        alike.setdefault((len(log.data), log.rows), []).append(log)
    groups: dict[bytes, list[_Frames]] = {}
    for held in alike.values():
        for definition, frames in _by_definition(held):
            groups.setdefault(definition, []).append(frames)
    made = []
    for definition, found in groups.items():
        number, codes, names = segment.payload_json(definition[FRAME_HEAD.size :])
        if keys is None or not set(names).isdisjoint(keys):
            shape = Shape(number, names, codes)
            owners = [log for frames in found for log in frames.logs]
            joined = b"".join(frames.data for frames in found)
            made.append(PlainTable(_table(shape, owners, joined, keys), owners))
    return made


@dataclass(slots=True)
class _Frames:
    """The rows of some logs, end to end."""

    logs: list[PlainLog]
    data: bytes


def _by_definition(logs: list[PlainLog]) -> Iterator[tuple[bytes, _Frames]]:
    """Logs of one length and number of rows, by what their rows are defined as."""
    import numpy as np

    while logs:
        first = logs[0]
        start = HEADER_BYTES + _frame_bytes(first.data, HEADER_BYTES)
        end = start + first.rows * _frame_bytes(first.data, start)
        raw = np.frombuffer(b"".join(log.data for log in logs), np.uint8)
        table = raw.reshape(len(logs), -1)
        heads = table[:, HEADER_BYTES:start]
        same = (heads == heads[0]).all(axis=1)
        whole = bool(same.all())
        mine = logs if whole else [log for log, i in zip(logs, same, strict=True) if i]
        frames = table[:, start:end] if whole else table[same, start:end]
        yield first.data[HEADER_BYTES:start], _Frames(mine, frames.tobytes())
        logs = (
            [log for log, i in zip(logs, same, strict=True) if not i]
            if not whole
            else []
        )


def _frame_bytes(data: bytes, at: int) -> int:
    return 8 * int.from_bytes(data[at + 4 : at + 6], "little")


def _table(
    shape: Shape, logs: Sequence[PlainLog], frames: bytes, keys: Sequence[str] | None
) -> Table:
    import numpy as np
    import pyarrow as pa

    counts = np.array([log.rows for log in logs])
    total = int(counts.sum())
    (block,) = blocks(Segment(None, [ShapeRows(shape, frames, range(total))]))
    which = np.repeat(np.arange(len(logs)), counts)
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    epochs = np.array([log.epoch for log in logs], np.int32)
    columns: dict[str, pa.Array] = {
        "_uid": coded(which, [log.uid for log in logs]),
        "_run": coded(which, [log.run_id for log in logs]),
        "_step": array(block.steps),
        "_ts": array(block.times // 1000, None, pa.timestamp("ms", "UTC")),
        "_epoch": array(np.repeat(epochs, counts)),
        "_stream": coded(which, [log.token for log in logs]),
        "_n": array(np.arange(total) - starts),
        "_writer": coded(np.zeros(total), ["primary"]),
    }
    names = column_names(shape.keys)
    held = {}
    for cells in block.cells:
        if keys is None or cells.key in keys:
            name = names[cells.key]
            held[cells.key] = (name, cells.code)
            columns[name + SUFFIXES[cells.code]] = array(cells.values)
    return Table("wide", pa.table(columns), held)
