"""Odd steps and ends (rows 14, 23-29): where rows land, and how runs end."""

from __future__ import annotations

import decimal
import math
import signal
import subprocess
import sys

import numpy as np  # noqa: TID253 - the inputs under test
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import wanllmdb
from wanllmdb.errors import InvalidInputError, InvalidMetricError, RunActiveError

MANY_DIGITS = 10**5000


def rows_of(api, run, *keys):
    """History as (step, value of each key)."""
    found = api.run(run.path).scan_history()
    return [(row["_step"], *(row.get(key) for key in keys)) for row in found]


def log_all(run, rows, **options):
    """Log rows one after the other."""
    for row in rows:
        run.log(row, **options)


def test_an_empty_row_moves_the_step_and_writes_nothing(api):
    """Row 14: log({}) counts as a step; with commit=False it does nothing."""
    with wanllmdb.init() as run:
        log_all(run, [{}, {"x": 1}, {}, {"x": 2}])
        run.log({}, commit=False)
        run.log({"x": 3})
        run.log({}, step=9)
        assert run.step == 9
    assert rows_of(api, run, "x") == [(1, 1), (3, 2), (4, 3)]


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@pytest.mark.filterwarnings("ignore::wanllmdb.WanllmdbWarning")
@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3), min_size=1))
def test_every_step_is_kept_where_it_says(steps):
    """Rows 23-26: any order, sign and gap; per step the last value wins."""
    with wanllmdb.init() as run:
        for number, step in enumerate(steps):
            run.log({"x": number, f"at {number}": 1}, step=step)
    wanted = {step: number for number, step in enumerate(steps)}
    with wanllmdb.Api() as api:
        assert rows_of(api, run, "x") == sorted(wanted.items())
        assert len(api.run(run.path).keys) == len(steps) + 1
        assert api.run(run.path).last_step == max(steps)


def test_steps_that_go_backwards_warn_once_and_move_nothing(api):
    """Row 23: the rows are kept there, and the cursor stays where it was."""
    run = wanllmdb.init()
    run.log({"x": 0}, step=5)
    with pytest.warns(wanllmdb.WanllmdbWarning, match="behind") as caught:
        log_all(run, [{"x": 1}, {"y": 2}], step=3)
    assert (len(caught), run.step) == (1, 5)
    run.log({"x": 3})
    run.finish()
    assert rows_of(api, run, "x", "y") == [(3, 1, 2), (5, 3, None)]


@pytest.mark.parametrize(
    ("step", "at"),
    [(3.0, 3), (np.int64(3), 3), (np.float32(3), 3), (np.array(3), 3),
     (np.array([3]), 3), (2**63 - 1, 2**63 - 1), (np.uint64(3), 3)],
    ids=repr,
)  # fmt: skip
def test_what_is_an_int_is_a_step(step, at, api):
    """Row 24: whole floats and array scalars are taken at their number."""
    with wanllmdb.init() as run:
        run.log({"x": 1}, step=step)
        assert (run.step, type(run.step)) == (at, int)
    assert rows_of(api, run, "x") == [(at, 1)]


@pytest.mark.parametrize("step", [-1, -(2**63)])
def test_a_negative_step_is_kept_with_the_warning_of_a_backward_one(step, api):
    """Row 24: it is behind the first cursor, which is 0."""
    run = wanllmdb.init()
    with pytest.warns(wanllmdb.WanllmdbWarning, match="behind"):
        run.log({"x": 1}, step=step)
    run.log({"x": 2})
    run.finish()
    assert rows_of(api, run, "x") == [(step, 1), (0, 2)]


NO_STEPS = [
    True, "3", 1.5, math.nan, math.inf, 2**63, -(2**70), b"3", object(), [3],
    np.bool_(True), np.array([1, 2]), np.array("3"), MANY_DIGITS, np.float64(0.5),
    decimal.Decimal("1.5"), 1j,
]  # fmt: skip


@pytest.mark.parametrize("step", NO_STEPS, ids=lambda step: type(step).__name__)
def test_what_is_no_step_is_stored_at_the_cursor_with_one_warning(step, api):
    """Row 24: training goes on, and no row is lost."""
    run = wanllmdb.init()
    run.log({"x": 0})
    with pytest.warns(wanllmdb.WanllmdbWarning, match="no step") as caught:
        log_all(run, [{"x": 1}, {"y": 2}], step=step)
    assert len(caught) == 1
    run.finish()
    assert rows_of(api, run, "x", "y") == [(0, 0, None), (1, 1, 2)]


@pytest.mark.parametrize("step", NO_STEPS, ids=lambda step: type(step).__name__)
def test_what_is_no_step_raises_in_strict_mode(step):
    """Row 24: strict=True raises for it."""
    run = wanllmdb.init(strict=True)
    with pytest.raises(InvalidMetricError, match="step"):
        run.log({"x": 1}, step=step)


def test_rows_of_one_step_merge_and_the_last_value_wins(api):
    """Row 25: other keys join, the same key is replaced, in table and sums."""
    with wanllmdb.init() as run:
        log_all(run, [{"a": 1}, {"b": 2}, {"a": 3}, {"a": 4, "c": "t"}], step=7)
        run.log({"a": 9}, step=8)
    assert rows_of(api, run, "a", "b", "c") == [(7, 4, 2, "t"), (8, 9, None, None)]
    stats = api.run(run.path).keys["a"]
    assert (stats.count, stats.min, stats.max, stats.mean) == (2, 4, 9, 6.5)


def test_a_huge_gap_allocates_nothing(store, api):
    """Row 26: steps 0 and 10^12 are two rows, on disk as in memory."""
    with wanllmdb.init() as run:
        run.log({"x": 1}, step=0)
        run.log({"x": 2}, step=10**12)
    assert rows_of(api, run, "x") == [(0, 1), (10**12, 2)]
    assert len(api.run(run.path).history(samples=10)) == 2
    assert sum(f.stat().st_size for f in store.rglob("*") if f.is_file()) < 1 << 20


def test_a_second_init_returns_the_run_and_says_what_it_ignored(api):
    """Row 28: one run, one warning that names the arguments."""
    run = wanllmdb.init(id="one")
    with pytest.warns(wanllmdb.WanllmdbWarning, match="config, id") as caught:
        again = wanllmdb.init(id="two", config={"a": 1})
    assert again is run
    assert len(caught) == 1
    run.finish()
    assert [found.id for found in api.runs()] == ["one"]


@pytest.mark.parametrize("reinit", [True, "finish_previous"])
def test_reinit_finishes_the_previous_run(reinit, api):
    """Row 28: the module goes on with the new one."""
    first = wanllmdb.init(id="first")
    wanllmdb.log({"x": 1})
    second = wanllmdb.init(id="second", reinit=reinit)
    wanllmdb.log({"x": 2})
    second.finish()
    assert api.run("first").state == "finished"
    assert (rows_of(api, first, "x"), rows_of(api, second, "x")) == ([(0, 1)], [(0, 2)])


def test_runs_made_beside_each_other_do_not_mix(api):
    """Row 28: create_new leaves the module's run alone; rows go where they are sent."""
    first = wanllmdb.init(id="first", config={"who": 1})
    second = wanllmdb.init(id="second", config={"who": 2}, reinit="create_new")
    for step in range(3):
        wanllmdb.log({"x": step})
        second.log({"x": -step})
    second.finish()
    assert wanllmdb.run is first
    first.finish()
    assert rows_of(api, first, "x") == [(0, 0), (1, 1), (2, 2)]
    assert rows_of(api, second, "x") == [(0, 0), (1, -1), (2, -2)]
    assert [api.run(name).config["who"] for name in ("first", "second")] == [1, 2]


def test_an_unknown_reinit_is_refused_and_leaves_no_run(store):
    """Row 28: the words are named; nothing is created."""
    with pytest.raises(InvalidInputError, match="create_new"):
        wanllmdb.init(reinit="again")
    assert not store.exists()


def test_only_the_outermost_with_finishes(api):
    """Row 28: nested `with init()` is one run until the outer block ends."""
    with wanllmdb.init(id="r") as run:
        with wanllmdb.init() as inner:
            inner.log({"x": 1})
        assert api.run("r").state == "running"
        run.log({"x": 2})
    assert api.run("r").state == "finished"
    assert rows_of(api, run, "x") == [(0, 1), (1, 2)]


def test_another_process_is_refused_by_name(api):
    """Row 28: RunActiveError there, and nothing changes here."""
    run = wanllmdb.init(id="r")
    code = "import wanllmdb\nwanllmdb.init(id='r')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert RunActiveError.__name__ in done.stderr
    run.log({"x": 1})
    run.finish()
    assert rows_of(api, run, "x") == [(0, 1)]


class Unspeakable(Exception):
    def __str__(self):
        message = "no text"
        raise RuntimeError(message)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("boom é \U0001f600"), "ValueError: boom é \U0001f600"),
        (ValueError("many\nlines\x1b[31m"), "ValueError: many\nlines\x1b[31m"),
        (FileNotFoundError(2, "No such file", "data/\udcff.bin"), "FileNotFoundError"),
        (ValueError("half \ud800"), "ValueError"),
        (ValueError("a\0b"), "ValueError"),
        (Unspeakable(), "Unspeakable"),
        (ValueError("x" * 3_000_000), "ValueError"),
    ],
    ids=["text", "control", "path", "surrogate", "NUL", "unspeakable", "long"],
)
def test_an_exception_in_the_block_fails_the_run_and_goes_on(error, text, api):
    """Row 29: the state is failed, the text is stored, the very error propagates."""
    run = wanllmdb.init(id="r")
    run.log({"x": 1})
    with pytest.raises(type(error)) as caught, run:
        raise error
    assert caught.value is error
    found = api.run("r")
    assert (found.state, found.record.exit_code) == ("failed", 1)
    assert found.record.error.startswith(text)
    assert rows_of(api, run, "x") == [(0, 1)]


def test_an_uncaught_exception_with_an_odd_text_fails_the_run(api):
    """Row 29: without `with`, the hook of the interpreter does the same."""
    code = "import wanllmdb\nwanllmdb.init(id='r')\nraise ValueError('\\udcff')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert "ValueError" in done.stderr
    assert (api.run("r").state, done.returncode) == ("failed", 1)


@pytest.mark.parametrize(
    ("error", "state", "code"),
    [(KeyboardInterrupt, "killed", 130), (SystemExit(0), "finished", 0),
     (SystemExit(3), "failed", 3), (SystemExit("text"), "failed", 1),
     (GeneratorExit, "failed", 1)],
    ids=["ctrl-c", "exit 0", "exit 3", "exit text", "generator"],
)  # fmt: skip
def test_other_ends_of_the_block_have_their_own_state(error, state, code, api):
    """Row 29: an interrupt is killed, SystemExit counts as its code says."""
    with pytest.raises(BaseException), wanllmdb.init(id="r"):  # noqa: B017, PT011
        raise error
    found = api.run("r")
    assert (found.state, found.record.exit_code) == (state, code)


def test_ctrl_c_in_a_script_ends_the_run_as_killed(api):
    """Row 29: a real SIGINT; rows are there, and Python's own words are last."""
    code = """
import os, signal, wanllmdb
with wanllmdb.init(id="r") as run:
    run.log({"x": 1})
    os.kill(os.getpid(), signal.SIGINT)
    while True: pass
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGINT
    assert done.stderr.strip().endswith("KeyboardInterrupt")
    assert api.run("r").state == "killed"
