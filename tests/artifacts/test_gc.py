"""gc takes what nothing needs, and nothing else, whatever happens meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import wanllmdb
from wanllmdb import _gc, _upkeep, _versions
from wanllmdb._staging import Staging
from wanllmdb.errors import IntegrityError, InvalidInputError

MINUTE = 60.0
DAY = 86_400.0


@pytest.fixture
def run():
    with wanllmdb.init(project="p", id="r") as run:
        yield run


@pytest.fixture
def store(run):
    return run._store


def made(run, name="ds", **files):
    """A version with such files."""
    draft = wanllmdb.Artifact(name, "dataset")
    for path, text in files.items():
        with draft.new_file(path) as file:
            file.write(text)
    return run.log_artifact(draft)


def aged(store, seconds=2 * DAY):
    """As if nobody had touched a blob, a draft or the trash for a while."""
    past = time.time() - seconds
    for root in ("blobs", "tmp"):
        for path in (store.path / root).rglob("*"):
            os.utime(path, (past, past))


def blobs(store):
    return {path.name for path in (store.path / "blobs").rglob("*") if path.is_file()}


def trash(store):
    return {path.name for path in (store.path / "trash" / "blobs").glob("*")}


def test_what_is_needed_stays(run, store, tmp_path):
    """Versions, also in the trash, files and large values of runs, at any age."""
    version = made(run, a="A", b="B")
    made(run, "gone", c="C").delete()
    path = tmp_path / "weights.txt"
    path.write_text("W")
    run.save(path)
    run.config["big"] = "x" * (2 << 20)
    before = blobs(store)
    aged(store)
    assert "blobs moved to the trash" not in _gc.collect(store, grace=MINUTE).counts
    assert blobs(store) == before
    assert version.verify()


def test_a_purged_version_goes_to_the_trash_and_then_for_good(run, store, monkeypatch):
    """What other versions share of it stays; numbers are not given again."""
    kept, gone = made(run, a="A"), made(run, a="A", b="B")
    gone.delete()
    _versions.purge(store, gone._record)
    aged(store)
    done = _gc.collect(store, grace=MINUTE)
    assert done.counts["blobs moved to the trash"] == 2  # B, and the manifest
    assert len(trash(store)) == 2
    assert kept.verify()
    assert made(run, a="A", c="C").version == "v3"
    later = time.time() + 2 * MINUTE
    monkeypatch.setattr(_gc.time, "time", lambda: later)
    assert _gc.collect(store, grace=MINUTE).counts["blobs removed"] == 2
    assert not trash(store)


def test_a_dry_run_changes_nothing(run, store):
    """It says what would go."""
    gone = made(run, a="A")
    gone.delete()
    _versions.purge(store, gone._record)
    aged(store)
    before = blobs(store)
    done = _gc.collect(store, grace=MINUTE, dry_run=True)
    assert done.counts["blobs moved to the trash"] == 2
    assert blobs(store) == before


def test_young_blobs_stay(run, store):
    """Whoever stored them may be about to name them."""
    store.blobs.put_bytes(b"nobody's")
    done = _gc.collect(store)
    assert done.counts == {"young blobs": 1}
    assert done.bytes == {"young blobs": 8}


def test_content_comes_back_from_the_trash(run, store):
    """An old blob that nothing needed is the next version's, and whole."""
    gone = made(run, a="A")
    gone.delete()
    _versions.purge(store, gone._record)
    aged(store)
    _gc.collect(store, grace=MINUTE)
    again = made(run, a="A")
    assert again.verify()
    assert not trash(store)


def test_a_draft_keeps_what_it_has_added(run, store, tmp_path):
    """However old; a draft whose owner died goes, with its bytes."""
    store.blobs.put_bytes(b"old")
    aged(store)
    path = tmp_path / "old.txt"
    path.write_text("old")
    draft = wanllmdb.Artifact("later", "dataset")
    draft.add_file(path)
    with draft.new_file("new.txt") as file:
        file.write("new")
    dead = store.tmp / "draft-0123456789"
    dead.mkdir()
    (dead / "lock").write_text("1")
    (dead / "copy-1").write_bytes(b"x" * 1000)
    aged(store)
    done = _gc.collect(store, grace=MINUTE)
    assert done.counts["drafts removed"] == 1
    assert not dead.exists()
    assert run.log_artifact(draft).verify()


def test_a_version_past_its_time_expires(run, store):
    """Unless it has an alias."""
    for name, aliases in (("named", ["best"]), ("nameless", [])):
        draft = wanllmdb.Artifact(name, "dataset")
        with draft.new_file("x") as file:
            file.write(name)
        draft.ttl = 1e-6
        run.log_artifact(draft, aliases=aliases)
    assert _gc.collect(store).counts["versions expired"] == 1
    with wanllmdb.Api() as api:
        assert api.artifact_exists("named")
        assert not api.artifact_exists("nameless")
        assert api.restore_version("p/nameless:v1").verify()


def test_versions_are_purged_a_month_after_they_were_deleted(run, store, monkeypatch):
    """Not earlier; a model's version never is in the trash."""
    made(run, a="A").delete()
    assert "versions purged" not in _gc.collect(store).counts
    later = time.time() + 31 * DAY
    monkeypatch.setattr(_gc.time, "time", lambda: later)
    assert _gc.collect(store).counts["versions purged"] == 1
    with wanllmdb.Api() as api:
        assert api.trashed_versions() == []


def test_a_damaged_manifest_stops_it(run, store):
    """Nobody knows what its version needs, so nothing is taken."""
    version = made(run, a="A")
    manifest = store.blobs.path_of(version.digest)
    manifest.chmod(0o600)
    manifest.write_bytes(b"{}")
    aged(store)
    with pytest.raises(IntegrityError, match=r"p/ds:v1 is damaged"):
        _gc.collect(store, grace=MINUTE)
    assert not trash(store)


def test_too_short_a_grace_is_refused(run, store):
    """A blob is stored before it is named."""
    with pytest.raises(InvalidInputError, match="too short"):
        _gc.collect(store, grace=0)


def test_a_blob_that_vanishes_meanwhile_is_no_matter(run, store, monkeypatch):
    """Somebody removed it by hand."""
    digest = store.blobs.put_bytes(b"nobody's")
    aged(store)
    paths = list(_gc._Sweep._blobs(_gc._Sweep(store, 0, dry_run=True)))
    store.blobs.path_of(digest).unlink()
    monkeypatch.setattr(_gc._Sweep, "_blobs", lambda self: iter(paths))
    assert _gc.collect(store, grace=MINUTE).counts == {}


def test_a_blob_that_is_touched_while_it_is_moved_comes_back(run, store, monkeypatch):
    """Its user saw it in its place just before."""
    digest = store.blobs.put_bytes(b"wanted")
    aged(store)
    rename = Path.rename

    def touched_first(path, goal):
        if path.name in digest and "blobs/sha256" in str(path):
            os.utime(path)
        return rename(path, goal)

    monkeypatch.setattr(Path, "rename", touched_first)
    _gc.collect(store, grace=MINUTE)
    assert store.blobs.path_of(digest).exists()


def test_every_byte_of_the_store_is_accounted_for(run, store):
    """By kind, as much as is on the disk; nothing is called other."""
    made(run, a="A")
    run.log({"x": 1})
    Staging(store)
    kinds = {row["kind"]: row["bytes"] for row in _upkeep.usage(store, "kind")}
    held = sum(p.lstat().st_size for p in store.path.rglob("*") if p.is_file())
    assert sum(kinds.values()) == held
    assert kinds.get("other", 0) <= 64  # FORMAT and .gitignore


COMMITTER = """
import sys, os, random, time
import wanllmdb
from wanllmdb import _staging
store, number, until = sys.argv[1], int(sys.argv[2]), time.time() + float(sys.argv[3])
dice = random.Random(number)
run = wanllmdb.init(project="p", id=f"c{number}", store=store)
count = 0
while time.time() < until:
    draft = wanllmdb.Artifact(f"a{dice.randrange(3)}", "dataset")
    for _ in range(dice.randrange(1, 6)):
        word = f"content {dice.randrange(12)}"
        with draft.new_file(f"f{dice.randrange(9)}", mode="w") as file:
            file.write(word)
        if dice.random() < 0.3:
            time.sleep(0.02)
    made = run.log_artifact(draft)
    assert made.verify(), made
    if dice.random() < 0.5:
        try:
            made.delete(force=True)
        except wanllmdb.WanllmdbError:
            pass
    count += 1
run.finish()
print(count)
"""

COLLECTOR = """
import sys, os, time
import wanllmdb
from wanllmdb import _gc, _versions
_gc.LEAST_SECONDS = 0
until = time.time() + float(sys.argv[2])
moved = 0
with wanllmdb.Api(sys.argv[1]) as api:
    while time.time() < until:
        for version in api.trashed_versions():
            try:
                _versions.purge(api.store, version)
            except wanllmdb.WanllmdbError:
                pass
        done = _gc.collect(api.store, grace=0.05)
        moved += done.counts.get("blobs moved to the trash", 0)
print(moved)
"""


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_committers_beside_a_looping_gc_never_lack_a_byte(tmp_path):
    """Four processes reuse content that was purged a moment ago."""
    seconds = os.environ.get("WANLLMDB_TEST_STRESS_SECONDS", "8")
    place = tmp_path / "store"
    wanllmdb.init(store=place).finish()
    given = [[COMMITTER, str(place), str(number), seconds] for number in range(4)] + [
        [COLLECTOR, str(place), seconds]
    ]
    started = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", *words],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for words in given
    ]  # fmt: skip
    ended = [process.communicate(timeout=200) for process in started]
    assert [p.returncode for p in started] == [0] * 5, [err for _, err in ended if err]
    assert all(int(out) > 3 for out, _ in ended[:4])
    assert int(ended[4][0]) > 0
    with wanllmdb.Api(place) as api:
        for artifact in api.artifacts():
            for version in api.artifact_versions(None, artifact.qualified_name):
                assert version.verify()
        assert list(_upkeep.verify(api.store)) == []
