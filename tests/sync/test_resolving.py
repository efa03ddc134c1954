"""Conflicts between laptops, settled by people."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from laptops import quieten

from wanllmdb.cli import cli
from wanllmdb.errors import InvalidInputError, RunExistsError, WanllmdbError


def invoke(laptop, *words):
    """Run a command of a laptop in this process."""
    return CliRunner().invoke(cli, ["--store", str(laptop.store), *words])


@pytest.fixture
def moved(a, b):
    """Two laptops that moved one alias: `a` was first."""
    a.commit("one", aliases=["best"])
    a.commit("two")
    a.commit("three")
    a.sync()
    b.sync()
    a.move("best", "v2")
    b.move("best", "v3")
    a.sync()
    b.sync()
    return b


@pytest.mark.parametrize(("take", "number"), [("mine", "v3"), ("theirs", "v2")])
def test_an_alias_is_settled_on_every_laptop(a, moved, take, number):
    """One side wins for good; nothing is kept beside it."""
    assert "conflict: " in invoke(moved, "sync", "--status").output
    done = invoke(
        moved, "artifact", "alias", "resolve", "data", "best", "--take", take, "-p", "p"
    )
    assert done.stdout == f"best names {number}\n"
    quieten(moved, a)
    for laptop in (a, moved):
        assert laptop.aliases["data:best"] == number
        assert not any("@" in name for name in laptop.aliases)
        assert laptop.conflicts == []


def test_an_alias_without_a_conflict_has_nothing_to_settle(a):
    """The error says where conflicts are shown."""
    a.commit("one", aliases=["best"])
    with a.api() as api, pytest.raises(InvalidInputError, match="no conflict"):
        api.artifact("p/data").resolve_alias("best", "mine")


@pytest.fixture
def twins(a, b):
    """Two laptops that made a run of one id; the later one shows under another."""
    a.run("x", rows=1)
    b.run("x", rows=2)
    quieten(a, b)
    (shown,) = [path for path in b.runs if "@" in path]
    return shown


def test_a_run_without_a_new_id_is_told_of_and_settled(b, twins):
    """What it is, and what can be done; then sync speaks of it no more."""
    done = invoke(b, "run", "resolve", twins)
    assert "another run that was made as 'x'" in done.stdout
    assert f"run resolve {twins} --id NEW" in done.stdout
    assert b.conflicts == []
    assert twins in b.runs


def test_a_new_id_is_for_good_on_every_laptop(a, b, twins):
    """The rows stay with the run."""
    rows = b.runs[twins]
    assert invoke(b, "run", "resolve", twins, "--id", "y").stdout == "p/y\n"
    quieten(b, a)
    for laptop in (a, b):
        assert sorted(laptop.runs) == ["p/x", "p/y"]
        assert laptop.runs["p/y"] == rows


def test_an_id_that_is_taken_is_refused(b, twins):
    """And nothing changes."""
    done = invoke(b, "run", "resolve", twins, "--id", "x")
    assert isinstance(done.exception, RunExistsError)
    assert twins in b.runs


def test_a_branch_is_told_of_by_step_and_host(a, b):
    """Two laptops went on with one run: the later attempt is a run of its own."""
    a.run("x", rows=2)
    a.sync()
    b.sync()
    for laptop in (a, b):
        run = laptop.begin(id="x", resume="must")
        run.log({"n": 9})
        run.finish()
    quieten(a, b)
    (branch,) = [path for path in b.runs if "@" in path]
    told = invoke(b, "run", "resolve", branch).stdout
    assert f"{branch} is a branch of p/x from step 2, written on" in told


def test_a_run_without_a_conflict_has_nothing_to_settle(a):
    """The error says where conflicts are shown."""
    a.run("x")
    done = invoke(a, "run", "resolve", "p/x")
    assert isinstance(done.exception, WanllmdbError)
    assert "no conflict" in str(done.exception)
