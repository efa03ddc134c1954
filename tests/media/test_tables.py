"""Tables keep every cell exactly, and refuse what they do not take."""

from __future__ import annotations

import datetime as dt
import math
from enum import Enum
from pathlib import Path

import numpy as np  # noqa: TID253 - cells of tables
import pandas as pd  # noqa: TID253 - what tables are made of
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanllmdb import Html, Image, Table
from wanllmdb._media import documents
from wanllmdb._media.base import Place
from wanllmdb._media.content import Content
from wanllmdb.errors import InvalidInputError


def again(table):
    """A table, written and read."""
    place = Place()
    text = documents.encoded(table._document(place))
    contents = {**place.contents, "it.table.json": Content.of(text)}
    return documents.Reader(contents.__getitem__).read("it.table.json", "a test")


def same(one, other):
    """Equal, types and the sign of zero included."""
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.tobytes() == other.tobytes()
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        if math.isnan(one) or math.isnan(other):  # one NaN: nothing tells them apart
            return math.isnan(one) and math.isnan(other)
        return one == other and math.copysign(1, one) == math.copysign(1, other)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(map(same, one.values(), other.values()))
    return one == other


scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    | st.datetimes() | st.dates() | st.datetimes(timezones=st.just(dt.UTC))
)  # fmt: skip
keys = st.text() | st.sampled_from(["_type", "~f", "~b", "~~", "value"])
anything = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=8
)


@given(st.lists(st.lists(anything, min_size=2, max_size=2), max_size=4))
def test_every_cell_comes_back_as_it_was(rows):
    """Also mappings that look like the marks of a document."""
    table = Table(["a", 1], rows, allow_mixed_types=True)
    back = again(table)
    assert same(back.data, rows)
    assert back.columns == ["a", 1]
    assert back == table


@pytest.mark.parametrize("cell", [
    2**53 + 1, -(2**70), math.nan, math.inf, -0.0, 5e-324, None, True, "", "\0",
    "\ud800", [1, [2.5, None]], {"a": {"_type": "image-file", "path": "/etc/passwd"}},
])  # fmt: skip
def test_exact_cells(cell):
    """Each alone in a column of its own type."""
    assert same(again(Table(["a"], [[cell]])).data, [[cell]])


@pytest.mark.parametrize("array", [
    np.arange(6, dtype="i2").reshape(2, 3), np.array([0.1, np.nan], "f4"),
    np.array([True, False]), np.array([1 + 2j]), np.array(["a", "bc"]),
    np.array(["2026-01-01"], "M8[ns]"), np.zeros((0, 3)), np.arange(3, dtype=">f8"),
])  # fmt: skip
def test_arrays_stay_arrays(array):
    """Of their own type and shape; the bytes are little-endian."""
    (found,) = again(Table(["a"], [[array]])).data[0]
    assert found.dtype == array.dtype.newbyteorder("<")
    assert found.shape == array.shape
    assert found.tolist() == array.tolist() or array.dtype == "f4"


class Color(Enum):
    RED = "red"


@pytest.mark.parametrize(("cell", "kept"), [
    ((1, 2), [1, 2]), ({3, 1, 2}, [1, 2, 3]), (Color.RED, "red"), (Path("a/b"), "a/b"),
    (np.float32(0.5), 0.5), (np.int64(7), 7), (np.bool_(True), True), (np.array(3), 3),
    (np.datetime64("2026-01-02T03:04:05", "ns"), dt.datetime(2026, 1, 2, 3, 4, 5)),
    (pd.Timestamp("2026-01-02"), dt.datetime(2026, 1, 2)), (pd.NaT, None),
    (pd.NA, None), ({1: "a"}, {"1": "a"}), (np.array([1, "a"], object), [1, "a"]),
])  # fmt: skip
def test_what_other_cells_become(cell, kept):
    """Python's own types."""
    assert same(Table(["a"], [[cell]]).data, [[kept]])


def test_cells_are_taken_at_the_call():
    """What is changed afterwards was another thing."""
    cell, array = [1], np.zeros(2)
    table = Table(["a", "b"], [[cell, array]])
    cell.append(2)
    array[:] = 1
    assert table.data[0][0] == [1]
    assert table.data[0][1].tolist() == [0, 0]


def test_a_frame_becomes_a_table_and_back():
    """As dataframe or as data; ints stay ints, and times times."""
    frame = pd.DataFrame({"n": [1, 2], "x": [0.5, math.nan], "s": ["a", None],
                          "t": pd.to_datetime(["2026-01-01", None])})  # fmt: skip
    for table in (Table(dataframe=frame), Table(data=frame), again(Table(data=frame))):
        assert table.columns == ["n", "x", "s", "t"]
        assert [type(cell) for cell in table.data[0]] == [int, float, str, dt.datetime]
        assert table.data[1][3] is None
    back = Table(["n", "x"], [[1, 0.5], [2, 1.5]]).get_dataframe()
    assert back.equals(pd.DataFrame({"n": [1, 2], "x": [0.5, 1.5]}))


def test_rows_may_be_an_array_and_have_an_older_name():
    """Columns have W&B's names where none are given."""
    table = Table(data=np.arange(6).reshape(2, 3))
    assert table.columns == ["Input", "Output", "Expected"]
    assert Table(rows=[[0, 1, 2], [3, 4, 5]]) == table


@pytest.mark.parametrize(("first", "second"), [
    (1, "a"), (1, True), ("a", None), ([1], 1), ({}, []), (1.0, dt.date(2026, 1, 1)),
    (Html("a"), "a"), (np.zeros(2), [0, 0]),
])  # fmt: skip
def test_a_column_is_of_one_type(first, second):
    """Unless mixed types are allowed; the table stays as it was."""
    table = Table(["a", "b"], [[0, first]], optional=False)
    with pytest.raises(InvalidInputError, match="'b'"):
        table.add_data(1.5, second)
    table.add_data(1.5, first)
    assert len(table) == 2
    Table(["a"], [[first], [second]], allow_mixed_types=True)


def test_types_may_be_said_before(pixels):
    """For all columns, or for each."""
    table = Table(["n", "i"], dtype=[int, Image], optional=[False, True])
    table.add_data(1, Image(pixels))
    table.add_data(2, None)
    for row in (("a", None), (None, None), (1, "a")):
        with pytest.raises(InvalidInputError):
            table.add_data(*row)
    with pytest.raises(InvalidInputError):
        Table(["a"], [["x"]], dtype=float)
    kept = again(table)
    with pytest.raises(InvalidInputError):
        kept.add_data(None, None)


@pytest.mark.parametrize("how", [
    {"columns": ["a", "a"]}, {"columns": [None]}, {"columns": [True]},
    {"columns": ["a"], "data": [[1, 2]]}, {"columns": ["a"], "data": [[b"x"]]},
    {"columns": ["a"], "data": [[object()]]}, {"columns": ["a"], "dtype": [int, int]},
    {"columns": ["a"], "dtype": object}, {"log_mode": "SOMETIMES"},
    {"columns": ["a"], "optional": []}, {"dataframe": [[1]]},
    {"columns": ["a"], "data": [[Table()]]}, {"columns": "a"}, {"columns": 3},
    {"columns": ["a"], "data": 3}, {"columns": ["a"], "data": [3]},
    {"columns": ["a"], "data": ["x"]}, {"columns": ["a"], "data": [{"a": 1}]},
    {"columns": ["a"], "data": [[np.zeros(1, "V2")]]},
])  # fmt: skip
def test_what_makes_no_table_is_refused(how):
    """The message names the column, or the type."""
    with pytest.raises(InvalidInputError):
        Table(**how)


def test_a_cell_that_holds_itself_is_refused():
    """And one nested too deep."""
    cell: list = []
    cell.append(cell)
    deep: list = []
    for _ in range(5000):
        deep = [deep]
    for one in (cell, deep):
        with pytest.raises(InvalidInputError, match="deep"):
            Table(["a"], [[one]])


def test_columns_are_added_and_read():
    """To a table without columns, too; wrong ones change nothing."""
    table = Table(columns=[])
    table.add_column("a", np.arange(3))
    table.add_column("b", ["x", None, "z"], optional=True)
    assert table.get_column("a") == [0, 1, 2]
    assert table.get_column("a", convert_to="numpy").sum() == 3
    before = again(table)
    for name, cells in (("a", [1, 2, 3]), ("c", [1]), ("d", [1, "x", 2]),
                        ("e", [1, None, 2])):  # fmt: skip
        with pytest.raises(InvalidInputError):
            table.add_column(name, cells)
    assert table == before
    for wrong in (("z", None), ("a", "pandas")):
        with pytest.raises(InvalidInputError):
            table.get_column(*wrong)


def test_computed_columns():
    """Of a row's number and its cells."""
    table = Table(["a"], [[1], [2]])
    table.add_computed_columns(lambda at, row: {"b": row["a"] * 10, "c": at})
    assert list(table.iterrows()) == [(0, [1, 10, 0]), (1, [2, 20, 1])]
    with pytest.raises(InvalidInputError):
        table.add_computed_columns(lambda at, row: {str(at): 1})


def test_an_int_too_long_to_be_written_is_refused():
    """When it is written; Python itself does not."""
    with pytest.raises(InvalidInputError, match="cannot be written"):
        documents.encoded(Table(["a"], [[10**5000]])._document(Place()))
