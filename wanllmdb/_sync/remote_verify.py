"""Whether a remote holds what its batches say, and whether that is whole.

Level 1 asks for listings, batches, claims and the manifests that are not here; level 2
reads every object, or some at random. Nothing is changed, unless it is to be healed.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from wanllmdb import _clock, _digest, _progress
from wanllmdb._catalog.remotes import Place
from wanllmdb._remotes.port import Listed, MissingKeyError
from wanllmdb._store import Store, operation
from wanllmdb._sync import heal, keys
from wanllmdb._sync.claims import ABANDONED_US
from wanllmdb._sync.peer import Peer
from wanllmdb._sync.survey import Survey, batches, entries, objects
from wanllmdb._sync.upload import PACK_BYTES, THREADS
from wanllmdb.errors import IntegrityError
from wanllmdb.types import RemoteRecord

SPANS_AT_ONCE = 4
"""Packs that are in memory at once, of at most `PACK_BYTES` each."""


@dataclass(slots=True)
class Problem:
    """Something that is wrong at a remote.

    Attributes:
        key: The object.
        problem: What is wrong with it.
        of: What it belongs to, as people call it; "" where that is not known.
        digests: The contents that are lost with it, as far as that is known.
        healed: Whether it was uploaded again.
    """

    key: str
    problem: str
    of: str = ""
    digests: frozenset[str] = frozenset()
    healed: bool = False


@dataclass(slots=True)
class Verified:
    """What a look at a remote found.

    Attributes:
        batches: Batches that were read.
        objects: Objects that its batches need.
        bytes: Their sizes, together.
        read: Objects that were read whole.
        problems: What is wrong.
    """

    batches: int = 0
    objects: int = 0
    bytes: int = 0
    read: int = 0
    problems: list[Problem] = field(default_factory=list)


@dataclass(slots=True)
class Need:
    """An object that batches need.

    Attributes:
        spans: The contents in it, by their place.
        of: What needs it.
    """

    spans: dict[Place, str] = field(default_factory=dict)
    of: str = ""

    @property
    def end(self) -> int:
        """Bytes that it must have, at least."""
        return max(place.first + place.size for place in self.spans)


@operation("remote verify")
def verify(
    store: Store,
    record: RemoteRecord,
    *,
    level: int = 1,
    sample: Callable[[int], int] | None = None,
    mend: bool = False,
) -> Verified:
    """See whether a remote holds what its batches say.

    Args:
        store: A Store that knows it.
        record: The remote.
        level: 1: that every object is listed with the right size. 2: its bytes, too.
        sample: Of level 2: how many of so many objects are read, at random; default
            all.
        mend: Upload what is lost or damaged there and whole here, under the same key.

    Raises:
        IntegrityError: it is another remote than it was, or none of ours.
        RemoteError: it cannot be reached, or refuses.
    """
    peer, done = Peer(store, record), Verified()
    with closing(peer.remote):
        peer.check()
        listed = objects(peer)
        survey = Survey()
        done.problems += _read_batches(peer, survey, done)
        needs = _needs(peer, survey, done)
        done.objects = len(needs)
        done.bytes = sum(listed[key].size for key in needs if key in listed)
        done.problems += _lacking(needs, listed)
        done.problems += _claims(peer, survey)
        if level == 2:
            wrong = {problem.key for problem in done.problems}
            whole = sorted(needs.keys() - wrong)
            if sample is not None:
                whole = sorted(random.sample(whole, sample(len(whole))))
            done.read = len(whole)
            done.problems += _damaged(peer, {k: needs[k] for k in whole}, listed)
        if mend:
            spans = survey.spans()
            for problem in done.problems:
                if problem.key in needs:
                    problem.healed = heal.heal(peer, problem.key, spans[problem.key])
    return done


def _read_batches(peer: Peer, survey: Survey, done: Verified) -> Iterator[Problem]:
    for batch in batches(peer, survey):
        if isinstance(batch, IntegrityError):
            device, seq = batch.identity["device"], batch.identity["seq"]
            yield Problem(keys.batch(device, seq), batch.message)
        else:
            survey.add(batch)
            done.batches += 1


# Objects


def _needs(peer: Peer, survey: Survey, done: Verified) -> dict[str, Need]:
    """The objects that live things need; blobs that no batch places are problems."""
    found: dict[str, Need] = {}
    for part, runs in survey.parts:
        live = sorted(uid for uid in runs if survey.is_live("run", uid))
        if live:
            names = ", ".join(survey.labels.get(uid, uid) for uid in live[:3])
            digest = f"{_digest.PREFIX}{part.sha256}"
            _need(found, part.place, digest, f"rows of {names}")
    wanted = {digest: (size, of) for digest, size, of in survey.wanted()}
    for manifest, named in entries(peer, survey, survey.manifests()):
        of = wanted[manifest][1]
        if isinstance(named, IntegrityError):
            done.problems.append(Problem("", named.message, of, frozenset({manifest})))
            continue
        wanted |= {digest: (size, of) for digest, size in named.items()}
    for digest, (size, of) in wanted.items():
        places = survey.places.get(digest, ())
        if not places:
            lost = frozenset({digest})
            done.problems.append(Problem("", f"no batch places {digest}", of, lost))
        for place in places:
            if size and place.size != size:
                text = f"{digest} has {place.size} bytes there and {size} by its name"
                done.problems.append(Problem(place.key, text, of))
            _need(found, place, digest, of)
    return found


def _need(found: dict[str, Need], place: Place, digest: str, of: str) -> None:
    need = found.setdefault(place.key, Need())
    need.spans[place] = digest
    need.of = need.of or of


def _lacking(
    needs: Mapping[str, Need], listed: Mapping[str, Listed]
) -> Iterator[Problem]:
    for key, need in sorted(needs.items()):
        held = listed.get(key)
        digests = frozenset(need.spans.values())
        if held is None:
            yield Problem(key, "is missing", need.of, digests)
        elif held.size < need.end or (
            held.size != need.end and not key.startswith(keys.PACKS)
        ):
            text = f"has {held.size} bytes instead of {need.end}"
            yield Problem(key, text, need.of, digests)


def _damaged(
    peer: Peer, needs: Mapping[str, Need], listed: Mapping[str, Listed]
) -> Iterator[Problem]:
    """Read objects, and compare each content in them with its digest."""
    packed = {key for key, need in needs.items() if len(need.spans) > 1}
    total = sum(listed[key].size for key in needs)

    def one(key: str) -> Problem | None:
        need = needs[key]
        check = _check_pack if key in packed else _check_alone
        text = check(peer, key, need.spans)
        if text is None:
            return None
        return Problem(key, text, need.of, frozenset(need.spans.values()))

    with _progress.shown("reading", total) as told:
        for names, threads in (
            (packed, SPANS_AT_ONCE), (needs.keys() - packed, THREADS),
        ):  # fmt: skip
            ordered = sorted(names)
            with ThreadPoolExecutor(threads) as pool:
                for key, found in zip(ordered, pool.map(one, ordered), strict=True):
                    told(listed[key].size)
                    if found is not None:
                        yield found


def _check_alone(peer: Peer, key: str, spans: Mapping[Place, str]) -> str | None:
    ((place, digest),) = spans.items()
    hashing = hashlib.sha256()

    class Sink:
        def write(self, data: bytes) -> None:
            hashing.update(data)

    sink: Any = Sink()
    try:
        peer.remote.download(key, sink, place.first, place.size)
    except MissingKeyError:
        return "is missing, though it is listed"
    same = hashing.hexdigest() == _digest.hex_of(digest)
    return None if same else "is damaged: its bytes have another digest"


def _check_pack(peer: Peer, key: str, spans: Mapping[Place, str]) -> str | None:
    end = max(place.first + place.size for place in spans)
    if end > PACK_BYTES:
        return f"is larger than the {PACK_BYTES} bytes that a pack has"
    try:
        data = peer.remote.get(key, 0, end)
    except MissingKeyError:
        return "is missing, though it is listed"
    for place, digest in spans.items():
        if _digest.of_bytes(data[place.first : place.first + place.size]) != digest:
            return f"is damaged: {digest} in it has another digest"
    return None


# Claims


def _claims(peer: Peer, survey: Survey) -> Iterator[Problem]:
    claimed = set(_numbers_held(peer).values())
    told = {uid for uids in survey.numbers.values() for uid in uids}
    for uid in sorted(told - claimed):
        yield Problem("", "no claim of a number names it", survey.labels.get(uid, uid))
    yield from _generations(peer, survey)


def _numbers_held(peer: Peer) -> dict[str, str]:
    """The uid of the version that each claim of a number names."""

    def one(key: str) -> str:
        try:
            raw = json.loads(peer.remote.get(key, 0, 65536))
        except (MissingKeyError, ValueError, RecursionError):
            return ""
        uid = raw.get("uid") if isinstance(raw, dict) else None
        return uid if isinstance(uid, str) else ""

    listed = [found.key for found in peer.remote.iter_keys(keys.VERSIONS)]
    with ThreadPoolExecutor(THREADS) as pool:
        return dict(zip(listed, pool.map(one, listed), strict=True))


def _generations(peer: Peer, survey: Survey) -> Iterator[Problem]:
    listed = {found.key: found for found in peer.remote.iter_keys(keys.ALIASES)}
    told = {keys.alias(*each) for each in survey.generations}
    for key in sorted(told - listed.keys()):
        yield Problem(key, "is missing: an alias's generation", _alias_of(key, survey))
    highest = {key.rpartition("/")[0]: key for key in sorted(listed)}
    for key in highest.values():
        age = _clock.now_us() - listed[key].modified_us
        if key not in told and age > ABANDONED_US:
            yield Problem(
                key, "is a claim that no batch tells of", _alias_of(key, survey)
            )


def _alias_of(key: str, survey: Survey) -> str:
    _, artifact, alias, *_ = key.split("/")
    return f"{survey.labels.get(artifact, artifact)}:{unquote(alias)}"
