"""The Remote port: what a sync asks of a place that keeps objects under keys.

Whatever is safe at a remote rests on `Remote.create`: of all who create one key, one
wins. Everything else is named by its content, or written once.
"""

from __future__ import annotations

import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, NamedTuple

from wanllmdb.errors import (
    InvalidInputError,
    RemoteError,
    RemoteUnreachableError,
)

BLOCK = 8 << 20
"""Bytes of an object that are held at once, per block in flight."""

MAX_KEY = 900
"""Bytes of a key; S3 takes 1,024, of which a prefix of the user's needs some."""

MAX_PART = 255
"""Bytes between two slashes of a key, which is a file's name where files are."""

DRAFTS = ".drafts"
"""Where a remote of files keeps what is not whole yet; never the start of a key."""


class MissingKeyError(LookupError):
    """The remote answered: there is no object of that key."""


class Listed(NamedTuple):
    """An object, as a listing tells of it.

    Attributes:
        key: Its key below the root.
        size: Bytes.
        modified_us: Microseconds since 1970 (UTC) by the remote's clock; 0 if unknown.
    """

    key: str
    size: int
    modified_us: int


class Remote(ABC):
    """Objects under keys, below one root.

    Keys are relative POSIX paths, by `check_key`, whatever the remote. Any thread may
    call any verb. Unless said otherwise, each verb raises:

    - RemoteUnreachableError: nothing answers, or not in full; worth another try.
    - RemoteDeniedError: credentials are missing, wrong, expired, or do not suffice.
    - RemoteNotFoundError: the root (its bucket, its disk) is not there.
    - RemoteFullError: it has no room.
    - RemoteError: it refuses for another reason, or holds what nobody of us wrote.

    Attributes:
        url: The root, as it may be shown and stored: without secrets.
        tested: Whether remotes of this kind are held to the contract by our own tests.
    """

    url: str
    tested: bool = False

    @abstractmethod
    def get(self, key: str, first: int = 0, size: int | None = None) -> bytes:
        """The bytes of a small object, or some of them.

        Args:
            key: The object.
            first: Offset of the first byte; beyond the end there are none.
            size: Bytes at most; None: all that follow.

        Raises:
            MissingKeyError: there is no such object.
        """

    @abstractmethod
    def download(
        self, key: str, sink: BinaryIO, first: int = 0, size: int | None = None
    ) -> int:
        """Write an object, or some of it, to `sink`; how many bytes there were.

        It is written in order, by blocks of at most `BLOCK` bytes. What `sink` raises
        passes as it is.

        Args:
            key: The object.
            sink: Where to.
            first: Offset of the first byte.
            size: Bytes at most; None: all that follow.

        Raises:
            MissingKeyError: there is no such object. Nothing is written.
        """

    @abstractmethod
    def put(self, key: str, data: bytes) -> None:
        """Store a small object, in place of what is there; durable on return."""

    @abstractmethod
    def upload(self, key: str, source: BinaryIO, size: int) -> None:
        """Store an object of any size, in place of what is there; durable on return.

        No more than a few blocks are held, and nobody sees the object before it is
        whole: where this raises, there is none, or the former one.

        Args:
            key: The object.
            source: Read from where it stands. What it raises passes as it is.
            size: Bytes to read.

        Raises:
            ValueError: `source` has fewer.
        """

    @abstractmethod
    def create(self, key: str, data: bytes) -> bool:
        """Store a small object unless there is one of that key; durable on return.

        Where the remote says no, or nothing, the key is read back and compared, so
        that a lost reply is no lost race. It holds no half-written object, ever.

        Args:
            key: The object.
            data: Bytes that nobody else writes: they hold a nonce.

        Returns:
            Whether these bytes are the ones stored there.
        """

    @abstractmethod
    def iter_keys(self, prefix: str, after: str = "") -> Iterator[Listed]:
        """The objects whose keys start with `prefix`, sorted by code points.

        Asked of the remote itself, page by page, and of no cache.

        Args:
            prefix: Of the keys; may end within a name.
            after: Only keys that sort after this one.
        """

    @abstractmethod
    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; those that are not there are no matter."""

    @abstractmethod
    def abort_stale(self, older_than_s: float) -> int:
        """Remove what killed uploads left behind; how many there were.

        Args:
            older_than_s: Seconds that an upload must be old to be taken for dead.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of connections; another call opens them again."""


def check_key(key: str) -> str:
    """The key itself, where it is one.

    Raises:
        InvalidInputError: it is empty, absolute or too long, holds an empty part,
            ``.``, ``..``, a backslash, a control character or a lone surrogate, or is
            in `DRAFTS`.
    """
    if fault := _fault_of(key):
        raise InvalidInputError(
            f"The key {key[:200]!r} {fault}.", hint="Use a relative POSIX path."
        )
    return key


def check_prefix(prefix: str) -> str:
    """The prefix of keys itself, where it is one; "" is.

    Raises:
        InvalidInputError: no key can start with it.
    """
    if prefix:
        check_key(prefix + "x" if prefix.endswith("/") else prefix)
    return prefix


def _fault_of(key: str) -> str:
    parts = key.split("/")
    if not key or "" in parts:
        return "is empty, absolute, or has an empty part"
    if "." in parts or ".." in parts:
        return "leads elsewhere by '.' or '..'"
    if "\\" in key or any(unicodedata.category(one) in ("Cc", "Cs") for one in key):
        return "holds a backslash, a control character or a lone surrogate"
    if len(key.encode()) > MAX_KEY or any(len(p.encode()) > MAX_PART for p in parts):
        return f"is longer than {MAX_KEY} bytes, or a part than {MAX_PART}"
    return f"is within {DRAFTS}" if parts[0] == DRAFTS else ""


def check_range(first: int, size: int | None) -> None:
    """Refuse a range that is none.

    Raises:
        InvalidInputError: it begins before the object, or has a negative size.
    """
    if first < 0 or (size is not None and size < 0):
        raise InvalidInputError(
            f"There are no {size} bytes from {first} on.", hint="Count from 0."
        )


def settle(remote: Remote, key: str, data: bytes, attempt: Callable[[], None]) -> bool:
    """Whether an attempt at exclusive create won; see `Remote.create`.

    A refusal may be the echo of our own success: clients repeat a request whose reply
    was lost. So nothing but the stored bytes tells who won.

    Args:
        remote: Whose key it is.
        key: The object.
        data: What it was to hold.
        attempt: Creates it. Raises FileExistsError where there is one, or any of the
            errors of the port.
    """
    try:
        attempt()
        return True
    except (FileExistsError, RemoteError) as error:
        try:
            held = remote.get(key, 0, len(data) + 1)
        except MissingKeyError:
            if isinstance(error, RemoteError):
                raise error from error.__cause__
            raise RemoteUnreachableError(
                f"{remote.url} refused to create {key!r}, which is not there.",
                hint="It was removed just now; try again.", remote=remote.url, key=key,
            ) from error  # fmt: skip
        return held == data


def read_exactly(source: BinaryIO, size: int) -> bytes:
    """Bytes of a source, as many as asked for.

    Raises:
        ValueError: there are fewer.
    """
    pieces, missing = [], size
    while missing:
        piece = source.read(missing)
        if not piece:
            raise ValueError(f"the source ends {missing} bytes too soon")
        pieces.append(piece)
        missing -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
