"""Which blobs are needed, and by what: for gc, for `verify`, for `why`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from wanllmdb import _digest
from wanllmdb._catalog import artifacts, checks, drafts, remotes, runs
from wanllmdb._manifest import Manifest, decode
from wanllmdb._store import Store
from wanllmdb.errors import IntegrityError, InvalidInputError
from wanllmdb.types import Digest


class Use(NamedTuple):
    """One place that needs a blob.

    Attributes:
        digest: The blob.
        by: What needs it: ``project/run`` or ``project/artifact:vN``.
        what: What it is there, for people.
        size: Bytes that it should have; None where that is not known.
    """

    digest: Digest
    by: str
    what: str
    size: int | None = None


class DamagedManifest(NamedTuple):
    """A manifest that cannot be read, so that nobody knows what its versions need."""

    digest: Digest
    versions: list[str]
    error: IntegrityError


def of_runs(store: Store) -> Iterator[Use]:
    """What the runs need, those in the trash included."""
    reader = store.catalog.reader
    paths = {
        record.pk: record.path
        for deleted in (False, True)
        for record in runs.find_many(reader, deleted=deleted)
    }
    for use in checks.blob_uses(reader):
        by = paths.get(use.run, str(use.run))
        yield Use(Digest(use.digest), by, f"the bytes of {use.what}")


def of_versions(store: Store) -> Iterator[Use | DamagedManifest]:
    """What the versions need, and joint drafts: each manifest once.

    Versions in the trash are included.
    """
    found = artifacts.manifests(store.catalog.reader)
    for additions in drafts.unfinished(store.catalog.reader).values():
        for added in additions:
            users = found.setdefault(Digest(added.addition.manifest), [])
            users.append(f"a draft of {added.addition.adder}")
    elsewhere = remotes.held_elsewhere(store.catalog.reader)
    for digest, versions in found.items():
        yield Use(digest, versions[0], "the manifest")
        if digest in elsewhere and not store.blobs.present({digest: None}):
            continue  # and so does what it names
        try:
            manifest = decode(store.blobs.get_local(digest))
        except IntegrityError as error:
            yield DamagedManifest(digest, versions, error)
            continue
        yield from _of_manifest(manifest, versions[-1])


def _of_manifest(manifest: Manifest, by: str) -> Iterator[Use]:
    for entry in manifest:
        if entry.uri is None and entry.digest is not None:
            yield Use(entry.digest, by, f"the bytes of {entry.path!r}", entry.size)


def of_drafts(store: Store) -> Iterator[Digest]:
    """What drafts need of what was stored before them, and whose owners live."""
    for held in store.tmp.glob("draft-*/held"):
        try:
            lines = held.read_text().split()
        except OSError:  # committed, or dropped, just now
            continue
        for line in lines:
            try:
                _digest.hex_of(line)
            except ValueError:  # torn by a kill
                continue
            yield Digest(line)


def why(store: Store, digest: str) -> list[str]:
    """What needs a blob, a line for each place; none: nothing does.

    Args:
        store: Where.
        digest: At least 6 hex digits of it, with ``sha256:`` or without.

    Raises:
        InvalidInputError: it is no such thing.
    """
    wanted = digest.lower().removeprefix(_digest.PREFIX)
    if not re.fullmatch("[0-9a-f]{6,64}", wanted):
        raise InvalidInputError(
            f"{digest!r} is no digest.", hint="Give 6 to 64 hexadecimal digits."
        )
    found = [
        f"{use.by}: {use.what}"
        for use in [*of_runs(store), *of_versions(store)]
        if isinstance(use, Use) and use.digest[len(_digest.PREFIX) :].startswith(wanted)
    ]
    return sorted(found)
