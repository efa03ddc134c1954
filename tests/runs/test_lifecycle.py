"""Runs: beginning, end, resume, rewind, fork, and what the module shows."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading

import pytest

import wanllmdb
from wanllmdb.errors import (
    InvalidMetricError,
    NoActiveRunError,
    RunActiveError,
    RunExistsError,
    RunFinishedError,
    RunNotFoundError,
)


def rows(run, *keys):
    """History as (step, value of each key)."""
    found = run.scan_history()
    return [(r["_step"], *(r.get(key) for key in keys)) for r in found]


def script(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", "import wanllmdb, os, sys\n" + code],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_what_was_logged_comes_back_exactly(api):
    """NaN, inf, -0.0, big ints, bools and text come back with value and type."""
    values = {
        "nan": math.nan, "inf": math.inf, "zero": -0.0, "tiny": 5e-324,
        "int": 2**53 + 1, "big": 2**63, "huge": 10**400, "bool": True, "text": "é\n",
    }  # fmt: skip
    with wanllmdb.init() as run:
        run.log(values)
    (row,) = api.run(run.path).scan_history()
    assert math.isnan(row.pop("nan"))
    assert math.copysign(1, row["zero"]) == -1
    for key, value in row.items():
        if not key.startswith("_"):
            assert (value, type(value)) == (values[key], type(values[key]))


def test_module_attributes_follow_the_active_run():
    """`run`, `config` and `summary` of the module are those of the active run."""
    assert wanllmdb.run is None
    run = wanllmdb.init(config={"lr": 0.1})
    assert wanllmdb.run is run
    assert wanllmdb.config.lr == 0.1
    wanllmdb.log({"a": 1})
    assert wanllmdb.summary["a"] == 1
    wanllmdb.finish()
    assert wanllmdb.run is None


def test_log_without_a_run_says_what_to_do():
    """A module-level log needs init first."""
    with pytest.raises(NoActiveRunError, match="init"):
        wanllmdb.log({"a": 1})


def test_log_after_finish_raises_and_a_second_finish_does_nothing():
    """A finished run takes no more rows."""
    run = wanllmdb.init()
    run.finish()
    run.finish()
    with pytest.raises(RunFinishedError):
        run.log({"a": 1})


@pytest.mark.parametrize("bad", ["x", [1], None, 3])
def test_log_of_no_mapping_raises_a_type_error(bad):
    """What is no mapping is refused with the type's name."""
    run = wanllmdb.init()
    with pytest.raises(InvalidMetricError, match=type(bad).__name__):
        run.log(bad)
    assert issubclass(InvalidMetricError, TypeError)


def test_backward_steps_are_kept_with_one_warning(api):
    """A step behind the cursor is stored where it says."""
    run = wanllmdb.init()
    run.log({"a": 1}, step=5)
    with pytest.warns(wanllmdb.WanllmdbWarning, match="behind"):
        run.log({"a": 2}, step=3)
    run.log({"a": 3}, step=2)
    run.finish()
    assert rows(api.run(run.path), "a") == [(2, 3), (3, 2), (5, 1)]


@pytest.mark.parametrize("step", [True, "3", 1.5, math.nan, 2**70])
def test_what_is_no_step_falls_back_to_the_cursor(step, api):
    """Training goes on, nothing is lost, and a warning names the value."""
    run = wanllmdb.init()
    with pytest.warns(wanllmdb.WanllmdbWarning, match="no step"):
        run.log({"a": 1}, step=step)
    run.finish()
    assert rows(api.run(run.path), "a") == [(0, 1)]


def test_resume_goes_on_after_the_last_step(api):
    """`resume="must"` continues steps, config and summary."""
    with wanllmdb.init(id="r", config={"a": 1}) as run:
        run.log({"x": 1})
        run.log({"x": 2})
    with wanllmdb.init(id="r", resume="must", config={"b": 2}) as run:
        assert (run.step, run.resumed) == (2, True)
        assert run.summary["x"] == 2
        run.log({"x": 3})
    found = api.run("r")
    assert rows(found, "x") == [(0, 1), (1, 2), (2, 3)]
    assert found.config == {"a": 1, "b": 2}
    assert found.keys["x"].count == 3


def test_same_id_without_resume_supersedes_and_can_be_restored(api):
    """The earlier rows are hidden, kept, and come back."""
    for value in (1, 2):
        with wanllmdb.init(id="r") as run:
            run.log({"x": value})
    found = api.run("r")
    assert rows(found, "x") == [(0, 2)]
    found.restore_epoch(1)
    assert rows(api.run("r"), "x") == [(0, 1)]


def test_resume_words(api):
    """`never` refuses an existing run, `must` a missing one, `allow` takes both."""
    wanllmdb.init(id="r", resume="allow").finish()
    wanllmdb.init(id="r", resume="allow").finish()
    with pytest.raises(RunExistsError):
        wanllmdb.init(id="r", resume="never")
    with pytest.raises(RunNotFoundError):
        wanllmdb.init(id="missing", resume="must")


def test_rewind_supersedes_later_rows(api):
    """`resume_from` keeps rows up to its step and goes on after it."""
    with wanllmdb.init(id="r") as run:
        for value in range(5):
            run.log({"x": value})
    with wanllmdb.init(resume_from="r?_step=2") as run:
        run.log({"x": 30})
    found = api.run("r")
    assert rows(found, "x") == [(0, 0), (1, 1), (2, 2), (3, 30)]
    assert (found.keys["x"].count, found.keys["x"].max) == (4, 30)


def test_fork_is_not_changed_by_what_the_parent_does_later(api):
    """A fork shows the parent's rows as they were when it was made."""
    with wanllmdb.init(id="parent") as run:
        for value in range(4):
            run.log({"x": value})
    with wanllmdb.init(id="child", fork_from="parent?_step=1") as run:
        run.log({"x": 10})
    with wanllmdb.init(resume_from="parent?_step=0") as run:
        run.log({"x": 99})
    assert rows(api.run("child"), "x")[0] == (0, 0)
    assert rows(api.run("child"), "x")[-1] == (2, 10)
    assert rows(api.run("parent"), "x") == [(0, 0), (1, 99)]


def test_a_second_process_is_refused_with_host_and_pid():
    """A run has one writer, unless it is shared on purpose."""
    run = wanllmdb.init(id="r")
    done = script("wanllmdb.init(id='r', resume='allow')")
    assert "RunActiveError" in done.stderr
    assert str(os.getpid()) in done.stderr
    run.finish()
    assert RunActiveError.exit_code == 4


def test_shared_writers_keep_their_rows_apart(api):
    """Rows of different writers never merge."""
    run = wanllmdb.init(id="r", shared=True)
    run.log({"x": 1})
    code = "r = wanllmdb.init(id='r', shared=True); r.log({'x': 2}, step=0); r.finish()"
    done = script(code)
    assert done.returncode == 0, done.stderr
    run.finish()
    found = api.run("r")
    assert sorted(rows(found, "x")) == [(0, 1), (0, 2)]
    assert len(found.history(writers="primary")) == 1
    assert found.state == "finished"


@pytest.mark.parametrize(
    ("code", "state", "exit_code"),
    [
        ("", "finished", 0),
        ("raise ValueError('boom')", "failed", 1),
        ("sys.exit(3)", "failed", 3),
        ("sys.exit(0)", "finished", 0),
        ("raise KeyboardInterrupt", "killed", 130),
        ("try:\n  raise ValueError\nfinally:\n  wanllmdb.finish()", "failed", 1),
        ("os.kill(os.getpid(), 9)", "crashed", None),
        ("os._exit(0)", "crashed", None),
    ],
)
def test_states_at_the_end(code, state, exit_code, api):
    """How the process ended decides the run's state; its rows are all there."""
    script(f"wanllmdb.init(id='r').log({{'x': 1}})\n{code}")
    found = api.run("r")
    assert (found.state, found.record.exit_code) == (state, exit_code)
    assert rows(found, "x") == [(0, 1)]
    assert found.summary["x"] == 1


def test_a_forked_child_logs_to_a_stream_of_its_own(api):
    """A fork's rows are kept beside the parent's, and end nothing."""
    code = """
run = wanllmdb.init(id='r')
run.log({'x': 1})
if os.fork() == 0:
    run.log({'x': 2})
    os._exit(0)
os.wait()
run.log({'x': 3})
run.finish()
"""
    done = script(code)
    assert done.returncode == 0, done.stderr
    found = api.run("r")
    assert sorted(rows(found, "x")) == [(0, 1), (1, 2), (1, 3)]
    assert found.state == "finished"


def test_threads_lose_nothing(api):
    """Four threads log 500 rows each."""
    run = wanllmdb.init()

    def work(number):
        for value in range(500):
            run.log({f"t{number}": value})

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run.finish()
    stats = api.run(run.path).keys
    assert [stats[f"t{n}"].count for n in range(4)] == [500] * 4


def test_a_signal_handler_may_log(api):
    """log() inside log() is deferred, never dead-locked."""
    run = wanllmdb.init()
    hits = []

    def handler(*_):
        hits.append(1)
        run.log({"signal": len(hits)})

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        for value in range(20_000):
            run.log({"x": value})
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    run.finish()
    stats = api.run(run.path).keys
    assert stats["x"].count == 20_000
    assert stats["signal"].count == len(hits) > 0


def test_disabled_mode_creates_nothing(store):
    """Config and summary behave; no file appears."""
    run = wanllmdb.init(mode="disabled", config={"a": 1})
    run.log({"x": 2})
    assert (run.config.a, run.summary["x"]) == (1, 2)
    run.finish()
    assert not store.exists()


def test_reading_inside_the_training_process_harms_nothing(store, api):
    """Api, history and a copy and hash of the live files leave the run running."""
    import hashlib

    run = wanllmdb.init(id="r")
    for value in range(100):
        run.log({"x": value})
        if value % 20 == 0:
            assert len(api.run("r").history()) == value + 1
            for path in (store / "live").rglob("*"):
                if path.is_file():
                    hashlib.sha256(path.read_bytes()).hexdigest()
    done = script("print(wanllmdb.Api().run('r').state)")
    assert done.stdout.strip() == "running"
    run.finish()
    assert len(rows(api.run("r"), "x")) == 100


def test_files_of_save_and_of_run_dir_are_kept(tmp_path, monkeypatch, api):
    """save() copies at once; run.dir is taken at the end."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("first")
    run = wanllmdb.init()
    assert run.save("a.txt", policy="live") == [str(tmp_path / "a.txt")]
    (tmp_path / "a.txt").write_text("second, longer")
    with open(f"{run.dir}/b.bin", "wb") as file:
        file.write(b"\x00\x01")
    run.finish()
    found = {f.name: f.read() for f in api.run(run.path).files()}
    assert found == {"a.txt": b"second, longer", "b.bin": b"\x00\x01"}


def test_alerts_are_stored_and_observed(api):
    """An alert is stored, and observers hear of it."""
    heard = []
    wanllmdb.on("alert", heard.append)
    with wanllmdb.init() as run:
        run.alert("diverged", "loss is inf", level=wanllmdb.AlertLevel.ERROR)
    (alert,) = api.run(run.path).alerts
    assert (alert.title, alert.level) == ("diverged", "ERROR")
    assert heard[-1].title == "diverged"


def test_disk_full_warns_once_and_counts_the_loss(api, monkeypatch):
    """A disk that refuses does not stop training; the run says how much is lost."""
    run = wanllmdb.init(id="r")
    run.log({"x": 0})
    real = os.write

    def full(fd, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("wanllmdb._metrics.writer.write", full)
    with pytest.warns(wanllmdb.WanllmdbWarning, match="could not be written"):
        run.log({"x": 1})
    run.log({"x": 2})
    monkeypatch.setattr("wanllmdb._metrics.writer.write", real)
    run.log({"x": 3})
    run.finish()
    found = api.run("r")
    assert rows(found, "x") == [(0, 0), (3, 3)]
    assert found.dropped_rows == 2


def test_keys_of_a_hundred_thousand_shapes_stay_exact(api):
    """More shapes than a segment defines fall back to JSON rows."""
    with wanllmdb.init() as run:
        for index in range(1500):
            run.log({f"k{index}": index})
    stats = api.run(run.path).keys
    assert len(stats) == 1500
    assert stats["k1499"].last == 1499


def test_eight_processes_open_a_fresh_store_at_once(api):
    """One creates, seven wait; no run is lost."""
    code = "r = wanllmdb.init(); r.log({'x': 1}); r.finish()"
    children = [
        subprocess.Popen([sys.executable, "-c", f"import wanllmdb\n{code}"])
        for _ in range(8)
    ]
    assert [child.wait(60) for child in children] == [0] * 8
    assert [run.state for run in api.runs()] == ["finished"] * 8


def test_numpy_scalars_and_arrays_keep_their_numbers(api):
    """NumPy scalars are numbers, small arrays lists, large ones histograms."""
    import numpy as np

    with wanllmdb.init() as run:
        run.log({
            "f": np.float32(0.5), "i": np.int64(7), "u": np.uint64(2**64 - 1),
            "b": np.bool_(True), "zero": np.array(2.5), "one": np.array([3]),
            "small": np.arange(3), "large": np.arange(100.0),
        })  # fmt: skip
    (row,) = api.run(run.path).scan_history()
    assert (row["f"], row["i"], row["u"], row["b"]) == (0.5, 7, 2**64 - 1, True)
    assert (row["zero"], row["one"], row["small"]) == (2.5, 3, [0, 1, 2])
    assert sum(row["large"]["values"]) == 100


def test_odd_keys_round_trip_or_are_refused_by_name(api):
    """Quotes, emoji and dots are data; NUL, surrogates and reserved keys are not."""
    good = ['a"b', "x';--", "é", "\U0001f600", "a/b", "loss#i", "Loss", "loss"]
    run = wanllmdb.init()
    run.log({key: index for index, key in enumerate(good)})
    for bad in ("", "\0", "\ud800", "_step"):
        with pytest.warns(wanllmdb.WanllmdbWarning, match="left out"):
            run.log({bad: 1, "kept": 1})
    run.finish()
    keys = api.run(run.path).keys
    assert [keys[key].last for key in good] == list(range(len(good)))
    assert keys["kept"].count == 4
