"""Short stories that the state machine of runs found, told again each time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import wanllmdb


@pytest.fixture
def fork(store: Path) -> str:
    """A run that took over steps 0 to 3 of another."""
    parent = wanllmdb.init(id="parent", store=store)
    for n in range(4):
        parent.log({"x": n})
    parent.finish()
    wanllmdb.init(id="fork", fork_from="parent?_step=3", store=store).finish()
    return "fork"


def cells(api: Any, run: str) -> list[tuple[int, Any]]:
    return [(row["_step"], row["x"]) for row in api.run(run).scan_history()]


def test_a_fork_rewound_into_its_parents_part_hides_the_rest(
    fork: str, store: Path, api: Any
) -> None:
    """Rewinding goes behind the point of the fork too; the parent keeps its rows."""
    run = wanllmdb.init(resume_from=f"{fork}?_step=1", store=store)
    run.log({"x": "anew"})
    run.finish()
    assert cells(api, fork) == [(0, 0), (1, 1), (2, "anew")]
    assert api.run(fork).last_step == 2
    assert api.run(fork).summary["x"] == "anew"
    assert cells(api, "parent") == [(n, n) for n in range(4)]


def test_a_fork_that_starts_anew_holds_no_row_of_its_parent(
    fork: str, store: Path, api: Any
) -> None:
    """`init` with its id supersedes all its rows, those it took over included."""
    run = wanllmdb.init(id=fork, store=store)
    run.log({"x": "anew"})
    run.finish()
    assert cells(api, fork) == [(0, "anew")]
    assert api.run(fork).last_step == 0
    api.run(fork).restore_epoch(1)
    assert cells(api, fork) == [(n, n) for n in range(4)]


@pytest.mark.parametrize(("first", "second"), [("", 0), (0, ""), ("a", "b"), (1, 2)])
def test_a_cell_written_twice_is_counted_once(
    store: Path, api: Any, first: Any, second: Any
) -> None:
    """Whatever the types, a key's sums are those of what history shows."""
    run = wanllmdb.init(id="r", store=store)
    run.log({"x": first})
    run.log({"x": second}, step=0)
    run.finish()
    numbers = [] if isinstance(second, str) else [second]
    stats = api.run("r").keys["x"]
    assert cells(api, "r") == [(0, second)]
    assert (stats.count, stats.last) == (1, second)
    assert stats.min == stats.max == max(numbers, default=None)
