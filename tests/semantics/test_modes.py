"""mode: local, offline, online, disabled."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import wanllmdb
from wanllmdb.errors import RunFinishedError


@pytest.fixture
def off(tmp_path, monkeypatch):
    """A disabled run in an empty working directory."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return wanllmdb.init(mode="disabled", project="p", name="n", id="i", tags=["t"],
                         config={"a": 1, "n": {"x": 1}})  # fmt: skip


@pytest.mark.parametrize("mode", [None, "local", "offline", "online", "shared"])
def test_every_other_mode_records_at_once(mode, api, rows):
    """They differ in syncing only; without a remote they are the same."""
    with wanllmdb.init(id="r", mode=mode) as run:
        run.log({"a": 1})
        assert rows(api.run("r"), "a") == [(0, 1)]
    assert api.run("r").state == "finished"


def test_an_unknown_mode_is_refused_by_name():
    """A typing error must not lose a run."""
    with pytest.raises(wanllmdb.WanllmdbError, match="onlin"):
        wanllmdb.init(mode="onlin")


def test_disabled_creates_nothing_on_disk(off, store, tmp_path):
    """Whatever is called, no file, Store or variable appears."""
    (Path.cwd() / "f.txt").write_text("x")
    before = {path for path in tmp_path.rglob("*") if path.name != "f.txt"}
    with off as run:
        run.log({"x": 1})
        run.save("f.txt")
        run.log_code()
        run.alert("t", "x")
        run.log_message("m")
        run.mark_preempting()
        run.config.b = 2
        run.name, run.notes, run.tags = "m", "z", ["u"]
    after = {path for path in tmp_path.rglob("*") if path.name != "f.txt"}
    assert after == before
    assert not store.exists()
    assert "_WANLLMDB_RUN" not in os.environ


def test_disabled_config_and_summary_behave(off):
    """A script that reads its own values back runs the same."""
    off.define_metric("x", summary="max")
    off.log({"x": 3, "y": {"z": 1}})
    off.log({"x": 2})
    off.config.n.x = 5
    off.summary["best"] = 9
    assert off.summary["x"] == {"max": 3}
    assert (off.summary["y.z"], off.summary.best) == (1, 9)
    assert (off.config.a, off.config["n"]["x"]) == (1, 5)
    assert (wanllmdb.config.a, wanllmdb.summary["best"]) == (1, 9)


def test_disabled_runs_have_what_a_run_has(off):
    """Names, steps, tags, and their change."""
    assert (off.id, off.name, off.project, off.tags) == ("i", "n", "p", ("t",))
    assert off.disabled
    assert wanllmdb.run is off
    off.log({"x": 1})
    off.log({"x": 1}, step=7)
    assert off.step == 7
    off.name, off.notes, off.tags = "m", "z", ["u"]
    assert (off.name, off.notes, off.tags) == ("m", "z", ("u",))


def test_a_disabled_run_gives_a_directory_that_is_not_the_scripts(off):
    """torch.save into run.dir works, and leaves no file in the user's project."""
    assert Path(off.dir).is_dir()
    assert Path(off.dir) != Path.cwd()


def test_a_disabled_run_ends_like_any_other(off):
    """finish, and then no log."""
    off.finish()
    assert wanllmdb.run is None
    with pytest.raises(RunFinishedError):
        off.log({"x": 1})


def test_disabled_raises_for_what_any_run_raises_for(off):
    """A script that works disabled works recorded."""
    with pytest.raises(wanllmdb.WanllmdbError):
        off.log([1])
    with pytest.raises(wanllmdb.WanllmdbError):
        off.define_metric("a", summary="median")
    off.log({"x": 1}, step=5)
    with pytest.warns(wanllmdb.WanllmdbWarning, match="behind"):
        off.log({"x": 1}, step=1)


def test_a_disabled_run_needs_no_store(tmp_path, monkeypatch):
    """Also where none could be made."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("WANLLMDB_DIR", str(tmp_path / "file" / "below"))
    with wanllmdb.init(mode="disabled") as run:
        run.log({"x": 1})


def test_resume_of_nothing_is_no_matter_when_disabled():
    """resume, fork_from and resume_from look at no Store."""
    for options in ({"resume": "must", "id": "x"}, {"resume_from": "x?_step=1"},
                    {"fork_from": "x?_step=1"}, {"resume": "auto"}):  # fmt: skip
        wanllmdb.init(mode="disabled", **options).finish()


def test_recorded_modes_open_no_socket(ok):
    """Not even "online", as long as no remote is configured."""
    ok("""
import socket
def refuse(*_):
    raise AssertionError("a socket")
socket.socket.connect = refuse
socket.getaddrinfo = refuse
for mode in ("local", "offline", "online"):
    with wandb.init(mode=mode) as run:
        run.log({"a": 1})
""")
