"""Reading and sealing: what analysts wait for, beside raw pyarrow, DuckDB and SQLite.

    python benchmarks/analysis.py [--large]

With ``--large`` also the Store of 10^9 points: 3.2 GB of disk, and minutes to make it.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import generated
from measuring import QUIET, ROUNDS, head, rss_mib, show

import wanllmdb
from wanllmdb import _sql, types
from wanllmdb._catalog import sealed
from wanllmdb._store import Store

KEYS = [f"m{number}" for number in range(10)]


def cpu(work: Callable[[], object]) -> float:
    """CPU milliseconds of a call, the median; the first call, which imports, is not."""
    return _median(work, time.process_time)


def wall(work: Callable[[], object]) -> float:
    """Wall milliseconds of a call, the median."""
    return _median(work, time.perf_counter)


def _median(work: Callable[[], object], clock: Callable[[], float]) -> float:
    work()
    times = []
    for _ in range(ROUNDS):
        start = clock()
        work()
        times.append(clock() - start)
    return statistics.median(times) * 1e3


def files_of(store: Path) -> list[str]:
    """The parts of a Store that hold metrics in columns."""
    with wanllmdb.Api(store) as api:
        parts = sealed.parts(api.store.catalog.reader)
        return [str(api.store.parts / p.path) for p in parts if p.layout == "wide"]


def raw(files: list[str], sql: str) -> Callable[[], object]:
    """The same question to DuckDB alone; `{files}` stands for what it reads."""
    listed = ", ".join(f"'{name}'" for name in files)
    text = sql.format(files=f"read_parquet([{listed}], union_by_name = true)")

    def ask() -> object:
        connection = _sql.connect()
        try:
            return connection.sql(text).to_arrow_table()
        finally:
            connection.close()

    return ask


def histories(root: Path) -> None:
    """One run of 100,000 rows of 10 metrics, to pandas."""
    import pyarrow.parquet as pq

    source = random.Random(1)
    rows = [{key: source.random() for key in KEYS} for _ in range(1000)]
    run = wanllmdb.init(project="p", id="r", store=root / "history")
    for number in range(100_000):
        run.log(rows[number % 1000])
    with wanllmdb.Api(root / "history") as api:
        live = cpu(lambda: api.run("r").history().df())
        api.store.compactor.seal(api.run("r").record)  # all but the last segment
        mixed = cpu(lambda: api.run("r").history().df())
        run.finish()
        whole = cpu(lambda: api.run("r").history().df())
    wanllmdb.teardown()
    files = files_of(root / "history")
    plain = cpu(lambda: [pq.read_table(name).to_pandas() for name in files])
    show("history 100k x 10 to pandas, sealed", whole, "ms", "25", plain)
    show("... live", live, "ms", "60", plain)
    show("... mixed, 80k sealed", mixed, "ms", "30", plain)


def many_runs(root: Path) -> None:
    """One metric of 1,000 runs of 10,000 rows."""
    store = generated.make(root / "runs", 1000, 10_000, ["loss", *KEYS[1:]], 100)
    store.close()
    files = files_of(root / "runs")
    with wanllmdb.Api(root / "runs") as api:
        for what, sql, same in (
            ("mean of one metric, 1,000 runs x 10k",
             "SELECT avg(value) FROM metrics WHERE key = 'loss'",
             "SELECT avg(loss) FROM {files}"),
            ("... its mean at each step",
             "SELECT step, avg(value) FROM metrics WHERE key = 'loss' GROUP BY step",
             "SELECT _step, avg(loss) FROM {files} GROUP BY _step"),
            ("... its mean of each run",
             "SELECT run, avg(value) FROM metrics WHERE key = 'loss' GROUP BY run",
             "SELECT _run, avg(loss) FROM {files} GROUP BY _run"),
        ):  # fmt: skip
            beside = wall(raw(files, same))
            bar = "300 and 1.5 x raw"
            show(what, wall(lambda sql=sql: api.query(sql)), "ms wall", bar, beside)
        size = sum(Path(name).stat().st_size for name in files)
        show("disk, float32 values, merged", size / 1e8, "B/point", "3.8")
    shutil.rmtree(root / "runs")


def long_run(root: Path) -> None:
    """10^7 rows of one metric, to 2,000 buckets."""
    generated.make(root / "long", 1, 10_000_000, ["loss"], 1).close()
    files = files_of(root / "long")
    same = (
        "SELECT _step // 5000 AS b, min(loss), max(loss), avg(loss), count(*)"
        " FROM {files} GROUP BY b ORDER BY b"
    )
    with wanllmdb.Api(root / "long") as api:
        run = api.run("run-0")
        mine = wall(lambda: api.metrics("loss", run, buckets=2000))
    show("10^7 rows to 2,000 buckets", mine, "ms wall", "200", wall(raw(files, same)))
    shutil.rmtree(root / "long")


def tiny_runs(root: Path) -> None:
    """10,000 runs of 10 rows of 10 metrics: in the Catalog, and merged."""
    store = Store(types.Location(root / "tiny", "benchmark"))
    generated.add_inline(store, 10_000, 10, KEYS)
    store.close()
    with wanllmdb.Api(root / "tiny") as api:
        sql = "SELECT avg(value) FROM metrics WHERE key = 'm3'"
        reader = api.store.catalog.reader
        beside = wall(lambda: reader.execute("SELECT data FROM inline_log").fetchall())
        show("one metric of 10,000 tiny runs, inline", wall(lambda: api.query(sql)),
             "ms wall", "100", beside)  # fmt: skip
        start = time.process_time()
        list(api.store.compact())
        spent = (time.process_time() - start) / 1e5 * 1e6
        show("merging them, per call of log", spent, "us CPU", "1.0")
        files = files_of(root / "tiny")
        plain = wall(raw(files, "SELECT avg(m3) FROM {files}"))
        show("... merged", wall(lambda: api.query(sql)), "ms wall", "100", plain)
        size = sum(Path(name).stat().st_size for name in files)
        show("disk, tiny runs, merged", size / 1e6, "B/point", "5.5")
    shutil.rmtree(root / "tiny")


LOG = """
import os, random, sys
import wanllmdb
run = wanllmdb.init(project="p", id="s")
run._background.stop(1.0)  # or it would seal behind our back
source = random.Random(2)
rows = [{f"m{k}": source.random() for k in range(10)} for _ in range(1000)]
for number in range(int(sys.argv[1])):
    run.log({key: value * (1 + number) for key, value in rows[number % 1000].items()})
os._exit(0)
"""


def sealing(root: Path) -> None:
    """What sealing costs, and what memory it takes."""
    count = 1_000_000
    given = {**os.environ, "WANLLMDB_DIR": str(root / "seal")}
    subprocess.run([sys.executable, "-c", LOG, str(count)], env=given, check=True)
    with wanllmdb.Api(root / "seal") as api:
        record = api.run("s").record  # recovers it; the log is too large to seal then
        before, start = rss_mib(), time.process_time()
        assert api.store.compactor.seal(record)
        spent = time.process_time() - start
        top = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        show("sealing, per call of log", spent / count * 1e6, "us CPU", "1.0")
        show("... peak of resident memory over before", top - before, "MiB", "200")
    size = sum(Path(name).stat().st_size for name in files_of(root / "seal"))
    show("disk, float64 noise", size / count / 10, "B/point", "7.2")
    shutil.rmtree(root / "seal")


def billion(root: Path) -> None:
    """10,000 runs of 10,000 rows of 10 metrics."""
    store = generated.make(root / "billion", 10_000, 10_000, ["loss", *KEYS[1:]], 300)
    store.close()
    files = files_of(root / "billion")
    with wanllmdb.Api(root / "billion") as api:
        run = api.run("run-7777")
        one = wall(lambda: api.run("run-7777").history().arrow())
        same = f"SELECT * FROM {{files}} WHERE _uid = '{run.record.uid}'"
        beside = wall(raw(files, same))
        show("10^9 points: one run, all columns", one, "ms wall", "50", beside)
        some = [api.run(f"run-{number * 499}") for number in range(20)]
        names = ", ".join(f"'{r.record.uid}'" for r in some)
        same = f"SELECT _run, _step, loss FROM {{files}} WHERE _uid IN ({names})"
        show("... one metric of 20 runs", wall(lambda: api.metrics("loss", some)),
             "ms wall", "150", wall(raw(files, same)))  # fmt: skip
        sql = "SELECT avg(value) FROM metrics WHERE key = 'loss'"
        show("... scan of one metric", cpu(lambda: api.query(sql)), "ms CPU", "2000",
             cpu(raw(files, "SELECT avg(loss) FROM {files}")))  # fmt: skip
    shutil.rmtree(root / "billion")


def main() -> None:
    """Measure everything, in a directory of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", action="store_true", help="the 10^9-point Store too")
    large = parser.parse_args().large
    os.environ.update(QUIET)
    root = Path(tempfile.mkdtemp(prefix="wanllmdb-analysis-"))
    try:
        head()
        # Sealing first: the peak of memory is the whole process's.
        for work in (sealing, histories, many_runs, long_run, tiny_runs):
            work(root)
        if large:
            billion(root)
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
