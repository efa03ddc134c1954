"""Tables read from a Store: Arrow inside, pandas or plain rows on request."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from wanllmdb import _extras, _json, _markup, _text
from wanllmdb._metrics.scan import JSON_METADATA
from wanllmdb._values import RESERVED
from wanllmdb.errors import InvalidInputError, MetricNotFoundError

if TYPE_CHECKING:
    import pyarrow as pa


SHOWN_ROWS = 20
"""Rows that `show` and a notebook show unless asked for more."""


class Result:
    """A table read from a Store: Arrow inside, pandas, Polars or rows on request.

    Columns whose values share no Arrow type hold JSON text, marked in the field's
    metadata; `to_pylist` and `df` give back the values themselves.
    """

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def arrow(self) -> pa.Table:
        """The pyarrow table."""
        return self._table

    def df(self) -> Any:
        """A pandas DataFrame.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        _extras.need("pandas", "pandas", "A DataFrame")
        frame = self._table.to_pandas()
        for name in self._json_columns():
            frame[name] = [_decoded(text) for text in self._table[name].to_pylist()]
        return frame

    def pl(self) -> Any:
        """A Polars DataFrame.

        Raises:
            MissingExtraError: polars is not installed.
        """
        polars = _extras.need("polars", "polars", "A Polars DataFrame")
        return polars.from_arrow(self._table)

    def batches(self, rows: int = 65_536) -> Iterator[pa.RecordBatch]:
        """The table in Arrow batches of at most so many rows."""
        yield from self._table.to_batches(max_chunksize=rows)

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Rows as tuples, as database drivers give them."""
        return [tuple(row.values()) for row in self.to_pylist()]

    def show(self, rows: int = SHOWN_ROWS) -> None:
        """Print the first rows."""
        sys.stdout.write(self._text(rows))

    def _text(self, rows: int) -> str:
        head = Result(self._table.slice(0, rows)).to_pylist()
        left = len(self) - len(head)
        more = f"... {left} more rows\n" if left else ""
        return _text.table(head, self.columns) + more

    def _repr_html_(self) -> str:
        """What a notebook shows: escaped, without script."""
        head = Result(self._table.slice(0, SHOWN_ROWS)).to_pylist()
        return html_table(self.columns, head, len(self))

    def to_pylist(self) -> list[dict[str, Any]]:
        """Rows as dicts; None where a row lacks a column."""
        rows: list[dict[str, Any]] = self._table.to_pylist()
        for name in self._json_columns():
            for row in rows:
                row[name] = _decoded(row[name])
        return rows

    @property
    def columns(self) -> list[str]:
        """The column names."""
        names: list[str] = self._table.column_names
        return names

    def __getitem__(self, name: str) -> pa.ChunkedArray:
        """One column.

        Raises:
            MetricNotFoundError: there is none of that name.
        """
        if name not in self._table.column_names:
            raise MetricNotFoundError(
                f"There is no column {name!r}.", hint="See .columns.", key=name
            )
        return self._table[name]

    def __len__(self) -> int:
        count: int = self._table.num_rows
        return count

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.to_pylist())

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Hand the table to any Arrow reader (Polars, DuckDB) without a copy."""
        return self._table.__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        return f"<Result {len(self)} rows: {', '.join(self.columns)}>"

    def _json_columns(self) -> list[str]:
        return json_columns(self._table)


def html_table(
    columns: Sequence[str], rows: Sequence[Mapping[str, Any]], total: int | None = None
) -> str:
    """Rows as an HTML table for a notebook; every value is escaped.

    Args:
        columns: Which keys, in which order.
        rows: One mapping for each row.
        total: How many rows there are in all; None says nothing of it.
    """
    cells = [
        [_markup.rounded(_shown(row.get(name))) for name in columns] for row in rows
    ]
    head = "".join(f"<th>{_markup.escape(name)}</th>" for name in columns)
    body = "".join(
        f"<tr>{''.join(f'<td>{cell}</td>' for cell in line)}</tr>" for line in cells
    )
    note = f"<p>{total} rows</p>" if total != 1 else "<p>1 row</p>"
    note = "" if total is None else note
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{note}"


def _shown(value: Any) -> Any:
    """A value as a notebook shows it: nothing for None, times as text."""
    if value is None:
        return ""
    return value.isoformat(" ") if hasattr(value, "isoformat") else value


def _decoded(text: str | None) -> Any:
    return None if text is None else _json.loads(text)


def json_columns(table: pa.Table) -> list[str]:
    """The columns whose text is JSON, because their values share no type."""
    return [f.name for f in table.schema if f.metadata == JSON_METADATA]


def rows_with_any(table: pa.Table, keys: Sequence[str]) -> pa.Table:
    """The rows that hold a value of one of the keys; columns of every row count not."""
    import pyarrow.compute as pc

    mask = None
    for key in keys:
        if key not in RESERVED:
            valid = pc.is_valid(table[key])
            mask = valid if mask is None else pc.or_(mask, valid)
    if mask is None:
        return table
    return table.filter(mask)


def rows_of_writer(table: pa.Table, writer: str) -> pa.Table:
    """The rows that one writer wrote."""
    import pyarrow.compute as pc

    return table.filter(pc.equal(table["_writer"], writer))


def concatenated(tables: Sequence[pa.Table]) -> pa.Table:
    """Tables end to end; columns whose types differ become JSON text."""
    import pyarrow as pa

    names = list(dict.fromkeys(n for table in tables for n in table.column_names))
    mixed = [name for name in names if _is_mixed(tables, name)]
    plain = [_with_json(table, mixed) for table in tables]
    fields = {f.name: f for table in plain for f in table.schema}
    schema = pa.schema([fields[name] for name in names])
    return pa.concat_tables(
        [_with_columns(table, schema) for table in plain]
    )  # fmt: skip


def _is_mixed(tables: Sequence[pa.Table], name: str) -> bool:
    fields = [t.schema.field(name) for t in tables if name in t.column_names]
    kinds = {(str(f.type), f.metadata == JSON_METADATA) for f in fields}
    return len(kinds) > 1


def _with_json(table: pa.Table, names: Sequence[str]) -> pa.Table:
    import pyarrow as pa

    already = json_columns(table)
    for name in names:
        if name in table.column_names and name not in already:
            cells = [None if v is None else _json.dumps(v)
                     for v in table[name].to_pylist()]  # fmt: skip
            field = pa.field(name, pa.string(), metadata=JSON_METADATA)
            at = table.column_names.index(name)
            table = table.set_column(at, field, pa.array(cells, pa.string()))
    return table


def _with_columns(table: pa.Table, schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    columns = [
        table[field.name] if field.name in table.column_names
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]  # fmt: skip
    return pa.table(columns, schema=schema)


def sampled(table: pa.Table, samples: int) -> pa.Table:
    """About `samples` rows: per stretch the rows of each metric's extremes."""
    import numpy as np
    import pyarrow as pa

    rows = table.num_rows
    if samples < 1:
        raise InvalidInputError(f"{samples} samples?", hint="Give 1 or more.")
    if rows <= samples:
        return table
    numeric = [
        f.name for f in table.schema
        if not f.name.startswith("_") and (pa.types.is_floating(f.type)
                                           or pa.types.is_integer(f.type))
    ]  # fmt: skip
    stretches = max(1, samples // (2 * max(1, len(numeric)) + 1))
    edges = np.linspace(0, rows, stretches + 1).astype(int)
    kept = {0, rows - 1, *edges[:-1].tolist()}
    for name in numeric:
        cells = table[name].to_numpy().astype(float)
        for low, high in pairwise(edges.tolist()):
            part = cells[low:high]
            if len(part) and not np.all(np.isnan(part)):
                kept.add(int(low + np.nanargmin(part)))
                kept.add(int(low + np.nanargmax(part)))
    return table.take(sorted(kept))
