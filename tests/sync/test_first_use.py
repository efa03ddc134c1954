"""Bytes that lie at a remote come when they are first used, and are not missed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from laptops import check_equal, quieten

import wanllmdb
from wanllmdb import _gc, _upkeep
from wanllmdb._sync.choice import Choice
from wanllmdb.errors import ArtifactNotFoundError, MissingBlobError


@pytest.fixture
def saved(tmp_path):
    """A file that runs save."""
    path = tmp_path / "f.txt"
    path.write_text("one")
    return path


@pytest.fixture
def here(a, b, saved):
    """A laptop that has pulled `p/data` and `p/r1`, but none of their bytes."""
    a.commit("one", aliases=["prod"])
    run = a.begin(id="r1")
    run.save(saved, base_path=saved.parent, policy="now")
    run.finish()
    a.sync()
    b.sync()
    return b


def blobs(laptop):
    """The blobs that a laptop has."""
    return [p for p in (laptop.store / "blobs").rglob("*") if p.is_file()]


def damage(path):
    """Flip a blob's bytes."""
    path.chmod(0o600)
    path.write_bytes(b"X" * path.stat().st_size)


def test_a_pull_brings_no_bytes_and_a_download_does(here, tmp_path):
    """What is used is here afterwards, and right."""
    assert blobs(here) == []
    with here.api() as api:
        found = api.artifact("p/data:prod")
        assert Path(found.download(tmp_path / "out"), "data.txt").read_text() == "one"
    assert len(blobs(here)) == 2


def test_a_runs_file_is_read_though_it_was_never_here(here):
    """Files of runs come as entries of versions do."""
    with here.api() as api:
        assert [file.read() for file in api.run("p/r1").files()] == [b"one"]


def test_a_damaged_blob_is_fetched_anew(here, tmp_path):
    """A flipped bit heals from the remote, in a download and in a read."""
    with here.api() as api:
        api.artifact("p/data").download(tmp_path / "out")
        for path in blobs(here):
            damage(path)
        again = api.artifact("p/data").download(tmp_path / "again")
        assert Path(again, "data.txt").read_text() == "one"
        for path in blobs(here):
            damage(path)
        assert [file.read() for file in api.run("p/r1").files()] == [b"one"]


def test_where_fetching_is_off_the_error_names_the_remote(here, monkeypatch):
    """It says where the bytes are, and what brings them."""
    monkeypatch.setenv("WANLLMDB_FETCH", "0")
    with here.api() as api:
        file = api.run("p/r1").files()[0]
        with pytest.raises(MissingBlobError, match=r"remote r, and.*off"):
            file.read()


def test_what_lies_at_the_remote_is_not_missing(here, cli_lines):
    """verify, doctor, du and artifact verify count it; gc leaves it alone."""
    with here.opened() as store:
        assert list(_upkeep.check(store)) == []
        assert list(_upkeep.verify(store)) == []
        assert len(_upkeep.elsewhere(store)) == 2
        assert _gc.collect(store, dry_run=True).counts == {}
        assert _upkeep.usage(store, "run") is not None
    with here.api() as api:
        assert api.artifact("p/data").verify()
    assert "1 of them at the remote" in cli_lines(
        here.store, "artifact", "verify", "p/data"
    )
    for command in (["doctor"], ["store", "verify"], ["store", "du"]):
        assert "lie at the remote" in cli_lines(here.store, *command)


def test_what_is_at_no_remote_is_missing_still(here, remote, tmp_path):
    """A blob that neither side has is a problem."""
    with here.api() as api:
        api.artifact("p/data").download(tmp_path / "out")
    shutil.rmtree(remote / "packs")
    for path in blobs(here):
        path.unlink()
    with here.api() as api, pytest.raises(MissingBlobError):
        api.artifact("p/data").download(tmp_path / "again")


def test_a_version_can_be_made_of_one_whose_bytes_are_not_here(here, c, tmp_path):
    """Entries that are reused stay at the remote; the new version can be pulled."""
    run = here.begin()
    draft = run.use_artifact("data:prod").new_draft()
    with draft.new_file("more.txt") as file:
        file.write("two")
    run.log_artifact(draft)
    run.finish()
    assert here.sync().failed == []
    c.sync()
    with c.api() as api:
        out = Path(api.artifact("p/data:v2").download(tmp_path / "out"))
    assert [(out / name).read_text() for name in ("data.txt", "more.txt")] == [
        "one",
        "two",
    ]


def test_use_artifact_pulls_what_is_not_here(a, b, tmp_path):
    """One artifact comes, and nothing else."""
    a.commit("one")
    a.run("other")
    a.sync()
    b.sync(choice=Choice(runs=frozenset({"none"})))
    run = b.begin()
    found = run.use_artifact("data:latest")
    assert Path(found.download(tmp_path / "out"), "data.txt").read_text() == "one"
    run.finish()
    assert list(b.runs) == [run.path]


def test_a_whole_sync_after_that_comes_to_the_same(a, b):
    """What was pulled alone gets its run and its lineage."""
    a.commit("one")
    a.run("other")
    a.sync()
    b.sync(choice=Choice(runs=frozenset({"none"})))
    run = b.begin()
    run.use_artifact("data")
    run.finish()
    quieten(a, b)
    check_equal(a, b)


def test_what_is_nowhere_is_not_found(here):
    """The error is the one without a remote, and says that the remote was asked."""
    run = here.begin()
    with pytest.raises(ArtifactNotFoundError, match="Nor has the remote"):
        run.use_artifact("nothing")
    run.finish()


def test_offline_the_error_says_that_the_remote_could_not_be_asked(here, remote):
    """The local error, and one sentence more."""
    remote.rename(remote.with_name("away"))
    run = here.begin()
    with pytest.raises(ArtifactNotFoundError, match="cannot be asked"):
        run.use_artifact("nothing")
    run.finish()


def test_without_a_remote_nothing_is_asked(store):
    """The error is the plain one."""
    run = wanllmdb.init(project="p")
    with run, pytest.raises(ArtifactNotFoundError) as caught:
        run.use_artifact("nothing")
    assert "emote" not in str(caught.value)


@pytest.fixture
def cli_lines():
    """Run a command of a Store in this process; its output."""
    from click.testing import CliRunner

    from wanllmdb.cli import cli

    def run(store, *words):
        done = CliRunner().invoke(
            cli, ["--store", str(store), *words], catch_exceptions=False
        )
        assert done.exit_code == 0, done.output
        return done.output

    return run


def test_a_run_that_was_removed_for_good_does_not_hide_the_rows_of_others(a, b):
    """What was packed together with its rows is taken over."""
    a.run("r1", rows=1)
    a.run("r2", rows=1)
    a.sync()
    b.sync()
    b.purge("r1")
    for name in ("r1", "r2"):
        run = a.begin(id=name, resume="must")
        run.log({"n": 5})
        run.finish()
    a.sync()
    b.sync()
    assert b.runs["p/r2"][-1] == {"n": 5}


def test_one_run_is_pulled_with_all_its_rows(a, b):
    """Though they are packed together with those of runs that are not wanted."""
    a.run("r1")
    a.run("r2")
    a.sync()
    with a.api() as api:
        uid = api.run("p/r2").record.uid
    b.sync(choice=Choice(runs=frozenset({uid})), direction="pull")
    assert b.runs == {"p/r2": a.runs["p/r2"]}
    quieten(a, b)
    check_equal(a, b)
