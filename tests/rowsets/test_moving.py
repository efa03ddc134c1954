"""Streams that are handed to another run: each row is there once, under a new name."""

from __future__ import annotations

import pytest

import wanllmdb
from wanllmdb import _rowintake, _rowmove
from wanllmdb.errors import StateError
from wanllmdb.types import RunRef

FORMS = {
    "inline": {"INLINE_BYTES": 1 << 30, "MERGED_BYTES": 0},
    "sealed": {"INLINE_BYTES": 0, "MERGED_BYTES": 0},
    "merged": {"INLINE_BYTES": 0, "GROWTH": 1 << 30},
}


def recorded(bench):
    """Run a with two attempts, and runs b and c, which get nothing and their rows."""
    for id in ("a", "b", "c"):
        run = bench.begin(id=id)
        for n in range(30):
            run.log({"loss": n / 7, "text": id, "list": [n]} if n % 3 else {"n": n})
        run.summary["best"] = id
        run.log_message(f"hello of {id}")
        run.finish()
    run = bench.begin(id="a", resume="must")
    for n in range(20):
        run.log({"loss": -1.0 * n})
    run.summary["best"] = "again"
    run.finish()
    bench.release()


def moved(store, tokens=None, fail=False):
    with wanllmdb.Api(store) as api:
        inner = api.store
        intake = _rowintake.Intake(inner.path, inner.catalog, inner.logs, inner.sweeper)
        record, to = (api.run(f"p/{id}").record for id in ("a", "b"))
        tokens = tokens or {
            mark.identity.token
            for mark in inner.logs.view().sealed(record.pk).marks
            if mark.identity.epoch == 2
        }
        with (
            _rowmove.prepare(intake, record, tokens, RunRef(to.uid, "b")) as prepared,
            inner.catalog.transaction(durable=True) as connection,
        ):
            _rowmove.apply(connection, prepared, record, tokens, to)
            if fail:
                raise RuntimeError("rolled back")
    return tokens


@pytest.mark.parametrize("form", FORMS)
def test_streams_that_are_moved_are_there_once(bench, exchange, form):
    """Whatever held them; a merged part goes on for the others in it."""
    recorded(bench)
    store = bench.copy()
    bench.compact(store, **FORMS[form])
    before, other = exchange.digests(store), bench.look(store)["c"]
    tokens = moved(store)
    after = exchange.digests(store)
    assert sorted(held for held in after.values()) == sorted(before.values())
    (uid,) = {uid for uid, token, _ in after if token in tokens}
    assert uid not in {uid for uid, token, _ in before if token in tokens}
    assert bench.look(store)["c"] == other
    with wanllmdb.Api(store) as api:
        rows = {id: len([*api.run(f"p/{id}").scan_history()]) for id in "ab"}
        found = api.query(
            "SELECT run, epoch, count(*) FROM metrics_all WHERE key = 'loss'"
            " GROUP BY run, epoch ORDER BY ALL"
        ).fetchall()
    assert rows["a"] == 30
    assert found == [("a", 1, 20), ("b", 1, 20), ("b", 2, 20), ("c", 1, 20)]
    bench.check_parts(store)
    bench.compact(store, INLINE_BYTES=0, GROWTH=1 << 30)
    assert exchange.digests(store) == after


def test_a_move_that_is_rolled_back_changes_nothing(bench, exchange):
    """Its parts are removed."""
    recorded(bench)
    store = bench.sealed()
    before = bench.look(store)
    with pytest.raises(RuntimeError, match="rolled back"):
        moved(store, fail=True)
    assert bench.look(store) == before
    bench.check_sound(store)


def test_a_log_that_is_not_sealed_is_not_moved(bench):
    """Its bytes lie in the directory of its run."""
    recorded(bench)
    with pytest.raises(StateError, match="is not sealed"):
        moved(bench.copy(), tokens={"0" * 10})
