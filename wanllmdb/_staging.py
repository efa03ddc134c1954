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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from wanllmdb import _digest, _files, _ids, _locks
from wanllmdb._budget import Room
from wanllmdb._catalog.stat_cache import Known
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
    """What a file held: its digest, and its size in bytes."""

    digest: Digest
    size: int


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
        self._new: dict[Digest, Path] = {}
        self._hashed: list[tuple[str, Stat, Digest]] = []
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
    def new(self) -> Mapping[Digest, Path]:
        """The contents that the Store has no blob of, and where they are."""
        return self._new

    @property
    def hashed(self) -> Sequence[tuple[str, Stat, Digest]]:
        """Files whose stat stands for their bytes from now on."""
        return [
            (path, _renamed(path, before) if path in self._linked else before, digest)
            for path, before, digest in self._hashed
        ]

    def path_of(self, digest: Digest) -> Path:
        """Where the bytes of a staged content are now."""
        path = self._new.get(digest)
        if path is not None and path.exists():
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
        other._hashed = list(self._hashed)
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
        before = len(self._hashed)
        wanted = [digest for digest in digests if digest not in self._new]
        with self._store.sweeper.gc_kept_out():
            held = self._store.blobs.present(dict.fromkeys(wanted))
            self._hold(held)
        sources = [path_of(digest) for digest in wanted if digest not in held]
        self.add_files([str(path) for path in sources if path.exists()])
        del self._hashed[before:]  # files of a Store, which nobody adds again

    def add_files(
        self,
        sources: Sequence[str],
        known: Known | None = None,
        stats: Sequence[Stat] | None = None,
        told: Callable[[int], None] = lambda size: None,
        *,
        link: bool = False,
    ) -> list[Staged]:
        """Keep what files hold now.

        Args:
            sources: Absolute paths of regular files.
            known: What was hashed before: a file that is as it was then is not read.
            stats: What the system says of each now, where the caller has just asked.
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
            found = self._unchanged(sources, known or {}, stats, held)
            self._make_room([s for s, d in zip(sources, found, strict=True) if not d])
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

    def _make_room(self, sources: Sequence[str]) -> None:
        """Refuse files of which more is new than the disk budget has room for.

        The Store is counted once for a draft; of bytes that are there already only the
        files that would not fit otherwise are read twice.
        """
        with self._mutex:
            room = self._count()
            if room is None:
                return
            size = sum(_stat(source).size for source in sources)
            left = room.left - self._new_size
            if size > left:
                size = self._new_bytes(hash_files(sources))
            if size > left:
                what = sources[0] if len(sources) == 1 else f"{len(sources)} new files"
                raise room.refusal(size, left, what)

    def _count(self) -> Room | None:
        if not self._counted:
            self._room, self._counted = self._store.budget.room(), True
        return self._room

    def _new_bytes(self, found: Iterable[Staged]) -> int:
        wanted = {s.digest: s.size for s in found if s.digest not in self._new}
        held = self._store.blobs.present(wanted)
        return sum(size for digest, size in wanted.items() if digest not in held)

    def _add_all(
        self, sources: Sequence[str], large: Sequence[int], held: list[Digest]
    ) -> Iterator[Staged]:
        if len(large) == 1:  # also where threads start no more: at the program's end
            yield self._add_large(sources[large[0]], held)
        elif large:
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(min(THREADS, len(large))) as pool:
                yield from pool.map(lambda i: self._add_large(sources[i], held), large)

    def _unchanged(
        self,
        sources: Sequence[str],
        known: Known,
        stats: Sequence[Stat] | None,
        held: list[Digest],
    ) -> list[Staged | None]:
        """What files hold that are as they were, and whose bytes are in the Store."""
        if not known:
            return [None] * len(sources)
        found: list[Staged | None] = []
        for index, source in enumerate(sources):
            before = known.get(source)
            same = before is not None and before[0] == (
                stats[index] if stats is not None else _stat(source)
            )
            found.append(Staged(before[1], before[0].size) if before and same else None)
        wanted = {s.digest: s.size for s in found if s and s.digest not in self._new}
        present = self._store.blobs.present(wanted)
        held += present
        if len(present) == len(wanted):
            return found
        gone = wanted.keys() - present
        return [None if s is None or s.digest in gone else s for s in found]

    def _add_linked(self, path: str, held: list[Digest]) -> Staged | None:
        """Keep a hard link of a file; None where there can be none."""
        with _Source(path) as source:
            digest = source.hashed()
            self._note(source, digest)
            staged = Staged(digest, source.size)
            with self._mutex:
                if digest in self._new:
                    return staged
                if self._store.blobs.present({digest: source.size}):
                    held.append(digest)
                    return staged
                goal = self._directory / _digest.hex_of(digest)
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
            self._note(source, digest)
        self._keep(digest, data, held)
        return Staged(digest, len(data))

    def _add_large(self, path: str, held: list[Digest]) -> Staged:
        draft = self._directory / f"copy-{_ids.stream_token()}"
        try:
            with _Source(path) as source:
                size = source.copy_to(draft)
                digest = _digest.of_file(draft)
                self._note(source, digest)
            with self._mutex:
                if digest in self._new:
                    return Staged(digest, size)
                if self._store.blobs.present({digest: size}):
                    held.append(digest)
                    return Staged(digest, size)
                goal = self._directory / _digest.hex_of(digest)
                draft.rename(goal)
                self._put(digest, goal, size)
            return Staged(digest, size)
        finally:
            draft.unlink(missing_ok=True)

    def _note(self, source: _Source, digest: Digest) -> None:
        source.check()
        if source.settled():
            with self._mutex:
                self._hashed.append((source.path, source.stat, digest))

    def _keep(self, digest: Digest, data: bytes, held: list[Digest]) -> None:
        with self._mutex:  # another thread may add the same content
            if digest in self._new:
                return
            if self._store.blobs.present({digest: len(data)}):
                held.append(digest)
                return
            goal = self._directory / _digest.hex_of(digest)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            fd = os.open(goal, flags, 0o400)
            try:
                _files.write_all(fd, data)
            except BaseException:  # a full disk: it can be tried again
                goal.unlink(missing_ok=True)
                raise
            finally:
                os.close(fd)
            self._put(digest, goal, len(data))

    def _put(self, digest: Digest, goal: Path, size: int) -> None:
        self._new[digest] = goal
        self._new_size += size

    def _hold(self, digests: Iterable[Digest]) -> None:
        """Name blobs that this draft needs, so that gc leaves them."""
        text = "".join(f"{digest}\n" for digest in dict.fromkeys(digests))
        if text:
            with self._mutex, (self._directory / "held").open("a") as file:
                file.write(text)


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
        digest, read, _ = hash_file(Path(source))
        found.append(Staged(digest, read.size))
        told(read.size)
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

    def link_to(self, goal: Path) -> bool:
        """Give the file another name; False where that cannot be."""
        try:
            # Of the file itself: Linux would link a symbolic link.
            os.link(os.path.realpath(self.path), goal)
        except OSError:  # another filesystem, another owner, too many of them
            return False
        made, mine = goal.lstat(), os.fstat(self.fd)
        if (made.st_dev, made.st_ino) != (mine.st_dev, mine.st_ino):
            goal.unlink()  # another file took its place just then
            return False
        return True

    def check(self) -> None:
        """Refuse a file that is not as it was when it was opened."""
        if Stat.of(os.fstat(self.fd)) != self.stat:
            raise InvalidInputError(
                f"{self.path} changed while it was read.",
                hint="Wait until it is written, and add it then.",
            )

    def settled(self) -> bool:
        """Whether its times are too old for a change that they would not show."""
        newest = max(self.stat.mtime_ns, self.stat.ctime_ns)
        return time.time_ns() - newest > SETTLED_NS


def hash_file(path: Path) -> tuple[Digest, Stat, bool]:
    """A file's digest, its stat, and whether that stands for the bytes from now on."""
    with _Source(str(path)) as source:
        digest = source.hashed()
        source.check()
        return digest, source.stat, source.settled()


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
