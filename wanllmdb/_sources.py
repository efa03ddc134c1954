"""Where the rows of many runs lie, for SQL: files as they are, and the rest as tables.

A run whose rows are all sealed, and none of them replaced or hidden by another, is
read straight from its parts. So are, in bulk, the inline logs that are plain. All else
(live runs, forks, rewound runs, steps that went back) is merged in Python as `history`
does it, and handed over as tables of the same columns. Hence every source holds each
visible row once, already merged.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from wanllmdb import _voice
from wanllmdb._catalog import overview, runs
from wanllmdb._catalog.overview import PartLine, RunLine, Share
from wanllmdb._runlog import limits_of
from wanllmdb._segments import as_corrupt
from wanllmdb._store import Store
from wanllmdb.errors import CorruptPartError
from wanllmdb.types import Kind, PlainLog, RunRef

if TYPE_CHECKING:
    import sqlite3

    import pyarrow as pa

    from wanllmdb._metrics.seal import Batch

    Columns = Mapping[str, tuple[str, str]]

LAYOUTS = ("wide", "tall", "objects")

FEW_RUNS = 1000
"""Of no more runs than that the inline logs are looked up one by one."""

FEW_OF_MANY = 4
"""A part of at least so many times the rows that are wanted is not scanned for them."""

_HEADS = ("_uid", "_run", "_step", "_ts", "_writer")

NAMED = 5
"""Runs that a warning names."""


@dataclass(frozen=True, slots=True)
class Source:
    """Rows of one layout: a sealed part, or a table.

    Attributes:
        project: Whose they are.
        layout: ``wide``, ``tall`` or ``objects``.
        columns: Column name and type codes of each key.
        path: The file; None for a table.
        table: The table; None for a file.
        mixed: Whether the file holds rows of runs that must not be read from it.
    """

    project: str
    layout: str
    columns: Columns
    path: Path | None = None
    table: pa.Table | None = None
    mixed: bool = False


class Lost:
    """Rows that are left out, because the part that held them was set aside."""

    def __init__(self) -> None:
        self._runs: dict[str, dict[str, None]] = {}

    def add(self, part: str, run: str) -> None:
        """Note that a run, given by its path, has rows in such a part."""
        self._runs.setdefault(part, {})[run] = None

    def take(self, error: CorruptPartError, run: str) -> None:
        """Note what reading a run raised, if it is that; else raise it."""
        if not error.identity.get("set_aside"):
            raise error
        self.add(error.identity["part"], run)

    def warn(self) -> None:
        """Say what is left out, if anything is."""
        for part, held in self._runs.items():
            names = list(held)
            more = f" and {len(names) - NAMED} more" if names[NAMED:] else ""
            _voice.warn(
                f"{part} was damaged and set aside: rows of {', '.join(names[:NAMED])}"
                f"{more} are left out. It was put into the Store's trash/."
            )


@dataclass(slots=True)
class Sources:
    """What a query over runs reads.

    Attributes:
        runs: The runs, by key.
        items: Where their rows are.
        served: uids of the runs that are read from files.
        span: The least and the greatest step, where all rows are in columns of files:
            then no row needs to be read for it.
    """

    runs: list[RunLine]
    items: list[Source] = field(default_factory=list)
    served: set[str] = field(default_factory=set)
    span: tuple[int, int] | None = None


def gather(
    store: Store,
    lost: Lost,
    projects: Sequence[str] | None = None,
    chosen: Sequence[int] | None = None,
    keys: Sequence[str] | None = None,
) -> Sources:
    """The sources of the metrics of runs, as they stand at this moment.

    Args:
        store: The Store.
        lost: Gets what is left out.
        projects: Names; None for all.
        chosen: Keys of runs; None for all.
        keys: Metrics wanted; None for all. Sources may hold others too.

    Raises:
        CorruptPartError: a part that is needed is damaged, and not set aside yet.
        FileNotFoundError: what was live a moment ago was sealed and removed since.
    """
    store.seal_ended()  # once, instead of being merged by every query
    with overview.moment(store.catalog.reader) as reader, _unwatched():
        found = Sources(overview.runs(reader, projects, chosen))
        wanted = (
            None if projects is None and chosen is None else [r.pk for r in found.runs]
        )
        parts, held = _shares(found, reader, wanted, lost)
        few = [run.pk for run in found.runs] if len(found.runs) < FEW_RUNS else None
        logs = {log.pk: log for log in overview.plain_logs(reader, few)}
        rough = overview.logged(reader, Kind.METRICS, rough=True)
        inline = rough.union(logs)
        live = _live_uids(store)
        both = inline.intersection(held)
        merged: list[RunLine] = []
        plain: list[PlainLog] = []
        for run in found.runs:
            if run.uid in live or run.forked or run.pk in both or run.pk in rough:
                merged.append(run)
            elif run.pk in inline:
                if run.epoch == 1:
                    plain.append(logs[run.pk])
                else:
                    merged.append(run)
            elif _shows_whole(store, run, held.get(run.pk, ())):
                found.served.add(run.uid)
            else:
                merged.append(run)
        _add_files(found, store, parts, held, keys)
        if not merged and not plain and all(s.layout == "wide" for s in found.items):
            found.span = _span(held)
        _add_plain(found, plain, keys)
        _add_merged(found, store, merged, keys, lost)
    return found


@contextmanager
def _unwatched() -> Iterator[None]:
    """Without the garbage collector, which would go through ten thousand new rows."""
    watched = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if watched:
            gc.enable()


def _shares(
    found: Sources,
    reader: sqlite3.Connection,
    wanted: Sequence[int] | None,
    lost: Lost,
) -> tuple[dict[int, PartLine], dict[int, list[Share]]]:
    """The parts, and what of them is whose, but for those that were set aside."""
    parts = overview.parts(reader, LAYOUTS)
    paths = {run.pk: f"{run.project}/{run.run_id}" for run in found.runs}
    held: dict[int, list[Share]] = {}
    for share in overview.shares(reader, wanted):
        if share.part not in parts or share.run not in paths:
            continue
        part = parts[share.part]
        if part.quarantined:
            lost.add(part.path, paths[share.run])
        else:
            held.setdefault(share.run, []).append(share)
    return parts, held


def _span(held: Mapping[int, Sequence[Share]]) -> tuple[int, int] | None:
    shares = [share for shares in held.values() for share in shares]
    low = [share.step_min for share in shares if share.step_min is not None]
    high = [share.step_max for share in shares if share.step_max is not None]
    return (min(low), max(high)) if low and high else None


def _live_uids(store: Store) -> set[str]:
    """Runs that may have rows that are not sealed yet."""
    reader = store.catalog.reader
    found = set()
    for uid in os.listdir(store.path / "live"):  # noqa: PTH208 - names are enough
        pk = runs.find_uid(reader, uid)
        if pk is not None:
            view = store.logs.view()
            if any(s.paths for s in view.streams(pk, uid, Kind.METRICS)):
                found.add(uid)
    return found


def _shows_whole(store: Store, run: RunLine, shares: Sequence[Share]) -> bool:
    """Whether every row of a run's parts is visible, and replaces no other one."""
    if not all(share.plain for share in shares):
        return False
    if run.epoch == 1:
        return True
    limits = limits_of(runs.epochs(store.catalog.reader, run.pk))
    for share in shares:
        for epoch in range(share.epoch_min, share.epoch_max + 1):
            if epoch not in limits:  # it was reverted
                return False
            limit = limits[epoch]
            if limit is not None and limit < (share.step_max or 0):
                return False
    return True


def _add_files(
    found: Sources,
    store: Store,
    parts: Mapping[int, PartLine],
    held: Mapping[int, Sequence[Share]],
    keys: Sequence[str] | None,
) -> None:
    reader = store.catalog.reader
    served: dict[int, list[Share]] = {}
    for run in found.runs:
        if run.uid in found.served:
            for share in held.get(run.pk, ()):
                served.setdefault(share.part, []).append(share)
    holders = overview.part_runs(reader, served)
    for number in sorted(served):
        part, some = parts[number], served[number]
        path = store.parts / part.path
        columns: Columns = overview.part_keys(reader, number)
        if part.any_key:
            from wanllmdb._metrics import parts as files

            columns = files.described(path)
        if keys is not None:
            if set(columns).isdisjoint(keys):
                continue
            if FEW_OF_MANY * sum(share.rows for share in some) <= part.rows:
                found.items.append(_picked(part, path, some, columns, keys))
                continue
        rows, count = holders[number]
        mixed = count != len(some) or rows != part.rows
        found.items.append(
            Source(part.project, part.layout, columns, path=path, mixed=mixed)
        )


def _picked(
    part: PartLine,
    path: Path,
    shares: Iterable[Share],
    columns: Columns,
    keys: Sequence[str],
) -> Source:
    """The rows of few of the many runs of a part: where they are is known."""
    import pyarrow as pa

    from wanllmdb._metrics import parts as files

    columns = {key: columns[key] for key in keys if key in columns}
    wanted = None
    if part.layout == "wide":
        wanted = [*_HEADS, *files.value_columns(columns, keys)]
    places = sorted((share.row_first, share.rows) for share in shares)
    try:
        tables = [files.read_table(path, *place, wanted) for place in places]
    except FileNotFoundError as error:
        raise as_corrupt(error) from error
    return Source(part.project, part.layout, columns, table=pa.concat_tables(tables))


def _add_plain(
    found: Sources, chosen: Sequence[PlainLog], keys: Sequence[str] | None
) -> None:
    from wanllmdb._metrics.inline import plain_tables

    logs: dict[str, list[PlainLog]] = {}
    for log in chosen:
        logs.setdefault(log.project, []).append(log)
    for project, some in logs.items():
        for plain in plain_tables(some, keys):
            table = plain.table
            found.items.append(
                Source(project, table.layout, table.columns, table=table.arrow)
            )


def _add_merged(
    found: Sources,
    store: Store,
    chosen: Iterable[RunLine],
    keys: Sequence[str] | None,
    lost: Lost,
) -> None:
    from wanllmdb._metrics.seal import Batch

    batches: dict[str, Batch] = {}
    for run in chosen:
        batch = batches.setdefault(run.project, Batch("wide"))
        # As its history shows them.
        record = runs.read(store.catalog.reader, run.pk)
        try:
            scan = store.logs.scan(record, keys, resolved=False)
        except CorruptPartError as error:  # of its own, or of what it is a fork of
            lost.take(error, record.path)
            continue
        for writer, rows in scan.pieces():
            batch.add_rows(RunRef(run.uid, run.run_id), writer, rows)
    for project, batch in batches.items():
        for table in batch.tables():
            found.items.append(
                Source(project, table.layout, table.columns, table=table.arrow)
            )


def gather_all(
    store: Store, lost: Lost, projects: Sequence[str] | None = None
) -> tuple[Sources, pa.Table]:
    """The sources of every row of runs, hidden ones too; and which epochs show.

    Returns:
        Where the rows are, each once, under their own run; and a table of (uid, epoch,
        limit): rows of that epoch above the limit are superseded, and so are those of
        epochs that it lacks.
    """
    import pyarrow as pa

    from wanllmdb._metrics.seal import Batch

    limits: list[tuple[str, int, int | None]] = []
    store.seal_ended()
    with overview.moment(store.catalog.reader) as reader:
        found = Sources(overview.runs(reader, projects))
        chosen = None if projects is None else [run.pk for run in found.runs]
        parts, held = _shares(found, reader, chosen, lost)
        found.served = {run.uid for run in found.runs}
        _add_files(found, store, parts, held, None)
        inline = overview.logged(reader, Kind.METRICS)
        live = _live_uids(store)
        batches: dict[str, Batch] = {}
        for run in found.runs:
            shown = limits_of(runs.epochs(reader, run.pk))
            limits += [(run.uid, epoch, limit) for epoch, limit in shown.items()]
            if run.uid in live or run.pk in inline:
                batch = batches.setdefault(run.project, Batch("wide"))
                for identity, rows in store.logs.unsealed(run.pk, run.uid):
                    batch.add(RunRef(run.uid, run.run_id), identity, rows, "summary")
        for project, batch in batches.items():
            for table in batch.tables():
                found.items.append(
                    Source(project, table.layout, table.columns, table=table.arrow)
                )
    return found, pa.table({
        "uid": pa.array([row[0] for row in limits], pa.string()),
        "epoch": pa.array([row[1] for row in limits], pa.int64()),
        "last": pa.array([row[2] for row in limits], pa.int64()),
    })  # fmt: skip
