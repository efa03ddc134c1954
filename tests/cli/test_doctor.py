"""doctor finds what is broken, names it, and leaves it alone."""

from __future__ import annotations

import sqlite3

import pytest

import wanllmdb
from wanllmdb import _locks


@pytest.fixture
def damaged(store):
    """One run with a saved file, a spilled text and config; then hands to break it."""
    run = wanllmdb.init(project="p", id="r", config={"big": "x" * 1_500_000})
    for value in range(500):
        run.log({"x": value, "y": value / 3})
    run.log({"text": "z" * 600_000})
    with open(f"{run.dir}/weights.bin", "wb") as file:
        file.write(b"w" * 10_000)
    with wanllmdb.Api() as api:
        uid = api.run("p/r").record.uid
    # Another compactor is at it, so finish() leaves the log as it is.
    with _locks.acquire(store / "locks" / f"compact-{uid}.lock", 1.0):
        run.finish()
    wanllmdb.teardown()

    return Hands(store, uid)


class Hands:
    """What can be broken of a Store: a run's segment, and blobs by their size."""

    def __init__(self, store, uid):
        self.segment = min((store / "live" / uid).glob("*.wlog"))
        self.blobs = [p for p in (store / "blobs").rglob("*") if p.is_file()]

    def blob_of(self, low, high):
        (found,) = [p for p in self.blobs if low <= p.stat().st_size < high]
        return found

    def flip(self, path, at):
        data = bytearray(path.read_bytes())
        data[at] ^= 0x10
        path.chmod(0o600)
        path.write_bytes(data)


def test_a_sound_store_is_found_well(damaged, cli):
    """Exit 0 and a word."""
    assert "No problems found" in cli("doctor").stdout


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_flipped_byte_in_a_segment_is_found(damaged, cli, share):
    """Run, segment and offset are named; the status is 5."""
    end = len(damaged.segment.read_bytes().rstrip(b"\0"))
    damaged.flip(damaged.segment, int(end * share))
    done = cli("doctor", ok=False)
    assert done.returncode == 5
    assert "p/r" in done.stdout
    assert damaged.segment.name in done.stdout
    assert "offset" in done.stdout


def test_what_a_flipped_byte_spared_is_still_read(damaged, api):
    """A row or two are lost, and counted; none is wrong."""
    end = len(damaged.segment.read_bytes().rstrip(b"\0"))
    damaged.flip(damaged.segment, end // 4)
    rows = [row for row in api.run("p/r").scan_history() if "x" in row]
    assert 490 <= len(rows) < 500
    assert all(row["x"] == row["_step"] and row["y"] == row["x"] / 3 for row in rows)


def test_a_missing_blob_of_a_file_is_found(damaged, cli):
    """The file and its run are named."""
    damaged.blob_of(9_000, 11_000).unlink()
    done = cli("doctor", ok=False)
    assert done.returncode == 5
    assert "p/r" in done.stdout
    assert "weights.bin" in done.stdout


@pytest.mark.parametrize(
    ("low", "high", "what"),
    [(1_400_000, 1_600_000, "config"), (500_000, 700_000, "")],
    ids=["config", "text"],
)
def test_a_missing_blob_of_a_value_is_found(damaged, cli, low, high, what):
    """What did not fit into the row or the log is looked for too."""
    damaged.blob_of(low, high).unlink()
    done = cli("doctor", ok=False)
    assert done.returncode == 5
    assert "p/r" in done.stdout
    assert what in done.stdout
    assert "Traceback" not in done.stderr


def test_a_flipped_byte_in_a_blob_is_found(damaged, cli, api):
    """Reading it raises; doctor finds it without being asked for the file."""
    damaged.flip(damaged.blob_of(9_000, 11_000), 5_000)
    with pytest.raises(wanllmdb.errors.DigestMismatchError):
        api.run("p/r").file("weights.bin").read()
    done = cli("doctor", ok=False)
    assert done.returncode == 5
    assert "weights.bin" in done.stdout


def test_a_missing_segment_is_found(damaged, cli):
    """A run whose summary counts 501 rows has a log that holds them."""
    damaged.segment.unlink()
    done = cli("doctor", ok=False)
    assert done.returncode == 5
    assert "p/r" in done.stdout


def test_a_row_that_points_nowhere_is_found(damaged, cli, store):
    """foreign_key_check is part of it."""
    connection = sqlite3.connect(store / "catalog.db")
    connection.execute("INSERT INTO run_tag VALUES (777, 'ghost')")
    connection.commit()
    connection.close()
    done = cli("doctor", ok=False)
    assert (done.returncode, "run_tag" in done.stdout) == (5, True)


def test_a_damaged_catalog_page_is_found(damaged, cli, store):
    """quick_check, or the first query, says so; no traceback."""
    path = store / "catalog.db"
    data = bytearray(path.read_bytes())
    page = 4096
    data[page : page + 64] = b"\xff" * 64
    path.write_bytes(data)
    done = cli("doctor", ok=False)
    assert done.returncode == 5
    assert "Traceback" not in done.stderr


def test_looking_changes_nothing(damaged, cli, store):
    """Without --fix the damaged bytes stay for whoever can mend them."""
    damaged.flip(damaged.segment, 300)
    before = {p: p.read_bytes() for p in (store / "live").rglob("*.wlog")}
    cli("doctor", ok=False)
    assert {p: p.read_bytes() for p in (store / "live").rglob("*.wlog")} == before


def test_a_dead_run_is_told_and_mended_by_fix(start, cli):
    """`doctor` says what --fix would do; --fix does it."""
    code = "import os, wanllmdb; r = wanllmdb.init(project='p', id='dead');"
    code += " r.log({'x': 1}); os._exit(1)"
    assert start(code=code).wait(30) == 1
    assert "recovered p/dead" in cli("doctor", "--fix").stdout
    assert "crashed" in cli("ls").stdout


def test_the_version_of_sqlite_is_told(two_runs, cli):
    """Before 3.51.3 it has a race that doctor notes."""
    if sqlite3.sqlite_version_info < (3, 51, 3):
        assert sqlite3.sqlite_version in cli("doctor").stdout
