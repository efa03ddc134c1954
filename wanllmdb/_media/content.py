"""Bytes as they were when they were taken, whatever becomes of where they came from.

What is small is kept in memory; a large file is copied, to a file without a name, which
the system removes with its last user.
"""

from __future__ import annotations

import os
import stat
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from wanllmdb import _digest, _files
from wanllmdb.errors import DigestMismatchError, InvalidInputError
from wanllmdb.types import Digest

MEMORY_BYTES = 8 << 20
"""A file of more bytes is not kept in memory."""

_CHUNK = 1 << 20


class Content:
    """Some bytes.

    Args:
        digest: Theirs.
        size: How many.
        pieces: Gives them, each time from the first on.

    Attributes:
        digest: ``sha256:`` and hex.
        size: Bytes.
    """

    def __init__(
        self, digest: Digest, size: int, pieces: Callable[[], Iterable[bytes]]
    ) -> None:
        self.digest = digest
        self.size = size
        self._pieces = pieces

    def __reduce__(self) -> tuple[Callable[[bytes], Content], tuple[bytes]]:
        return Content.of, (self.read(),)

    @classmethod
    def of(cls, data: bytes) -> Content:
        """Bytes in memory."""
        return cls(_digest.of_bytes(data), len(data), lambda: (data,))

    @classmethod
    def of_file(cls, path: str | os.PathLike[str]) -> Content:
        """What a file holds now.

        Raises:
            InvalidInputError: it cannot be read or copied, or is no regular file.
        """
        try:
            # Not to wait for the other end, should it be a pipe.
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(fd, "rb") as file:
                status = os.fstat(fd)
                if not stat.S_ISREG(status.st_mode):
                    raise InvalidInputError(
                        f"{os.fspath(path)} is no regular file.", hint="Leave it out."
                    )
                if status.st_size <= MEMORY_BYTES:
                    return cls.of(file.read())
                return cls._copied(file)
        except (OSError, ValueError) as error:
            if isinstance(error, InvalidInputError):
                raise
            reason = getattr(error, "strerror", None) or str(error)
            raise InvalidInputError(
                f"{os.fspath(path)!r} cannot be read: {reason}.",
                hint="Check the path, its mode, and the temporary directory's room.",
            ) from error

    @classmethod
    def _copied(cls, file: BinaryIO) -> Content:
        import tempfile

        with tempfile.TemporaryFile() as copy:
            digest, size = _digest.of_copied(file, copy)
            copy.flush()
            fd = os.dup(copy.fileno())
        made = cls(digest, size, lambda: _from_start(fd))
        weakref.finalize(made, os.close, fd)
        return made

    @classmethod
    def stored(
        cls, digest: Digest, size: int, open_: Callable[[], BinaryIO]
    ) -> Content:
        """Bytes that a Store has, which are read when they are needed.

        Args:
            digest: What they should be.
            size: How many.
            open_: Opens them.
        """

        def pieces() -> Iterator[bytes]:
            with open_() as file:
                yield from iter(lambda: file.read(_CHUNK), b"")

        return cls(digest, size, pieces)

    def pieces(self) -> Iterator[bytes]:
        """The bytes, in order.

        Raises:
            DigestMismatchError: at the end, if they have changed since.
        """
        import hashlib

        found = hashlib.sha256()
        for piece in self._pieces():
            found.update(piece)
            yield piece
        if found.hexdigest() != _digest.hex_of(self.digest):
            raise DigestMismatchError(
                f"The bytes of {self.digest} have changed.",
                hint="Restore them from a backup.", digest=self.digest,
            )  # fmt: skip

    def read(self) -> bytes:
        """All of the bytes.

        Raises:
            DigestMismatchError: they have changed since.
        """
        return b"".join(self.pieces())

    def write_to(self, path: Path) -> None:
        """Write the bytes to a new file, 0400; what is written is not synced."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        fd = os.open(path, flags, 0o400)
        try:
            for piece in self.pieces():
                _files.write_all(fd, piece)
        except BaseException:  # a full disk: nothing half is left
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(fd)


def _from_start(fd: int) -> Iterator[bytes]:
    # By place: a forked child shares the descriptor's own.
    done = 0
    while piece := os.pread(fd, _CHUNK, done):
        yield piece
        done += len(piece)
