"""Versions as files: written whole, checked, and never outside the directory asked for.

No link in the target is followed; a file appears complete and right, or not at all; one
that is right already is not touched.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from wanllmdb import _digest, _layout, _targets, _voice
from wanllmdb._catalog import remotes, stat_cache
from wanllmdb._catalog.stat_cache import Listing, packed
from wanllmdb._manifest import Entry, Manifest, entry_path
from wanllmdb._staging import hash_file
from wanllmdb._store import Store
from wanllmdb._targets import Target
from wanllmdb.errors import (
    DigestMismatchError,
    InvalidInputError,
    MissingBlobError,
    RemoteError,
    WanllmdbError,
)
from wanllmdb.types import Stat, VersionRecord, stat_numbers

if TYPE_CHECKING:
    from wanllmdb._opener import Object

CHUNK = 1 << 20

Write = Callable[[bytes], object]
Fill = Callable[[Write], object]
"""Hands over the bytes of a file, to what writes them."""

HEALED = "Add the same file to an artifact again, or restore a backup."
"""How bytes that the Store has lost come back to every version that needs them."""


def write(
    store: Store,
    version: VersionRecord,
    entries: Sequence[Entry],
    root: Path,
    told: Callable[[int], None] = lambda size: None,
    *,
    references: bool = False,
    allow_missing: bool = False,
    tidy: bool = False,
) -> None:
    """Write entries below a directory.

    Args:
        store: Where their bytes are.
        version: Whose they are.
        entries: What.
        root: The directory, made if need be.
        told: Called with the size of each entry that is there.
        references: Fetch what references point at; otherwise they are left out.
        allow_missing: Leave out references at which nothing is, with a warning.
        tidy: Remove what killed downloads left in the directories of the entries.

    Raises:
        InvalidInputError: the target cannot hold them: a link or a file in the way, or
            names that it takes for one. Or a reference must not be opened.
        DigestMismatchError: bytes have changed; they are not written.
        MissingBlobError: bytes of the Store are gone.
        RemoteError: what a reference points at cannot be read.
    """
    refuse_store(store, root)
    wanted = [entry for entry in entries if references or entry.uri is None]
    stored = {e.digest: e.size for e in wanted if e.uri is None and e.digest}
    store.blobs.fetch_lacking(stored)
    with _targets.opened(root) as target:
        _targets.refuse_alike([entry.path for entry in wanted], target)
        if tidy:
            target.drop_dead({entry.path.rpartition("/")[0] for entry in entries})
        known = stat_cache.below(store.catalog.reader, str(target.root))
        listings: dict[str, Listing] = {}
        for parent, inside in _by_directory(wanted).items():
            place = str(target.root / parent)
            right, listing = _right(target, parent, inside, known.get(place))
            for entry in inside:
                if entry.path not in right:
                    with _missing_left_out(version, entry, allow_missing):
                        _write_entry(store, version, entry, target)
                told(entry.size or 0)
            if listing is not None:
                listings[place] = listing
        _remember(store, listings)


@contextmanager
def _missing_left_out(
    version: VersionRecord, entry: Entry, allowed: bool
) -> Iterator[None]:
    try:
        yield
    except RemoteError as error:
        from wanllmdb import _opener

        if not (allowed and _opener.is_missing(error)):
            raise
        _voice.warn(f"{version.path}: {entry.path!r} is left out: {error.message}")


def refuse_store(store: Store, root: Path) -> None:
    """Raise for a target in the Store; what runs have there, is theirs to write."""
    goal, place = root.resolve(), store.path.resolve()
    if goal.is_relative_to(place) and not goal.is_relative_to(place / _layout.LIVE):
        raise InvalidInputError(
            f"{goal} is a part of the Store.", hint="Name a directory outside."
        )


def _by_directory(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        found.setdefault(entry.path.rpartition("/")[0], []).append(entry)
    return found


def _right(
    target: Target, parent: str, entries: Sequence[Entry], listing: Listing | None
) -> tuple[set[str], Listing | None]:
    """The paths whose files are there already, with their entries' bytes.

    Args:
        target: Where.
        parent: The directory to look at.
        entries: What of it is wanted.
        listing: What is known of its files.

    Returns:
        The paths; and what is known of the directory now, if that is more.
    """
    names = [entry.path.rpartition("/")[2] for entry in entries]
    stats = target.stats(parent, names)
    if listing is not None and _is_listed(listing, names, entries, stats):
        return {entry.path for entry in entries}, None
    known = {} if listing is None else listing.files()
    right, hashed = set(), {}
    for name, entry, status in zip(names, entries, stats, strict=True):
        if status is None or not stat.S_ISREG(status.st_mode) or entry.digest is None:
            continue
        if entry.size is not None and status.st_size != entry.size:
            continue
        before = known.get(name)
        if before is not None and before[0] == Stat.of(status):
            digest = before[1]
        else:
            digest, _, settled = hash_file(target.root / entry.path)
            if settled is not None:
                hashed[name] = settled, digest
        if digest == entry.digest:
            right.add(entry.path)
    return right, Listing.of({**known, **hashed}) if hashed else None


def _is_listed(
    listing: Listing,
    names: Sequence[str],
    entries: Sequence[Entry],
    stats: Sequence[os.stat_result | None],
) -> bool:
    """Whether a directory's files are as they were, and hold what is wanted."""
    if names != listing.names or [e.digest for e in entries] != listing.held():
        return False
    numbers: list[int] = []
    for found in stats:
        if found is None or not stat.S_ISREG(found.st_mode):
            return False
        numbers += stat_numbers(found)
    return packed(numbers) == listing.stats


def _write_entry(
    store: Store, version: VersionRecord, entry: Entry, target: Target
) -> None:
    if entry.uri is None:
        fill = partial(_copy_whole, store, version, entry)
        try:
            _put(target, entry.path, fill)
        except DigestMismatchError:  # it was set aside, and may lie at a remote whole
            assert entry.digest is not None
            if not store.blobs.fetched(entry.digest):
                raise
            _put(target, entry.path, fill)
        return
    fetches = dict(_fetches(version, entry))
    _targets.refuse_alike(fetches, target)
    for path, fetch in fetches.items():
        _put(target, path, fetch)


def _put(target: Target, path: str, fill: Fill) -> None:
    """Have a file filled, and put it in place if that succeeds."""
    fd, put, drop = target.create(path)
    try:
        with os.fdopen(fd, "wb") as writer:
            fill(writer.write)
        put()
    finally:
        drop()


def _copy_whole(
    store: Store, version: VersionRecord, entry: Entry, write: Write
) -> None:
    if _copy(store, version, entry, write) != entry.digest:
        assert entry.digest is not None
        store.set_blob_aside(entry.digest)
        raise DigestMismatchError(
            f"{version.path}: the bytes of {entry.path!r} have changed.",
            hint=f"Nothing was written. {HEALED}",
            version=version.path, path=entry.path, digest=entry.digest,
        )  # fmt: skip


def _fetches(version: VersionRecord, entry: Entry) -> Iterator[tuple[str, Fill]]:
    """The paths that a reference becomes, and how each is filled.

    That is one, or one for each object below a prefix, of which nothing can be known.

    Raises:
        InvalidInputError: there are too many objects, or one has a key that is no path.
        RemoteError: they cannot be listed.
    """
    from wanllmdb import _opener

    assert entry.uri is not None
    objects = None
    if (entry.digest, entry.size, entry.md5) == (None, None, None):
        objects = _opener.objects(entry.uri)
    if objects is None:
        yield entry.path, lambda write: _fetch_reference(version, entry, write)
        return
    held = Manifest()
    for one in objects:
        path = f"{entry.path}/{one.path}"
        if entry_path(path) != path or path in held:
            raise InvalidInputError(
                f"{version.path}: below {entry.path!r} is a key that is no path:"
                f" {one.path[:80]!r}.",
                hint="Refer to the other objects one by one.",
            )
        held.put(Entry(path, None, one.size, entry.uri))
        yield path, partial(_fetch_object, version, path, one)


def _fetch_object(version: VersionRecord, path: str, one: Object, write: Write) -> None:
    if one.fetch(write) != one.size:
        raise DigestMismatchError(
            f"{version.path}: what {path!r} refers to changed while it was read.",
            hint="Wait until it is written, and try again.",
            version=version.path, path=path,
        )  # fmt: skip


def _fetch_reference(version: VersionRecord, entry: Entry, write: Write) -> None:
    """Hand over the bytes that a reference points at.

    Raises:
        DigestMismatchError: they are not those that were known of; at once where there
            are more of them, else in the end.
        InvalidInputError: it must not be opened.
        RemoteError: it cannot be read.
    """
    from wanllmdb import _opener

    assert entry.uri is not None
    sha256 = hashlib.sha256()
    md5 = hashlib.md5(usedforsecurity=False)

    def passed(piece: bytes) -> None:
        sha256.update(piece)
        if entry.md5 is not None:
            md5.update(piece)
        write(piece)

    size = _opener.fetch(entry.uri, passed, max_bytes=entry.size)
    found = (size, _digest.PREFIX + sha256.hexdigest(), md5.hexdigest())
    known = (entry.size, entry.digest, entry.md5)
    if any(k not in (None, f) for k, f in zip(known, found, strict=True)):
        raise DigestMismatchError(
            f"{version.path}: what {entry.path!r} refers to has changed.",
            hint="Refer to what it is now in a new version, or restore it there.",
            version=version.path, path=entry.path, digest=entry.digest,
        )  # fmt: skip


def _copy(
    store: Store,
    version: VersionRecord,
    entry: Entry,
    write: Write,
) -> str:
    """Hand over an entry's bytes; the digest that they have."""
    assert entry.digest is not None
    digest = hashlib.sha256()
    try:
        with store.blobs.open(entry.digest) as reader:
            while piece := reader.read(CHUNK):
                digest.update(piece)
                write(piece)
    except MissingBlobError:
        raise MissingBlobError(
            f"{version.path}: the bytes of {entry.path!r} are missing.",
            hint=HEALED,
            version=version.path, path=entry.path, digest=entry.digest,
        ) from None  # fmt: skip
    return _digest.PREFIX + digest.hexdigest()


def _remember(store: Store, listings: Mapping[str, Listing]) -> None:
    if listings and not store.read_only:
        try:
            with store.catalog.transaction(durable=False, timeout=1) as connection:
                stat_cache.put(connection, listings.items())
        except WanllmdbError as error:  # they are hashed again next time
            store.debug.survived("stat cache", error)


def problems(
    store: Store,
    version: VersionRecord,
    entries: Iterable[Entry],
    root: Path | None,
    *,
    references: bool = False,
) -> Iterator[str]:
    """What is wrong with a version's bytes, a sentence for each entry.

    Args:
        store: Where the version is.
        version: Which.
        entries: What it holds.
        root: The directory to look at; None for the bytes in the Store.
        references: Look at references, too: in the directory, or where they point.
    """
    for entry in entries:
        if entry.uri is not None and not references:
            continue
        if root is None and is_elsewhere(store, entry):
            continue
        try:
            if not _is_whole(store, version, entry, root):
                yield f"{version.path}: the bytes of {entry.path!r} have changed"
        except FileNotFoundError:
            yield f"{version.path}: {entry.path!r} is missing"
        except OSError as error:
            yield f"{version.path}: {entry.path!r} cannot be read: {error.strerror}"
        except WanllmdbError as error:
            gone = isinstance(error.__cause__, FileNotFoundError)
            said = "is missing" if gone else error.message.rstrip(".")
            yield f"{version.path}: {entry.path!r} {said}"


def is_elsewhere(store: Store, entry: Entry) -> bool:
    """Whether an entry's bytes are not here, but lie at a remote."""
    if entry.uri is not None or entry.digest is None:
        return False
    if store.blobs.present({entry.digest: None}):
        return False
    return bool(remotes.places_of(store.catalog.reader, entry.digest))


def _is_whole(
    store: Store, version: VersionRecord, entry: Entry, root: Path | None
) -> bool:
    """Whether an entry's bytes are those that are known of it."""
    if entry.uri is None:
        assert entry.digest is not None
        if root is not None:
            return _digest.of_file(root / entry.path) == entry.digest
        if _digest.of_file(store.blobs.path_of(entry.digest)) == entry.digest:
            return True
        store.set_blob_aside(entry.digest)
        return False
    if root is not None:  # what was fetched must be as what it was fetched from
        place = (root / entry.path).resolve()
        if place.is_dir():  # of what is below a prefix nothing is known
            return True
        entry = entry._replace(uri=place.as_uri())
    try:
        for _, fetch in _fetches(version, entry):
            fetch(lambda piece: None)
    except DigestMismatchError:
        return False
    return True


def _is_live_draft(path: Path) -> bool:
    """Whether a path is a draft that is written now; a dead one is removed."""
    if not _targets.DRAFT.fullmatch(path.name):
        return False
    fd = os.open(path.parent, _targets.DIRECTORY)
    try:
        return not _targets.drop_dead(path.name, fd) and os.path.lexists(path)
    finally:
        os.close(fd)


def remove_others(root: Path, entries: Iterable[Entry]) -> list[str]:
    """Remove what is below a directory and is no entry; their paths.

    Links are removed, not what they lead to.
    """
    wanted = {entry.path for entry in entries}
    removed = []
    for place, directories, files in os.walk(root, topdown=False):
        for name in files + [d for d in directories if (Path(place) / d).is_symlink()]:
            path = Path(place) / name
            relative = path.relative_to(root).as_posix()
            if relative in wanted or _is_live_draft(path):
                continue
            path.unlink(missing_ok=True)
            removed.append(relative)
        if Path(place) != root:
            with suppress(OSError):  # it holds something
                Path(place).rmdir()
    return sorted(removed)
