"""A Store of version 1 opens, is migrated, reads exactly, and can be compacted."""

from __future__ import annotations

import importlib.util
import math
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import wanllmdb
from wanllmdb import _recovery
from wanllmdb._catalog.schema import SCHEMA_VERSION

HERE = Path(__file__).parent
spec = importlib.util.spec_from_file_location(
    "record_version_1", HERE / "record_version_1.py"
)
assert spec is not None
assert spec.loader is not None
old: Any = importlib.util.module_from_spec(spec)
spec.loader.exec_module(old)

RUNS = {
    "whole": old.rows("whole", 0, 30), "killed": old.rows("killed", 0, 12),
    "again": [*old.rows("again", 0, 25), *old.rows("again", 25, 2)],
    "fork": [*old.rows("whole", 0, 10), *old.rows("fork", 10, 3)],
}  # fmt: skip


@pytest.fixture
def store(tmp_path):
    """The Store that an older wanllmdb made."""
    with tarfile.open(HERE / "store_v1.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    (tmp_path / "store").chmod(0o700)
    return tmp_path / "store"


def version_of(path):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA user_version").fetchone()[0]


def check(store):
    with wanllmdb.Api(store) as api:
        assert {run.id for run in api.runs()} == set(RUNS)
        for name, wanted in RUNS.items():
            run = api.run(f"p/{name}")
            rows = [*run.scan_history()]
            found = [{k: v for k, v in r.items() if k[0] != "_"} for r in rows]
            assert [row["_step"] for row in rows] == [*range(len(wanted))]
            assert [repr(sorted(row.items())) for row in found] == [
                repr(sorted(row.items())) for row in wanted
            ]
            assert run.keys["loss"].count == len(wanted)
            assert run.keys["big"].last == 2**53 + len(wanted) - 1
        whole = api.run("p/whole")
        assert whole.summary["note"] == "by hand"
        assert whole.summary["edited"] == [1, 2]
        assert math.isinf(whole.summary["train/acc"])
        assert next(line.text for line in whole.logs()).startswith("hello")
        assert whole.file("model.txt").read() == b"weights"
        assert (whole.config, whole.tags) == ({"lr": 0.1}, ("t",))
        assert api.run("p/killed").state == "crashed"


def test_it_is_migrated_and_reads_exactly(store):
    """A backup of the older Catalog lies beside it."""
    assert version_of(store / "catalog.db") == 1
    check(store)
    assert version_of(store / "catalog.db") == SCHEMA_VERSION
    assert version_of(store / "catalog.v1.backup.db") == 1


def test_it_has_the_tables_of_a_new_one(store, tmp_path):
    """Migrated or made, a Catalog has the same tables and indexes."""
    wanllmdb.Api(store).close()
    wanllmdb.init(store=tmp_path / "new").finish()
    wanllmdb.teardown()

    def schema(path):
        with closing(sqlite3.connect(path / "catalog.db")) as connection:
            rows = connection.execute("SELECT name, sql FROM sqlite_master")
            return {name: " ".join(str(text).split()) for name, text in rows}

    assert schema(store) == schema(tmp_path / "new")


def test_it_is_compacted(store):
    """Its logs go into parts; run by run nothing changes, and runs go on."""
    for _ in range(2):
        with wanllmdb.Api(store) as api:
            _recovery.recover_dead(api.store)
            list(api.store.compact())
        check(store)
        with closing(sqlite3.connect(store / "catalog.db")) as connection:
            connection.execute("UPDATE retired SET due_us = 1")
            connection.commit()
    assert list(store.glob("parts/*/*.parquet"))
    assert not list(store.glob("live/*/*.wlog"))
    RUNS["whole"] += old.rows("whole", 30, 2)
    with wanllmdb.init(project="p", id="whole", resume="must", store=store) as run:
        for n in (30, 31):
            run.log(RUNS["whole"][n])
    check(store)
    del RUNS["whole"][30:]
