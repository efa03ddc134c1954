"""Claims: numbers of versions and generations of aliases, by exclusive create.

A claim counts once the batch exists that tells of it. One that a killed push left
behind is found again by the version that it names, and gone on with.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from wanllmdb import _clock
from wanllmdb._catalog.documents.aliases import Claim
from wanllmdb._remotes.port import MissingKeyError
from wanllmdb._sync import keys
from wanllmdb._sync.batch import decode
from wanllmdb._sync.peer import Peer
from wanllmdb.types import SyncReport

ABANDONED_US = 3_600_000_000
"""A claim whose batch has not come for so long is a dead push's."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A version that needs a number at a remote.

    Attributes:
        series: Uid of the artifact or model.
        uid: The version's own.
        number: What it has here.
        fixed: Whether another remote has it under that number, so that it keeps it.
    """

    series: str
    uid: str
    number: int
    fixed: bool


def claim_numbers(
    peer: Peer, wanted: Sequence[Wanted], seq: int, report: SyncReport
) -> dict[str, int]:
    """Get numbers for versions, in the order in which they are given.

    Args:
        peer: The remote.
        wanted: Versions, rising by number within each series.
        seq: The batch that will tell of them.
        report: Counts what is written.

    Returns:
        The number of each version, by its uid; those that keep a number that another
        one has there, are not among them.
    """
    given: dict[str, int] = {}
    last: dict[str, int] = {}
    for version in wanted:
        number = version.number
        if not version.fixed:
            number = max(number, last.get(version.series, -1) + 1)
        while not (won := _claimed(peer, version, number, seq, report)):
            if version.fixed:
                break
            number += 1
        if won:
            given[version.uid] = last[version.series] = number
    return given


def _claimed(
    peer: Peer, version: Wanted, number: int, seq: int, report: SyncReport
) -> bool:
    key = keys.version(version.series, number)
    if _create(peer, key, {"uid": version.uid, "seq": seq}, report):
        return True
    return _read(peer, key).get("uid") == version.uid


def claim_aliases(
    peer: Peer, wanted: Sequence[Claim], seq: int, report: SyncReport
) -> list[Claim]:
    """Get the next generations of aliases; those that were lost are reported.

    Returns:
        What was won, with the generations that they have.
    """
    won = []
    for claim in wanted:
        got = _claim_alias(peer, claim, seq, report)
        if got is None:
            report.failed.append(
                f"alias {claim.alias!r} is being moved by another laptop, too: sync"
                " again"
            )
        else:
            won.append(got)
    return won


def _claim_alias(
    peer: Peer, claim: Claim, seq: int, report: SyncReport
) -> Claim | None:
    while True:
        key = keys.alias(claim.artifact, claim.key, claim.gen)
        body = {
            "alias": claim.alias, "target": claim.target, "seq": seq,
            "parent_gen": claim.gen - 1,
        }  # fmt: skip
        if _create(peer, key, body, report):
            return claim
        held = _read(peer, key)
        if held.get("device") == peer.device:
            if held.get("target") == claim.target:
                return claim  # of a push that was killed
            abandoned = True
        else:
            abandoned = _is_abandoned(peer, claim, held)
        if not abandoned:
            return None
        claim = claim._replace(gen=claim.gen + 1)


def _is_abandoned(peer: Peer, claim: Claim, held: dict[str, Any]) -> bool:
    """Whether a claim is that of a push that died before its batch was there."""
    device, seq, at_us = held.get("device"), held.get("seq"), held.get("at_us")
    if not isinstance(at_us, int) or not isinstance(seq, int):
        return True
    if not isinstance(device, str) or not keys.is_device(device):
        return True
    # The device may have gone on, and have used the number for another batch.
    while (told := _aliases_told(peer, device, seq)) is not None:
        if (claim.artifact, claim.key, claim.gen) in told:
            return False
        seq += 1
    return at_us <= _clock.now_us() - ABANDONED_US


def _aliases_told(
    peer: Peer, device: str, seq: int
) -> set[tuple[str, str, int]] | None:
    """The generations of aliases that a batch tells of; None if there is no batch."""
    try:
        data = peer.remote.get(keys.batch(device, seq))
    except MissingKeyError:
        return None
    batch = decode(data, device, seq)
    return {(each.artifact, each.key, each.gen) for each in batch.aliases}


def _create(peer: Peer, key: str, said: dict[str, Any], report: SyncReport) -> bool:
    body = {
        **said, "device": peer.device, "at_us": _clock.now_us(),
        "nonce": os.urandom(8).hex(),
    }  # fmt: skip
    won = peer.remote.create(key, json.dumps(body).encode())
    report.objects_written += won
    return won


def _read(peer: Peer, key: str) -> dict[str, Any]:
    try:
        found = json.loads(peer.remote.get(key, 0, 65536))
    except (MissingKeyError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
