"""Processes that share a Store, and a trainer whose own directory is read."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import wanllmdb

Start = Callable[..., "subprocess.Popen[str]"]
Ended = Callable[..., str]
PROCESSES, ROUNDS, ROWS = 8, 6, 50

LOOP = f"""
import sys, wanllmdb
sys.stdin.readline()
for turn in range({ROUNDS}):
    name = f"{{sys.argv[1]}}-{{turn}}"
    run = wanllmdb.init(project="p", id=name, config={{"turn": turn}})
    for n in range({ROWS}):
        run.log({{"n": n, "name": name}})
    run.summary["by_hand"] = turn
    run.tags += ("done",)
    run.finish()
"""


def test_eight_processes_record_runs_in_one_fresh_store(
    store: Path, start: Start, ended: Ended
) -> None:
    """They open it at once and never fail each other; every run is whole."""
    loops = [start(LOOP, number) for number in range(PROCESSES)]
    for loop in loops:  # all have imported: now they race for the migration
        assert loop.stdin is not None
        loop.stdin.write("\n")
        loop.stdin.flush()
    for loop in loops:
        ended(loop)
    with wanllmdb.Api(store) as api:
        runs = api.runs("p")
        assert len(runs) == PROCESSES * ROUNDS
        for run in runs:
            assert run.state == "finished"
            assert run.history(["n"])["n"].to_pylist() == list(range(ROWS))
            turn = int(run.id.partition("-")[2])
            assert (run.config, run.summary["by_hand"]) == ({"turn": turn}, turn)
            assert (run.summary["name"], run.tags) == (run.id, ("done",))
            assert (run.last_step, run.dropped_rows) == (ROWS - 1, 0)


def test_readers_beside_eight_writers_see_whole_rows(
    store: Path, start: Start, ended: Ended
) -> None:
    """Whatever a reader sees of runs that are written is a prefix without a gap."""
    loops = [start(LOOP, number) for number in range(4)]
    wanllmdb.init(project="other", store=store).finish()
    for loop in loops:
        assert loop.stdin is not None
        loop.stdin.write("\n")
        loop.stdin.flush()
    looks = 0
    with wanllmdb.Api(store) as api:
        while any(loop.poll() is None for loop in loops):
            for run in api.runs("p"):
                assert run.state in ("running", "finished")
                seen = [row["n"] for row in run.scan_history()]
                assert seen == list(range(len(seen)))
                looks += 1
    assert looks > 10
    for loop in loops:
        ended(loop)


TRAINER = """
import hashlib, json, shutil, sys, tempfile, threading, time, wanllmdb
from pathlib import Path
from wanllmdb._metrics import writer
writer.SEGMENT_BYTES = 1 << 15
store = Path(sys.argv[1])
run = wanllmdb.init(project="p", id="r")
own, logged, stop = Path(run.dir).parent, 0, threading.Event()
looks = {"api": 0, "copy": 0, "hash": 0}
def read_api():
    while not stop.is_set():
        with wanllmdb.Api(store) as api:
            seen = api.run("p/r")
            assert seen.state == "running", seen.state
            assert [r.state for r in api.runs("p")] == ["running"]
            before = logged
            assert len(seen.history(["n"])) >= before
        looks["api"] += 1
def copy():
    while not stop.is_set():
        with tempfile.TemporaryDirectory() as place:
            shutil.copytree(own, Path(place, "copy"))
        looks["copy"] += 1
def digest():
    while not stop.is_set():
        for path in own.rglob("*"):
            if path.is_file():
                hashlib.sha256(path.read_bytes()).digest()
        looks["hash"] += 1
failures = []
def guarded(work):
    try:
        work()
    except BaseException as error:
        failures.append(repr(error))
works = read_api, copy, digest
threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
run.log({"n": 0})
logged = 1
for thread in threads: thread.start()
print("begun", flush=True)
while sys.stdin not in __import__("select").select([sys.stdin], [], [], 0)[0]:
    for _ in range(20):
        run.log({"n": logged})
        logged += 1
    time.sleep(0.005)  # every look reads all rows: on a slow machine there are few
stop.set()
for thread in threads: thread.join()
run.finish()
print(json.dumps([logged, looks, failures]))
"""


def test_a_trainer_may_read_copy_and_hash_its_own_run(
    store: Path, start: Start, ended: Ended
) -> None:
    """Nothing that opens a live run's files from inside frees its lock or loses rows.

    Another process looks all the while: the run is always running, and nobody else
    can take it.
    """
    trainer = start(TRAINER, store)
    assert trainer.stdout is not None
    assert trainer.stdout.readline() == "begun\n"
    states = set()
    with wanllmdb.Api(store) as api:
        for _ in range(25):
            states.add(api.run("p/r").state)
            states |= {run.state for run in api.runs("p")}
            seen = [row["n"] for row in api.run("p/r").scan_history()]
            assert seen == list(range(len(seen)))
        assert api.run("p/r").keys is not None
    assert states == {"running"}
    with pytest.raises(wanllmdb.errors.RunActiveError):
        wanllmdb.init(project="p", id="r", resume="must", store=store)
    assert trainer.stdin is not None
    trainer.stdin.write("\n")
    trainer.stdin.flush()
    logged, looks, failures = json.loads(ended(trainer))
    assert failures == []
    assert min(looks.values()) > 0
    with wanllmdb.Api(store) as api:
        run = api.run("p/r")
        assert run.state == "finished"
        assert run.history(["n"])["n"].to_pylist() == list(range(logged))
        assert [event.kind for event in run.events].count("crash") == 0
