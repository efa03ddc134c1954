"""Stores that can only be read: a mount, a chmod, and commits still in the WAL."""

from __future__ import annotations

import shutil
import subprocess

import pytest

READ = """
import sys, wanllmdb
with wanllmdb.Api(sys.argv[1]) as api:
    for run in reversed(api.runs()):
        rows = [row["x"] for row in run.scan_history()]
        text = [line.text for line in run.logs()]
        files = {file.name: file.read().decode() for file in run.files()}
        print(run.id, run.state, run.name, dict(run.config), run.summary["x"], rows,
              run.history(["x"]).to_pylist()[-1]["x"], text, files, run.tags,
              len(run.events) > 0, len(run.alerts), run.keys["x"].count)
    print(api.projects()[0].name, api.store.read_only)
"""
RECORD = """
import wanllmdb, sys
with wanllmdb.init(project="p", id="a", name="n", config={"lr": 1}, tags=["t"]) as run:
    for i in range(3): run.log({"x": i})
    run.log_message("hello"); run.alert("look")
    open(run.dir + "/f.txt", "w").write("content")
"""
EXPECTED = (
    "a finished {name} {{'lr': 1}} 2 [0, 1, 2] 2 ['hello'] {{'f.txt': 'content'}}"
    " ('t',) True 1 3\np True\n"
)
INIT = """
import wanllmdb
try: wanllmdb.init()
except wanllmdb.WanllmdbError as error: print(type(error).__name__, error)
"""
MOUNTS = "mount --bind {0} {0}; mount -o remount,ro,bind {0}"


@pytest.fixture
def closed(child, store):
    """A Store that was closed cleanly."""
    child(RECORD)
    return store


@pytest.fixture
def unclosed(closed, child, tmp_path):
    """A Store whose last commit, a rename, is only in its -wal."""
    code = """
    import os, wanllmdb
    api = wanllmdb.Api()
    api.run("p/a").update(name="renamed")
    os._exit(0)
    """
    child(code)
    assert (closed / "catalog.db-wal").stat().st_size > 0
    copy = tmp_path / "moved" / "store"
    shutil.copytree(closed, copy)
    (copy / "catalog.db-shm").unlink()
    return copy


def everyone_may_read(store):
    """Take every right to write, and give those to read."""
    subprocess.run(["chmod", "-R", "a+rX,a-w", store], check=True)


def test_a_cleanly_closed_store_is_read_from_a_read_only_mount(closed, with_mounts):
    """Everything the Api shows comes from the one file and the logs."""
    said = with_mounts(MOUNTS.format(closed), READ, closed).stdout
    assert said == EXPECTED.format(name="n")


def test_a_store_with_a_wal_is_read_from_a_read_only_mount(unclosed, with_mounts):
    """The last commits are seen too."""
    said = with_mounts(MOUNTS.format(unclosed), READ, unclosed).stdout
    assert said == EXPECTED.format(name="renamed")


def test_a_live_store_with_a_wal_and_shm_is_read_from_a_read_only_mount(
    closed, child, with_mounts
):
    """Its -shm is there, and cannot be written."""
    child("import os, wanllmdb; wanllmdb.Api().run('a').update(name='renamed');"
          " os._exit(0)")  # fmt: skip
    said = with_mounts(MOUNTS.format(closed), READ, closed).stdout
    assert said == EXPECTED.format(name="renamed")


def test_a_cleanly_closed_store_is_read_by_another_user(closed, as_nobody):
    """Rights alone make it read-only."""
    everyone_may_read(closed)
    assert as_nobody(READ, closed, cwd="/").stdout == EXPECTED.format(name="n")


def test_a_store_with_a_wal_is_read_by_another_user(unclosed, as_nobody):
    """The last commits are seen too, and nothing is left behind."""
    everyone_may_read(unclosed)
    before = sorted(p.name for p in unclosed.iterdir())
    assert as_nobody(READ, unclosed, cwd="/").stdout == EXPECTED.format(name="renamed")
    assert sorted(p.name for p in unclosed.iterdir()) == before


def test_the_copy_that_reading_made_is_removed(unclosed, with_mounts, tmp_path):
    """The temporary copy goes with the Api."""
    (tmp_path / "tmp").mkdir()
    env = {"TMPDIR": str(tmp_path / "tmp")}
    with_mounts(MOUNTS.format(unclosed), READ, unclosed, env=env)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_init_refuses_a_read_only_mount(closed, with_mounts):
    """The error names the place and says what to do."""
    said = with_mounts(MOUNTS.format(closed), INIT).stdout
    assert said.startswith(("ReadOnlyError", "StoreUnavailableError"))
    assert str(closed) in said
    assert "WANLLMDB_DIR" in said


def test_init_refuses_a_store_of_another_user(closed, as_nobody):
    """A Store that may only be read is no place to record in."""
    everyone_may_read(closed)
    said = as_nobody(INIT, cwd="/").stdout
    assert said.startswith(("ReadOnlyError", "StoreUnavailableError"))
    assert str(closed) in said
    assert "65534" in said


def test_a_new_store_on_a_read_only_mount_is_refused(tmp_path, with_mounts):
    """Nothing is there yet, and nothing can be."""
    (tmp_path / "disk").mkdir()
    place = {"WANLLMDB_DIR": f"{tmp_path}/disk/store"}
    said = with_mounts(MOUNTS.format(tmp_path / "disk"), INIT, env=place).stdout
    assert said.startswith("ReadOnlyError")
    assert f"{tmp_path}/disk/store" in said


@pytest.mark.parametrize(
    "change",
    ["run.update(name='x')", "run.delete()", "setattr(run, 'tags', ['x'])",
     "run.restore_epoch(1)", "run.update(config={'a': 1})"],
)  # fmt: skip
def test_changes_to_a_read_only_store_are_refused_by_name(closed, with_mounts, change):
    """ReadOnlyError, before anything was tried."""
    code = f"""
import wanllmdb
run = wanllmdb.Api().run("p/a")
try: {change}
except wanllmdb.errors.ReadOnlyError as error: print(error.kind, error)
"""
    said = with_mounts(MOUNTS.format(closed), code).stdout
    assert said.startswith("read_only ")
    assert str(closed) in said


def test_the_command_line_reads_a_read_only_store(closed, with_mounts):
    """Listings work, edits exit with 6."""
    code = "import sys; sys.argv[0] = 'w'; from wanllmdb.cli import main; main()"
    mounts = MOUNTS.format(closed)
    for args in (["ls"], ["show", "a"], ["doctor"], ["metric", "get", "a", "x"],
                 ["logs", "a"], ["status"]):  # fmt: skip
        assert with_mounts(mounts, code, *args).returncode == 0
    done = with_mounts(mounts, code, "rename", "a", "b", ok=False)
    assert (done.returncode, done.stderr.count("\n")) == (6, 2)


def test_a_backup_of_a_read_only_store_can_be_made(closed, with_mounts, tmp_path):
    """The hint of ReadOnlyError says so."""
    code = "import sys; from wanllmdb.cli import main; main()"
    with_mounts(MOUNTS.format(closed), code, "store", "backup", tmp_path / "copy")
    assert (tmp_path / "copy" / "catalog.db").exists()
