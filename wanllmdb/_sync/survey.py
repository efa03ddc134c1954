"""What a remote's batches say it holds, read from the remote alone.

Nothing of this Store's memory of the remote goes into it, so that it also finds what
that has wrong. In memory are names and digests, never whole documents.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from wanllmdb import _digest
from wanllmdb._catalog.remotes import Place
from wanllmdb._manifest import Manifest
from wanllmdb._manifest import decode as decode_manifest
from wanllmdb._remotes.port import Listed, MissingKeyError
from wanllmdb._sync import keys
from wanllmdb._sync.batch import LIMIT, Batch, StoredPart, StoredSet, read
from wanllmdb._sync.needs import sizes_of
from wanllmdb._sync.peer import Peer
from wanllmdb._sync.upload import THREADS
from wanllmdb.errors import IntegrityError, MissingBlobError

SERIES = {"version": "artifact", "model_version": "model"}
"""What is numbered, and the key of a document that names the series."""

_MANIFESTS_AT_ONCE = 4


class Said(NamedTuple):
    """What a device said last of a thing: whether it is gone, and its blobs' sizes."""

    gone: bool
    blobs: Mapping[str, int]


@dataclass(slots=True)
class Survey:
    """What all batches of a remote tell, together.

    Attributes:
        heads: The last batch of each device.
        places: Where each digest is said to lie.
        parts: The parts of each set, and the runs whose rows they hold.
        said: What each device said last of a thing, by (entity, uid).
        labels: What people call things, by uid.
        numbers: Uids that were told under (series, number).
        generations: Targets that were told of (artifact, alias's key, generation).
        forks: The forks of each run, by uid.
    """

    heads: dict[str, int] = field(default_factory=dict)
    places: dict[str, set[Place]] = field(default_factory=dict)
    parts: list[tuple[StoredPart, frozenset[str]]] = field(default_factory=list)
    said: dict[tuple[str, str], dict[str, Said]] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    numbers: dict[tuple[str, int], set[str]] = field(default_factory=dict)
    generations: set[tuple[str, str, int]] = field(default_factory=set)
    forks: dict[str, set[str]] = field(default_factory=dict)

    def add(self, batch: Batch) -> None:
        """Take in a batch."""
        for digest, place in batch.objects.items():
            self.places.setdefault(digest, set()).add(place)
        for stored in batch.sets:
            self._add_set(stored)
        for claim in batch.aliases:
            self.generations.add((claim.artifact, claim.key, claim.gen))
        for document in batch.documents:
            self._add_document(batch.device, document)

    def _add_set(self, stored: StoredSet) -> None:
        runs = frozenset(span.run for span in stored.ranges)
        self.parts += [(part, runs) for part in stored.parts]

    def _add_document(self, device: str, document: dict[str, Any]) -> None:
        entity, uid = document["entity"], document["uid"]
        gone = "gone" in document
        said = self.said.setdefault((entity, uid), {})
        said[device] = Said(gone, {} if gone else _blobs_named(document))
        if gone:
            return
        if entity in SERIES:
            place = (document[SERIES[entity]], document["number"])
            self.numbers.setdefault(place, set()).add(uid)
        if entity == "run" and document["parent"] is not None:
            self.forks.setdefault(document["parent"]["uid"], set()).add(uid)
        self.labels[uid] = self._label(document)

    def _label(self, document: dict[str, Any]) -> str:
        entity = document["entity"]
        if entity in SERIES:
            series = document[SERIES[entity]]
            return f"{self.labels.get(series, series)}:v{document['number']}"
        name = document["fields"].get("run_id" if entity == "run" else "name", {})
        return f"{entity} {name.get('v', document['uid'])}"

    def is_live(self, entity: str, uid: str) -> bool:
        """Whether some device has not removed a thing for good, or a fork of it.

        Each device's last word counts, for any of them may bring it back.
        """
        family, left = {uid}, [uid]
        while left:  # forks show rows of what they were made from
            one = left.pop()
            said = self.said.get((entity, one), {})
            if not said or any(not each.gone for each in said.values()):
                return True
            forks = self.forks.get(one, set()) - family if entity == "run" else set()
            family |= forks
            left += forks
        return False

    def wanted(self) -> Iterator[tuple[str, int, str]]:
        """(digest, its size or 0, of what) of blobs that live things name.

        What manifests name is not among them.
        """
        for (_, uid), said in self.said.items():
            for each in said.values():
                for digest, size in each.blobs.items():
                    yield digest, size, self.labels[uid]

    def spans(self) -> dict[str, dict[Place, str]]:
        """Every content that lies in an object, by the object's key and its place."""
        found: dict[str, dict[Place, str]] = {}
        for digest, places in self.places.items():
            for place in places:
                found.setdefault(place.key, {})[place] = digest
        for part, _ in self.parts:
            digest = f"{_digest.PREFIX}{part.sha256}"
            found.setdefault(part.place.key, {})[part.place] = digest
        return found

    def manifests(self) -> dict[str, str]:
        """Digest of the manifest of each live version, and what it is called."""
        found = {}
        for (entity, uid), said in self.said.items():
            if entity == "version":
                for each in said.values():
                    for digest in each.blobs:
                        found[digest] = self.labels[uid]
        return found


def _blobs_named(document: Mapping[str, Any]) -> dict[str, int]:
    if document["entity"] == "version":
        return {document["digest"]: 0}
    if document["entity"] == "run":
        files = {row[1]: row[2] for row in document["files"]}
        return {**{row[0]: 0 for row in document["blobs"]}, **files}
    return {}


def batches(peer: Peer, survey: Survey) -> Iterator[Batch | IntegrityError]:
    """Every batch of every device, in order; or what is wrong with one.

    Each device's are read until there is none, whatever the listing says, for that
    may be late; and as far as the listing says, if one is missing before.
    """
    listed: dict[str, int] = {}
    for found in peer.remote.iter_keys(keys.LOG):
        parsed = keys.parse_batch(found.key)
        if parsed is not None:
            listed[parsed[0]] = max(listed.get(parsed[0], 0), parsed[1])
    for device, last in listed.items():
        seq = 1
        while True:
            try:
                batch = read(peer.remote, device, seq)
            except IntegrityError as error:
                yield error
            else:
                if batch is None and seq >= last:
                    break
                yield _missing(device, seq) if batch is None else batch
            survey.heads[device] = seq
            seq += 1


def _missing(device: str, seq: int) -> IntegrityError:
    return IntegrityError(
        f"Batch {seq} of device {device} is missing, and later ones are there.",
        hint="Restore it from a backup of the remote; `wanllmdb remote gc` does"
        " nothing until then.",
        device=device, seq=seq,
    )  # fmt: skip


def objects(peer: Peer) -> dict[str, Listed]:
    """Every object of bytes that is listed, by its key."""
    return {
        found.key: found
        for prefix in (keys.BLOBS, keys.PACKS, keys.PARTS)
        for found in peer.remote.iter_keys(prefix)
    }


def read_manifest(peer: Peer, survey: Survey, digest: str) -> Manifest:
    """A version's manifest: this Store's, or the remote's.

    Raises:
        MissingBlobError: the remote has none.
        IntegrityError: it is damaged, or too large.
    """
    blobs = peer.store.blobs
    if blobs.path_of(digest).exists():
        return decode_manifest(blobs.get(digest))
    for place in survey.places.get(digest, ()):
        if place.size > LIMIT:
            raise IntegrityError(
                f"Manifest {digest} is larger than {LIMIT} bytes.",
                hint="Remove its version.", digest=digest,
            )  # fmt: skip
        try:
            data = peer.remote.get(place.key, place.first, place.size)
        except MissingKeyError:
            continue
        if _digest.of_bytes(data) == digest:
            return decode_manifest(data)
    raise MissingBlobError(
        f"Manifest {digest} is not whole at {peer.record.name}.",
        hint="`wanllmdb remote verify --heal` uploads it again, if it is here.",
        digest=digest,
    )


def entries(
    peer: Peer, survey: Survey, wanted: Iterable[str]
) -> Iterator[tuple[str, dict[str, int] | IntegrityError]]:
    """The blobs that manifests name, and their sizes; or what is wrong with one."""

    def one(digest: str) -> tuple[str, dict[str, int] | IntegrityError]:
        try:
            return digest, sizes_of(read_manifest(peer, survey, digest))
        except IntegrityError as error:
            return digest, error

    wanted = list(wanted)
    with ThreadPoolExecutor(_MANIFESTS_AT_ONCE) as pool:
        for start in range(0, len(wanted), THREADS):  # no more are held than these
            yield from pool.map(one, wanted[start : start + THREADS])
