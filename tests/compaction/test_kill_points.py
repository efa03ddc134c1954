"""Killed or refused at any system call, a compaction has happened or has not."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import wanllmdb
from wanllmdb import _recovery

pytestmark = pytest.mark.slow
KILL = "signal=KILL:when={}"
ONCE = "error={}:when={{}}"
PER_CALL = int(os.environ.get("WANLLMDB_TEST_POINTS", "3"))
"""How many places of each system call a sweep tries; raise it for a night's work."""
FAILING = {
    "EIO": {"write", "pwrite64", "openat", "rename", "link", "unlink", "fsync",
            "fdatasync", "mkdir"},
    "ENOSPC": {"write", "pwrite64", "mkdir", "openat", "link", "rename"},
}  # fmt: skip
"""The calls that each error hits. Not fcntl: SQLite waits 10 s where locks fail."""


def check_run(lab: Any, api: Any, name: str, count: int) -> None:
    """A run is there whole: rows, sums, console, files."""
    run = api.run(f"p/{name}")
    assert run.state in ("finished", "crashed")
    lab.check_rows(run, count)
    assert len(lab.rows_of(run)) == count


def check_nothing_left(store: Path) -> None:
    """The next compaction removes whatever no transaction named."""
    for _ in range(2):
        with wanllmdb.Api(store) as api:
            _recovery.recover_dead(api.store)
            list(api.store.compact())
        with closing(sqlite3.connect(store / "catalog.db")) as connection:
            named = {row[0] for row in connection.execute("SELECT name FROM part")}
            connection.execute("UPDATE retired SET due_us = 1")
            connection.commit()
    with wanllmdb.Api(store) as api:
        list(api.store.compact())
    assert {path.name for path in store.glob("parts/*/*.parquet")} == named
    assert not list((store / "tmp").glob("*.parquet"))
    with wanllmdb.Api(store) as api:
        for left in (store / "live").iterdir():  # a file that could not be stored
            assert (left / "files" / "model.txt").exists()
            assert not api.run("p/r").files()


def check(lab: Any, outcome: Any, *, names: str, count: int, soft: bool) -> None:
    """Each run reads the same before the next compaction and after it."""
    if soft:
        assert outcome.code in (0, 120), outcome.stderr[-400:]
        assert "Traceback" not in outcome.stderr
    for _ in range(2):
        with wanllmdb.Api(outcome.store) as api:
            assert sorted(run.id for run in api.runs()) == list(names)
            for name in names:
                check_run(lab, api, name, count)
                with suppress(wanllmdb.errors.NotFoundError):
                    text = {line.text for line in api.run(f"p/{name}").logs()}
                    assert len(text) <= 1
        lab.check_sound(outcome.store)
        check_nothing_left(outcome.store)
    lab.check_goes_on(outcome.store, range(count))


SCENARIOS = {"inlining": ("r", 30), "sealing": ("r", 120),
             "sealing_the_dead": ("r", 120), "merging": ("rstu", 40)}  # fmt: skip


def points(lab: Any, scenario: str, error: str | None, per_call: int) -> list[Any]:
    template = scenario in ("sealing_the_dead", "merging")
    if scenario == "merging":
        lab._template = lab.play("merge_template").store
    found = lab.points(scenario, template=template, per_call=per_call)
    return [p for p in found if error is None or p.call in FAILING[error]]


@pytest.mark.parametrize("scenario", list(SCENARIOS))
def test_a_kill_leaves_the_old_state_or_the_new_one(lab: Any, scenario: str) -> None:
    """No row is lost or doubled, and the next compaction leaves no file behind."""
    names, count = SCENARIOS[scenario]
    found = points(lab, scenario, None, PER_CALL)
    verdict = partial(check, lab, names=names, count=count, soft=False)
    template = scenario in ("sealing_the_dead", "merging")
    lab.sweep(scenario, found, KILL, verdict, template=template)
    assert len(found) >= 15


@pytest.mark.parametrize(
    ("scenario", "error"),
    [("inlining", "EIO"), ("sealing", "EIO"), ("sealing_the_dead", "ENOSPC"),
     ("merging", "EIO")],
)  # fmt: skip
def test_a_failing_call_costs_nothing_but_the_compaction(
    lab: Any, scenario: str, error: str
) -> None:
    """What was not compacted is compacted the next time."""
    names, count = SCENARIOS[scenario]
    found = points(lab, scenario, error, max(2, PER_CALL - 1))
    verdict = partial(check, lab, names=names, count=count, soft=True)
    template = scenario in ("sealing_the_dead", "merging")
    lab.sweep(scenario, found, ONCE.format(error), verdict, template=template)
