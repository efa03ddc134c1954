"""`wanllmdb exec -- CMD`: the state of the run is how the command ended."""

from __future__ import annotations

import os
import signal
import sys

import pytest

EXEC = [sys.executable, "-m", "wanllmdb", "exec", "--"]
PYTHON = [*EXEC, sys.executable, "-c"]


def ended(api):
    """State and exit code of the only run."""
    (run,) = api.runs()
    return run.state, run.record.exit_code


def alive(pid):
    """Whether a process runs (a zombie does not)."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("command", "end"),
    [
        ("true", ("finished", 0)), ("exit 3", ("failed", 3)),
        ("kill -TERM $$", ("killed", 143)), ("kill -INT $$", ("killed", 130)),
        ("kill -KILL $$", ("crashed", 137)), ("kill -SEGV $$", ("crashed", 139)),
    ],
)  # fmt: skip
def test_exec_sees_how_its_command_ended(command, end, start, api):
    """The wait status decides: SIGTERM is killed, other signals are crashed."""
    child = start("", command=[*EXEC, "sh", "-c", command])
    assert child.end() == end[1]
    assert ended(api) == end


@pytest.mark.parametrize(
    ("code", "end"),
    [("", ("finished", 0)), ("raise ValueError", ("failed", 1)),
     ("import sys; sys.exit(5)", ("failed", 5)),
     ("import os; os.kill(os.getpid(), 15)", ("killed", 143)),
     ("import os; os.kill(os.getpid(), 9)", ("crashed", 137)),
     ("wanllmdb.finish()", ("finished", 0)),
     ("wanllmdb.finish(); raise ValueError", ("failed", 1))],
)  # fmt: skip
def test_a_script_under_exec_writes_the_same_run(code, end, start, api, rows):
    """Its init() joins exec's run, and its end is that of the run."""
    code = f"import wanllmdb; wanllmdb.init(); wanllmdb.log({{'x': 1}})\n{code}"
    child = start("", command=[*PYTHON, code])
    assert child.end() == end[1]
    assert ended(api) == end
    assert rows(api.runs()[0], "x") == [(0, 1)]
    assert api.runs()[0].history()["_writer"].to_pylist() == ["primary"]


def test_what_a_script_gives_to_init_under_exec_is_kept(start, api):
    """Config, name, tags and notes are the script's, and config can be read back."""
    code = (
        "import wanllmdb as wandb\n"
        "r = wandb.init(config={'lr': 1}, name='mine', tags=['t'], notes='n')\n"
        "r.config.bs = 2\n"
        "r.summary['best'] = r.config.lr"
    )
    child = start("", command=[*PYTHON, code])
    assert child.end() == 0, child.process
    (run,) = api.runs()
    assert (run.config["lr"], run.config["bs"]) == (1, 2)
    assert run.summary["best"] == 1
    assert (run.name, run.tags, run.notes) == ("mine", ("t",), "n")


def test_a_script_of_two_runs_under_exec_records_both(start, api):
    """The second init() is a run of its own, or goes on; it never fails."""
    code = (
        "import wanllmdb\n"
        "for value in range(2):\n"
        "    with wanllmdb.init() as run:\n"
        "        run.log({'x': value})"
    )
    child = start("", command=[*PYTHON, code])
    assert child.end() == 0
    found = [row["x"] for run in api.runs() for row in run.scan_history()]
    assert sorted(found) == [0, 1]


def test_sigterm_to_the_command_is_killed(start, api):
    """As `kill PID` of the training does."""
    code = (
        "import os, pathlib; print(os.getpid(), flush=True); os.kill(os.getpid(), 19)"
    )
    child = start("", command=[*PYTHON, code])
    pid = int(child.process.stdout.readline())
    os.kill(pid, signal.SIGTERM)
    os.kill(pid, signal.SIGCONT)
    assert child.end() == 143
    assert ended(api) == ("killed", 143)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_exec_itself_ends_command_and_run(number, start, api, until):
    """`docker stop` and SLURM signal exec: no orphan stays, and the run is killed."""
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    child = start("", command=[*PYTHON, code])
    pid = int(child.process.stdout.readline())
    try:
        child.signal(number)
        assert child.end() != 0
        until(lambda: not alive(pid), seconds=5)
        assert ended(api)[0] == "killed"
    finally:
        if alive(pid):
            os.kill(pid, signal.SIGKILL)


def test_kill_9_of_exec_is_a_crash(start, api):
    """Nobody is left to say how it ended."""
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    child = start("", command=[*PYTHON, code])
    pid = int(child.process.stdout.readline())
    child.signal(signal.SIGKILL)
    child.process.wait(20)
    os.kill(pid, signal.SIGKILL)
    assert ended(api) == ("crashed", None)


def test_a_command_that_is_not_there_fails_the_run(start, api):
    """127, as a shell says it."""
    child = start("", command=[*EXEC, "no-such-command-here"])
    assert child.end() == 127
    assert ended(api) == ("failed", 127)


def test_what_a_command_prints_is_shown_and_recorded(start, api):
    """Both stdout and stderr apart, and both passed on."""
    child = start("", command=[*EXEC, "sh", "-c", "echo out; echo err >&2"],
                  WANLLMDB_CONSOLE="1")  # fmt: skip
    said, error = child.process.communicate(timeout=20)
    assert (said, error) == ("out\n", "err\n")
    lines = {(line.stream, line.text) for line in api.runs()[0].logs()}
    assert {("stdout", "out"), ("stderr", "err")} <= lines
