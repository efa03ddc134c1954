"""What may succeed is tried again, by a remote that injects each fault."""

from __future__ import annotations

import io
import os
import time
from itertools import pairwise

import pytest

from wanllmdb._remotes.fsspec_remote import MemoryRemote
from wanllmdb._remotes.port import MissingKeyError, Remote
from wanllmdb._remotes.retrying import Retrying
from wanllmdb.errors import (
    RemoteDeniedError,
    RemoteError,
    RemoteFullError,
    RemoteNotFoundError,
    RemoteUnreachableError,
)

LOST = "the reply is lost"
"""A fault after the work was done; any other comes before it."""


class Toxic(Remote):
    """A remote that fails as it is told.

    Attributes:
        faults: For each call in turn: an error to raise before it, `LOST`, a number of
            bytes after which it breaks off, or None.
        calls: How many calls there were.
    """

    def __init__(self):
        self.inner = MemoryRemote(f"memory://{os.urandom(6).hex()}")
        self.url, self.tested = self.inner.url, True
        self.faults = []
        self.calls = 0

    def _next(self):
        self.calls += 1
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, Exception):
            raise fault
        return fault

    def _after(self, fault):
        if fault == LOST:
            raise RemoteUnreachableError(LOST)

    def get(self, key, first=0, size=None):
        self._after(self._next())
        return self.inner.get(key, first, size)

    def download(self, key, sink, first=0, size=None):
        fault = self._next()
        data = self.inner.get(key, first, size)
        if isinstance(fault, tuple):  # breaks off and says nothing
            return sink.write(data[: fault[0]])
        if isinstance(fault, int):
            sink.write(data[:fault])
            raise RemoteUnreachableError("truncated")
        self._after(fault)
        sink.write(data)
        return len(data)

    def put(self, key, data):
        fault = self._next()
        self.inner.put(key, data)
        self._after(fault)

    def upload(self, key, source, size):
        fault = self._next()
        if isinstance(fault, int):
            source.read(fault)
            raise RemoteUnreachableError("reset in mid-body")
        self.inner.put(key, source.read(size))
        self._after(fault)

    def create(self, key, data):
        fault = self._next()
        won = self.inner.create(key, data)
        self._after(fault)
        return won

    def iter_keys(self, prefix, after=""):
        fault = self._next()
        for number, listed in enumerate(list(self.inner.iter_keys(prefix, after))):
            if number == fault:
                raise RemoteUnreachableError("a page does not come")
            yield listed

    def delete(self, keys):
        fault = self._next()
        self.inner.delete(keys)
        self._after(fault)

    def abort_stale(self, older_than_s):
        self._after(self._next())
        return 3

    def close(self):
        self.inner.close()


@pytest.fixture
def toxic():
    return Toxic()


@pytest.fixture
def remote(toxic):
    return Retrying(toxic, first_s=0.001, longest_s=0.004, budget_s=5)


def again(text="503 slow down"):
    return RemoteUnreachableError(text)


def download(remote, *arguments):
    sink = io.BytesIO()
    count = remote.download("key", sink, *arguments)
    assert count == len(sink.getvalue())
    return sink.getvalue()


CALLS = {
    "get": lambda r: r.get("key"), "put": lambda r: r.put("key", b"data"),
    "download": download, "create": lambda r: r.create("key", b"data"),
    "upload": lambda r: r.upload("key", io.BytesIO(b"data"), 4),
    "iter_keys": lambda r: [x.key for x in r.iter_keys("")],
    "delete": lambda r: r.delete(["key"]), "abort_stale": lambda r: r.abort_stale(0),
}  # fmt: skip
EVERY = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


@EVERY
def test_every_verb_is_tried_again(remote, toxic, call):
    """And gives what it would have given at once."""
    wanted = call(Retrying(with_data()))
    toxic.inner.put("key", b"data")
    toxic.faults = [again(), again("429"), again("reset"), again("timeout")]
    assert call(remote) == wanted
    assert toxic.calls == 5


def with_data():
    other = Toxic()
    other.inner.put("key", b"data")
    return other


@EVERY
def test_every_verb_survives_a_lost_reply(remote, toxic, call):
    """What was done is not done wrong by doing it again."""
    toxic.inner.put("key", b"data")
    toxic.faults = [LOST, LOST]
    call(remote)
    assert [listed.key for listed in toxic.inner.iter_keys("")] in (["key"], [])


@EVERY
@pytest.mark.parametrize("error", [
    RemoteDeniedError("expired"), RemoteFullError("full"),
    RemoteNotFoundError("bucket"), RemoteError("odd"),
    MissingKeyError("key"), ValueError("bug"),
], ids=lambda e: type(e).__name__)  # fmt: skip
def test_what_cannot_succeed_is_not_tried_again(remote, toxic, call, error):
    """Wrong and expired credentials stop at once: no storm of retries."""
    toxic.faults = [error, error]
    with pytest.raises(type(error)) as caught:
        call(remote)
    assert caught.value is error
    assert toxic.calls == 1


@EVERY
def test_the_budget_ends_it(toxic, call):
    """With the last error, as it was."""
    remote = Retrying(toxic, first_s=0.01, longest_s=0.02, budget_s=0.2)
    toxic.faults = [again(str(number)) for number in range(1000)]
    start = time.monotonic()
    with pytest.raises(RemoteUnreachableError, match=r"^\d+$"):
        call(remote)
    assert time.monotonic() - start < 2
    assert 5 < toxic.calls < 50


def test_a_create_whose_reply_was_lost_has_won(remote, toxic):
    """Not lost to itself."""
    toxic.faults = [LOST, LOST]
    assert remote.create("new", b"nonce") is True
    assert toxic.calls == 3


def test_a_create_that_lost_while_it_waited_has_lost(remote, toxic):
    """Another was faster, between two tries."""
    toxic.faults = [again()]
    toxic.inner.create("new", b"other")
    assert remote.create("new", b"nonce") is False


def test_a_download_goes_on_where_it_was_cut(remote, toxic):
    """By blocks, from any offset, and each byte once."""
    data = os.urandom(10_000)
    toxic.inner.put("key", data)
    for first, size in ((0, None), (0, 10_000), (17, 9000), (17, None)):
        toxic.faults = [1000, 0, again(), 2500, (700,), 1]
        wanted = data[first : None if size is None else first + size]
        if size is None:
            toxic.faults.remove((700,))  # whose end nobody could know
        assert download(remote, first, size) == wanted
        assert toxic.faults == []


def test_what_ends_short_without_a_word_is_asked_for_again(remote, toxic):
    """Until there is no more of it."""
    toxic.inner.put("key", b"0123456789")
    toxic.faults = [(4,), (3,)]
    assert download(remote, 0, 10) == b"0123456789"
    toxic.faults = [(4,)]
    assert download(remote, 0, 50) == b"0123456789"


def test_progress_renews_the_budget(toxic):
    """A slow, flaky line gets there, however long it takes."""
    remote = Retrying(toxic, first_s=0.02, longest_s=0.02, budget_s=0.1)
    toxic.inner.put("key", bytes(100))
    toxic.faults = [2] * 40
    assert download(remote) == bytes(100)


def test_an_upload_begins_anew_where_its_source_stood(remote, toxic):
    """Not at the start of the file."""
    source = io.BytesIO(b"skipped0123456789")
    source.seek(7)
    toxic.faults = [4, again(), 9]
    remote.upload("key", source, 10)
    assert toxic.inner.get("key") == b"0123456789"


def test_a_source_that_cannot_be_rewound_is_tried_once(remote, toxic):
    """Half of it is gone."""

    class Pipe(io.BytesIO):
        def seekable(self):
            return False

    toxic.faults = [4]
    with pytest.raises(RemoteUnreachableError):
        remote.upload("key", Pipe(b"0123456789"), 10)
    assert toxic.calls == 1


def test_a_listing_goes_on_after_the_last_key(remote, toxic):
    """Each key once, in order."""
    keys = [f"k/{number:03}" for number in range(50)]
    for key in keys:
        toxic.inner.put(key, b"")
    toxic.faults = [7, 0, again(), 20]
    assert [listed.key for listed in remote.iter_keys("k/")] == keys
    toxic.faults = [7]
    assert [x.key for x in remote.iter_keys("k/", "k/009")] == keys[10:]


def test_pauses_grow_and_differ(toxic):
    """So that many clients do not come back at once."""
    remote = Retrying(toxic, first_s=0.02, longest_s=0.08, budget_s=5)
    times = []

    class Clocked(Exception):
        pass

    def get(key, first=0, size=None):
        times.append(time.monotonic())
        if len(times) == 6:
            raise Clocked
        raise again()

    toxic.get = get
    with pytest.raises(Clocked):
        remote.get("key")
    pauses = [b - a for a, b in pairwise(times)]
    for pause, longest in zip(pauses, (0.02, 0.04, 0.08, 0.08, 0.08)):
        assert pause >= longest / 2
    assert len({round(pause / longest, 4) for pause in pauses}) > 1


def test_it_is_what_it_wraps(toxic, remote):
    """To whoever asks."""
    assert remote.url == toxic.url
    assert remote.tested is True
    remote.close()
