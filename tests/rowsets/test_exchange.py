"""Rows that another Store took over read as if they had been sealed there."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import struct
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import wanllmdb
from wanllmdb import _rowintake, _rowsets
from wanllmdb._metrics import writer
from wanllmdb._metrics.segment import GENERIC, frame
from wanllmdb.errors import IntegrityError

_path = Path(__file__).parents[1] / "compaction" / "test_parity.py"
_spec = importlib.util.spec_from_file_location("rowsets_lives", _path)
parity = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = parity
_spec.loader.exec_module(parity)

FORMS = {
    "inline": {"INLINE_BYTES": 1 << 30, "MERGED_BYTES": 0},
    "sealed": {"INLINE_BYTES": 0, "MERGED_BYTES": 0},
    "merged": {"INLINE_BYTES": 0, "GROWTH": 1 << 30},
}


@settings(
    max_examples=int(os.environ.get("WANLLMDB_TEST_EXAMPLES", "8")), deadline=None,
    database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(
    actions=st.lists(st.tuples(parity.ACTIONS, st.booleans()), min_size=1, max_size=10),
    size=st.sampled_from([1024, 8 << 20]),
    packed=st.sampled_from([1, 4096, _rowsets.PACKED_BYTES]),
    last=st.sampled_from([None, *FORMS]),
)
def test_however_rows_are_cut_into_pushes_another_store_reads_the_same(
    new_bench, exchange, monkeypatch, actions, size, packed, last
):
    """Live, inline, sealed and merged, the digests are equal, too."""
    monkeypatch.setattr(_rowsets, "PACKED_BYTES", packed)
    monkeypatch.setattr(writer, "SEGMENT_BYTES", size)
    with new_bench() as bench:
        recorder = parity.Recorder(bench)
        held, sent = {}, []
        for (name, *args), push in actions:
            recorder.play(name, *args)
            if push:
                sent += exchange.out(bench.store, held)
        recorder.run.finish()
        wanted, digests = bench.look(bench.store), exchange.digests(bench.store)
        bench.release()
        source = bench.store
        for name, constants in FORMS.items():
            store = bench.copy()
            bench.compact(store, **constants)
            assert exchange.digests(store) == digests, name
            source = store if name == last else source
        sent += exchange.out(source, held)
        assert {place: end for place, (end, _) in digests.items()} == held
        target = exchange.emptied(bench.store)
        exchange.take(target, sent)
        assert exchange.digests(target) == digests
        parity.check_same(bench.look(target), wanted, "taken over")
        assert exchange.take(target, sent) == []
        bench.check_sound(target)
        bench.compact(target, INLINE_BYTES=0, GROWTH=1 << 30)
        assert exchange.digests(target) == digests
        parity.check_same(bench.look(target), wanted, "merged there")


def record(bench, rows=50, **how):
    run = bench.begin(id="r", **how)
    for n in range(rows):
        run.log({"loss": 1.0 / (n + 1), "n": n, "text": f"{n}"})
    return run


def test_a_restored_backup_takes_what_came_after_it(bench, exchange):
    """Its live rows and the new ones are each there once, whatever they came with."""
    run = record(bench)
    run.summary["best"] = 1
    backup = bench.copy()
    run.log({"loss": 7.0, "list": [1, None]})
    run.summary["best"] = 2
    run.finish()
    digests = exchange.digests(bench.store)
    sent = exchange.out(bench.store)
    assert exchange.take(backup, sent)
    assert exchange.digests(backup) == digests
    assert exchange.take(backup, sent) == []
    bench.release()
    bench.compact(backup, INLINE_BYTES=0, MERGED_BYTES=0)
    assert exchange.digests(backup) == digests


def test_rows_after_a_gap_are_refused(bench, exchange):
    """What comes before them must be taken first."""
    run = record(bench)
    held = {}
    exchange.out(bench.store, held)
    run.log({"loss": 2.0})
    later = exchange.out(bench.store, held)
    run.finish()
    target = exchange.emptied(bench.store)
    with pytest.raises(IntegrityError, match="Pull what comes before"):
        exchange.take(target, later)
    assert not list(target.rglob("*.parquet"))


def test_other_content_under_the_same_name_is_refused(bench, exchange):
    """Two Stores that hold different rows of one stream do not mix them."""
    run = record(bench)
    clone = bench.copy()
    run.log({"loss": 2.0})
    run.log({"loss": 3.0})
    run.finish()
    (log,) = [p for p in (clone / "live").rglob("*.wlog") if p.stat().st_size]
    other = frame(GENERIC, 50, time.time_ns() // 1000, b'{"loss":5.0}')
    log.write_bytes(log.read_bytes() + other)
    with pytest.raises(IntegrityError, match="other content"):
        exchange.take(clone, exchange.out(bench.store))
    assert not list(clone.rglob("*.parquet"))


def test_a_part_whose_rows_have_another_id_here_is_written_anew(bench, exchange):
    """The runs' ids in the rows are those of this Store."""
    record(bench).finish()
    sent = exchange.out(bench.store)
    target = exchange.emptied(bench.store)
    (uid,) = {found.run for one in sent for found in one.ranges}
    exchange.take(target, sent, ids={uid: "renamed"})
    import pyarrow.parquet as pq

    (path,) = (target / "parts").rglob("*.parquet")
    assert set(pq.read_table(path)["_run"].to_pylist()) == {"renamed"}


def test_a_transaction_that_fails_leaves_nothing(bench, exchange, monkeypatch):
    """The parts that were put in place are removed."""
    record(bench).finish()
    sent = exchange.out(bench.store)
    target = exchange.emptied(bench.store)

    def fail(*_):
        raise RuntimeError("rolled back")

    with monkeypatch.context() as patch:
        patch.setattr(_rowintake, "add", fail)
        with pytest.raises(RuntimeError, match="rolled back"):
            exchange.take(target, sent)
    assert not list(target.rglob("*.parquet"))


def test_sql_of_a_taken_run_is_the_same(bench, exchange):
    """A query reads its parts as those of its own runs."""
    record(bench, rows=200).finish()
    target = exchange.emptied(bench.store)
    exchange.take(target, exchange.out(bench.store))
    statement = "SELECT step, key, value FROM metrics ORDER BY ALL"
    with wanllmdb.Api(bench.store) as own, wanllmdb.Api(target) as other:
        wanted = own.query(statement).fetchall()
        assert wanted
        assert other.query(statement).fetchall() == wanted


def test_a_log_that_was_sealed_and_went_on_keeps_its_numbers(bench, exchange):
    """A write into the summary that is sealed is not read from the log again."""
    run = record(bench)
    run.summary["best"] = 1
    run.log({"loss": 3.0})
    run.summary["best"] = 2
    run.finish()
    bench.release()
    wanted, store = exchange.digests(bench.store), bench.copy()
    cut = parity.cut_back(store)
    bench.compact(store, INLINE_BYTES=0, MERGED_BYTES=0)
    for path, rest in cut:
        with path.open("ab") as file:
            file.write(rest)
    assert exchange.digests(store) == wanted
    bench.compact(store, INLINE_BYTES=0, MERGED_BYTES=0)
    assert exchange.digests(store) == wanted


def test_the_digest_is_what_its_rule_says(bench, exchange):
    """Computed by hand, from the history."""
    run = bench.begin(id="r")
    run.log({"loss": 0.5, "n": 3})
    run.log({"loss": float("nan"), "text": "ä"})
    run.summary["best"] = {"x": 1}
    run.finish()
    (one,) = exchange.out(bench.store)
    (found,) = one.ranges
    import pyarrow.parquet as pq

    (wide,) = [p for p in one.parts if p.layout == "wide"]
    (objects,) = [p for p in one.parts if p.layout == "objects"]
    times = pq.read_table(wide.path)["_ts"].cast("int64").to_pylist()
    (at,) = pq.read_table(objects.path)["_ts"].cast("int64").to_pylist()

    def ints(*values):
        return hashlib.sha256(struct.pack(f"<{len(values)}q", *values)).hexdigest()

    def raw(data):
        return hashlib.sha256(data).hexdigest()

    lines = [
        ["metrics", found.token, 1, "primary"],
        [2, ints(0, 1), ints(0, 1), ints(*times)],
        ["loss", "d", 2, ints(0, 1), raw(struct.pack("<2d", 0.5, float("nan")))],
        ["n", "q", 1, ints(0), ints(3)],
        ["text", "s", 1, ints(1), raw(b'"\\u00e4"\n')],
        [1, raw(f'[2,{at},"best",{{"x":1}}]\n'.encode())],
    ]
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    assert found.digest == raw(text.encode())
    assert (found.first, found.end, found.rows_before) == (0, 3, 0)
