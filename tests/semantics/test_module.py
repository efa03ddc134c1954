"""The module's twins of a run's methods, live attributes, alerts and small words."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

import wanllmdb
from wanllmdb.errors import InvalidInputError, NoActiveRunError

TWINS = {
    "log": ({"a": 1},), "define_metric": ("a",), "save": ("nothing*",),
    "alert": ("t", "x"), "log_message": ("m",), "mark_preempting": (),
    "watch": (object(),), "unwatch": (), "log_code": (),
}  # fmt: skip
WARNED = {"save": "nothing", "watch": "watch"}


def call(target, word):
    """Call a twin of the module, or the method of a run."""
    if word in WARNED:
        with pytest.warns(wanllmdb.WanllmdbWarning, match=WARNED[word]):
            return getattr(target, word)(*TWINS[word])
    return getattr(target, word)(*TWINS[word])


@pytest.mark.parametrize("word", sorted(TWINS))
def test_a_twin_needs_a_run_and_then_does_what_the_method_does(
    word, tmp_path, monkeypatch
):
    """Without a run it says what to do."""
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(NoActiveRunError, match="init"):
        getattr(wanllmdb, word)(*TWINS[word])
    with wanllmdb.init() as run:
        by_method = call(run, word)
    with wanllmdb.init():
        by_module = call(wanllmdb, word)
    assert type(by_module) is type(by_method)


def test_live_attributes_follow_the_run_by_whatever_name_the_module_has(ok):
    """`import wanllmdb as wandb`, before, during and after a run."""
    ok("""
assert wandb.run is None
run = wandb.init(config={"a": 1})
wandb.config.b = 2
wandb.config.update({"c": 3})
wandb.log({"x": 1})
wandb.summary["best"] = 4
assert wandb.run is run
assert dict(run.config) == {"a": 1, "b": 2, "c": 3}
assert (run.summary["x"], run.summary.best) == (1, 4)
wandb.finish()
assert wandb.run is None
with wandb.init() as other:
    assert wandb.run is other
    assert dict(wandb.config) == {}
assert wandb.run is None
""")


def test_finish_without_a_run_does_nothing():
    """Cleanup code may call it at any time."""
    wanllmdb.finish()
    wanllmdb.teardown()
    wanllmdb.init().finish()
    wanllmdb.finish(exit_code=1)


def test_login_setup_and_require_are_accepted():
    """W&B's scripts call them first."""
    assert wanllmdb.login(key="x", relogin=True) is True
    wanllmdb.setup()
    wanllmdb.require("core")


def test_run_url_is_the_place_of_the_run(store):
    """A path that is there; None where nothing is recorded."""
    run = wanllmdb.init()
    assert Path(run.url).is_dir()
    assert Path(run.url).is_relative_to(store)
    run.finish()
    assert wanllmdb.init(mode="disabled").url is None


def test_run_step_is_the_cursor():
    """What the next log without a step gets."""
    run = wanllmdb.init()
    assert run.step == 0
    run.log({"a": 1})
    run.log({"a": 1}, step=5)
    assert run.step == 5
    run.log({"a": 1}, commit=True)
    assert run.step == 6


def test_what_a_run_says_of_itself():
    """The attributes that W&B's scripts read."""
    run = wanllmdb.init(project="p", id="i", name="n", group="g", job_type="j",
                        notes="z", tags=["t"])  # fmt: skip
    assert (run.id, run.name, run.project, run.path) == ("i", "n", "p", "p/i")
    assert (run.group, run.job_type, run.notes) == ("g", "j", "z")
    assert (run.resumed, run.offline, run.disabled) == (False, True, False)
    assert run.entity == ""
    age = datetime.datetime.now().timestamp() - run.start_time
    assert 0 <= age < 60
    assert "p/i" in repr(run)


@pytest.mark.parametrize("level", [None, "INFO", "warn", wanllmdb.AlertLevel.ERROR])
def test_an_alert_is_stored_at_its_step(level, api):
    """With title, text, level and time; W&B's arguments are accepted."""
    with wanllmdb.init(id="r") as run:
        run.log({"a": 1})
        wanllmdb.alert("title", "text", level, wait_duration=300)
    (alert,) = api.run("r").alerts
    assert (alert.title, alert.text, alert.step) == ("title", "text", 1)
    assert alert.level == str(level or "INFO").upper()


def test_an_alert_is_printed_and_survives_kill_9(script, api):
    """Whoever looks at the terminal sees it, and it is durable at once."""
    code = "wandb.init(id='r'); wandb.alert('diverged', 'inf', 'ERROR')"
    done = script(code + "\nos.kill(os.getpid(), 9)", WANLLMDB_SILENT="0")
    assert "ERROR diverged: inf" in done.stderr
    assert [alert.title for alert in api.run("r").alerts] == ["diverged"]


def test_an_alert_of_an_unknown_level_is_refused():
    """With the levels that there are."""
    run = wanllmdb.init()
    with pytest.raises(InvalidInputError, match="LOUD"):
        run.alert("t", "x", level="LOUD")


def test_every_alert_is_kept_in_order(api):
    """wait_duration drops none of them."""
    with wanllmdb.init(id="r") as run:
        for number in range(5):
            run.alert(f"t{number}", wait_duration=1000)
    assert [a.title for a in api.run("r").alerts] == [f"t{n}" for n in range(5)]


def test_mark_preempting_changes_nothing(api):
    """A run that is preempted is resumed by its id like any other."""
    with wanllmdb.init(id="r") as run:
        run.mark_preempting()
        run.log({"a": 1})
    assert api.run("r").state == "finished"


def test_watch_warns_once_and_leaves_the_model_alone():
    """No hook is registered and no step moved."""

    class Model:
        """Touches nothing."""

        def __getattr__(self, name):
            raise AssertionError(name)

    with wanllmdb.init() as run:
        with pytest.warns(wanllmdb.WanllmdbWarning, match="watch"):
            wanllmdb.watch(Model(), log="all", log_freq=10)
        run.watch(Model())
        wanllmdb.unwatch()
        run.unwatch(Model())
        assert run.step == 0


def test_log_takes_wandbs_arguments(api, rows):
    """data, step, commit, sync; by position too."""
    with wanllmdb.init(id="r"):
        wanllmdb.log({"a": 1}, 3, True, sync=True)
        wanllmdb.log(data={"a": 2}, commit=False)
        wanllmdb.log({"b": 2}, commit=True)
    assert rows(api.run("r"), "a", "b") == [(3, 1, None), (4, 2, 2)]
