"""Signals, threads and the interpreter's exit: no row lost, no deadlock, no noise."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import wanllmdb

Start = Callable[..., "subprocess.Popen[str]"]
Ended = Callable[..., str]


def numbers(store: Path, key: str) -> list[int]:
    """All values of a key, in no order."""
    with wanllmdb.Api(store) as api:
        found: list[int] = api.run("p/r").history([key])[key].to_pylist()
        return sorted(found)


@pytest.mark.parametrize("durability", ["process", "buffered"])
def test_a_signal_handler_may_log(
    store: Path, start: Start, ended: Ended, durability: str
) -> None:
    """A handler that logs a thousand times a second never deadlocks `log`."""
    body = """
import itertools, signal, time, wanllmdb
from wanllmdb._metrics import writer
writer.SEGMENT_BYTES = 1 << 16
run = wanllmdb.init(project="p", id="r")
ticks = itertools.count()  # a handler may interrupt a handler
def tick(*_):
    run.log({"tick": next(ticks), "text": "from the handler"})
signal.signal(signal.SIGALRM, tick)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
end, n = time.monotonic() + 1.5, 0
while time.monotonic() < end:
    run.log({"n": n, "half": n / 2})
    n += 1
    if n % 500 == 0:
        run.summary["n_by_hand"] = n
        run.summary.get("n")
signal.setitimer(signal.ITIMER_REAL, 0)
run.finish()
print(n, next(ticks))
"""
    logged, ticks = map(int, ended(start(body, WANLLMDB_DURABILITY=durability)).split())
    assert ticks > 100
    assert numbers(store, "n") == list(range(logged))
    assert numbers(store, "tick") == list(range(ticks))


def test_a_handler_may_log_while_the_run_finishes(
    store: Path, start: Start, ended: Ended
) -> None:
    """What a handler logs in the middle of `finish` is stored, or refused clearly."""
    body = """
import itertools, json, signal, wanllmdb
run = wanllmdb.init(project="p", id="r")
ticks, taken, refused = itertools.count(), [], []
def tick(*_):
    number = next(ticks)
    try:
        run.log({"tick": number})
        taken.append(number)
    except wanllmdb.errors.RunFinishedError:
        refused.append(number)
signal.signal(signal.SIGALRM, tick)
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
while len(taken) < 20:
    pass
run.finish()
while not refused:
    pass
signal.setitimer(signal.ITIMER_REAL, 0)
print(json.dumps(taken))
"""
    taken = sorted(json.loads(ended(start(body))))
    assert numbers(store, "tick") == taken
    with wanllmdb.Api(store) as api:
        assert api.run("p/r").state == "finished"
        assert api.run("p/r").keys["tick"].count == len(taken)


def test_a_handler_may_finish_the_run_in_the_middle_of_a_log(
    store: Path, start: Start, ended: Ended
) -> None:
    """As a SIGTERM handler does: the run ends whole, and `log` says that it ended."""
    body = """
import json, random, signal, wanllmdb
random.seed(0)
signal.signal(signal.SIGALRM, lambda *_: wanllmdb.finish())
logged = []
for attempt in range(40):
    run = wanllmdb.init(project="p", id=f"r{attempt}")
    run.log({"n": 0, "half": 0.0})
    logged.append(1)
    signal.setitimer(signal.ITIMER_REAL, random.uniform(0.001, 0.004))
    try:
        while True:
            run.log({"n": logged[-1], "half": logged[-1] / 2})
            logged[-1] += 1
    except wanllmdb.errors.RunFinishedError:
        pass
print(json.dumps(logged))
"""
    logged = json.loads(ended(start(body)))
    assert sum(logged) > 1000
    with wanllmdb.Api(store) as api:
        for number, count in enumerate(logged):
            run = api.run(f"p/r{number}")
            stored = run.history()["n"].to_pylist()
            assert run.state == "finished"
            assert stored == list(range(len(stored)))
            assert count <= len(stored) + run.dropped_rows <= count + 1
            assert run.dropped_rows == 0
            assert run.summary["n"] == run.last_step == stored[-1]


@pytest.mark.parametrize("durability", ["process", "buffered"])
def test_an_interrupted_log_is_stored_whole_or_not_at_all(
    store: Path, start: Start, ended: Ended, durability: str
) -> None:
    """Ctrl-C in the middle of `log` costs at most that row, and no sum goes wrong."""
    body = """
import json, random, signal, time, wanllmdb
from wanllmdb._metrics import writer
random.seed(0)
writer.SEGMENT_BYTES = 1 << 14
def interrupt(*_):
    raise KeyboardInterrupt
signal.signal(signal.SIGALRM, interrupt)
run = wanllmdb.init(project="p", id="r")
logged, n, hits = [], 0, 0
end = time.monotonic() + 2
def work():  # in a `try` itself, CPython 3.13 leaves the loop's jump uncovered
    global n
    signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0001, 0.003))
    while time.monotonic() < end:
        n += 1
        run.log({"n": n, "half": n / 2, **({"text": "x"} if n % 10 == 0 else {})})
        logged.append(n)
    signal.setitimer(signal.ITIMER_REAL, 0)
while time.monotonic() < end:
    try:
        work()
    except KeyboardInterrupt:
        hits += 1
signal.signal(signal.SIGALRM, signal.SIG_IGN)
run.finish()
print(json.dumps([logged, n, hits]))
"""
    output = ended(start(body, WANLLMDB_DURABILITY=durability))
    logged, last, hits = json.loads(output)
    assert hits > 100
    with wanllmdb.Api(store) as api:
        run = api.run("p/r")
        rows = list(run.scan_history())
        stored = [row["n"] for row in rows]
        assert stored == sorted(set(stored))
        assert set(logged) <= set(stored) <= set(range(1, last + 1))
        assert all(row["half"] == row["n"] / 2 for row in rows)
        assert run.dropped_rows == 0
        assert run.summary["n"] == stored[-1]
        assert run.keys["n"].count == len(stored)
        assert run.keys["half"].max == stored[-1] / 2
        assert run.keys["text"].count == sum("text" in row for row in rows)


def test_sixteen_threads_may_log(store: Path, start: Start, ended: Ended) -> None:
    """Every row of every thread is stored once, at a step of its own."""
    body = """
import threading, wanllmdb
from wanllmdb._metrics import writer
writer.SEGMENT_BYTES = 1 << 16
run = wanllmdb.init(project="p", id="r")
barrier = threading.Barrier(16)
def work(number):
    barrier.wait()
    for n in range(500):
        run.log({f"t{number}": n, "all": number * 500 + n})
        if n % 100 == 0:
            run.summary[f"s{number}"] = n
            run.config[f"c{number}"] = n
threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
for thread in threads: thread.start()
for thread in threads: thread.join()
run.finish()
"""
    ended(start(body))
    with wanllmdb.Api(store) as api:
        run = api.run("p/r")
        rows = list(run.scan_history())
        assert [row["_step"] for row in rows] == list(range(8000))
        assert sorted(row["all"] for row in rows) == list(range(8000))
        assert all(run.keys[f"t{n}"].count == 500 for n in range(16))
        assert all(run.summary[f"s{n}"] == 400 for n in range(16))
        assert run.config == {f"c{n}": 400 for n in range(16)}


def test_threads_and_a_signal_handler_may_change_the_config(
    store: Path, start: Start, ended: Ended
) -> None:
    """What the Store holds at the end is what the run held."""
    body = """
import json, signal, threading, warnings, wanllmdb
warnings.simplefilter("ignore")
run = wanllmdb.init(project="p", id="r")
ticks = 0
def tick(*_):
    global ticks
    ticks += 1
    run.config.update({"tick": ticks, f"tick{ticks % 7}": ticks})
    if ticks < 100:  # never while it is at work itself
        signal.setitimer(signal.ITIMER_REAL, 0.001)
def work(number):
    for n in range(30):
        run.config[f"keeps{number}"] = n
        run.config[f"goes{number}"] = n
        del run.config[f"goes{number}"]
signal.signal(signal.SIGALRM, tick)
threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
for thread in threads: thread.start()
signal.setitimer(signal.ITIMER_REAL, 0.001)
work(4)
for thread in threads: thread.join()
signal.setitimer(signal.ITIMER_REAL, 0)
held = run.config.as_dict()
run.finish()
print(json.dumps(held))
"""
    held = json.loads(ended(start(body)))
    assert held["tick"] > 1
    assert {held[f"keeps{n}"] for n in range(5)} == {29}
    assert not [key for key in held if key.startswith("goes")]
    with wanllmdb.Api(store) as api:
        assert api.run("p/r").config == held


@pytest.mark.parametrize("daemon", [True, False], ids=["daemon", "waited for"])
@pytest.mark.parametrize(
    "end", ["pass", "sys.exit(0)", "import gc; del run; gc.collect()"]
)
def test_the_interpreter_ends_with_threads_that_log(
    store: Path, start: Start, ended: Ended, daemon: bool, end: str
) -> None:
    """With a live run and threads at work it ends at once, without a traceback."""
    body = f"""
import sys, threading, time, wanllmdb
run = wanllmdb.init(project="p", id="r")
stop = time.monotonic() + 0.3
def work():
    global logged
    while {daemon} or time.monotonic() < stop:
        try:
            wanllmdb.log({{"n": 1}})
        except wanllmdb.WanllmdbError:  # the run has been finished
            return
threads = [threading.Thread(target=work, daemon={daemon}) for _ in range(4)]
for thread in threads: thread.start()
time.sleep(0.1)
print("leaving", flush=True)
{end}
"""
    process = start(body)
    assert process.stdout is not None
    assert process.stdout.readline() == "leaving\n"
    began = time.monotonic()
    ended(process)
    assert time.monotonic() - began < 5
    with wanllmdb.Api(store) as api:
        run = api.run("p/r")
        assert run.state == "finished"
        assert run.keys["n"].count == len(run.history(["n"])) > 0
