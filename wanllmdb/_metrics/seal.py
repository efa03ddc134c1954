"""From decoded streams to the tables of sealed parts. NumPy and pyarrow load.

Wide: one row per log row, one column per key and type. Keys beyond the 256th, and
keys that fewer than a twentieth of the rows have, go to a tall table, what is no
scalar to one of objects; both say of which log row each value is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wanllmdb import _json
from wanllmdb._metrics.blocks import blocks
from wanllmdb._metrics.columns import (
    DTYPES,
    SUFFIXES,
    ColumnRows,
    column_names,
    listed,
)
from wanllmdb._metrics.decode import Segment, SummaryWrite
from wanllmdb.types import StreamIdentity

if TYPE_CHECKING:
    import pyarrow as pa

    from wanllmdb._metrics.columns import Ints

WIDE_KEYS = 256
"""Keys that get columns of their own in a wide part."""

SPARSE = 20
"""A key that fewer than one row in so many has, is tall."""

HEADS = ("_run", "_step", "_ts", "_epoch", "_stream", "_n", "_writer")
"""The columns of every sealed table: which log row it is."""

VALUE, SUMMARY, EDIT = "value", "summary", "edit"
"""What a row of an objects part is: a metric's, the run's or a user's later write."""


@dataclass(slots=True)
class Table:
    """One sealed table.

    Attributes:
        layout: ``wide``, ``tall``, ``objects``, ``system`` or ``console``.
        arrow: Its rows, in total order.
        columns: Column name and type codes of each key, in the order of appearance.
    """

    layout: str
    arrow: pa.Table
    columns: dict[str, tuple[str, str]]


@dataclass(slots=True)
class Batch:
    """Rows of one run, gathered to be sealed together.

    Args:
        run: The run's uid.
        layout: ``wide`` for metrics, or ``system`` or ``console``.
    """

    run: str
    layout: str
    _blocks: list[tuple[StreamIdentity, ColumnRows]] = field(default_factory=list)
    _writes: list[tuple[StreamIdentity, str, SummaryWrite]] = field(
        default_factory=list
    )

    def add(self, identity: StreamIdentity, segment: Segment, kind: str) -> None:
        """Take the rows and writes of a segment.

        Args:
            identity: Whose they are.
            segment: Decoded.
            kind: `SUMMARY` or `EDIT`, for what was written into the summary.
        """
        self._blocks += [(identity, block) for block in blocks(segment)]
        self._writes += [(identity, kind, write) for write in segment.summaries]

    def tables(self) -> list[Table]:
        """The tables that hold it all; none that would be empty."""
        rows = _Rows(self.run, self._blocks)
        gathered = rows.gathered()
        made = []
        names = _listed_names(gathered, self.layout)
        wide, tall, objects = _divided(gathered, len(rows), self.layout)
        if len(rows):
            made.append(_wide(rows, wide, names, self.layout))
        if tall:
            made.append(_tall(rows, tall))
        if objects or self._writes:
            made.append(_objects(rows, objects, self._writes))
        return made


Gathered = dict[tuple[str, str], tuple["Ints", Any]]
"""(key, code) -> numbers of the rows that have it, in total order, and the values."""


class _Rows:
    """The rows of several blocks, put in total order."""

    def __init__(
        self, run: str, pieces: Sequence[tuple[StreamIdentity, ColumnRows]]
    ) -> None:
        import numpy as np

        self.run = run
        self._pieces = pieces
        tokens = sorted({identity.token for identity, _ in pieces})
        writers = sorted({identity.writer for identity, _ in pieces})

        def joined(arrays: Iterable[Any]) -> Any:
            found = [np.asarray(array, np.int64) for array in arrays]
            return np.concatenate(found) if found else np.empty(0, np.int64)

        def repeated(numbers: Iterable[int]) -> Any:
            sizes = [len(block.steps) for _, block in pieces]
            return joined(
                np.full(size, number, np.int64)
                for number, size in zip(numbers, sizes, strict=True)
            )

        steps = joined(block.steps for _, block in pieces)
        times = joined(block.times for _, block in pieces) // 1000
        ordinals = joined(block.ordinals for _, block in pieces)
        epochs = repeated(identity.epoch for identity, _ in pieces)
        streams = repeated(tokens.index(i.token) for i, _ in pieces)
        order = np.lexsort((ordinals, streams, times, epochs))
        self._rank = np.empty(len(order), np.int64)
        self._rank[order] = np.arange(len(order))
        self.steps, self.times = steps[order], times[order]
        self.ordinals, self.epochs = ordinals[order], epochs[order]
        self._streams = streams[order]
        self._writers = repeated(writers.index(i.writer) for i, _ in pieces)[order]
        self._tokens, self._names = tokens, writers

    def __len__(self) -> int:
        return len(self.steps)

    def heads(self, at: Ints | None = None) -> dict[str, Any]:
        """The columns that say which log rows these are; of some rows, or all."""
        import numpy as np
        import pyarrow as pa

        def some(values: Any) -> Any:
            return values if at is None else values[at]

        def named(numbers: Any, names: Sequence[str]) -> pa.Array:
            indices = pa.array(some(numbers).astype(np.int32))
            return pa.DictionaryArray.from_arrays(
                indices, pa.array(names or [""], pa.string())
            )

        zeros = np.zeros(len(self), np.int64)
        return {
            "_run": named(zeros, [self.run]),
            "_step": pa.array(some(self.steps)),
            "_ts": pa.array(some(self.times), pa.timestamp("ms", "UTC")),
            "_epoch": pa.array(some(self.epochs).astype(np.int32)),
            "_stream": named(self._streams, self._tokens),
            "_n": pa.array(some(self.ordinals)),
            "_writer": named(self._writers, self._names),
        }

    def gathered(self) -> Gathered:
        """The values of each key and type, at their rows in total order."""
        import numpy as np

        found: dict[tuple[str, str], list[tuple[Ints, Any]]] = {}
        start = 0
        for _, block in self._pieces:
            ranks = self._rank[start : start + len(block.steps)]
            start += len(block.steps)
            for cells in block.cells:
                at = ranks if cells.rows is None else ranks[cells.rows]
                found.setdefault((cells.key, cells.code), []).append((at, cells.values))
        made: Gathered = {}
        for (key, code), pieces in found.items():
            at = np.concatenate([ranks for ranks, _ in pieces])
            order = np.argsort(at, kind="stable")
            if code in DTYPES:
                values: Any = np.concatenate([held for _, held in pieces])[order]
            else:
                flat = [value for _, held in pieces for value in held]
                values = [flat[i] for i in order.tolist()]
            made[key, code] = (at[order], values)
        return made


def _listed_names(gathered: Gathered, layout: str) -> dict[str, str]:
    keys = dict.fromkeys(key for key, _ in gathered)
    names = column_names(keys)
    if layout == "console":  # its three keys are ours
        return {key: key for key in keys}
    return {key: names[key] for key in keys}


def _divided(
    gathered: Gathered, rows: int, layout: str
) -> tuple[Gathered, Gathered, Gathered]:
    """What goes into the wide, the tall and the objects table."""
    scalars = {at: held for at, held in gathered.items() if at[1] in SUFFIXES}
    objects = {at: held for at, held in gathered.items() if at[1] not in SUFFIXES}
    if layout != "wide":
        return scalars, {}, objects
    counts: dict[str, int] = {}
    for (key, _), (at, _) in scalars.items():
        counts[key] = counts.get(key, 0) + len(at)
    dense = [key for key, count in counts.items() if count * SPARSE >= rows]
    chosen = set(sorted(dense, key=lambda key: -counts[key])[:WIDE_KEYS])
    wide = {at: held for at, held in scalars.items() if at[0] in chosen}
    tall = {at: held for at, held in scalars.items() if at[0] not in chosen}
    return wide, tall, objects


def _columns_of(found: Gathered, names: dict[str, str]) -> dict[str, tuple[str, str]]:
    codes: dict[str, str] = {}
    for key, code in found:
        codes[key] = codes.get(key, "") + code
    return {key: (names[key], held) for key, held in codes.items()}


def _wide(rows: _Rows, found: Gathered, names: dict[str, str], layout: str) -> Table:
    import pyarrow as pa

    columns = rows.heads()
    for (key, code), (at, values) in found.items():
        suffix = "" if layout == "console" else SUFFIXES[code]
        columns[names[key] + suffix] = _spread(at, values, code, len(rows))
    return Table(layout, pa.table(columns), _columns_of(found, names))


def _spread(at: Ints, values: Any, code: str, rows: int) -> pa.Array:
    """A column in which only some rows have a value."""
    import numpy as np
    import pyarrow as pa

    if code not in DTYPES:
        cells: list[Any] = [None] * rows
        for row, value in zip(at.tolist(), values, strict=True):
            cells[row] = value
        return pa.array(cells, pa.string())
    if len(at) == rows:
        return pa.array(np.ascontiguousarray(values.astype(DTYPES[code])))
    column = np.zeros(rows, DTYPES[code])
    column[at] = values
    missing = np.ones(rows, bool)
    missing[at] = False
    return pa.array(column, mask=missing)


def _tall(rows: _Rows, found: Gathered) -> Table:
    import numpy as np
    import pyarrow as pa

    keys = list(dict.fromkeys(key for key, _ in found))
    at = np.concatenate([rows_of for rows_of, _ in found.values()])
    which = np.concatenate(
        [np.full(len(held[0]), keys.index(key)) for (key, _), held in found.items()]
    )
    order = np.lexsort((at, which))
    columns = rows.heads(at[order])
    columns["key"] = pa.DictionaryArray.from_arrays(
        pa.array(which[order].astype(np.int32)), pa.array(keys, pa.string())
    )
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    codes = dict.fromkeys(code for _, code in found)
    for code in codes:
        start, spread, values = 0, [], []
        for (_, kind), (rows_of, held) in found.items():
            if kind == code:
                spread.append(place[start : start + len(rows_of)])
                values.append(held)
            start += len(rows_of)
        joined = (
            np.concatenate(values) if code in DTYPES else [v for h in values for v in h]
        )
        columns[f"value{SUFFIXES[code]}"] = _spread(
            np.concatenate(spread), joined, code, len(at)
        )
    names = {key: key for key in keys}
    return Table("tall", pa.table(columns), _columns_of(found, names))


def _objects(
    rows: _Rows,
    found: Gathered,
    writes: Sequence[tuple[StreamIdentity, str, SummaryWrite]],
) -> Table:
    import numpy as np
    import pyarrow as pa

    places = [at for at, _ in found.values()]
    at = np.concatenate(places) if places else np.empty(0, np.int64)
    heads = pa.table(rows.heads(at))
    keys = [key for (key, _), (rows_of, _) in found.items() for _ in rows_of]
    texts = [_json.dumps(value) for _, held in found.values() for value in listed(held)]
    order = np.argsort(at, kind="stable")
    values = heads.append_column("key", pa.array(keys, pa.string()))
    values = values.append_column("kind", pa.array([VALUE] * len(keys), pa.string()))
    values = values.append_column("json", pa.array(texts, pa.string())).take(order)
    table = pa.concat_tables([_plain(values), _plain(_written(rows.run, writes))])
    return Table("objects", table, _columns_of(found, {key: key for key, _ in found}))


def _written(
    run: str, writes: Sequence[tuple[StreamIdentity, str, SummaryWrite]]
) -> pa.Table:
    """What was written into the summary, as rows of an objects table."""
    import pyarrow as pa

    rows = [
        (identity, kind, write.ordinal, write.time_us // 1000, key, _json.dumps(value))
        for identity, kind, write in writes
        for key, value in write.values.items()
    ]
    return pa.table({
        "_run": pa.array([run] * len(rows), pa.string()),
        "_step": pa.array([None] * len(rows), pa.int64()),
        "_ts": pa.array([row[3] for row in rows], pa.timestamp("ms", "UTC")),
        "_epoch": pa.array([row[0].epoch for row in rows], pa.int32()),
        "_stream": pa.array([row[0].token for row in rows], pa.string()),
        "_n": pa.array([row[2] for row in rows], pa.int64()),
        "_writer": pa.array([row[0].writer for row in rows], pa.string()),
        "key": pa.array([row[4] for row in rows], pa.string()),
        "kind": pa.array([row[1] for row in rows], pa.string()),
        "json": pa.array([row[5] for row in rows], pa.string()),
    })  # fmt: skip


def _plain(table: pa.Table) -> pa.Table:
    """The same table with text instead of dictionaries."""
    import pyarrow as pa

    for index, column in enumerate(table.schema):
        if pa.types.is_dictionary(column.type):
            text = table.column(index).cast(pa.string())
            table = table.set_column(index, column.name, text)
    return table
