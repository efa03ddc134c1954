"""resume_from and fork_from: what they take over, and what never reaches a fork."""

from __future__ import annotations

import pytest

import wanllmdb
from wanllmdb.errors import InvalidInputError, RunNotFoundError

X = [(0, 0), (1, 1), (2, 2)]


@pytest.fixture
def parent(api):
    """A finished run of five rows, x = step."""
    with wanllmdb.init(id="parent", config={"lr": 1}) as run:
        for value in range(5):
            run.log({"x": value, "epoch": value // 2, "loss": value / 4})
    return lambda: api.run("parent")


def test_rewind_goes_on_after_its_step_and_keeps_config(parent, rows):
    """Rows after K are superseded, and everything else of the run stays."""
    with wanllmdb.init(resume_from="parent?_step=2", config={"b": 2}) as run:
        assert (run.id, run.step, run.resumed) == ("parent", 3, True)
        assert run.summary["x"] == 2
        run.log({"x": 30})
    assert rows(parent(), "x") == [*X, (3, 30)]
    assert parent().config == {"lr": 1, "b": 2}
    assert parent().last_step == 3


def test_what_a_rewind_superseded_comes_back(parent, rows):
    """Superseded is hidden, not gone."""
    wanllmdb.init(resume_from="parent?_step=0").finish()
    assert rows(parent(), "x") == [(0, 0)]
    parent().restore_epoch(1)
    assert [x for _, x in rows(parent(), "x")] == [0, 1, 2, 3, 4]


def test_two_rewinds_show_the_lowest_of_both(parent, rows):
    """A later, farther rewind does not show again what an earlier one hid."""
    with wanllmdb.init(resume_from="parent?_step=1") as run:
        run.log({"x": 20})
    with wanllmdb.init(resume_from="parent?_step=4") as run:
        assert run.step == 5
    assert rows(parent(), "x") == [(0, 0), (1, 1), (2, 20)]


@pytest.mark.parametrize(
    ("test", "step"), [("x=2", 3), ("loss=0.25", 2), ("loss=1.0", 5)]
)
def test_a_rewind_to_a_value_finds_its_row(test, step, parent):
    """?key=value goes on after the row that logged the value."""
    run = wanllmdb.init(resume_from=f"parent?{test}")
    assert run.step == step


def test_a_value_is_compared_as_a_number(parent):
    """loss=1 finds what was logged as 1.0, and x=2.0 what was logged as 2."""
    with wanllmdb.init(resume_from="parent?loss=1") as run:
        assert run.step == 5
    with wanllmdb.init(resume_from="parent?x=2.0") as run:
        assert run.step == 3


@pytest.mark.parametrize(
    "target", ["parent", "parent?", "parent?_step=two", "parent?_step"]
)
def test_a_target_without_a_step_is_refused(target, parent):
    """The hint shows how to write it."""
    with pytest.raises(InvalidInputError) as caught:
        wanllmdb.init(resume_from=target)
    assert "?_step=K" in caught.value.hint


@pytest.mark.parametrize("target", ["nobody?_step=1", "parent?x=77"])
def test_a_target_that_is_not_there_is_not_found(target, parent):
    """Neither the run nor the value is invented."""
    with pytest.raises(RunNotFoundError):
        wanllmdb.init(resume_from=target)


def test_a_fork_is_a_run_of_its_own_that_begins_after_the_step(parent, api, rows):
    """It shows the parent's rows up to K and then its own."""
    with wanllmdb.init(fork_from="parent?_step=2", id="f", config={"lr": 2}) as run:
        assert (run.step, run.id) == (3, "f")
        run.log({"x": 30})
    assert rows(api.run("f"), "x") == [*X, (3, 30)]
    assert [x for _, x in rows(parent(), "x")] == [0, 1, 2, 3, 4]
    assert (api.run("f").config["lr"], parent().config["lr"]) == (2, 1)
    assert api.run("f").keys["x"].count == 4


def test_a_fork_by_value_and_of_a_fork(parent, api, rows):
    """?key=value works for forks, and forks chain."""
    with wanllmdb.init(fork_from="parent?x=1", id="f") as run:
        run.log({"x": 20})
        run.log({"x": 21})
    with wanllmdb.init(fork_from="f?_step=2", id="g") as run:
        run.log({"x": 300})
    assert rows(api.run("g"), "x") == [(0, 0), (1, 1), (2, 20), (3, 300)]


def more(api):
    """Log further rows, also at steps that the fork took over."""
    with wanllmdb.init(id="parent", resume="must") as run:
        run.log({"x": 50})
        with pytest.warns(wanllmdb.WanllmdbWarning, match="behind"):
            run.log({"x": 99, "new": 1}, step=1)


def rewound(api):
    """Rewind to before the fork's step and log other rows."""
    with wanllmdb.init(resume_from="parent?_step=0") as run:
        run.log({"x": 99})


def replaced(api):
    """Begin the parent anew under its id."""
    with wanllmdb.init(id="parent") as run:
        run.log({"x": 99})


def restored(api):
    """Rewind, then show the first epoch again."""
    rewound(api)
    api.run("parent").restore_epoch(1)


def deleted(api):
    """Leave the parent in the trash."""
    api.run("parent").delete()


def deleted_and_restored(api):
    """Into the trash and out of it."""
    api.run("parent").delete()
    api.run("parent", deleted=True).restore()


@pytest.mark.parametrize(
    "what", [more, rewound, replaced, restored, deleted, deleted_and_restored]
)
def test_nothing_done_to_the_parent_later_changes_a_fork(what, parent, api, rows):
    """A fork shows what was there when it was made."""
    with wanllmdb.init(fork_from="parent?_step=2", id="f") as run:
        run.log({"x": 30})
    before = dict(api.run("f").summary)
    what(api)
    assert rows(api.run("f"), "x", "new") == [
        (0, 0, None), (1, 1, None), (2, 2, None), (3, 30, None),
    ]  # fmt: skip
    with wanllmdb.init(id="f", resume="must") as run:
        assert run.step == 4
        assert run.summary["x"] == 30
    assert api.run("f").summary["x"] == before["x"]
    assert api.run("f").keys["x"].count == 4


def test_a_parent_in_the_trash_is_not_purged_under_its_fork(parent, api, rows):
    """Purging what a fork still shows is refused, with nothing removed."""
    with wanllmdb.init(fork_from="parent?_step=2", id="f") as run:
        run.log({"x": 30})
    parent().delete()
    with pytest.raises(wanllmdb.WanllmdbError):
        api.purge(api.run("parent", deleted=True))
    assert rows(api.run("f"), "x") == [*X, (3, 30)]


def test_a_fork_of_a_run_that_still_logs(start, api, rows):
    """What the parent logs after the fork was made is not in it."""
    child = start("""
run = wandb.init(id="live")
for value in range(3):
    run.log({"x": value})
reach("logged")
wait("go on")
run.log({"x": 3}, step=2)
run.log({"x": 4}, step=4)
""")
    child.reached("logged")
    with wanllmdb.init(fork_from="live?_step=5", id="f") as run:
        assert run.step == 6
    child.let("go on")
    assert child.end() == 0
    assert rows(api.run("f"), "x") == X
    assert rows(api.run("live"), "x")[2] == (2, 3)
