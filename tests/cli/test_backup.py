"""store backup and restore: an equal Store, whatever is going on meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import stat

import pytest

import wanllmdb


def everything(store):
    """All that the Api shows of a Store."""
    told = []
    with wanllmdb.Api(store) as api:
        for deleted in (False, True):
            for run in api.runs(deleted=deleted):
                told.append(
                    (
                        run.path, run.name, run.state, run.notes, run.tags, run.config,
                        run.summary, run.keys, run.epochs, run.events, run.alerts,
                        list(run.scan_history()), [str(x) for x in run.logs()],
                        {f.name: f.read() for f in run.files()}, run.created_at,
                    )
                )  # fmt: skip
        told.append([p.name for p in api.projects()])
    return told


@pytest.fixture
def rich(two_runs):
    """Runs with files, long texts, epochs, alerts and spilled config."""
    with wanllmdb.init(project="q", id="rich", config={"big": "x" * 1_500_000}) as run:
        run.log({"x": float("inf"), "text": "y" * 300_000})
        run.alert("look")
        with open(f"{run.dir}/a.bin", "wb") as file:
            file.write(os.urandom(10_000))
    with wanllmdb.init(resume_from="rich?_step=0", project="q") as run:
        run.log({"x": 2})
    wanllmdb.teardown()


def test_a_restored_backup_is_equal(rich, cli, store, tmp_path):
    """Runs, trash, rows, files, events: all that can be read."""
    copy, fresh = tmp_path / "copy", tmp_path / "fresh"
    before = everything(store)
    assert cli("store", "backup", copy).stdout.strip() == str(copy)
    cli("--store", fresh, "store", "restore", copy)
    assert everything(fresh) == before
    assert everything(store) == before


def test_a_backup_can_be_read_in_place(rich, cli, store, tmp_path):
    """It is a Store itself."""
    cli("store", "backup", tmp_path / "copy")
    assert everything(tmp_path / "copy") == everything(store)


def test_a_backup_holds_the_stores_settings(rich, cli, store, tmp_path):
    """config.toml belongs to the Store."""
    (store / "config.toml").write_text('format = "jsonl"\n')
    cli("store", "backup", tmp_path / "copy")
    cli("--store", tmp_path / "fresh", "store", "restore", tmp_path / "copy")
    assert (tmp_path / "fresh" / "config.toml").read_text() == 'format = "jsonl"\n'


def test_a_backup_made_while_a_run_is_live_is_a_moment_of_it(cli, start, tmp_path):
    """Every row that log() had returned for is in it; the run itself goes on."""
    code = """
import sys, wanllmdb
run = wanllmdb.init(project="p", id="live", config={"lr": 1})
for i in range(500): run.log({"x": i})
print("logged", flush=True)
i = 500
import select
while not select.select([sys.stdin], [], [], 0)[0]:
    run.log({"x": i}); i += 1
run.finish(); print(i)
"""
    trainer = start(code=code)
    assert trainer.stdout.readline() == "logged\n"
    cli("store", "backup", tmp_path / "copy")
    out, err = trainer.communicate("stop\n", timeout=30)
    assert (trainer.returncode, err) == (0, "")
    cli("--store", tmp_path / "fresh", "store", "restore", tmp_path / "copy")
    with wanllmdb.Api(tmp_path / "fresh") as api:
        run = api.run("p/live")
        rows = [row["x"] for row in run.scan_history()]
        assert run.state == "crashed"
        assert run.config == {"lr": 1}
        assert len(rows) >= 500
        assert rows == list(range(len(rows)))
        assert run.summary["x"] == rows[-1]
    with wanllmdb.Api() as api:
        assert api.run("p/live").state == "finished"
        assert api.run("p/live").keys["x"].count == int(out)


def test_a_backup_is_private(rich, cli, store, tmp_path):
    """Directories 0700 and files 0600, as in the Store; a restored one too."""
    cli("store", "backup", tmp_path / "copy", umask=0o022)
    cli("--store", tmp_path / "fresh", "store", "restore", tmp_path / "copy",
        umask=0o022)  # fmt: skip
    for root in (tmp_path / "copy", tmp_path / "fresh"):
        open_to_others = [
            str(p.relative_to(root))
            for p in [root, *root.rglob("*")]
            if stat.S_IMODE(p.stat().st_mode) & 0o077 and p.name != "a.bin"
        ]
        assert open_to_others == []


def test_an_existing_target_is_refused_and_kept(rich, cli, tmp_path):
    """A backup never overwrites."""
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "mine").write_text("mine")
    done = cli("store", "backup", tmp_path / "copy", ok=False)
    assert (done.returncode, str(tmp_path / "copy") in done.stderr) == (4, True)
    assert [p.name for p in (tmp_path / "copy").iterdir()] == ["mine"]


def test_restoring_over_a_store_is_refused(rich, cli, store, tmp_path):
    """What is there is moved away by a person, not by us."""
    cli("store", "backup", tmp_path / "copy")
    before = everything(store)
    assert cli("store", "restore", tmp_path / "copy", ok=False).returncode == 4
    assert everything(store) == before


@pytest.mark.parametrize("target", ["no/such/place", "file/below"])
def test_a_backup_to_an_impossible_place_is_one_clear_error(rich, cli, tmp_path,
                                                            target):  # fmt: skip
    """The error names the place; parents are made where they can be."""
    (tmp_path / "file").write_text("x")
    done = cli("store", "backup", tmp_path / target, ok=False)
    assert "Traceback" not in done.stderr
    if done.returncode:
        assert str(tmp_path / "file") in done.stderr


def test_a_backup_that_was_interrupted_can_be_made_again(rich, cli, store, tmp_path):
    """What a killed one left behind is no backup, and not in the way."""
    (tmp_path / "copy.part").mkdir()
    (tmp_path / "copy.part" / "catalog.db").write_text("half")
    cli("store", "backup", tmp_path / "copy")
    assert everything(tmp_path / "copy") == everything(store)


def test_a_restore_that_was_interrupted_is_no_store(rich, cli, store, tmp_path):
    """FORMAT comes last: a half-copied Store is never taken for a whole one."""
    cli("store", "backup", tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "blobs")
    (tmp_path / "copy" / "blobs").symlink_to("nowhere")
    done = cli("--store", tmp_path / "fresh", "store", "restore", tmp_path / "copy",
               ok=False)  # fmt: skip
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "fresh" / "FORMAT").exists()


def test_a_backup_in_the_store_itself_is_refused(rich, cli, store):
    """It would grow into its own copy."""
    done = cli("store", "backup", store / "live" / "copy", ok=False)
    assert done.returncode in (2, 4)
    assert "Traceback" not in done.stderr


def test_doctor_finds_a_fresh_backup_well(rich, cli, tmp_path):
    """What was copied is complete."""
    cli("store", "backup", tmp_path / "copy")
    assert "No problems" in cli("--store", tmp_path / "copy", "doctor").stdout
    found = json.loads(cli("--store", tmp_path / "copy", "ls", "--json").stdout)
    assert len(found) == 3
