"""Faults of the network and of servers: each sync ends rightly, the next completes."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from caring import command, verified
from laptops import Laptop
from proxy import (
    Fault,
    Proxy,
    answer,
    list_stale,
    lose_the_reply,
    reset_before_the_server,
    reset_in_the_body,
    shorten,
    truncate,
)
from servers import Cluster, Server

import wanllmdb
from wanllmdb import _sync
from wanllmdb._catalog import remotes
from wanllmdb._remotes.address import Address, open_remote
from wanllmdb._remotes.retrying import Retrying
from wanllmdb._sync.peer import add_remote
from wanllmdb.errors import IntegrityError, RemoteDeniedError, RemoteUnreachableError
from wanllmdb.types import SyncReport

pytestmark = pytest.mark.slow

FAULTS: dict[str, Fault] = {
    "500": answer(500, "InternalError"), "503": answer(503, "SlowDown"),
    "429": answer(429, "TooManyRequests"), "reset": reset_before_the_server,
    "reset in the body": reset_in_the_body, "truncated": truncate,
    "shortened": shorten, "stale": list_stale, "lost reply": lose_the_reply,
    "expired": answer(403, "ExpiredToken"),
}  # fmt: skip


class Bucket(Laptop):
    """A laptop that syncs with a bucket behind a proxy."""

    def __init__(self, store: Path, bucket: str, endpoint: str) -> None:
        super().__init__(store, r=f"s3://{bucket}/sync")
        self.endpoint = endpoint

    def sync(self, remote: str | None = None, **how: object) -> SyncReport:
        with self.opened() as store:
            known = remotes.listed(store.catalog.reader)
            if not known:
                at = Address(self.remotes["r"], self.endpoint, path_style=True)
                # One writer alone: the probe's 80 requests are tested elsewhere.
                known = [add_remote(store, "r", at, single_writer=True)]
                with store.catalog.transaction(durable=True) as connection:
                    remotes.set_single_writer(connection, "r", False)
                known = remotes.listed(store.catalog.reader)
            return _sync.sync(store, known[0], **how)


@pytest.fixture
def proxied(moto_url: str) -> Iterator[Proxy]:
    with Proxy(moto_url) as proxy:
        yield proxy


@pytest.fixture
def make(
    tmp_path: Path, moto_bucket: str, proxied: Proxy, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Bucket]:
    """Makes laptops whose patience is a second."""
    monkeypatch.setattr(open_remote, "__defaults__", (1.0,))
    monkeypatch.setitem(Retrying.__init__.__kwdefaults__, "first_s", 0.01)
    return lambda name: Bucket(tmp_path / name, moto_bucket, proxied.url)


def fill(laptop: Laptop, n: int = 1) -> None:
    laptop.run(f"r{n}", 20)
    laptop.commit(f"content {n}", aliases=["prod"])


def numbers(laptop: Laptop) -> list[str]:
    return sorted(laptop.versions)


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("direction", ["push", "pull"])
def test_a_fault_at_any_request_of_a_sync_is_survived(make, proxied, name, direction):
    """One fault at each request in turn: 200 faults in all."""
    a, b = make("a"), make("b")
    fill(a)
    a.sync()
    if direction == "pull":
        b.sync()
    before = numbers(a)
    for nth in range(1, 11):
        worker = a if direction == "push" else b
        fill(a, nth + 1)
        if direction == "pull":
            a.sync()
        proxied.requests.clear()
        rule = proxied.inject(FAULTS[name], nth=nth)
        started = time.monotonic()
        try:
            worker.sync(direction=direction)
        except RemoteDeniedError:
            assert name == "expired"
            assert len(proxied.requests) <= nth + 16  # no storm of retries
        except RemoteUnreachableError:
            assert name != "expired"
        except IntegrityError:
            assert name == "shortened"  # which no protocol sees, but our content
        else:
            assert name != "expired" or not rule.done
        assert time.monotonic() - started < 30
        proxied.heal()
        last = worker.sync()
        assert not last.failed
    after = numbers(a)
    assert len(after) == len(before) + 10
    given = sorted(int(each.rpartition("v")[2]) for each in after)
    assert given == list(range(1, 12))
    assert verified(a, level=2).problems == []
    b.sync(full=True)
    a.sync()
    assert a.versions == b.versions
    assert a.aliases == b.aliases
    assert a.runs == b.runs


def test_a_server_that_is_never_there_is_given_up_in_time(make, proxied):
    a = make("a")
    fill(a)
    a.sync()
    fill(a, 2)
    proxied.inject(reset_before_the_server, times=math.inf)
    with pytest.raises(RemoteUnreachableError):
        a.sync()
    proxied.heal()
    assert not a.sync().failed


def test_a_rerun_uploads_only_what_is_missing(make, proxied):
    a = make("a")
    a.sync()
    run = a.begin(id="big")
    draft = wanllmdb.Artifact("data", type="dataset")
    for n in range(6):
        with draft.new_file(f"f{n}") as file:
            file.write(str(n) * (300 << 10))
    run.log_artifact(draft)
    run.finish()
    proxied.inject(answer(403, "ExpiredToken"), "PUT", r"/log/", times=math.inf)
    with pytest.raises(RemoteDeniedError):
        a.sync()
    proxied.heal()
    uploaded = {p for m, p in proxied.passed if m == "PUT" and "/blobs/" in p}
    assert len(uploaded) == 6
    proxied.passed.clear()
    assert not a.sync().failed
    assert not [p for m, p in proxied.passed if m == "PUT" and "/blobs/" in p]
    assert verified(a, level=2).problems == []


def test_the_command_exits_8_where_credentials_have_expired(make, proxied):
    a = make("a")
    fill(a)
    a.sync()
    fill(a, 2)
    proxied.inject(answer(403, "ExpiredToken"), times=math.inf)
    done = command(a, "sync")
    assert done.returncode == 8
    assert "fresh credentials" in done.stderr
    proxied.heal()
    assert command(a, "sync").returncode == 0


# Other servers


@pytest.fixture
def rclone_laptop(
    tmp_path: Path, rclone: Server, sign_in: Callable[[Server], str]
) -> Callable[[str], Laptop]:
    sign_in(rclone)
    bucket = rclone.bucket()

    class OnRclone(Bucket):
        def sync(self, remote: str | None = None, **how: object) -> SyncReport:
            with self.opened() as store:
                known = remotes.listed(store.catalog.reader)
                if not known:
                    at = Address(self.remotes["r"], self.endpoint, path_style=True)
                    known = [add_remote(store, "r", at)]
                return _sync.sync(store, known[0], **how)

    return lambda name: OnRclone(tmp_path / name, bucket, rclone.url)


def test_a_second_writer_is_refused_where_create_is_not_exclusive(rclone_laptop):
    a, b = rclone_laptop("a"), rclone_laptop("b")
    fill(a)
    assert not a.sync().failed
    assert not b.pull().failed
    assert b.runs == a.runs
    fill(b, 2)
    with pytest.raises(RemoteDeniedError, match="single writer") as caught:
        b.sync()
    assert "does not create objects exclusively" in str(caught.value)
    fill(a, 3)
    assert not a.sync().failed


def test_a_gateway_that_is_killed_in_mid_sync_is_gone_on_with(
    tmp_path, radosgw: Cluster, sign_in
):
    sign_in(radosgw)
    a = Bucket(tmp_path / "a", radosgw.bucket(), radosgw.url)
    fill(a)
    a.sync()
    for n in range(2, 5):
        fill(a, n)
        push = subprocess.Popen(
            [sys.executable, "-m", "wanllmdb", "--store", str(a.store), "sync"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ},
        )  # fmt: skip
        time.sleep(0.3 * n)
        radosgw.restart("radosgw")
        push.communicate(timeout=240)
        assert push.returncode == 0
    assert verified(a, level=2).problems == []
    assert not a.sync().pushed
