"""For those who test what they build on wanllmdb: suites that a part must pass.

::

    class TestMyRemote(RemoteContract):
        @pytest.fixture
        def remote(self, tmp_path):
            return MyRemote(tmp_path)

The suites need pytest to run, and nothing but Python to be imported.
"""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO, cast

from wanllmdb._remotes.port import Listed, MissingKeyError, Remote
from wanllmdb._remotes.probe import probe
from wanllmdb.errors import InvalidInputError

MANY = 1105
"""Objects that a listing must give; S3 gives 1,000 at once."""

LARGE = 21_000_003
"""Bytes of an object that goes in blocks, and is no multiple of any."""

ODD_KEYS = (
    "a b", "plus+plus", "per%cent", "per%20cent", "question?versionId=7", "hash#mark",
    "amper&sand=1", "quote'\"s", "colon:semi;", "at@", "star*", "[bracket]", "{brace}",
    "tilde~", "caret^", "pipe|", "comma,", "dollar$", "dot.", ".hidden", "-dash", "<x>",
    "häuser/größe", "日本/語", "emoji-🦊", "UPPER/upper", "x" * 255,
)  # fmt: skip
"""Keys that a remote must tell apart, and give back as they are."""

BAD_KEYS = (
    "", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/.", "a/..", "a\\b",
    "a\0b", "a\nb", "a\x7fb", "\ud800", "x" * 256, "ab/" * 301 + "x", ".drafts/a",
)  # fmt: skip
"""Keys that a remote must refuse before it looks at them."""


class RemoteContract:
    """What every remote must do; subclass it with a fixture ``remote``.

    The fixture gives a `Remote` below a root of this test's own, which is empty. It
    must be safe to call from several threads.
    """

    def test_what_is_put_comes_back(self, remote: Remote) -> None:
        """Bytes of every kind, also none; a second put takes the place of the first."""
        for data in (b"", b"\0", b"text\r\n", bytes(range(256)) * 5):
            remote.put("d/key", data)
            assert remote.get("d/key") == data
        assert [listed.key for listed in remote.iter_keys("")] == ["d/key"]

    def test_a_large_object_comes_back(self, remote: Remote) -> None:
        """It goes up and down by blocks, from where the source stands."""
        data = _noise(LARGE)
        source = io.BytesIO(b"skipped" + data + b"not read")
        source.seek(7)
        remote.upload("large", source, LARGE)
        assert source.tell() == 7 + LARGE
        sink = _Blocks()
        assert remote.download("large", cast("BinaryIO", sink)) == LARGE
        assert sink.getvalue() == data
        assert sink.count > 1
        assert sink.largest <= 8 << 20
        assert [listed.size for listed in remote.iter_keys("large")] == [LARGE]

    def test_small_and_empty_objects_are_uploaded_as_well(self, remote: Remote) -> None:
        """And take the place of what is there."""
        for data in (b"", b"x", _noise(6_000_000), b"again"):
            remote.upload("one", io.BytesIO(data), len(data))
            sink = io.BytesIO()
            assert remote.download("one", sink) == len(data)
            assert sink.getvalue() == data

    def test_ranges_are_what_they_say(self, remote: Remote) -> None:
        """Within, across the end, beyond it, and empty."""
        data = _noise(20_000)
        remote.put("key", data)
        for first, size in (
            (0, 1), (0, 0), (1, 0), (0, 20_000), (0, 30_000), (19_999, 1),
            (19_999, 2), (20_000, 1), (20_000, None), (25_000, None), (25_000, 3),
            (7, None), (0, None), (5, 100),
        ):  # fmt: skip
            wanted = data[first : None if size is None else first + size]
            assert remote.get("key", first, size) == wanted
            sink = io.BytesIO()
            assert remote.download("key", sink, first, size) == len(wanted)
            assert sink.getvalue() == wanted

    def test_ranges_of_large_objects_are_what_they_say(self, remote: Remote) -> None:
        """Over the borders of blocks."""
        data = _noise(LARGE)
        remote.upload("key", io.BytesIO(data), LARGE)
        for first, size in ((8_388_607, 2), (100, 17_000_000), (16_777_216, None)):
            wanted = data[first : None if size is None else first + size]
            sink = io.BytesIO()
            assert remote.download("key", sink, first, size) == len(wanted)
            assert sink.getvalue() == wanted

    def test_ranges_that_are_none_are_refused(self, remote: Remote) -> None:
        """Counted from the end, or of negative size."""
        remote.put("key", b"data")
        for first, size in ((-1, None), (0, -1)):
            _expect(InvalidInputError, remote.get, "key", first, size)
            _expect(
                InvalidInputError, remote.download, "key", io.BytesIO(), first, size
            )

    def test_missing_objects_are_said_to_be_missing(self, remote: Remote) -> None:
        """Before and after there is anything, and nothing reaches the sink."""
        sink = io.BytesIO()
        for _ in range(2):
            for key in ("no", "no/no", "d"):
                _expect(MissingKeyError, remote.get, key)
                _expect(MissingKeyError, remote.get, key, 5, 5)
                _expect(MissingKeyError, remote.get, key, 0, 0)
                _expect(MissingKeyError, remote.download, key, sink)
                _expect(MissingKeyError, remote.download, key, sink, 0, 0)
            remote.put("d/key", b"data")
        assert sink.getvalue() == b""

    def test_create_stores_what_is_new_and_nothing_else(self, remote: Remote) -> None:
        """Who comes second is told so, and changes nothing."""
        assert remote.create("d/key", b"first") is True
        assert remote.create("d/key", b"second") is False
        assert remote.create("d/key", b"first and more") is False
        assert remote.get("d/key") == b"first"
        remote.put("other", b"put")
        assert remote.create("other", b"created") is False
        remote.delete(["d/key"])
        assert remote.create("d/key", b"third") is True
        assert remote.get("d/key") == b"third"

    def test_a_repeated_create_has_won(self, remote: Remote) -> None:
        """The bytes there are its own: only the answer to the first was lost."""
        assert remote.create("key", b"nonce") is True
        assert remote.create("key", b"nonce") is True

    def test_of_those_who_create_one_key_one_wins(self, remote: Remote) -> None:
        """Eight threads at once, round after round."""
        assert probe(remote) is True
        assert list(remote.iter_keys("probe/")) == []

    def test_no_reader_sees_half_of_what_is_created(self, remote: Remote) -> None:
        """It is not there, or it is whole."""
        whole = _noise(300_000)
        keys = [f"made/{number}" for number in range(10)]
        done = threading.Event()

        def look() -> int:
            seen = 0
            while not done.is_set() or not seen:
                for listed in remote.iter_keys("made/"):
                    assert remote.get(listed.key) == whole
                    seen += 1
            return seen

        with ThreadPoolExecutor(1) as pool:
            looking = pool.submit(look)
            for key in keys:
                assert remote.create(key, whole)
            done.set()
            assert looking.result() > 0

    def test_many_objects_are_listed_in_order(self, remote: Remote) -> None:
        """More than one page, from anywhere on; and removed together."""
        keys = sorted(f"many/{number % 7}/{number:05}" for number in range(MANY))
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda key: remote.put(key, b"x"), keys))
        assert _keys(remote, "many/") == keys
        assert _keys(remote, "") == keys
        assert _keys(remote, "many/3/") == [k for k in keys if k.startswith("many/3/")]
        for after in (keys[0], keys[999], keys[1000], keys[-1], "many/3", "many/3/5"):
            assert _keys(remote, "many/", after) == [k for k in keys if k > after]
        remote.delete([*keys, "many/none"])
        assert _keys(remote, "") == []

    def test_prefixes_may_end_within_a_name(self, remote: Remote) -> None:
        """And order goes by code points, not by directories."""
        keys = ["a", "a-b/c", "a.b", "a0", "ab/a", "ab/c/d", "ab0", "b/a"]
        for key in keys[1:]:
            remote.put(key, key.encode())
        keys = keys[1:]
        assert _keys(remote, "") == sorted(keys)
        assert _keys(remote, "a") == [k for k in sorted(keys) if k.startswith("a")]
        assert _keys(remote, "ab") == ["ab/a", "ab/c/d", "ab0"]
        assert _keys(remote, "ab/") == ["ab/a", "ab/c/d"]
        assert _keys(remote, "ab/c") == ["ab/c/d"]
        assert _keys(remote, "ab/", "ab/b") == ["ab/c/d"]
        assert _keys(remote, "zz") == _keys(remote, "no/such/") == []

    def test_listings_tell_size_and_time(self, remote: Remote) -> None:
        """The time is the remote's own, of the last few minutes here."""
        remote.put("key", b"12345")
        (listed,) = remote.iter_keys("key")
        assert listed == Listed("key", 5, listed.modified_us)
        assert abs(listed.modified_us / 1e6 - time.time()) < 300

    def test_listings_are_of_now(self, remote: Remote) -> None:
        """What others write and remove shows at once."""
        assert _keys(remote, "d/") == []
        remote.put("d/one", b"")
        assert _keys(remote, "d/") == ["d/one"]
        remote.create("d/two", b"")
        assert _keys(remote, "d/") == ["d/one", "d/two"]
        remote.delete(["d/one"])
        assert _keys(remote, "d/") == ["d/two"]

    def test_odd_keys_are_kept_apart(self, remote: Remote) -> None:
        """Each comes back by its own name."""
        for number, key in enumerate(ODD_KEYS):
            assert remote.create(f"odd/{key}", str(number).encode())
        for number, key in enumerate(ODD_KEYS):
            assert remote.get(f"odd/{key}") == str(number).encode()
        keys = sorted(f"odd/{key}" for key in ODD_KEYS)
        assert _keys(remote, "odd/") == keys
        for number, key in enumerate(keys):
            assert _keys(remote, "odd/", key) == keys[number + 1 :]
        remote.delete(keys)
        assert _keys(remote, "") == []

    def test_keys_that_are_none_are_refused(self, remote: Remote) -> None:
        """By every verb, before anything happens."""
        calls: tuple[Callable[[str], object], ...] = (
            remote.get,
            lambda key: remote.put(key, b""),
            lambda key: remote.create(key, b""),
            lambda key: remote.upload(key, io.BytesIO(), 0),
            lambda key: remote.download(key, io.BytesIO()),
            lambda key: remote.delete([key]),
        )
        for key in BAD_KEYS:
            for call in calls:
                _expect(InvalidInputError, call, key)
        for prefix in ("/", "..", "a//", "../", "a\\"):
            _expect(InvalidInputError, _keys, remote, prefix)
        assert _keys(remote, "") == []

    def test_what_is_not_there_can_be_deleted(self, remote: Remote) -> None:
        """So can nothing at all."""
        remote.delete([])
        remote.delete(["no", "no/no"])
        remote.put("d/key", b"")
        remote.delete(["d/key", "d/key", "d/no"])
        assert _keys(remote, "") == []

    def test_an_upload_that_breaks_leaves_nothing(self, remote: Remote) -> None:
        """What its source raises passes, and the former object stays."""
        remote.put("kept", b"former")
        for key in ("kept", "new"):
            _expect(_BrokenError, remote.upload, key, _Breaks(12_000_000), LARGE)
            _expect(ValueError, remote.upload, key, io.BytesIO(b"x"), 2)
            short = io.BytesIO(_noise(12_000_000))
            _expect(ValueError, remote.upload, key, short, LARGE)
        assert remote.get("kept") == b"former"
        assert _keys(remote, "") == ["kept"]
        assert remote.abort_stale(0) == 0

    def test_nobody_sees_an_upload_before_it_is_whole(self, remote: Remote) -> None:
        """Looked at from within it."""
        seen: list[list[str]] = []
        source = _Watched(_noise(LARGE), lambda: seen.append(_keys(remote, "")))
        remote.upload("large", source, LARGE)
        assert seen
        assert not any(seen)
        assert _keys(remote, "") == ["large"]

    def test_what_a_sink_raises_passes(self, remote: Remote) -> None:
        """It is no error of the remote."""
        remote.upload("large", io.BytesIO(_noise(LARGE)), LARGE)
        _expect(_BrokenError, remote.download, "large", _Full())
        assert remote.get("large", 0, 1)

    def test_threads_share_a_remote(self, remote: Remote) -> None:
        """Each gets its own bytes."""
        data = [_noise(9_000_000 + number) for number in range(4)]

        def turn(number: int) -> bool:
            remote.upload(f"t/{number}", io.BytesIO(data[number]), len(data[number]))
            sink = io.BytesIO()
            remote.download(f"t/{number}", sink)
            return sink.getvalue() == data[number]

        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(turn, range(4)))

    def test_a_closed_remote_opens_again(self, remote: Remote) -> None:
        """Closing twice is no matter."""
        remote.put("key", b"data")
        remote.close()
        remote.close()
        assert remote.get("key") == b"data"

    def test_its_url_can_be_shown(self, remote: Remote) -> None:
        """It has a scheme, and neither user nor parameters."""
        assert "://" in remote.url
        assert not set("@?#") & set(remote.url)


def _keys(remote: Remote, prefix: str, after: str = "") -> list[str]:
    return [listed.key for listed in remote.iter_keys(prefix, after)]


def _noise(size: int) -> bytes:
    return os.urandom(size)


def _expect(
    kind: type[BaseException], call: Callable[..., object], *arguments: object
) -> None:
    try:
        call(*arguments)
    except kind:
        return
    raise AssertionError(f"no {kind.__name__} was raised")


class _BrokenError(Exception):
    """What the suite's own sources and sinks raise."""


class _Blocks(io.BytesIO):
    """A sink that knows in how many pieces it was written."""

    count = largest = 0

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.count += 1
        self.largest = max(self.largest, len(data))
        return super().write(data)


class _Full:
    def write(self, data: bytes) -> int:
        raise _BrokenError(len(data))


class _Breaks(io.BytesIO):
    """A source that breaks where more is read than it has."""

    def __init__(self, size: int) -> None:
        super().__init__(bytes(size))

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        if not data:
            raise _BrokenError
        return data


class _Watched(io.BytesIO):
    """A source that calls somebody whenever it is read."""

    def __init__(self, data: bytes, watch: Callable[[], None]) -> None:
        super().__init__(data)
        self._watch = watch

    def read(self, size: int | None = -1) -> bytes:
        self._watch()
        return super().read(size)
