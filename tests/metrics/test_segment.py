"""The segment format: golden bytes, truncation, flips, noise, round trips."""

from __future__ import annotations

import math
import struct
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from wanllmdb._metrics import decode
from wanllmdb._metrics.scan import Scan, VisibleStream
from wanllmdb._metrics.writer import StreamWriter
from wanllmdb.types import Kind, StreamIdentity

ME = StreamIdentity("0123456789", 1, "primary")
ROWS = [
    {"loss": 0.5, "n": 1, "ok": True},
    {"loss": math.nan, "n": 2, "ok": False},
    {"loss": -0.0, "none": None},
    {"text": "hello", "loss": math.inf},
    {"loss": 0.25, "n": 2**63 - 1, "ok": True},
]


def write(directory: Path, rows, steps=None) -> Path:
    """Write rows as one stream; the path of its first segment."""
    writer = StreamWriter(directory, ME, Kind.METRICS)
    for index, row in enumerate(rows):
        writer.append(row, index if steps is None else steps[index])
    writer.close()
    return directory / "0123456789.000001.wlog"


def exact(value):
    """A value that compares by its bits and type."""
    if isinstance(value, float):  # which NaN it is has no meaning
        return "nan" if math.isnan(value) else struct.pack("<d", value)
    if isinstance(value, list):
        return [exact(item) for item in value]
    return (type(value).__name__, value)


def values_of(segment: decode.Segment) -> list[tuple]:
    """(ordinal, step, sorted exact values) of each row."""
    found = [(o.ordinal, o.step, o.values) for o in segment.objects]
    for block in segment.shaped:
        names = [key for key, _ in block.shape.present]
        rows = block.shape.struct.iter_unpack(block.frames)
        for ordinal, (_w, _s, step, _t, *cells) in zip(
            block.ordinals, rows, strict=True
        ):
            found.append((ordinal, step, dict(zip(names, cells, strict=True))))
    return [
        (n, step, sorted((k, exact(v)) for k, v in row.items()))
        for n, step, row in sorted(found, key=lambda item: item[0])
    ]


def test_truncation_at_every_byte_gives_an_exact_prefix(tmp_path):
    """Whatever is cut off, the rows before are all there, and no other."""
    data = write(tmp_path, ROWS).read_bytes()
    whole = values_of(decode.decode(data, "0123456789.000001.wlog"))
    assert len(whole) == len(ROWS)
    for length in range(len(data)):
        cut = values_of(decode.decode(data[:length], "0123456789.000001.wlog"))
        assert cut == whole[: len(cut)]


def test_every_bit_flip_gives_exact_rows_or_a_report(tmp_path):
    """A flipped bit never changes a value; what it costs is reported."""
    data = bytearray(write(tmp_path, ROWS).read_bytes())
    name = "0123456789.000001.wlog"
    whole = [row[1:] for row in values_of(decode.decode(bytes(data), name))]
    for bit in range(len(data) * 8):
        data[bit // 8] ^= 1 << bit % 8
        flipped = decode.decode(bytes(data), name)
        rows = [row[1:] for row in values_of(flipped)]
        assert all(row in whole for row in rows)
        assert flipped.damage, f"bit {bit} was not noticed"
        assert flipped.damage[0].segment == name
        data[bit // 8] ^= 1 << bit % 8


def test_a_zero_filled_end_is_a_torn_end(tmp_path):
    """What a power cut leaves is told apart from damage."""
    data = write(tmp_path, ROWS).read_bytes()
    (damage,) = decode.decode(data + bytes(4096), "x.000001.wlog").damage
    assert (damage.torn, damage.offset, damage.bytes) == (True, len(data), 4096)


def test_rows_after_noise_are_found_again(tmp_path):
    """Damage in the middle costs only what it hit."""
    data = bytearray(write(tmp_path, ROWS * 50).read_bytes())
    data[2000:2100] = b"\xa5" * 100
    found = decode.decode(bytes(data), "x.000001.wlog")
    assert len(ROWS) * 50 - 5 <= len(values_of(found)) < len(ROWS) * 50
    assert not found.damage[0].torn


def test_rotation_keeps_every_row(tmp_path, monkeypatch):
    """A new segment repeats the definitions it needs."""
    monkeypatch.setattr("wanllmdb._metrics.writer.SEGMENT_BYTES", 1000)
    write(tmp_path, ROWS * 40)
    streams = decode.list_segments(tmp_path, Kind.METRICS)
    segments = list(decode.read_stream(streams["0123456789"]))
    assert len(segments) > 5
    found = [row for segment in segments for row in values_of(segment)]
    assert [row[0] for row in found] == list(range(len(ROWS) * 40))


SCALARS = (
    st.floats(width=64)
    | st.integers(-(2**63), 2**63 - 1)
    | st.integers(-(2**80), 2**80)
    | st.booleans()
    | st.text(st.characters(codec="utf-8"), max_size=8)
    | st.lists(st.floats(), max_size=3)
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(-(2**63), 2**63 - 1),
            st.dictionaries(st.sampled_from(["a", "b", "~f", 'c"d', "é"]), SCALARS,
                            min_size=1, max_size=4),
        ),
        max_size=20, unique_by=lambda item: item[0],
    )
)  # fmt: skip
def test_any_mix_of_values_and_steps_round_trips(items):
    """What is read is what was written, bit for bit."""
    with tempfile.TemporaryDirectory() as directory:
        write(Path(directory), [row for _, row in items], [step for step, _ in items])
        streams = decode.list_segments(Path(directory), Kind.METRICS)
        paths = streams.get(ME.token, [])
        scan = Scan([VisibleStream(ME.token, 1, "primary", decode.read_stream(paths))])
        found = {row.pop("_step"): row for row in scan.dicts(0)}
        assert scan.table(0).num_rows == len(items)
    assert set(found) == {step for step, _ in items}
    for step, row in items:
        read = {k: v for k, v in found[step].items() if k[0] != "_"}
        assert {k: exact(v) for k, v in read.items()} == {
            k: exact(v) for k, v in row.items()
        }
