"""A directory as a remote: what a kill, a full disk and a link do to it."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wanllmdb._remotes.address import Address, open_remote
from wanllmdb._remotes.file_remote import FileRemote
from wanllmdb._remotes.port import DRAFTS, MissingKeyError
from wanllmdb.errors import (
    RemoteError,
    RemoteNotFoundError,
)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "remote"


@pytest.fixture
def remote(root):
    return FileRemote(root)


def drafts(root):
    place = root / DRAFTS
    return list(place.iterdir()) if place.exists() else []


def keys(remote):
    return [listed.key for listed in remote.iter_keys("")]


def child(code, *arguments):
    """A Python of one's own, with the remote's directory as its first argument."""
    return subprocess.Popen(
        [sys.executable, "-c", "import io, os, sys, resource, pathlib\n"
         "from wanllmdb._remotes.file_remote import FileRemote\n"
         "remote = FileRemote(pathlib.Path(sys.argv[1]))\n" + code,
         *map(str, arguments)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_create_never_overwrites_a_file(root, remote):
    """As fsspec's `put_file(mode="create")` did so on file://."""
    root.mkdir()
    (root / "key").write_bytes(b"mine")
    assert remote.create("key", b"other") is False
    assert (root / "key").read_bytes() == b"mine"
    assert drafts(root) == []


STUCK = """
class Endless(io.RawIOBase):
    count = 0
    def read(self, size):
        self.count += 1
        if self.count > 3:
            print("stuck", flush=True)
            import time
            time.sleep(60)
        return bytes(size)
remote.upload("d/key", Endless(), 1 << 30)
"""


def test_a_killed_upload_leaves_no_object(root, remote):
    """Only a draft, which goes when it is old; the object comes with the next try."""
    process = child(STUCK, root)
    assert process.stdout.readline() == "stuck\n"
    process.kill()
    process.wait()
    process.stdout.close()
    assert keys(remote) == []
    with pytest.raises(MissingKeyError):
        remote.get("d/key")
    assert len(drafts(root)) == 1
    assert remote.abort_stale(3600) == 0
    assert remote.abort_stale(0) == 1
    assert drafts(root) == []
    remote.upload("d/key", io.BytesIO(b"whole"), 5)
    assert remote.get("d/key") == b"whole"


@pytest.mark.slow
def test_a_kill_at_any_time_leaves_whole_objects(root, remote):
    """Creating, putting and uploading, killed again and again."""
    code = """
n = 0
while True:
    n += 1
    data = (f"{os.getpid()} {n} " + "x" * 400_000).encode() + b"end"
    remote.create(f"c/{os.getpid()}/{n}", data)
    remote.put("p/same", data)
    remote.upload(f"u/{n % 3}", io.BytesIO(data), len(data))
    print(n, flush=True)
"""
    for turn in range(12):
        process = child(code, root)
        assert process.stdout.readline()
        time.sleep(0.013 * turn)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert len(keys(remote)) > 12
    for listed in remote.iter_keys(""):
        data = remote.get(listed.key)
        assert data.endswith(b"xend")
        assert len(data) == listed.size > 400_000
    left = len(drafts(root))
    assert remote.abort_stale(0) == left


def test_an_old_draft_goes_and_a_fresh_one_stays(root, remote):
    """A slow upload is alive: its file is written to."""
    remote.put("key", b"")
    old, fresh = root / DRAFTS / "1-old", root / DRAFTS / "1-fresh"
    for draft in (old, fresh):
        draft.write_bytes(b"half")
    os.utime(old, (1, 1))
    assert remote.abort_stale(3600) == 1
    assert drafts(root) == [fresh]
    assert keys(remote) == ["key"]


LINKED = [
    lambda r: r.get("link/key"), lambda r: r.get("d/file"),
    lambda r: r.download("d/file", io.BytesIO()), lambda r: r.put("link/new", b"x"),
    lambda r: r.put("d/file", b"x"),
    lambda r: r.upload("link/new", io.BytesIO(b"x"), 1),
    lambda r: r.upload("d/file", io.BytesIO(b"x"), 1),
    lambda r: r.create("link/new", b"x"), lambda r: r.create("d/file", b"x"),
    lambda r: r.create("d/dangling", b"x"), lambda r: r.put("d/dangling", b"x"),
    lambda r: r.delete(["link/key"]), lambda r: list(r.iter_keys("")),
    lambda r: list(r.iter_keys("link/")), lambda r: list(r.iter_keys("d/")),
]  # fmt: skip


@pytest.mark.parametrize("call", LINKED)
def test_links_are_refused_and_nothing_outside_is_touched(root, remote, call, tmp_path):
    """A hostile disk cannot lead us elsewhere."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "key").write_bytes(b"secret")
    (root / "d").mkdir(parents=True)
    (root / "link").symlink_to(outside)
    (root / "d" / "file").symlink_to(outside / "key")
    (root / "d" / "dangling").symlink_to(outside / "new")
    with pytest.raises(RemoteError, match=r"link|dangling|file") as caught:
        call(remote)
    assert "remove it" in caught.value.hint
    assert [p.name for p in outside.iterdir()] == ["key"]
    assert (outside / "key").read_bytes() == b"secret"
    assert drafts(root) == []


def test_drafts_are_not_made_elsewhere_either(root, remote, tmp_path):
    """Nor removed there, where their directory is a link."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "1-old").write_bytes(b"")
    root.mkdir()
    (root / DRAFTS).symlink_to(outside)
    for call in (lambda: remote.put("key", b"x"), lambda: remote.abort_stale(-1)):
        with pytest.raises(RemoteError, match="link"):
            call()
    assert [p.name for p in outside.iterdir()] == ["1-old"]


def test_a_link_can_be_deleted_by_its_key(root, remote, tmp_path):
    """It goes; what it led to stays."""
    (tmp_path / "outside").write_bytes(b"secret")
    root.mkdir()
    (root / "link").symlink_to(tmp_path / "outside")
    remote.delete(["link"])
    assert keys(remote) == []
    assert (tmp_path / "outside").read_bytes() == b"secret"


def test_the_root_may_be_a_link(root, tmp_path):
    """It is the user's own word."""
    (tmp_path / "real").mkdir()
    root.symlink_to(tmp_path / "real")
    remote = FileRemote(root)
    remote.put("d/key", b"x")
    assert (tmp_path / "real/d/key").read_bytes() == b"x"
    assert keys(remote) == ["d/key"]


def test_what_is_no_file_is_refused(root, remote):
    """A pipe does not hang a reader; a directory is no object."""
    remote.put("d/key", b"x")
    os.mkfifo(root / "pipe")
    with pytest.raises(RemoteError, match="no regular file"):
        remote.get("pipe")
    with pytest.raises(RemoteError, match="no regular file"):
        list(remote.iter_keys(""))
    with pytest.raises(MissingKeyError):
        remote.get("d")


@pytest.mark.parametrize("name", [b"line\nbreak", b"not\xffutf8", b"back\\slash"])
def test_names_that_are_no_keys_are_refused_in_a_listing(root, remote, name):
    """Nobody of us wrote them."""
    root.mkdir()
    Path(os.fsdecode(os.fsencode(root) + b"/" + name)).write_bytes(b"")
    with pytest.raises(RemoteError, match="none of a key"):
        list(remote.iter_keys(""))


def test_a_disk_that_is_not_mounted_is_no_empty_remote(tmp_path):
    """But a new directory of a place that is there, is."""
    remote = FileRemote(tmp_path / "mnt" / "remote")
    for call in (
        lambda: remote.get("key"), lambda: remote.put("key", b""),
        lambda: list(remote.iter_keys("")), lambda: remote.delete(["key"]),
        lambda: remote.create("key", b""),
    ):  # fmt: skip
        with pytest.raises(RemoteNotFoundError, match="mnt"):
            call()
    assert not (tmp_path / "mnt").exists()
    (tmp_path / "mnt").mkdir()
    assert keys(remote) == []
    assert not (tmp_path / "mnt/remote").exists()
    remote.put("key", b"")
    assert keys(remote) == ["key"]


def test_a_full_disk_is_said_to_be_full(root):
    """At once, and without a half-written object."""
    code = """
import signal
from wanllmdb.errors import RemoteFullError
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
big = bytes(2 << 20)
for call in (lambda: remote.put("k", big), lambda: remote.create("k", big),
             lambda: remote.upload("k", io.BytesIO(big), len(big))):
    try:
        call()
    except RemoteFullError as error:
        print(error.hint)
"""
    process = child(code, root)
    text, _ = process.communicate(timeout=60)
    assert text.splitlines() == ["Make room there, or raise its quota."] * 3
    assert keys(FileRemote(root)) == []
    assert drafts(root) == []


def test_no_descriptor_is_left_open(remote):
    """Whatever is called, and however it ends."""
    fds = Path("/dev/fd")
    before = len(list(fds.iterdir()))
    for _ in range(20):
        remote.put("d/e/key", b"x")
        remote.create("d/e/key", b"y")
        remote.get("d/e/key")
        remote.delete(["d/no", "d/e/f/g"])
        list(remote.iter_keys("d/"))
        next(remote.iter_keys("d/"))
        with pytest.raises(MissingKeyError):
            remote.get("d/x/y")
        with pytest.raises(RemoteError):
            remote.put("d/e/key/below", b"")
    assert len(list(fds.iterdir())) == before


def test_a_filesystem_without_links_is_refused_for_create(root, monkeypatch):
    """Nothing else there is exclusive and whole at once; put and upload go on."""

    def refuse(*args, **named):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    remote = open_remote(Address(str(root)))
    with pytest.raises(RemoteError, match="no hard links"):
        remote.create("key", b"x")
    remote.put("key", b"x")
    assert drafts(root) == []
