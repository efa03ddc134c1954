"""What is stored of a run's streams, wherever it lies: in parts, inline, or live.

A reader takes a `View`, reads, and asks it whether all still holds: a compactor may
have moved rows from a log into a part meanwhile. If not, it reads again. Thus each
row is seen exactly once (notes on the reader protocol: docs/format.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from zlib import crc32

from wanllmdb._catalog import sealed
from wanllmdb._catalog.connection import Database
from wanllmdb._catalog.sealed import (
    InlineKey,
    PartFacts,
    PartRows,
    RunShare,
    Sealed,
    Watermark,
)
from wanllmdb._metrics import decode, segment
from wanllmdb._metrics.decode import Segment
from wanllmdb.errors import CorruptPartError
from wanllmdb.types import Kind, StreamIdentity

if TYPE_CHECKING:
    from wanllmdb._metrics.columns import Cells, ColumnRows, Ints
    from wanllmdb._metrics.parts import Reader

    Blocks = list[tuple[StreamIdentity, ColumnRows]]
    Late = list[tuple[str, Cells, Ints]]

R = TypeVar("R")

LAYOUTS = {Kind.METRICS: "wide", Kind.SYSTEM: "system", Kind.CONSOLE: "console"}
"""The layout of the parts that hold a kind's rows."""

_HOLDERS = {
    Kind.METRICS: ("wide", "tall", "objects"), Kind.EDITS: ("objects",),
    Kind.SYSTEM: ("system",), Kind.CONSOLE: ("console",),
}  # fmt: skip
"""The layouts of all parts that hold something of a kind."""

CACHED_ROWS = 1_000_000
"""Rows of parts that a view keeps, so that each is read once for all its streams."""


class Moved(Exception):  # noqa: N818 - no fault: it says to look again
    """Rows were moved while they were read."""


@dataclass(frozen=True, slots=True)
class StoredStream:
    """One stream of a run.

    Attributes:
        token: Its name.
        mark: How far it is sealed.
        paths: Its live segments beyond that.
    """

    token: str
    mark: Watermark | None
    paths: Sequence[Path]


class Segments:
    """Finds the segments of a Store's runs.

    Args:
        live: The directory of live logs.
        parts: The directory of sealed parts.
        catalog: Says what is sealed.
    """

    def __init__(self, live: Path, parts: Path, catalog: Database) -> None:
        self.live = live
        self.parts = parts
        self.catalog = catalog

    def read(self, compute: Callable[[View], R]) -> R:
        """Compute something from a view that held from beginning to end.

        Args:
            compute: Called again whenever rows were moved meanwhile.
        """
        while True:
            view = View(self)
            try:
                result = compute(view)
            except Moved:
                continue
            except (FileNotFoundError, CorruptPartError) as error:
                # A part that was merged away, or an inline log whose row is another's.
                if view.holds():
                    raise as_corrupt(error) from error
                continue
            if view.holds():
                return result


class View:
    """What is stored of one or more runs, as it was when each was first asked for.

    Args:
        source: Finds it.
        known: What is sealed of runs that the Catalog does not know.
    """

    def __init__(
        self, source: Segments, known: Mapping[int, Sealed] | None = None
    ) -> None:
        self._source = source
        self._seen: dict[int, Sealed] = dict(known or {})
        self._reader: Reader | None = None
        self._blocks: dict[tuple[int, int, tuple[str, ...] | None], Blocks] = {}
        self._late: dict[tuple[int, int, tuple[str, ...] | None], Late] = {}

    def sealed(self, pk: int) -> Sealed:
        """What is sealed of a run."""
        if pk not in self._seen:
            self._seen[pk] = sealed.read(self._source.catalog.reader, pk)
        return self._seen[pk]

    def of(self, known: Mapping[int, Sealed]) -> View:
        """Another view, of no more than what is said to be sealed."""
        view = View(self._source, known)
        view._reader = self._shared_reader()
        return view

    def _shared_reader(self) -> Reader:
        from wanllmdb._metrics.parts import Reader

        if self._reader is None:
            self._reader = Reader()
        return self._reader

    def files(self, parts: Iterable[int]) -> list[PartFacts]:
        """Facts of parts that are there."""
        return sealed.facts_of(self._source.catalog.reader, parts)

    def shares(self, part: int) -> list[RunShare]:
        """What a part holds of which runs."""
        return sealed.shares_of(self._source.catalog.reader, part)

    def path(self, part: PartRows) -> Path:
        """Where a part lies."""
        return self._source.parts / part.path

    def holds(self) -> bool:
        """Whether nothing was moved since."""
        reader = self._source.catalog.reader
        return all(sealed.read(reader, pk) == seen for pk, seen in self._seen.items())

    def streams(self, pk: int, uid: str, kind: Kind) -> list[StoredStream]:
        """The streams of one kind of a run, by name."""
        marks = {
            mark.identity.token: mark
            for mark in self.sealed(pk).marks
            if mark.kind is kind
        }
        live = decode.list_segments(self._source.live / uid, kind)
        return [
            StoredStream(
                token, marks.get(token), _beyond(live.get(token, ()), marks.get(token))
            )
            for token in sorted({*marks, *live})
        ]

    def segments(
        self,
        pk: int,
        stream: StoredStream,
        known: StreamIdentity | None = None,
        keys: Sequence[str] | None = None,
        *,
        unsealed: bool = False,
    ) -> Iterator[Segment]:
        """A stream's rows and writes, in order.

        Args:
            pk: The run.
            stream: One of its streams.
            known: Its identity, where its headers may be damaged.
            keys: Metrics wanted of what is sealed; None for all.
            unsealed: Leave out what is in parts.

        Raises:
            CorruptPartError: a part is damaged.
        """
        mark = stream.mark
        if mark is None:
            yield from decode.read_stream(stream.paths, known)
            return
        found: Iterable[Segment] = (
            () if unsealed else self._part_segments(pk, mark, keys)
        )
        inline = [
            self._inline(key, mark)
            for key in self.sealed(pk).inline
            if key.token == mark.identity.token and key.kind is mark.kind
        ]
        if inline:  # what went on after it was taken into the Catalog is in a part
            found = sorted([*found, *inline], key=lambda held: held.first_row)
        yield from found
        found = decode.read_stream(stream.paths, mark.identity, mark.rows)
        for path, decoded in zip(stream.paths, found, strict=False):
            leave_out_sealed(decoded, path, mark)
            yield decoded

    def _part_segments(
        self, pk: int, mark: Watermark, keys: Sequence[str] | None
    ) -> Iterator[Segment]:
        token, epoch = mark.identity.token, mark.identity.epoch
        found = self.sealed(pk)
        parts = [p for p in found.parts if p.epoch_min <= epoch <= p.epoch_max]
        wanted = _HOLDERS.get(mark.kind, ())
        for part in parts:
            if part.layout in wanted:
                _refuse_quarantined(part)
        late = self._late_cells(pk, parts, mark, keys)
        written = self.writes(pk, mark)
        writes = (
            [Segment(mark.identity, summaries=written, rows=mark.rows)]
            if written else []
        )  # fmt: skip
        for part in parts:
            if part.layout != LAYOUTS.get(mark.kind):
                continue
            for identity, block in self._wide_blocks(pk, part, keys):
                if identity.token == token:
                    first, last = block.ordinals[[0, -1]].tolist()
                    if first:
                        yield from writes
                        writes = []
                    joined = _joined(block, late)
                    yield Segment(
                        identity, columns=[joined], first_row=first, rows=last + 1
                    )
        yield from writes

    def _inline(self, key: InlineKey, mark: Watermark) -> Segment:
        data = sealed.inline_data(self._source.catalog.reader, key.rowid)
        if data is None:
            raise Moved
        name = segment.file_name(key.token, key.kind, key.seq)
        if crc32(data) != key.crc:
            raise CorruptPartError(
                f"The Catalog's copy of {name} is damaged.", hint="Restore a backup.",
                part=name,
            )  # fmt: skip
        return decode.decode(data, name, 0, mark.identity)

    def writes(self, pk: int, mark: Watermark) -> list[decode.SummaryWrite]:
        """What parts hold of a stream's writes into the summary."""
        from wanllmdb._metrics import parts as files

        epoch = mark.identity.epoch
        wanted = {Kind.METRICS: "summary", Kind.EDITS: "edit"}.get(mark.kind)
        return [
            write
            for part in self.sealed(pk).parts
            if part.layout == "objects" and wanted is not None
            if part.epoch_min <= epoch <= part.epoch_max
            for identity, kind, write in files.summary_writes(
                self._source.parts / part.path, part.row_first, part.rows
            )
            if identity.token == mark.identity.token and kind == wanted
        ]

    def _wide_blocks(
        self, pk: int, part: PartRows, keys: Sequence[str] | None
    ) -> Blocks:
        from wanllmdb._metrics import parts as files

        place = (pk, part.part, None if keys is None else tuple(keys))
        if place not in self._blocks:
            held = sum(
                len(block.steps)
                for found in self._blocks.values()
                for _, block in found
            )
            if held + part.rows > CACHED_ROWS:
                self._blocks.clear()
            self._blocks[place] = files.wide_rows(
                self._source.parts / part.path, part.row_first, part.rows, keys,
                self._shared_reader(),
            )  # fmt: skip
        return self._blocks[place]

    def _late_cells(
        self,
        pk: int,
        parts: Iterable[PartRows],
        mark: Watermark,
        keys: Sequence[str] | None,
    ) -> list[tuple[Cells, Ints]]:
        """What tall and objects parts hold of a stream, with the rows' ordinals."""
        if mark.kind is not Kind.METRICS:
            return []
        found: Late = []
        for part in parts:
            if part.layout in ("tall", "objects"):
                found += self._late_of(pk, part, keys)
        token = mark.identity.token
        return [(cells, ordinals) for name, cells, ordinals in found if name == token]

    def _late_of(self, pk: int, part: PartRows, keys: Sequence[str] | None) -> Late:
        from wanllmdb._metrics import parts as files

        place = (pk, part.part, None if keys is None else tuple(keys))
        if place not in self._late:
            read = files.tall_values if part.layout == "tall" else files.object_values
            path = self._source.parts / part.path
            self._late[place] = list(read(path, part.row_first, part.rows, keys))
        return self._late[place]


def leave_out_sealed(decoded: Segment, path: Path, mark: Watermark) -> None:
    """Forget what of a segment is sealed: it was, and its writer went on."""
    parsed = segment.parse_file_name(path.name)
    here = parsed is not None and parsed[2] == mark.seq
    if here or decoded.first_row < mark.rows:
        decoded.leave_out(mark.rows, mark.bytes if here else 0)


def as_corrupt(error: FileNotFoundError | CorruptPartError) -> CorruptPartError:
    """What is wrong with a part that should be there, as an error of ours."""
    if isinstance(error, CorruptPartError):
        return error
    name = Path(str(error.filename)).name
    return CorruptPartError(
        f"{name} is missing.", hint="A backup may have it.", part=name
    )


def _refuse_quarantined(part: PartRows) -> None:
    if part.quarantined:
        raise CorruptPartError(
            f"{part.path} is damaged, and was set aside.",
            hint="It was put into the Store's trash/; a backup may have it whole.",
            part=part.path, set_aside=True,
        )  # fmt: skip


def _beyond(paths: Sequence[Path], mark: Watermark | None) -> list[Path]:
    """The segments of a stream that hold more than is sealed."""
    if mark is None:
        return list(paths)
    kept = []
    for path in paths:
        parsed = segment.parse_file_name(path.name)
        assert parsed is not None
        seq = parsed[2]
        if seq > mark.seq or (seq == mark.seq and size_of(path) > mark.bytes):
            kept.append(path)
    return kept


def size_of(path: Path) -> int:
    """The size of a sealed segment; 0 where it was swept away since it was listed."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _joined(block: ColumnRows, late: Sequence[tuple[Cells, Ints]]) -> ColumnRows:
    """A block with the values that tall and objects parts hold of its rows."""
    import numpy as np

    from wanllmdb._metrics.columns import Cells, ColumnRows

    more = []
    for cells, ordinals in late:
        rows = np.searchsorted(block.ordinals, ordinals)
        rows[rows == len(block.ordinals)] = 0
        fits = block.ordinals[rows] == ordinals
        if fits.any():
            values = cells.values
            if isinstance(values, list):
                values = [v for v, fit in zip(values, fits, strict=True) if fit]
            else:
                values = values[fits]
            more.append(Cells(cells.key, cells.code, rows[fits], values))
    if not more:
        return block
    return ColumnRows(block.ordinals, block.steps, block.times, [*block.cells, *more])
