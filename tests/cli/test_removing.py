"""What removes things: asks first, can be tried dry, and can be undone."""

from __future__ import annotations

import os
import pty
from pathlib import Path

import pytest

import wanllmdb

REMOVALS = {
    "rm": ["rm", "p/a", "p/b"],
    "trash empty": ["trash", "empty"],
    "project rm": ["project", "rm", "p"],
}
EACH = pytest.mark.parametrize("args", REMOVALS.values(), ids=REMOVALS)


@pytest.fixture
def held(store):
    """All that the Store holds: runs, trashed runs, projects, files of logs."""

    def look():
        with wanllmdb.Api(store) as api:
            return (
                [run.path for run in api.runs()],
                [run.path for run in api.runs(deleted=True)],
                [project.name for project in api.projects()],
                sorted(p.name for p in (store / "live").rglob("*.wlog")),
            )

    return look


@EACH
def test_without_a_terminal_yes_is_needed(two_runs, cli, held, args):
    """A script that forgot --yes removes nothing."""
    before = held()
    done = cli(*args, ok=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--yes" in done.stderr
    assert held() == before


@EACH
def test_a_dry_run_says_what_would_go_and_removes_nothing(two_runs, cli, held, args):
    """Neither --yes nor a terminal is needed to ask."""
    before = held()
    told = cli(*args, "--dry-run").stdout
    assert ("p/c" if args[0] == "trash" else "p/a") in told
    assert held() == before


@EACH
def test_a_dry_run_wins_over_yes(two_runs, cli, held, args):
    """Both given: nothing is removed."""
    before = held()
    cli(*args, "--dry-run", "--yes")
    assert held() == before


@EACH
def test_yes_removes_exactly_what_the_dry_run_said(two_runs, cli, held, args):
    """The two lists are one."""
    told = cli(*args, "--dry-run").stdout
    assert cli(*args, "--yes").stdout == told
    after = held()
    if args[0] == "trash":
        assert after[1] == []
    else:
        assert after[0] == []
        assert sorted(after[1]) == ["p/a", "p/b", "p/c"]


@pytest.fixture
def answer(start):
    """Run a command on a terminal and type an answer to its question."""
    master, slave = pty.openpty()

    def run(args, text):
        asked = start(*args, stdin=slave)
        os.write(master, text.encode())
        out, err = asked.communicate(timeout=30)
        return asked.returncode, out, err

    yield run
    os.close(slave)
    os.close(master)


@EACH
@pytest.mark.parametrize("word", ["n", "y"])
def test_on_a_terminal_it_asks(two_runs, answer, held, args, word):
    """`n` leaves all as it is, `y` removes; the question is on stderr."""
    before = held()
    code, out, err = answer(args, f"{word}\n")
    assert "?" in err
    assert "?" not in out
    assert (code == 0) == (word == "y")
    assert (held() == before) == (word == "n")


def test_a_removed_run_comes_back_whole(two_runs, cli, api):
    """After rm and restore: the same rows, config, tags and name."""

    def whole():
        run = api.run("p/a")
        return (run.name, run.tags, run.config, run.summary,
                [tuple(row.items()) for row in run.scan_history()])  # fmt: skip

    before = whole()
    cli("rm", "p/a", "--yes")
    cli("trash", "restore", "p/a")
    assert whole() == before


def test_a_removed_project_comes_back_with_its_runs(two_runs, cli, api):
    """Restoring a run takes its project out of the trash."""
    cli("project", "rm", "p", "--yes")
    assert api.projects() == []
    cli("restore", "p/a")
    assert [project.name for project in api.projects()] == ["p"]
    assert [run.id for run in api.runs()] == ["a"]


def test_a_project_with_a_live_run_is_not_removed(cli, held):
    """As rm refuses a run that is being written, so does project rm."""
    run = wanllmdb.init(project="p", id="live")
    done = cli("rm", "p/live", "--yes", ok=False)
    assert done.returncode != 0
    done = cli("project", "rm", "p", "--yes", ok=False)
    assert done.returncode != 0
    assert held()[0] == ["p/live"]
    run.finish()


def test_one_unknown_run_among_several_removes_none(two_runs, cli, held):
    """All are found before the first one goes."""
    before = held()
    done = cli("rm", "p/a", "p/nope", "--yes", ok=False)
    assert done.returncode == 3
    assert held() == before


def test_emptying_the_trash_removes_the_log(two_runs, cli, store):
    """Its directory is gone; blobs that nothing names any more are gc's."""
    with wanllmdb.init(project="p", id="big") as run:
        for step in range(1000):
            run.log({"x": step})
        directory = Path(run.url)
    wanllmdb.teardown()
    cli("rm", "p/big", "--yes")
    assert directory.exists()
    cli("trash", "empty", "--yes")
    assert not directory.exists()


def test_a_project_goes_with_its_artifacts_and_comes_back_with_them(
    two_runs, cli, api, tmp_path
):
    """The question says how many; project restore brings all of it back."""
    (tmp_path / "x").write_text("1")
    cli("artifact", "put", tmp_path / "x", "p/data", "--type", "dataset")
    told = cli("project", "rm", "p", "--dry-run").stdout
    assert "p/data:v1" in told.splitlines()
    cli("project", "rm", "p", "--yes")
    assert (api.projects(), api.artifacts()) == ([], [])
    assert cli("project", "restore", "p").stdout == "p\n"
    assert [run.id for run in api.runs("p")] == ["b", "a"]
    assert [a.name for a in api.artifacts()] == ["data:v1"]
    assert cli("project", "restore", "p", ok=False).returncode == 6


def test_the_question_about_a_project_counts_its_artifacts(two_runs, answer, tmp_path):
    """Nobody removes versions without knowing."""
    with wanllmdb.init(project="p", id="more") as run:
        run.log_artifact(wanllmdb.Artifact("a", "dataset"))
    wanllmdb.teardown()
    _, err = answer(["project", "rm", "p"], "n\n")[1:]
    assert "3 runs to the trash, and 1 versions of its artifacts" in err
