"""The engine's costs, each beside its raw baseline of the same round.

CPU time, median of several rounds: ``python benchmarks/engine.py``.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from os import write
from pathlib import Path

from measuring import QUIET, ROUNDS, child_ms, head, show


def bench_starts(directory: str) -> None:
    """Imports and first calls, in fresh interpreters."""
    bare = child_ms("pass")
    show("import wanllmdb, over bare Python", child_ms("import wanllmdb") - bare, "ms",
         "<= 60", bare)  # fmt: skip
    loud = dict.fromkeys(QUIET, "1") | {"WANLLMDB_SYSTEM_INTERVAL": "15"}
    store = f"{directory}/cold"
    first = (
        "import wanllmdb as w\nr = w.init(); r.log({'a': 1.0})\n"
        "import os, time; os.write(1, b'\\n%f' % time.process_time()); os._exit(0)"
    )
    show("import + init + first log, fresh Store, capture on, until log returns",
         child_ms(first, store, **loud, WANLLMDB_DIR=store), "ms", "<= 150",
         bare)  # fmt: skip
    # The thread of the capture ends when git, packages and a sample are stored.
    whole = (
        "import time, wanllmdb as w, os\nr = w.init(); r.log({'a': 1.0})\n"
        "while not w.Api().run(r.path).environment: time.sleep(0.05)\n"
        "os._exit(0)"
    )
    polled = (
        "import time, wanllmdb as w, os\nr = w.init(); r.log({'a': 1.0})\n"
        "w.Api().run(r.path).environment; os._exit(0)"
    )
    show("the same, once the background capture is done",
         child_ms(whole, store, **loud, WANLLMDB_DIR=store) - bare, "ms", "<= 400",
         child_ms(polled, store, WANLLMDB_DIR=store))  # fmt: skip
    show("wanllmdb --help", child_ms(
        "import sys; sys.argv = ['wanllmdb', '--help']\n"
        "from wanllmdb.cli import main; main()"), "ms", "<= 150", bare)  # fmt: skip


def bench_log(directory: str) -> None:
    """One call of log() beside one bare write of as many bytes."""
    import wanllmdb

    fd = os.open(f"{directory}/raw", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for keys, bar in ((1, "<= 3"), (10, "<= 5 and <= raw + 3.5"), (100, "<= 15")):
        data = {f"metric/{i}": i * 0.1 for i in range(keys)}
        frame = bytes(24 + 8 * keys)
        calls = 200_000 if keys < 100 else 40_000
        ours, raw = [], []
        run = wanllmdb.init(store=f"{directory}/log")
        log = run.log
        for _ in range(ROUNDS):
            start = time.process_time()
            for _ in range(calls):
                write(fd, frame)
            raw.append((time.process_time() - start) / calls * 1e6)
            start = time.process_time()
            for _ in range(calls):
                log(data)
            ours.append((time.process_time() - start) / calls * 1e6)
        run.finish()
        show(f"log() of {keys} floats", statistics.median(ours), "us", bar,
             statistics.median(raw))  # fmt: skip
    os.close(fd)


def bench_history(directory: str) -> None:
    """A whole history from the live log to Arrow."""
    import numpy  # noqa: F401 - imports are not what is measured
    import pyarrow  # noqa: F401

    import wanllmdb

    with wanllmdb.init(store=f"{directory}/history", id="r") as run:
        for step in range(100_000):
            run.log({f"k{i}": step * 0.1 + i for i in range(10)})
    found = wanllmdb.Api(f"{directory}/history").run("r")
    times, raw = [], []
    paths = list(Path(directory, "history", "live").rglob("*.wlog"))
    for _ in range(ROUNDS):
        start = time.process_time()
        assert len(found.history()) == 100_000
        times.append((time.process_time() - start) * 1e3)
        start = time.process_time()
        for path in paths:
            path.read_bytes()
        raw.append((time.process_time() - start) * 1e3)
    show("history of 100k x 10 to Arrow", statistics.median(times), "ms", "<= 60",
         statistics.median(raw))  # fmt: skip


def bench_list(directory: str) -> None:
    """The list of 10,000 runs, in the Store: one statement and its records."""
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
    times, raw = [], []
    for _ in range(ROUNDS):
        start = time.process_time()
        found = runs.find_many(store.catalog.reader, project="many",
                               condition="config.lr < 0.5", order="+summary.loss",
                               limit=50)  # fmt: skip
        times.append((time.process_time() - start) * 1e3)
        assert len(found) == 50
        start = time.process_time()
        store.catalog.reader.execute(
            "SELECT c.run_id FROM run_value c JOIN run_value s USING (run_id)"
            " WHERE c.scope = 0 AND c.key = 'lr' AND c.value < 0.5 AND s.scope = 1"
            " AND s.key = 'loss' ORDER BY s.value LIMIT 50"
        ).fetchall()
        raw.append((time.process_time() - start) * 1e3)
    show("10,000 runs: filter, sort, top 50", statistics.median(times), "ms", "<= 10",
         statistics.median(raw))  # fmt: skip


def main() -> None:
    """Print the table."""
    os.environ.update(QUIET)
    head()
    with tempfile.TemporaryDirectory() as directory:
        bench_starts(directory)
        bench_log(directory)
        bench_history(directory)
        bench_list(directory)
    import wanllmdb

    wanllmdb.teardown()


if __name__ == "__main__":
    main()
