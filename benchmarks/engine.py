"""The engine's costs, each beside its raw baseline of the same round.

CPU time, median of several rounds: ``python benchmarks/engine.py``.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

QUIET = {
    "WANLLMDB_CONSOLE": "0", "WANLLMDB_SYSTEM_INTERVAL": "0", "WANLLMDB_GIT": "0",
    "WANLLMDB_ENVIRONMENT": "0", "WANLLMDB_SILENT": "1",
}  # fmt: skip
ROUNDS = 5


def per_call(function: Callable[[int], object], calls: int) -> float:
    """CPU microseconds per call."""
    start = time.process_time()
    for index in range(calls):
        function(index)
    return (time.process_time() - start) / calls * 1e6


def child_ms(code: str, **env: str) -> float:
    """CPU milliseconds of a fresh interpreter that runs some code."""
    times = []
    for _ in range(ROUNDS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-P", "-c", code], env={**os.environ, **env},
                       check=True, capture_output=True)  # fmt: skip
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime - before.ru_utime
        spent += after.ru_stime - before.ru_stime
        times.append(spent * 1e3)
    return statistics.median(times)


def show(
    what: str, value: float, unit: str, bar: str, raw: float | None = None
) -> None:
    """Print one row of the table."""
    beside = "" if raw is None else f"{raw:.2f}"
    print(f"| {what} | {value:.2f} {unit} | {beside} | {bar} |", flush=True)


def bench_imports(directory: str) -> None:
    bare = child_ms("pass")
    imported = child_ms("import wanllmdb")
    show("import wanllmdb, over bare Python", imported - bare, "ms", "<= 60", bare)
    code = "import wanllmdb as w, os; r = w.init(); r.log({'a': 1.0}); " \
           "print(1); os._exit(0)"  # fmt: skip
    store = f"{directory}/cold"
    show("import + init + first log, fresh Store, capture on",
         child_ms(f"import shutil; shutil.rmtree({store!r}, True)\n{code}",
                  WANLLMDB_DIR=store) - bare, "ms", "<= 150", bare)  # fmt: skip
    cli = child_ms("import sys; sys.argv = ['wanllmdb', '--help']\n"
                   "from wanllmdb.cli import main; main()")  # fmt: skip
    show("wanllmdb --help", cli, "ms", "<= 150", bare)


def bench_log(directory: str) -> None:
    import wanllmdb

    fd = os.open(f"{directory}/raw", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for keys, bar in ((1, "<= 3"), (10, "<= 5 and <= raw + 3.5"), (100, "<= 15")):
        data = {f"metric/{i}": i * 0.1 for i in range(keys)}
        frame = bytes(24 + 8 * keys)
        ours, raw = [], []
        for _ in range(ROUNDS):
            run = wanllmdb.init(store=f"{directory}/log")
            raw.append(per_call(lambda _, f=frame: os.write(fd, f), 50_000))
            ours.append(per_call(lambda _, r=run, d=data: r.log(d), 50_000))
            run.finish()
        show(f"log() of {keys} floats", statistics.median(ours), "us", bar,
             statistics.median(raw))  # fmt: skip
    os.close(fd)


def bench_history(directory: str) -> None:
    import numpy  # noqa: F401 - imports are not what is measured
    import pandas  # noqa: F401
    import pyarrow  # noqa: F401

    import wanllmdb

    with wanllmdb.init(store=f"{directory}/history", id="r") as run:
        for step in range(100_000):
            run.log({f"k{i}": step * 0.1 + i for i in range(10)})
    found = wanllmdb.Api(f"{directory}/history").run("r")
    times = []
    for _ in range(ROUNDS):
        start = time.process_time()
        assert len(found.history()) == 100_000
        times.append((time.process_time() - start) * 1e3)
    paths = list(Path(directory, "history", "live").rglob("*.wlog"))
    start = time.process_time()
    for path in paths:
        path.read_bytes()
    raw = (time.process_time() - start) * 1e3
    show("history of 100k x 10 to Arrow", statistics.median(times), "ms", "<= 60", raw)


def bench_list(directory: str) -> None:
    import wanllmdb
    from wanllmdb._catalog import runs, values
    from wanllmdb._json import dumps
    from wanllmdb.types import NewRun

    api = wanllmdb.Api(f"{directory}/history")
    store = api.store
    with store.catalog.transaction(durable=False) as connection:
        for index in range(10_000):
            new = NewRun(f"u{index}", "many", f"r{index}", f"run {index}")
            pk = runs.insert(connection, new, 1)
            config = {f"c{i}": i * index for i in range(9)} | {"lr": index % 100 / 100}
            summary = {f"s{i}": i / (index + 1) for i in range(9)} | {
                "loss": index % 977
            }
            values.set_json(connection, pk, "config", config, dumps(config), None)
            values.set_json(connection, pk, "summary", summary, dumps(summary), None)
    times = []
    for _ in range(ROUNDS):
        start = time.process_time()
        found = runs.find_many(store.catalog.reader, project="many",
                               condition="config.lr < 0.5", order="+summary.loss",
                               limit=50)  # fmt: skip
        times.append((time.process_time() - start) * 1e3)
        assert len(found) == 50
    show("10,000 runs: filter, sort, top 50", statistics.median(times), "ms", "<= 10")


def main() -> None:
    """Print the table."""
    os.environ.update(QUIET)
    print("| work | wanllmdb | raw | bar |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as directory:
        bench_imports(directory)
        bench_log(directory)
        bench_history(directory)
        bench_list(directory)
    import wanllmdb

    wanllmdb.teardown()


if __name__ == "__main__":
    main()
