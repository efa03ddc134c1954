"""Killed before any system call, a run keeps every row whose `log` returned."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

import wanllmdb

pytestmark = pytest.mark.slow
KILL = "signal=KILL:when={}"


def check_writer(lab: Any, outcome: Any) -> None:
    """A killed writer's rows are there, the run has crashed, and can go on."""
    if not (outcome.store / "FORMAT").exists():
        assert outcome.stage == 0
        lab.check_goes_on(outcome.store, [])
        return
    count = 0
    with wanllmdb.Api(outcome.store) as api:
        found = api.runs()
        assert len(found) == 1 or outcome.stage == 0
        for run in found:
            assert run.state == "crashed"
            count = lab.check_rows(run, outcome.rows)
    lab.check_sound(outcome.store)
    lab.check_goes_on(outcome.store, range(count))


@pytest.mark.parametrize("part", range(3))
def test_a_store_survives_a_kill_while_it_is_made(lab: Any, part: int) -> None:
    """Killed in the very first `init`, the Store is of use, and holds what it said."""
    points = lab.points("first_run")[part::3]
    lab.sweep("first_run", points, KILL, partial(check_writer, lab))


@pytest.mark.parametrize("scenario", ["rotation", "rotation_into_a_spare"])
def test_rows_survive_a_kill_while_segments_rotate(lab: Any, scenario: str) -> None:
    """Between two segments, as in one, nothing acknowledged is lost."""

    def check(outcome: Any) -> None:
        assert outcome.rows >= 40
        check_writer(lab, outcome)

    lab.sweep(scenario, lab.points(scenario, per_call=30), KILL, check)


@pytest.mark.parametrize("part", range(3))
def test_a_run_survives_a_kill_while_it_finishes(lab: Any, part: int) -> None:
    """It has finished whole, or crashed whole: rows, summary, console and files."""
    inside = 0

    def check(outcome: Any) -> None:
        nonlocal inside
        if outcome.stage < 2:  # a thread made more calls than in the trace
            check_writer(lab, outcome)
            return
        inside += 1
        assert outcome.rows == 20
        with wanllmdb.Api(outcome.store) as api:
            run = api.run("p/r")
            ends = ["finished"] if outcome.stage == 3 else ["finished", "crashed"]
            assert run.state in ends
            lab.check_rows(run, 20)
            assert run.summary["note"] == "by hand"
            assert [line.text for line in run.logs()] == ["first line", "last line"]
            saved = outcome.store.with_suffix(".txt").name
            files = {file.name: file.read() for file in run.files()}
            assert files == {"model.txt": b"weights", saved: b"data"}
        lab.check_sound(outcome.store)
        lab.check_goes_on(outcome.store, range(20))

    points = lab.points("finish", WANLLMDB_CONSOLE="1")[part::3]
    lab.sweep("finish", points, KILL, check, WANLLMDB_CONSOLE="1")
    assert inside > len(points) / 2


@pytest.mark.parametrize("part", range(2))
def test_recovery_survives_a_kill(lab: Any, part: int) -> None:
    """The next reader finds the run crashed and whole, however far the first came."""

    def check(outcome: Any) -> None:
        with wanllmdb.Api(outcome.store) as api:
            (run,) = api.runs()
            assert run.state == "crashed"
            lab.check_rows(run, 120)
            assert run.file("model.txt").read() == b"weights"
            assert run.config == {"lr": 0.1}
            events = [event.kind for event in run.events]
            assert events.count("crash") == 1
        lab.check_sound(outcome.store)
        lab.check_goes_on(outcome.store, range(120))

    points = lab.points("recovery", template=True)[part::2]
    lab.sweep("recovery", points, KILL, check, template=True)


@pytest.mark.parametrize("part", range(3))
def test_a_resumed_run_survives_a_second_kill(lab: Any, part: int) -> None:
    """Rows of both attempts are kept, and of config and tags all that was said."""

    def check(outcome: Any) -> None:
        with wanllmdb.Api(outcome.store) as api:
            run = api.run("p/r")
            assert run.state == "crashed"
            count = lab.check_rows(run, outcome.rows)
            old, new = {"lr": 0.1}, {"lr": 0.1, "again": True}
            assert run.config in ([new] if outcome.stage else [old, new])
            assert set(run.tags) <= {"old", "new"}
            assert set(run.tags) == {"old", "new"} or not outcome.stage
        lab.check_sound(outcome.store)
        lab.check_goes_on(outcome.store, range(count))

    points = lab.points("resumption", template=True)[part::3]
    lab.sweep("resumption", points, KILL, check, template=True)


def edited(lab: Any) -> list[tuple[bool, list[dict[str, Any]]]]:
    """Whether the run is in the trash, and its rows, after each stage of `edits`."""
    whole = [lab.row(n) for n in range(120)]
    return [
        (False, whole), (True, whole), (False, whole), (False, whole[:10]),
        (False, [*whole[:10], {"n": "anew"}]), (False, [*whole[:10], {"n": "anew"}]),
        (False, whole), (False, whole),
    ]  # fmt: skip


@pytest.mark.parametrize("part", range(4))
def test_delete_restore_and_rewind_survive_a_kill(lab: Any, part: int) -> None:
    """Each of them has happened or has not; no row is ever lost by it."""
    states = edited(lab)

    def check(outcome: Any) -> None:
        with wanllmdb.Api(outcome.store) as api:
            shown, hidden = api.runs(), api.runs(deleted=True)
            (run,) = [*shown, *hidden]
            found = (bool(hidden), lab.rows_of(run))
            assert repr(found) in map(repr, states[outcome.stage : outcome.stage + 2])
            if hidden:
                run.restore()
            if len(run.epochs) > 1 and run.epochs[-1].reverted_us is None:
                run.restore_epoch(1)
            lab.check_rows(api.run("p/r"), 120)
        lab.check_sound(outcome.store)
        lab.check_goes_on(outcome.store, range(120))

    points = lab.points("edits", template=True)[part::4]
    lab.sweep("edits", points, KILL, check, template=True)


def test_enough_points_are_tried(lab: Any) -> None:
    """All sweeps together kill more than two hundred times, each more than a few."""
    scenarios = {
        "first_run": False, "rotation": False, "rotation_into_a_spare": False,
        "finish": False, "recovery": True, "resumption": True, "edits": True,
    }  # fmt: skip
    counts = {
        name: len(lab.points(name, template=template, per_call=9))
        for name, template in scenarios.items()
    }
    assert min(counts.values()) >= 5, counts
    assert sum(counts.values()) >= 200, counts
