"""Drafts: files are added, and removed; the bytes are taken at the call."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from threading import RLock
from typing import IO, Any

from wanllmdb import _digest, _files, _progress, _stores
from wanllmdb._artifacts.entries import ArtifactEntry
from wanllmdb._artifacts.facts import ArtifactFacts
from wanllmdb._catalog import stat_cache
from wanllmdb._catalog.stat_cache import Known
from wanllmdb._manifest import Entry, entry_path
from wanllmdb._scanning import Found, check_file, is_directory, scan
from wanllmdb._staging import Staged, Staging, hash_file, hash_files
from wanllmdb._store import Store
from wanllmdb.errors import InvalidInputError, WanllmdbError
from wanllmdb.types import Digest

IMMUTABLE = "immutable"
_POLICIES = ("mutable", IMMUTABLE)


class Draft(ArtifactFacts):
    """A draft's content. Safe for threads, and after forks."""

    _staging: Staging | None
    _origin: Store | None
    _mutex: tuple[int, RLock]
    _unkept: bool

    def add_file(
        self,
        local_path: str | os.PathLike[str],
        name: str | None = None,
        is_tmp: bool | None = False,
        skip_cache: bool | None = False,
        policy: str | None = "mutable",
        overwrite: bool = False,
    ) -> ArtifactEntry:
        """Add a file's bytes as they are now; it may change or vanish afterwards.

        Args:
            local_path: The file; a link is followed.
            name: Its path in the artifact; default the file's name.
            is_tmp: The file's name is a passing one: it is put behind its digest.
            skip_cache: Read the file even where its stat says that it is unchanged.
            policy: ``immutable``: the caller promises that the file will never change
                in place, and where it lies on the Store's filesystem its bytes are
                shared with it by a hard link, not copied. Kept or not, nobody checks
                that: a change is one of all versions that hold the bytes, and found
                by `verify` alone. The file may be removed or replaced by another.
            overwrite: Take the place of other content of the same path.

        Raises:
            InvalidInputError: it cannot be read, is no regular file, or its path is
                taken by other content.
            DiskBudgetError: the setting disk_budget leaves no room for it.
        """
        _check_policy(policy)
        path = Path(os.fspath(local_path))
        goal = entry_path(name if name is not None else path.name)
        with self._adding() as staging:
            check_file(path)
            source = path.absolute()
            if staging is None:
                held = hash_file(source)
            else:
                reader = staging.store.catalog.reader
                known = None if skip_cache else stat_cache.of_file(reader, str(source))
                held = staging.add_file(str(source), known, link=policy == IMMUTABLE)
            if is_tmp:
                head, _, tail = goal.rpartition("/")
                goal = entry_path(f"{head}/{held.digest[7:27]}.{tail}".lstrip("/"))
            entry = Entry(goal, held.digest, held.size)
            self._put_entries([entry], overwrite=overwrite)
        return self.get_entry(goal)

    def add_dir(
        self,
        local_path: str | os.PathLike[str],
        name: str | None = None,
        skip_cache: bool | None = False,
        policy: str | None = "mutable",
        merge: bool = False,
        **_: Any,
    ) -> None:
        """Add every file below a directory, as they are now.

        Args:
            local_path: The directory. Links to files are followed, and those to
                directories, but for loops; empty directories and Stores are left out.
            name: The path in the artifact that it becomes; default the root.
            skip_cache: Read all files, also those whose stat says unchanged.
            policy: As `add_file` takes it, for every file.
            merge: Take the place of other content of the same paths.

        Raises:
            InvalidInputError: something in it cannot be added. All that cannot are
                named, and nothing was added.
            DiskBudgetError: the setting disk_budget leaves no room for it; nothing was
                copied.
        """
        _check_policy(policy)
        root = Path(os.fspath(local_path))
        if not is_directory(root):
            raise InvalidInputError(f"{root} is no directory.", hint="Use add_file.")
        with self._adding() as staging:
            place = root.absolute()
            prefix = "" if name is None else entry_path(name)
            known: Known = {}
            link = policy == IMMUTABLE
            if staging is not None and not skip_cache:
                known = stat_cache.below(staging.store.catalog.reader, str(place))
            found = scan(place, prefix, known=known)
            with _progress.shown(f"adding {root}", found.size) as told:
                new = (
                    _hashed(found.files, told) if staging is None
                    else staging.add_scanned(found, known, told, link=link)
                )  # fmt: skip
            self._put_entries(new, overwrite=merge)

    def add_reference(
        self,
        uri: str,
        name: str | os.PathLike[str] | None = None,
        checksum: bool = True,
        max_objects: int | None = None,
        size: int | None = None,
        md5_hash: str | None = None,
        sha256_hash: str | None = None,
    ) -> list[ArtifactEntry]:
        """Refer to bytes that stay where they are; nothing of a network is asked.

        A prefix of a bucket (``s3://bucket/data/``) is one entry; what is below it when
        it is fetched, is fetched: at most 10,000 objects.

        What is known of them is compared when they are fetched: see `download`.

        Args:
            uri: ``file://``, ``https://``, ``s3://``, ``gs://`` or ``az://``.
            name: Its path in the artifact, or that of a directory; default the last
                part of the URI, and of a directory's files their own paths.
            checksum: Hash a file now, and each file below a directory, which becomes
                an entry of its own. Of what is elsewhere only what is said is known.
            max_objects: Files that a directory may have; default 10,000.
            size: Bytes that there are.
            md5_hash: Their MD5, 32 hex digits.
            sha256_hash: Their SHA-256, 64 hex digits.

        Returns:
            The new entries.

        Raises:
            InvalidInputError: the URI is refused, a hash or the size is none, the file
                cannot be read, the directory holds too much, or a path is taken.
            DigestMismatchError: the file is not what was said of it.
        """
        from wanllmdb import _references, _referring

        self._draft()
        known = _referring.known(size, md5_hash, sha256_hash)
        limit = _references.MAX_OBJECTS if max_objects is None else max_objects
        path = None if name is None else entry_path(name)
        new = _referring.entries(uri, path, known, limit, hashed=checksum)
        self._put_entries(new, overwrite=False)
        return [ArtifactEntry(self, entry) for entry in new]

    @contextmanager
    def new_file(
        self, name: str, mode: str = "x", encoding: str | None = None
    ) -> Iterator[IO[Any]]:
        """Open a new file of the artifact for writing; it is added when closed.

        Args:
            name: Its path in the artifact.
            mode: ``x`` or ``w``, with ``b`` for bytes; ``w`` replaces other content.
            encoding: Of text; default UTF-8.

        Raises:
            InvalidInputError: the mode is unknown, or the path is taken.
        """
        kind = mode.replace("b", "").replace("t", "")
        if kind not in ("x", "w"):
            raise InvalidInputError(f"There is no mode {mode!r}.", hint="Use x or w.")
        goal = entry_path(name)
        with self._adding() as staging:
            if kind == "x" and goal in self._entries:
                raise InvalidInputError(
                    f"{goal!r} is in the artifact.", hint='Use mode "w" to replace it.'
                )
            place = None if staging is None else staging.new_path()
        text = None if "b" in mode else encoding or "utf-8"
        new = _InMemory(text) if place is None else _OnDisk(place, text, self._take)
        try:
            with new.file:
                yield new.file  # what is raised meanwhile is the caller's
            held = new.taken()
            entry = Entry(goal, held.digest, held.size)
            self._put_entries([entry], overwrite=kind == "w")
        finally:
            if place is not None:
                place.unlink(missing_ok=True)

    def _take(self, path: Path) -> Staged:
        """What a file holds that was written for this draft."""
        with self._adding() as staging:
            return (
                hash_file(path)
                if staging is None
                else staging.add_file(str(path), None)
            )

    def remove(self, item: str | os.PathLike[str] | ArtifactEntry) -> None:
        """Remove a path, or all below it, from the draft.

        Raises:
            EntryNotFoundError: there is none.
        """
        path = item.path if isinstance(item, ArtifactEntry) else entry_path(item)
        with self._alone():
            self._draft()
            found = self._entries.below(path)
            if (one := self._entries.find(path)) is not None:
                found = [one]
            if not found:
                raise self._lacks(path)
            for entry in found:
                self._entries.drop(entry.path)

    def _put_entries(self, new: Sequence[Entry], *, overwrite: bool) -> None:
        """Add entries, all of them or none."""
        with self._alone():
            self._draft()  # another thread may have committed it
            if not overwrite and len(self._entries):
                for entry in new:
                    if self._entries.find(entry.path) not in (None, entry):
                        raise self._taken(entry.path)
            self._entries.put_all(new)

    def _taken(self, path: str) -> InvalidInputError:
        return InvalidInputError(
            f"{path!r} is in artifact {self.name}, with other content.",
            hint="Use another name, or overwrite=True (merge=True for directories).",
        )

    @contextmanager
    def _adding(self) -> Iterator[Staging | None]:
        """Where bytes are taken to; None in mode "disabled"."""
        with self._alone():
            self._draft()
            staging = self._own_staging()
        if staging is None:
            self._unkept = True
            yield None
        else:
            with explained(staging.store):
                yield staging

    def _own_staging(self) -> Staging | None:
        """The draft's bytes, where this process can add to them."""
        held = self._staging
        if held is None and _stores.keep_nothing():
            return None
        if held is None or held.inherited or held.store.catalog.closed:
            store = _stores.opened()
            with explained(store):
                self._staging = (
                    Staging(store) if held is None
                    else held.moved_to(store, self._stored())
                )  # fmt: skip
        return self._staging

    def _alone(self) -> AbstractContextManager[bool]:
        """One thread at a time; in a forked child none of the parent's threads is."""
        if self._mutex[0] != os.getpid():
            self._mutex = os.getpid(), RLock()
        return self._mutex[1]

    def _stored(self) -> list[Digest]:
        """The contents that a draft needs the bytes of."""
        return [e.digest for e in self._entries if e.uri is None and e.digest]

    def _bring_to(self, store: Store) -> None:
        """Have the draft's bytes in a Store, wherever they were put before."""
        staging, origin = self._staging, self._origin
        if staging is not None and (
            staging.inherited or staging.store.path != store.path
        ):
            self._staging = staging.moved_to(store, self._stored())
        if origin is not None and origin.path != store.path:
            self._staging = self._staging or Staging(store)
            self._staging.copy(self._stored(), origin.blobs.here)


class _InMemory(io.BytesIO):
    """A new file of a draft that keeps nothing."""

    def __init__(self, text: str | None) -> None:
        super().__init__()
        self.file: IO[Any] = (
            self if text is None else io.TextIOWrapper(self, encoding=text)
        )
        self._data = b""

    def close(self) -> None:
        if not self.closed:
            self._data = self.getvalue()
        super().close()

    def taken(self) -> Staged:
        return Staged(_digest.of_bytes(self._data), len(self._data), None)


class _OnDisk:
    """A new file of a draft, where it is written."""

    def __init__(
        self, path: Path, text: str | None, take: Callable[[Path], Staged]
    ) -> None:
        self.file: IO[Any] = path.open(f"w{'b' if text is None else ''}", encoding=text)
        self.taken = partial(take, path)


def _hashed(files: Sequence[Found], told: Callable[[int], None]) -> list[Entry]:
    """The entries of files whose bytes are not kept."""
    held = hash_files([file.source for file in files], told)
    return [
        Entry(file.path, one.digest, one.size)
        for file, one in zip(files, held, strict=True)
    ]


@contextmanager
def explained(store: Store) -> Iterator[None]:
    """Say what to do where the system refuses to keep bytes."""
    try:
        yield
    except WanllmdbError:
        raise
    except OSError as error:
        raise _files.explain_os_error(error, store.path) from error


def _check_policy(policy: str | None) -> None:
    if policy is not None and policy not in _POLICIES:
        raise InvalidInputError(
            f"There is no policy {policy!r}.", hint=f"Use {' or '.join(_POLICIES)}."
        )
