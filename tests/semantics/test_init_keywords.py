"""Every keyword of W&B's init() and of the old SDK's."""

from __future__ import annotations

import types

import pytest

import wanllmdb

WANDB = {
    "entity": "team", "project": "p", "dir": "/nonexistent/wandb", "id": "i",
    "name": "n", "notes": "text", "tags": ["t"], "config": {"a": 1, "b": 2},
    "config_exclude_keys": ["b"], "config_include_keys": None,
    "allow_val_change": True, "group": "g", "job_type": "j", "mode": "offline",
    "force": True, "anonymous": "never", "reinit": True, "resume": "allow",
    "resume_from": None, "fork_from": None, "save_code": False, "tensorboard": False,
    "sync_tensorboard": False, "monitor_gym": False, "settings": None,
}  # fmt: skip
"""W&B 0.31's whole signature, with values that a script may give."""


def test_every_keyword_of_wandb_is_accepted(api):
    """Together, without a word, and those that mean something do."""
    wanllmdb.init(**WANDB).finish()
    found = api.run("p/i")
    assert (found.name, found.notes, found.tags) == ("n", "text", ("t",))
    assert (found.group, found.job_type, found.config) == ("g", "j", {"a": 1})


@pytest.mark.parametrize("word", sorted(WANDB))
def test_each_keyword_of_wandb_may_stand_alone(word, tmp_path):
    """No keyword needs another one."""
    wanllmdb.init(**{word: WANDB[word]}).finish()
    assert not (tmp_path / "wandb").exists()


@pytest.mark.parametrize("word", ["sync_tensorboard", "tensorboard", "monitor_gym"])
def test_what_is_not_implemented_warns_by_name(word):
    """Nobody waits for plots that never come."""
    with pytest.warns(wanllmdb.WanllmdbWarning, match=word) as told:
        wanllmdb.init(**{word: True}).finish()
    assert len(told) == 1


def test_settings_take_wandbs_names(api):
    """What a Settings object says counts as if a keyword said it."""
    said = {"project": "p", "run_id": "i", "run_name": "n", "run_group": "g"}
    said |= {"run_job_type": "j", "run_notes": "z", "run_tags": ["t"]}
    wanllmdb.init(settings=said).finish()
    found = api.run("p/i")
    assert (found.name, found.group, found.job_type) == ("n", "g", "j")
    assert (found.notes, found.tags) == ("z", ("t",))


def test_settings_switch_capture_off_by_wandbs_names(ok, api):
    """Console, git and system metrics."""
    off = "{'console': 'off', 'disable_git': True, 'x_disable_stats': True}"
    on = {"WANLLMDB_CONSOLE": "1", "WANLLMDB_GIT": "1", "WANLLMDB_SYSTEM_INTERVAL": "1"}
    ok(f"wandb.init(id='r', settings={off}); print('unseen')", **on)
    found = api.run("r")
    assert list(found.logs()) == []
    assert len(found.system) == 0
    assert "git" not in found.environment


@pytest.mark.parametrize("make", [dict, types.SimpleNamespace])
def test_settings_may_be_a_mapping_or_an_object(make):
    """W&B's Settings object is read by its attributes."""
    wanllmdb.init(settings=make(silent=True)).finish()


def test_wandbs_settings_class_exists_and_is_taken():
    """`wandb.init(settings=wandb.Settings(...))` stands in many scripts."""
    wanllmdb.init(settings=wanllmdb.Settings(start_method="thread")).finish()


def test_dir_is_accepted_and_ignored(tmp_path, store):
    """W&B's directory is no Store."""
    (tmp_path / "theirs").mkdir()
    wanllmdb.init(dir=tmp_path / "theirs").finish()
    assert list((tmp_path / "theirs").iterdir()) == []
    assert (store / "FORMAT").exists()


def test_monitor_system_and_its_interval(api, until):
    """The old SDK's keywords: samples each so many seconds, or none."""
    with wanllmdb.init(id="on", monitor_system=True, monitor_interval=0.05):
        until(lambda: len(api.run("on").system) >= 3)
    with wanllmdb.init(id="off", monitor_system=False, monitor_interval=0.05):
        pass
    assert len(api.run("off").system) == 0


def test_capture_logs(api):
    """The old SDK's keyword for the console."""
    for word in (True, False):
        with wanllmdb.init(id=str(word), capture_logs=word):
            print("a line")
    assert [line.text for line in api.run("True").logs()] == ["a line"]
    assert list(api.run("False").logs()) == []


def test_git_tracking(ok, api, tmp_path):
    """The old SDK's keyword for the repository's state."""
    for word in (True, False):
        ok(f"wandb.init(id='{word}', git_tracking={word})", WANLLMDB_ENVIRONMENT="0")
    assert "git" in api.run("True").environment
    assert "git" not in api.run("False").environment


def test_a_store_of_ones_own(tmp_path):
    """init(store=) is the first rule of where."""
    wanllmdb.init(store=tmp_path / "other", id="r").finish()
    with wanllmdb.Api(tmp_path / "other") as api:
        assert api.run("r").state == "finished"
