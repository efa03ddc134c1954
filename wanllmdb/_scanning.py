"""What is below a directory: every file that can be added, and all that cannot."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from wanllmdb import _layout
from wanllmdb._manifest import entry_path
from wanllmdb.errors import InvalidInputError
from wanllmdb.types import Stat

NAMED = 20
"""Offenders that an error names."""

REPEATED = 200_000
"""Paths into directories that were reached before by another one, through links."""

PLAIN = 200
"""Characters of a path that is too short for any limit."""

_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._ -]*")


class Found(NamedTuple):
    """A file: its path in an artifact, where it is, and its stat."""

    path: str
    source: str
    stat: Stat


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


def scan(root: Path, prefix: str = "", limit: int | None = None) -> list[Found]:
    """Every file below a directory, by its path in an artifact.

    Links are followed, to files and to directories. Nothing is read but directories.
    Stores are left out: their bytes are theirs, and opening a Catalog here would drop
    the locks that SQLite holds on it.

    Args:
        root: The directory.
        prefix: The path in the artifact that it becomes; "" for the root.
        limit: Files that it may hold; None for any number.

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
    here = _Scan(root, prefix, limit)
    here.run()
    if here.wrong:
        more = f", and {len(here.wrong) - NAMED} more" if here.wrong[NAMED:] else ""
        raise InvalidInputError(
            f"These cannot be added: {', '.join(here.wrong[:NAMED])}{more}.",
            hint="Remove them, or add the other files one by one.",
            count=len(here.wrong),
        )
    return [here.found[path] for path in sorted(here.found)]


class _Scan:
    """A walk through a directory; what it found, and what it refuses."""

    def __init__(self, root: Path, prefix: str, limit: int | None) -> None:
        self.found: dict[str, Found] = {}
        self.wrong: list[str] = []
        self._root = root
        self._limit = limit
        self._directories: set[str] = set()
        here = _identity(root.stat())
        self._waiting = [(str(root), prefix, here, frozenset([here]))]
        self._seen: set[tuple[int, int]] = set()
        self._repeated = 0

    def run(self) -> None:
        while self._waiting:
            directory, head, here, above = self._waiting.pop()
            again = here in self._seen
            self._seen.add(here)
            for item in _inside(directory, self.wrong):
                self._repeated += again
                if self._repeated > REPEATED:
                    raise _endless(self._root, directory)
                try:
                    self._take(item, head, above)
                except (OSError, InvalidInputError, _Refused) as error:
                    self.wrong.append(f"{item.path!r} ({_reason(error)})")
            if self._limit is not None and len(self.found) > self._limit:
                raise _too_many(self._root, self._limit)
        self.wrong += [
            f"{self.found[path].source!r} (a directory's name is {path!r}, too)"
            for path in sorted(self._directories & self.found.keys())
        ]

    def _take(
        self, item: os.DirEntry[str], head: str, above: frozenset[tuple[int, int]]
    ) -> None:
        path = _path_of(head, item.name)
        status = item.stat()
        if stat.S_ISDIR(status.st_mode):
            here = _identity(status)
            if here in above:
                raise _Refused("a link to a directory above it")
            self._waiting.append((item.path, path, here, above | {here}))
            self._directories.add(path)
            return
        _check(item, status)
        if path in self.found:
            raise _Refused(f"another file's name is {path!r}, too")
        self.found[path] = Found(path, item.path, Stat.of(status))


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
