"""Step: the cursor, and rows of one step."""

from __future__ import annotations

import pytest

import wanllmdb


def test_rows_are_written_at_once_whatever_commit_says(start, api, rows):
    """A row with commit=False is there for others, and survives kill -9."""
    child = start("""
run = wandb.init(id="r")
run.log({"a": 1}, commit=False)
run.log({"b": 2}, step=0)
reach("logged")
wait("never")
""")
    child.reached("logged")
    assert rows(api.run("r"), "a", "b") == [(0, 1, 2)]
    child.signal(9)
    child.end()
    assert rows(api.run("r"), "a", "b") == [(0, 1, 2)]


def test_an_empty_log_moves_the_step_and_writes_nothing(api, rows):
    """log({}) is W&B's way to commit; commit=False on it does nothing at all."""
    with wanllmdb.init() as run:
        run.log({})
        assert run.step == 1
        run.log({}, commit=False)
        assert run.step == 1
        run.log({"a": 1})
    assert rows(api.run(run.path), "a") == [(1, 1)]


def test_only_log_moves_the_step(api, rows, tmp_path):
    """Watch, capture, save, alert, messages and summary never move it."""
    (tmp_path / "f.txt").write_text("x")
    with wanllmdb.init(capture_logs=True, monitor_interval=0.01) as run:
        run.log({"a": 1})
        with pytest.warns(wanllmdb.WanllmdbWarning, match="watch"):
            run.watch(object())
        print("a line")
        run.save(str(tmp_path / "f.txt"))
        run.alert("t", "x")
        run.log_message("m")
        run.summary["s"] = 2
        assert run.step == 1
    assert rows(api.run(run.path), "a") == [(0, 1)]


def test_an_array_scalar_is_a_step(api, rows):
    """Steps of NumPy are steps, also integral floats."""
    import numpy as np

    with wanllmdb.init() as run:
        run.log({"a": 1}, step=np.int64(3))
        run.log({"a": 2}, step=np.float32(5))
        assert run.step == 5
    assert rows(api.run(run.path), "a") == [(3, 1), (5, 2)]


def test_backward_steps_warn_once_and_keep_the_cursor(api, rows):
    """Each is stored at s, c stays, and only the first one is told."""
    run = wanllmdb.init()
    run.log({"a": 1}, step=10, commit=True)
    with pytest.warns(wanllmdb.WanllmdbWarning, match="behind"):
        run.log({"a": 3}, step=3, commit=True)
    for step in (4, -1):
        run.log({"a": step}, step=step, commit=True)
    assert run.step == 11
    run.finish()
    assert rows(api.run(run.path), "a") == [(-1, -1), (3, 3), (4, 4), (10, 1)]


def test_resume_begins_after_the_last_visible_row(api, rows):
    """Rows that a rewind superseded do not count."""
    with wanllmdb.init(id="r") as run:
        for value in range(10):
            run.log({"a": value})
    wanllmdb.init(resume_from="r?_step=3").finish()
    with wanllmdb.init(id="r", resume="must") as run:
        assert run.step == run.starting_step == 4
        run.log({"a": 40})
    assert rows(api.run("r"), "a")[-2:] == [(3, 3), (4, 40)]


def test_resume_after_explicit_steps_begins_behind_the_greatest(api):
    """An open row at an explicit step counts as the last one."""
    run = wanllmdb.init(id="r")
    run.log({"a": 1}, step=50)
    with pytest.warns(wanllmdb.WanllmdbWarning, match="behind"):
        run.log({"a": 1}, step=7)
    run.finish()
    with wanllmdb.init(id="r", resume="allow") as run:
        assert run.step == 51


def test_rows_of_one_step_merge_per_key_the_last_wins(api, rows):
    """Also where they are not neighbours in the log."""
    run = wanllmdb.init()
    run.log({"a": 1, "b": 1}, step=0)
    run.log({"a": 5}, step=5)
    with pytest.warns(wanllmdb.WanllmdbWarning, match="behind"):
        run.log({"b": 2, "c": 3}, step=0)
    run.finish()
    found = rows(api.run(run.path), "a", "b", "c")
    assert found == [(0, 1, 2, 3), (5, 5, None, None)]


def test_statistics_count_the_merged_rows(api):
    """A value that a later one of the same step replaced is in no statistic."""
    run = wanllmdb.init()
    run.log({"a": 100}, step=0)
    run.log({"a": 5}, step=5)
    with pytest.warns(wanllmdb.WanllmdbWarning, match="behind"):
        run.log({"a": 1}, step=0)
    run.finish()
    stats = api.run(run.path).keys["a"]
    assert (stats.count, stats.max) == (2, 5)


def test_the_writer_column_tells_writers_apart(api, ok):
    """history(writers="primary") leaves out the others' rows."""
    run = wanllmdb.init(id="r", shared=True)
    run.log({"a": 1})
    ok("r = wandb.init(id='r', shared=True); r.log({'a': 2}, step=0); r.finish()")
    run.finish()
    found = api.run("r").history()
    assert sorted(found["a"].to_pylist()) == [1, 2]
    writers = found["_writer"].to_pylist()
    assert "primary" in writers
    assert len(set(writers)) == 2
    (row,) = api.run("r").history(writers="primary")
    assert (row["a"], row["_writer"]) == (1, "primary")
