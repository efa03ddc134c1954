"""Stores whose logs stay live until a test compacts them, and ways to look at runs."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import shutil
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import wanllmdb
from wanllmdb import _compaction, _ids, _locks, _merging
from wanllmdb._metrics import seal
from wanllmdb._metrics.writer import StreamWriter
from wanllmdb.cli import cli
from wanllmdb.types import End, Kind, Losses, State, StreamIdentity


class Bench:
    """Records runs whose logs nobody compacts, and compacts copies of their Store."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.store = place / "recorded"
        self._locks: list[_locks.FileLock] = []
        self._copies = 0

    # Recording

    def begin(self, **how: Any) -> Any:
        """A run; from now on, another compactor seems to be at it."""
        run = wanllmdb.init(project="p", store=self.store, **how)
        path = self.store / "locks" / f"compact-{uid_of(run)}.lock"
        lock = _locks.try_acquire(path)
        if lock is not None:
            self._locks.append(lock)
        return run

    def release(self) -> None:
        """Whoever wants to compact may."""
        for lock in self._locks:
            lock.release(unlink=True)
        self._locks.clear()

    def add_writer(self, run: Any, name: str, rows: list[Any]) -> None:
        """Another process that writes to a run, or a child of its process."""
        with wanllmdb.Api(self.store) as api:
            child = name == "fork"
            join = api.store.open_child_stream if child else api.store.join_run
            stream = join(api.run(f"p/{run.id}").record, name)
            directory = api.store.run_dir(stream.uid)
            writer = StreamWriter(directory, stream.identity, Kind.METRICS)
            for step, row in enumerate(rows):
                writer.append(row, step)
            writer.close()
            if child:
                api.store.end_child_stream(stream)
            else:
                api.store.end_stream(stream, End(State.FINISHED), Losses(), None)

    def add_system(self, run: Any, rows: list[Any]) -> None:
        """What the system monitor would write."""
        directory = self.store / "live" / uid_of(run)
        identity = StreamIdentity(_ids.stream_token(), 1, "primary")
        writer = StreamWriter(directory, identity, Kind.SYSTEM)
        for step, row in enumerate(rows):
            writer.append(row, step)
        writer.close()

    # Damaging

    def part_of(self, store: Path, run: str, layout: str = "wide") -> Path:
        """The part of a layout that holds a run's rows."""
        (path,) = self.sql(
            store,
            "SELECT project.uid || '/' || part.name FROM part JOIN part_run ON part.id"
            " = part_id JOIN run ON run.id = part_run.run_id JOIN project ON project.id"
            " = part.project_id WHERE run.run_id = ? AND layout = ?",
            run, layout,
        )[0]  # fmt: skip
        return store / "parts" / path

    def flip(self, path: Path, *bits: int) -> None:
        """Change bits of a file where it is."""
        data = bytearray(path.read_bytes())
        for bit in bits:
            data[bit // 8] ^= 1 << bit % 8
        path.chmod(0o600)
        path.write_bytes(data)

    # Compacting

    def copy(self, source: Path | None = None) -> Path:
        """A copy of the Store."""
        self._copies += 1
        target = self.place / f"copy{self._copies}"
        shutil.copytree(source or self.store, target)
        return target

    def compact(self, store: Path, **constants: int) -> list[str]:
        """What `wanllmdb store compact` does, with other constants."""
        with constants_set(constants), wanllmdb.Api(store) as api:
            return list(api.store.compact())

    def sealed(self, **constants: int) -> Path:
        """A copy whose logs are in parts."""
        store = self.copy()
        self.compact(store, **{"INLINE_BYTES": 0, "MERGED_BYTES": 0, **constants})
        return store

    def let_time_pass(self, store: Path) -> None:
        """What was given up is due now."""
        sql(store, "UPDATE retired SET due_us = 1")

    # Looking

    def look(self, store: Path) -> dict[str, Any]:
        """All that can be read of every run."""
        with wanllmdb.Api(store) as api:
            return {run.id: seen(api, run) for run in api.runs("p", limit=None)}

    def check_sound(self, store: Path) -> None:
        """`doctor` and `store verify` find nothing, and no file is left over."""
        for command in (["doctor"], ["store", "verify"]):
            done = CliRunner().invoke(cli, ["--store", str(store), *command])
            assert done.exit_code == 0, done.output
        self.check_parts(store)

    def check_parts(self, store: Path) -> None:
        """No file is left over."""
        known = {row[0] for row in sql(store, "SELECT name FROM part")}
        known |= {
            Path(row[0]).name for row in sql(store, "SELECT path FROM retired")
        }  # fmt: skip
        assert {p.name for p in (store / "parts").rglob("*.parquet")} <= known
        assert not list((store / "tmp").glob("*.parquet"))

    sql = staticmethod(lambda store, text, *values: sql(store, text, *values))
    rows = staticmethod(lambda run: rows_of(run))


def uid_of(run: Any) -> str:
    """The uid of a run that is written here."""
    return Path(run.dir).parent.name


def sql(store: Path, text: str, *values: Any) -> list[Any]:
    """Run SQL on a Catalog that no process has open."""
    with contextlib.closing(sqlite3.connect(store / "catalog.db")) as connection:
        found = connection.execute(text, values).fetchall()
        connection.commit()
        return found


@contextlib.contextmanager
def constants_set(constants: Mapping[str, int]) -> Iterator[None]:
    """Set constants of compaction, each where it lives."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in constants.items():
            (module,) = [
                m for m in (_compaction, _merging, seal) if name in vars(m)
            ]  # fmt: skip
            patch.setattr(module, name, value)
        yield


def rows_of(run: Any) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k[0] != "_"} for row in run.scan_history()]


def seen(api: Any, run: Any) -> dict[str, Any]:
    """What is read of a run, as text, so that NaN is NaN and 1 is not 1.0."""
    table = run.history().arrow()
    keys = [name for name in table.column_names if name[:1] != "_"]
    keys = keys[:: len(keys) // 40 + 1]  # of very many, some are read one by one
    sums = api.store.logs.sums(run.record)
    found: dict[str, Any] = {
        "rows": [repr(sorted(row.items())) for row in run.scan_history()],
        "table": {f.name: (str(f.type), f.metadata, repr(table[f.name].to_pylist()))
                  for f in table.schema},
        "keys": {key: repr(run.history(keys=[key]).to_pylist()) for key in keys},
        "scans": {key: repr([*run.scan_history(keys=[key])]) for key in keys},
        "state": (run.state, run.last_step, run.dropped_rows),
        "summary": repr(sorted(run.summary.items())),
        "stored": repr(sorted(run.keys.items())),
        "logs": [*run.logs()],
        # Columns come in the order that keys were first seen in, by part or by log.
        "system": repr([sorted(row.items()) for row in run.system.to_pylist()]),
        "own": told(sums.own), "children": told(sums.children),
        "last": sums.last_step,
    }  # fmt: skip
    return found


def told(fold: Any) -> dict[str, Any]:
    """The sums of a fold; means to twelve digits, for rows come in other portions."""
    entries = [(key, repr(value), by_hand) for _, key, value, by_hand in fold.entries()]
    stats = {}
    for key, one in fold.stats().items():
        mean = one.mean
        if mean is not None and math.isfinite(mean):
            mean = float(f"{mean:.12g}")
        stats[key] = repr((one.count, one.nans, one.last, one.last_step, one.min,
                           one.max, mean))  # fmt: skip
    return {"stats": stats, "entries": sorted(entries), "rows": fold.rows}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A bench of this test's own."""
    bench = Bench(tmp_path / "bench")
    bench.place.mkdir()
    yield bench
    wanllmdb.teardown()
    bench.release()


@pytest.fixture
def new_bench(tmp_path: Path) -> Any:
    """Makes a bench for each example of a property, and removes it."""
    count = 0

    @contextlib.contextmanager
    def made() -> Iterator[Bench]:
        nonlocal count
        count += 1
        bench = Bench(tmp_path / f"bench{count}")
        bench.place.mkdir()
        try:
            yield bench
        finally:
            wanllmdb.teardown()
            bench.release()
            shutil.rmtree(bench.place, ignore_errors=True)

    return made


@pytest.fixture
def lab(tmp_path: Path) -> Any:
    """The laboratory of tests/crash, with this folder's scenarios."""
    if shutil.which("strace") is None:
        pytest.skip("there is no strace")
    path = Path(__file__).parents[1] / "crash" / "conftest.py"
    spec = importlib.util.spec_from_file_location("crash_lab", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses ask for it
    spec.loader.exec_module(module)
    module.SCRIPT = Path(__file__).with_name("child.py")
    place = tmp_path / "lab"
    place.mkdir()
    return module.Lab(place, {})
