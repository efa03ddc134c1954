"""exec passes on every byte and every signal, and stores no secret."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

COMMAND = [sys.executable, "-m", "wanllmdb"]


def test_output_is_passed_on_byte_for_byte(api):
    """Carriage returns, no last newline, bytes that are no text; and it is recorded."""
    data = b"raw \xff\xfe\n\xc3\xa9\n\rstep 1\rstep 2\nend"
    code = f"import os; os.write(1, {data!r}); os.write(2, {data[::-1]!r})"
    done = subprocess.run(
        [*COMMAND, "exec", "--", sys.executable, "-c", code], timeout=60, check=True,
        capture_output=True, env={**os.environ, "WANLLMDB_CONSOLE": "1"},
    )  # fmt: skip
    assert (done.stdout, done.stderr) == (data, data[::-1])
    lines = [x.text for x in api.run("@last").logs(stream="stdout")]
    assert lines[1:] == ["é", "step 2", "end"]


def test_output_appears_while_the_command_runs(start):
    """Also a part of a line, as a prompt or a progress bar is."""
    process = start("exec", "--", "sh", "-c", "printf 'half '; read x; echo $x")
    assert process.stdout.read(5) == "half "
    out, _ = process.communicate("whole\n", timeout=30)
    assert (process.returncode, out) == (0, "whole\n")


def test_secrets_of_the_command_are_not_stored(cli, api):
    """As in the captured arguments."""
    cli("exec", "--", "echo", "--password", "hunter2", "--api-key=abc123", "plain")
    command = api.run("@last").config["command"]
    assert "hunter2" not in command
    assert "abc123" not in command
    assert "plain" in command


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_command_that_cleans_up_after_a_signal_is_killed(start, api, number):
    """It gets the signal once, and its own exit code is kept."""
    code = """
import os, signal, sys, time
# os.write, because print may be broken into by a handler that prints.
def stop(n, frame): os.write(1, b"got %d\\n" % n); sys.exit(9)
for n in (1, 2, 15): signal.signal(n, stop)
os.write(1, b"up\\n")
time.sleep(60)
"""
    process = start("exec", "--", sys.executable, "-c", code)
    assert process.stdout.readline() == "up\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (9, f"got {int(number)}\n")
    assert "Traceback" not in err
    assert (api.run("@last").state, api.run("@last").record.exit_code) == ("killed", 9)


def test_a_reader_that_leaves_ends_the_command(api):
    """As in a pipe without exec: no deadlock, no traceback."""
    script = f"{' '.join(COMMAND)} exec -- yes | head -1"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True,
                          timeout=60, check=True)  # fmt: skip
    assert (done.stdout, "Traceback" in done.stderr) == ("y\n", False)
    assert api.run("@last").state == "crashed"


def test_options_after_the_command_are_its_own(cli, api):
    """Without `--` too; and they never change how our errors look."""
    assert cli("exec", "-p", "p", "echo", "--json", "-p").stdout == "--json -p\n"
    assert api.run("@last").project == "p"
    done = cli("exec", "no-such-command", "--json", ok=False)
    assert (done.returncode, done.stderr[:1] != "{") == (127, True)


def test_resume_ends_as_its_command(cli, two_runs):
    """By signal too, and its variables name the run."""
    done = cli("resume", "p/a", "--", "sh", "-c", "echo $WANLLMDB_RUN_ID; kill -9 $$",
               ok=False)  # fmt: skip
    assert (done.returncode, done.stdout) == (137, "a\n")
