"""A batch: what one push tells, and what it needs. Written last, read by everybody.

What comes from a remote is not trusted: a batch of another shape, with a number where
a text should be, or with a name that leads elsewhere, is refused whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wanllmdb import _digest, _json
from wanllmdb._catalog.documents.aliases import Claim
from wanllmdb._catalog.remotes import Place
from wanllmdb._remotes.port import MissingKeyError, Remote, check_key
from wanllmdb._rowsets import PartFile, RowRange, RowSet
from wanllmdb._sync import keys
from wanllmdb._sync.sense import (
    check_alias,
    check_document,
    check_json,
    check_time,
    check_uid,
)
from wanllmdb._sync.shapes import DOCUMENTS, Shape, ShapeError, checked
from wanllmdb.errors import IntegrityError, InvalidInputError, NewerRemoteError
from wanllmdb.types import INT64_MAX, Kind

FORMAT = 1
LIMIT = 256 << 20
"""Bytes of a batch that are read at most."""

FIRST_BYTES = 8 << 20
"""Bytes of a batch that are read before anybody asks how many there are."""

PART_BYTES = 1 << 30
"""Bytes of a part, at most; ours have at most 128 MiB."""

_HEX = re.compile(r"[0-9a-f]{64}\Z")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
_PART_NAME = re.compile(r"[0-9a-f]{16,32}-[0-9a-f]{16}\.parquet\Z")
_LAYOUTS = ("wide", "tall", "objects", "system", "console")


@dataclass(frozen=True, slots=True)
class StoredPart:
    """A sealed part at a remote: its name here, its bytes there."""

    name: str
    sha256: str
    size: int
    layout: str
    rows: int
    place: Place

    def at(self, directory: Path) -> PartFile:
        """It as a file of a directory."""
        return PartFile(
            directory / self.name, self.sha256, self.size, self.layout, self.rows
        )


@dataclass(frozen=True, slots=True)
class StoredSet:
    """A set of parts at a remote, and what they hold together."""

    project: str
    parts: tuple[StoredPart, ...]
    ranges: tuple[RowRange, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """What one push tells.

    Attributes:
        device: Whose it is.
        seq: Its number among the device's, from 1 on.
        nonce: Tells it from any other batch under that number.
        hlc: The device's clock when it was made.
        at_us: The same by its wall clock.
        host: The device's machine.
        seen: The batches of others that it was made with knowledge of.
        documents: Of the things that changed.
        sets: Rows.
        aliases: Generations of aliases.
        events: (number, columns) of what was recorded there.
        objects: Where bytes lie that no batch told of before, by digest.
    """

    device: str
    seq: int
    nonce: str
    hlc: int
    at_us: int
    host: str
    seen: Mapping[str, int]
    documents: Sequence[dict[str, Any]] = ()
    sets: Sequence[StoredSet] = ()
    aliases: Sequence[Claim] = ()
    events: Sequence[tuple[int, Sequence[Any]]] = ()
    objects: Mapping[str, Place] = field(default_factory=dict)

    def encode(self) -> bytes:
        """As it is stored."""
        return _json.dumps({
            "format": FORMAT, "device": self.device, "seq": self.seq,
            "nonce": self.nonce, "hlc": self.hlc, "at_us": self.at_us,
            "host": self.host, "seen": dict(self.seen),
            "documents": list(self.documents),
            "sets": [
                {
                    "project": each.project,
                    "parts": [
                        [p.name, p.sha256, p.size, p.layout, p.rows, *p.place]
                        for p in each.parts
                    ],
                    "ranges": [
                        [getattr(r, name) for name in RowRange.__dataclass_fields__]
                        for r in each.ranges
                    ],
                }
                for each in self.sets
            ],
            "aliases": [list(claim) for claim in self.aliases],
            "events": [[number, *columns] for number, columns in self.events],
            "objects": [[digest, *place] for digest, place in self.objects.items()],
        }).encode()  # fmt: skip


_BATCH = Shape({
    "format": int, "device": str, "seq": int, "nonce": str, "hlc": int, "at_us": int,
    "host": str, "seen": {str: int}, "documents": [dict],
    "sets": [Shape({
        "project": str,
        "parts": [(str, str, int, str, int, str, int, int)],
        "ranges": [(str, str, str, int, str, int, int, int, int, str)],
    })],
    "aliases": [(str, str, int, (str, None))],
    "events": [(int, int, str, str, str, str, str, (str, None), (str, None),
                (str, None), (str, None))],
    "objects": [(str, str, int, int)],
})  # fmt: skip


def read(remote: Remote, device: str, seq: int) -> Batch | None:
    """A device's batch at a remote; None if there is none under that number.

    Raises:
        NewerRemoteError: a newer wanllmdb wrote it.
        IntegrityError: what stands there is none of ours.
    """
    key = keys.batch(device, seq)
    try:
        data = remote.get(key, 0, FIRST_BYTES)
        if len(data) == FIRST_BYTES:
            size = max((found.size for found in remote.iter_keys(key)), default=0)
            if size > LIMIT:
                raise IntegrityError(
                    f"Batch {seq} of device {device} is larger than {LIMIT} bytes.",
                    hint="`wanllmdb remote verify` tells what else is wrong there.",
                    device=device, seq=seq,
                )  # fmt: skip
            data += remote.get(key, FIRST_BYTES, LIMIT)
    except MissingKeyError:
        return None
    return decode(data, device, seq)


def decode(data: bytes, device: str, seq: int) -> Batch:
    """A batch that was read under a device's number.

    Raises:
        NewerRemoteError: a newer wanllmdb wrote it.
        IntegrityError: it is none, or another's.
    """
    try:
        raw = _json.loads(data)
        version = raw.get("format") if isinstance(raw, dict) else None
        if isinstance(version, int) and version > FORMAT:
            raise NewerRemoteError(
                f"Batch {seq} of device {device} has format {version}; this wanllmdb"
                f" knows {FORMAT}.",
                hint="Upgrade wanllmdb: pip install -U wanllmdb",
            )
        checked(raw, _BATCH)
        for name in ("hlc", "at_us"):
            check_time(raw[name], "it")
        for document in raw["documents"]:
            _check_document(document)
        if (raw["device"], raw["seq"]) != (device, seq):
            raise ShapeError("it says that it is another one")
        return _built(raw)
    except (ShapeError, ValueError, TypeError, KeyError, RecursionError,
            AttributeError, OverflowError, InvalidInputError) as error:  # fmt: skip
        raise IntegrityError(
            f"Batch {seq} of device {device} is none of ours: {str(error)[:200]}",
            hint="`wanllmdb remote verify` tells what else is wrong there.",
            device=device, seq=seq,
        ) from error  # fmt: skip


def _check_document(document: Mapping[str, Any]) -> None:
    entity = str(document.get("entity"))
    if entity not in DOCUMENTS:
        raise ShapeError(f"there is no entity {entity[:40]!r}")
    gone = "gone" in document
    checked(document, DOCUMENTS["gone"] if gone else DOCUMENTS[entity])
    check_document(document)


def _built(raw: dict[str, Any]) -> Batch:
    return Batch(
        raw["device"], _natural(raw["seq"]), raw["nonce"], raw["hlc"], raw["at_us"],
        raw["host"], _seen(raw["seen"]), raw["documents"], _sets(raw["sets"]),
        tuple(_claim(each) for each in raw["aliases"]),
        tuple(_event(*each) for each in raw["events"]),
        dict(_objects(raw["objects"])),
    )  # fmt: skip


def _seen(raw: Mapping[str, int]) -> Mapping[str, int]:
    for device, seq in raw.items():
        check_uid(device, "a device")
        _natural(seq)
    return raw


def _sets(raw: Sequence[dict[str, Any]]) -> tuple[StoredSet, ...]:
    sets = tuple(_set(each) for each in raw)
    names = [part.name for each in sets for part in each.parts]
    if len(set(names)) < len(names):
        raise ShapeError("two parts have one name")
    return sets


def _event(number: int, *columns: Any) -> tuple[int, Sequence[Any]]:
    at, _, _, _, _, _, _, before, after, _ = columns
    check_time(at, "an event")
    check_json(before, "an event")
    check_json(after, "an event")
    return _natural(number), columns


def _set(raw: dict[str, Any]) -> StoredSet:
    if not keys.is_device(raw["project"]):
        raise ShapeError("a part is of no project")
    parts = []
    for name, sha256, size, layout, rows, key, first, length in raw["parts"]:
        if not _PART_NAME.match(name) or not _HEX.match(sha256):
            raise ShapeError(f"{name[:80]!r} is no part's name")
        if layout not in _LAYOUTS:
            raise ShapeError(f"{layout[:40]!r} is no layout")
        place = _place(key, first, length)
        if size > PART_BYTES:
            raise ShapeError(
                f"{name} has {size} bytes, and a part {PART_BYTES} at most"
            )
        if length != size:
            raise ShapeError(f"{name} has two sizes")
        parts.append(StoredPart(name, sha256, size, layout, _natural(rows), place))
    ranges = []
    for run, token, kind, epoch, writer, first, end, before, rows, digest in raw[
        "ranges"
    ]:
        if not keys.is_device(run) or not re.match(r"[0-9a-f]{4,64}\Z", token):
            raise ShapeError("a range is of no stream")
        ranges.append(
            RowRange(
                run, token, Kind(kind), epoch, writer, _natural(first), _natural(end),
                _natural(before), _natural(rows), digest,
            )
        )  # fmt: skip
    return StoredSet(raw["project"], tuple(parts), tuple(ranges))


def _claim(raw: Sequence[Any]) -> Claim:
    artifact, alias, gen, target = raw
    if not keys.is_device(artifact) or not 0 < gen < 10**8:
        raise ShapeError("an alias is of no artifact")
    check_alias(alias)
    if target is not None:
        check_uid(target, "the version of an alias")
    return Claim(artifact, alias, gen, target)


def _objects(raw: Iterable[Sequence[Any]]) -> Iterable[tuple[str, Place]]:
    for digest, key, first, size in raw:
        if not _DIGEST.match(digest):
            raise ShapeError(f"{digest[:80]!r} is no digest")
        yield digest, _place(key, first, size)


def _place(key: str, first: int, size: int) -> Place:
    check_key(key)
    if not key.startswith((keys.BLOBS, keys.PACKS, keys.PARTS)):
        raise ShapeError(f"{key[:80]!r} is no place of bytes")
    return Place(key, _natural(first), _natural(size))


def _natural(number: int) -> int:
    if not 0 <= number <= INT64_MAX:
        raise ShapeError(f"{number} is out of range")
    return number


def new_set(project: str, found: RowSet, places: Mapping[str, Place]) -> StoredSet:
    """A set of parts as a batch tells of it, once their bytes are at a remote.

    Args:
        project: The project's uid.
        found: The set.
        places: Where each part's bytes lie, by digest.
    """
    return StoredSet(
        project,
        tuple(
            StoredPart(
                part.path.name, part.sha256, part.size, part.layout, part.rows,
                places[f"{_digest.PREFIX}{part.sha256}"],
            )
            for part in found.parts
        ),
        found.ranges,
    )  # fmt: skip
