"""A system call that fails, wherever it stands, never ends training."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

import wanllmdb

pytestmark = pytest.mark.slow
ONCE = "error={}:when={{}}"
FOREVER = "error={}:when={{}}+"
FAILING = {
    "EIO": {"write", "pwrite64", "openat", "rename", "link", "unlink", "fsync",
            "fdatasync", "ftruncate", "mkdir"},
    "ENOSPC": {"write", "pwrite64", "mkdir", "openat", "link", "ftruncate", "rename"},
    "EMFILE": {"openat"},
}  # fmt: skip
"""The calls that each error hits. Not fcntl: SQLite waits 10 s where locks fail."""


def points(lab: Any, scenario: str, error: str, **how: Any) -> list[Any]:
    found = lab.points(scenario, **how)
    return [point for point in found if point.call in FAILING[error]]


def check(lab: Any, logged: int, at_most: int, outcome: Any) -> None:
    """The script ended well; what was logged is stored, or counted as dropped."""
    # 120 is Python's own, for a stdout that cannot be flushed at exit.
    codes = (0, 120) if outcome.point.call == "write" else (0,)
    assert outcome.code in codes, outcome.stderr[-400:]
    assert "Traceback" not in outcome.stderr
    kept: list[int] = []
    if outcome.stage >= 0:
        assert outcome.rows == logged
        with wanllmdb.Api(outcome.store) as api:
            run = api.run("p/r")
            assert run.state in ("finished", "crashed")
            kept = [row["_step"] for row in run.scan_history()]
            assert len(kept) + run.dropped_rows == logged
            # Whatever was stored before the fault is still there.
            assert run.dropped_rows <= at_most or kept == list(range(len(kept)))
            lab.check_numbers(run, kept)
        lab.check_sound(outcome.store)
    lab.check_goes_on(outcome.store, kept)


@pytest.mark.parametrize("error", list(FAILING))
def test_one_failing_call_at_the_start_never_ends_training(
    lab: Any, error: str
) -> None:
    """`init` raises one of our errors or goes on; the Store stays of use."""
    found = points(lab, "first_run", error)
    lab.sweep("first_run", found, ONCE.format(error), partial(check, lab, 5, 1))


@pytest.mark.parametrize("error", list(FAILING))
def test_one_failing_call_costs_at_most_one_row(lab: Any, error: str) -> None:
    """While segments rotate, the row whose call failed is counted, the rest stored."""
    found = points(lab, "rotation", error)
    lab.sweep("rotation", found, ONCE.format(error), partial(check, lab, 180, 1))


@pytest.mark.parametrize("error", list(FAILING))
def test_one_failing_call_at_the_end_costs_no_row(lab: Any, error: str) -> None:
    """`finish` never raises, and what was logged stays.

    Threads make their calls in no fixed order, so that a call may fail earlier than in
    the trace: then it may cost the row that it was for, which is counted.
    """
    found = points(lab, "finish", error, WANLLMDB_CONSOLE="1")
    lab.sweep(
        "finish", found, ONCE.format(error), partial(check, lab, 20, 1),
        WANLLMDB_CONSOLE="1",
    )  # fmt: skip


@pytest.mark.parametrize("error", list(FAILING))
@pytest.mark.parametrize(
    ("scenario", "logged"), [("first_run", 5), ("rotation", 180), ("finish", 20)]
)
def test_a_call_that_fails_from_then_on_never_ends_training(
    lab: Any, scenario: str, logged: int, error: str
) -> None:
    """A disk that has died costs all later rows, each counted, and none before."""
    how = {"WANLLMDB_CONSOLE": "1"} if scenario == "finish" else {}
    found = points(lab, scenario, error, per_call=5, **how)
    verdict = partial(check, lab, logged, 0)
    lab.sweep(scenario, found, FOREVER.format(error), verdict, **how)
