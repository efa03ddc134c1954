"""Push: what changed here, told to a remote.

The order of writes: bytes, claims, and the batch last, by exclusive create. Only then
does anything count for readers; what was interrupted before is garbage, or is gone on
with. What a remote is told once, it is not told again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from wanllmdb import _clock, _digest, _progress
from wanllmdb._catalog import documents, events, remotes, runs
from wanllmdb._catalog.documents import aliases, numbers
from wanllmdb._catalog.remotes import Held, Place, RowsHeld
from wanllmdb._rowsets import RowSet, outgoing
from wanllmdb._sync import keys
from wanllmdb._sync.batch import Batch, StoredSet, new_set, read
from wanllmdb._sync.choice import Choice
from wanllmdb._sync.claims import Wanted, claim_aliases, claim_numbers
from wanllmdb._sync.fetch import fetch_blobs
from wanllmdb._sync.needs import blobs_of
from wanllmdb._sync.peer import Peer
from wanllmdb._sync.tombstones import read_tombstone
from wanllmdb._sync.upload import PACKED_PART, Item, blob_item, upload
from wanllmdb.errors import IntegrityError, RemoteDeniedError, RemoteError
from wanllmdb.types import Kind, RunRecord, SyncReport

BATCH_BYTES = 64 << 20
"""Documents of about so many bytes are told in one batch: some 20,000 runs. Rows come
with the last batch of a push, so that one batch is whole, and several are only once
all of them are there."""

_SERIES = {"version": "artifact", "model_version": "model"}


@dataclass(slots=True)
class _Outgoing:
    """What one push is about.

    Attributes:
        upto: The last change that was looked at.
        documents: Of what the remote does not know so, in the order of merging.
        sets: Rows, by the project's uid.
        rows: How much of each stream the remote will have.
        aliases: Uids of the artifacts whose aliases may have moved.
    """

    upto: int = 0
    documents: list[documents.Documents] = field(default_factory=list)
    sets: list[tuple[str, RowSet]] = field(default_factory=list)
    rows: RowsHeld = field(default_factory=dict)
    aliases: list[str] = field(default_factory=list)


def push(peer: Peer, choice: Choice, report: SyncReport) -> None:
    """Tell a remote what changed here.

    Raises:
        RemoteDeniedError: it is another device's alone.
        RemoteError: it cannot be reached, or refuses.
    """
    settle(peer)
    with _drafts(peer.store.tmp) as target:
        found = _gathered(peer, choice, report, target)
        if not _is_anything(peer, found):
            if choice.whole:
                _note_seen(peer, found.upto)
            return
        _refuse_second_writer(peer)
        _forget_condemned(peer)
        sets = _sent(peer, found, report)
        _send(peer, choice, found, sets, report)


def waiting(peer: Peer, choice: Choice) -> dict[str, int]:
    """What a push would tell of, by kind; rows are not read."""
    counts: dict[str, int] = {}
    _, changed = _changed(peer)
    for entity, uid in changed:
        document = documents.read(_reader(peer, {}), entity, uid)
        chosen = document is not None and choice.takes(document)
        if document is not None and chosen and _is_new(peer, document):
            counts[entity] = counts.get(entity, 0) + 1
    return counts


@contextmanager
def _drafts(tmp: Path) -> Iterator[Path]:
    target = tmp / f"push-{os.urandom(8).hex()}"
    try:
        yield target
    finally:
        shutil.rmtree(target, ignore_errors=True)


# What is to be told


def _gathered(
    peer: Peer, choice: Choice, report: SyncReport, target: Path
) -> _Outgoing:
    upto, changed = _changed(peer)
    found = _Outgoing(upto)
    uids = [uid for entity, uid in changed if entity == "run"]
    _gather_rows(peer, choice, uids, found, report, target)
    reader = _reader(peer, found.rows)
    for entity, uid in changed:
        document = documents.read(reader, entity, uid)
        if document is None or not choice.takes(document):
            continue
        if entity == "artifact":
            found.aliases.append(uid)
        if _is_new(peer, document):
            found.documents.append(document)
    return found


def _changed(peer: Peer) -> tuple[int, list[tuple[str, str]]]:
    """Up to where changes were looked at, and what changed, in the order of merging."""
    reader = peer.store.catalog.reader
    upto, rows = remotes.news(reader, peer.uid)
    found = dict.fromkeys(rows)
    for record in runs.running(reader):  # their rows grow without a word
        found.setdefault(("run", record.uid))
    found |= {("model_aliases", uid): None for e, uid in found if e == "model"}
    order = {entity: place for place, entity in enumerate(documents.ENTITIES)}
    return upto, sorted(found, key=lambda each: order[each[0]])


def _reader(peer: Peer, more: RowsHeld) -> documents.Reader:
    """Reads documents as they will be once the remote has `more` rows."""
    connection = peer.store.catalog.reader
    by_run: dict[str, dict[tuple[str, Kind], Held]] = {}
    for (run, token, kind), held in more.items():
        by_run.setdefault(run, {})[token, kind] = held

    def rows(uid: str) -> Mapping[tuple[str, Kind], Held]:
        return {**remotes.rows_held(connection, peer.uid, uid), **by_run.get(uid, {})}

    return documents.Reader(connection, peer.store.data, peer.uid, rows)


def _is_new(peer: Peer, document: documents.Documents) -> bool:
    known = remotes.digest_of(
        peer.store.catalog.reader, peer.uid, document["entity"], document["uid"]
    )
    return known != digest_of(document)


def digest_of(document: documents.Documents) -> str:
    """The digest of a document, by which both sides know that they know the same."""
    return _digest.of_bytes(documents.text_of(document).encode())


def _gather_rows(
    peer: Peer,
    choice: Choice,
    uids: Iterable[str],
    found: _Outgoing,
    report: SyncReport,
    target: Path,
) -> None:
    reader = peer.store.catalog.reader
    by_project: dict[str, list[RunRecord]] = {}
    for uid in uids:
        pk = runs.find_uid(reader, uid)
        if pk is None:
            continue
        record = runs.read(reader, pk)
        project = runs.project_uid(reader, record.project)
        if _takes(choice, record, project):
            by_project.setdefault(project, []).append(record)
    for project, records in by_project.items():
        held = {
            (record.uid, token, kind): count.items
            for record in records
            for (token, kind), count in remotes.rows_held(
                reader, peer.uid, record.uid
            ).items()
        }
        try:
            for each in outgoing(peer.store.logs, project, records, held, target):
                found.sets.append((project, each))
                for span in each.ranges:
                    found.rows[span.place] = Held(span.end, span.rows)
        except IntegrityError as error:
            names = ", ".join(record.run_id for record in records[:3])
            report.failed.append(f"rows of {names}: {error}")


def _takes(choice: Choice, record: RunRecord, project: str) -> bool:
    return choice.takes({
        "entity": "run", "uid": record.uid, "project": project,
        "fields": {"record": {"v": {"started_us": record.started_us}}},
    })  # fmt: skip


def _is_anything(peer: Peer, found: _Outgoing) -> bool:
    if found.documents or found.sets:
        return True
    reader = peer.store.catalog.reader
    return any(aliases.outgoing(reader, peer.uid, uid) for uid in found.aliases)


def _note_seen(peer: Peer, upto: int) -> None:
    state = remotes.state(peer.store.catalog.reader, peer.uid)
    if upto != state.change_id:
        with peer.store.catalog.transaction(durable=False) as connection:
            remotes.set_state(connection, peer.uid, state._replace(change_id=upto))


def _refuse_second_writer(peer: Peer) -> None:
    if not peer.record.single_writer:
        return
    others = {
        parsed[0]
        for listed in peer.remote.iter_keys(keys.LOG)
        if (parsed := keys.parse_batch(listed.key)) and parsed[0] != peer.device
    }
    if others:
        raise RemoteDeniedError(
            f"{peer.record.name} is for a single writer, and device {sorted(others)[0]}"
            " writes there.",
            hint="Its server does not create objects exclusively, so that two writers"
            " could overwrite each other: pull from it, and push to another remote.",
            remote=peer.record.name,
        )


def _forget_condemned(peer: Peer) -> None:
    """What a gc is about to delete, or has deleted, is uploaded anew if needed."""
    for listed in peer.remote.iter_keys(keys.GC):
        if listed.key == keys.GC_DONE:
            _forget_deleted(peer)
        elif (tombstone := read_tombstone(peer, listed)) is not None:
            with peer.store.catalog.transaction(durable=True) as connection:
                remotes.forget_keys(connection, peer.uid, tombstone.condemned)


def _forget_deleted(peer: Peer) -> None:
    """After a gc that deleted something, ask once what is left."""
    nonce = hashlib.sha256(peer.remote.get(keys.GC_DONE, 0, 4096)).hexdigest()
    reader = peer.store.catalog.reader
    if remotes.gc_seen(reader, peer.uid) == nonce:
        return
    left = {
        found.key
        for prefix in (keys.BLOBS, keys.PACKS, keys.PARTS)
        for found in peer.remote.iter_keys(prefix)
    }
    known = remotes.keys_known(reader, peer.uid)
    with peer.store.catalog.transaction(durable=True) as connection:
        remotes.forget_keys(connection, peer.uid, known - left)
        remotes.set_gc_seen(connection, peer.uid, nonce)


# Bytes


def _sent(peer: Peer, found: _Outgoing, report: SyncReport) -> list[StoredSet]:
    """Bring blobs and rows to the remote; documents that lack blobs are left out.

    Returns:
        The sets of rows, with where they lie.
    """
    _bring(peer, found.documents, report)
    needs = list(_needs(peer, found.documents, report))
    items = [*_blob_items(peer, needs), *_part_items(found)]
    with _progress.shown("uploading", sum(item.size for item in items)) as told:
        places = upload(peer, items, report, told)
    found.documents = []
    for document, lacking in needs:
        missing = lacking - places.keys()
        if missing:
            report.failed.append(
                f"{document['entity']} {document['uid']} lacks the bytes of"
                f" {len(missing)} blobs: {min(missing)}"
            )
        else:
            found.documents.append(document)
    spans = [span for _, each in found.sets for span in each.ranges]
    report.rows_pushed += sum(span.rows - span.rows_before for span in spans)
    return [new_set(project, each, places) for project, each in found.sets]


def _bring(peer: Peer, told: Sequence[documents.Documents], report: SyncReport) -> None:
    """Fetch what is not here because it was pulled from another remote, unused."""
    if len(remotes.listed(peer.store.catalog.reader)) < 2:
        return
    unheard = SyncReport(peer.record.name)  # what is damaged is told once, below
    for _ in ("manifests", "what they name"):
        lacking = {d for _, found in _needs(peer, told, unheard) for d in found}
        try:
            fetch_blobs(peer.store, lacking)
        except (RemoteError, IntegrityError) as error:
            report.failed.append(str(error))
            return


def _needs(
    peer: Peer, told: Iterable[documents.Documents], report: SyncReport
) -> Iterator[tuple[documents.Documents, set[str]]]:
    """Each document, and the blobs it needs that the remote lacks."""
    reader = peer.store.catalog.reader
    for document in told:
        try:
            digests = blobs_of(peer.store, document)
        except IntegrityError as error:
            report.failed.append(str(error))
            continue
        yield (
            document,
            {d for d in digests if remotes.place_of(reader, peer.uid, d) is None},
        )


def _blob_items(
    peer: Peer, needs: Iterable[tuple[documents.Documents, set[str]]]
) -> list[Item]:
    blobs = peer.store.blobs
    wanted = {digest for _, lacking in needs for digest in lacking}
    return [
        blob_item(digest, path.stat().st_size, path)
        for digest in wanted
        if (path := blobs.path_of(digest)).exists()
    ]


def _part_items(found: _Outgoing) -> Iterator[Item]:
    for project, each in found.sets:
        for part in each.parts:
            key = keys.part(project, f"{part.sha256}.parquet")
            digest = f"{_digest.PREFIX}{part.sha256}"
            yield Item(digest, part.size, key, PACKED_PART, part.path)


# Claims, and the batch


def _send(
    peer: Peer,
    choice: Choice,
    found: _Outgoing,
    sets: Sequence[StoredSet],
    report: SyncReport,
) -> None:
    seq = remotes.state(peer.store.catalog.reader, peer.uid).seq + 1
    if _number(peer, found, seq, report):
        reader = _reader(peer, found.rows)
        found.documents = [
            documents.read(reader, each["entity"], each["uid"]) or each
            for each in found.documents
        ]
    claims = _aliases_claimed(peer, found, seq, report)
    chunks = list(_chunks(found.documents)) or [[]]
    for place, chunk in enumerate(chunks):
        last = place == len(chunks) - 1
        _write_batch(
            peer, found, chunk, sets if last else (), claims if last else (), report,
            whole=last and choice.whole,
        )  # fmt: skip


def _number(peer: Peer, found: _Outgoing, seq: int, report: SyncReport) -> bool:
    """Get numbers for new versions; whether any of them is another one now."""
    reader = peer.store.catalog.reader
    new = [
        document for document in found.documents
        if document["entity"] in _SERIES and "gone" not in document
        and not numbers.claimed(reader, document["entity"], peer.uid, document["uid"])
    ]  # fmt: skip
    wanted = sorted(
        (
            Wanted(
                d[_SERIES[d["entity"]]], d["uid"], d["number"],
                numbers.stands(reader, d["entity"], d["uid"]),
            )
            for d in new
        ),
        key=lambda each: (each.series, each.number),
    )  # fmt: skip
    given = claim_numbers(peer, wanted, seq, report)
    _leave_out(found, [d for d in new if d["uid"] not in given], report)
    new = [d for d in new if d["uid"] in given]
    if all(given[d["uid"]] == d["number"] for d in new):
        return False
    after = remotes.state(reader, peer.uid).event_id
    with peer.store.catalog.transaction(durable=True) as connection:
        for entity in _SERIES:
            report.notices += numbers.take(
                connection, entity,
                {d["uid"]: given[d["uid"]] for d in new if d["entity"] == entity},
                after,
            )  # fmt: skip
    return True


def _leave_out(
    found: _Outgoing, refused: Sequence[documents.Documents], report: SyncReport
) -> None:
    """Versions that have one number at another remote, and cannot have it at this."""
    for document in refused:
        found.documents.remove(document)
        report.failed.append(
            f"{document['entity']} {document['uid']} is v{document['number']} elsewhere"
            f" for good, and {report.remote} has another v{document['number']}"
        )


def _aliases_claimed(
    peer: Peer, found: _Outgoing, seq: int, report: SyncReport
) -> list[aliases.Claim]:
    reader = peer.store.catalog.reader
    told = {d["uid"] for d in found.documents if d["entity"] == "version"}
    wanted = []
    for uid in found.aliases:
        for claim in aliases.outgoing(reader, peer.uid, uid):
            known = claim.target is None or claim.target in told
            if known or numbers.claimed(
                reader, "version", peer.uid, claim.target or ""
            ):
                wanted.append(claim)
    return claim_aliases(peer, wanted, seq, report)


def _chunks(
    found: Sequence[documents.Documents],
) -> Iterator[list[documents.Documents]]:
    chunk: list[documents.Documents] = []
    size = 0
    for document in found:
        size += len(documents.text_of(document))
        chunk.append(document)
        if size >= BATCH_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _write_batch(
    peer: Peer,
    found: _Outgoing,
    chunk: Sequence[documents.Documents],
    sets: Sequence[StoredSet],
    claims: Sequence[aliases.Claim],
    report: SyncReport,
    *,
    whole: bool,
) -> None:
    reader = peer.store.catalog.reader
    state = remotes.state(reader, peer.uid)
    told = remotes.events_after(reader, state.event_id) if whole else []
    batch = Batch(
        state.device, state.seq + 1, os.urandom(16).hex(), remotes.clock(reader),
        _clock.now_us(), events.host_name(), remotes.cursors(reader, peer.uid),
        chunk, sets, claims, told, _new_places(peer, chunk),
    )  # fmt: skip
    batch = _created(peer, batch, report)
    upto = found.upto if whole and not report.failed else None
    with peer.store.catalog.transaction(durable=True) as connection:
        note_told(connection, peer.uid, batch, upto)
    for document in chunk:
        report.count(report.pushed, document["entity"])


def _created(peer: Peer, batch: Batch, report: SyncReport) -> Batch:
    """Write a batch; as it was written, under another device if need be."""
    while True:
        state = remotes.state(peer.store.catalog.reader, peer.uid)
        with peer.store.catalog.transaction(durable=True) as connection:
            remotes.set_state(connection, peer.uid, state._replace(nonce=batch.nonce))
        data = batch.encode()
        if peer.remote.create(keys.batch(batch.device, batch.seq), data):
            report.objects_written += 1
            report.bytes_written += len(data)
            return batch
        with peer.store.catalog.transaction(durable=True) as connection:
            remotes.renew_device(connection)
        reader = peer.store.catalog.reader
        state = remotes.state(reader, peer.uid)
        batch = replace(
            batch, device=state.device, seq=state.seq + 1,
            seen=remotes.cursors(reader, peer.uid),
        )  # fmt: skip
        report.notices.append(
            "This Store is a copy of one that syncs, too: it is another device now."
        )


def note_told(
    connection: Any, remote: str, batch: Batch, upto: int | None = None
) -> None:
    """Note what a remote knows by a batch of this Store's.

    Args:
        connection: The transaction.
        remote: Its uid.
        batch: What it was told.
        upto: Up to which change that is all there was to tell; None: not known.
    """
    state = remotes.state(connection, remote)
    remotes.set_digests(
        connection, remote,
        [(d["entity"], d["uid"], digest_of(d)) for d in batch.documents],
    )  # fmt: skip
    spans = [span for each in batch.sets for span in each.ranges]
    rows = {span.place: Held(span.end, span.rows) for span in spans}
    remotes.set_rows(connection, remote, rows)
    remotes.set_places(connection, remote, batch.objects)
    for claim in batch.aliases:
        remotes.set_alias(
            connection, remote, claim.artifact, claim.key, claim.gen, claim.target
        )
    remotes.set_state(
        connection, remote,
        state._replace(
            seq=batch.seq, nonce=None,
            change_id=state.change_id if upto is None else upto,
            event_id=batch.events[-1][0] if batch.events else state.event_id,
        ),
    )  # fmt: skip


def settle(peer: Peer) -> None:
    """Find out what became of a batch that a killed push was writing."""
    state = remotes.state(peer.store.catalog.reader, peer.uid)
    if state.nonce is None:
        return
    try:
        batch = read(peer.remote, state.device, state.seq + 1)
    except IntegrityError:
        return  # not ours: the next batch will find its number taken
    if batch is not None and batch.nonce == state.nonce:
        with peer.store.catalog.transaction(durable=True) as connection:
            note_told(connection, peer.uid, batch)


def _new_places(peer: Peer, chunk: Sequence[documents.Documents]) -> dict[str, Place]:
    """Where the blobs lie that these documents need."""
    reader = peer.store.catalog.reader
    found = {}
    for document in chunk:
        if numbers.claimed(reader, "version", peer.uid, document["uid"]):
            continue  # its content was told of, and does not change
        for digest in blobs_of(peer.store, document):
            place = remotes.place_of(reader, peer.uid, digest)
            if place is not None:
                found[digest] = place
    return found
