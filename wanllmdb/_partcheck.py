"""Whether a part from elsewhere is what it says: nothing in it is believed.

What our own parts hold by construction (docs/format.md) is looked at here: columns and
their types, whose rows they are, that these are in order, that values in tall and
objects parts are of rows that are there. Sizes come first, before anything is decoded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wanllmdb import _digest
from wanllmdb._catalog.sealed import RunShare
from wanllmdb._merging import shares_in
from wanllmdb._metrics.columns import SUFFIXES, column_names
from wanllmdb._rowsets import PartFile, Place, RowRange
from wanllmdb._segments import LAYOUTS
from wanllmdb.errors import CorruptPartError, IntegrityError
from wanllmdb.types import INT64_MAX, Kind

if TYPE_CHECKING:
    import pyarrow as pa

    Columns = dict[str, tuple[str, str]]

GROUP_BYTES = 1 << 30
"""Bytes that a row group may come to, and the texts of a column of it."""

FILE_BYTES = 1 << 30
"""Bytes that a part may have; ours have at most 128 MiB."""

_HEADS = {
    "_uid": "string", "_run": "string", "_step": "int64",
    "_ts": "timestamp[ms, tz=UTC]", "_epoch": "int32", "_stream": "string",
    "_n": "int64", "_writer": "string",
}  # fmt: skip
_TYPES = {"d": "double", "q": "int64", "b": "bool", "s": "string"}
_CONSOLE = {"stream", "level", "text"}
_LATEST_MS = 32_503_680_000_000  # the year 3000
_KINDS = {layout: kind for kind, layout in LAYOUTS.items()} | {"tall": Kind.METRICS}
_WRITES = {"summary": Kind.METRICS, "edit": Kind.EDITS}
_RANGE = {
    "run": re.compile(r"[0-9a-f]{32}"), "token": re.compile(r"[0-9a-f]{10}"),
    "writer": re.compile(r"[!-~]{1,16}"), "digest": re.compile(r"[0-9a-f]{64}"),
}  # fmt: skip


@dataclass(slots=True)
class Checked:
    """A part that is what it says, but for the values of its rows.

    Attributes:
        path: Where it lies, under a name of ours.
        file: What was said of it.
        columns: Column name and type codes of each key.
        shares: What it holds of each run, by uid.
        ids: The id that its rows give each run, by uid.
    """

    path: Path
    file: PartFile
    columns: Columns
    shares: dict[str, RunShare]
    ids: dict[str, str]


def refusal(name: str, reason: str) -> IntegrityError:
    """The error for a part, or a range, that is not what it says."""
    return IntegrityError(
        f"{name} holds other rows than it says: {reason}.",
        hint="It was damaged, or not made by wanllmdb; nothing was taken from it.",
        part=name,
    )


@contextmanager
def distrusting(name: str) -> Iterator[None]:
    """Raises IntegrityError for whatever is wrong with what is read of a part."""
    try:
        yield
    except CorruptPartError as error:
        raise refusal(name, "it cannot be decoded") from error
    except (ValueError, LookupError, TypeError, RecursionError, OverflowError) as error:
        raise refusal(name, "it cannot be decoded") from error


def check_ranges(ranges: Sequence[RowRange]) -> None:
    """Refuse ranges that no stream can have.

    Raises:
        IntegrityError: one is none.
    """
    for found in ranges:
        numbers = (
            found.epoch, found.first, found.end, found.rows_before, found.rows
        )  # fmt: skip
        whole = all(type(n) is int and 0 <= n <= INT64_MAX for n in numbers)
        texts = all(
            isinstance(getattr(found, name), str)
            and form.fullmatch(getattr(found, name))
            for name, form in _RANGE.items()
        )
        if not (
            whole and texts and found.epoch < 1 << 31
            and found.rows_before <= found.first < found.end
        ):  # fmt: skip
            raise refusal(f"A range of run {found.run!r:.60}", "no stream is like that")
    if len({found.place for found in ranges}) < len(ranges):
        raise refusal("A set of ranges", "two of them are of one stream")


def check_parts(
    paths: Sequence[Path], files: Sequence[PartFile], ranges: Sequence[RowRange]
) -> tuple[list[Checked], dict[Place, int]]:
    """Look at everything but the values.

    Args:
        paths: Where the parts lie, under names of ours.
        files: What is said of each.
        ranges: What they shall hold together.

    Returns:
        The parts; and how many rows each stream has up to the end of its range.

    Raises:
        IntegrityError: a part is not what it says.
    """
    opened = []
    for path, file in zip(paths, files, strict=True):
        with distrusting(file.path.name):
            opened.append(_Opened.of(path, file))
    ends = _row_ends(opened, ranges)
    known = {found.place: found for found in ranges}
    rows: dict[Place, _Rows] = {}
    for part in opened:
        with distrusting(part.file.path.name):
            part.check(known, ends)
            if part.file.layout == "wide":
                for place, at in part.places():
                    rows.setdefault(place, []).append((part, at))
    for part in opened:
        if part.file.layout in ("tall", "objects"):
            with distrusting(part.file.path.name):
                _check_places(part, rows)
    return [part.checked() for part in opened], ends


def described(path: Path, file: PartFile) -> Checked:
    """What a part of ours holds, as `check_parts` says it."""
    return _Opened.of(path, file).checked()


def _row_ends(
    opened: Sequence[_Opened], ranges: Sequence[RowRange]
) -> dict[Place, int]:
    writes: dict[Place, int] = {}
    for part in opened:
        if part.file.layout == "objects":
            with distrusting(part.file.path.name):
                for place, at in part.writes():
                    writes[place] = writes.get(place, 0) + len(at)
    ends = {}
    for found in ranges:
        count = writes.get(found.place, 0)
        ends[found.place] = found.rows_before + found.end - found.first - count
        if ends[found.place] < found.rows_before:
            raise refusal(f"A range of run {found.run}", "it has too many writes")
        if ends[found.place] > found.rows:
            raise refusal(f"A range of run {found.run}", "it has more rows")
    return ends


_Rows = list[tuple["_Opened", Any]]
"""Parts, and which of their rows are one stream's."""


@dataclass(slots=True)
class _Opened:
    """A part whose description was read, and the columns that say whose its rows are.

    Attributes:
        path: Where it lies.
        file: What was said of it.
        columns: Column name and type codes of each key.
        heads: Those columns, and `key` and `kind` where it has them.
        codes: Numbers for the texts of `_uid`, `_run`, `_stream` and `_writer`.
        names: The texts of these numbers.
    """

    path: Path
    file: PartFile
    columns: Columns
    heads: pa.Table
    codes: dict[str, Any]
    names: dict[str, list[str]]

    @classmethod
    def of(cls, path: Path, file: PartFile) -> _Opened:
        from wanllmdb._metrics import parts

        columns = _described(path, file)
        wanted = [*_HEADS, "key", "kind"]
        heads = parts.read_table(path, 0, file.rows, wanted)
        if heads.num_rows != file.rows or not file.rows:
            raise refusal(file.path.name, "its rows are not as many as it says")
        for name in heads.column_names:
            if heads[name].null_count and not (
                name == "_step" and file.layout == "objects"
            ):
                raise refusal(file.path.name, f"{name} is empty in some rows")
        codes, names = {}, {}
        for name in ("_uid", "_run", "_stream", "_writer", "key", "kind"):
            if name in heads.column_names:
                codes[name], names[name] = _coded(heads[name])
        return cls(path, file, columns, heads, codes, names)

    def numbers(self, name: str) -> Any:
        from wanllmdb._metrics.arrow import numbers

        column = self.heads[name]
        return numbers(column.fill_null(0) if column.null_count else column)

    def _by_stream(self, rows: Any) -> Iterator[tuple[str, str, Any]]:
        """(uid, stream, which rows) of some rows, each in the part's order."""
        import numpy as np

        if not len(rows):
            return
        count = len(self.names["_stream"])
        pairs = self.codes["_uid"][rows].astype(np.int64) * count
        pairs += self.codes["_stream"][rows]
        order = np.argsort(pairs, kind="stable")
        for at in np.split(order, np.flatnonzero(np.diff(pairs[order])) + 1):
            uid, token = divmod(int(pairs[at[0]]), count)
            yield self.names["_uid"][uid], self.names["_stream"][token], rows[at]

    def _of_kind(self, *wanted: str) -> Any:
        import numpy as np

        names = self.names["kind"]
        found = [number for number, name in enumerate(names) if name in wanted]
        return np.flatnonzero(np.isin(self.codes["kind"], found))

    def writes(self) -> Iterator[tuple[Place, Any]]:
        """The rows that are writes into the summary, by stream."""
        for name, kind in _WRITES.items():
            for uid, token, at in self._by_stream(self._of_kind(name)):
                yield (uid, token, kind), at

    def places(self) -> Iterator[tuple[Place, Any]]:
        """The rows that are rows of a log, or values of them, by stream."""
        import numpy as np

        if self.file.layout == "objects":
            rows = self._of_kind("value")
        else:
            rows = np.arange(self.file.rows)
        for uid, token, at in self._by_stream(rows):
            yield (uid, token, _KINDS.get(self.file.layout, Kind.METRICS)), at

    def check(self, known: Mapping[Place, RowRange], ends: Mapping[Place, int]) -> None:
        """Refuse rows of what is in no range, or that are not in order."""
        import numpy as np

        times, ordinals = self.numbers("_ts"), self.numbers("_n")
        if times.min() < 0 or times.max() > _LATEST_MS:
            raise self.refused("a time is none")
        for place, at in self.places():
            found = self._range(known, place, at)
            held = ordinals[at]
            if held.min() < found.rows_before or held.max() >= ends[place]:
                raise self.refused("rows are in no range")
            rising = (np.diff(held) > 0).all() and (np.diff(times[at]) >= 0).all()
            if self.file.layout not in ("tall", "objects") and not rising:
                raise self.refused("rows of a stream are not in order")
        if self.file.layout == "objects":
            self._check_objects(known, ends)
        self._check_runs()
        self._check_keys()

    def _check_objects(
        self, known: Mapping[Place, RowRange], ends: Mapping[Place, int]
    ) -> None:
        if not set(self.names["kind"]) <= {"value", *_WRITES}:
            raise self.refused("a value is of no kind")
        empty = ~_valid(self.heads["_step"])
        empty[self._of_kind("value")] ^= True
        if not empty.all():
            raise self.refused("a step is missing")
        ordinals = self.numbers("_n")
        for place, at in self.writes():
            found = self._range(known, place, at)
            held = ordinals[at]
            if held.min() < found.rows_before or held.max() > ends[place]:
                raise self.refused("writes are in no range")

    def refused(self, reason: str) -> IntegrityError:
        return refusal(self.file.path.name, reason)

    def _range(
        self, known: Mapping[Place, RowRange], place: Place, at: Any
    ) -> RowRange:
        found = known.get(place)
        if found is None:
            raise self.refused("rows are in no range")
        codes = self.codes["_writer"][at]
        writers = {self.names["_writer"][codes[0]]}
        if (codes != codes[0]).any():
            raise self.refused("rows of a stream have different writers")
        if (self.numbers("_epoch")[at] != found.epoch).any():
            raise self.refused("rows of a stream have different epochs")
        if writers != {found.writer}:
            raise self.refused("rows of a stream have different writers")
        return found

    def _check_runs(self) -> None:
        """Rows of a run stand together, under one id, and in total order."""
        import numpy as np

        uids, ids = self.codes["_uid"], self.codes["_run"]
        changed = np.flatnonzero(np.diff(uids))
        if len(changed) + 1 != len(np.unique(uids)):
            raise self.refused("rows of a run do not stand together")
        if len(np.unique(np.stack([uids, ids]), axis=1)[0]) != len(changed) + 1:
            raise self.refused("rows of a run have different ids")
        if self.file.layout in ("tall", "objects"):
            return
        streams = _ranks(self.names["_stream"])[self.codes["_stream"]]
        runs = np.cumsum(np.concatenate([[0], np.diff(uids) != 0]))
        keys = (
            self.numbers("_n"), streams, self.numbers("_ts"), self.numbers("_epoch"),
            runs,
        )  # fmt: skip
        if (np.lexsort(keys) != np.arange(self.file.rows)).any():
            raise self.refused("rows of a run are not in order")

    def _check_keys(self) -> None:
        used: set[str] = set()
        if self.file.layout == "tall":
            used = set(self.names["key"])
        elif self.file.layout == "objects":
            at = self._of_kind("value")
            used = {self.names["key"][n] for n in set(self.codes["key"][at].tolist())}
        if not used <= self.columns.keys():
            raise self.refused("a key is not listed")
        if any("\0" in key for key in self.names.get("key", ())):
            raise self.refused("a key is none")

    def checked(self) -> Checked:
        """What is known of the part now."""
        from wanllmdb._metrics.seal import Table

        numbered = {uid: n for n, uid in enumerate(self.names["_uid"])}
        made = Table(self.file.layout, self.heads, self.columns)
        shares = shares_in(made, numbered)
        ids = {}
        for uid, number in numbered.items():
            if number in shares:
                row = shares[number].row_first
                ids[uid] = self.names["_run"][self.codes["_run"][row]]
        return Checked(
            self.path, self.file, self.columns,
            {uid: shares[n] for uid, n in numbered.items() if n in shares}, ids,
        )  # fmt: skip


def _check_places(part: _Opened, rows: Mapping[Place, _Rows]) -> None:
    """Values that stand apart are of rows that are there."""
    import numpy as np

    for place, at in part.places():
        held = rows.get(place, [])
        if not held:
            raise part.refused("a value is of no row")
        for name in ("_step", "_ts"):
            ordinals = np.concatenate([other.numbers("_n")[own] for other, own in held])
            found = np.concatenate([other.numbers(name)[own] for other, own in held])
            order = np.argsort(ordinals, kind="stable")
            places = np.searchsorted(ordinals[order], part.numbers("_n")[at])
            places[places == len(order)] = 0
            same = ordinals[order][places] == part.numbers("_n")[at]
            same &= found[order][places] == part.numbers(name)[at]
            if not same.all():
                raise part.refused("a value is of no row")


def _coded(column: pa.ChunkedArray) -> tuple[Any, list[str]]:
    from wanllmdb._metrics.arrow import numbers

    whole = column.unify_dictionaries().combine_chunks()
    return numbers(whole.indices), whole.dictionary.to_pylist()


def _valid(column: pa.ChunkedArray) -> Any:
    from wanllmdb._metrics.arrow import valid

    return valid(column).copy()


def _ranks(names: Sequence[str]) -> Any:
    import numpy as np

    ranks = np.empty(len(names), np.int64)
    ranks[sorted(range(len(names)), key=lambda n: names[n])] = np.arange(len(names))
    return ranks


def _described(path: Path, file: PartFile) -> Columns:
    """The columns of a part, if all of them are such as it may have."""
    import pyarrow.parquet as pq

    from wanllmdb._metrics import parts

    name = file.path.name
    if not 0 < file.size <= FILE_BYTES or path.stat().st_size != file.size:
        raise refusal(name, "its size is another")
    with parts.reading(path):
        metadata = pq.read_metadata(path)
        groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
        if metadata.num_rows != file.rows or any(
            group.num_rows > parts.ROW_GROUP or group.total_byte_size > GROUP_BYTES
            for group in groups
        ):
            raise refusal(name, "its rows are not as many as it says")
        text = json.loads((metadata.metadata or {})[parts.METADATA])
        if text["version"] != 1 or text["layout"] != file.layout:
            raise refusal(name, "its layout is another")
        columns = parts.columns_of(metadata.metadata)
        schema = metadata.schema.to_arrow_schema()
        _check_columns(name, file.layout, columns)
        _check_schema(name, schema, _expected(file.layout, columns))
        texts = [
            field.name for field in schema
            if str(field.type) == "string" and field.name not in _HEADS
        ]  # fmt: skip
        _check_texts(name, path, texts)
    return columns


def _check_columns(part: str, layout: str, columns: Columns) -> None:
    allowed = {"objects": "on"}.get(layout, "dqbs")
    for key, (name, codes) in columns.items():
        key.encode()  # a lone surrogate is no text
        plain = column_names([key])[key]
        if plain != key and layout in ("wide", "system"):
            digest = _digest.hex_of(_digest.of_bytes(key.encode()))
            stem, _, digits = name.rpartition("~")
            fits = stem == key and len(digits) >= 6 and digest.startswith(digits)
        else:
            fits = name == key
        if not fits or "\0" in key:
            raise refusal(part, "a key has the column of another")
        if not codes or set(codes) - set(allowed) or len(set(codes)) < len(codes):
            raise refusal(part, "a key has a type that is none")
    if layout == "console" and not columns.keys() <= _CONSOLE:
        raise refusal(part, "a line has more than its text")


def _expected(layout: str, columns: Columns) -> dict[str, str]:
    """The value columns that a part must have, and those that it may have."""
    if layout == "console":
        return dict.fromkeys(columns, "string")
    if layout == "objects":
        return dict.fromkeys(("key", "kind", "json"), "string")
    if layout == "tall":
        held = {code for _, codes in columns.values() for code in codes}
        values = {f"value{SUFFIXES[code]}": _TYPES[code] for code in held}
        return {"key": "string", **values}
    return {
        name + SUFFIXES[code]: _TYPES[code]
        for name, codes in columns.values()
        for code in codes
    }


def _check_schema(part: str, schema: pa.Schema, expected: Mapping[str, str]) -> None:
    found = {field.name: str(field.type) for field in schema}
    if found != {**_HEADS, **expected} or len(schema) > len(found):
        raise refusal(part, "its columns are others")
    if len({name.lower() for name in found}) < len(found):
        raise refusal(part, "two columns are one, whatever their case")


def _check_texts(part: str, path: Path, columns: Sequence[str]) -> None:
    """Texts that many rows share cost nothing in the file, and much in memory."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    if not columns:
        return
    with pq.ParquetFile(path, read_dictionary=list(columns)) as file:
        for index in range(file.num_row_groups):
            for name in columns:
                for chunk in file.read_row_group(index, [name])[name].chunks:
                    sizes = pc.cast(pc.binary_length(chunk.dictionary), "int64")
                    total = pc.sum(sizes.take(chunk.indices)).as_py() or 0
                    if total > GROUP_BYTES:
                        raise refusal(part, "its texts are too long")
