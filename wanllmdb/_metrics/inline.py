"""Many small logs at once: rows of one shape, from thousands of runs, as one table.

What the Catalog calls plain is a header, one definition, and rows of one length. Logs
whose definitions are the same bytes differ in their rows alone, so these are joined end
to end and read as one array.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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

if TYPE_CHECKING:
    import pyarrow as pa


def plain_tables(
    logs: Iterable[tuple[str, bytes, int, int]], keys: Sequence[str] | None
) -> list[Table]:
    """Wide tables of the rows of plain logs, one for each shape.

    Args:
        logs: (run's uid, the segment, its CRC, rows in it) of each.
        keys: Metrics wanted; None for all.

    Raises:
        CorruptPartError: a log's bytes are not what was stored.
    """
    groups: dict[bytes, tuple[list[str], list[int], list[bytes]]] = {}
    for uid, data, crc, rows in logs:
        if crc32(data) != crc:
            raise CorruptPartError(
                f"The Catalog's copy of the log of run {uid} is damaged.",
                hint="Restore a backup.", run=uid,
            )  # fmt: skip
        _, words, _, _, _ = FRAME_HEAD.unpack_from(data, HEADER_BYTES)
        start = HEADER_BYTES + words * 8
        _, words, _, _, _ = FRAME_HEAD.unpack_from(data, start)
        uids, counts, frames = groups.setdefault(data[HEADER_BYTES:start], ([], [], []))
        uids.append(uid)
        counts.append(rows)
        frames.append(data[start : start + rows * words * 8])
    made = []
    for definition, (uids, counts, frames) in groups.items():
        number, codes, names = segment.payload_json(definition[FRAME_HEAD.size :])
        if keys is None or not set(names).isdisjoint(keys):
            shape = Shape(number, names, codes)
            made.append(_table(shape, uids, counts, b"".join(frames), keys))
    return made


def _table(
    shape: Shape,
    uids: Sequence[str],
    counts: Sequence[int],
    frames: bytes,
    keys: Sequence[str] | None,
) -> Table:
    import numpy as np
    import pyarrow as pa

    segment_of = Segment(None, [ShapeRows(shape, frames, range(sum(counts)))])
    (block,) = blocks(segment_of)
    which = np.repeat(np.arange(len(uids)), counts)
    same = np.zeros(len(block.steps))
    columns: dict[str, pa.Array] = {
        "_run": coded(which, uids),
        "_step": array(block.steps),
        "_ts": array(block.times // 1000, None, pa.timestamp("ms", "UTC")),
        "_writer": coded(same, ["primary"]),
    }
    names = column_names(shape.keys)
    held = {}
    for cells in block.cells:
        if keys is None or cells.key in keys:
            name = names[cells.key]
            held[cells.key] = (name, cells.code)
            columns[name + SUFFIXES[cells.code]] = array(cells.values)
    return Table("wide", pa.table(columns), held)
