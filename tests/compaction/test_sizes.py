"""When logs are sealed by themselves, and how large parts become."""

from __future__ import annotations

import time

import pytest

import wanllmdb
from wanllmdb import _merging, _run
from wanllmdb._metrics import writer


@pytest.fixture
def small_segments(monkeypatch):
    """Segments of 16 KiB, of which two may wait, looked at each 50 ms."""
    for module in (writer, _run):
        monkeypatch.setattr(module, "SEGMENT_BYTES", 16 << 10)
    monkeypatch.setattr(_run, "WAITING_BYTES", 32 << 10)
    monkeypatch.setattr(_run, "SEAL_SECONDS", 0.05)


def test_a_live_run_is_sealed_while_it_logs(small_segments, store):
    """All but what is newest lies in parts, and every row shows once."""
    run = wanllmdb.init(project="p", id="r", store=store)
    deadline = time.monotonic() + 30
    logged = 0
    while not list(store.glob("parts/*/*.parquet")) and time.monotonic() < deadline:
        for _ in range(500):
            run.log({"x": logged})
            logged += 1
        time.sleep(0.01)
    with wanllmdb.Api(store) as api:
        assert api.run("p/r").state == "running"
        found = [row["x"] for row in api.run("p/r").scan_history()]
        (count,) = api.query("SELECT count(*) FROM metrics").fetchall()
    run.finish()
    assert found == list(range(logged))
    assert count == (logged,)
    assert list(store.glob("parts/*/*.parquet"))


def test_parts_are_merged_up_to_a_size(monkeypatch, store):
    """Beyond it another part is begun; `compact` goes on until all are merged."""
    for number in range(6):
        with wanllmdb.init(project="p", id=f"r{number}", store=store) as run:
            for step in range(2000):
                run.log({"x": step / 7 + number})
    wanllmdb.teardown()
    sizes = [path.stat().st_size for path in store.glob("parts/*/*.parquet")]
    monkeypatch.setattr(_merging, "TARGET_BYTES", int(2.5 * max(sizes)))
    monkeypatch.setattr(_merging, "MERGED_BYTES", max(sizes))
    with wanllmdb.Api(store) as api:
        lines = list(api.store.compact())
        rows = api.query("SELECT run, count(*) FROM metrics GROUP BY run").fetchall()
        parts = api.store.catalog.reader.execute(
            "SELECT count(*) FROM part WHERE layout = 'wide' AND merged"
        ).fetchone()[0]
    assert lines.count("merged small parts of project p") >= 3
    assert parts >= 2
    assert sorted(rows) == [(f"r{number}", 2000) for number in range(6)]
