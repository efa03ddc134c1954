"""Tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Self

from wanllmdb import _extras, _values
from wanllmdb._media import cells
from wanllmdb._media.base import Document, Place, Value, required
from wanllmdb._media.base import optional as optional_field
from wanllmdb._media.content import Content
from wanllmdb.errors import InvalidInputError

if TYPE_CHECKING:
    from wanllmdb._media.documents import Reader

LOG_MODES = ("IMMUTABLE", "MUTABLE", "INCREMENTAL")

ANY = "any"
"""The kind of a column whose cells may be of any."""

_KINDS: dict[type, str] = {
    bool: "boolean", int: "number", float: "number", str: "text", list: "list",
    tuple: "list", dict: "mapping", datetime: "time", date: "time",
}  # fmt: skip


class Table(Value):
    """Rows of cells: numbers, text, lists, mappings, arrays, times, images and so on.

    Cells come back exactly as they went in: ints of any size, NaN, None. Tuples and
    sets become lists, and keys of mappings text. There is no limit to the rows;
    `Run.log` and `Artifact.add` store those that the table has when they are called.

    Args:
        columns: The columns' names, text or ints; default Input, Output, Expected.
        data: The rows, an array of two axes, or a pandas DataFrame.
        rows: The rows; an older name of `data`.
        dataframe: A pandas DataFrame, whose columns are the table's.
        dtype: The type of every column, or a list of types: ``int``, ``str``, `Image`,
            ... Default: that of the first cell that is not None.
        optional: Whether columns may hold None, or a list of it.
        allow_mixed_types: Whether cells of one column may be of several types. Ints and
            floats are of one type.
        log_mode: Accepted as W&B has it: `Run.log` always stores the whole table.

    Attributes:
        columns: The columns' names.
        data: The rows, a list of cells each.

    Raises:
        InvalidInputError: a row has too few or too many cells, a cell is of a type that
            the column or a table does not take, or a column's name is none.
    """

    TYPE = "table"

    def __init__(
        self,
        columns: Sequence[str | int] | None = None,
        data: Any = None,
        rows: Any = None,
        dataframe: Any = None,
        dtype: Any = None,
        optional: bool | Sequence[bool] = True,
        allow_mixed_types: bool = False,
        log_mode: str | None = "IMMUTABLE",
    ) -> None:
        if log_mode not in (None, *LOG_MODES):
            raise InvalidInputError(
                f"There is no log_mode {log_mode!r}.",
                hint=f"Use {', '.join(LOG_MODES)}.",
            )
        given = data if data is not None else rows
        frame = (
            dataframe if dataframe is not None else given if _is_frame(given) else None
        )
        if frame is not None:
            columns, given = _columns_and_rows(frame)
        elif columns is None:
            columns = ["Input", "Output", "Expected"]
        self.columns = [_column(name) for name in _listed(columns, "Columns")]
        _check_columns(self.columns)
        self.data: list[list[Any]] = []
        kinds = ANY if allow_mixed_types else dtype
        self._kinds = [
            _kind_of_type(one) for one in _for_each(kinds, self.columns, "dtype")
        ]
        self._optional = [
            bool(one) for one in _for_each(optional, self.columns, "optional")
        ]
        for row in () if given is None else _listed(given, "Rows"):
            self.add_data(*_listed(row, "The cells of a row"))

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        return f"<Table {len(self.data)} rows: {', '.join(map(str, self.columns))}>"

    def add_data(self, *data: Any) -> None:
        """Add a row.

        Args:
            *data: Its cells, one for each column; they are taken as they are now.

        Raises:
            InvalidInputError: there are too few or too many, or a column does not take
                one; the table stays as it was.
        """
        if len(data) != len(self.columns):
            raise InvalidInputError(
                f"A row of {len(data)} cells, for {len(self.columns)} columns.",
                hint=f"Give {', '.join(map(str, self.columns))}.",
            )
        row = [_cell(value, name) for value, name in zip(data, self.columns)]
        kinds = [self._joined(at, value) for at, value in enumerate(row)]
        self.data.append(row)
        self._kinds = kinds

    def add_column(self, name: str | int, data: Any, optional: bool = False) -> None:
        """Add a column.

        Args:
            name: Its name, which no other has.
            data: A cell for each row; a table without columns gets a row for each.
            optional: Whether it may hold None.

        Raises:
            InvalidInputError: the name is taken, there are too few or too many cells,
                or one is not taken; the table stays as it was.
        """
        cells_ = _listed(data, "The cells of a column")
        _check_columns([*self.columns, _column(name)])
        if self.columns and len(cells_) != len(self.data):
            raise InvalidInputError(
                f"A column of {len(cells_)} cells, for {len(self.data)} rows.",
                hint="Give a cell for each row.",
            )
        made = Table([name], [[cell] for cell in cells_], optional=optional)
        if not self.columns:
            self.data = [[] for _ in cells_]
        for row, (cell,) in zip(self.data, made.data, strict=True):
            row.append(cell)
        self.columns += made.columns
        self._kinds += made._kinds
        self._optional += made._optional

    def add_computed_columns(self, fn: Callable[[int, dict[Any, Any]], Any]) -> None:
        """Add columns that follow from the others.

        Args:
            fn: Given a row's number and its cells by column, the new cells by column.

        Raises:
            InvalidInputError: a name is taken, or rows get different columns.
        """
        new = [
            dict(fn(at, dict(zip(self.columns, row)))) for at, row in self.iterrows()
        ]
        names = list(new[0]) if new else []
        if any(set(one) != set(names) for one in new):
            raise InvalidInputError(
                "Rows got different new columns.", hint="Return the same for each."
            )
        for name in names:
            self.add_column(name, [one[name] for one in new])

    def get_column(self, name: str | int, convert_to: str | None = None) -> Any:
        """The cells of a column.

        Args:
            name: Its name.
            convert_to: ``numpy`` for an array; default a list.

        Raises:
            InvalidInputError: there is no such column, or conversion.
        """
        if name not in self.columns:
            raise InvalidInputError(
                f"The table has no column {name!r}.",
                hint=f"It has {', '.join(map(str, self.columns))}.",
            )
        if convert_to not in (None, "numpy"):
            raise InvalidInputError(
                f"A column becomes no {convert_to!r}.", hint="Use numpy."
            )
        at = self.columns.index(name)
        found = [row[at] for row in self.data]
        if convert_to is None:
            return found
        import numpy as np

        return np.array(found)

    def get_dataframe(self) -> Any:
        """The table as a pandas DataFrame.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        pandas = _extras.need("pandas", "pandas", "A DataFrame")
        return pandas.DataFrame.from_records(self.data, columns=self.columns)

    def iterrows(self) -> Iterator[tuple[int, list[Any]]]:
        """Each row's number, from 0, and its cells."""
        yield from enumerate(self.data)

    def _joined(self, at: int, value: Any) -> str | None:
        """The kind of a column with another cell."""
        kind, found = self._kinds[at], _kind(value)
        if found is None and not self._optional[at]:
            raise InvalidInputError(
                f"Column {self.columns[at]!r} takes no None.", hint="Use optional=True."
            )
        if kind is None or kind == ANY or found is None:
            return kind or found
        if kind != found:
            raise InvalidInputError(
                f"Column {self.columns[at]!r} is of type {kind}, and this cell of"
                f" {found}.",
                hint="Give one type for a column, or allow_mixed_types=True.",
            )
        return kind

    def _document(self, place: Place) -> Document:
        rows = [
            [
                cells.encoded(_cell(value, name), place)
                for value, name in zip(row, self.columns, strict=True)
            ]
            for row in self.data
        ]
        return {
            "_type": self.TYPE,
            "columns": list(self.columns),
            "data": rows,
            "ncols": len(self.columns),
            "nrows": len(rows),
            "kinds": list(self._kinds),
            "optional": list(self._optional),
        }

    def _reference(self, place: Place) -> Document:
        from wanllmdb._media import documents

        content = Content.of(documents.encoded(self._document(place)))
        return {
            "_type": "table-file",
            **place.put(content, "table", ".table.json"),
            "ncols": len(self.columns),
            "nrows": len(self.data),
        }

    @classmethod
    def _of(cls, document: Mapping[str, Any], reader: Reader) -> Self:
        columns = required(document, "columns", list)
        rows = required(document, "data", list)
        kinds = optional_field(document, "kinds", list)
        may_lack = optional_field(document, "optional", list)
        if kinds is None:  # W&B's own
            kinds = [ANY] * len(columns)
        if len(kinds) != len(columns) or not all(
            kind is None or isinstance(kind, str) for kind in kinds
        ):
            message = "its kinds are not those of its columns"
            raise ValueError(message)
        made = cls(columns, optional=True if may_lack is None else may_lack)
        made._kinds = kinds
        if document.get("nrows", len(rows)) != len(rows) or not all(
            isinstance(row, list) for row in rows
        ):
            message = "it has not the rows that it should have"
            raise ValueError(message)
        for row in rows:
            made.add_data(*cells.decoded(row, reader))
        return made


def _listed(given: Any, what: str) -> list[Any]:
    """What a list, an array or another sequence holds."""
    if not isinstance(given, Iterable) or isinstance(given, (str, bytes, Mapping)):
        raise InvalidInputError(
            f"{what} are a list, not a {type(given).__name__}.", hint="Give a list."
        )
    return list(given)


def _cell(value: Any, column: str | int) -> Any:
    if isinstance(value, Table):
        raise InvalidInputError(
            f"Column {column!r} cannot hold a table.", hint="Add it as one of its own."
        )
    return cells.plain(value)


def _kind(value: Any) -> str | None:
    """The kind of a plain cell; None for None."""
    if value is None:
        return None
    if isinstance(value, Value):
        return value.TYPE
    return _KINDS.get(type(value), "array")


def _kind_of_type(dtype: Any) -> str | None:
    """The kind that a type, or an example, stands for."""
    if dtype is None or dtype == ANY:
        return dtype  # type: ignore[no-any-return]
    if isinstance(dtype, Value):
        return dtype.TYPE
    if isinstance(dtype, type) and issubclass(dtype, Value):
        return dtype.TYPE
    if isinstance(dtype, type) and (kind := _KINDS.get(dtype)) is not None:
        return kind
    if getattr(dtype, "__name__", "") == "ndarray":
        return "array"
    raise InvalidInputError(
        f"{_values.capped_repr(dtype)} is no type of a column.",
        hint="Give int, float, str, bool, list, dict, datetime, or a class of media.",
    )


def _for_each(given: Any, columns: Sequence[Any], what: str) -> list[Any]:
    """One thing for each column."""
    if not isinstance(given, (list, tuple)):
        return [given] * len(columns)
    if len(given) != len(columns):
        raise InvalidInputError(
            f"{what} has {len(given)} items, for {len(columns)} columns.",
            hint="Give one, or one for each column.",
        )
    return list(given)


def _is_frame(value: Any) -> bool:
    return hasattr(value, "iloc") and hasattr(value, "columns")


def _columns_and_rows(frame: Any) -> tuple[list[Any], list[tuple[Any, ...]]]:
    """What a DataFrame holds, as Python's own values."""
    if not _is_frame(frame):
        raise InvalidInputError(
            f"{type(frame).__name__} is no DataFrame.", hint="Use data= for rows."
        )
    columns = list(frame.columns)
    by_column = [_column_cells(frame.iloc[:, at]) for at in range(len(columns))]
    return columns, list(zip(*by_column, strict=True))


def _column_cells(series: Any) -> list[Any]:
    """The cells of a column; NaN among text and other objects means that one lacks."""
    cells_: list[Any] = series.tolist()
    if getattr(series.dtype, "kind", "") in "fc":
        return cells_
    return [None if isinstance(x, float) and math.isnan(x) else x for x in cells_]


def _column(name: Any) -> str | int:
    """A column's name, as Python's own text or int."""
    found = name.item() if hasattr(name, "item") else name
    if isinstance(found, bool) or not isinstance(found, (str, int)):
        raise InvalidInputError(
            f"{_values.capped_repr(name)} is no name of a column.",
            hint="Give text, or an int.",
        )
    return str(found) if isinstance(found, str) else int(found)


def _check_columns(columns: Sequence[str | int]) -> None:
    for at, name in enumerate(columns):
        if name in columns[:at]:
            raise InvalidInputError(
                f"There are two columns {name!r}.", hint="Name each of its own."
            )
