"""Opening: fresh, older, newer, and what is not ours at all."""

from __future__ import annotations

import re
import sqlite3
import time

import pytest

RECORD = "import wanllmdb; wanllmdb.init().finish()"
TRY = """
import sys, wanllmdb
try:
    wanllmdb.init().finish() if sys.argv[1] == "init" else wanllmdb.Api().runs()
except wanllmdb.WanllmdbError as error:
    print(error.kind, error.exit_code, error)
else:
    print("fine")
"""


@pytest.fixture
def snapshot(store):
    """Every file of the Store with its bytes, the diary and lock files aside."""

    def take():
        return {
            str(p.relative_to(store)): p.read_bytes()
            for p in sorted(store.rglob("*"))
            if p.is_file() and p.suffix != ".lock" and p.parent.name != "logs"
        }

    return take


@pytest.fixture
def edit(store):
    """Change the Catalog behind its owner's back."""

    def run(*statements):
        connection = sqlite3.connect(store / "catalog.db", isolation_level=None)
        for statement in statements:
            connection.execute(statement)
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.close()

    return run


@pytest.mark.parametrize("how", ["init", "api"])
def test_a_newer_catalog_is_refused_and_nothing_is_changed(child, edit, snapshot, how):
    """The error names both versions."""
    child(RECORD)
    edit("PRAGMA user_version=99")
    before = snapshot()
    said = child(TRY, how).stdout
    assert said.startswith("newer_store 7 ")
    assert "99" in said
    assert re.search(r"knows \d", said)
    assert snapshot() == before


@pytest.mark.parametrize("how", ["init", "api"])
def test_a_newer_format_is_refused_and_nothing_is_changed(child, store, snapshot, how):
    """FORMAT is read before anything is opened."""
    child(RECORD)
    (store / "FORMAT").write_text("wanllmdb store 2\n")
    before = snapshot()
    said = child(TRY, how).stdout
    assert said.startswith("newer_store 7 ")
    assert "format 2" in said
    assert "knows 1" in said
    assert snapshot() == before


@pytest.mark.parametrize("version", [0, 1, 99])
@pytest.mark.parametrize("how", ["init", "api"])
def test_another_applications_database_is_refused(
    child, store, edit, snapshot, version, how
):
    """Whatever its user_version, it is neither read nor given our tables."""
    child(RECORD)
    for path in store.glob("catalog.db*"):
        path.unlink()
    edit("CREATE TABLE theirs (x)", "INSERT INTO theirs VALUES (1)",
         f"PRAGMA user_version={version}")  # fmt: skip
    before = snapshot()
    said = child(TRY, how).stdout
    assert said.startswith(("migration 7", "store_unavailable 7"))
    assert "another application" in said
    assert snapshot() == before


def test_what_is_no_database_is_refused(child, store, snapshot):
    """A Catalog of plain text is an integrity error, and is kept."""
    child(RECORD)
    for path in store.glob("catalog.db-*"):
        path.unlink()
    (store / "catalog.db").write_text("hello " * 1000)
    before = snapshot()["catalog.db"]
    assert child(TRY, "init").stdout.startswith("integrity 5 ")
    assert snapshot()["catalog.db"] == before


def test_eight_processes_that_open_a_fresh_store_at_once(spawn, sql):
    """One creates it, seven wait, all record."""
    code = """
    import sys, wanllmdb
    print("ready", flush=True); sys.stdin.readline()
    wanllmdb.init().finish()
    """
    children = [spawn(code) for _ in range(8)]
    for process in children:
        process.stdout.readline()
    for process in children:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.wait(30) for process in children] == [0] * 8
    assert sql("SELECT count(*) FROM meta WHERE key = 'store_uid'") == [(1,)]
    assert sql("SELECT count(DISTINCT uid), count(*) FROM run") == [(8, 8)]
    assert sql("SELECT count(*) FROM run WHERE state = 'finished'") == [(8,)]


# This library, as if it were the next version, with one migration.
NEXT = """
import sys, wanllmdb
from wanllmdb._catalog import migrations
migrations.MIGRATIONS[migrations.SCHEMA_VERSION] = sys.argv[1]
migrations.SCHEMA_VERSION += 1
print("ready", flush=True); sys.stdin.readline()
try:
    wanllmdb.init().finish()
except wanllmdb.WanllmdbError as error:
    print(error.kind)
"""
EXTRA = "CREATE TABLE extra (x INTEGER NOT NULL) STRICT;\n"


def test_a_migration_runs_once_and_leaves_a_backup(child, spawn, sql, store):
    """Of four processes one migrates; the older Catalog is kept beside it."""
    child(RECORD)
    (version,) = sql("PRAGMA user_version")[0]
    children = [spawn(NEXT, EXTRA + "INSERT INTO extra VALUES (1);") for _ in range(4)]
    said = [process.communicate("go\n", timeout=30) for process in children]
    assert said == [("ready\n", "")] * 4
    assert sql("SELECT count(*) FROM extra") == [(1,)]
    assert sql("PRAGMA user_version") == [(version + 1,)]
    assert sql("SELECT count(*) FROM run") == [(5,)]
    (backup,) = store.glob("*backup*")
    kept = sqlite3.connect(backup)
    assert kept.execute("PRAGMA user_version").fetchone() == (version,)
    assert kept.execute("SELECT count(*) FROM run").fetchone() == (1,)
    kept.close()
    assert backup.stat().st_mode & 0o077 == 0


def test_a_migration_that_fails_changes_nothing(child, sql):
    """Its error is of kind `migration`; the older library goes on."""
    child(RECORD)
    (version,) = sql("PRAGMA user_version")[0]
    said = child(NEXT, EXTRA + "INSERT INTO extra VALUES (NULL);\n").stdout
    assert said.split() == ["ready", "migration"]
    assert sql("PRAGMA user_version") == [(version,)]
    assert sql("SELECT count(*) FROM sqlite_master WHERE name = 'extra'") == [(0,)]
    child(RECORD)


def test_a_killed_migration_leaves_the_old_schema(child, spawn, sql, store):
    """After kill -9 in the middle the next one starts over."""
    child(RECORD)
    endless = (
        "INSERT INTO extra WITH RECURSIVE c(n) AS"
        " (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT n FROM c;"
    )
    process = spawn(NEXT, EXTRA + endless)
    process.stdin.write("go\n")
    process.stdin.flush()
    deadline = time.monotonic() + 20
    while not list(store.glob("*backup*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)  # some rows into the endless statement
    process.kill()
    process.wait()
    child(RECORD)
    assert sql("SELECT count(*) FROM sqlite_master WHERE name = 'extra'") == [(0,)]
    again = spawn(NEXT, EXTRA)
    assert again.communicate("go\n", timeout=30) == ("ready\n", "")
    assert sql("SELECT count(*) FROM extra") == [(0,)]
