"""A run reads the same live, inlined, sealed, merged, merged twice, and half sealed."""

from __future__ import annotations

import contextlib
import math
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import wanllmdb
from wanllmdb import _upkeep
from wanllmdb._metrics import writer
from wanllmdb._metrics.decode import list_segments
from wanllmdb._metrics.segment import FRAME_HEAD, HEADER_BYTES
from wanllmdb.types import Kind

EXAMPLES = int(os.environ.get("WANLLMDB_TEST_EXAMPLES", "8"))
"""How many lives of runs are tried; raise it for a night's work."""

KEYS = [
    "loss", "Loss", "LOSS", "step", "ts", "loss#i", "loss#s", "loss~1", "a.b", "~x",
    "x_", 'say "hi"', "train/loss", "\N{FIRE}", " ", "key", "kind", "stream", "level",
    "json", "value", "text", "run", "n", "Ärger", "ärger", "value#i", "a'b", "100%",
]  # fmt: skip
NUMBERS = (
    st.floats()
    | st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7e308])
    | st.integers(-3, 3)
    | st.sampled_from([2**63 - 1, -(2**63), 2**53 + 1, 2**63, -(2**80)])
    | st.booleans()
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=4) | st.sampled_from(
    ["", "\0", "line\nline", "\N{FIRE}\N{SNOWMAN}", "NaN", "null", "\\", '"']
)
SCALARS = NUMBERS | TEXTS | st.none()
VALUES = (
    SCALARS
    | st.lists(SCALARS, max_size=3)
    | st.dictionaries(st.sampled_from(["x", "Y", "z.z"]), SCALARS, max_size=2)
)
ROWS = st.dictionaries(st.sampled_from(KEYS), VALUES, min_size=1, max_size=4)
NUMERIC = st.dictionaries(st.sampled_from(KEYS[:6]), NUMBERS, min_size=1, max_size=3)
GAUGES = st.dictionaries(
    st.sampled_from(["cpu", "gpu.0.Util"]), st.floats(), min_size=1
)
WRITTEN = st.dictionaries(st.sampled_from([*KEYS[:4], "note"]), VALUES, max_size=2)
ACTIONS = st.one_of(
    st.tuples(st.just("log"), ROWS | NUMERIC, st.none() | st.integers(0, 6)),
    st.tuples(st.just("log"), NUMERIC, st.none()),
    st.tuples(st.just("many"), NUMERIC, st.integers(2, 40)),
    st.tuples(st.just("write"), WRITTEN),
    st.tuples(st.just("resume")),
    st.tuples(st.just("rewind"), st.integers(0, 5)),
    st.tuples(st.just("fork"), st.integers(0, 5)),
    st.tuples(st.just("restore"), st.integers(1, 2)),
    st.tuples(st.just("edit"), WRITTEN),
    st.tuples(st.just("join"), st.sampled_from(["rank1", "rank2", "fork"]),
              st.lists(NUMERIC, max_size=4)),
    st.tuples(st.just("say"), TEXTS),
    st.tuples(st.just("gauge"), st.lists(GAUGES, max_size=3)),
)  # fmt: skip


class Recorder:
    """Plays actions on a bench: runs, epochs, writers, edits."""

    def __init__(self, bench: Any) -> None:
        self.bench = bench
        self.run = bench.begin(id="r0")
        self.runs = 1

    def play(self, name: str, *args: Any) -> None:
        getattr(self, name)(*args)

    def log(self, row: Any, step: int | None) -> None:
        self.run.log(row, step=step)

    def many(self, row: Any, count: int) -> None:
        for n in range(count):
            self.run.log({**row, "tick": n})

    def write(self, values: Any) -> None:
        self.run.summary.update(values)

    def resume(self) -> None:
        self.run.finish()
        self.run = self.bench.begin(id=self.run.id, resume="must")

    def rewind(self, step: int) -> None:
        self.run.finish()
        self.run = self.bench.begin(resume_from=f"{self.run.id}?_step={step}")

    def fork(self, step: int) -> None:
        self.run.finish()
        parent, self.runs = self.run.id, self.runs + 1
        self.run = self.bench.begin(
            id=f"r{self.runs}", fork_from=f"{parent}?_step={step}"
        )

    def restore(self, number: int) -> None:
        self.run.finish()
        with wanllmdb.Api(self.bench.store) as api:
            stored = api.run(f"p/{self.run.id}")
            if len(stored.epochs) > number:
                stored.restore_epoch(number)
        self.resume()

    def edit(self, values: Any) -> None:
        self.run.finish()
        with wanllmdb.Api(self.bench.store) as api:
            api.run(f"p/{self.run.id}").update(summary=values)
        self.resume()

    def join(self, name: str, rows: Any) -> None:
        self.bench.add_writer(self.run, name, rows)

    def say(self, text: str) -> None:
        self.run.log_message(text)

    def gauge(self, rows: Any) -> None:
        self.bench.add_system(self.run, rows)


def cut_back(store: Any) -> list[tuple[Any, bytes]]:
    """Cut the last segment of each stream at a frame; return what was cut off."""
    cut = []
    for directory in (store / "live").iterdir():
        for kind in Kind:
            for paths in list_segments(directory, kind).values():
                data = paths[-1].read_bytes()
                at, ends = HEADER_BYTES, [HEADER_BYTES]
                while at + FRAME_HEAD.size <= len(data):
                    at += FRAME_HEAD.unpack_from(data, at)[1] * 8
                    ends.append(at)
                end = ends[len(ends) // 2]
                paths[-1].write_bytes(data[:end])
                cut.append((paths[-1], data[end:]))
    return cut


def check_same(found: Any, wanted: Any, where: str) -> None:
    assert found.keys() == wanted.keys(), where
    for run in wanted:
        for what in wanted[run]:
            assert found[run][what] == wanted[run][what], (where, run, what)


SEALED = {"INLINE_BYTES": 0, "MERGED_BYTES": 0}
MERGED = {"INLINE_BYTES": 0, "GROWTH": 1 << 30}


def check_all_ways(bench: Any, constants: dict[str, int]) -> None:
    """Compact copies of what was recorded in every way, and compare."""
    wanted = bench.look(bench.store)
    bench.release()
    inlined = bench.copy()
    bench.compact(inlined, INLINE_BYTES=1 << 30, MERGED_BYTES=0)
    check_same(bench.look(inlined), wanted, "inlined")
    sealed = bench.copy()
    bench.compact(sealed, **SEALED, **constants)
    check_same(bench.look(sealed), wanted, "sealed")
    for source, name in ((inlined, "inline"), (sealed, "parts")):
        store = bench.copy(source)
        for again in ("merged", "merged twice"):
            with wanllmdb.init(project="p", id=f"more {again}", store=store) as run:
                run.log({"loss": 1.0, "LOSS": "text"})
            bench.compact(store, **MERGED, **constants)
            found = bench.look(store)
            for more in ("more merged", "more merged twice"):
                found.pop(more, None)
            check_same(found, wanted, f"{name} {again}")
        bench.check_sound(store)
    half = bench.copy()
    cut = cut_back(half)
    bench.compact(half, **SEALED, **constants)
    for path, rest in cut:
        with path.open("ab") as file:
            file.write(rest)
    check_same(bench.look(half), wanted, "half sealed")
    bench.compact(half, **SEALED, **constants)
    check_same(bench.look(half), wanted, "sealed in two steps")
    saved = bench.place / "backup"
    with wanllmdb.Api(half) as api:
        _upkeep.backup(api.store, saved)
    check_same(bench.look(saved), wanted, "a backup")


@contextlib.contextmanager
def segments_of(size: int) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "SEGMENT_BYTES", size)
        yield


@settings(
    max_examples=EXAMPLES, deadline=None, database=None,
    phases=[Phase.generate], suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(
    actions=st.lists(ACTIONS, min_size=1, max_size=12),
    size=st.sampled_from([1024, 8 << 20]),
    constants=st.fixed_dictionaries({
        "WIDE_KEYS": st.sampled_from([1, 256]), "SPARSE": st.sampled_from([2, 20]),
        "BATCH_BYTES": st.sampled_from([1, 64 << 20]),
    }),
)  # fmt: skip
def test_every_form_of_a_run_reads_the_same(new_bench, actions, size, constants):
    """Whatever was logged, its history, sums, logs and gauges never change."""
    with new_bench() as bench, segments_of(size):
        recorder = Recorder(bench)
        for name, *args in actions:
            recorder.play(name, *args)
        recorder.run.finish()
        check_all_ways(bench, constants)
