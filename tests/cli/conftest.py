"""The command line in a process of its own, and a Store that has something to show."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

import wanllmdb

COMMAND = [sys.executable, "-m", "wanllmdb"]


@pytest.fixture
def cli():
    """Run a command; it must succeed unless told so."""

    def run(*args, ok=True, env=None, **options):
        options = {"capture_output": True, "text": True, **options}
        done = subprocess.run(
            [*COMMAND, *map(str, args)], timeout=60, check=False,
            stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})}, **options,
        )  # fmt: skip
        assert not ok or done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture
def start():
    """Start a command, or Python code; whatever still runs is killed at the end."""
    started = []

    def run(*args, code=None, env=None, **options):
        command = COMMAND if code is None else [sys.executable, "-c", code]
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        started.append(
            subprocess.Popen(
                [*command, *map(str, args)], text=True,
                env={**os.environ, **(env or {})}, **{**pipes, **options},
            )
        )  # fmt: skip
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def invoke():
    """Run a command in this process, where many are run; its stdout."""
    from click.testing import CliRunner

    from wanllmdb.cli import cli as group

    def run(*args):
        done = CliRunner().invoke(group, [*map(str, args)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    return run


@pytest.fixture
def two_runs():
    """Two finished runs, `p/a` and `p/b`, and `p/c` in the trash."""
    for name, lr in (("a", 0.1), ("b", 0.2), ("c", 0.3)):
        with wanllmdb.init(
            project="p", id=name, name=f"run {name}", config={"lr": lr}, tags=["t"]
        ) as run:
            for step in range(3):
                run.log({"loss": lr * step, "acc": step})
            run.log_message(f"hello from {name}")
    with wanllmdb.Api() as api:
        api.run("p/c").delete()


@pytest.fixture
def until():
    """Wait until something holds, at most some seconds; what it came to."""

    def wait(condition, seconds=20):
        deadline = time.monotonic() + seconds
        while not (found := condition()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return found

    return wait
