"""Sealed parts: Parquet files, written durably and read by stream. pyarrow loads.

Value columns carry no statistics: pyarrow leaves NaN out of minima and maxima, and
DuckDB, which trusts them, then drops rows whose value is NaN.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import TYPE_CHECKING, Any
from zlib import crc32

from wanllmdb import _digest, _files, _json
from wanllmdb._metrics.arrow import array, numbers, texts, valid
from wanllmdb._metrics.columns import DTYPES, SUFFIXES, Cells, ColumnRows
from wanllmdb._metrics.decode import SummaryWrite
from wanllmdb._metrics.seal import VALUE, Table
from wanllmdb.errors import CorruptPartError
from wanllmdb.types import StreamIdentity

if TYPE_CHECKING:
    import pyarrow as pa

METADATA = b"wanllmdb"
"""Key of the file's own description: JSON of layout and columns."""

ROW_GROUP = 122_880
"""Rows of a row group, DuckDB's own size."""

_STATISTICS = ("_uid", "_run", "_step", "_ts")
_NAMES = ("_uid", "_run", "_stream", "_writer", "key", "kind", "stream", "level")
"""Columns of few different texts."""

_TAIL = Struct("<I4s")
"""How a Parquet file ends: the length of its description, and a magic word."""

_PLACES: tuple[str, ...] = ("_step", "_ts", "_epoch", "_stream", "_n", "_writer")


@dataclass(frozen=True, slots=True)
class Written:
    """A Parquet file that is in place: its name, size and digest."""

    name: str
    bytes: int
    digest: str


def write(
    tables: Iterator[pa.Table], described: Table, target: Path, tmp: Path, owner: str
) -> Written:
    """Write a part whole or not at all; durable on return.

    Args:
        tables: Its rows, in pieces of one schema.
        described: Its layout and columns; its rows are not looked at.
        target: The directory it shall be in.
        tmp: Where drafts are, on the same filesystem.
        owner: Whose compaction lock is held: it is in the file's name, so that what an
            interrupted one left behind can be told from what is being written.
    """
    draft = tmp / f"{owner}-{os.urandom(8).hex()}.parquet"
    try:
        _write_parquet(tables, described, draft)
        digest = _digest.of_file(draft)
        name = name_of(draft, owner)
        size = draft.stat().st_size
        draft.chmod(0o400)
        _files.fsync_file(draft)
        if not target.is_dir():
            _files.make_private_dir(target)
            _files.fsync_dir(target.parent)
        draft.replace(target / name)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    _files.fsync_dir(target)
    return Written(name, size, digest)


def name_of(path: Path, owner: str) -> str:
    """A new name for a part, with the checksum of its description.

    Args:
        path: Where it lies.
        owner: As in `write`.
    """
    return f"{owner}-{crc32(_footer(path)):08x}{os.urandom(4).hex()}.parquet"


def _write_parquet(tables: Iterator[pa.Table], described: Table, path: Path) -> None:
    import pyarrow.parquet as pq

    text = json.dumps({
        "version": 1, "layout": described.layout, "columns": described.columns,
    })  # fmt: skip
    schema = described.arrow.schema
    fields = {field.name: str(field.type) for field in schema}
    texts = [name for name, kind in fields.items() if "string" in kind]
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with (
        os.fdopen(fd, "wb") as file,
        pq.ParquetWriter(
            file, schema, version="2.6", compression="zstd", compression_level=3,
            use_dictionary=texts, column_encoding=_encodings(fields, texts),
            write_statistics=[n for n in _STATISTICS if n in fields],
            write_page_checksum=True, data_page_size=1 << 20, store_schema=False,
        ) as writer,
    ):  # fmt: skip
        for table in tables:
            writer.write_table(table.cast(schema), row_group_size=ROW_GROUP)
        writer.add_key_value_metadata({METADATA: text.encode()})


def _encodings(fields: Mapping[str, str], texts: Sequence[str]) -> dict[str, str]:
    kinds = {"double": "BYTE_STREAM_SPLIT", "bool": "RLE"}
    return {
        name: kinds.get(kind, "DELTA_BINARY_PACKED")
        for name, kind in fields.items()
        if name not in texts
    }


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raises CorruptPartError for whatever pyarrow says of a damaged file."""
    import pyarrow as pa

    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException, ValueError, LookupError, TypeError) as error:
        raise CorruptPartError(
            f"{path.name} is damaged: {str(error).splitlines()[0][:200]}.",
            hint="`wanllmdb store verify` sets it aside; a backup may have it whole.",
            part=str(path),
        ) from error


def columns_of(metadata: Mapping[bytes, bytes]) -> dict[str, tuple[str, str]]:
    """Column name and type codes of each key, as the file says itself."""
    found = json.loads(metadata[METADATA])["columns"]
    return {key: (name, codes) for key, (name, codes) in found.items()}


class Reader:
    """Reads rows of parts, and keeps the row groups of the last read.

    Thousands of small runs may share one: it is decoded once for those that follow each
    other.
    """

    def __init__(self) -> None:
        self._kept: tuple[Path, list[str] | None, int, pa.Table] | None = None

    def table(
        self, path: Path, first: int, rows: int, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """As `read_table`."""
        wanted = None if columns is None else list(columns)
        if self._kept is not None and self._kept[:2] == (path, wanted):
            _, _, start, table = self._kept
            if start <= first and first + rows <= start + table.num_rows:
                return table.slice(first - start, rows)
        start, table = _groups_of(path, first, rows, columns)
        small = table.num_rows <= 2 * ROW_GROUP
        self._kept = (path, wanted, start, table) if small else None
        return table.slice(first - start, rows)


def read_table(
    path: Path, first: int, rows: int, columns: Sequence[str] | None = None
) -> pa.Table:
    """Rows of a part, with every page's checksum checked.

    Args:
        path: The file.
        first: The first row wanted.
        rows: How many.
        columns: Which columns; default all. Names that it lacks are left out.

    Raises:
        CorruptPartError: the file is damaged.
        FileNotFoundError: it was removed.
    """
    return Reader().table(path, first, rows, columns)


def _groups_of(
    path: Path, first: int, rows: int, columns: Sequence[str] | None
) -> tuple[int, pa.Table]:
    """The row groups that hold some rows, and the number of their first row."""
    with reading(path), _opened(path) as file:
        groups, start, skipped = [], 0, 0
        for index in range(file.num_row_groups):
            count = file.metadata.row_group(index).num_rows
            if start + count <= first:
                skipped += count
            elif start < first + rows:
                groups.append(index)
            start += count
        held = set(file.schema_arrow.names)
        wanted = None if columns is None else [n for n in columns if n in held]
        table = file.read_row_groups(groups, columns=wanted)
        described = {METADATA: file.metadata.metadata[METADATA]}
        return skipped, table.replace_schema_metadata(described)


def readable(path: Path) -> Iterator[tuple[int, pa.Table, list[str]]]:
    """What can be read of a damaged part, by row group.

    Yields:
        Its first row; its rows; and the keys that have a column that cannot be read,
        which holds nothing there. A row group of which more cannot be read is left out.

    Raises:
        CorruptPartError: its description is damaged, so that nothing can be told.
    """
    with reading(path):
        file = _opened(path)
        described = {METADATA: file.metadata.metadata[METADATA]}
        layout = json.loads(described[METADATA])["layout"]
        keys = _keys_by_column(columns_of(described))
    start = 0
    for index in range(file.num_row_groups):
        columns, lost = _columns_of(file, index)
        if not lost or (layout in ("wide", "system") and keys.keys() >= lost):
            table = _table_of(file, columns).replace_schema_metadata(described)
            yield start, table, [keys[name] for name in lost]
        start += file.metadata.row_group(index).num_rows


def _keys_by_column(columns: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    return {
        name + SUFFIXES[code]: key
        for key, (name, codes) in columns.items()
        for code in codes
        if code in SUFFIXES
    }


def _columns_of(file: Any, index: int) -> tuple[dict[str, Any], set[str]]:
    """The columns of a row group that can be read, and the names of the others."""
    import pyarrow as pa

    found, lost = {}, set()
    rows = file.metadata.row_group(index).num_rows
    for name in file.schema_arrow.names:
        try:
            found[name] = file.read_row_group(index, columns=[name])[name]
            if len(found[name]) == rows:
                continue
        except (OSError, pa.ArrowException, ValueError):
            pass
        lost.add(name)
        found[name] = pa.nulls(rows, file.schema_arrow.field(name).type)
    return found, lost


def _table_of(file: Any, columns: Mapping[str, Any]) -> pa.Table:
    import pyarrow as pa

    return pa.table(list(columns.values()), schema=file.schema_arrow)


def _opened(path: Path) -> Any:
    import pyarrow.parquet as pq

    metadata = _metadata(path)
    held = set(metadata.schema.names)
    return pq.ParquetFile(
        path, metadata=metadata, page_checksum_verification=True,
        read_dictionary=[name for name in _NAMES if name in held],
    )  # fmt: skip


def wide_rows(
    path: Path,
    first: int,
    rows: int,
    keys: Sequence[str] | None,
    reader: Reader | None = None,
) -> list[tuple[StreamIdentity, ColumnRows]]:
    """A run's rows of a wide part, by stream.

    Args:
        path: The file.
        first: The run's first row in it.
        rows: How many.
        keys: Metrics wanted; None for all.
        reader: Where the row groups may be already; default none.
    """
    with reading(path):
        columns = None
        if keys is not None:
            held = described(path)
            columns = [*_PLACES, *value_columns(held, keys)]
        table = (reader or Reader()).table(path, first, rows, columns)
        plain = json.loads(table.schema.metadata[METADATA])["layout"] == "console"
        found = []
        for identity, at in _by_stream(table):
            mine = table if at is None else table.take(array(at))
            block = _heads(mine)
            for key, (name, codes) in columns_of(table.schema.metadata).items():
                for code in codes:
                    column = name if plain else name + SUFFIXES[code]
                    if column in mine.column_names:
                        cells = _cells(key, code, mine[column])
                        block.cells += [] if cells is None else [cells]
            found.append((identity, block))
        return found


def value_columns(
    held: Mapping[str, tuple[str, str]], keys: Sequence[str]
) -> list[str]:
    """The columns that may hold values of keys, some of which a part may lack."""
    return [
        held[key][0] + suffix
        for key in keys
        if key in held
        for suffix in SUFFIXES.values()
    ]


def described(path: Path) -> dict[str, tuple[str, str]]:
    """Column name and type codes of each key of a part.

    Raises:
        CorruptPartError: the file is damaged.
    """
    with reading(path):
        return columns_of(_metadata(path).metadata)


def _metadata(path: Path) -> Any:
    """What a file says of itself; the checksum that Parquet lacks is in its name."""
    import pyarrow.parquet as pq

    if path.stem.rpartition("-")[2][:8] != f"{crc32(_footer(path)):08x}":
        raise ValueError("its description has changed")
    return pq.read_metadata(path)


def _footer(path: Path) -> bytes:
    """The bytes of a Parquet file that stand behind its pages."""
    with path.open("rb") as file:
        file.seek(-_TAIL.size, os.SEEK_END)
        length, _ = _TAIL.unpack(file.read(_TAIL.size))
        file.seek(-_TAIL.size - length, os.SEEK_END)
        return file.read()


def _by_stream(table: pa.Table) -> list[tuple[StreamIdentity, Any]]:
    """The streams of a table, and the rows of each; None where it has only one."""
    import numpy as np

    streams = table["_stream"].unify_dictionaries().combine_chunks()
    indices = numbers(streams.indices)
    epochs, writers = table["_epoch"], table["_writer"]
    tokens = streams.dictionary.to_pylist()
    found = []
    different = np.unique(indices)
    for number in different.tolist():
        at = None
        row = 0
        if len(different) > 1:
            at = np.flatnonzero(indices == number)
            row = int(at[0])
        epoch, writer = epochs[row].as_py(), writers[row].as_py()
        found.append((StreamIdentity(tokens[number], epoch, writer), at))
    return found


def _heads(table: pa.Table) -> ColumnRows:

    times = numbers(table["_ts"]) * 1000
    return ColumnRows(numbers(table["_n"]), numbers(table["_step"]), times)


def _cells(key: str, code: str, column: pa.ChunkedArray) -> Cells | None:
    """The values of a column; None if there is none."""
    import numpy as np
    import pyarrow as pa

    rows = None
    if column.null_count:
        if column.null_count == len(column):
            return None
        rows = np.flatnonzero(valid(column))
        column = column.drop_null()
    if code in DTYPES:
        return Cells(key, code, rows, numbers(column))
    return Cells(key, code, rows, column.cast(pa.string()).to_pylist())


def tall_values(
    path: Path, first: int, rows: int, keys: Sequence[str] | None
) -> Iterator[tuple[str, Cells, Any]]:
    """(stream, values of one key, their ordinals) of a tall part."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    with reading(path):
        table = read_table(path, first, rows)
        if keys is not None:
            table = table.filter(
                pc.is_in(table["key"].cast(pa.string()), texts([*keys]))
            )
        if not table.num_rows:
            return
        groups = _grouped(table, ["key", "_stream"])
        for (key, token), at in groups:
            mine = table.take(array(at))
            ordinals = numbers(mine["_n"])
            for code, suffix in SUFFIXES.items():
                if f"value{suffix}" in mine.column_names:
                    cells = _cells(key, code, mine[f"value{suffix}"])
                    if cells is not None:
                        places = (
                            ordinals if cells.rows is None else ordinals[cells.rows]
                        )
                        yield token, cells, np.asarray(places)


def object_values(
    path: Path, first: int, rows: int, keys: Sequence[str] | None
) -> Iterator[tuple[str, Cells, Any]]:
    """(stream, values of one key, their ordinals) of an objects part."""
    import numpy as np
    import pyarrow.compute as pc

    with reading(path):
        table = read_table(path, first, rows)
        table = table.filter(pc.equal(table["kind"].cast("string"), VALUE))
        for (key, token), at in _grouped(table, ["key", "_stream"]):
            if keys is not None and key not in keys:
                continue
            mine = table.take(array(at))
            ordinals = numbers(mine["_n"])
            values = [_json.loads(text) for text in mine["json"].to_pylist()]
            for code in ("o", "n"):
                chosen = [
                    i for i, v in enumerate(values) if (v is None) is (code == "n")
                ]
                if chosen:
                    held = [values[i] for i in chosen]
                    yield (
                        token,
                        Cells(key, code, None, held),
                        np.asarray(ordinals[chosen]),
                    )


def summary_writes(
    path: Path, first: int, rows: int
) -> Iterator[tuple[StreamIdentity, str, SummaryWrite]]:
    """(stream, `SUMMARY` or `EDIT`, what was written) of an objects part."""
    import pyarrow.compute as pc

    with reading(path):
        table = read_table(path, first, rows)
        table = table.filter(pc.not_equal(table["kind"].cast("string"), VALUE))
        times = table["_ts"].cast("int64").to_pylist()
        for time_ms, row in zip(
            times, table.drop_columns(["_ts"]).to_pylist(), strict=True
        ):
            identity = StreamIdentity(row["_stream"], row["_epoch"], row["_writer"])
            values = {row["key"]: _json.loads(row["json"])}
            yield identity, row["kind"], SummaryWrite(row["_n"], time_ms * 1000, values)


def _grouped(table: pa.Table, names: Sequence[str]) -> Iterator[tuple[Any, Any]]:
    """The rows of each combination of texts, in order."""
    import numpy as np

    coded, texts = [], []
    for name in names:
        column = table[name].unify_dictionaries().combine_chunks()
        coded.append(numbers(column.indices))
        texts.append(column.dictionary.to_pylist())
    if not table.num_rows:
        return
    stacked = np.stack(coded)
    order = np.lexsort(stacked[::-1])
    changed = np.any(np.diff(stacked[:, order], axis=1) != 0, axis=0)
    for at in np.split(order, np.flatnonzero(changed) + 1):
        head = int(at[0])
        yield tuple(t[c[head]] for t, c in zip(texts, coded, strict=True)), np.sort(at)
