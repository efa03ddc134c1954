"""`remote gc`: what nothing needs goes in two phases, and nothing else ever does."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest
from caring import LARGE, age, collected, command, one, spoil, verified
from laptops import Laptop

from wanllmdb._catalog import remotes
from wanllmdb._remotes.file_remote import FileRemote
from wanllmdb._sync.choice import Choice
from wanllmdb._sync.peer import Peer
from wanllmdb._sync.push import push
from wanllmdb.errors import IntegrityError
from wanllmdb.types import SyncReport


def stray(remote: Path, name: str = "a") -> Path:
    """An object that nobody needs, as a killed push leaves it."""
    path = remote / "blobs" / "aa" / (name * 64)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"left")
    return path


def keys_of(remote: Path) -> set[str]:
    return {
        str(path.relative_to(remote))
        for prefix in ("blobs", "packs", "parts")
        for path in (remote / prefix).rglob("*")
        if path.is_file()
    }


@pytest.fixture
def full(a: Laptop) -> Laptop:
    a.run("r1", 50)
    a.commit("small", "small", ["prod"])
    a.commit(LARGE, "large")
    a.sync()
    return a


def test_nothing_of_what_was_synced_is_condemned(full, remote):
    before = keys_of(remote)
    done = collected(full, dry_run=False, grace_days=0)
    assert (done.condemned, done.deleted) == ({}, {})
    assert keys_of(remote) == before


def test_a_dry_run_changes_nothing(full, remote):
    stray(remote)
    age(remote, 30)
    before = set(remote.rglob("*"))
    assert list(collected(full).condemned) == ["blobs/aa/" + "a" * 64]
    assert set(remote.rglob("*")) == before


def test_what_nothing_needs_is_condemned_and_deleted_after_the_grace(full, remote):
    path = stray(remote)
    age(path, 1)
    assert collected(full, dry_run=False).condemned == {f"blobs/aa/{path.name}": 4}
    again = collected(full, dry_run=False)
    assert (again.condemned, again.deleted, again.waiting) == ({}, {}, 1)
    assert path.exists()
    age(path, 20)
    age(remote / "gc", 15)
    done = collected(full, dry_run=False)
    assert done.deleted == {f"blobs/aa/{path.name}": 4}
    assert not path.exists()
    assert [each.name for each in (remote / "gc").iterdir()] == ["done.json"]
    assert verified(full, level=2).problems == []


def test_what_was_uploaded_again_since_stays(full, remote):
    path = stray(remote)
    age(path, 1)
    collected(full, dry_run=False)
    age(remote / "gc", 15)
    stray(remote)
    assert collected(full, dry_run=False).deleted == {}
    assert path.exists()


def test_what_is_needed_again_since_stays(full, remote):
    """The batch of a push that was under way came after the tombstone."""
    body = {"keys": sorted(keys_of(remote)), "at_us": 1}
    (remote / "gc").mkdir()
    (remote / "gc" / "1-ab.json").write_text(json.dumps(body))
    age(remote, 20)
    before = keys_of(remote)
    assert collected(full, dry_run=False).deleted == {}
    assert keys_of(remote) == before


def test_a_tombstone_cannot_name_what_is_no_bytes(full, remote):
    batch = one(remote, "log/*/*.json")
    names = [str(batch.relative_to(remote)), "wanllmdb.json", "../outside", 7, None]
    (remote / "gc").mkdir()
    (remote / "gc" / "1-ab.json").write_text(json.dumps({"keys": names, "at_us": 1}))
    (remote / "gc" / "2-ab.json").write_text("[" * 100_000)
    (remote.parent / "outside").write_text("here")
    age(remote, 20)
    collected(full, dry_run=False)
    full.run("r2")
    assert not full.sync().failed
    assert batch.exists()
    assert (remote.parent / "outside").exists()
    assert (remote / "wanllmdb.json").exists()


def test_a_purged_runs_rows_go_once_no_laptop_has_it(full, b, remote):
    full.run("big", 30)
    full.sync()
    b.sync()
    full.purge("p/big")
    full.sync()
    b.sync()  # there it is in the trash, and may come back
    collected(full, dry_run=False)
    assert verified(full, level=2).problems == []
    with b.api() as api:
        api.purge(api.run("p/big", deleted=True))
    b.sync()
    assert collected(full).condemned
    age(remote, 20)
    collected(full, dry_run=False)
    age(remote / "gc", 20)
    age(remote / "packs", 30)
    assert collected(full, dry_run=False).deleted
    assert verified(full, level=2).problems == []


def gone_and_collected(laptop: Laptop, run: str, remote: Path) -> None:
    """A run is removed for good, and what nothing needs then is deleted."""
    laptop.purge(run)
    laptop.sync()
    age(remote, 30)
    if collected(laptop, dry_run=False).condemned:
        age(remote / "gc", 15)
    collected(laptop, dry_run=False)


def test_who_was_away_for_longer_than_the_grace_goes_on(full, b, remote):
    """What was removed for good meanwhile, and its rows with it, is not missed."""
    full.run("gone", 3)
    full.sync()
    before = keys_of(remote)
    gone_and_collected(full, "p/gone", remote)
    assert keys_of(remote) < before
    report = b.sync()
    assert report.failed == []
    assert "p/gone" not in b.runs
    assert len(b.runs["p/r1"]) == 50
    assert b.sync().failed == []


def test_a_runs_rows_stay_while_a_fork_shows_them(full, b, c, remote):
    """Whoever made the fork never told of the run itself."""
    full.run("gone", 3)
    full.sync()
    b.sync()
    b.run("fork", 2, fork_from="gone?_step=1")
    b.sync()
    gone_and_collected(full, "p/gone", remote)
    report = c.sync()
    assert report.failed == []
    assert len(c.runs["p/fork"]) == len(b.runs["p/fork"]) == 4


def test_a_pack_stays_while_anything_in_it_is_needed(full, remote):
    packs = set(remote.glob("packs/*/*"))
    full.purge("p/r1")
    full.sync()
    assert packs <= set(remote.glob("packs/*/*"))
    age(remote, 20)
    collected(full, dry_run=False, grace_days=0)
    collected(full, dry_run=False, grace_days=0)
    assert verified(full, level=2).problems == []


def test_who_needs_a_condemned_object_uploads_it_again(full, remote):
    blob = one(remote, "blobs/*/*")
    body = {"keys": [str(blob.relative_to(remote))], "at_us": 1}
    (remote / "gc").mkdir()
    (remote / "gc" / "1-ab.json").write_text(json.dumps(body))
    age(remote, 20)
    before = blob.stat().st_mtime
    full.commit(LARGE, "other")
    full.sync()
    assert blob.stat().st_mtime > before


def test_who_missed_the_tombstone_uploads_again_what_was_deleted(full, remote):
    """Its memory of the remote is older than the gc that deleted."""
    blob = one(remote, "blobs/*/*")
    blob.unlink()
    (remote / "gc").mkdir()
    (remote / "gc" / "done.json").write_text('{"nonce": "1"}')
    full.commit(LARGE, "other")
    report = full.sync()
    assert not report.failed
    assert blob.exists()
    assert verified(full, level=2).problems == []
    blob.unlink()
    full.commit(LARGE, "third")
    full.sync()
    assert not blob.exists()  # asked once per gc: nobody else deletes


class Paused(FileRemote):
    """A remote where something happens between the bytes and the batch."""

    def __init__(self, root: Path, meanwhile: object) -> None:
        super().__init__(root)
        self.meanwhile = meanwhile

    def create(self, key: str, data: bytes) -> bool:
        if key.startswith("log/"):
            self.meanwhile()
        return super().create(key, data)


@pytest.mark.parametrize("condemned_before", [False, True])
def test_gc_beside_a_push_deletes_nothing_that_it_needs(
    full, b, remote, condemned_before
):
    b.sync()
    full.commit("more" + LARGE, "more")
    full.run("r3")
    if condemned_before:  # a push that was killed left the very bytes
        left = interrupted(full, remote)
        age(remote, 1)
        assert collected(b, dry_run=False).condemned.keys() >= left
        age(remote, 20)

    def meanwhile() -> None:
        collected(b, dry_run=False)
        age(remote / "gc", 13)
        collected(b, dry_run=False)

    with full.opened() as store:
        (record,) = remotes.listed(store.catalog.reader)
        peer = Peer(store, record)
        peer.remote = Paused(remote, meanwhile)
        with closing(peer.remote):
            push(peer, Choice(), SyncReport("r"))
    collected(b, dry_run=False, grace_days=0)
    collected(b, dry_run=False, grace_days=0)
    assert verified(full, level=2).problems == []
    b.sync(full=True)
    with b.api() as api:
        assert api.artifact("p/more:latest").verify()


def interrupted(laptop: Laptop, remote: Path) -> set[str]:
    """Kill a push before its batch; the keys that it left."""
    before = keys_of(remote)

    def killed() -> None:
        raise KeyboardInterrupt

    with laptop.opened() as store:
        (record,) = remotes.listed(store.catalog.reader)
        peer = Peer(store, record)
        peer.remote = Paused(remote, killed)
        with pytest.raises(KeyboardInterrupt):
            push(peer, Choice(), SyncReport("r"))
    return keys_of(remote) - before


@pytest.mark.parametrize("wrong", ["missing", "unreadable"])
def test_nothing_is_deleted_where_a_batch_cannot_be_read(full, remote, wrong):
    for n in range(2):
        full.run(f"more{n}")
        full.sync()
    path = stray(remote)
    collected(full, dry_run=False)
    age(remote, 20)
    batch = sorted(remote.glob("log/*/*.json"))[1]
    if wrong == "missing":
        batch.unlink()
    else:
        spoil(batch)
        batch.write_text("{}")
    with pytest.raises(IntegrityError, match="Batch 2 of device"):
        collected(full, dry_run=False)
    assert path.exists()


def test_nothing_is_deleted_where_a_manifest_cannot_be_read(full, b, remote):
    path = stray(remote)
    collected(full, dry_run=False)
    age(remote, 20)
    for pack in remote.glob("packs/*/*"):
        pack.unlink()
    b.pull()
    with pytest.raises(IntegrityError, match="Manifest sha256:"):
        collected(b, dry_run=False)
    assert path.exists()


def test_uploads_that_died_are_removed_after_a_day(full, remote):
    draft = remote / ".drafts" / "1-ab"
    draft.parent.mkdir(exist_ok=True)
    draft.write_bytes(b"half")
    assert collected(full, dry_run=False).aborted == 0
    age(draft, 1.1)
    assert collected(full, dry_run=False).aborted == 1
    assert not draft.exists()


def test_the_command_says_what_would_go_and_what_went(full, remote):
    stray(remote)
    done = command(full, "remote", "gc")
    assert done.returncode == 0, done.stderr
    assert "1 objects of 4 bytes would be condemned." in done.stdout
    assert not (remote / "gc").exists()
    done = command(full, "remote", "gc", "r", "--yes", "--json")
    assert {"what": "condemned", "count": 1, "bytes": 4} in json.loads(done.stdout)
    age(remote, 1)
    done = command(full, "remote", "gc", "--yes", "--grace", "0.5")
    assert "1 objects of 4 bytes deleted." in done.stdout
