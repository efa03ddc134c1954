"""Child processes that use wanllmdb: run to their end, or started and waited for."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

HEAD = "import os, sys, time, pathlib\nimport wanllmdb\nimport wanllmdb as wandb\n"


@pytest.fixture(autouse=True)
def _no_warning_goes_unnoticed(recwarn):
    """A warning that no pytest.warns expects fails the test.

    Under `error` the package prints what it would warn of, so that alone shows nothing.
    """
    yield
    assert [str(warning.message) for warning in recwarn] == []


@pytest.fixture
def rows():
    """History of a stored run as (step, value of each key)."""

    def read(run, *keys):
        return [(r["_step"], *(r.get(key) for key in keys)) for r in run.scan_history()]

    return read


@pytest.fixture
def until():
    """Wait until a condition holds; fail at the deadline."""

    def wait(condition, seconds=20):
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < deadline, "the condition never held"
            time.sleep(0.01)
        return found

    return wait


@pytest.fixture
def script(tmp_path):
    """Run code in a process of its own, to its end.

    A script that is a file, as `multiprocessing` needs it, lies in the directory that
    `file` names.
    """

    def run(code, *arguments, file=None, cwd=None, **env):
        start = ["-c", HEAD + code]
        if file is not None:
            path = tmp_path / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(HEAD + code)
            start = [str(path)]
        return subprocess.run(
            [sys.executable, *start, *arguments],
            env={**os.environ, **env},
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )

    return run


@pytest.fixture
def ok(script):
    """Run code in a process of its own that must succeed; return its stdout."""

    def run(*args, **kwargs):
        done = script(*args, **kwargs)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


class Child:
    """A process that says how far it is by files, and waits for files."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self.process = process
        self.folder = folder
        self.pid = process.pid

    def reached(self, name: str) -> None:
        """Wait until the child called `reach(name)`."""
        deadline = time.monotonic() + 20
        while not self.has_reached(name):
            assert self.process.poll() is None, self.process.communicate()[1]
            assert time.monotonic() < deadline, f"the child never reached {name}"
            time.sleep(0.01)

    def has_reached(self, name: str) -> bool:
        """Whether the child called `reach(name)`."""
        return (self.folder / name).exists()

    def let(self, name: str) -> None:
        """Let the child's `wait(name)` return."""
        (self.folder / name).touch()

    def signal(self, number: int) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def end(self) -> int:
        """Wait for the end; return the code."""
        self.process.communicate(timeout=30)
        return self.process.returncode


STEPS = """
_folder = pathlib.Path(os.environ["STEPS_FOLDER"])
def reach(name):
    (_folder / name).touch()
def wait(name, seconds=30):
    deadline = time.monotonic() + seconds
    while not (_folder / name).exists():
        assert time.monotonic() < deadline, name
        time.sleep(0.01)
"""


@pytest.fixture
def start(tmp_path):
    """Start code in a process of its own that may call reach(name) and wait(name)."""
    children = []

    def begin(code, *, command=None, cwd=None, **env):
        folder = tmp_path / f"steps-{len(children)}"
        folder.mkdir()
        process = subprocess.Popen(
            command or [sys.executable, "-c", HEAD + STEPS + code],
            env={**os.environ, "STEPS_FOLDER": str(folder), **env},
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        children.append(process)
        return Child(process, folder)

    yield begin
    for process in children:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def rank():
    """The environment that torchrun gives a rank."""

    def environment(number, job="job-1"):
        return {
            "RANK": str(number),
            "LOCAL_RANK": str(number),
            "WORLD_SIZE": "2",
            "TORCHELASTIC_RUN_ID": job,
        }

    return environment
