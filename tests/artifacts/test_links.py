"""policy="immutable": blobs that are hard links of files which will not change."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

import wanllmdb
from wanllmdb import _gc, _upkeep
from wanllmdb._catalog import stat_cache
from wanllmdb.errors import IntegrityError
from wanllmdb.types import Stat

LARGE = "y" * (2 << 20)


@pytest.fixture
def root(made):
    """A directory of files that were written long ago, of every mode that is read."""
    place = made({"x": "1", "d/y": LARGE})
    old = time.time() - 5 * 86_400
    for name, mode in (("x", 0o640), ("d/y", 0o755)):
        (place / name).chmod(mode)
        os.utime(place / name, (old, old))
    return place


def add(run, root, **how):
    """Log a directory that will not change."""
    artifact = wanllmdb.Artifact("a", "dataset")
    artifact.add_dir(root, policy="immutable", **how)
    return run.log_artifact(artifact)


def same(one, other):
    """Whether two paths are one file."""
    return os.path.samefile(one, other)


def facts(path):
    """What a caller may rely on of a file."""
    found = path.stat()
    return found.st_mode, found.st_mtime_ns, found.st_uid, found.st_ino


def test_bytes_are_shared_and_the_files_are_left_alone(run, root, blob, read, tmp_path):
    """Their modes, their times; a download is a copy of its own."""
    before = [facts(root / name) for name in ("x", "d/y")]
    version = add(run, root)
    assert [facts(root / name) for name in ("x", "d/y")] == before
    for name in ("x", "d/y"):
        assert same(root / name, blob(version.manifest[name].digest))
    assert version.verify()
    out = tmp_path / "out"
    assert read(version.download(out)) == {"x": "1", "d/y": LARGE}
    assert (out / "x").stat().st_nlink == 1
    (out / "x").write_text("2")
    assert version.verify()


def test_one_file_is_shared_through_a_link_to_it(run, root, blob, tmp_path):
    """What a symbolic link leads to, not the link."""
    (tmp_path / "link").symlink_to(root / "x")
    artifact = wanllmdb.Artifact("a", "dataset")
    artifact.add_file(tmp_path / "link", "x", policy="immutable")
    version = run.log_artifact(artifact)
    assert same(root / "x", blob(version.manifest["x"].digest))


def test_a_file_that_is_removed_or_replaced_stays_in_the_version(
    run, root, read, tmp_path
):
    """The promise is of the bytes, not of the name."""
    version = add(run, root)
    (root / "x").unlink()
    (tmp_path / "new").write_text("other")
    (tmp_path / "new").replace(root / "d/y")
    assert version.verify()
    assert read(version.download(tmp_path / "out"))["d/y"] == LARGE


def test_a_promise_that_is_broken_is_found_and_named(run, root, api, tmp_path):
    """By the version, by the Store; and the bytes are not handed out."""
    version = add(run, root)
    (root / "x").write_text("2")
    with pytest.raises(IntegrityError, match="'x' have changed"):
        version.verify()
    with pytest.raises(IntegrityError):
        version.download(tmp_path / "out")
    (problem,) = _upkeep.verify(api.store)
    assert problem.startswith("p/a:v1: the bytes of 'x'")


def test_an_unchanged_file_is_not_read_again(run, root):
    """The links change its ctime, and the cache knows."""
    time.sleep(2.1)  # a file that changed just now is always read
    add(run, root)
    known = stat_cache.below(run._store.catalog.reader, str(root))
    for path in (root / "x", root / "d/y"):
        held, _ = known[str(path.parent)].files()[path.name]
        assert held == Stat.of(path.stat())


def test_content_that_is_there_is_not_linked(run, root, log, blob):
    """Nor is one content linked twice."""
    log("1")
    (root / "twin").write_text(LARGE)
    version = add(run, root)
    assert not same(root / "x", blob(version.manifest["x"].digest))
    assert blob(version.manifest["d/y"].digest).stat().st_nlink == 2


def test_where_no_link_can_be_bytes_are_copied(run, root, blob):
    """As from another filesystem."""
    shared = Path("/dev/shm")
    if not shared.exists() or shared.stat().st_dev == root.stat().st_dev:
        pytest.skip("there is one filesystem")
    place = shared / f"wanllmdb-{os.getpid()}"
    shutil.copytree(root, place)
    try:
        version = add(run, place)
    finally:
        shutil.rmtree(place)
    assert blob(version.manifest["d/y"].digest).stat().st_nlink == 1
    assert version.verify()


def test_a_draft_that_is_dropped_leaves_the_files(root, store):
    """And nothing in the Store."""
    with wanllmdb.init(project="p"):
        artifact = wanllmdb.Artifact("a", "dataset")
        artifact.add_dir(root, policy="immutable")
        assert (root / "x").stat().st_nlink == 2
        del artifact
        assert (root / "x").stat().st_nlink == 1
        assert list((store / "tmp").iterdir()) == []


def test_gc_takes_the_link_and_leaves_the_file(run, root, api, blob):
    """Into the trash, out of it again, and away."""
    version = add(run, root)
    place = blob(version.manifest["x"].digest)
    version.delete()
    run.finish()
    api.purge_version(version._record)
    _gc.collect(api.store)
    assert not place.exists()
    assert (root / "x").read_text() == "1"
    with wanllmdb.init(project="p", id="again") as run:
        assert add(run, root).verify()  # out of the trash
    before = facts(root / "x")
    assert same(root / "x", place)
    _gc.collect(api.store)
    assert facts(root / "x") == before


def test_a_run_that_saves_the_same_bytes_gets_a_copy(run, root, blob, monkeypatch):
    """Its blobs are made young, and the times of the file are its owner's."""
    version = add(run, root)
    before = facts(root / "x")
    monkeypatch.chdir(root)
    run.save("x")
    place = blob(version.manifest["x"].digest)
    assert not same(root / "x", place)
    assert place.stat().st_mtime > time.time() - 60
    assert facts(root / "x") == before
    (root / "x").write_text("2")
    assert run.log_artifact(version).verify()


def test_a_backup_is_whole_without_the_files(run, root, tmp_path, api):
    """It holds the bytes."""
    add(run, root)
    run.finish()
    _upkeep.backup(api.store, tmp_path / "backup")
    (root / "x").write_text("2")
    with wanllmdb.Api(tmp_path / "backup") as copy:
        assert copy.artifact("p/a").verify()
