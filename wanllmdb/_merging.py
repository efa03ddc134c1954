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
from typing import TYPE_CHECKING, Any
from zlib import crc32

from wanllmdb import _digest, _layout
from wanllmdb._catalog import overview, runs, sealed
from wanllmdb._catalog.connection import Database
from wanllmdb._catalog.sealed import NewPart, PartFacts, RunShare
from wanllmdb._compaction import layout_of, share_of, written_by
from wanllmdb._metrics import decode
from wanllmdb._segments import Moved
from wanllmdb._sweeping import Sweeper
from wanllmdb.errors import CorruptPartError
from wanllmdb.types import Kind, RunRef

if TYPE_CHECKING:
    import pyarrow as pa

    from wanllmdb._metrics.inline import PlainTable
    from wanllmdb._metrics.seal import Table

MERGED_BYTES = 64 << 20
"""A part of at least this size is not merged again."""

TARGET_BYTES = 128 << 20
"""Parts are merged into one of at most about this size."""

WAITING_PARTS = 200
WAITING_INLINE = 64 << 20
"""Parts of one run, or bytes of inline logs, at which a project is merged by itself."""

STRETCH_ROWS = 500_000
"""Rows of a source that are read at once."""

GROWTH = 4
"""A merged part is rewritten only with at least a quarter of its size of new ones."""


@dataclass(slots=True)
class _Source:
    """A sealed table: a part on the disk, or inline logs that were decoded."""

    columns: Mapping[str, tuple[str, str]]
    shares: dict[int, RunShare]
    path: Path | None = None
    table: pa.Table | None = None

    def rows_of(self, stretch: Sequence[int]) -> pa.Table:
        """The rows of runs that stand end to end."""
        from wanllmdb._metrics import parts

        first = self.shares[stretch[0]].row_first
        rows = self.shares[stretch[-1]].end - first
        if self.path is not None:
            return parts.read_table(self.path, first, rows)
        assert self.table is not None
        return self.table.slice(first, rows)


@dataclass(frozen=True, slots=True)
class _Inline:
    """Inline logs that are merged out: whose, and which rows of the Catalog."""

    runs: dict[int, set[int]]
    tables: list[tuple[Table, dict[int, RunShare]]]


def is_due(catalog: Database, project: str) -> bool:
    """Whether so much of a project waits that it should be merged."""
    uid = runs.project_uid(catalog.reader, project)
    parts, inline = sealed.waiting(catalog.reader, uid)
    return parts > WAITING_PARTS or inline >= WAITING_INLINE


def merge(sweeper: Sweeper, catalog: Database, project: str) -> bool:
    """Merge what of a project is small; False where there is nothing, or no turn.

    Args:
        sweeper: Gives turns, and removes drafts.
        catalog: Where the parts are listed.
        project: Its name.

    Raises:
        CorruptPartError: a part is damaged; nothing was changed.
    """
    try:
        return _merge(sweeper, catalog, project)
    except (Moved, FileNotFoundError):
        return False  # a run was resumed, or purged, meanwhile: another time


def _merge(sweeper: Sweeper, catalog: Database, project: str) -> bool:
    uid = runs.project_uid(catalog.reader, project)
    with sweeper.alone(uid) as mine:
        if not mine:
            return False
        sweeper.collect_drafts(uid, project)
        uids = sealed.uids(catalog.reader, uid)
        facts, shares = sealed.mergeable(catalog.reader, uid, MERGED_BYTES)
        held = sealed.parts_by_run(catalog.reader, uid)
        chosen = _chosen(facts, shares, held)
        inline = _decoded(catalog, uid, {fact.part for fact in chosen}, held)
        layouts = [fact.layout for fact in chosen]
        layouts += {table.layout for table, _ in inline.tables}
        # A part of which there is no other is not written again.
        chosen = [fact for fact in chosen if layouts.count(fact.layout) > 1]
        if not chosen and len(inline.runs) < 2:
            return False
        sources: dict[str, list[_Source]] = {}
        target = sweeper.root / _layout.PARTS / uid
        for fact in sorted(chosen, key=lambda fact: fact.part):  # as they were sealed
            own = {share.run: share for share in shares[fact.part]}
            columns = _columns(target, fact)
            sources.setdefault(fact.layout, []).append(
                _Source(columns, own, path=target / fact.name)
            )
        for table, own in inline.tables:
            sources.setdefault(table.layout, []).append(
                _Source(table.columns, own, table=table.arrow)
            )
        if any(
            pk not in uids
            for found in sources.values() for source in found for pk in source.shares
        ):  # fmt: skip
            raise Moved  # a run that began and ended since
        new = [
            _written(sweeper, uids, uid, layout, found)
            for layout, found in sources.items()
        ]
        _put(catalog, target, project, uids, new, chosen, inline)
    return True


def _chosen(
    facts: Sequence[PartFacts],
    shares: Mapping[int, list[RunShare]],
    held: Mapping[int, Mapping[int, str]],
) -> list[PartFacts]:
    """The parts to merge: small ones, and merged ones that are worth rewriting.

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
            if size + fact.bytes > TARGET_BYTES:
                break  # the others are the next merge's
            found.append(fact)
            size += fact.bytes
    while True:
        taken = {fact.part for fact in found}
        kept = [
            fact for fact in found
            if all(
                part in taken
                for share in shares[fact.part]
                for part, layout in held.get(share.run, {}).items()
                if layout == fact.layout
            )
        ]  # fmt: skip
        if len(kept) == len(found):
            return found
        found = kept


def _decoded(
    catalog: Database, project: str, taken: set[int], held: Mapping[int, Iterable[int]]
) -> _Inline:
    """The inline logs of runs whose every other part is merged, too, as tables."""
    from wanllmdb._metrics.inline import plain_tables
    from wanllmdb._metrics.seal import Batch

    reader = catalog.reader
    rows = [
        row for row in sealed.inline_rows(reader, project)
        if taken.issuperset(held.get(row.run, ()))
    ]  # fmt: skip
    found: dict[int, set[int]] = {}
    plain: list[int] = []
    batches: dict[str, Batch] = {}
    numbers: dict[str, int] = {}
    for row in rows:
        found.setdefault(row.run, set()).add(row.rowid)
        ref = RunRef(row.uid, row.run_id)
        numbers[row.uid] = row.run
        kind = Kind(row.kind)
        if row.plain and kind is Kind.METRICS:
            plain.append(row.run)
            continue
        mark = sealed.read(reader, row.run).mark(row.token, kind)
        data = sealed.inline_data(reader, row.rowid)
        if data is None or mark is None:
            raise Moved
        batch = batches.setdefault(layout_of(kind), Batch(layout_of(kind)))
        if crc32(data) != row.crc:
            raise CorruptPartError(
                f"The Catalog's copy of the log of run {ref.id} is damaged.",
                hint="Restore a backup.", run=ref.id,
            )  # fmt: skip
        decoded = decode.decode(data, row.token, 0, mark.identity)
        batch.add(ref, mark.identity, decoded, written_by(kind))
    tables = [
        (table, shares_in(table, numbers))
        for batch in batches.values()
        for table in batch.tables()
    ]
    logs = sorted(overview.plain_logs(reader, plain), key=lambda log: log.uid)
    tables += [(made.table, _plain_shares(made)) for made in plain_tables(logs)]
    return _Inline(found, tables)


def _plain_shares(plain: PlainTable) -> dict[int, RunShare]:
    from wanllmdb._metrics.arrow import numbers

    steps = numbers(plain.table.arrow["_step"])
    found, start = {}, 0
    for log in plain.logs:
        low, high = int(steps[start]), int(steps[start + log.rows - 1])
        found[log.pk] = RunShare(
            log.pk, start, log.rows, low, high, log.epoch, log.epoch, True
        )
        start += log.rows
    return found


def shares_in(made: Table, keys: Mapping[str, int]) -> dict[int, RunShare]:
    """Which rows of a table that is in order of runs are whose.

    Args:
        made: A sealed table.
        keys: The run's number in the Catalog by uid.
    """
    import numpy as np

    from wanllmdb._metrics.arrow import numbers

    table = made.arrow
    column = table["_uid"].combine_chunks()
    if not hasattr(column, "dictionary"):
        column = column.dictionary_encode()
    codes = numbers(column.indices)
    edges = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(codes)]
    names = column.dictionary.to_pylist()
    found = {}
    for first, end in pairwise(edges):
        pk = keys[names[codes[first]]]
        found[pk] = share_of(table.slice(first, end - first), pk, first, made.layout)
    return found


def _columns(target: Path, fact: PartFacts) -> dict[str, tuple[str, str]]:
    """The columns of a part whose every byte is what was sealed.

    Its pages have checksums, its description has none: merged, damage would get a
    digest of its own, and never be found.
    """
    from wanllmdb._metrics import parts

    path = target / fact.name
    if _digest.of_file(path) != fact.digest:
        raise CorruptPartError(
            f"{fact.name} is damaged.",
            hint="`wanllmdb store verify` sets it aside; a backup may have it whole.",
            part=fact.name,
        )
    return parts.described(path)


def _written(
    sweeper: Sweeper,
    uids: Mapping[int, str],
    owner: str,
    layout: str,
    sources: Sequence[_Source],
) -> NewPart:
    """Write one merged part."""
    from wanllmdb._metrics import parts
    from wanllmdb._metrics.seal import Table

    columns = _united(sources, layout)
    held = {pk for source in sources for pk in source.shares}
    order = sorted(held, key=lambda pk: uids[pk])
    schema = _schema(sources, columns)
    shares: list[RunShare] = []
    described = Table(layout, schema.empty_table(), columns)
    pieces = _buffered(_by_run(order, sources, described, shares))
    target = sweeper.root / _layout.PARTS / owner
    done = parts.write(pieces, described, target, sweeper.root / _layout.TMP, owner)
    rows = sum(share.rows for share in shares)
    return NewPart(done.name, layout, rows, done.bytes, done.digest, shares, columns)


def _by_run(
    order: Sequence[int],
    sources: Sequence[_Source],
    described: Table,
    shares: list[RunShare],
) -> Iterator[pa.Table]:
    """The rows of each run, from all sources; what is whose goes to `shares`.

    Runs that follow each other in one source, and are in no other, are taken at once.
    """
    import pyarrow as pa

    start = 0
    columns, schema = described.columns, described.arrow.schema
    holders: dict[int, list[_Source]] = {}
    for source in sources:
        for pk in source.shares:
            holders.setdefault(pk, []).append(source)
    for stretch in _stretches(order, holders):
        held = holders[stretch[0]]
        if len(held) == 1:
            table = held[0].rows_of(stretch)
            table = _as_schema(table, held[0].columns, columns, schema)
            for pk in stretch:
                share = replace(held[0].shares[pk], row_first=start)
                shares.append(share)
                start += share.rows
        else:
            (pk,) = stretch
            table = pa.concat_tables(
                _as_schema(source.rows_of(stretch), source.columns, columns, schema)
                for source in held
            )
            by = [(name, "ascending") for name in ("_epoch", "_ts", "_stream", "_n")]
            if described.layout == "tall":
                by.insert(0, ("key", "ascending"))
            table = table.sort_by(by)
            shares.append(share_of(_coded(table), pk, start, described.layout))
            start += table.num_rows
        yield table


def _stretches(
    order: Sequence[int], holders: Mapping[int, Sequence[_Source]]
) -> Iterator[list[int]]:
    """Runs whose rows stand end to end in the one source that holds them."""
    stretch: list[int] = []
    rows = 0
    for pk in order:
        if stretch and not (
            len(holders[pk]) == len(holders[stretch[-1]]) == 1
            and holders[pk][0] is holders[stretch[-1]][0]
            and holders[pk][0].shares[pk].row_first
            == holders[pk][0].shares[stretch[-1]].end
            and rows < STRETCH_ROWS
        ):
            yield stretch
            stretch, rows = [], 0
        stretch.append(pk)
        rows += holders[pk][0].shares[pk].rows
    if stretch:
        yield stretch


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


def _still_stands(
    connection: Any,
    project: str,
    alive: Mapping[int, str],
    uids: Mapping[int, str],
    new: Sequence[NewPart],
    old: Sequence[PartFacts],
    inline: _Inline,
) -> bool:
    """Whether what was read for a merge is all there is of its runs.

    Args:
        connection: Inside the transaction of the merge.
        project: The project's uid.
        alive: The runs there are now.
        uids: The runs there were when reading began.
        new: What was written.
        old: The parts that were read.
        inline: The inline logs that were read.
    """
    shares = [(share.run, part.layout) for part in new for share in part.shares]
    # A run that was purged may have left its number to another one.
    if any(alive.get(pk, uids[pk]) != uids[pk] for pk, _ in shares):
        return False
    # A run that went on may have further logs, though it is not ended now.
    for pk, held in inline.runs.items():
        if pk in alive and sealed.inline_rowids(connection, pk) != held:
            return False
    # A log that went on was sealed into a further part, which comes after.
    taken = {fact.part for fact in old}
    parts = sealed.parts_by_run(connection, project)
    return not any(
        part not in taken and held_in == layout
        for pk, layout in shares
        for part, held_in in parts.get(pk, {}).items()
    )


def _put(
    catalog: Database,
    target: Path,
    project: str,
    uids: Mapping[int, str],
    new: Sequence[NewPart],
    old: Sequence[PartFacts],
    inline: _Inline,
) -> None:
    """Make the merged parts visible in place of what they hold, if it still stands."""
    try:
        with catalog.transaction(durable=True) as connection:
            alive = sealed.uids(connection, target.name)
            if not _still_stands(
                connection, target.name, alive, uids, new, old, inline
            ):
                raise Moved
            for part in new:
                shares = [share for share in part.shares if share.run in alive]
                if shares:
                    sealed.add_part(connection, project, replace(part, shares=shares))
            sealed.retire_parts(connection, [fact.part for fact in old])
            sealed.drop_inline(connection, inline.runs)
    except BaseException:
        for part in new:
            (target / part.name).unlink(missing_ok=True)
        raise
