"""Drafts: an artifact's bytes, copied into the Store before it is committed.

``tmp/draft-<token>/`` holds each new content once, under its digest; `held` names the
blobs that were there already. Its lock says that its owner lives: gc takes neither.
Bytes are hashed as they were copied, so what changes afterwards changes nothing. Where
the caller promises that a file will not change, it is a hard link instead.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import time
import weakref
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
    Set,
)
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from wanllmdb import _digest, _files, _ids, _locks
from wanllmdb._budget import Room
from wanllmdb._catalog.stat_cache import ALONE, Known, Listing
from wanllmdb._manifest import Entry
from wanllmdb._media.content import Content
from wanllmdb._scanning import Found, Scanned
from wanllmdb._store import Store
from wanllmdb.errors import InvalidInputError
from wanllmdb.types import Digest, Stat

SMALL_BYTES = 1 << 20
"""Files of no more bytes are read whole, one after the other: threads gain nothing."""

SETTLED_NS = 2_000_000_000
"""A file that was changed shortly before it was hashed may change again unseen."""

THREADS = 8

_NO_RANGE = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ETXTBSY)


class Staged(NamedTuple):
    """What a file held.

    Attributes:
        digest: Of its bytes.
        size: How many.
        stat: What tells that it still holds them; None where it was changed so lately
            that it may change again unseen.
    """

    digest: Digest
    size: int
    stat: Stat | None


class Staging:
    """The bytes of one draft. Safe for threads; a forked child needs a copy.

    Args:
        store: Where they are kept; a draft that is dropped leaves nothing there.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._directory = store.tmp / f"draft-{_ids.stream_token()}"
        _files.make_private_dir(self._directory)
        try:
            self._owner = _locks.create_locked(
                self._directory / "lock", store.tmp, str(os.getpid()).encode()
            )
        except BaseException:
            shutil.rmtree(self._directory, ignore_errors=True)
            raise
        self._new: dict[Digest, str] = {}
        self._held: set[Digest] = set()
        self._listings: dict[str, Listing] = {}
        self._linked: set[str] = set()
        self._room: Room | None = None
        self._counted = False
        self._new_size = 0
        self._mutex = Lock()
        self._pid = os.getpid()
        self.discard = weakref.finalize(
            self, _discard, self._directory, self._owner, os.getpid()
        )

    @property
    def store(self) -> Store:
        """Where the bytes are."""
        return self._store

    @property
    def inherited(self) -> bool:
        """Whether it is another process's, which may drop it at any moment."""
        return self._pid != os.getpid()

    @property
    def new(self) -> Mapping[Digest, str]:
        """The contents that the Store has no blob of, and where they are."""
        return self._new

    @property
    def held(self) -> Set[Digest]:
        """The contents whose blobs were there, and which gc leaves since then."""
        return self._held

    @property
    def listings(self) -> Mapping[str, Listing]:
        """Files whose stat stands for their bytes from now on, by place."""
        if not self._linked:
            return self._listings
        found = {place: self._relisted(place) for place in self._listings}
        return {place: one for place, one in found.items() if one is not None}

    def _relisted(self, place: str) -> Listing | None:
        """A place's listing, with the ctimes that its files have by their new names."""
        files = self._listings[place].files()
        for name, (before, digest) in files.items():
            path = place if name == ALONE else f"{place}/{name}"
            if path in self._linked:
                files[name] = _renamed(path, before), digest
        return Listing.of(files)

    def path_of(self, digest: Digest) -> Path:
        """Where the bytes of a staged content are now."""
        path = Path(self._new.get(digest, ""))
        if digest in self._new and path.exists():
            return path
        return self._store.blobs.path_of(digest)

    def new_path(self) -> Path:
        """Where a file can be written that is to be added, and removed then."""
        with self._mutex:
            self._count()  # now: it would count twice, until it is removed
        return self._directory / f"new-{_ids.stream_token()}"

    def moved_to(self, store: Store, digests: Iterable[Digest]) -> Staging:
        """These contents as another draft, of a Store or a process; this is dropped."""
        other = Staging(store)
        other.copy(digests, self.path_of)
        other._listings = dict(self._listings)
        other._linked = set(self._linked)
        self.discard()
        return other

    def copy(
        self, digests: Iterable[Digest], path_of: Callable[[Digest], Path]
    ) -> None:
        """Keep contents that are elsewhere; what is gone there is left out.

        Args:
            digests: Of what.
            path_of: Where the bytes of one are.
        """
        wanted = [digest for digest in digests if digest not in self._new]
        with self._store.sweeper.gc_kept_out():
            held = self._store.blobs.present(dict.fromkeys(wanted))
            self._hold(held)
        sources = [path_of(digest) for digest in wanted if digest not in held]
        self.add_files([str(path) for path in sources if path.exists()])

    def add_file(
        self, source: str, before: tuple[Stat, Digest] | None, *, link: bool = False
    ) -> Staged:
        """Keep what a file holds now; it is read unless it is as it was before.

        Args:
            source: Its absolute path.
            before: What is known of it.
            link: As `add_files` takes it.
        """
        same = [before] if before is not None and before[0] == _stat(source) else None
        (held,) = self.add_files([source], same, link=link)
        if held.stat is not None and same is None:
            self._list(source, {ALONE: held})
        return held

    def add_scanned(
        self,
        scanned: Scanned,
        known: Known,
        told: Callable[[int], None] = lambda size: None,
        *,
        link: bool = False,
    ) -> list[Entry]:
        """Keep what the files below a directory hold now; their entries.

        Args:
            scanned: The files.
            known: What was hashed before, by directory.
            told: Called with bytes that are done.
            link: As `add_files` takes it.

        Raises:
            InvalidInputError: one cannot be read, or changes while it is.
        """
        entries, files = self._hold_unchanged(scanned, told)
        files += scanned.files
        held = self.add_files(
            [file.source for file in files], _as_before(files, known), told, link=link
        )
        directories: dict[str, dict[str, Staged]] = {}
        for file, one in zip(files, held, strict=True):
            entries.append(Entry(file.path, one.digest, one.size))
            directory, name = os.path.split(file.source)
            directories.setdefault(directory, {})[name] = one
        for directory, inside in directories.items():
            self._list(directory, inside)
        return entries

    def _hold_unchanged(
        self, scanned: Scanned, told: Callable[[int], None]
    ) -> tuple[list[Entry], list[Found]]:
        """The entries of directories that are as they were; files to be read again."""
        entries: list[Entry] = []
        files: list[Found] = []
        digests = [directory.listing.held() for directory in scanned.unchanged]
        wanted = {digest for inside in digests for digest in inside} - self._new.keys()
        gone = self._lacking(wanted) if wanted else wanted
        for directory, inside in zip(scanned.unchanged, digests, strict=True):
            if gone and not gone.isdisjoint(inside):
                files += directory.files()
                continue
            sizes = directory.listing.sizes()
            entries += map(Entry, directory.paths(), inside, sizes)
            told(sum(sizes))
        return entries, files

    def _lacking(self, digests: Set[Digest]) -> Set[Digest]:
        """Hold the blobs of contents; those that have none."""
        with self._store.sweeper.gc_kept_out():
            present = self._store.blobs.listed(digests)
            self._hold(present)
        return digests - present

    def _list(self, place: str, files: Mapping[str, Staged]) -> None:
        """Keep what tells that files are unchanged."""
        listing = Listing.of({
            name: (one.stat, one.digest)
            for name, one in files.items() if one.stat is not None
        })  # fmt: skip
        if listing is not None:
            self._listings[place] = listing

    def add_files(
        self,
        sources: Sequence[str],
        same: Sequence[tuple[Stat, Digest] | None] | None = None,
        told: Callable[[int], None] = lambda size: None,
        *,
        link: bool = False,
    ) -> list[Staged]:
        """Keep what files hold now.

        Args:
            sources: Absolute paths of regular files.
            same: What each holds by its stat, where that is known; then it is not read.
            told: Called with the bytes of each file that is done.
            link: They will not change: keep hard links of them, where the filesystem
                gives them.

        Returns:
            What each held, in their order.

        Raises:
            InvalidInputError: one cannot be read, or changes while it is.
        """
        with self._store.sweeper.gc_kept_out():  # until what is held is named
            held: list[Digest] = []
            found = self._still_there(same or [None] * len(sources), held)
            unread = [s for s, d in zip(sources, found, strict=True) if d is None]
            what = unread[0] if len(unread) == 1 else f"{len(unread)} new files"
            sizes = (_stat(source).size for source in unread)
            self._make_room(lambda: hash_files(unread), sizes, what)
            large = []
            for index, source in enumerate(sources):
                done = found[index]
                if done is None and link:
                    done = found[index] = self._add_linked(source, held)
                if done is None:
                    done = found[index] = self._add_small(source, held)
                if done is None:
                    large.append(index)
                else:
                    told(done.size)
            copied = self._add_all(sources, large, held)
            for index, done in zip(large, copied, strict=True):
                found[index] = done
                told(done.size)
            self._hold(held)
        return [done for done in found if done is not None]

    def _make_room(
        self, found: Callable[[], Iterable[Staged]], sizes: Iterable[int], what: str
    ) -> None:
        """Refuse bytes of which more is new than the disk budget has room for.

        The Store is counted once for a draft.

        Args:
            found: What they are; asked where not all would fit.
            sizes: How many each has; asked where a budget is set.
            what: What to call them.
        """
        with self._mutex:
            room = self._count()
            if room is None:
                return
            left = room.left - self._new_size
            size = sum(sizes)
            if size > left:
                size = self._new_bytes(found())
            if size > left:
                raise room.refusal(size, left, what)

    def _count(self) -> Room | None:
        if not self._counted:
            self._room, self._counted = self._store.budget.room(), True
        return self._room

    def _new_bytes(self, found: Iterable[Staged]) -> int:
        wanted = {s.digest: s.size for s in found if s.digest not in self._new}
        held = self._store.blobs.present(wanted)
        return sum(size for digest, size in wanted.items() if digest not in held)

    def add_contents(self, contents: Sequence[Content]) -> None:
        """Keep what media hold.

        Raises:
            IntegrityError: the bytes of one have changed where they are.
            DiskBudgetError: they are beyond what may be stored.
        """
        with self._store.sweeper.gc_kept_out():  # until what is held is named
            held: list[Digest] = []
            new = [Staged(content.digest, content.size, None) for content in contents]
            what = f"media files ({len(new)})"
            self._make_room(lambda: new, (one.size for one in new), what)
            for content, staged in zip(contents, new, strict=True):
                if not self._has(staged, held):
                    self._add_content(content, staged, held)
            self._hold(held)

    def _add_content(
        self, content: Content, staged: Staged, held: list[Digest]
    ) -> None:
        draft = self._directory / f"copy-{_ids.stream_token()}"
        try:
            content.write_to(draft)
            with self._mutex:
                if not self._has(staged, held):
                    goal = self._goal(staged.digest)
                    draft.rename(goal)
                    self._put(staged.digest, goal, staged.size)
        finally:
            draft.unlink(missing_ok=True)

    def _has(self, staged: Staged, held: list[Digest]) -> bool:
        """Whether a content need not be kept again; its blob is noted as held."""
        if staged.digest in self._new:
            return True
        if self._store.blobs.present({staged.digest: staged.size}):
            held.append(staged.digest)
            return True
        return False

    def _add_all(
        self, sources: Sequence[str], large: Sequence[int], held: list[Digest]
    ) -> Iterator[Staged]:
        if len(large) == 1:  # also where threads start no more: at the program's end
            yield self._add_large(sources[large[0]], held)
        elif large:
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(min(THREADS, len(large))) as pool:
                yield from pool.map(lambda i: self._add_large(sources[i], held), large)

    def _still_there(
        self, same: Sequence[tuple[Stat, Digest] | None], held: list[Digest]
    ) -> list[Staged | None]:
        """What files hold that are as they were, and whose bytes are in the Store."""
        found = [
            None if one is None else Staged(one[1], one[0].size, one[0]) for one in same
        ]
        wanted = {s.digest: s.size for s in found if s and s.digest not in self._new}
        present = self._store.blobs.present(wanted) if wanted else set()
        held += present
        if len(present) == len(wanted):
            return found
        gone = wanted.keys() - present
        return [None if s is None or s.digest in gone else s for s in found]

    def _add_linked(self, path: str, held: list[Digest]) -> Staged | None:
        """Keep a hard link of a file; None where there can be none."""
        with _Source(path) as source:
            digest = source.hashed()
            source.check()
            staged = Staged(digest, source.size, source.settled())
            with self._mutex:
                if self._has(staged, held):
                    return staged
                goal = self._goal(digest)
                if not source.link_to(goal):
                    return None
                self._put(digest, goal, source.size)
                self._linked.add(path)
        return staged

    def _add_small(self, path: str, held: list[Digest]) -> Staged | None:
        """Read a file whole; None if it is large."""
        with _Source(path) as source:
            if source.size > SMALL_BYTES:
                return None
            data = source.read_all()
            digest = _digest.of_bytes(data)
            source.check()
            found = Staged(digest, len(data), source.settled())
        self._keep(digest, data, held)
        return found

    def _add_large(self, path: str, held: list[Digest]) -> Staged:
        draft = self._directory / f"copy-{_ids.stream_token()}"
        try:
            with _Source(path) as source:
                size = source.copy_to(draft)
                digest = _digest.of_file(draft)
                source.check()
                found = Staged(digest, size, source.settled())
            with self._mutex:
                if not self._has(found, held):
                    goal = self._goal(digest)
                    draft.rename(goal)
                    self._put(digest, goal, size)
            return found
        finally:
            draft.unlink(missing_ok=True)

    def _keep(self, digest: Digest, data: bytes, held: list[Digest]) -> None:
        with self._mutex:  # another thread may add the same content
            if self._has(Staged(digest, len(data), None), held):
                return
            goal = self._goal(digest)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            fd = os.open(goal, flags, 0o400)
            try:
                _files.write_all(fd, data)
            except BaseException:  # a full disk: it can be tried again
                os.unlink(goal)  # noqa: PTH108 - a text
                raise
            finally:
                os.close(fd)
            self._put(digest, goal, len(data))

    def _put(self, digest: Digest, goal: str, size: int) -> None:
        self._new[digest] = goal
        self._new_size += size

    def _goal(self, digest: Digest) -> str:
        """Where a new content goes: a text, for there may be thousands."""
        return f"{self._directory}/{_digest.hex_of(digest)}"

    def _hold(self, digests: Collection[Digest]) -> None:
        """Name blobs that this draft needs, so that gc leaves them."""
        text = "".join(f"{digest}\n" for digest in dict.fromkeys(digests))
        if text:
            with self._mutex, (self._directory / "held").open("a") as file:
                file.write(text)
            self._held.update(digests)


def _as_before(
    files: Iterable[Found], known: Known
) -> list[tuple[Stat, Digest] | None]:
    """What each file held, if it is as it was when it was hashed."""
    before: dict[str, dict[str, tuple[Stat, Digest]]] = {}
    found = []
    for file in files:
        directory, name = os.path.split(file.source)
        if directory not in before:
            listing = known.get(directory)
            before[directory] = {} if listing is None else listing.files()
        one = before[directory].get(name)
        found.append(one if one is not None and one[0] == file.stat else None)
    return found


def hash_files(
    sources: Sequence[str], told: Callable[[int], None] = lambda size: None
) -> list[Staged]:
    """What files hold now, where no byte of them is to be kept.

    Args:
        sources: Absolute paths of regular files.
        told: Called with the bytes of each file that is done.

    Raises:
        InvalidInputError: one cannot be read, or changes while it is.
    """
    found = []
    for source in sources:
        found.append(hash_file(Path(source)))
        told(found[-1].size)
    return found


class _Source:
    """A file that is read once, and must stay as it is meanwhile."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __enter__(self) -> _Source:
        try:
            # Not to wait for the other end, should it be a pipe.
            flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
            self.fd = os.open(self.path, flags)
            found = os.fstat(self.fd)
        except OSError as error:
            raise _unreadable(self.path, error) from error
        if not stat.S_ISREG(found.st_mode):
            os.close(self.fd)
            raise InvalidInputError(
                f"{self.path} is no regular file.", hint="Leave it out."
            )
        self.stat = Stat.of(found)
        self.size = found.st_size
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    def read_all(self) -> bytes:
        pieces = []
        try:
            while piece := os.read(self.fd, SMALL_BYTES):
                pieces.append(piece)
        except OSError as error:
            raise _unreadable(self.path, error) from error
        return b"".join(pieces)

    def copy_to(self, draft: Path) -> int:
        """Copy the bytes, in the kernel where it can; how many."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        out = os.open(draft, flags, 0o400)
        try:
            done = 0
            while count := self._copy_some(out, done):
                done += count
            return done
        finally:
            os.close(out)

    def _copy_some(self, out: int, done: int) -> int:
        if hasattr(os, "copy_file_range"):
            try:
                return os.copy_file_range(self.fd, out, 1 << 30)
            except OSError as error:
                if error.errno not in _NO_RANGE:
                    raise
        data = os.pread(self.fd, SMALL_BYTES, done)
        _files.write_all(out, data)
        os.lseek(self.fd, done + len(data), os.SEEK_SET)
        return len(data)

    def hashed(self) -> Digest:
        """The digest of the bytes."""
        import hashlib

        try:
            with os.fdopen(os.dup(self.fd), "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise _unreadable(self.path, error) from error
        return Digest(_digest.PREFIX + digest)

    def link_to(self, goal: str) -> bool:
        """Give the file another name; False where that cannot be."""
        try:
            # Of the file itself: Linux would link a symbolic link.
            os.link(os.path.realpath(self.path), goal)
        except OSError:  # another filesystem, another owner, too many of them
            return False
        made, mine = os.lstat(goal), os.fstat(self.fd)
        if (made.st_dev, made.st_ino) != (mine.st_dev, mine.st_ino):
            os.unlink(goal)  # noqa: PTH108 - a text; another file took its place just then
            return False
        return True

    def check(self) -> None:
        """Refuse a file that is not as it was when it was opened."""
        if Stat.of(os.fstat(self.fd)) != self.stat:
            raise InvalidInputError(
                f"{self.path} changed while it was read.",
                hint="Wait until it is written, and add it then.",
            )

    def settled(self) -> Stat | None:
        """Its stat, if its times are too old for a change that they would not show."""
        newest = max(self.stat.mtime_ns, self.stat.ctime_ns)
        return self.stat if time.time_ns() - newest > SETTLED_NS else None


def hash_file(path: Path) -> Staged:
    """What a file holds; it is not kept."""
    with _Source(str(path)) as source:
        digest = source.hashed()
        source.check()
        return Staged(digest, source.size, source.settled())


def _renamed(path: str, before: Stat) -> Stat:
    """What the system says of a file whose link was moved: its ctime is another one."""
    try:
        now = Stat.of(os.stat(path))  # noqa: PTH116 - thousands of them
    except OSError:
        return before
    same = now._replace(ctime_ns=before.ctime_ns) == before
    return now if same else before


def _stat(path: str) -> Stat:
    try:
        return Stat.of(os.stat(path))  # noqa: PTH116 - thousands of them
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: OSError) -> InvalidInputError:
    return InvalidInputError(
        f"{path} cannot be read: {error.strerror}.", hint="Check the path and its mode."
    )


def _discard(directory: Path, owner: _locks.FileLock, pid: int) -> None:
    """Drop a draft's bytes; in a forked child they are the parent's."""
    if pid == os.getpid():
        shutil.rmtree(directory, ignore_errors=True)
        owner.release()
