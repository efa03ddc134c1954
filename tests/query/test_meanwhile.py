"""Queries while others write, seal and merge."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

import wanllmdb

WRITER = """
import itertools, sys
import wanllmdb
from wanllmdb import _compaction
_compaction.INLINE_BYTES = 0
for number in itertools.count():
    with wanllmdb.init(project="p", id=f"{sys.argv[1]}{number}") as run:
        for n in range(50):
            run.log({"n": n, "Loss": n / 2, "loss": -n, "note": [n]})
"""
COMPACTOR = """
import wanllmdb
from wanllmdb import _compaction
_compaction.INLINE_BYTES = 0
api = wanllmdb.Api()
while True:
    list(api.store.compact())
"""
CHECKS = (
    # Every row once, whole from the first on, in each run.
    "SELECT run, count(*), max(step) + 1, count(DISTINCT step) FROM metrics"
    " WHERE key = 'n' GROUP BY run",
    "SELECT run, count(*), max(step) + 1, count(note) FROM history GROUP BY run",
    "SELECT run, count(*), max(step) + 1, count(DISTINCT value) FROM metrics_all"
    " WHERE key = 'n' AND NOT superseded GROUP BY run",
)


@pytest.fixture
def busy(record):
    """Two writers and a compactor, each a process of its own."""
    record([{"n": 0, "Loss": 0.0, "loss": 0, "note": [0]}], id="first")
    commands = [(WRITER, "a"), (WRITER, "b"), (COMPACTOR, "")]
    children = [
        subprocess.Popen([sys.executable, "-c", code, name], env=os.environ,
                         stderr=subprocess.PIPE, text=True)
        for code, name in commands
    ]  # fmt: skip
    yield children
    for child in children:
        child.kill()
        child.communicate()


@pytest.mark.slow
def test_each_answer_is_of_one_moment(busy, api):
    """Rows are there once, from the first to the last, however they move."""
    deadline, most = time.monotonic() + 8, 0
    while time.monotonic() < deadline:
        for sql in CHECKS:
            for run, *counts in api.query(sql).fetchall():
                assert len(set(counts)) == 1, (sql, run, counts)
                most += 1
        api.query("SELECT config, summary, run FROM runs")
        assert api.statistics("n", "p/first").to_pylist()[0]["count"] == 1
    for child in busy:
        assert child.poll() is None, child.communicate()[1]
    assert most > 20
    assert len(api.runs("p")) > 5


def test_a_finished_run_stays_the_same_while_it_moves(busy, api):
    """In the log, sealed, merged: its answer never changes."""
    sql = "SELECT step, n, loss, note FROM history WHERE run = 'first'"
    for _ in range(5):
        assert api.query(sql).fetchall() == [(0, 0, 0, "[0]")]
    assert wanllmdb.query("SELECT 1").fetchall() == [(1,)]
