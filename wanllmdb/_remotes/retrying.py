"""A remote that tries again: the one loop of retries above every client's own few.

Only what may succeed is tried again: RemoteUnreachableError. Wrong or expired
credentials, a full disk and a missing bucket stop at once.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO, TypeVar, cast

from wanllmdb._remotes.port import Listed, Remote
from wanllmdb.errors import RemoteUnreachableError

FIRST_S = 0.2
"""Seconds before the second try; each further pause is twice as long."""

LONGEST_S = 30.0
"""Seconds that a pause never exceeds."""

BUDGET_S = 180.0
"""Seconds that a call goes on trying for, counted from its last progress."""

T = TypeVar("T")


class Retrying(Remote):
    """Another remote, whose calls are repeated while it cannot be reached.

    Args:
        inner: The remote.
        first_s: Seconds before the second try.
        longest_s: Seconds that a pause never exceeds.
        budget_s: Seconds that a call goes on trying, counted from its last progress.
    """

    def __init__(
        self,
        inner: Remote,
        *,
        first_s: float = FIRST_S,
        longest_s: float = LONGEST_S,
        budget_s: float = BUDGET_S,
    ) -> None:
        self.inner = inner
        self.url = inner.url
        self.tested = inner.tested
        self._pauses = (first_s, longest_s, budget_s)

    def _tries(self) -> _Tries:
        return _Tries(*self._pauses)

    def _repeat(self, call: Callable[[], T]) -> T:
        tries = self._tries()
        while True:
            try:
                return call()
            except RemoteUnreachableError as error:
                tries.pause(error)

    def get(self, key: str, first: int = 0, size: int | None = None) -> bytes:
        """See `Remote.get`."""
        return self._repeat(lambda: self.inner.get(key, first, size))

    def download(
        self, key: str, sink: BinaryIO, first: int = 0, size: int | None = None
    ) -> int:
        """See `Remote.download`; it goes on from where it was cut off."""
        counted = _Counted(sink)
        tries = self._tries()
        while True:
            done = counted.count
            left = None if size is None else size - done
            try:
                self.inner.download(key, cast("BinaryIO", counted), first + done, left)
                # Cut short without a word, unless there is no more to be had.
                if size is None or counted.count in (done, size):
                    return counted.count
            except RemoteUnreachableError as error:
                if counted.count > done:
                    tries = self._tries()
                tries.pause(error)

    def put(self, key: str, data: bytes) -> None:
        """See `Remote.put`."""
        self._repeat(lambda: self.inner.put(key, data))

    def upload(self, key: str, source: BinaryIO, size: int) -> None:
        """See `Remote.upload`; each try begins where the first one did.

        A source that cannot be rewound is tried once.
        """
        start = source.tell() if source.seekable() else None
        tries = self._tries()
        while True:
            try:
                return self.inner.upload(key, source, size)
            except RemoteUnreachableError as error:
                if start is None:
                    raise
                tries.pause(error)
                source.seek(start)

    def create(self, key: str, data: bytes) -> bool:
        """See `Remote.create`.

        A try that was thought lost may have been stored: the next one finds these very
        bytes, and has won.
        """
        return self._repeat(lambda: self.inner.create(key, data))

    def iter_keys(self, prefix: str, after: str = "") -> Iterator[Listed]:
        """See `Remote.iter_keys`; it goes on after the last key that it gave."""
        tries = self._tries()
        while True:
            try:
                for listed in self.inner.iter_keys(prefix, after):
                    yield listed
                    after = listed.key
                    tries = self._tries()
                return
            except RemoteUnreachableError as error:
                tries.pause(error)

    def delete(self, keys: Sequence[str]) -> None:
        """See `Remote.delete`."""
        self._repeat(lambda: self.inner.delete(keys))

    def abort_stale(self, older_than_s: float) -> int:
        """See `Remote.abort_stale`."""
        return self._repeat(lambda: self.inner.abort_stale(older_than_s))

    def close(self) -> None:
        """See `Remote.close`."""
        self.inner.close()


class _Tries:
    """The pauses of one call: doubling, with jitter, within a budget."""

    def __init__(self, first_s: float, longest_s: float, budget_s: float) -> None:
        self._next_s, self._longest_s = first_s, longest_s
        self._end = time.monotonic() + budget_s

    def pause(self, error: RemoteUnreachableError) -> None:
        """Wait before the next try; raises `error` where no time is left for one."""
        # Half of it is random, so that many clients do not come back at once.
        seconds = self._next_s * random.uniform(0.5, 1)
        if time.monotonic() + seconds > self._end:
            raise error
        time.sleep(seconds)
        self._next_s = min(self._next_s * 2, self._longest_s)


class _Counted:
    """A sink that knows how much it was given."""

    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        self.count = 0

    def write(self, data: Any) -> None:
        """Hand on a block."""
        self._sink.write(data)
        self.count += len(data)
