"""Merging: the small parts and inline logs of a project become few large parts.

By run, and within a run in total order. What of a part is no run's any more (the run
was purged) is left out. The same order of writes as sealing, in one transaction, so
that each row shows exactly once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from wanllmdb import _layout
from wanllmdb._catalog import runs, sealed
from wanllmdb._catalog.connection import Database
from wanllmdb._catalog.sealed import NewPart, PartFacts, RunShare
from wanllmdb._compaction import Compactor, layout_of, share_of, written_by
from wanllmdb._metrics import decode
from wanllmdb._segments import Moved

if TYPE_CHECKING:
    import pyarrow as pa

    from wanllmdb._metrics.seal import Table

MERGED_BYTES = 64 << 20
"""A part of at least this size is not merged again."""

WAITING_PARTS = 200
WAITING_INLINE = 64 << 20
"""Parts of one run, or bytes of inline logs, at which a project is merged by itself."""

GROWTH = 4
"""A merged part is rewritten only with at least a quarter of its size of new ones."""


@dataclass(slots=True)
class _Source:
    """A sealed table: a part on the disk, or inline logs that were decoded."""

    columns: Mapping[str, tuple[str, str]]
    shares: dict[int, RunShare]
    path: Path | None = None
    table: pa.Table | None = None

    def rows_of(self, pk: int) -> pa.Table:
        from wanllmdb._metrics import parts

        share = self.shares[pk]
        if self.path is not None:
            return parts.read_table(self.path, share.row_first, share.rows)
        assert self.table is not None
        return self.table.slice(share.row_first, share.rows)


@dataclass(frozen=True, slots=True)
class _Inline:
    """Inline logs that are merged out: whose, and which rows of the Catalog."""

    runs: dict[int, tuple[int, ...]]
    tables: list[tuple[Table, dict[int, RunShare]]]


def is_due(catalog: Database, project: str) -> bool:
    """Whether so much of a project waits that it should be merged."""
    uid = runs.project_uid(catalog.reader, project)
    parts, inline = sealed.waiting(catalog.reader, uid)
    return parts > WAITING_PARTS or inline >= WAITING_INLINE


def merge(compactor: Compactor, catalog: Database, project: str) -> bool:
    """Merge what of a project is small; False where there is nothing, or no turn.

    Args:
        compactor: Holds the locks.
        catalog: Where the parts are listed.
        project: Its name.

    Raises:
        CorruptPartError: a part is damaged; nothing was changed.
    """
    try:
        return _merge(compactor, catalog, project)
    except (Moved, FileNotFoundError):
        return False  # a run was resumed, or purged, meanwhile: another time


def _merge(compactor: Compactor, catalog: Database, project: str) -> bool:
    uid = runs.project_uid(catalog.reader, project)
    with compactor.alone(uid) as mine:
        if not mine:
            return False
        compactor.collect_drafts(uid, project)
        facts, shares = sealed.mergeable(catalog.reader, uid, MERGED_BYTES)
        chosen = _chosen(facts, shares, catalog)
        inline = _decoded(catalog, uid, {fact.part for fact in chosen})
        if len(chosen) + len(inline.runs) < 2:
            return False
        sources: dict[str, list[_Source]] = {}
        target = compactor.root / _layout.PARTS / uid
        for fact in chosen:
            held = {share.run: share for share in shares[fact.part]}
            columns = _columns(target / fact.name)
            sources.setdefault(fact.layout, []).append(
                _Source(columns, held, path=target / fact.name)
            )
        for table, held in inline.tables:
            sources.setdefault(table.layout, []).append(
                _Source(table.columns, held, table=table.arrow)
            )
        new = [
            _written(compactor, uid, layout, found) for layout, found in sources.items()
        ]
        _put(catalog, target, project, new, chosen, inline)
    return True


def _chosen(
    facts: Sequence[PartFacts], shares: Mapping[int, list[RunShare]], catalog: Database
) -> list[PartFacts]:
    """The parts to merge: all small ones, and merged ones that are worth rewriting.

    A run's parts are merged all together or not at all: rows of one stream must not
    change places with each other.
    """
    found: list[PartFacts] = []
    for layout in dict.fromkeys(fact.layout for fact in facts):
        size = 0
        mine = [fact for fact in facts if fact.layout == layout]
        for fact in mine:  # the smallest first
            if fact.merged and fact.bytes > GROWTH * max(size, 1):
                continue
            if not fact.merged and fact.bytes > sealed.SMALL_BYTES:
                continue
            found.append(fact)
            size += fact.bytes
    while True:
        taken = {fact.part for fact in found}
        kept = [
            fact for fact in found
            if all(
                sealed.parts_of(catalog.reader, s.run, fact.layout) <= taken
                for s in shares[fact.part]
            )
        ]  # fmt: skip
        if len(kept) == len(found):
            return found
        found = kept


def _decoded(catalog: Database, project: str, taken: set[int]) -> _Inline:
    """The inline logs of runs whose every other part is merged, too, as tables."""
    from wanllmdb._metrics.seal import Batch

    batches: dict[str, Batch] = {}
    found: dict[int, tuple[int, ...]] = {}
    numbers: dict[str, int] = {}
    for pk, uid in sealed.inline_runs(catalog.reader, project):
        if not sealed.parts_of(catalog.reader, pk) <= taken:
            continue
        held = sealed.read(catalog.reader, pk)
        for key in held.inline:
            mark = held.mark(key.token, key.kind)
            data = sealed.inline_data(catalog.reader, key.rowid)
            if data is None or mark is None:
                raise Moved
            layout = layout_of(key.kind)
            batch = batches.setdefault(layout, Batch(layout))
            decoded = decode.decode(data, key.token, 0, mark.identity)
            batch.add(uid, mark.identity, decoded, written_by(key.kind))
        found[pk] = tuple(key.rowid for key in held.inline)
        numbers[uid] = pk
    tables = []
    for batch in batches.values() if found else ():
        for table in batch.tables():
            tables.append((table, _shares(table, numbers)))
    return _Inline(found, tables)


def _shares(made: Table, keys: Mapping[str, int]) -> dict[int, RunShare]:
    """Which rows of a table that is in order of runs are whose."""
    import numpy as np

    from wanllmdb._metrics.arrow import numbers

    table = made.arrow
    column = table["_run"].combine_chunks()
    if not hasattr(column, "dictionary"):
        column = column.dictionary_encode()
    codes = numbers(column.indices)
    edges = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(codes)]
    names = column.dictionary.to_pylist()
    found = {}
    for first, end in pairwise(edges):
        pk = keys[names[codes[first]]]
        mine = table.slice(first, end - first)
        found[pk] = share_of(mine, made.layout, pk, first)
    return found


def _columns(path: Path) -> dict[str, tuple[str, str]]:
    from wanllmdb._metrics import parts

    return parts.described(path)


def _written(
    compactor: Compactor, owner: str, layout: str, sources: Sequence[_Source]
) -> NewPart:
    """Write one merged part."""
    from wanllmdb._metrics import parts
    from wanllmdb._metrics.seal import Table

    columns = _united(sources, layout)
    order = sorted({pk for source in sources for pk in source.shares})
    schema = _schema(sources, columns)
    shares: list[RunShare] = []
    described = Table(layout, schema.empty_table(), columns)
    pieces = _buffered(_by_run(order, layout, sources, columns, schema, shares))
    target = compactor.root / _layout.PARTS / owner
    done = parts.write(pieces, described, target, compactor.root / _layout.TMP, owner)
    rows = sum(share.rows for share in shares)
    return NewPart(done.name, layout, rows, done.bytes, done.digest, shares, columns)


def _by_run(
    order: Iterable[int],
    layout: str,
    sources: Sequence[_Source],
    columns: Mapping[str, tuple[str, str]],
    schema: pa.Schema,
    shares: list[RunShare],
) -> Iterator[pa.Table]:
    """The rows of each run, from all sources; what is whose goes to `shares`."""
    import pyarrow as pa

    start = 0
    for pk in order:
        held = [source for source in sources if pk in source.shares]
        tables = [
            _as_schema(source.rows_of(pk), source.columns, columns, schema)
            for source in held
        ]
        if len(tables) == 1:
            share = held[0].shares[pk]
            share = replace(share, row_first=start)
            table = tables[0]
        else:
            table = pa.concat_tables(tables)
            by = [(n, "ascending") for n in ("_epoch", "_ts", "_stream", "_n")]
            if layout == "tall":
                by.insert(0, ("key", "ascending"))
            table = table.sort_by(by)
            share = share_of(_coded(table), layout, pk, start)
        start += share.rows
        shares.append(share)
        yield table


def _coded(table: pa.Table) -> pa.Table:
    at = table.column_names.index("_writer")
    return table.set_column(at, "_writer", table["_writer"].dictionary_encode())


def _buffered(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in pieces of whole row groups."""
    import pyarrow as pa

    from wanllmdb._metrics.parts import ROW_GROUP

    waiting: list[pa.Table] = []
    count = 0
    for table in tables:
        waiting.append(table)
        count += table.num_rows
        if count >= ROW_GROUP:
            whole = pa.concat_tables(waiting)
            full = count - count % ROW_GROUP
            yield whole.slice(0, full)
            waiting, count = [whole.slice(full)], count - full
    if count:
        yield pa.concat_tables(waiting)


def _united(sources: Sequence[_Source], layout: str) -> dict[str, tuple[str, str]]:
    """The columns of all sources, each key once with every type it has."""
    from wanllmdb._metrics.columns import column_names

    codes: dict[str, str] = {}
    for source in sources:
        for key, (_, held) in source.columns.items():
            known = codes.get(key, "")
            codes[key] = known + "".join(c for c in held if c not in known)
    own = column_names(codes) if layout in ("wide", "system") else {}
    return {key: (own.get(key, key), held) for key, held in codes.items()}


def _schema(
    sources: Sequence[_Source], columns: Mapping[str, tuple[str, str]]
) -> pa.Schema:
    import pyarrow as pa
    import pyarrow.parquet as pq

    fields: dict[str, pa.Field] = {}
    for source in sources:
        schema = (
            source.table.schema if source.table is not None
            else pq.read_schema(source.path)
        )  # fmt: skip
        names = _renamed(source.columns, columns)
        for field in schema:
            name = names.get(field.name, field.name)
            plain = field.type
            if pa.types.is_dictionary(plain):
                plain = pa.string()
            fields.setdefault(name, pa.field(name, plain))
    return pa.schema(list(fields.values()))


def _renamed(
    old: Mapping[str, tuple[str, str]], new: Mapping[str, tuple[str, str]]
) -> dict[str, str]:
    from wanllmdb._metrics.columns import SUFFIXES

    return {
        old[key][0] + SUFFIXES[code]: new[key][0] + SUFFIXES[code]
        for key in old
        for code in old[key][1]
        if code in SUFFIXES
    }


def _as_schema(
    table: pa.Table,
    old: Mapping[str, tuple[str, str]],
    new: Mapping[str, tuple[str, str]],
    schema: pa.Schema,
) -> pa.Table:
    import pyarrow as pa

    names = _renamed(old, new)
    table = table.rename_columns([names.get(n, n) for n in table.column_names])
    held = set(table.column_names)
    return pa.table(
        [
            table[field.name].cast(field.type) if field.name in held
            else pa.nulls(table.num_rows, field.type)
            for field in schema
        ],
        schema=schema,
    )  # fmt: skip


def _put(
    catalog: Database,
    target: Path,
    project: str,
    new: Sequence[NewPart],
    old: Sequence[PartFacts],
    inline: _Inline,
) -> None:
    """Make the merged parts visible in place of what they hold, if it still stands."""
    try:
        with catalog.transaction(durable=True) as connection:
            for pk, rowids in inline.runs.items():
                now = tuple(k.rowid for k in sealed.read(connection, pk).inline)
                if now not in (rowids, ()):
                    raise Moved
            for part in new:
                alive = [s for s in part.shares if runs.exists(connection, s.run)]
                if alive:
                    sealed.add_part(connection, project, replace(part, shares=alive))
            sealed.retire_parts(connection, [fact.part for fact in old])
            sealed.drop_inline(connection, inline.runs)
    except BaseException:
        for part in new:
            (target / part.name).unlink(missing_ok=True)
        raise
