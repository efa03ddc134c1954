"""A process that holds the Catalog and does not let go: others are told, or wait."""

from __future__ import annotations

import signal
import time

import pytest

# Another program that begins to write, and is stopped in the middle.
HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE meta SET value = 'never' WHERE key = 'hlc'")
print("holding", flush=True); sys.stdin.readline()
connection.execute("COMMIT" if sys.argv[2] == "commit" else "ROLLBACK")
"""
# The same library, with less patience.
IMPATIENT = """
import sys
from wanllmdb._catalog import connection
connection.LOCK_TIMEOUT = 1.0
import wanllmdb
"""


@pytest.fixture
def holder(child, spawn, store):
    """A stopped process in the middle of a write to a Store with run `r`."""
    child("import wanllmdb; wanllmdb.init(id='r').finish()")
    process = spawn(HOLD, store / "catalog.db", "rollback")
    process.stdout.readline()
    process.send_signal(signal.SIGSTOP)
    return process


def test_reads_go_on_beside_a_stopped_writer(holder, child):
    """Listings, histories and logs take no lock that he holds."""
    code = """
    import wanllmdb
    api = wanllmdb.Api()
    print([r.id for r in api.runs()], api.run("r").state, len(api.run("r").history()))
    """
    assert child(code).stdout.split() == ["['r']", "finished", "0"]


def test_a_write_beside_a_stopped_writer_gives_up_with_store_locked(holder, child):
    """After the timeout, not before, with an error that says what to look for."""
    code = """
    try: wanllmdb.Api().run("r").update(name="new")
    except wanllmdb.WanllmdbError as error: print(error.kind, error.exit_code, error)
    """
    start = time.monotonic()
    said = child(IMPATIENT + code.replace("\n    ", "\n")).stdout
    assert 1.0 <= time.monotonic() - start < 10
    assert said.startswith("store_locked 7 ")
    assert "catalog.db" in said


def test_training_outlives_a_stopped_writer(holder, child, api):
    """log() needs no Catalog; what finish() could not store is recovered later."""
    holder.send_signal(signal.SIGCONT)
    holder.stdin.write("\n")
    holder.stdin.flush()
    holder.wait(10)
    code = f"""
import subprocess, os, signal, warnings
warnings.simplefilter("ignore")
run = wanllmdb.init(id="live")
held = subprocess.Popen([sys.executable, "-c", {HOLD!r}, sys.argv[1], "rollback"],
                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
held.stdout.readline()
for value in range(100): run.log({{"x": value}})
run.config.update(late=1); run.alert("locked")
run.finish()
held.communicate("go")
print("survived")
"""
    path = api.store.path / "catalog.db"
    assert child(IMPATIENT + code, path).stdout == "survived\n"
    found = api.run("live")
    assert [row["x"] for row in found.scan_history()] == list(range(100))
    assert found.state in ("finished", "crashed")
    assert found.summary["x"] == 99


def test_writes_go_on_when_the_stopped_writer_is_killed(holder, spawn, sql):
    """The kernel frees his lock, and his half a change is undone."""
    code = "import wanllmdb; wanllmdb.Api().run('r').update(name='new'); print('done')"
    waiting = spawn(code)
    time.sleep(0.3)  # it is in its retries by now
    assert waiting.poll() is None
    holder.kill()
    out, err = waiting.communicate(timeout=20)
    assert (out, err) == ("done\n", "")
    assert sql("SELECT name FROM run") == [("new",)]
    assert sql("SELECT value FROM meta WHERE key = 'hlc'") != [("never",)]
