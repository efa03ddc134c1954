"""One piece of work in one system, executed inside that system's environment.

``python worker.py SYSTEM JOB STORE OPTIONS``: OPTIONS is a JSON object of the job's
keywords; the answer is one JSON line on standard output, where nothing else goes, for
systems print there too.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count, cycle, islice
from pathlib import Path
from typing import Any

from adapters import Adapter, load

KEYS = 10
OPTIMIZERS = ("adam", "sgd")

Answer = dict[str, Any]


def rows(seed: int = 0) -> Iterator[dict[str, float]]:
    """Endless rows of full-width random floats: nothing to gain by compressing."""
    draw = random.Random(seed).random
    while True:
        yield {f"m{i}": draw() for i in range(KEYS)}


def job_start(system: str, store: Path) -> Answer:
    """Import, init and the first log, from an interpreter that has loaded nothing."""
    row = next(rows())
    wall, cpu = time.perf_counter(), time.process_time()
    adapter = load(system)
    run = adapter.start(store, "one", {"lr": 0.1})
    adapter.log(run, row, 0)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    adapter.finish(run)
    return {"wall": wall, "cpu": cpu}


def job_log(system: str, store: Path, calls: int, cap: float) -> Answer:
    """Calls one after another, each timed; no more than `cap` seconds of them."""
    adapter = load(system)
    log, clock, times = adapter.log, time.perf_counter_ns, []
    data = list(islice(rows(), calls))
    run = adapter.start(store, "one", {"lr": 0.1})
    begun, cpu = clock(), time.process_time()
    last = begun + cap * 1e9
    for step, row in enumerate(data):
        start = clock()
        if start > last:
            break
        log(run, row, step)
        times.append(clock() - start)
    adapter.finish(run)
    wall, cpu = (clock() - begun) / 1e9, time.process_time() - cpu
    done = len(times)
    times.sort()
    return {
        "calls": done, "p50": times[done // 2] / 1e3,
        "p99": times[done * 99 // 100] / 1e3, "cpu": cpu / done * 1e6,
        "rate": done * KEYS / wall,
    }  # fmt: skip


def job_long(system: str, store: Path, calls: int, cap: float) -> Answer:
    """A long run, for its memory and its bytes; rows are made one at a time."""
    adapter = load(system)
    run = adapter.start(store, "one", {"lr": 0.1})
    done, last = 0, time.perf_counter() + cap
    for row in islice(rows(), calls):
        adapter.log(run, row, done)
        done += 1
        if time.perf_counter() > last:
            break
    adapter.finish(run)
    return {"calls": done}


def job_index(system: str, store: Path) -> Answer:
    """What a system has to do before anybody can read."""
    index = getattr(load(system), "index", None)
    start = time.perf_counter()
    if index is not None:
        index(store)
    return {"wall": time.perf_counter() - start}


def job_read_points(system: str, store: Path) -> Answer:
    """A whole history as arrays."""
    found, cost = _read(system, lambda adapter: adapter.read_points(store))
    return cost | {"points": sum(len(values) for values in found.values())}


def job_read_metric(system: str, store: Path) -> Answer:
    """One key of all runs as arrays."""
    found, cost = _read(system, lambda adapter: adapter.read_metric(store, "m3"))
    return cost | {"points": sum(map(len, found.values())), "runs": len(found)}


def job_list_runs(system: str, store: Path, runs: int, limit: int) -> Answer:
    """The best runs of one config; the answer is checked."""
    losses, cost = _read(
        system, lambda adapter: adapter.list_runs(store, OPTIMIZERS[0], limit)
    )
    every = sorted(
        loss for _, config, loss in _runs(runs) if config["optimizer"] == OPTIMIZERS[0]
    )
    assert losses == every[:limit], (losses, every[:limit])
    return cost


def _read(system: str, read: Callable[[Adapter], Any]) -> tuple[Any, Answer]:
    """What was read, and its cost without that of the imports."""
    adapter = load(system)
    adapter.import_reader()
    wall, cpu = time.perf_counter(), time.process_time()
    found = read(adapter)
    return found, {
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
    }


def job_fill_history(
    system: str, store: Path, runs: int, steps: int, cap: float
) -> Answer:
    """Runs with histories, to read from; as many as the time allows."""
    adapter = load(system)
    last = time.perf_counter() + cap
    histories = (
        (f"run-{i}", list(islice(rows(i), steps)))
        for i in range(runs)
        if time.perf_counter() < last
    )
    fill = getattr(adapter, "fill_history", None)
    if fill is not None:
        return {"runs": fill(store, histories)}
    done = 0
    for name, history in histories:
        run = adapter.start(store, name, {})
        for step, row in enumerate(history):
            adapter.log(run, row, step)
        adapter.finish(run)
        done += 1
    return {"runs": done}


def job_fill_runs(system: str, store: Path, runs: int, cap: float) -> Answer:
    """Runs with a config and one value, to list; as many as the time allows."""
    adapter = load(system)
    last = time.perf_counter() + cap
    wanted = (run for run in _runs(runs) if time.perf_counter() < last)
    fill = getattr(adapter, "fill_runs", None)
    if fill is not None:
        return {"runs": fill(store, wanted)}
    done = 0
    for name, config, loss in wanted:
        run = adapter.start(store, name, config)
        adapter.log(run, {"loss": loss}, 0)
        adapter.finish(run)
        done += 1
    return {"runs": done}


def _runs(number: int) -> Iterator[tuple[str, dict[str, Any], float]]:
    """Name, config and loss of so many runs."""
    for i in range(number):
        config = {
            "optimizer": OPTIMIZERS[i % len(OPTIMIZERS)], "lr": i % 100 / 100,
            "layers": i % 7, "seed": i,
        }  # fmt: skip
        yield f"run-{i}", config, i * 7919 % 10_007 / 10_007


def job_burst(system: str, store: Path, pause: float) -> Answer:
    """Log until killed; one byte goes out after each call has returned."""
    adapter = load(system)
    run = adapter.start(store, "one", {"lr": 0.1})
    data = list(islice(rows(), 1000))
    for step, row in zip(count(), cycle(data)):
        adapter.log(run, row, step)
        os.write(ANSWERS, b".")
        if pause:
            time.sleep(pause)
    return {}


def job_writer(system: str, store: Path, name: str, seconds: float) -> Answer:
    """One of several writers: ready, wait for the line, log for some seconds."""
    adapter = load(system)
    run = adapter.start(store, name, {"lr": 0.1})
    data = list(islice(rows(), 1000))
    adapter.log(run, data[0], 0)
    os.write(ANSWERS, b"ready\n")
    sys.stdin.readline()
    clock = time.perf_counter
    begun, slowest, errors, done = clock(), 0.0, 0, 0
    for step, row in enumerate(cycle(data), 1):
        start = clock()
        if start - begun > seconds:
            break
        try:
            adapter.log(run, row, step)
            done += 1
        except Exception:
            errors += 1  # a call that failed did not log: counted, and shown
        slowest = max(slowest, clock() - start)
    adapter.finish(run)
    return {"calls": done, "errors": errors, "slowest": slowest,
            "wall": clock() - begun}  # fmt: skip


def main() -> None:
    """Run the job that the arguments name."""
    system, job, store, options = sys.argv[1:]
    answer = globals()[f"job_{job}"](system, Path(store), **json.loads(options))
    os.write(ANSWERS, json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    ANSWERS = os.dup(1)
    os.dup2(2, 1)
    main()
