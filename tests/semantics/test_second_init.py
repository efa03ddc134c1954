"""A second init() in a script, and nested `with`."""

from __future__ import annotations

import pytest

import wanllmdb
from wanllmdb.errors import InvalidInputError, RunActiveError


def test_a_script_gets_the_active_run_and_is_told_what_was_ignored(api):
    """The arguments that had no effect are named."""
    run = wanllmdb.init(project="p", config={"a": 1})
    with pytest.warns(wanllmdb.WanllmdbWarning, match="ignored") as told:
        again = wanllmdb.init(project="q", name="n", config={"b": 2}, tags=["t"])
    assert again is run
    for word in ("config", "name", "project", "tags"):
        assert word in str(told[0].message)
    run.finish()
    assert [r.project for r in api.runs()] == ["p"]


def test_init_without_arguments_returns_the_active_run_without_a_word():
    """Nothing was ignored, so nothing is said."""
    run = wanllmdb.init()
    assert wanllmdb.init() is run
    assert wanllmdb.init(reinit=False) is run
    assert wanllmdb.init(reinit="default") is run


def test_return_previous_says_nothing():
    """It was asked for."""
    run = wanllmdb.init()
    assert wanllmdb.init(project="other", reinit="return_previous") is run


@pytest.mark.parametrize("word", [True, "finish_previous"])
def test_finish_previous_finishes_every_live_run(word, api):
    """Also those that create_new made."""
    first = wanllmdb.init()
    second = wanllmdb.init(reinit="create_new")
    third = wanllmdb.init(reinit=word)
    assert [api.run(r.path).state for r in (first, second, third)] == [
        "finished", "finished", "running",
    ]  # fmt: skip
    assert wanllmdb.run is third


def test_create_new_leaves_the_modules_run_alone(api, rows):
    """Module-level calls still go to the first run."""
    first = wanllmdb.init(id="one")
    second = wanllmdb.init(id="two", reinit="create_new")
    wanllmdb.log({"a": 1})
    second.log({"a": 2})
    assert wanllmdb.run is first
    second.finish()
    assert wanllmdb.run is first
    wanllmdb.log({"a": 3})
    wanllmdb.finish()
    assert rows(api.run("one"), "a") == [(0, 1), (1, 3)]
    assert rows(api.run("two"), "a") == [(0, 2)]


def test_create_new_of_the_active_id_is_refused():
    """One run has one writer, in one process too."""
    wanllmdb.init(id="r")
    with pytest.raises(RunActiveError):
        wanllmdb.init(id="r", reinit="create_new")


def test_an_unknown_reinit_is_refused_by_name():
    """A typing error is no default."""
    with pytest.raises(InvalidInputError, match="finish_prev"):
        wanllmdb.init(reinit="finish_prev")


def test_only_the_outermost_with_finishes(api):
    """A helper that does `with init()` inside a run does not end it."""
    with wanllmdb.init(id="r") as outer:
        with wanllmdb.init() as inner:
            assert inner is outer
            with wanllmdb.init() as innermost:
                innermost.log({"a": 1})
        assert api.run("r").state == "running"
        outer.log({"a": 2})
    assert api.run("r").state == "finished"


def test_an_exception_caught_between_two_withs_does_not_fail_the_run(api):
    """Only what leaves the outermost block decides."""
    with wanllmdb.init(id="r"):
        with pytest.raises(ValueError, match="inner"), wanllmdb.init():
            raise ValueError("inner")
        wanllmdb.log({"a": 1})
    assert api.run("r").state == "finished"
