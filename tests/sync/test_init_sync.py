"""init(sync="finish"): a run is pushed as it ends, and nothing is raised."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from laptops import Laptop

import wanllmdb
from wanllmdb import _at_end
from wanllmdb._catalog import remotes
from wanllmdb.errors import InvalidSettingError

SCRIPT = """
import wanllmdb as w
run = w.init(project="p", id="r1", {options})
run.log({{"x": 1}})
"""


@pytest.fixture
def hub(remote, store):
    """The directory that this test's Store has as its remote."""
    Laptop(store, hub=str(remote)).sync()
    return remote


def batches(hub):
    """The batches that a remote has."""
    return list((hub / "log").rglob("*.json"))


def script(options, **env):
    """Run a script that leaves the end of its run to its own end."""
    return subprocess.run(
        [sys.executable, "-c", SCRIPT.format(options=options)], text=True, timeout=60,
        capture_output=True, check=False, env={**os.environ, **env},
    )  # fmt: skip


def test_a_script_that_just_ends_has_pushed_its_run(hub, b):
    """Also where the run ends as the program does, when no thread can be begun."""
    done = script('sync="finish"', WANLLMDB_SILENT="0")
    assert done.returncode == 0, done.stderr
    assert "pushed p/r1" in done.stderr
    assert len(batches(hub)) == 1
    b.sync()
    with b.api() as api:
        assert api.run("p/r1").state == "finished"


def test_mode_online_is_the_same_where_there_is_a_remote(hub):
    """As W&B has it."""
    assert script('mode="online"').returncode == 0
    assert len(batches(hub)) == 1


def test_mode_online_without_a_remote_says_nothing(store):
    """A Store without a remote is complete as it is."""
    done = script('mode="online"', WANLLMDB_SILENT="0")
    assert done.returncode == 0
    assert "wait" not in done.stderr


def test_off_is_the_default(hub):
    """Nothing is pushed that was not asked for."""
    assert script("").returncode == 0
    assert batches(hub) == []


def test_a_remote_that_is_away_costs_one_line(hub):
    """The script ends as it would have, and the run waits."""
    hub.rename(hub.with_name("away"))
    done = script('sync="finish"', WANLLMDB_SILENT="0")
    assert done.returncode == 0
    assert "p/r1 waits to be pushed" in done.stderr
    assert "`wanllmdb sync`" in done.stderr


def test_without_a_remote_finish_says_what_is_missing(store):
    """It was asked for, so it is said."""
    done = script('sync="finish"', WANLLMDB_SILENT="0")
    assert done.returncode == 0
    assert "No remote is chosen" in done.stderr


def test_the_deadline_ends_it(hub, monkeypatch, capfd):
    """A push that hangs is killed, and the run waits."""
    monkeypatch.setattr(_at_end, "DEADLINE", 0.01)
    monkeypatch.setenv("WANLLMDB_SILENT", "0")
    wanllmdb.init(project="p", sync="finish").finish()
    assert "were not enough" in capfd.readouterr().err


def test_a_url_in_the_environment_is_added_and_used(tmp_path, store):
    """WANLLMDB_REMOTE may be a URL; it gets the name of its last part."""
    (tmp_path / "shared").mkdir()
    done = script('sync="finish"', WANLLMDB_REMOTE=str(tmp_path / "shared"))
    assert done.returncode == 0, done.stderr
    assert len(batches(tmp_path / "shared")) == 1
    with Laptop(store).opened() as opened:
        found = remotes.listed(opened.catalog.reader)
    assert [remote.name for remote in found] == ["shared"]


def test_observers_get_the_report(hub):
    """`on("sync")` is told what was done."""
    seen = []
    wanllmdb.on("sync", seen.append)
    with wanllmdb.init(project="p", sync="finish") as run:
        run.log({"x": 1})
    assert [report.pushed["run"] for report in seen] == [1]


def test_another_word_is_refused():
    """The message names the words that there are."""
    with pytest.raises(InvalidSettingError, match="off, finish"):
        wanllmdb.init(sync="always")
