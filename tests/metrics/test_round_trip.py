"""Whatever is written comes back: keys, values, types, steps and order."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from wanllmdb._metrics.decode import VisibleStream, list_segments, read_stream
from wanllmdb._metrics.scan import Scan
from wanllmdb._metrics.writer import StreamWriter
from wanllmdb.types import INT64_MAX, INT64_MIN, Kind, StreamIdentity

IDENTITY = StreamIdentity("0123456789abcdef", 1, "primary")
EDGES = [INT64_MAX, INT64_MIN, INT64_MAX + 1, INT64_MIN - 1, 2**53 + 1, 10**40]
NUMBERS = st.one_of(st.floats(), st.integers(), st.sampled_from(EDGES))
VALUES = st.one_of(
    NUMBERS,
    st.booleans(),
    st.none(),
    st.text(max_size=8),
    st.lists(NUMBERS, max_size=4),
)
# Names with a first "_" are columns of the Scan's own.
ALL_KEYS = st.text(max_size=6).filter(lambda key: not key.startswith("_"))
KEYS = st.sampled_from(["a", "b", "c", "~f"]) | ALL_KEYS
ROWS = st.lists(st.dictionaries(KEYS, VALUES, min_size=1, max_size=5), max_size=12)
GAPS = st.lists(st.integers(1, 1 << 40), min_size=12, max_size=12)


def exact(value: Any) -> Any:
    """A value that is equal only to itself: the type, and a float's eight bytes."""
    if isinstance(value, float):
        is_nan = value != value
        return ("float", "nan" if is_nan else struct.pack("<d", value))
    if isinstance(value, list):
        return ("list", [exact(item) for item in value])
    return (type(value).__name__, value)


def exact_row(row: dict[str, Any]) -> dict[str, Any]:
    return {key: exact(value) for key, value in row.items()}


def written(rows: list[dict[str, Any]], steps: list[int]) -> list[dict[str, Any]]:
    """The rows that a Scan gives after a StreamWriter wrote these."""
    with tempfile.TemporaryDirectory() as directory:
        writer = StreamWriter(Path(directory), IDENTITY, Kind.METRICS)
        for row, step in zip(rows, steps, strict=False):
            writer.append(row, step)
        writer.close()
        assert writer.dropped == 0
        paths = list_segments(Path(directory), Kind.METRICS).get(IDENTITY.token, [])
        segments = list(read_stream(paths))
    assert not any(found.damage for found in segments)
    assert sum(len(s.objects) for s in segments) + sum(
        len(b.ordinals) for s in segments for b in s.shaped
    ) == len(rows)
    stream = VisibleStream(IDENTITY.token, 1, "primary", segments)
    return list(Scan([stream]).dicts(0))


@settings(max_examples=300, deadline=None)
@given(rows=ROWS, gaps=GAPS)
def test_rows_come_back_exactly(rows: list[dict[str, Any]], gaps: list[int]) -> None:
    """Each row at a step of its own has its keys, types, bits, step and place."""
    steps = [sum(gaps[: n + 1]) for n in range(len(gaps))]
    found = written(rows, steps)
    assert [row["_step"] for row in found] == steps[: len(rows)]
    got = [{k: v for k, v in row.items() if not k.startswith("_")} for row in found]
    assert [exact_row(row) for row in got] == [exact_row(row) for row in rows]
    assert all(row["_writer"] == "primary" for row in found)


@settings(max_examples=200, deadline=None)
@given(rows=ROWS, repeats=st.integers(2, 4))
def test_rows_of_one_step_merge_key_by_key(
    rows: list[dict[str, Any]], repeats: int
) -> None:
    """At one step the last value of each key that is not None is the one."""
    steps = [n // repeats for n in range(len(rows))]
    merged: dict[int, dict[str, Any]] = {}
    for row, step in zip(rows, steps, strict=True):
        into = merged.setdefault(step, {})
        into |= {k: v for k, v in row.items() if v is not None or k not in into}
    found = written(rows, steps)
    assert [row["_step"] for row in found] == list(merged)
    got = [{k: v for k, v in row.items() if not k.startswith("_")} for row in found]
    assert [exact_row(r) for r in got] == [exact_row(r) for r in merged.values()]


@settings(max_examples=200, deadline=None)
@given(bits=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=50))
def test_every_float_keeps_its_bits(bits: list[int]) -> None:
    """All 2**64 patterns, NaN payloads too, pass a fixed shape unchanged."""
    floats = [struct.unpack("<d", struct.pack("<Q", b))[0] for b in bits]
    found = written([{"x": x} for x in floats], list(range(len(floats))))
    packed = [struct.pack("<d", row["x"]) for row in found]
    assert packed == [struct.pack("<d", x) for x in floats]
