"""Many small logs at once: rows of one shape, from thousands of runs, as one table.

What the Catalog calls plain is a header, one definition, and rows of one length. Logs
whose definitions are the same bytes differ in their rows alone, so these are joined end
to end and read as one array.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from wanllmdb._metrics import segment
from wanllmdb._metrics.arrow import array, coded
from wanllmdb._metrics.blocks import blocks
from wanllmdb._metrics.columns import SUFFIXES, column_names
from wanllmdb._metrics.decode import Segment, ShapeRows
from wanllmdb._metrics.seal import Table
from wanllmdb._metrics.segment import FRAME_HEAD, HEADER_BYTES, Shape
from wanllmdb.errors import CorruptPartError
from wanllmdb.types import RunRef

if TYPE_CHECKING:
    import pyarrow as pa


class Log(NamedTuple):
    """A plain log, and whose it is."""

    run: RunRef
    token: str
    epoch: int
    rows: int
    crc: int
    data: bytes


@dataclass(slots=True)
class PlainTable:
    """A wide table of logs of one shape, and whose rows it holds, in its order."""

    table: Table
    logs: list[Log]


def plain_tables(
    logs: Iterable[Log], keys: Sequence[str] | None = None
) -> list[PlainTable]:
    """Wide tables of the rows of plain logs, one for each shape.

    Args:
        logs: What the Catalog holds.
        keys: Metrics wanted; None for all.

    Raises:
        CorruptPartError: a log's bytes are not what was stored.
    """
    groups: dict[bytes, tuple[list[Log], list[bytes]]] = {}
    definition, start, size = b"", 0, 0
    for log in logs:
        data = log.data
        if crc32(data) != log.crc:
            raise CorruptPartError(
                f"The Catalog's copy of the log of run {log.run.id} is damaged.",
                hint="Restore a backup.", run=log.run.id,
            )  # fmt: skip
        # Most logs define what the one before them did.
        if not start or not data.startswith(definition, HEADER_BYTES):
            start = HEADER_BYTES + _frame_bytes(data, HEADER_BYTES)
            size = _frame_bytes(data, start)
            definition = data[HEADER_BYTES:start]
        held, frames = groups.setdefault(definition, ([], []))
        held.append(log)
        frames.append(data[start : start + log.rows * size])
    made = []
    for definition, (held, frames) in groups.items():
        number, codes, names = segment.payload_json(definition[FRAME_HEAD.size :])
        if keys is None or not set(names).isdisjoint(keys):
            shape = Shape(number, names, codes)
            table = _table(shape, held, b"".join(frames), keys)
            made.append(PlainTable(table, held))
    return made


def _frame_bytes(data: bytes, at: int) -> int:
    return 8 * int.from_bytes(data[at + 4 : at + 6], "little")


def _table(
    shape: Shape, logs: Sequence[Log], frames: bytes, keys: Sequence[str] | None
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
        "_uid": coded(which, [log.run.uid for log in logs]),
        "_run": coded(which, [log.run.id for log in logs]),
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
