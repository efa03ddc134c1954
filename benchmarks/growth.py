"""What a growing Store costs those who use it: flat is the aim.

python benchmarks/growth.py [RUNS ...]
"""

from __future__ import annotations

import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import generated
from measuring import QUIET

import wanllmdb

SIZES = (100, 10_000, 100_000)
KEYS = ("loss", "acc")
STEPS = 20
OPENED = 15
"""Runs that are begun, logged to and finished for each figure."""


def measured(root: Path, count: int) -> dict[str, float]:
    """Milliseconds of CPU of each work in a Store of so many runs; medians."""
    generated.make(root, count, STEPS, KEYS, 5000).close()
    found = {}
    with wanllmdb.Api(root) as api:
        names = [f"run-{random.Random(n).randrange(count)}" for n in range(OPENED)]
        found["ls, 20 newest"] = _median(lambda _: api.runs(limit=20), names)
        found["one run by its id"] = _median(api.run, names)
        found["history of one run"] = _median(
            lambda name: api.run(name).history().arrow(), names
        )
    starts, ends, logs = [], [], []
    for _ in range(OPENED):
        begun = time.process_time()
        run = wanllmdb.init(project="new", store=root)
        started = time.process_time()
        for number in range(1000):
            run.log({"loss": number / 7, "acc": 1.0})
        logged = time.process_time()
        run.finish()
        starts.append(started - begun)
        logs.append((logged - started) / 1000)
        ends.append(time.process_time() - logged)
    wanllmdb.teardown()
    found["init"] = statistics.median(starts) * 1e3
    found["finish, 1,000 rows"] = statistics.median(ends) * 1e3
    found["log (us)"] = statistics.median(logs) * 1e6
    return found


def _median(work, names):  # type: ignore[no-untyped-def]
    work(names[0])
    times = []
    for name in names:
        start = time.process_time()
        work(name)
        times.append(time.process_time() - start)
    return statistics.median(times) * 1e3


def main() -> None:
    """Print one column for each size."""
    sizes = [int(word) for word in sys.argv[1:]] or list(SIZES)
    os.environ.update(QUIET)
    columns = {}
    for count in sizes:
        root = Path(tempfile.mkdtemp(prefix="wanllmdb-growth-"))
        try:
            columns[count] = measured(root, count)
        finally:
            shutil.rmtree(root, ignore_errors=True)
    print("| CPU ms | " + " | ".join(f"{count:,} runs" for count in sizes) + " |")
    print("|---|" + "---|" * len(sizes))
    for work in columns[sizes[0]]:
        cells = " | ".join(f"{columns[count][work]:.2f}" for count in sizes)
        print(f"| {work} | {cells} |")


if __name__ == "__main__":
    main()
