"""Pipes, terminals, locales, odd names: the command line in the wild."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys

import pytest

import wanllmdb

COMMAND = f"{sys.executable} -m wanllmdb"


@pytest.fixture
def many_rows():
    """A run of 5,000 rows and 2,000 messages: more than a pipe holds."""
    with wanllmdb.init(project="p", id="many") as run:
        for value in range(5_000):
            run.log({"x": value, "y": value})
        for value in range(2_000):
            run.log_message(f"message {value} {'.' * 40}")


LONG = [
    "metric get many x --format jsonl", "metric get many x --format csv",
    "metric get many x --json", "metric get many x", "logs many", "tail many -n 20000",
]  # fmt: skip


@pytest.mark.parametrize("command", LONG)
def test_a_closed_pipe_ends_quietly_with_0(many_rows, command):
    """`| head` is no failure, however much is still to be printed."""
    script = f"{COMMAND} {command} | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True,
                          timeout=60, check=True)  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "0"


@pytest.mark.parametrize("command", ["ls", "show p/a", "logs p/a", "version"])
def test_a_full_device_is_an_error_without_traceback(two_runs, command):
    """What could not be written is said, and the status is not 0."""
    done = subprocess.run(f"{COMMAND} {command} > /dev/full", shell=True, text=True,
                          stderr=subprocess.PIPE, timeout=60, check=False)  # fmt: skip
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert "space" in done.stderr


@pytest.mark.parametrize("command", ["ls", "version", "show nope"])
def test_a_closed_stdout_is_no_traceback(two_runs, command):
    """As under some daemons: there is nobody to write to."""
    done = subprocess.run(f"{COMMAND} {command} >&-", shell=True, text=True,
                          stderr=subprocess.PIPE, timeout=60, check=False)  # fmt: skip
    assert "Traceback" not in done.stderr


ASCII = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0",
         "PYTHONCOERCECLOCALE": "0"}  # fmt: skip


@pytest.mark.parametrize(
    "args",
    [["ls"], ["ls", "--json"], ["ls", "--format", "csv"], ["show", "r"], ["logs", "r"],
     ["tail", "r"], ["metric", "ls", "r"], ["project", "ls"], ["plot", "r", "x"],
     ["diff", "r", "r2"], ["rm", "r", "--dry-run"], ["show", "ü"]],
)  # fmt: skip
def test_a_terminal_without_utf8_gets_something_readable(cli, args):
    """What it cannot show is escaped or replaced; no command dies of it."""
    for name, notes in (("r", "schön"), ("r2", "日本")):
        with wanllmdb.init(project="prøject", id=name, name="ünï \U0001f600",
                           notes=notes, config={"ä": notes}) as run:  # fmt: skip
            run.log({"é": 1, "x": 1})
            run.log_message("größer")
    done = cli(*args, env=ASCII, ok=False)
    assert "Traceback" not in done.stderr
    assert done.returncode == (3 if args == ["show", "ü"] else 0)


HOSTILE = "\x1b[31mred\x07\u202etxt.exe\u200b\r\nfake line\x9b2J"


@pytest.fixture
def hostile():
    """Two runs whose every text tries to take over the terminal."""
    for name in ("a", "b"):
        with wanllmdb.init(
            project="p", id=name, name=HOSTILE, notes=HOSTILE, tags=[HOSTILE],
            group=HOSTILE, config={HOSTILE: HOSTILE, "x": name + HOSTILE},
        ) as run:  # fmt: skip
            run.log({HOSTILE: 1, "text": HOSTILE})
            run.alert(HOSTILE)
    with wanllmdb.init(project=HOSTILE, id=HOSTILE):
        pass
    with wanllmdb.Api() as api:
        api.run("p/b").delete()


@pytest.mark.parametrize(
    "args",
    [["ls"], ["ls", "-c", "id,name,config.x"], ["show", "p/a"],
     ["tail", "p/a"], ["trash", "ls"], ["project", "ls"], ["metric", "ls", "p/a"],
     ["metric", "get", "p/a", "text"], ["metric", "stats", "p/a", HOSTILE],
     ["diff", "p/a", "@last"], ["tag", "p/a", HOSTILE], ["show", HOSTILE],
     ["show", "nope\x1b[2J"], ["plot", "p/a", HOSTILE]],
    ids=lambda args: " ".join(args).encode("unicode_escape").decode()[:30],
)  # fmt: skip
def test_control_and_bidi_characters_never_reach_a_terminal(hostile, cli, args):
    """Tables, facts and errors show them escaped, on one line."""
    done = cli(*args, ok=False)
    shown = done.stdout + done.stderr
    assert shown
    for bad in "\x1b\x07\u202e\u200b\x9b\r":
        assert bad not in shown, ascii(shown)
    assert not any(line.startswith("fake line") for line in shown.splitlines())


def test_json_keeps_odd_names_exact(hostile, cli):
    """Programs get the name itself."""
    rows = json.loads(cli("ls", "--json").stdout)
    assert HOSTILE in [row["name"] for row in rows]


def test_names_that_start_with_a_dash_are_taken_after_two(cli):
    """`--` ends the options."""
    with wanllmdb.init(project="p", id="-rf", name="--help") as run:
        run.log({"-k": 1})
    assert "-rf" in cli("ls").stdout
    assert "-rf" in cli("show", "--", "-rf").stdout
    assert "-rf" in cli("show", "p/-rf").stdout
    assert cli("show", "--", "--help").stdout.startswith("id: -rf")
    assert "1" in cli("metric", "get", "--", "-rf", "-k").stdout
    cli("rm", "--yes", "--", "-rf")


def on_a_terminal(args, **env):
    """What a command prints on a terminal of its own."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "wanllmdb", *args], stdin=slave, stdout=slave,
        stderr=slave, env={**os.environ, "TERM": "xterm-256color", **env},
    )  # fmt: skip
    os.close(slave)
    shown = b""
    try:
        while block := os.read(master, 65536):
            shown += block
    except OSError:  # the terminal's other end is closed
        pass
    os.close(master)
    assert process.wait(30) == 0
    return shown


@pytest.mark.parametrize(
    "args", [["ls"], ["show", "p/a"], ["plot", "p/a", "loss"], ["status"], ["--help"]]
)
def test_no_color_means_no_escapes(two_runs, args):
    """NO_COLOR is honoured on a terminal that has colours."""
    assert b"\x1b" not in on_a_terminal(args, NO_COLOR="1")


@pytest.mark.parametrize("args", [["ls"], ["plot", "p/a", "loss"]])
def test_a_pipe_gets_no_escapes(two_runs, cli, args):
    """Nor does a file."""
    assert "\x1b" not in cli(*args).stdout


def test_ctrl_c_exits_with_130_and_no_traceback(start, until):
    """While a command waits."""
    run = wanllmdb.init(project="p", id="live")
    run.log({"x": 1})
    process = start("tail", "-f", "p/live")
    assert process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in err
    run.finish()


def test_ctrl_c_reaches_what_exec_runs(start, api):
    """The command is interrupted, the run is `killed`, the status 130."""
    process = start("exec", "-p", "p", "--", "sh", "-c", "echo up; exec sleep 30")
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert api.run("@last").state == "killed"


def test_commands_at_the_same_time_lose_nothing(two_runs, start, api):
    """Eight processes tag one run; each tag is there."""
    each = [start("tag", "p/a", f"tag{n}") for n in range(8)]
    assert [process.wait(40) for process in each] == [0] * 8
    assert {f"tag{n}" for n in range(8)} <= set(api.run("p/a").tags)
    edits = [start("rename", "p/a", "new"), start("note", "p/a", "noted"),
             start("rm", "p/b", "--yes")]  # fmt: skip
    assert [process.wait(40) for process in edits] == [0] * 3
    run = api.run("p/a")
    assert (run.name, run.notes, [r.id for r in api.runs()]) == ("new", "noted", ["a"])
