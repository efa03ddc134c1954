"""A log of some thousand rows is left as it is by finish, and sealed by a reader."""

from __future__ import annotations

import subprocess
import sys

import wanllmdb

CODE = """
import sys
import wanllmdb
from wanllmdb import _store
_store.ASKED_AT_ONE_IN = int(sys.argv[3])
for n in range(int(sys.argv[2])):
    with wanllmdb.init(project="p", id=f"{sys.argv[1]}{n}", store=sys.argv[4]) as run:
        for step in range(1000):
            run.log({"v": step / 7, "who": n})
print(sorted({name.partition(".")[0] for name in sys.modules} & {"pyarrow", "numpy"}))
"""


def record(store, name, count, one_in):
    """Runs of a process that has not loaded pyarrow; what it loaded."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, name, str(count), str(one_in), str(store)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout.strip()


def sealed_runs(bench, store):
    return {row[0] for row in bench.sql(
        store, "SELECT run.run_id FROM part_run JOIN run ON run.id = part_run.run_id"
    )}  # fmt: skip


def test_a_query_seals_what_finish_left(bench, tmp_path):
    """Before and after it, the rows are the same; finish loads nothing."""
    store = tmp_path / "left"
    assert record(store, "a", 3, 1 << 30) == "[]"
    assert not sealed_runs(bench, store)
    with wanllmdb.Api(store) as api:
        before = [bench.rows(api.run(f"p/a{n}")) for n in range(3)]
        counted = api.query("SELECT run, count(*) FROM metrics GROUP BY 1 ORDER BY 1")
        assert counted.fetchall() == [("a0", 2000), ("a1", 2000), ("a2", 2000)]
        assert sealed_runs(bench, store) == {"a0", "a1", "a2"}
        assert [bench.rows(api.run(f"p/a{n}")) for n in range(3)] == before
    bench.check_sound(store)


def test_some_run_seals_what_the_others_left(bench, tmp_path):
    """So that no more than some dozen runs wait for a reader."""
    store = tmp_path / "left"
    record(store, "a", 2, 1 << 30)
    assert not sealed_runs(bench, store)
    assert record(store, "b", 1, 1) == "['numpy', 'pyarrow']"
    assert sealed_runs(bench, store) == {"a0", "a1", "b0"}


def test_a_reader_without_rights_reads_what_was_left(bench, tmp_path):
    """It seals nothing, and shows every row."""
    store = tmp_path / "left"
    record(store, "a", 1, 1 << 30)
    places = [store, *(path for path in store.rglob("*") if path.is_dir())]
    for place in places:
        place.chmod(0o500)
    try:
        with wanllmdb.Api(store) as api:
            found = api.query("SELECT count(*) FROM metrics").fetchall()
    finally:
        for place in places:
            place.chmod(0o700)
    assert found == [(2000,)]


def test_a_log_that_is_swept_while_it_is_weighed_counts_nothing(bench, monkeypatch):
    """Another compactor removed it between the listing and the look; finish goes on."""
    run = bench.begin(id="a")
    run.log({"v": 1})
    directory = bench.store / "live" / run._record.uid
    (directory / "0123456789.000001.wlog").symlink_to(directory / "gone")
    monkeypatch.delitem(sys.modules, "pyarrow", raising=False)
    assert run._store.compactor.may_wait(run._record)
