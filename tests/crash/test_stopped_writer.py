"""A process stopped while it holds the Catalog blocks no reader and no `log`."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import wanllmdb

HOLDER = """
import os, signal, sqlite3, sys
held = sqlite3.connect(sys.argv[1], isolation_level=None)
held.execute("BEGIN IMMEDIATE")
held.execute("UPDATE run SET notes = 'from the holder'")
print("holding", flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
held.execute("COMMIT")
"""
IMPATIENT = """
import time, wanllmdb
from wanllmdb._catalog import connection
connection.LOCK_TIMEOUT = 1.0
"""
BEGIN = """
import sys, wanllmdb
wanllmdb.init(project="p", id="live")
print("begun", flush=True)
sys.stdin.readline()
"""

Start = Callable[..., "subprocess.Popen[str]"]
Ended = Callable[..., str]


def begun(process: subprocess.Popen[str]) -> subprocess.Popen[str]:
    assert process.stdout is not None
    assert process.stdout.readline() in ("begun\n", "holding\n")
    return process


def go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


@pytest.fixture
def finished_run(store: Path) -> None:
    """A Store with one run of ten rows."""
    run = wanllmdb.init(project="p", id="old", store=store)
    for n in range(10):
        run.log({"n": n})
    run.finish()
    wanllmdb.teardown()


@pytest.fixture
def hold(store: Path, start: Start) -> Callable[[], subprocess.Popen[str]]:
    """Makes a process that holds the write lock, and is stopped."""

    def held() -> subprocess.Popen[str]:
        holder = begun(start(HOLDER, store / "catalog.db"))
        _, status = os.waitpid(holder.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        return holder

    return held


@pytest.mark.usefixtures("finished_run")
def test_reads_go_on_beside_a_stopped_writer(
    hold: Callable[[], subprocess.Popen[str]], store: Path
) -> None:
    """Lists, histories and summaries are there at once, as they were."""
    hold()
    began = time.monotonic()
    with wanllmdb.Api(store) as api:
        (run,) = api.runs()
        assert run.history(["n"])["n"].to_pylist() == list(range(10))
        assert run.summary["n"] == 9
        assert run.notes is None
    assert time.monotonic() - began < 5


@pytest.mark.usefixtures("finished_run")
def test_a_crashed_run_can_be_read_beside_a_stopped_writer(
    hold: Callable[[], subprocess.Popen[str]], start: Start, ended: Ended
) -> None:
    """A reader that cannot store the recovery shows the rows all the same."""
    body = "for n in range(7): wanllmdb.log({'n': n})\nprint('begun', flush=True)"
    killed = begun(start(f"{BEGIN}{body}\nsys.stdin.readline()"))
    go_on(killed)
    begun(killed)
    killed.kill()
    killed.wait()
    hold()
    read = """
with wanllmdb.Api() as api:
    assert len(api.runs("p")) == 2
    print(*api.run("p/live").history(["n"])["n"].to_pylist())
"""
    assert ended(start(IMPATIENT + read)) == "0 1 2 3 4 5 6"


@pytest.mark.usefixtures("finished_run")
def test_init_beside_a_stopped_writer_raises_one_clear_error(
    hold: Callable[[], subprocess.Popen[str]], start: Start, ended: Ended, store: Path
) -> None:
    """It waits for its turn, then says that the Store is locked; nothing is left."""
    holder = hold()
    body = """
began = time.monotonic()
try:
    wanllmdb.init(project="p")
except wanllmdb.errors.StoreLockedError as error:
    print(1 <= time.monotonic() - began < 5, "stopped process" in error.hint)
"""
    assert ended(start(IMPATIENT + body)) == "True True"
    holder.kill()
    holder.wait()
    with wanllmdb.Api(store) as api:
        assert [run.id for run in api.runs()] == ["old"]
    wanllmdb.init(project="p", store=store).finish()


@pytest.mark.usefixtures("finished_run")
def test_init_waits_for_a_writer_that_goes_on(
    hold: Callable[[], subprocess.Popen[str]], start: Start, ended: Ended, store: Path
) -> None:
    """Continued, the holder commits, and who waited gets its turn."""
    holder = hold()
    waiting = start("import wanllmdb; print(wanllmdb.init(project='p').id)")
    time.sleep(0.7)
    assert waiting.poll() is None
    holder.send_signal(signal.SIGCONT)
    made = ended(waiting)
    holder.wait()
    with wanllmdb.Api(store) as api:
        assert {run.id for run in api.runs()} == {made, "old"}
        assert api.run("p/old").notes == "from the holder"


@pytest.mark.usefixtures("finished_run")
def test_training_goes_on_beside_a_stopped_writer(
    hold: Callable[[], subprocess.Popen[str]], start: Start, ended: Ended, store: Path
) -> None:
    """`log` never waits, `finish` never raises, and the next reader finds every row."""
    body = """
began = time.monotonic()
for n in range(1000):
    wanllmdb.log({"n": n})
assert time.monotonic() - began < 1
wanllmdb.config.update({"lr": 1})
wanllmdb.finish()
"""
    training = begun(start(IMPATIENT + BEGIN + body))
    holder = hold()
    go_on(training)
    ended(training)
    holder.kill()
    holder.wait()
    with wanllmdb.Api(store) as api:
        run = api.run("p/live")
        assert run.state in ("finished", "crashed")
        assert run.history(["n"])["n"].to_pylist() == list(range(1000))
        assert run.summary["n"] == run.last_step == 999
