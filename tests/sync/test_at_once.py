"""Syncs beside syncs, and beside a run that is being written."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from laptops import Laptop, check_equal, quieten

from wanllmdb import _sync
from wanllmdb._catalog import remotes
from wanllmdb._sync.peer import Peer
from wanllmdb.errors import StoreLockedError

PUSHER = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from laptops import Laptop
laptop = Laptop(Path(sys.argv[2]), r=sys.argv[3])
for n in range(50):
    laptop.run(f"{sys.argv[2][-1]}{n}", [{"n": n}])
    if n % 10 == 9:
        laptop.commit(f"{sys.argv[2][-1]} {n}", aliases=["x"])
        print(len(laptop.push().failed))
"""


def test_two_laptops_push_fifty_runs_each_at_once(
    a: Laptop, b: Laptop, c: Laptop, remote: Path
) -> None:
    """All hundred are there, none twice; every version has a number of its own."""
    here = str(Path(__file__).parent)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PUSHER, here, str(laptop.store), str(remote)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for laptop in (a, b)
    ]
    for process in processes:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    c.pull()
    assert len([rows for rows in c.runs.values() if rows]) == 100
    quieten(a, b, c)
    check_equal(a, b, c)
    assert sorted(a.versions) == sorted(f"data:v{n}" for n in range(1, 11))


def test_a_second_sync_of_a_store_is_refused_by_name(a: Laptop) -> None:
    """While one is under way with a remote, another one of the Store is not begun."""
    a.run("r")
    a.sync()
    with a.opened() as store:
        (record,) = remotes.listed(store.catalog.reader)
        with (
            Peer(store, record).alone(),
            pytest.raises(StoreLockedError, match=r"sync.* r "),
        ):
            _sync.sync(store, record)
    assert a.sync().failed == []


def test_a_run_that_logs_all_the_while_is_synced(a: Laptop, b: Laptop) -> None:
    """Neither waits for the other, and every row arrives once, in order."""
    run = a.begin(id="r")
    stop = threading.Event()
    count = 0

    def train() -> None:
        nonlocal count
        while not stop.is_set():
            run.log({"n": count})
            count += 1
            stop.wait(0.0005)

    trainer = threading.Thread(target=train)
    trainer.start()
    try:
        for _ in range(4):
            a.push()
            b.pull()
            rows = [row["n"] for row in b.runs.get("p/r", [])]
            assert rows == list(range(len(rows)))
    finally:
        stop.set()
        trainer.join()
    run.finish()
    quieten(a, b)
    check_equal(a, b)
    assert [row["n"] for row in b.runs["p/r"]] == list(range(count))
