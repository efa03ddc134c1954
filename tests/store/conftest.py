"""Children: a fresh interpreter, another user's, one with mounts of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

NOBODY = 65534
# Python may be installed where only root can read: that much is kept.
OTHER_USER = [
    "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
    "--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search",
]  # fmt: skip
UNPRIVILEGED_ROOT = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


def needs_root(*tools: str) -> None:
    """Skip where the machine cannot give a test another user or a mount."""
    if os.getuid() != 0 or not all(map(shutil.which, tools)):
        pytest.skip(f"needs root and {' '.join(tools)}")


@pytest.fixture
def child():
    """Run Python code in a process of its own, which must succeed unless told so."""

    def run(code, *args, ok=True, prefix=(), unset=(), env=None, **options):
        environment = {**os.environ, **(env or {})}
        for name in unset:
            environment.pop(name, None)
        done = subprocess.run(
            [*prefix, sys.executable, "-c", textwrap.dedent(code), *map(str, args)],
            capture_output=True, text=True, timeout=60, check=False,
            stdin=subprocess.DEVNULL, env=environment, **options,
        )  # fmt: skip
        assert not ok or done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture
def spawn():
    """Start Python code without waiting; whatever still runs is killed at the end."""
    started = []

    def start(code, *args, **options):
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", textwrap.dedent(code), *map(str, args)],
                text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, **options,
            )
        )  # fmt: skip
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def as_nobody(child):
    """Run code as uid 65534, to whom nothing here belongs."""
    needs_root("setpriv")
    return lambda *args, **options: child(*args, prefix=OTHER_USER, **options)


@pytest.fixture
def as_plain_root(child):
    """Run code as uid 0 without root's power over others' files."""
    needs_root("setpriv")
    return lambda *args, **options: child(*args, prefix=UNPRIVILEGED_ROOT, **options)


@pytest.fixture
def with_mounts(child):
    """Run code after a shell script of mounts, which only that process sees."""
    needs_root("unshare", "mount")

    def run(mounts, code, *args, **options):
        script = f'{mounts}\nexec "$@"'
        prefix = ["unshare", "-m", "sh", "-ec", script, "sh"]
        return child(code, *args, prefix=prefix, **options)

    return run


@pytest.fixture
def open_dir():
    """A directory that every user may enter."""
    path = Path(tempfile.mkdtemp(prefix="wanllmdb-open-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def cli(child):
    """Run the command line in a process of its own."""

    def run(*args, ok=True, **options):
        code = "import sys; from wanllmdb.cli import main; main()"
        return child(code, *args, ok=ok, **options)

    return run


@pytest.fixture
def sql(store):
    """Query this test's Catalog from a connection of our own."""
    import sqlite3

    def query(statement, *params):
        connection = sqlite3.connect(store / "catalog.db")
        try:
            return connection.execute(statement, params).fetchall()
        finally:
            connection.close()

    return query
