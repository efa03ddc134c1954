"""The command line, as a person or a script calls it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import wanllmdb


def cli(*args: str, **options) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "wanllmdb", *args],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
        **options,
    )


@pytest.fixture
def two_runs():
    """Two finished runs, `a` and `b`."""
    for name, lr in (("a", 0.1), ("b", 0.2)):
        with wanllmdb.init(project="p", id=name, config={"lr": lr}) as run:
            for step in range(3):
                run.log({"loss": lr * step})


def test_demo_records_a_run_and_every_command_it_names_works():
    """What the demo tells people to type does work."""
    done = cli("demo", "--steps", "30")
    assert done.returncode == 0, done.stderr
    commands = [line.split()[1:] for line in done.stdout.splitlines()
                if line.startswith("  wanllmdb ")]  # fmt: skip
    assert len(commands) == 5
    for command in commands:
        shown = cli(*command)
        assert shown.returncode == 0, shown.stderr
        assert shown.stdout


def test_ls_prints_json_that_parses(two_runs):
    """--json is one list of objects on stdout."""
    rows = json.loads(cli("ls", "--json").stdout)
    assert [row["id"] for row in rows] == ["b", "a"]


def test_ls_filters_sorts_and_chooses_columns(two_runs):
    """-f, -s and -c work together."""
    done = cli("ls", "-f", "config.lr > 0", "-s", "+config.lr", "-c", "id,config.lr",
               "--format", "csv")  # fmt: skip
    assert done.stdout == "id,config.lr\na,0.1\nb,0.2\n"


def test_metric_get_writes_parquet(two_runs, tmp_path):
    """Every row is in the file, exact."""
    import pyarrow.parquet as pq

    target = tmp_path / "x.parquet"
    assert cli("metric", "get", "p/a", "loss", "--format", "parquet",
               "-o", str(target)).returncode == 0  # fmt: skip
    assert pq.read_table(target)["loss"].to_pylist() == [0.0, 0.1, 0.2]


@pytest.mark.parametrize(
    ("args", "status", "text"),
    [
        (["show", "nope"], 3, "no run"),
        (["ls", "-f", "config.lr <<"], 2, "^"),
        (["shw"], 2, "Did you mean 'show'"),
        (["rm", "p/a"], 2, "--yes"),
        (["metric", "get", "p/a", "zzz"], 3, "never logged"),
    ],
)
def test_errors_have_a_status_and_no_traceback(two_runs, args, status, text):
    """Each error is one clear message with the status of its kind."""
    done = cli(*args)
    assert done.returncode == status
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_json_errors_parse(two_runs):
    """With --json the error is an object on stderr."""
    error = json.loads(cli("show", "nope", "--json").stderr)["error"]
    assert error["kind"] == "run_not_found"


def test_removed_runs_come_back(two_runs):
    """rm, trash ls and restore are one round trip."""
    assert cli("rm", "p/a", "--yes").returncode == 0
    assert json.loads(cli("trash", "ls", "--json").stdout)[0]["id"] == "a"
    assert cli("restore", "p/a").returncode == 0
    assert len(json.loads(cli("ls", "--json").stdout)) == 2


def test_trash_empty_removes_for_good(two_runs, store):
    """The rows and the log are gone."""
    cli("rm", "p/a", "--yes")
    assert cli("trash", "empty", "--yes").returncode == 0
    assert len(list((store / "live").iterdir())) == 1
    assert cli("restore", "p/a").returncode == 3


def test_tag_note_and_rename_are_stored(two_runs, api):
    """Small edits survive."""
    cli("tag", "p/a", "best", "x")
    cli("tag", "-d", "p/a", "x")
    cli("note", "p/a", "looks good")
    cli("rename", "p/a", "winner")
    run = api.run("p/winner")
    assert (run.tags, run.notes, run.name) == (("best",), "looks good", "winner")


def test_diff_shows_only_what_differs(two_runs):
    """Equal keys are left out."""
    rows = json.loads(cli("diff", "p/a", "p/b", "--json").stdout)
    assert [row["key"] for row in rows] == ["config.lr", "summary.loss"]


def test_exec_records_output_and_exit_code(api):
    """The command's status is ours, and its output is in the run's log."""
    done = cli("exec", "-p", "p", "--", "sh", "-c", "echo out; echo err >&2; exit 3",
               env={**os.environ, "WANLLMDB_CONSOLE": "1"})  # fmt: skip
    assert done.returncode == 3
    run = api.run("@last")
    assert (run.state, run.record.exit_code) == ("failed", 3)
    assert {(line.stream, line.text) for line in run.logs()} >= {
        ("stdout", "out"), ("stderr", "err"),
    }  # fmt: skip


def test_exec_gives_its_run_to_the_command(api):
    """init() in the command writes the same run."""
    code = "import wanllmdb; wanllmdb.init().log({'x': 1})"
    done = cli("exec", "-p", "p", "--", sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr
    (run,) = api.runs("p")
    assert (run.state, run.summary["x"]) == ("finished", 1)


def test_backup_and_restore_give_an_equal_store(two_runs, tmp_path):
    """Every row comes back from the copy."""
    copy, fresh = tmp_path / "copy", tmp_path / "fresh"
    assert cli("store", "backup", str(copy)).returncode == 0
    assert cli("--store", str(fresh), "store", "restore", str(copy)).returncode == 0
    before = cli("metric", "get", "p/b", "loss", "--json").stdout
    after = cli("--store", str(fresh), "metric", "get", "p/b", "loss", "--json").stdout
    assert before == after


def test_plot_draws(two_runs):
    """The terminal plot names the metric."""
    done = cli("plot", "p/a", "loss")
    assert done.returncode == 0, done.stderr
    assert "loss" in done.stdout


def test_other_commands_answer(two_runs, tmp_path):
    """Each command exits with 0 and says something."""
    for args in (
        ["status"], ["env"], ["doctor"], ["version"], ["completion", "bash"],
        ["store", "path"], ["store", "migrate"], ["project", "ls"],
        ["project", "show", "p"], ["metric", "stats", "p/a", "loss"], ["tail", "p/a"],
        ["init", str(tmp_path)],
    ):  # fmt: skip
        done = cli(*args)
        assert done.returncode == 0, (args, done.stderr)
        assert done.stdout


def test_a_closed_pipe_is_quiet(two_runs):
    """`| head` ends the command without a word."""
    command = f"{sys.executable} -m wanllmdb ls --json | head -1"
    done = subprocess.run(
        command, shell=True, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
