"""Reading segments back: every frame checked, damage skipped and reported.

A torn or zero-filled end is what any killed writer leaves. Damage in the middle is
skipped to the next frame whose CRC holds; a row whose shape's definition was lost
is counted as lost, never guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from struct import iter_unpack
from typing import TYPE_CHECKING, Any
from zlib import crc32

from wanllmdb._metrics import segment
from wanllmdb._metrics.segment import FRAME_HEAD, HEAD_BYTES, HEADER_BYTES, Shape
from wanllmdb.types import Damage, JSONValue, Kind, StreamIdentity

if TYPE_CHECKING:
    from wanllmdb._metrics.columns import ColumnRows

_GALLOP = 64
_DAY_US = 86_400_000_000
_LATEST_US = 32_503_680_000_000_000  # the year 3000: a bound for plausible frames


@dataclass(slots=True)
class ShapeRows:
    """Rows of one shape: their frames end to end, and their ordinals."""

    shape: Shape
    frames: bytes
    ordinals: Sequence[int]

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """(step, time in us, value, ...) of each."""
        return self.shape.struct.iter_unpack(self.frames)


@dataclass(slots=True)
class ObjectRow:
    """A row of any values."""

    ordinal: int
    step: int
    time_us: int
    values: dict[str, JSONValue]


@dataclass(slots=True)
class SummaryWrite:
    """What the user set in the summary after `ordinal` rows.

    `offset` is where its frame stands in its segment; 0 for what was in a part.
    """

    ordinal: int
    time_us: int
    values: dict[str, JSONValue]
    offset: int = 0


@dataclass(slots=True)
class Segment:
    """A decoded segment.

    Attributes:
        identity: Whose stream it is; None if the header is damaged.
        shaped: Rows per shape.
        objects: Rows of any values.
        columns: Rows that were read from a sealed part.
        summaries: Writes to the summary.
        damage: Bytes that are no frames.
        sealed: Rows of the stream, if its writer closed it here.
        first_row: Ordinal of the first row.
        rows: Ordinal after the last row.
        gap: Ordinal at which bytes were last skipped, if frames follow them.
        bytes: Length of the valid prefix.
        size: Bytes that were looked at: the file's length then.
    """

    identity: StreamIdentity | None
    shaped: list[ShapeRows] = field(default_factory=list)
    objects: list[ObjectRow] = field(default_factory=list)
    columns: list[ColumnRows] = field(default_factory=list)
    summaries: list[SummaryWrite] = field(default_factory=list)
    damage: list[Damage] = field(default_factory=list)
    sealed: int | None = None
    first_row: int = 0
    rows: int = 0
    gap: int | None = None
    bytes: int = 0
    size: int = 0

    def leave_out(self, rows: int, until: int) -> None:
        """Forget what is sealed already.

        Args:
            rows: The stream's first rows.
            until: Writes to the summary before this byte of the segment.
        """
        for block in self.shaped:
            kept = [i for i, n in enumerate(block.ordinals) if n >= rows]
            size = block.shape.words * 8
            block.frames = b"".join(
                block.frames[i * size : (i + 1) * size] for i in kept
            )
            block.ordinals = [block.ordinals[i] for i in kept]
        self.shaped = [block for block in self.shaped if len(block.ordinals)]
        self.objects = [row for row in self.objects if row.ordinal >= rows]
        self.summaries = [write for write in self.summaries if write.offset >= until]
        self.first_row = max(self.first_row, rows)

    def lost(self, name: str, rows: int) -> None:
        """Report rows that should stand here, and number those after the gap anew."""
        self.damage.append(Damage(name, 0, 0, rows, False))
        self.rows += rows
        if self.gap is None:
            return
        for block in self.shaped:
            block.ordinals = [n + rows * (n >= self.gap) for n in block.ordinals]
        for row in self.objects:
            row.ordinal += rows * (row.ordinal >= self.gap)
        for write in self.summaries:
            write.ordinal += rows * (write.ordinal >= self.gap)


@dataclass(frozen=True, slots=True)
class VisibleStream:
    """A stream's segments, and which of its rows show.

    Attributes:
        token: Its name.
        epoch: Its run's epoch.
        writer: Who wrote it.
        segments: Decoded one after the other.
        limit: The greatest step that is not superseded; None: any.
        max_rows: Rows from this ordinal on are left out: a fork was made before them.
    """

    token: str
    epoch: int
    writer: str
    segments: Iterable[Segment]
    limit: int | None = None
    max_rows: int | None = None

    def shows(self, step: int, ordinal: int) -> bool:
        """Whether a row is visible."""
        return (self.limit is None or step <= self.limit) and (
            self.max_rows is None or ordinal < self.max_rows
        )


@dataclass(slots=True)
class _Walk:
    """What a walk over the frames gathers."""

    first_row: int
    shapes: dict[int, Shape] = field(default_factory=dict)
    stretches: dict[Shape, list[tuple[int, int, int]]] = field(default_factory=dict)
    rows: int = 0
    undefined: int = 0


def list_segments(directory: Path, kind: Kind) -> dict[str, list[Path]]:
    """The segment files of a run by stream, each stream's in order."""
    found: dict[str, list[tuple[int, Path]]] = {}
    try:
        names = sorted(path.name for path in directory.iterdir())
    except FileNotFoundError:
        return {}
    for name in names:
        parsed = segment.parse_file_name(name)
        if parsed is not None and parsed[1] is kind:
            found.setdefault(parsed[0], []).append((parsed[2], directory / name))
    return {token: [p for _, p in sorted(items)] for token, items in found.items()}


def read_stream(
    paths: Iterable[Path], known: StreamIdentity | None = None, rows: int = 0
) -> Iterator[Segment]:
    """Decode a stream's segments in order.

    Args:
        paths: Its files.
        known: Its identity, if the Catalog knows it: used where a header is damaged.
        rows: Rows of the stream in segments before these.
    """
    files = list(paths)
    while files and files[-1].stat().st_size == 0:
        del files[-1]  # made ahead, and not begun
    for index, path in enumerate(files):
        decoded = decode(path.read_bytes(), path.name, rows, known)
        known = known or decoded.identity
        if decoded.first_row > rows:
            decoded.damage.append(
                Damage(path.name, 0, 0, decoded.first_row - rows, False)
            )
        end = decoded.sealed
        if index + 1 < len(files):  # a finished one: its end was not cut by a kill
            decoded.damage = [replace(d, torn=False) for d in decoded.damage]
            end = _first_row(files[index + 1])
        if end is not None and end > decoded.rows:
            decoded.lost(path.name, end - decoded.rows)
        rows = decoded.rows
        yield decoded


def _first_row(path: Path) -> int | None:
    with path.open("rb") as file:
        head = segment.parse_header(file.read(HEADER_BYTES))
    return None if head is None else head[0]


def decode(
    data: bytes, name: str, first_row: int = 0, known: StreamIdentity | None = None
) -> Segment:
    """Decode one segment.

    Args:
        data: The file's bytes.
        name: The file's name, for reports.
        first_row: Ordinal of the first row where the header cannot say.
        known: Identity of the stream where the header cannot say.

    Returns:
        The rows; `rows` is the ordinal after the last one.
    """
    token = name.split(".", 1)[0]
    head = segment.parse_header(data)
    result = Segment(known)
    if head is not None:
        first_row = head[0]
        result.identity = StreamIdentity(token, head[1], head[2])
    elif data.strip(b"\0"):
        result.damage.append(Damage(name, 0, min(len(data), HEADER_BYTES), 0, False))
    walk = _Walk(first_row)
    end = _walk(data, name, walk, result)
    result.bytes, result.size = end, len(data)
    result.first_row, result.rows = first_row, first_row + walk.rows
    if walk.undefined:
        result.damage.append(Damage(name, 0, 0, walk.undefined, False))
    if result.identity is None:
        if walk.rows:
            result.damage.append(Damage(name, 0, 0, walk.rows, False))
        return Segment(
            None, damage=result.damage, first_row=first_row, rows=result.rows,
            bytes=end, size=len(data),
        )  # fmt: skip
    result.shaped = [
        _gather(data, shape, stretches) for shape, stretches in walk.stretches.items()
    ]
    return result


def _walk(data: bytes, name: str, walk: _Walk, result: Segment) -> int:
    """Go from frame to frame; return where the last valid one ends."""
    offset = good = min(HEADER_BYTES, len(data))
    view = memoryview(data)
    while offset < len(data):
        words, schema = _frame_at(view, offset)
        if words == 0:
            found = _resynchronise(view, offset, walk)
            torn = found is None
            stop = len(data) if found is None else found
            result.damage.append(Damage(name, offset, stop - offset, 0, torn))
            if not torn:
                result.gap = walk.first_row + walk.rows
            offset = stop
            continue
        shape = walk.shapes.get(schema)
        if shape is not None and shape.words == words:
            count = _stretch(data, offset, words * 8)
            walk.stretches.setdefault(shape, []).append(
                (offset, count, walk.first_row + walk.rows)
            )
            walk.rows += count
            offset += count * words * 8
        else:
            _take(view, offset, walk, result)
            offset += words * 8
        good = offset
    return good


def _frame_at(view: memoryview, offset: int) -> tuple[int, int]:
    """(words, schema) of the valid frame at an offset, or (0, 0)."""
    if offset + HEAD_BYTES > len(view):
        return 0, 0
    crc, words, schema, _step, _time = FRAME_HEAD.unpack_from(view, offset)
    end = offset + words * 8
    if words < segment.MIN_WORDS or end > len(view):
        return 0, 0
    if crc32(view[offset + 4 : end]) != crc:
        return 0, 0
    return words, schema


def _stretch(data: bytes, offset: int, size: int) -> int:
    """How many valid frames of one shape follow each other from an offset."""
    count = 1
    window = _GALLOP
    head = data[offset + 4 : offset + 8]
    while True:
        start = offset + count * size
        room = min((len(data) - start) // size, window)
        same = _same_heads(data, start, size, room, head)
        if same == 0:
            return count
        block = memoryview(data)[start : start + same * size]
        for index, (crc, body) in enumerate(iter_unpack(f"<I{size - 4}s", block)):
            if crc32(body) != crc:
                return count + index
        count += same
        if same < window:
            return count
        window *= 2


def _same_heads(data: bytes, start: int, size: int, room: int, head: bytes) -> int:
    """How many of the next `room` frames start with the same words and schema.

    Compared as four byte columns, which slices with a stride give at C speed.
    """
    same = room
    for index, byte in enumerate(head):
        first = start + 4 + index
        column = data[first : first + same * size : size][:same]
        kept = len(column) - len(column.lstrip(bytes((byte,))))
        same = min(same, kept)
    return same


def _take(view: memoryview, offset: int, walk: _Walk, result: Segment) -> None:
    """Take over a frame that is no row of a known shape."""
    _crc, words, schema, step, time_us = FRAME_HEAD.unpack_from(view, offset)
    frame = view[offset : offset + words * 8]
    ordinal = walk.first_row + walk.rows
    if schema == segment.DEFINITION:
        number, codes, keys = segment.payload_json(frame[HEAD_BYTES:])
        walk.shapes[number] = Shape(number, keys, codes)
    elif schema == segment.GENERIC:
        values = segment.payload_json(frame[HEAD_BYTES:])
        result.objects.append(ObjectRow(ordinal, step, time_us, values))
        walk.rows += 1
    elif schema == segment.SUMMARY:
        values = segment.payload_json(frame[HEAD_BYTES:])
        result.summaries.append(SummaryWrite(ordinal, time_us, values, offset))
    elif schema == segment.SEAL:
        sealed = segment.payload_json(frame[HEAD_BYTES:])
        result.sealed = int(sealed["rows"])
    else:
        walk.undefined += 1
        walk.rows += 1


def _resynchronise(view: memoryview, offset: int, walk: _Walk) -> int | None:
    """The next offset that holds a valid frame, or None.

    Cheap tests go first, so that megabytes of noise or zeros cost no CRC each.
    """
    rest = bytes(view[offset + 8 :])
    skipped = len(rest) - len(rest.lstrip(b"\0"))
    start = offset + 8 + skipped // 8 * 8
    for candidate in range(start, len(view) - HEAD_BYTES + 1, 8):
        _crc, words, schema, _step, time_us = FRAME_HEAD.unpack_from(view, candidate)
        if words < segment.MIN_WORDS or candidate + words * 8 > len(view):
            continue
        if schema > segment.MAX_SHAPES and schema < segment.GENERIC:
            continue
        if schema and not _DAY_US < time_us < _LATEST_US:
            continue
        if _frame_at(view, candidate)[0]:
            return candidate
    return None


def _gather(
    data: bytes, shape: Shape, stretches: list[tuple[int, int, int]]
) -> ShapeRows:
    size = shape.words * 8
    if len(stretches) == 1:
        offset, count, first = stretches[0]
        frames = data[offset : offset + count * size]
        return ShapeRows(shape, frames, range(first, first + count))
    frames = b"".join(data[at : at + count * size] for at, count, _ in stretches)
    ordinals = chain.from_iterable(range(n, n + count) for _, count, n in stretches)
    return ShapeRows(shape, frames, list(ordinals))
