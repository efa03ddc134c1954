"""Whole streams of a run become another run's, as two laptops may have to agree."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from wanllmdb import _layout
from wanllmdb._catalog import projects, runs, sealed
from wanllmdb._catalog.sealed import NewPart, PartRows, RunShare
from wanllmdb._metrics import parts
from wanllmdb._metrics.seal import Table
from wanllmdb._partcheck import described
from wanllmdb._rowdigest import stretches
from wanllmdb._rowintake import Intake, Prepared, add_parts, new_part
from wanllmdb._rowsets import Packer, RowSet
from wanllmdb._segments import Moved, StoredStream, View
from wanllmdb.errors import StateError
from wanllmdb.types import Kind, RunRecord, RunRef


def prepare(
    intake: Intake, record: RunRecord, tokens: Collection[str], to: RunRef
) -> Prepared:
    """Write a run's sealed rows anew, those of some streams as another run's.

    Logs in the Catalog stay as they are: nothing in them says whose they are.

    Args:
        intake: The Store.
        record: The run; all of its log is sealed.
        tokens: The streams to be moved.
        to: What the other run, of the same project, is or will be.

    Returns:
        What `apply` takes; it must be left, as a context, after the transaction.

    Raises:
        StateError: a part of the run's log is not sealed yet.
        CorruptPartError: a part of the run is damaged.
    """
    project = runs.project_uid(intake.catalog.reader, record.project)
    target = intake.root / _layout.PARTS / project
    held = ExitStack()
    with ExitStack() as undone:
        undone.push(held)
        owner = os.urandom(8).hex()
        held.enter_context(intake.sweeper.alone(owner))
        prepared = Prepared(project, [], {}, {}, intake.catalog, target, held)
        undone.push(prepared)

        def packed(view: View) -> list[RowSet]:
            packer = Packer(target, intake.root / _layout.TMP, owner)
            prepared.seen[record.uid] = view.sealed(record.pk)
            return _packed(view, record, tokens, to, packer)

        made_sets = intake.logs.read(packed)
        tmp = intake.root / _layout.TMP
        for held_in in prepared.seen[record.uid].parts:
            shares = sealed.shares_of(intake.catalog.reader, held_in.part)
            if len(shares) > 1:
                path = intake.root / _layout.PARTS / held_in.path
                new = _without(record.pk, path, held_in, shares, tmp, owner)
                prepared.kept.append((held_in.part, new))
        for made in made_sets:
            for file in made.parts:
                part = described(file.path, file)
                prepared.parts.append((new_part(part), part.shares))
        undone.pop_all()
    return prepared


def _without(
    pk: int,
    path: Path,
    part: PartRows,
    shares: Sequence[RunShare],
    tmp: Path,
    owner: str,
) -> NewPart:
    """Write a part anew without the rows of a run: they would show in SQL."""
    columns = parts.described(path)
    table = parts.read_table(path, 0, 0).combine_chunks()
    end = part.row_first + part.rows
    pieces = (
        parts.read_table(path, first, min(parts.ROW_GROUP, until - first))
        for start, until in ((0, part.row_first), (end, part.part_rows))
        for first in range(start, until, parts.ROW_GROUP)
    )
    made = Table(part.layout, table, columns)
    done = parts.write(pieces, made, path.parent, tmp, owner)
    kept = [
        replace(s, row_first=s.row_first - (part.rows if s.row_first >= end else 0))
        for s in shares
        if s.run != pk
    ]
    rows = part.part_rows - part.rows
    return NewPart(done.name, part.layout, rows, done.bytes, done.digest, kept, columns)


def _packed(
    view: View,
    record: RunRecord,
    tokens: Collection[str],
    to: RunRef,
    packer: Packer,
) -> list[RowSet]:
    made: list[RowSet] = []
    now = view.sealed(record.pk)
    for kind in Kind:
        if any(stored.paths for stored in view.streams(record.pk, record.uid, kind)):
            raise StateError(
                f"The log of run {record.path} is not sealed.",
                hint="Run `wanllmdb store compact` first.", run=record.path,
            )  # fmt: skip
    in_parts = view.of({record.pk: replace(now, inline=())})
    for mark in now.marks:
        own = RunRef(record.uid, record.run_id)
        ref = to if mark.identity.token in tokens else own
        stored = StoredStream(mark.identity.token, mark, ())
        for stretch in stretches(in_parts, record.pk, stored, mark.identity):
            if stretch.blocks or stretch.writes:
                packer.add(ref, mark.kind, mark.identity, stretch)
            if packer.full:
                made += packer.flush()
    made += packer.flush()
    return made


def apply(
    connection: Any,
    prepared: Prepared,
    record: RunRecord,
    tokens: Collection[str],
    to: RunRecord,
) -> None:
    """Hand the streams over.

    Args:
        connection: Inside a durable transaction, in which both runs are there.
        prepared: As `prepare` left it.
        record: The run that has them.
        tokens: As `prepare` got them.
        to: The run that gets them.

    Raises:
        Moved: something of the run was sealed or merged since: prepare again.
    """
    if sealed.read(connection, record.pk) != prepared.seen[record.uid]:
        raise Moved
    for part, new in prepared.kept:
        others = [s for s in sealed.shares_of(connection, part) if s.run != record.pk]
        runs_of = [(s.run, s.rows) for s in new.shares]
        if [(s.run, s.rows) for s in others] != runs_of:
            raise Moved
    sealed.drop_shares(connection, record.pk)
    sealed.move_streams(connection, record.pk, tokens, to.pk)
    project = projects.name_of(connection, prepared.project)
    for part, new in prepared.kept:
        sealed.swap_part(connection, part, new)
    add_parts(connection, project, prepared, {record.uid: record.pk, to.uid: to.pk})
    sealed.retire_empty(connection)
