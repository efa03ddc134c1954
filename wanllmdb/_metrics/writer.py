"""Appending to a stream: one `os.write` per row, nothing shared, nothing locked."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Mapping
from os import write
from pathlib import Path
from time import time_ns
from typing import Any
from zlib import crc32

from wanllmdb import _files, _json
from wanllmdb._metrics import segment
from wanllmdb._metrics.decode import decode, list_segments
from wanllmdb._metrics.fold import Fold, Row
from wanllmdb._metrics.segment import SEGMENT_BYTES, Shape
from wanllmdb.types import INT64_MAX, Durability, JSONValue, Kind, StreamIdentity

FOLD_ROWS = 512
FOLD_VALUES = 32_768
"""Rows wait for folding until there are so many of them, or of their values."""
BUFFER_BYTES = 64 << 10

fdatasync = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync
_CODES: dict[type, str] = {float: "d", int: "q", bool: "b", type(None): "n"}


class _Waiting:
    """A shape of this segment, how its rows are recognised, and those not folded yet.

    Attributes:
        keys: The keys of its rows, in order.
        types: The types of their values.
        exact: Whether the values are what a reader gets back, or NumPy's or None.
        rows: (step, time, value, ...) of each waiting row.
        ordinals: Their ordinals.
    """

    __slots__ = ("exact", "id", "keys", "ordinals", "pack", "rows", "shape", "types",
                 "words")  # fmt: skip

    def __init__(self, shape: Shape | None, data: Mapping[str, Any]) -> None:
        self.keys = [*data]
        self.types = [*map(type, data.values())]
        self.exact = all(kind in (float, int, bool) for kind in self.types)
        self.rows: list[Row] = []
        self.ordinals: list[int] = []
        if shape is not None:
            self.shape = shape
            self.id, self.words, self.pack = shape.id, shape.words, shape.pack


_NO_SHAPE = _Waiting(None, {object(): None})  # type: ignore[dict-item]
"""Fits no row."""


class StreamWriter:
    """One writer's stream of one kind. Not thread-safe: its owner holds a lock.

    Attributes:
        fold: The sums of the rows, up to date after `fold_pending`.
        rows: Rows written.
        dropped: Rows that the disk refused.
        certain: Whether `fold` holds just what stands in the log.

    The first segment is made at the first row. A failing disk never raises: the row
    is dropped and counted, `on_fault` is told once per kind of fault, and writing
    goes on as soon as the disk lets it.

    Args:
        directory: The run's directory.
        identity: Who writes.
        kind: What is written; only metric rows are folded.
        durability: See `wanllmdb.init`.
        on_fault: Called with the OSError of a row that was dropped.
        spill: Stores bytes as a blob and returns the value that stands for them.
        normalise: Makes a row of storable values of a mapping of a shape not seen yet,
            at a step.
        on_limit: Told when there are more keys than are summed up.
    """

    def __init__(
        self,
        directory: Path,
        identity: StreamIdentity,
        kind: Kind,
        *,
        durability: Durability = "process",
        on_fault: Callable[[OSError], None] = lambda _: None,
        spill: Callable[[bytes], JSONValue] | None = None,
        normalise: Callable[[Mapping[str, Any], int], dict[str, Any]] | None = None,
        on_limit: Callable[[], None] = lambda: None,
    ) -> None:
        self.identity = identity
        self.fold = Fold(identity.writer)
        self.dropped = 0
        self.rows = 0
        self.certain = True
        self._directory = directory
        self._kind = kind
        self._durability = durability
        self._on_fault = on_fault
        self._spill = spill
        self._normalise = normalise
        self._on_limit = on_limit
        self._fd = -1
        self._spare = -1
        self._seq = 0
        self._size = 0
        self._flushing = False
        self._flushed_to = 0
        self._in_flight = 0
        self._last_us = 0
        self._shapes: dict[tuple[Any, ...], _Waiting] = {}
        self._latest = _NO_SHAPE
        self._fold_rows = self._fold_at = FOLD_ROWS
        self._buffer = bytearray()
        self._unflushed = 0
        # The common durability takes the shortest way.
        self._direct = durability == "process" or durability == "interval"

    def append(self, data: Mapping[str, Any], step: int) -> None:  # noqa: C901, PLR0912 - inlined for speed
        """Write one row of scalars and other stored values."""
        shape = self._latest
        if [*data] != shape.keys or [*map(type, data.values())] != shape.types:
            # Also when no segment is open: it knows no shapes yet.
            if self._fd < 0 and not self._open():
                self.dropped += 1
                return
            known = self._shapes.get((*data, *map(type, data.values())))
            if known is None:
                row = data if self._normalise is None else self._normalise(data, step)
                if row:
                    self._append_new(row, step)
                return
            self._latest = shape = known
        now = time_ns() // 1000
        if now < self._last_us:  # the clock was set back: order within a stream stays
            now = self._last_us
        cells = (step, now, *data.values())
        try:
            body = shape.pack(shape.words, shape.id, *cells)
        except struct.error:  # an int beyond 64 bits
            row = data if self._normalise is None else self._normalise(data, step)
            self._append_json(row, step)
            return
        frame = crc32(body).to_bytes(4, "little") + body
        if self._direct:
            try:
                done = write(self._fd, frame)
            except OSError as error:
                done = -error.errno if error.errno else -errno.EIO
            if done == len(frame):
                self._size += done
            elif not self._finish(frame, done):
                self.dropped += 1
                return
        elif not self._put(frame, rows=1):
            self.dropped += 1
            return
        self._last_us = now
        shape.rows.append(cells if shape.exact else shape.shape.struct.unpack(frame))
        shape.ordinals.append(self.rows)
        self.rows += 1
        if self.rows >= self._fold_at:
            self.fold_pending()
        if self._size >= SEGMENT_BYTES:
            self._roll()

    def write_summary(self, values: Mapping[str, JSONValue]) -> None:
        """Write what the user set in the summary, in order with the rows."""
        self._last_us = now = max(time_ns() // 1000, self._last_us)
        self.fold_pending()
        place = (self.identity.epoch, now // 1000, self.identity.token, self.rows - 0.5)
        self.fold.write_summary(values, place)
        for part in self._parts(dict(values)):
            self._put_json(segment.SUMMARY, part, 0, now)

    def fold_pending(self) -> None:
        """Bring `fold` up to date with every row written."""
        self.flush()
        waiting = [shape for shape in self._shapes.values() if shape.rows]
        if waiting:
            self.fold.add_rows(
                [(w.shape, w.rows, w.ordinals) for w in waiting], (),
                self.identity.epoch, self.identity.token,
            )  # fmt: skip
        if self.fold.overflowed:
            self._on_limit()
        for shape in waiting:
            shape.rows, shape.ordinals = [], []
        self._fold_at = self.rows + self._fold_rows

    def flush(self) -> None:
        """Hand buffered rows to the kernel (durability "buffered")."""
        if not self._buffer or self._flushing:
            return
        self._flushing, self._in_flight = True, self._unflushed
        self._flushed_to = self._size
        written = self._write(bytes(self._buffer))
        self._buffer, self._unflushed = bytearray(), 0
        if not written:
            self.dropped += self._in_flight
            self.rows -= self._in_flight
            for shape in self._shapes.values():
                while shape.ordinals and shape.ordinals[-1] >= self.rows:
                    shape.rows.pop()
                    shape.ordinals.pop()
            # Definitions were among what was refused: this segment lacks them.
            self._leave_segment()
        self._flushing, self._in_flight = False, 0

    def sync(self) -> None:
        """Make everything written survive a power cut."""
        self.flush()
        if self._fd >= 0:
            try:
                fdatasync(self._fd)
            except OSError as error:
                self._on_fault(error)

    def duplicate(self) -> int:
        """A descriptor of the open segment for the caller to sync and close, or -1."""
        self.flush()
        return os.dup(self._fd) if self._fd >= 0 else -1

    @property
    def segments(self) -> int:
        """How many segments were begun."""
        return self._seq

    def prepare_next(self) -> None:
        """Create the next segment's file ahead of need, off the caller's path."""
        if self._fd >= 0 and self._spare < 0 and self._size > SEGMENT_BYTES // 2:
            try:
                self._spare = self._create(self._seq + 1)
            except OSError:  # made at the roll, or the roll says why not
                pass

    def close(self) -> None:
        """Seal the stream; nothing can follow. The Store makes it durable."""
        self.fold_pending()
        if self._fd >= 0:
            self._put_json(
                segment.SEAL, {"rows": self.rows, "clean": True}, 0, self._last_us
            )
        self._close_segment()
        self._drop_spare()

    def _close_segment(self) -> None:
        # Forgotten first: an interrupt in between must not close a number twice.
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def interrupted(self) -> None:
        """After an exception broke into a call: go by what stands in the files.

        The row under way stands there whole or not at all; rows that wait in the
        buffer are written again, into a new segment. The sums are no longer certain.
        """
        self.certain = False
        shapes, waiting = self._shapes, bytes(self._buffer)
        self._buffer.clear()
        self._unflushed = self._in_flight = 0
        self._drop_spare()
        if self._fd >= 0:
            if waiting and self._flushing:  # all of it is written again
                os.ftruncate(self._fd, self._flushed_to)
            self._close_segment()
        self._flushing = False
        self._forget_shapes()
        self._recount()
        if waiting and self._open():
            known = b"".join(shape.shape.definition() for shape in shapes.values())
            self._write(known + waiting)
            self._leave_segment()
            self._recount()

    def _recount(self) -> None:
        """Find the last segment, cut a broken frame off it, and count the rows."""
        found = list_segments(self._directory, self._kind)
        for path in reversed(found.get(self.identity.token, [])):
            parsed = segment.parse_file_name(path.name)
            assert parsed is not None
            self._seq = max(self._seq, parsed[2])
            data = path.read_bytes()
            if segment.parse_header(data) is None:
                path.unlink()  # broken off before its first row
                continue
            last = decode(data, path.name)
            os.truncate(path, last.bytes)
            self.rows = last.rows
            return

    def abandon_after_fork(self) -> None:
        """In a forked child: let go of the parent's descriptors, write nothing."""
        for fd in (self._fd, self._spare):
            if fd >= 0:
                try:
                    os.close(fd)
                except OSError:  # closed by the program itself
                    pass
        self._fd = self._spare = -1
        self._buffer.clear()

    def _append_new(self, data: Mapping[str, Any], step: int) -> None:
        signature = (*data, *map(type, data.values()))
        if signature in self._shapes:
            self.append(data, step)
            return
        codes = [_code_of(value) for value in data.values()]
        if None in codes or len(self._shapes) >= segment.MAX_SHAPES:
            self._append_json(data, step)
            return
        text = "".join(code or "" for code in codes)
        shape = Shape(len(self._shapes) + 1, tuple(data), text)
        too_wide = shape.words * 8 > segment.MAX_FRAME_BYTES // 2
        if too_wide or len(str(shape.keys)) > segment.MAX_FRAME_BYTES // 4:
            self._append_json(data, step)
            return
        if not self._put(shape.definition(), rows=0):
            self.dropped += 1
            return
        self._shapes[signature] = _Waiting(shape, data)
        self._fold_rows = min(self._fold_rows, FOLD_VALUES // len(codes) + 1)
        self._fold_at = min(self._fold_at, self.rows + self._fold_rows)
        self.append(data, step)

    def _append_json(self, data: Mapping[str, Any], step: int) -> None:
        step = min(step, INT64_MAX)  # the cursor may have gone beyond
        now = max(time_ns() // 1000, self._last_us)
        row = {key: plain(value) for key, value in data.items()}
        lost = False
        for part in self._parts(row):
            if not self._put_json(segment.GENERIC, part, step, now):
                lost = True
                continue
            self._last_us = now
            self.fold_pending()
            place = (
                self.identity.epoch, now // 1000, self.identity.token, self.rows
            )  # fmt: skip
            self.fold.add_row(part, step, now, place)
            self.rows += 1
        self.dropped += lost
        if self._size >= SEGMENT_BYTES:
            self._roll()

    def _parts(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        """Split a row that fits no frame; large single values go to blobs."""
        budget = segment.MAX_FRAME_BYTES // 2
        parts: list[dict[str, Any]] = [{}]
        size = 0
        for key, value in row.items():
            item = value
            text = _json.dumps(value)
            if len(text) > budget and self._spill is not None:
                item = self._spill(text.encode())
                text = _json.dumps(item)
            size += len(text) + len(key) * 6 + 4
            if size > budget and parts[-1]:
                parts.append({})
                size = len(text) + len(key) * 6 + 4
            parts[-1][key] = item
        return parts

    def _put_json(
        self, schema: int, value: Mapping[str, Any], step: int, now: int
    ) -> bool:
        """Write a frame of JSON; False if it was refused. Such frames do not wait."""
        text = _json.dumps(dict(value)).encode()
        self.flush()
        if self._fd < 0 and not self._open():
            return False
        written = self._write(segment.frame(schema, step, now, text))
        if written and self._durability == "sync":
            self.sync()
        return written

    def _put(self, frame: bytes, rows: int) -> bool:
        """Write a frame of so many rows by the way of this durability.

        Returns:
            False if it was refused.
        """
        if self._durability == "buffered":
            if len(self._buffer) >= BUFFER_BYTES:
                self.flush()
                if self._fd < 0 or not self._shapes:  # it was refused
                    return False
            self._buffer += frame
            self._unflushed += rows
            return True
        if not self._write(frame):
            return False
        if self._durability == "sync":
            self.sync()
        return True

    def _write(self, data: bytes) -> bool:
        try:
            done = write(self._fd, data)
        except OSError as error:
            done = -(error.errno or errno.EIO)
        if done == len(data):
            self._size += done
            return True
        return self._finish(data, done)

    def _finish(self, data: bytes, done: int) -> bool:
        """After a short or failed write: complete it, or leave no part of it.

        Args:
            data: Whole frames.
            done: Bytes that were written, or the negative error number.
        """
        shapes, latest = self._shapes, self._latest
        code = self._complete(data, done)
        if code == errno.EFBIG and self._size > segment.HEADER_BYTES:
            # RLIMIT_FSIZE is a limit per file: the next one has room.
            self._roll()
            if self._fd < 0:
                return False
            self._shapes, self._latest = shapes, latest
            known = b"".join(shape.shape.definition() for shape in shapes.values())
            code = self._complete(known + data, 0)
        if code:
            self._on_fault(OSError(code, os.strerror(code)))
        return not code

    def _complete(self, data: bytes, done: int) -> int:
        """Write the rest; after an error cut the part off, and return its number."""
        code = -done
        if done >= 0:
            try:
                _files.write_all(self._fd, memoryview(data)[done:])
            except OSError as error:
                code = error.errno or errno.EIO
            else:
                self._size += len(data)
                return 0
        try:
            os.ftruncate(self._fd, self._size)
        except OSError:  # a segment that cannot be mended is left
            self._leave_segment()
        return code

    def _create(self, seq: int) -> int:
        path = self._path(seq)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        return os.open(path, flags, 0o600)

    def _open(self) -> bool:
        """Start the next segment; False, with the fault told, if that fails."""
        fd = -1
        try:
            fd, self._spare = self._spare, -1
            if fd < 0:
                fd = self._create(self._seq + 1)
            head = segment.header(
                pid=os.getpid(),
                created_us=time_ns() // 1000,
                first_row=self.rows - self._in_flight,
                epoch=self.identity.epoch,
                kind=self._kind,
                writer=self.identity.writer,
            )
            _files.write_all(fd, head)
        except OSError as error:
            if fd >= 0:
                os.close(fd)
                self._path(self._seq + 1).unlink(missing_ok=True)
            self._on_fault(error)
            return False
        self._seq += 1
        self._size = segment.HEADER_BYTES
        self.fold_pending()
        self._forget_shapes()
        self._fd = fd
        return True

    def _roll(self) -> None:
        """End this segment, and open the next one."""
        self.flush()
        self.fold_pending()
        if self._durability != "process":
            self.sync()
        self._leave_segment()
        self._open()

    def _leave_segment(self) -> None:
        """Write no more to this segment; the next row opens another."""
        self.fold_pending()
        self._close_segment()
        self._forget_shapes()

    def _forget_shapes(self) -> None:
        self._shapes = {}
        self._latest = _NO_SHAPE
        self._fold_rows = FOLD_ROWS

    def _drop_spare(self) -> None:
        fd, self._spare = self._spare, -1
        if fd >= 0:
            os.close(fd)
            self._path(self._seq + 1).unlink(missing_ok=True)

    def _path(self, seq: int) -> Path:
        name = segment.file_name(self.identity.token, self._kind, seq)
        return self._directory / name


def _code_of(value: Any) -> str | None:
    """The letter of a value's type, or None for what no fixed shape holds.

    NumPy scalars are recognised by their dtype, so that numpy is not imported.
    """
    code = _CODES.get(type(value))
    if code is None and type(value).__module__ == "numpy":
        kind = getattr(getattr(value, "dtype", None), "kind", "")
        code = {"f": "d", "i": "q", "u": "q", "b": "b"}.get(kind)
        if getattr(value, "ndim", 0):
            code = None
    return code


def plain(value: Any) -> Any:
    """A NumPy scalar as Python's own number; anything else as it is."""
    return value.item() if type(value).__module__ == "numpy" else value
