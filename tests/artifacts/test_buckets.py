"""References to objects of a bucket, against a server that speaks S3."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import wanllmdb
from wanllmdb.errors import (
    DigestMismatchError,
    IntegrityError,
    InvalidInputError,
    RemoteUnreachableError,
    WanllmdbWarning,
)

pytest.importorskip("moto")
s3fs = pytest.importorskip("s3fs")

OBJECTS = {
    "data/a.txt": b"one", "data/d/b c.txt": b"two two", "data/d/e/z": b"3" * 3_000_000,
    "database": b"no part of data/", "alone": b"alone",
}  # fmt: skip


@pytest.fixture(scope="module")
def endpoint():
    """A server of this module's own, on this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALLOW_TEST_SOCKETS", "1")
        port = free_port()
        server = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1",
             "-p", str(port)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            wait_for(port, server)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.kill()
            server.wait()


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def wait_for(port, server):
    end = time.monotonic() + 60
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert time.monotonic() < end
            assert server.poll() is None
            time.sleep(0.05)


@pytest.fixture
def bucket(endpoint, monkeypatch):
    """A bucket of these objects; credentials and endpoint are in the environment."""
    for name, value in (
        ("AWS_ENDPOINT_URL_S3", endpoint), ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"), ("AWS_DEFAULT_REGION", "us-east-1"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    system = s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True)
    name = f"bucket-{os.urandom(4).hex()}"
    system.mkdir(name)
    for key, data in OBJECTS.items():
        system.pipe_file(f"{name}/{key}", data)
    system.put_in = lambda key, data: system.pipe_file(f"{name}/{key}", data)
    return name, system


@pytest.fixture
def referred(run, bucket):
    """Logs an artifact of references to keys of the bucket."""

    def logged(*keys, **said):
        artifact = wanllmdb.Artifact("refs", "dataset")
        for key in keys:
            artifact.add_reference(f"s3://{bucket[0]}/{key}", **said)
        return run.log_artifact(artifact)

    return logged


def contents(root):
    place = Path(root)
    return {
        p.relative_to(place).as_posix(): p.read_bytes()
        for p in place.rglob("*") if p.is_file()
    }  # fmt: skip


def test_an_object_is_fetched_where_asked_for(referred, tmp_path):
    """And no draft is left beside it."""
    version = referred("alone")
    assert contents(version.download(tmp_path / "none")) == {}
    root = version.download(tmp_path / "o", references=True)
    assert contents(root) == {"alone": b"alone"}
    assert version.verify(references=True)
    assert version.verify(root, references=True)


@pytest.mark.parametrize("key", ["data/", "data"])
def test_a_prefix_is_fetched_object_by_object(referred, tmp_path, key):
    """It is one inert entry; what is below it comes below the entry's path."""
    version = referred(key)
    (entry,) = version.files()
    assert (entry.path, entry.size, entry.digest) == ("data", None, None)
    root = version.download(tmp_path / "o", references=True)
    assert contents(root) == {
        key: data for key, data in OBJECTS.items() if key.startswith("data/")
    }  # fmt: skip
    assert version.verify(references=True)
    assert version.verify(root, references=True)


def test_a_whole_bucket_is_a_prefix(referred, bucket, tmp_path):
    """Under its name."""
    root = referred("").download(tmp_path / "o", references=True)
    assert contents(Path(root) / bucket[0]) == OBJECTS


def test_a_prefix_has_no_more_objects_than_may_be(referred, tmp_path, monkeypatch):
    """Nothing is written of one that has."""
    version = referred("data/")
    monkeypatch.setattr("wanllmdb._opener.objects.__defaults__", (2,))
    with pytest.raises(InvalidInputError, match="more than 2 objects"):
        version.download(tmp_path / "o", references=True)
    assert contents(tmp_path / "o") == {}


def test_what_is_known_of_an_object_is_compared(referred, bucket, tmp_path):
    """Its size, MD5 and SHA-256."""
    import hashlib

    data = OBJECTS["alone"]
    version = referred(
        "alone", size=len(data), sha256_hash=hashlib.sha256(data).hexdigest(),
        md5_hash=hashlib.md5(data).hexdigest(),
    )  # fmt: skip
    root = version.download(tmp_path / "o", references=True)
    assert contents(root) == {"alone": data}
    bucket[1].put_in("alone", b"other")
    with pytest.raises(DigestMismatchError, match="'alone' refers to has changed"):
        version.download(tmp_path / "new", references=True)
    with pytest.raises(IntegrityError, match="'alone' have changed"):
        version.verify(references=True)
    assert contents(tmp_path / "new") == {}


def test_missing_references_are_left_out_where_that_is_allowed(
    referred, bucket, tmp_path
):
    """With a warning each, as in W&B; the others are fetched."""
    version = referred("alone", "data/", "gone", "none/")
    with pytest.raises(RemoteUnreachableError):
        version.download(tmp_path / "o", references=True)
    with pytest.warns(WanllmdbWarning) as warned:
        root = version.download(
            tmp_path / "p", references=True, allow_missing_references=True
        )
    said = [str(one.message) for one in warned]
    assert ["'gone' is left out" in said[0], "'none' is left out" in said[1]] == [
        True, True,
    ]  # fmt: skip
    assert {path.partition("/")[0] for path in contents(root)} == {"alone", "data"}
    with pytest.raises(IntegrityError, match=r"'gone' is missing.*'none' is missing"):
        version.verify(references=True)


def test_what_fails_otherwise_fails_where_missing_is_allowed(
    referred, tmp_path, monkeypatch
):
    """A server that is not there is no missing object."""
    version = referred("alone")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(RemoteUnreachableError):
        version.download(tmp_path / "o", references=True, allow_missing_references=True)
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize("key", ["../evil", "a//b", "./x", "c\\d", "x/../../y"])
def test_keys_that_are_no_paths_are_refused(referred, bucket, tmp_path, key):
    """Whatever a bucket holds, nothing is written outside, and nothing of it at all."""
    bucket[1].put_in(f"hostile/{key}", b"evil")
    bucket[1].put_in("hostile/good", b"good")
    version = referred("hostile/")
    with pytest.raises(InvalidInputError, match="path"):
        version.download(tmp_path / "o", references=True)
    assert contents(tmp_path / "o") == {}
    assert not (tmp_path / "evil").exists()


def test_an_object_below_another_is_refused(referred, bucket, tmp_path):
    """A bucket can hold `x` and `x/y`, a directory cannot."""
    bucket[1].put_in("both/x", b"1")
    bucket[1].put_in("both/x/y", b"2")
    with pytest.raises(InvalidInputError, match="director"):
        referred("both/").download(tmp_path / "o", references=True)
    assert contents(tmp_path / "o") == {}
