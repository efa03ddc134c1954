"""What is below a directory: every file that can be added, and all that cannot."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from string import ascii_letters, digits
from typing import NamedTuple

from wanllmdb import _layout
from wanllmdb._catalog.stat_cache import Known, Listing, packed
from wanllmdb._manifest import entry_path
from wanllmdb.errors import InvalidInputError
from wanllmdb.types import Stat, stat_numbers

NAMED = 20
"""Offenders that an error names."""

REPEATED = 200_000
"""Paths into directories that were reached before by another one, through links."""

PLAIN = 200
"""Characters of a path that is too short for any limit."""

_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._ -]*")
_PLAIN_NAMES = frozenset(f"{ascii_letters}{digits}._ -/")


class Found(NamedTuple):
    """A file: its path in an artifact, where it is, and its stat."""

    path: str
    source: str
    stat: Stat


class Unchanged(NamedTuple):
    """A directory whose every file is as it was when it was last hashed.

    Attributes:
        path: What it is in an artifact; "" for the root.
        source: Where it is.
        listing: Its files.
    """

    path: str
    source: str
    listing: Listing

    def paths(self) -> list[str]:
        """The files' paths in the artifact."""
        head = f"{self.path}/" if self.path else ""
        return [head + name for name in self.listing.names]

    def files(self) -> list[Found]:
        """The files one by one."""
        known = self.listing.files()
        return [
            Found(path, f"{self.source}/{name}", known[name][0])
            for path, name in zip(self.paths(), self.listing.names, strict=True)
        ]


class Scanned(NamedTuple):
    """What is below a directory; no file is in both.

    Attributes:
        files: By path.
        unchanged: The directories that need no look at each file.
    """

    files: list[Found]
    unchanged: list[Unchanged]

    @property
    def size(self) -> int:
        """Bytes of all of them."""
        inside = (sum(directory.listing.sizes()) for directory in self.unchanged)
        return sum(file.stat.size for file in self.files) + sum(inside)


Above = frozenset[tuple[int, int]]
"""What the directories above one are known by."""


class _Refused(Exception):  # noqa: N818 - a reason, collected with the others
    """Why something cannot be added."""


def is_directory(path: Path) -> bool:
    """Whether a path is a directory, or a link to one; whatever the path."""
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir may raise


def check_file(path: Path) -> None:
    """Look whether a file can be added, without opening it.

    Raises:
        InvalidInputError: it is not there, is no regular file, or is a Store's Catalog.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a NUL in it
        raise InvalidInputError(
            f"{path} cannot be read: {_reason(error)}.", hint="Name a file."
        ) from error
    if stat.S_ISDIR(status.st_mode):
        raise InvalidInputError(f"{path} is a directory.", hint="Use add_dir.")
    if not stat.S_ISREG(status.st_mode):
        raise InvalidInputError(f"{path} is no regular file.", hint="Leave it out.")
    if _layout.is_catalog(path):
        raise InvalidInputError(
            f"{path} is the Catalog of a Store.", hint="Use `wanllmdb store backup`."
        )


def scan(
    root: Path, prefix: str = "", limit: int | None = None, known: Known | None = None
) -> Scanned:
    """Every file below a directory, by its path in an artifact.

    Links are followed, to files and to directories. Nothing is read but directories.
    Stores are left out: their bytes are theirs, and opening a Catalog here would drop
    the locks that SQLite holds on it.

    Args:
        root: The directory.
        prefix: The path in the artifact that it becomes; "" for the root.
        limit: Files that it may hold; None for any number.
        known: What was found and hashed before, by directory.

    Raises:
        InvalidInputError: some cannot be added: special files, unreadable ones, loops
            of links, names that no entry can have. The message names them. Or there
            are more than `limit`, or links that lead to the same directories again and
            again.
    """
    if _layout.is_catalog(root / _layout.CATALOG):
        raise InvalidInputError(
            f"{root} is a Store.", hint="Use `wanllmdb store backup`."
        )
    here = _Scan(root, prefix, limit, known or {})
    here.run()
    if (
        here.renamed and here.unchanged
    ):  # two directories may have one path: look at all
        return scan(root, prefix, limit)
    if here.wrong:
        more = f", and {len(here.wrong) - NAMED} more" if here.wrong[NAMED:] else ""
        raise InvalidInputError(
            f"These cannot be added: {', '.join(here.wrong[:NAMED])}{more}.",
            hint="Remove them, or add the other files one by one.",
            count=len(here.wrong),
        )
    return Scanned([here.found[path] for path in sorted(here.found)], here.unchanged)


class _Scan:
    """A walk through a directory; what it found, and what it refuses."""

    def __init__(self, root: Path, prefix: str, limit: int | None, known: Known):
        self.found: dict[str, Found] = {}
        self.unchanged: list[Unchanged] = []
        self.wrong: list[str] = []
        self.renamed = False
        """Whether a directory's name is another one in the artifact."""
        self._root = root
        self._limit = limit
        self._known = known
        self._directories: set[str] = set()
        here = _identity(root.stat())
        self._waiting = [(str(root), prefix, here, frozenset([here]))]
        self._seen: set[tuple[int, int]] = set()
        self._repeated = 0

    def run(self) -> None:
        count = 0
        while self._waiting:
            directory, head, here, above = self._waiting.pop()
            again = here in self._seen
            self._seen.add(here)
            listing = self._known.get(directory)
            inside = None if listing is None else _unchanged(directory, head, listing)
            if listing is not None and inside is not None:
                self.unchanged.append(Unchanged(head, directory, listing))
                count += len(listing.names)
                self._reached(directory, again * (len(listing.names) + len(inside)))
                for name in inside:
                    place = f"{directory.rstrip('/')}/{name}"
                    self._tried(place, self._enter, place, name, head, above)
            else:
                for item in _inside(directory, self.wrong):
                    self._reached(directory, again)
                    self._tried(item.path, self._take, item, head, above)
            if self._limit is not None and len(self.found) + count > self._limit:
                raise _too_many(self._root, self._limit)
        self.wrong += [
            f"{self.found[path].source!r} (a directory's name is {path!r}, too)"
            for path in sorted(self._directories & self.found.keys())
        ]

    def _reached(self, directory: str, paths: int) -> None:
        """Count paths into a directory that was reached before."""
        self._repeated += paths
        if self._repeated > REPEATED:
            raise _endless(self._root, directory)

    def _tried(self, place: str, work: Callable[..., None], *given: object) -> None:
        """Note a place that cannot be added, and go on."""
        try:
            work(*given)
        except (OSError, InvalidInputError, _Refused) as error:
            self.wrong.append(f"{place!r} ({_reason(error)})")

    def _take(self, item: os.DirEntry[str], head: str, above: Above) -> None:
        status = item.stat()
        if stat.S_ISDIR(status.st_mode):
            self._enter(item.path, item.name, head, above)
            return
        path = _path_of(head, item.name)
        _check(item, status)
        if path in self.found:
            raise _Refused(f"another file's name is {path!r}, too")
        self.found[path] = Found(path, item.path, Stat.of(status))

    def _enter(self, place: str, name: str, head: str, above: Above) -> None:
        path = _path_of(head, name)
        here = _identity(os.stat(place))  # noqa: PTH116 - a text
        if here in above:
            raise _Refused("a link to a directory above it")
        self.renamed |= path != f"{head}/{name}".lstrip("/")
        self._waiting.append((place, path, here, above | {here}))
        self._directories.add(path)


def _unchanged(directory: str, head: str, listing: Listing) -> list[str] | None:
    """The directories in one whose files are all as they were; None if not all are.

    So are they only where their names need no check, and are short below this head.
    """
    numbers: list[int] = []
    files, inside = [], []
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in sorted(os.listdir(fd)):  # noqa: PTH208 - of an open directory
                found = os.stat(name, dir_fd=fd)
                if stat.S_ISREG(found.st_mode):
                    files.append(name)
                    numbers += stat_numbers(found)
                elif stat.S_ISDIR(found.st_mode):
                    inside.append(name)
                else:
                    return None
        finally:
            os.close(fd)
    except OSError:
        return None  # who looks at each file says what it is
    if files != listing.names or packed(numbers) != listing.stats:
        return None
    text = f"/{'/'.join(files)}"
    plain = _PLAIN_NAMES.issuperset(text) and "/." not in text and "/ " not in text
    return inside if plain and len(head) + max(map(len, files)) < PLAIN else None


def _path_of(head: str, name: str) -> str:
    """An entry's path; quickly, where its directory's is checked and its name plain."""
    if head and len(head) + len(name) < PLAIN and _PLAIN.fullmatch(name):
        return f"{head}/{name}"
    return entry_path(f"{head}/{name}".lstrip("/"))


def _endless(root: Path, directory: str) -> InvalidInputError:
    # Few links are enough: two in each of thirty directories make 2 ** 30 paths.
    return InvalidInputError(
        f"{root} leads to the same directories again and again by links: to"
        f" {directory!r}, among others, {REPEATED} paths in all.",
        hint="Remove the links, or add what they lead to by itself.",
    )


def _too_many(root: Path, limit: int) -> InvalidInputError:
    return InvalidInputError(
        f"{root} holds more than {limit} files.",
        hint="Raise max_objects, or refer to a part of it.", limit=limit,
    )  # fmt: skip


def _inside(directory: str, wrong: list[str]) -> Iterator[os.DirEntry[str]]:
    try:
        items = sorted(os.scandir(directory), key=lambda item: item.name)
    except OSError as error:
        wrong.append(f"{directory!r} ({error.strerror})")
        return
    if not _layout.is_store(item.name for item in items):
        yield from items


def _check(item: os.DirEntry[str], status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise _Refused("no regular file")
    mine = status.st_uid == os.geteuid() and status.st_mode & stat.S_IRUSR
    if not mine and not os.access(item.path, os.R_OK):
        raise _Refused("not readable")
    if item.is_symlink() and _layout.is_catalog(Path(item.path)):
        raise _Refused("the Catalog of a Store")


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return error.message if isinstance(error, InvalidInputError) else str(error)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
