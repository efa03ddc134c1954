"""From decoded streams to the tables of sealed parts. NumPy and pyarrow load.

Wide: one row per log row, one column per key and type. Keys beyond the 256th, and
keys that fewer than a twentieth of the rows have, go to a tall table, what is no
scalar to one of objects; both say of which log row each value is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from wanllmdb import _json
from wanllmdb._metrics.arrow import array, coded, numbers, texts
from wanllmdb._metrics.blocks import blocks
from wanllmdb._metrics.columns import (
    DTYPES,
    SUFFIXES,
    ColumnRows,
    column_names,
    listed,
)
from wanllmdb._metrics.decode import Segment, SummaryWrite
from wanllmdb.types import RunRef, StreamIdentity

if TYPE_CHECKING:
    import pyarrow as pa

    from wanllmdb._metrics.columns import Ints

N = TypeVar("N", str, RunRef)

WIDE_KEYS = 256
"""Keys that get columns of their own in a wide part."""

SPARSE = 20
"""A key that fewer than one row in so many has, is tall."""

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


@dataclass(frozen=True, slots=True)
class _Piece:
    """Rows of one stream of one run."""

    run: RunRef
    identity: StreamIdentity
    block: ColumnRows


@dataclass(frozen=True, slots=True)
class _Write:
    """What was written into the summary of a run."""

    run: RunRef
    identity: StreamIdentity
    kind: str
    write: SummaryWrite


@dataclass(slots=True)
class Batch:
    """Rows gathered to be sealed together, by run and then in total order.

    Args:
        layout: ``wide`` for metrics, or ``system`` or ``console``.
    """

    layout: str
    _pieces: list[_Piece] = field(default_factory=list)
    _writes: list[_Write] = field(default_factory=list)

    def add(
        self, run: RunRef, identity: StreamIdentity, segment: Segment, kind: str
    ) -> None:
        """Take the rows and writes of a segment.

        Args:
            run: Whose they are.
            identity: Which stream's.
            segment: Decoded.
            kind: `SUMMARY` or `EDIT`, for what was written into the summary.
        """
        self._pieces += [_Piece(run, identity, block) for block in blocks(segment)]
        self._writes += [
            _Write(run, identity, kind, write)
            for write in segment.summaries
            if write.values  # an empty one leaves no row
        ]

    def add_rows(self, run: RunRef, writer: str, rows: ColumnRows) -> None:
        """Take rows that are merged already: they have no stream any more."""
        identity = StreamIdentity("", 0, writer)
        self._pieces.append(_Piece(run, identity, rows))

    def tables(self) -> list[Table]:
        """The tables that hold it all; none that would be empty."""
        rows = _Rows(self._pieces)
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


def _numbered(names: Iterable[N]) -> dict[N, int]:
    return {name: number for number, name in enumerate(sorted(set(names)))}


Gathered = dict[tuple[str, str], tuple["Ints", Any]]
"""(key, code) -> numbers of the rows that have it, in total order, and the values."""


class _Rows:
    """The rows of several blocks, put in total order."""

    def __init__(self, pieces: Sequence[_Piece]) -> None:
        import numpy as np

        self._pieces = pieces
        refs = _numbered(piece.run for piece in pieces)
        tokens = _numbered(piece.identity.token for piece in pieces)
        writers = _numbered(piece.identity.writer for piece in pieces)

        def joined(arrays: Iterable[Any]) -> Any:
            found = [np.asarray(array, np.int64) for array in arrays]
            return np.concatenate(found) if found else np.empty(0, np.int64)

        def repeated(numbers: Iterable[int]) -> Any:
            sizes = [len(piece.block.steps) for piece in pieces]
            return joined(
                np.full(size, number, np.int64)
                for number, size in zip(numbers, sizes, strict=True)
            )

        steps = joined(piece.block.steps for piece in pieces)
        times = joined(piece.block.times for piece in pieces) // 1000
        ordinals = joined(piece.block.ordinals for piece in pieces)
        runs = repeated(refs[piece.run] for piece in pieces)
        epochs = repeated(piece.identity.epoch for piece in pieces)
        streams = repeated(tokens[piece.identity.token] for piece in pieces)
        order = np.lexsort((ordinals, streams, times, epochs, runs))
        self._rank = np.empty(len(order), np.int64)
        self._rank[order] = np.arange(len(order))
        self.steps, self.times = steps[order], times[order]
        self.ordinals, self.epochs = ordinals[order], epochs[order]
        self._streams, self.runs = streams[order], runs[order]
        self._writers = repeated(writers[p.identity.writer] for p in pieces)[order]
        self._refs, self._tokens, self._names = list(refs), list(tokens), list(writers)

    def __len__(self) -> int:
        return len(self.steps)

    def heads(self, at: Ints | None = None) -> dict[str, Any]:
        """The columns that say which log rows these are; of some rows, or all."""
        import numpy as np
        import pyarrow as pa

        def some(values: Any) -> Any:
            return values if at is None else values[at]

        return {
            "_uid": coded(some(self.runs), [ref.uid for ref in self._refs]),
            "_run": coded(some(self.runs), [ref.id for ref in self._refs]),
            "_step": array(some(self.steps)),
            "_ts": array(some(self.times), None, pa.timestamp("ms", "UTC")),
            "_epoch": array(some(self.epochs).astype(np.int32)),
            "_stream": coded(some(self._streams), self._tokens),
            "_n": array(some(self.ordinals)),
            "_writer": coded(some(self._writers), self._names),
        }

    def gathered(self) -> Gathered:
        """The values of each key and type, at their rows in total order."""
        import numpy as np

        found: dict[tuple[str, str], list[tuple[Ints, Any]]] = {}
        start = 0
        for block in (piece.block for piece in self._pieces):
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

    if code not in DTYPES:
        cells: list[Any] = [None] * rows
        for row, value in zip(at.tolist(), values, strict=True):
            cells[row] = value
        return texts(cells)
    column = np.zeros(rows, DTYPES[code])
    column[at] = values
    if len(at) == rows:
        return array(column)
    missing = np.ones(rows, bool)
    missing[at] = False
    return array(column, missing)


def _tall(rows: _Rows, found: Gathered) -> Table:
    import numpy as np
    import pyarrow as pa

    keys = list(dict.fromkeys(key for key, _ in found))
    at = np.concatenate([rows_of for rows_of, _ in found.values()])
    which = np.concatenate(
        [np.full(len(held[0]), keys.index(key)) for (key, _), held in found.items()]
    )
    order = np.lexsort((at, which, rows.runs[at]))  # by run, as every part is
    columns = rows.heads(at[order])
    columns["key"] = coded(which[order], keys)
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
    writes: Sequence[_Write],
) -> Table:
    import numpy as np
    import pyarrow as pa

    places = [at for at, _ in found.values()]
    at = np.concatenate(places) if places else np.empty(0, np.int64)
    heads = pa.table(rows.heads(at))
    keys = [key for (key, _), (rows_of, _) in found.items() for _ in rows_of]
    held = [_json.dumps(v) for _, cells in found.values() for v in listed(cells)]
    order = np.argsort(at, kind="stable")
    values = heads.append_column("key", texts(keys))
    values = values.append_column("kind", texts([VALUE] * len(keys)))
    values = values.append_column("json", texts(held)).take(array(order))
    table = pa.concat_tables([_plain(values), _plain(_written(writes))])
    if writes:  # by run, as every part is
        table = table.take(array(np.argsort(_codes(table["_uid"]), kind="stable")))
    return Table("objects", table, _columns_of(found, {key: key for key, _ in found}))


def _written(writes: Sequence[_Write]) -> pa.Table:
    """What was written into the summary, as rows of an objects table."""
    import numpy as np
    import pyarrow as pa

    rows = [
        (item, key, _json.dumps(value))
        for item in writes
        for key, value in item.write.values.items()
    ]
    items = [item for item, _, _ in rows]
    times = [item.write.time_us // 1000 for item in items]
    return pa.table({
        "_uid": texts([item.run.uid for item in items]),
        "_run": texts([item.run.id for item in items]),
        "_step": pa.nulls(len(rows), pa.int64()),
        "_ts": array(np.array(times, np.int64), None, pa.timestamp("ms", "UTC")),
        "_epoch": array(np.array([i.identity.epoch for i in items], np.int32)),
        "_stream": texts([item.identity.token for item in items]),
        "_n": array(np.array([item.write.ordinal for item in items], np.int64)),
        "_writer": texts([item.identity.writer for item in items]),
        "key": texts([key for _, key, _ in rows]),
        "kind": texts([item.kind for item in items]),
        "json": texts([text for _, _, text in rows]),
    })  # fmt: skip


def _codes(column: pa.ChunkedArray) -> Any:
    """Numbers that sort as the texts of a column do."""
    import numpy as np

    names = column.dictionary_encode().unify_dictionaries().combine_chunks()
    order = np.argsort(np.array(names.dictionary.to_pylist()), kind="stable")
    return np.argsort(order)[numbers(names.indices)]


def _plain(table: pa.Table) -> pa.Table:
    """The same table with text instead of dictionaries."""
    import pyarrow as pa

    for index, column in enumerate(table.schema):
        if pa.types.is_dictionary(column.type):
            text = table.column(index).cast(pa.string())
            table = table.set_column(index, column.name, text)
    return table
