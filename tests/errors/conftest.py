"""A child process, and the lines of the debug log."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest


@pytest.fixture
def child():
    """Run Python code in a process of its own, which must succeed unless told so."""

    def run(code, *args, ok=True, prefix=(), **options):
        done = subprocess.run(
            [*prefix, sys.executable, "-c", textwrap.dedent(code), *map(str, args)],
            capture_output=True, text=True, timeout=60, check=False,
            stdin=subprocess.DEVNULL, **options,
        )  # fmt: skip
        assert not ok or done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture
def cli(child):
    """Run the command line in a process of its own."""

    def run(*args, ok=True, **options):
        code = "from wanllmdb.cli import main; main()"
        return child(code, *args, ok=ok, **options)

    return run


@pytest.fixture
def diary(store):
    """The text of the debug log, all its files."""

    def read():
        files = sorted((store / "logs").glob("debug.log*"), reverse=True)
        return "".join(path.read_text("utf-8") for path in files)

    return read


@pytest.fixture
def with_mounts(child):
    """Run code after a shell script of mounts, which only that process sees."""
    if os.getuid() != 0:
        pytest.skip("needs root to mount")

    def run(mounts, code, *args, **options):
        prefix = ["unshare", "-m", "sh", "-ec", f'{mounts}\nexec "$@"', "sh"]
        return child(code, *args, prefix=prefix, **options)

    return run
