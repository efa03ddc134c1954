"""Pull: what others told a remote, taken over here.

Batches of each device are read in order, each whole or not at all: its rows are
checked and put in place, then ONE transaction merges its documents, and moves on.
What cannot be merged yet is looked at again by the next sync. A reader needs no right
to write at the remote.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence, Set
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from wanllmdb import _progress, _rowmove
from wanllmdb._catalog import documents, events, registers, remotes, runs
from wanllmdb._catalog.documents import aliases
from wanllmdb._catalog.documents.runs import branches, losing
from wanllmdb._catalog.remotes import Held, Place
from wanllmdb._remotes.port import MissingKeyError
from wanllmdb._rowintake import Intake, Prepared, add
from wanllmdb._rowsets import RowSet
from wanllmdb._segments import Moved
from wanllmdb._sync import keys
from wanllmdb._sync.batch import Batch, StoredSet, read
from wanllmdb._sync.choice import Choice
from wanllmdb._sync.peer import Peer
from wanllmdb._sync.push import digest_of
from wanllmdb.errors import (
    DigestMismatchError,
    MissingBlobError,
    RemoteError,
    StoreError,
    WanllmdbError,
)
from wanllmdb.types import RunRecord, RunRef, SyncReport

PAGE = 900
"""Batches of one device that are listed before the next device is looked for."""

TRIES = 5
"""How often a batch is begun anew because something here moved meanwhile."""


def pull(peer: Peer, choice: Choice, report: SyncReport) -> None:
    """Take over what others told a remote.

    Args:
        peer: The remote.
        choice: What of it; all, or what belongs to some runs, projects, artifacts.
        report: Told of what came, and what could not be taken over.

    Raises:
        RemoteError: it cannot be reached, or refuses.
    """
    reader = peer.store.catalog.reader
    if not choice.whole:
        _pull_some(peer, choice, report)
        return
    for device, seq in remotes.deferred(reader, peer.uid):
        _take(peer, device, seq, choice, report)
    heads = {device: None for device in devices(peer) if device != peer.device}
    moving = True
    while moving:  # one device's batch may wait for another's
        moving = False
        cursors = remotes.cursors(reader, peer.uid)
        for device in list(heads):
            seq = cursors.get(device, 0) + 1
            while (took := _take(peer, device, seq, choice, report)) is True:
                moving = True
                seq += 1
            if took is None:
                del heads[device]
    for device in heads:
        report.failed.append(
            f"device {device} knows of batches that are not here: they come later"
        )


def devices(peer: Peer) -> list[str]:
    """Every device that ever told this remote something."""
    found: dict[str, int] = {}
    after, skipped = "", True
    while skipped:
        skipped = False
        for listed in peer.remote.iter_keys(keys.LOG, after):
            parsed = keys.parse_batch(listed.key)
            if parsed is None:
                continue
            found[parsed[0]] = found.get(parsed[0], 0) + 1
            if found[parsed[0]] >= PAGE:  # its other pages tell of no other device
                after, skipped = f"{keys.LOG}{parsed[0]}0", True  # 0 sorts after /
                break
    return list(found)


def _pull_some(peer: Peer, choice: Choice, report: SyncReport) -> None:
    """Take over a part, without moving on: a whole pull reads it all again."""
    for device in devices(peer):
        if device == peer.device:
            continue
        seq = 1
        while _take(peer, device, seq, choice, report) is True:
            seq += 1


def _take(
    peer: Peer, device: str, seq: int, choice: Choice, report: SyncReport
) -> bool | None:
    """Take over one batch.

    Returns:
        True if it is done with; False if it waits for another device's; None if there
        is none.
    """
    try:
        batch = read(peer.remote, device, seq)
        if batch is None:
            return None
        if choice.whole and _lacks(peer, batch):
            return False
        _merge(peer, batch, choice, report)
    except (RemoteError, StoreError):
        raise
    except (WanllmdbError, Moved, *documents.MALFORMED) as error:
        report.failed.append(f"batch {seq} of device {device}: {error}")
        if choice.whole:
            # The next ones of the device may be whole.
            with peer.store.catalog.transaction(durable=True) as connection:
                remotes.set_deferred(connection, peer.uid, device, seq, str(error))
                _move_on(connection, peer.uid, device, seq)
    return True


def _lacks(peer: Peer, batch: Batch) -> bool:
    """Whether a batch was made with knowledge that is not here yet."""
    cursors = remotes.cursors(peer.store.catalog.reader, peer.uid)
    return any(
        cursors.get(device, 0) < seq
        for device, seq in batch.seen.items()
        if device != peer.device and device != batch.device
    )


def _merge(peer: Peer, batch: Batch, choice: Choice, report: SyncReport) -> None:
    store = peer.store
    chosen = [each for each in batch.documents if choice.takes(each)]
    told = {document["uid"] for document in chosen}
    target = store.tmp / f"pull-{os.urandom(8).hex()}"
    try:
        sets = []
        for each in batch.sets:
            runs_of = {span.run for span in each.ranges}
            if not choice.whole and not runs_of & told:
                continue
            try:
                sets.append(_fetched(peer, each, target, report))
            except MissingBlobError:
                if not _is_collected(peer, runs_of):
                    raise
                chosen = [each for each in chosen if each["uid"] not in runs_of]
        for attempt in range(TRIES):
            try:
                _merge_once(peer, batch, chosen, sets, choice, report)
                return
            except Moved:
                if attempt == TRIES - 1:
                    raise
    finally:
        shutil.rmtree(target, ignore_errors=True)


def _is_collected(peer: Peer, uids: Set[str]) -> bool:
    """Whether runs were removed for good since, and gc took their rows away."""
    from wanllmdb._sync.remote_gc import surveyed

    survey = surveyed(peer)
    return not any(survey.is_live("run", uid) for uid in uids)


def _fetched(
    peer: Peer, stored: StoredSet, target: Path, report: SyncReport
) -> tuple[StoredSet, RowSet]:
    target.mkdir(mode=0o700, exist_ok=True)
    files = []
    total = sum(part.size for part in stored.parts)
    with _progress.shown("fetching rows", total) as told:
        for part in stored.parts:
            path = target / part.name
            _download(peer, part.place, path)
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != part.sha256:
                raise DigestMismatchError(
                    f"{part.place.key} is not what it was: its bytes have changed.",
                    hint="`wanllmdb remote verify --level 2` tells what else has.",
                    key=part.place.key,
                )
            report.bytes_read += part.size
            told(part.size)
            files.append(part.at(target))
    return stored, RowSet(tuple(files), stored.ranges)


def _download(peer: Peer, place: Place, path: Path) -> None:
    try:
        with path.open("xb") as sink:
            peer.remote.download(place.key, sink, place.first, place.size)
    except MissingKeyError as error:
        raise MissingBlobError(
            f"{place.key} is missing at {peer.record.name}.",
            hint="`wanllmdb remote verify` tells what else is.", key=place.key,
        ) from error  # fmt: skip


def _merge_once(
    peer: Peer,
    batch: Batch,
    chosen: Sequence[documents.Documents],
    sets: Sequence[tuple[StoredSet, RowSet]],
    choice: Choice,
    report: SyncReport,
) -> None:
    store = peer.store
    intake = Intake(store.path, store.catalog, store.logs, store.sweeper)
    branched = _branched(peer, chosen)
    unwanted = _unwanted(peer, chosen, sets, choice)
    notices: list[str] = []
    with ExitStack() as held:
        moves = _prepared_moves(peer, intake, chosen, held)
        moving = {move.to.uid: move.pk for move in moves.values()}
        prepared = [
            held.enter_context(
                intake.check(
                    stored.project,
                    found,
                    branches=branched,
                    moving=moving,
                    unwanted=unwanted,
                )
            )
            for stored, found in sets
        ]

        def split(record: RunRecord, tokens: set[str], to: RunRecord) -> None:
            move = moves.get(record.uid)
            if move is None or tokens != move.tokens:
                raise Moved  # it was gone on with since
            _rowmove.apply(connection, move.prepared, record, tokens, to)

        with store.catalog.transaction(durable=True) as connection:
            with registers.merging(connection):
                context = documents.Merge(
                    connection, store.data, peer.uid, batch.device,
                    store.liveness.is_live, split,
                )  # fmt: skip
                _, pending = remotes.news(connection, peer.uid)
                waits = _merge_documents(context, batch, chosen, choice)
                for each in prepared:
                    waits += _add(connection, each)
            # Killed before they are made, sums are made by the next sync.
            later = [*waits, *("its sums are to be made" for _ in context.recount)]
            _note(connection, peer, batch, chosen, choice, later, notices)
            if choice.whole:
                _note_known(context, chosen, {*pending})
    report.notices += [*context.notices, *notices]
    report.failed += waits
    for document in chosen:
        report.count(report.pulled, document["entity"])
    report.rows_pulled += sum(
        span.rows - span.rows_before
        for _, each in sets
        for span in each.ranges
        if span.run not in unwanted
    )
    for uid in context.recount:
        recount(peer, uid)
    if context.recount and not waits:
        with store.catalog.transaction(durable=True) as connection:
            remotes.set_deferred(connection, peer.uid, batch.device, batch.seq, None)


def _branched(peer: Peer, chosen: Sequence[documents.Documents]) -> dict[str, RunRef]:
    """Streams that belong to a branch that lost: the run that they are part of here."""
    found: dict[str, RunRef] = {}
    for document in chosen:
        if document["entity"] == "run":
            found |= branches(peer.store.catalog.reader, document)
    return found


class _Move(NamedTuple):
    """Streams of a run here that become another's, with their rows written anew."""

    pk: int
    tokens: set[str]
    to: RunRef
    prepared: Prepared


def _prepared_moves(
    peer: Peer,
    intake: Intake,
    chosen: Sequence[documents.Documents],
    held: ExitStack,
) -> dict[str, _Move]:
    """The rows of what loses here, written anew as the run's that it becomes."""
    reader = peer.store.catalog.reader
    found = {}
    for document in chosen:
        lost = losing(reader, document) if document["entity"] == "run" else None
        if lost is not None:
            pk, tokens, ref = lost
            record = runs.read(reader, pk)
            if peer.store.liveness.is_live(record):
                continue  # it waits until that is over
            peer.store.compactor.seal(record)
            move = _rowmove.prepare(intake, record, tokens, ref)
            found[record.uid] = _Move(pk, tokens, ref, held.enter_context(move))
    return found


def _merge_documents(
    context: documents.Merge,
    batch: Batch,
    chosen: Sequence[documents.Documents],
    choice: Choice,
) -> list[str]:
    """Merge what a batch tells; what could not be, a line each."""
    waits = []
    for document in documents.in_order(chosen):
        try:
            documents.merge(context, document)
        except documents.Deferred as error:
            waits.append(str(error))
    told = {document["uid"] for document in chosen}
    for claim in batch.aliases:
        if not choice.whole and claim.artifact not in told | choice.artifacts:
            continue
        try:
            aliases.merge(context, claim)
        except documents.Deferred as error:
            waits.append(str(error))
    return waits


def _unwanted(
    peer: Peer,
    chosen: Sequence[documents.Documents],
    sets: Sequence[tuple[StoredSet, RowSet]],
    choice: Choice,
) -> set[str]:
    """Runs of which rows come along that are not to be here.

    They were removed for good, or a part is pulled that they do not belong to. What is
    packed together with their rows is taken all the same.
    """
    reader = peer.store.catalog.reader
    uids = {span.run for _, each in sets for span in each.ranges}
    unwanted = {uid for uid in uids if remotes.gone(reader, "run", uid) is not None}
    if not choice.whole:
        here = {uid for uid in uids if runs.find_uid(reader, uid) is not None}
        unwanted |= uids - here - {document["uid"] for document in chosen}
    return unwanted


def _add(connection: Any, prepared: Prepared) -> list[str]:
    """Make rows visible; what they wait for, where that cannot be done yet."""
    found = {uid: runs.find_uid(connection, uid) for uid in prepared.marks}
    lacking = sorted(uid for uid, pk in found.items() if pk is None)
    if lacking:
        return [f"rows of run {lacking[0]} came before the run"]
    add(connection, prepared, {uid: pk for uid, pk in found.items() if pk is not None})
    return []


def _note(
    connection: Any,
    peer: Peer,
    batch: Batch,
    chosen: Sequence[documents.Documents],
    choice: Choice,
    waits: Sequence[str],
    notices: list[str],
) -> None:
    """Note what the remote has, by a batch that was merged."""
    remotes.set_places(connection, peer.uid, batch.objects)
    remotes.set_digests(
        connection, peer.uid, [(d["entity"], d["uid"], digest_of(d)) for d in chosen]
    )
    remotes.set_rows(
        connection, peer.uid,
        {
            span.place: Held(span.end, span.rows)
            for each in batch.sets for span in each.ranges
        },
    )  # fmt: skip
    if not choice.whole:
        return
    remotes.add_events(connection, batch.device, batch.events)
    if not registers.absorb(connection, batch.hlc):
        notices.append(
            f"The clock of {batch.host} runs ahead by more than ten minutes: what is"
            " changed there wins until it is set right."
        )
    reason = "; ".join(waits) or None
    remotes.set_deferred(connection, peer.uid, batch.device, batch.seq, reason)
    _move_on(connection, peer.uid, batch.device, batch.seq)


def _note_known(
    context: documents.Merge,
    chosen: Sequence[documents.Documents],
    pending: set[tuple[str, str]],
) -> None:
    """What is here now as the remote has it, need not be looked at by a push.

    Args:
        context: The batch.
        chosen: What was merged.
        pending: What had changed here before.
    """
    for document in chosen:
        entity, uid = document["entity"], document["uid"]
        if (entity, uid) in pending or uid in context.recount:
            continue
        now = documents.read(context.reader, entity, uid)
        if now is not None and digest_of(now) == digest_of(document):
            remotes.set_known(context.connection, context.remote, entity, uid)


def _move_on(connection: Any, remote: str, device: str, seq: int) -> None:
    if remotes.cursors(connection, remote).get(device, 0) < seq:
        remotes.set_cursor(connection, remote, device, seq)


def recount(peer: Peer, uid: str) -> None:
    """Make a run's summary anew from its rows, where no laptop had all of them.

    What comes to the same is no news: two laptops would tell it each other for ever.
    """
    store = peer.store
    pk = runs.find_uid(store.catalog.reader, uid)
    if pk is None:
        return
    record = runs.read(store.catalog.reader, pk)
    numbers = store.numbers(record, store.logs.sums(record))
    with store.catalog.transaction(durable=True) as connection:
        reader = documents.Reader(connection, store.data, peer.uid, lambda _: {})
        before = documents.read(reader, "run", uid)
        with registers.merging(connection):
            store.write_numbers(connection, pk, numbers)
        if documents.read(reader, "run", uid) != before:
            events.touch_fields(connection, "run", uid, ["record"])
