"""Rows from elsewhere: checked, put in place, and made visible.

In two steps, as every write of parts: `check` leaves durable files that nothing names,
`add` names them in a transaction of the caller's. Killed between the two, they are
orphans like those of an interrupted compaction, and are found by their names.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wanllmdb import _digest, _files, _layout, _locks
from wanllmdb._catalog import projects, runs, sealed
from wanllmdb._catalog.connection import Database
from wanllmdb._catalog.sealed import NewPart, PartRows, RunShare, Sealed, Watermark
from wanllmdb._partcheck import (
    Checked,
    check_parts,
    check_ranges,
    described,
    distrusting,
    refusal,
)
from wanllmdb._rowdigest import RangeDigest, Reach, Stretch, reach, stretches
from wanllmdb._rowsets import Packer, PartFile, Place, RowRange, RowSet
from wanllmdb._runlog import RunLogs
from wanllmdb._segments import Moved, Segments, StoredStream, View
from wanllmdb._sweeping import Sweeper
from wanllmdb.errors import IntegrityError
from wanllmdb.types import INT64_MAX, RunRecord, RunRef, StreamIdentity

if TYPE_CHECKING:
    from types import TracebackType


@dataclass(slots=True)
class Prepared:
    """Parts that are in place, and that nothing names yet: a context to `add` in.

    On exit, what was not added, or whose transaction was rolled back, is removed.

    Attributes:
        project: The project's uid.
        parts: What is to be added; shares by the run's uid.
        marks: How far each stream is sealed then, by the run's uid.
        seen: What was sealed of each run when its rows were compared.
        kept: For a part that a run leaves, its number, and what takes its place.
    """

    project: str
    parts: list[tuple[NewPart, dict[str, RunShare]]]
    marks: dict[str, list[Watermark]]
    seen: dict[str, Sealed]
    _catalog: Database
    _target: Path
    _held: ExitStack
    kept: list[tuple[int, NewPart]] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        """Whether all of it is held already."""
        return not self.marks

    def __enter__(self) -> Prepared:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._held:
            named = sealed.part_names(self._catalog.reader, self.project)
            for part in [*(part for part, _ in self.parts), *(n for _, n in self.kept)]:
                if part.name not in named:
                    (self._target / part.name).unlink(missing_ok=True)


@dataclass(slots=True)
class _Taken:
    """What of an incoming stream is taken, and what stands before it here.

    Attributes:
        range: What comes in.
        first: The first item of it that is taken.
        own: Items of this Store's live log that go into the part, too.
        mark: How far the stream is sealed then.
        into: The run that they are part of here, where it is another one.
    """

    range: RowRange
    first: int
    own: list[Stretch]
    mark: Watermark
    into: RunRef | None


@dataclass(slots=True)
class Intake:
    """Takes rows from elsewhere into a Store.

    Args:
        root: The Store's directory.
        catalog: Its Catalog.
        logs: Its runs' logs.
        sweeper: Gives turns.
    """

    root: Path
    catalog: Database
    logs: RunLogs
    sweeper: Sweeper

    def check(
        self,
        project: str,
        incoming: RowSet,
        ids: Mapping[str, str] | None = None,
        branches: Mapping[str, RunRef] | None = None,
        moving: Mapping[str, int] | None = None,
        unwanted: Collection[str] = (),
    ) -> Prepared:
        """Look whether a set of parts is what it says, and put what is new in place.

        The files are read as if they came from an enemy, and are durable on return
        under ``parts/<project uid>/``. Ranges that are held already are left out; where
        some rows are new and others are not, the part is written anew with the new
        ones, after the others were compared.

        Args:
            project: The uid of the project of all its runs.
            incoming: Parts, whose files are the caller's and stay, on any filesystem;
                their SHA-256 has been compared.
            ids: The id that each run has here, by uid, where it may be another than
                elsewhere; default what the rows say.
            branches: The run that a stream is part of here, where that is another one
                than its rows say.
            moving: Runs, by uid, that get streams of another run before these rows are
                added, and the key of that one: what it has counts as theirs.
            unwanted: Runs, by uid, whose rows are checked and not taken.

        Returns:
            What `add` takes. It must be left, as a context, after the transaction.

        Raises:
            IntegrityError: the parts are not what is said of them, hold other rows than
                this Store has under the same name, or come after rows that it lacks.
        """
        check_ranges(incoming.ranges)
        owner = os.urandom(8).hex()
        held = ExitStack()
        with ExitStack() as undone:
            undone.push(held)
            held.enter_context(self.sweeper.alone(owner))
            paths = [self._linked(file, owner) for file in incoming.parts]
            for path in paths:
                held.callback(path.unlink, missing_ok=True)
            checked, ends = check_parts(paths, incoming.parts, incoming.ranges)
            segments = Segments(
                self.root / _layout.LIVE, self.root / _layout.PARTS, self.catalog
            )
            source = _Incoming(segments, checked, incoming.ranges, ends)
            source.verify()
            wanted = [found for found in source.ranges if found.run not in unwanted]
            prepared = self._prepared(
                project, owner, source, wanted, ids or {}, branches or {}, moving or {},
                held,
            )  # fmt: skip
            undone.pop_all()
        return prepared

    def _linked(self, file: PartFile, owner: str) -> Path:
        """A part under a name of ours, below ``tmp/``."""
        from wanllmdb._metrics import parts

        with distrusting(file.path.name), parts.reading(file.path):
            name = parts.name_of(file.path, owner)
        path = self.root / _layout.TMP / name
        try:
            path.hardlink_to(file.path)
        except OSError:  # another filesystem
            shutil.copyfile(file.path, path)
        return path

    def _prepared(
        self,
        project: str,
        owner: str,
        source: _Incoming,
        wanted: Sequence[RowRange],
        ids: Mapping[str, str],
        branches: Mapping[str, RunRef],
        moving: Mapping[str, int],
        held: ExitStack,
    ) -> Prepared:
        target = self.root / _layout.PARTS / project
        prepared = Prepared(project, [], {}, {}, self.catalog, target, held)
        with ExitStack() as undone:
            undone.push(prepared)
            taken = []
            for found in wanted:
                into = branches.get(found.token)
                uid = found.run if into is None else into.uid
                pk = runs.find_uid(self.catalog.reader, uid)
                pk = moving.get(uid) if pk is None else pk
                new = self._new(found, source, prepared, into, pk)
                if new is not None:
                    taken.append(new)
                    prepared.marks.setdefault(uid, []).append(new.mark)
            if taken:
                if not target.is_dir():
                    _files.make_private_dir(target)
                    _files.fsync_dir(target.parent)
                if source.is_taken_whole(taken, ids):
                    parts = [_placed(part, target) for part in source.parts]
                    _files.fsync_dir(target)
                else:
                    packer = Packer(target, self.root / _layout.TMP, owner)
                    parts = source.rewritten(taken, ids, packer)
                prepared.parts += [(new_part(part), part.shares) for part in parts]
            undone.pop_all()
        return prepared

    def _new(
        self,
        found: RowRange,
        source: _Incoming,
        prepared: Prepared,
        into: RunRef | None,
        pk: int | None,
    ) -> _Taken | None:
        """What of a range is not here; None where all of it is."""
        uid = found.run if into is None else into.uid
        here = _Here()
        if pk is not None:
            record = runs.read(self.catalog.reader, pk)
            here = self.logs.read(lambda view: _here(view, self.logs, record, found))
        prepared.seen.setdefault(uid, here.sealed)
        if here.reach.end >= found.end:
            return None
        if here.identity not in (None, found.identity):
            raise refusal(_named(found), "another writer wrote it here")
        if here.reach.end < found.first:
            raise IntegrityError(
                f"{_named(found)} is here up to {here.reach.end} only,"
                f" and what came goes on from {found.first}.",
                hint="Pull what comes before it first.", run=found.run,
            )  # fmt: skip
        if here.reach.end > found.first and here.digest != source.digest(
            found, here.reach.end
        ):
            raise refusal(_named(found), "there is other content here")
        directory = self.logs.directory(uid)
        if _locks.is_held(directory / f"{found.token}.lock"):
            raise refusal(_named(found), "it is being written here")
        seq, size = here.reach.live or here.place
        mark = Watermark(
            found.identity, found.kind, seq, size, source.ends[found.place]
        )
        return _Taken(found, here.reach.end, here.live, mark, into)


@dataclass(slots=True)
class _Here:
    """What this Store has of a stream that comes in.

    Attributes:
        sealed: What is sealed of its run.
        identity: Who wrote it; None where nothing of it is here.
        reach: How far it goes.
        place: Where its watermark stands.
        digest: Of what is here of the range that comes in.
        live: What of it is in no part, and not in the Catalog.
    """

    sealed: Sealed = field(default_factory=Sealed)
    identity: StreamIdentity | None = None
    reach: Reach = field(default_factory=lambda: Reach(0, 0, None))
    place: tuple[int, int] = (0, 0)
    digest: str = ""
    live: list[Stretch] = field(default_factory=list)


def _here(view: View, logs: RunLogs, record: RunRecord, found: RowRange) -> _Here:
    here = _Here(view.sealed(record.pk))
    for stored in view.streams(record.pk, record.uid, found.kind):
        if stored.token != found.token:
            continue
        here.identity = identity = logs.identity_of(record, stored)
        if identity is None:
            continue
        if stored.mark is not None:
            here.place = (stored.mark.seq, stored.mark.bytes)
        here.reach = reach(view, record.pk, stored, identity)
        overlaps = found.first < here.reach.end < found.end
        if not overlaps and here.reach.end in (here.reach.sealed, found.end):
            continue
        digest = RangeDigest(found.kind, identity)
        for stretch in stretches(view, record.pk, stored, identity):
            same = stretch.cut(found.first, found.end)
            if same is not None:
                digest.add(same)
            live = stretch.cut(here.reach.sealed, INT64_MAX)
            here.live += [] if live is None else [live]
        here.digest = digest.hex()
    return here


class _Incoming:
    """What comes in, read as if it were sealed here already."""

    def __init__(
        self,
        segments: Segments,
        parts: Sequence[Checked],
        ranges: Sequence[RowRange],
        ends: Mapping[Place, int],
    ) -> None:
        self.parts, self.ranges, self.ends = parts, ranges, ends
        self._marks = {
            found.place: Watermark(found.identity, found.kind, 0, 0, ends[found.place])
            for found in ranges
        }
        self._numbers = {uid: n for n, uid in enumerate({r.run: 0 for r in ranges})}
        held: dict[str, list[PartRows]] = {uid: [] for uid in self._numbers}
        for number, part in enumerate(parts):
            for uid, share in part.shares.items():
                held[uid].append(_part_rows(number, part, share))
        marks: dict[str, list[Watermark]] = {uid: [] for uid in self._numbers}
        for found in ranges:
            marks[found.run].append(self._marks[found.place])
        self._view = View(
            segments,
            {
                n: Sealed(tuple(marks[uid]), tuple(held[uid]))
                for uid, n in self._numbers.items()
            },
        )

    def items(self, found: RowRange) -> Iterator[Stretch]:
        """The items of one of the ranges."""
        stored = StoredStream(found.token, self._marks[found.place], ())
        return stretches(
            self._view, self._numbers[found.run], stored, found.identity, found.first,
            found.rows_before,
        )  # fmt: skip

    def digest(self, found: RowRange, end: int) -> str:
        """The digest of the first items of a range."""
        digest = RangeDigest(found.kind, found.identity)
        for stretch in self.items(found):
            wanted = stretch.cut(found.first, end)
            if wanted is not None:
                digest.add(wanted)
        return digest.hex()

    def verify(self) -> None:
        """Refuse content that is not what the ranges say.

        Raises:
            IntegrityError: it is other content.
        """
        for found in self.ranges:
            digest = RangeDigest(found.kind, found.identity)
            end = found.first
            with distrusting(_named(found)):
                for stretch in self.items(found):
                    _refuse_doubles(found, stretch)
                    digest.add(stretch)
                    end = stretch.end
            if end != found.end or digest.hex() != found.digest:
                raise refusal(_named(found), "its digest is another")

    def is_taken_whole(self, taken: Sequence[_Taken], ids: Mapping[str, str]) -> bool:
        """Whether the parts can stay as they are."""
        return (
            len(taken) == len(self.ranges)
            and all(not new.own and new.first == new.range.first for new in taken)
            and all(new.into is None for new in taken)
            and all(ids.get(u, i) == i for p in self.parts for u, i in p.ids.items())
        )

    def rewritten(
        self, taken: Sequence[_Taken], ids: Mapping[str, str], packer: Packer
    ) -> list[Checked]:
        """Other parts that hold only what is taken, and what of it is live here."""
        own = {uid: name for part in self.parts for uid, name in part.ids.items()}
        made: list[RowSet] = []
        for new in taken:
            found = new.range
            ref = new.into or RunRef(found.run, ids.get(found.run, own[found.run]))
            for stretch in new.own:
                packer.add(ref, found.kind, found.identity, stretch)
            for stretch in self.items(found):
                wanted = stretch.cut(new.first, INT64_MAX)
                if wanted is not None:
                    packer.add(ref, found.kind, found.identity, wanted)
                if packer.full:
                    made += packer.flush()
        made += packer.flush()
        return [
            described(file.path, file) for new_set in made for file in new_set.parts
        ]


def _refuse_doubles(found: RowRange, stretch: Stretch) -> None:
    """A row has one value of a key."""
    import numpy as np

    held: dict[str, list[Any]] = {}
    for block in stretch.blocks:
        for cells in block.cells:
            at = block.ordinals if cells.rows is None else block.ordinals[cells.rows]
            held.setdefault(cells.key, []).append(at)
    for ordinals in held.values():
        if len(ordinals) == 1:
            continue
        whole = np.concatenate(ordinals)
        if len(np.unique(whole)) < len(whole):
            raise refusal(_named(found), "a row has two values of one key")


def _part_rows(number: int, part: Checked, share: RunShare) -> PartRows:
    return PartRows(
        number, str(part.path), part.file.layout, share.row_first, share.rows,
        share.step_min, share.step_max, share.epoch_min, share.epoch_max, share.plain,
        part.file.rows, False,
    )  # fmt: skip


def _placed(part: Checked, target: Path) -> Checked:
    """Move a part to where it stays; durable once the directory is synced."""
    part.path.chmod(0o400)
    _files.fsync_file(part.path)
    path = target / part.path.name
    part.path.replace(path)
    return replace(part, path=path)


def new_part(part: Checked) -> NewPart:
    """A part that is in place, as the Catalog takes it; without shares."""
    digest = f"{_digest.PREFIX}{part.file.sha256}"
    return NewPart(
        part.path.name, part.file.layout, part.file.rows, part.file.size, digest, [],
        part.columns,
    )  # fmt: skip


def _named(found: RowRange) -> str:
    return f"Stream {found.token} ({found.kind}) of run {found.run}"


def add(connection: Any, prepared: Prepared, keys: Mapping[str, int]) -> None:
    """Make what was prepared visible.

    Args:
        connection: Inside a durable transaction, in which the runs are there.
        prepared: As `Intake.check` left it.
        keys: The number of each run in the Catalog, by uid.

    Raises:
        Moved: something of these streams was sealed since: check again.
    """
    if prepared.empty:
        return
    project = projects.name_of(connection, prepared.project)
    for uid, marks in prepared.marks.items():
        now, before = sealed.read(connection, keys[uid]), prepared.seen[uid]
        for mark in marks:
            token = mark.identity.token
            if now.mark(token, mark.kind) != before.mark(token, mark.kind):
                raise Moved
    add_parts(connection, project, prepared, keys)
    for uid, marks in prepared.marks.items():
        sealed.set_watermarks(connection, keys[uid], marks)


def add_parts(
    connection: Any, project: str, prepared: Prepared, keys: Mapping[str, int]
) -> None:
    """List parts in the Catalog, each run's share after what it has already."""
    owners = {keys[uid] for _, by_uid in prepared.parts for uid in by_uid}
    last = {
        pk: _greatest(part.step_max for part in sealed.read(connection, pk).parts)
        for pk in owners
    }
    for part, by_uid in prepared.parts:
        shares = []
        for uid, held in by_uid.items():
            share = replace(held, run=keys[uid])
            before_it, low = last[share.run], share.step_min
            after = before_it is None or low is None or low > before_it
            shares.append(replace(share, plain=share.plain and after))
            last[share.run] = _greatest([before_it, share.step_max])
        sealed.add_part(connection, project, replace(part, shares=shares))


def _greatest(steps: Iterable[int | None]) -> int | None:
    return max((step for step in steps if step is not None), default=None)
