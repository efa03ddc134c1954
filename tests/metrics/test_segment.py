"""A damaged segment gives back exact rows or none, and says what it lost."""

from __future__ import annotations

import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from wanllmdb._metrics import segment
from wanllmdb._metrics.decode import Segment, decode
from wanllmdb._metrics.writer import StreamWriter
from wanllmdb.types import Kind, StreamIdentity

IDENTITY = StreamIdentity("0123456789abcdef", 1, "primary")
NAME = segment.file_name(IDENTITY.token, Kind.METRICS, 1)
ROWS = [
    {"loss": 1.5, "epoch": 0, "ok": True},
    {"loss": float("nan"), "epoch": 1, "ok": False},
    {"loss": -0.0, "epoch": -(2**63), "ok": True},
    {"note": "größer ~ \0 \U0001f600", "~f": "nan"},
    {"loss": None, "acc": 0.25},
    {"loss": None, "acc": float("-inf")},
    {"big": 2**80, "list": [1, 2.5, None]},
    {"loss": 5e-324, "epoch": 7, "ok": False},
    {"only": True},
]


@dataclass(frozen=True)
class Golden:
    """A segment's bytes, its rows, and its frames as (offset, end, schema)."""

    data: bytes
    rows: list[str]
    frames: list[tuple[int, int, int]]

    def is_row(self, schema: int) -> bool:
        return schema not in (segment.DEFINITION, segment.SEAL, segment.SUMMARY)


def rows_of(decoded: Segment) -> list[str]:
    """Every row as text that tells 1 from 1.0 and True, in order of ordinals."""
    found = [(o.ordinal, o.step, o.time_us, o.values) for o in decoded.objects]
    for block in decoded.shaped:
        keys = [key for key, _ in block.shape.present]
        for ordinal, (step, us, *cells) in zip(
            block.ordinals, block.rows(), strict=True
        ):
            found.append((ordinal, step, us, dict(zip(keys, cells, strict=True))))
    return [repr(row[1:]) for row in sorted(found, key=lambda row: row[0])]


def is_subsequence(part: list[str], whole: list[str]) -> bool:
    rest = iter(whole)
    return all(row in rest for row in part)


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Golden:
    directory = tmp_path_factory.mktemp("golden")
    writer = StreamWriter(directory, IDENTITY, Kind.METRICS)
    for step, row in enumerate(ROWS):
        writer.append(row, step)
    writer.write_summary({"best": 0.25})
    writer.close()
    data = Path(directory, NAME).read_bytes()
    frames, at = [], segment.HEADER_BYTES
    while at < len(data):
        words, schema = struct.unpack_from("<HH", data, at + 4)
        frames.append((at, at + words * 8, schema))
        at += words * 8
    return Golden(data, rows_of(decode(data, NAME)), frames)


def test_a_whole_segment_gives_its_rows_its_seal_and_no_damage(golden: Golden) -> None:
    """The rows read are those written, and nothing is reported."""
    decoded = decode(golden.data, NAME)
    kept = [{k: v for k, v in row.items() if v is not None} for row in ROWS]
    values = [row.split(", ", 2)[2][:-1] for row in golden.rows]
    assert values == [repr(row) for row in kept]
    assert [eval(row.split(",")[0][1:]) for row in golden.rows] == [*range(len(ROWS))]
    assert (decoded.damage, decoded.sealed, decoded.rows) == (
        [], len(ROWS), len(ROWS),
    )  # fmt: skip
    assert [write.values for write in decoded.summaries] == [{"best": 0.25}]


def test_truncated_at_any_byte_it_gives_every_row_that_is_whole(golden: Golden) -> None:
    """A cut at any offset loses exactly the rows whose last byte is gone."""
    for cut in range(len(golden.data)):
        decoded = decode(golden.data[:cut], NAME)
        ends = [end for _, end, schema in golden.frames if golden.is_row(schema)]
        whole = sum(end <= cut for end in ends)
        assert rows_of(decoded) == golden.rows[:whole], cut
        assert decoded.sealed is None
        boundary = cut in {0, segment.HEADER_BYTES, *(e for _, e, _ in golden.frames)}
        assert bool(decoded.damage) is not boundary, cut
        if cut > segment.HEADER_BYTES and not boundary:
            (damage,) = decoded.damage
            assert damage.torn
            assert damage.offset + damage.bytes == cut


def test_no_flipped_bit_of_a_frame_makes_a_wrong_value(golden: Golden) -> None:
    """Each bit flipped in a frame loses that frame at most, and is reported."""
    numbers = [n for n, f in enumerate(golden.frames) if golden.is_row(f[2])]
    for number, (start, end, schema) in enumerate(golden.frames):
        for bit in range(start * 8, end * 8):
            damaged = bytearray(golden.data)
            damaged[bit // 8] ^= 1 << bit % 8
            decoded = decode(bytes(damaged), NAME)
            rows = rows_of(decoded)
            assert is_subsequence(rows, golden.rows), bit
            first = decoded.damage[0]
            assert (first.segment, first.offset, first.bytes) == (
                NAME, start, end - start,
            ), bit  # fmt: skip
            if golden.is_row(schema):
                lost = numbers.index(number)
                assert rows == golden.rows[:lost] + golden.rows[lost + 1 :], bit


def test_a_lost_definition_is_reported_with_the_number_of_its_rows(
    golden: Golden,
) -> None:
    """Rows whose shape is unknown are counted as lost."""
    start, _end, _ = golden.frames[0]
    damaged = bytearray(golden.data)
    damaged[start + 30] ^= 1
    decoded = decode(bytes(damaged), NAME)
    assert len(rows_of(decoded)) + sum(d.rows for d in decoded.damage) == len(ROWS)
    assert decoded.rows == len(ROWS)


def test_a_flipped_bit_of_the_header_is_reported_and_the_catalog_helps(
    golden: Golden,
) -> None:
    """Without a header the rows are nobody's; with a known identity all are read."""
    for bit in range(segment.HEADER_BYTES * 8):
        damaged = bytearray(golden.data)
        damaged[bit // 8] ^= 1 << bit % 8
        alone = decode(bytes(damaged), NAME)
        first = alone.damage[0]
        assert (first.segment, first.offset, first.bytes) == (NAME, 0, 64)
        assert rows_of(alone) == []
        assert sum(d.rows for d in alone.damage) == len(ROWS)
        helped = decode(bytes(damaged), NAME, 0, IDENTITY)
        assert rows_of(helped) == golden.rows, bit


@pytest.mark.parametrize("zeros", [1, 7, 8, 24, 4096])
def test_a_tail_of_zeros_is_a_torn_end(golden: Golden, zeros: int) -> None:
    """Blocks that the kernel allocated but never filled cost no row."""
    decoded = decode(golden.data + bytes(zeros), NAME)
    assert rows_of(decoded) == golden.rows
    (damage,) = decoded.damage
    assert (damage.offset, damage.bytes, damage.torn) == (len(golden.data), zeros, True)


def test_a_megabyte_of_garbage_is_passed_quickly(golden: Golden) -> None:
    """Noise after a valid prefix is reported whole, in well under ten seconds."""
    noise = os.urandom(1 << 20)
    started = time.perf_counter()
    decoded = decode(golden.data + noise, NAME)
    assert time.perf_counter() - started < 10
    assert rows_of(decoded) == golden.rows
    (damage,) = decoded.damage
    assert (damage.segment, damage.offset) == (NAME, len(golden.data))
    assert damage.bytes == 1 << 20


def test_rows_after_garbage_are_found_again(golden: Golden) -> None:
    """Noise in the middle, of whole words, costs only itself."""
    at = golden.frames[4][0]
    noise = os.urandom(4096)
    decoded = decode(golden.data[:at] + noise + golden.data[at:], NAME)
    assert rows_of(decoded) == golden.rows
    (damage,) = decoded.damage
    assert (damage.offset, damage.bytes, damage.torn) == (at, 4096, False)
