"""Console, system, git and environment: recorded, and never in the way."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
from pathlib import Path

import pytest

import wanllmdb
from wanllmdb._capture import environment, git
from wanllmdb._capture.console import ConsoleCapture, shown
from wanllmdb._capture.system import SystemSampler


def captured(monkeypatch):
    """Plain streams, patched, and the list of what is captured.

    Not a fixture: pytest gives the test streams of its own after fixtures ran.
    """
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    lines = []
    capture = ConsoleCapture(lambda stream, text, _: lines.append((stream, text)))
    capture.start()
    return capture, lines


def test_lines_are_captured_and_still_shown(monkeypatch):
    """Both streams, blank lines too, and the last line without a newline."""
    capture, lines = captured(monkeypatch)
    print("a\n\nb")
    print("e", file=sys.stderr, end="")
    capture.stop()
    assert sys.stdout.getvalue() == "a\n\nb\n"
    assert lines == [("stdout", "a"), ("stdout", ""), ("stdout", "b"), ("stderr", "e")]


def test_a_holder_of_the_stream_is_captured_too(monkeypatch):
    """A handler that holds the stream from before keeps working."""
    capture, lines = captured(monkeypatch)
    handler = logging.StreamHandler(sys.stderr)
    handler.emit(logging.LogRecord("x", 20, "", 0, "held", (), None))
    capture.stop()
    assert lines == [("stderr", "held")]


def test_progress_bars_collapse():
    """Carriage returns overwrite, as on a terminal."""
    assert shown("  0%\r 50%\r100%") == "100%"
    assert shown("abcdef\rxy") == "xycdef"
    assert shown("\x1b[1mbold\x1b[0m") == "\x1b[1mbold\x1b[0m"


def test_the_stream_is_restored_only_if_still_ours(monkeypatch):
    """Somebody who patched over us is left in place."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    capture = ConsoleCapture(lambda *_: None)
    capture.start()
    ours = stream.write

    def theirs(text):
        return ours(text)

    stream.write = theirs
    capture.stop()
    assert stream.write is theirs
    stream.write("still works")
    assert stream.getvalue() == "still works"


def test_an_emit_that_prints_or_fails_disturbs_nobody(monkeypatch):
    """No recursion, no exception."""
    monkeypatch.setattr(sys, "stdout", io.StringIO())

    def emit(*_):
        print("from emit")
        raise RuntimeError

    capture = ConsoleCapture(emit)
    capture.start()
    print("x")
    capture.stop()
    assert sys.stdout.getvalue() == "x\nfrom emit\n"


def test_a_missing_stdout_is_no_matter(monkeypatch):
    """As under pythonw."""
    monkeypatch.setattr(sys, "stdout", None)
    capture = ConsoleCapture(lambda *_: None)
    capture.start()
    assert capture.patched == ("stderr",)
    capture.stop()


def test_a_run_records_console_messages_and_system(api):
    """All sources on: the run holds lines, samples, packages and git's absence."""
    code = """
import logging, wanllmdb
run = wanllmdb.init(id="r", monitor_interval=0.1, capture_logs=True)
print("out line")
logging.getLogger().addHandler(wanllmdb.LogHandler())
logging.getLogger().error("went wrong")
run.log_message("note", level="info")
import time
end = time.monotonic() + 30
while len(wanllmdb.Api().run("r").system) < 2 and time.monotonic() < end:
    time.sleep(0.05)
run.finish()
"""
    on = {"WANLLMDB_ENVIRONMENT": "1", "WANLLMDB_GIT": "1"}
    done = subprocess.run([sys.executable, "-c", code, "--api-key", "s3cret"],
                          env={**__import__("os").environ, **on}, capture_output=True,
                          text=True, timeout=60, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    run = api.run("r")
    assert [line.text for line in run.logs(stream="stdout")] == ["out line"]
    assert [line.text for line in run.logs(level="error")] == ["went wrong"]
    assert [line.text for line in run.logs(grep="^no")] == ["note"]
    assert len(run.system) >= 2
    assert run.system["proc.rss_bytes"].to_pylist()[0] > 1_000_000
    assert "wanllmdb" in run.environment["packages"] or run.environment["packages"]
    assert run.environment["argv"][-1] == "***"


def test_system_samples_are_numbers(tmp_path):
    """Whatever this machine offers."""
    sampler = SystemSampler(tmp_path)
    sample = sampler.sample()
    sampler.close()
    assert sample["disk.free_bytes"] > 0
    assert all(isinstance(value, (int, float)) for value in sample.values())


def test_git_facts_leave_credentials_out(tmp_path):
    """Commit, branch, dirtiness and a clean remote."""

    def run(*args):
        subprocess.run(["git", "-C", tmp_path, "-c", "user.name=n", "-c",
                        "user.email=e@x.invalid", *args],
                       check=True, capture_output=True)  # fmt: skip

    run("init", "-b", "trunk")
    (tmp_path / "f").write_text("1\n")
    run("add", "f")
    run("commit", "-m", "one")
    run("remote", "add", "origin", "https://user:token@host.invalid/repo.git")
    (tmp_path / "f").write_text("2\n")
    facts = git.git_facts(tmp_path)
    assert (facts["branch"], facts["dirty"]) == ("trunk", True)
    assert facts["remote"] == "https://host.invalid/repo.git"
    text, cut = git.git_diff(tmp_path)
    assert "+2" in text
    assert not cut
    assert git.git_diff(tmp_path, limit_bytes=20)[1]


def test_no_repository_is_none(tmp_path):
    """Nothing to say is not an error."""
    assert git.git_facts(tmp_path) is None
    assert git.git_diff(Path(tmp_path)) is None


@pytest.mark.parametrize(
    ("arguments", "clean"),
    [
        (["--api-key", "x1"], ["--api-key", "***"]),
        (["--token=abc"], ["--token=***"]),
        (["https://u:p@h/x"], ["https://***@h/x"]),
        (["--tokenizer", "gpt2"], ["--tokenizer", "gpt2"]),
        (["--max-tokens", "512"], ["--max-tokens", "512"]),
        (["--passes", "3"], ["--passes", "3"]),
    ],
)
def test_secrets_in_arguments_are_left_out(arguments, clean):
    """Values of secret-looking options go, ordinary words stay."""
    assert environment.redact_argv(arguments) == clean


def test_capture_can_be_switched_off(api):
    """Nothing is recorded where nothing is asked for."""
    with wanllmdb.init(capture_logs=False, monitor_system=False) as run:
        print("unseen")
    assert list(api.run(run.path).logs()) == []
    assert len(api.run(run.path).system) == 0
