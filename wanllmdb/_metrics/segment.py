"""The bytes of a segment (``.wlog``): little-endian, 8-byte aligned.

::

    header, 64 bytes
      0  magic "WLG1" | 4  u32 version | 8  u64 pid | 16  i64 created, us
      24 u64 ordinal of the first row | 32 u32 epoch | 36 u32 kind
      40 writer's name, 16 bytes of ASCII, zero-padded | 56 u32 zero
      60 u32 crc32 of bytes 0..59
    frame, 8 * words bytes
      0 u32 crc32 of bytes 4..end | 4 u16 words | 6 u16 schema | 8 i64 step
      16 i64 time, us | 24 payload, zero-padded
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any
from zlib import crc32

from wanllmdb import _json
from wanllmdb.types import Kind

MAGIC = b"WLG1"
VERSION = 1
HEADER_BYTES = 64
FRAME_HEAD = struct.Struct("<IHHqq")
HEAD_BYTES = FRAME_HEAD.size
MIN_WORDS = HEAD_BYTES // 8
MAX_FRAME_BYTES = 0xFFFF * 8
SEGMENT_BYTES = 8 << 20
"""A segment ends at the first frame that reaches this size."""

DEFINITION = 0
MAX_SHAPES = 1000
"""Shapes that one segment defines; rows of further shapes are written as JSON."""
GENERIC = 65_001
SEAL = 65_003
SUMMARY = 65_004

KINDS = {Kind.METRICS: 0, Kind.CONSOLE: 1, Kind.SYSTEM: 2, Kind.EDITS: 3}
_HEADER = struct.Struct("<4sIQqQII16sII")
_FORMATS = {"d": "d", "q": "q", "b": "?7x", "n": ""}


class Shape:
    """One key set with its value types, and how its rows are packed.

    Attributes:
        keys: The metric keys, in order.
        codes: One letter per key: d float64, q int64, b bool, n None (no bytes).
        struct: A whole frame as ``(step, time in us, value, ...)``; its first eight
            bytes (CRC, words, schema) are left out as padding.
        words: Frame length in units of 8 bytes.
    """

    __slots__ = ("codes", "id", "keys", "pack", "struct", "words")

    def __init__(self, number: int, keys: Sequence[str], codes: str) -> None:
        self.id = number
        self.keys = tuple(keys)
        self.codes = codes
        fields = "".join(_FORMATS[code] for code in codes)
        self.struct = struct.Struct(f"<8xqq{fields}")
        self.words = self.struct.size // 8
        body = struct.Struct(f"<HHqq{fields}")
        self.pack: Callable[..., bytes] = body.pack
        if "n" in codes:
            self.pack = lambda *values: body.pack(*(v for v in values if v is not None))

    @property
    def present(self) -> list[tuple[str, str]]:
        """(key, code) of the values that stand in a row; None takes no bytes."""
        return [(k, c) for k, c in zip(self.keys, self.codes) if c != "n"]

    def definition(self) -> bytes:
        """The frame that defines this shape for the rest of the segment."""
        text = _json.dumps([self.id, self.codes, list(self.keys)])
        return frame(DEFINITION, 0, 0, text.encode())


def header(
    *, pid: int, created_us: int, first_row: int, epoch: int, kind: Kind, writer: str
) -> bytes:
    """The 64 bytes that a segment starts with."""
    body = _HEADER.pack(
        MAGIC, VERSION, pid, created_us, first_row, epoch, KINDS[kind],
        writer.encode("ascii"), 0, 0,
    )  # fmt: skip
    return body[:60] + struct.pack("<I", crc32(body[:60]))


def parse_header(data: bytes | memoryview) -> tuple[int, int, str] | None:
    """(ordinal of the first row, epoch, writer) of a header, or None if damaged."""
    raw = bytes(data[:HEADER_BYTES])
    if len(raw) < HEADER_BYTES:
        return None
    magic, version, _pid, _us, first_row, epoch, _kind, writer, _zero, crc = (
        _HEADER.unpack(raw)
    )
    if magic != MAGIC or version != VERSION or crc != crc32(raw[:60]):
        return None
    return first_row, epoch, writer.rstrip(b"\0").decode("ascii", "replace")


def frame(schema: int, step: int, time_us: int, payload: bytes) -> bytes:
    """A frame with a payload of any length.

    Raises:
        OverflowError: it would be longer than a frame can be.
    """
    words = (HEAD_BYTES + len(payload) + 7) // 8
    if words > 0xFFFF:
        message = f"a frame of {words * 8} bytes"
        raise OverflowError(message)
    body = struct.pack("<HHqq", words, schema, step, time_us) + payload
    body = body.ljust(words * 8 - 4, b"\0")
    return crc32(body).to_bytes(4, "little") + body


def file_name(token: str, kind: Kind, seq: int) -> str:
    """Name of a segment; metric segments carry no kind."""
    middle = "" if kind is Kind.METRICS else f"{kind}."
    return f"{token}.{middle}{seq:06d}.wlog"


def parse_file_name(name: str) -> tuple[str, Kind, int] | None:
    """(token, kind, seq) of a segment's file name, or None for any other file."""
    parts = name.split(".")
    if parts[-1] != "wlog" or len(parts) not in (3, 4) or not parts[-2].isdigit():
        return None
    try:
        kind = Kind.METRICS if len(parts) == 3 else Kind(parts[1])
    except ValueError:
        return None
    return parts[0], kind, int(parts[-2])


def payload_json(data: Any) -> Any:
    """The JSON value of a payload, zero padding and all."""
    return _json.loads(bytes(data).rstrip(b"\0"))
