"""What one laptop did, another one has after both have synced."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from laptops import Laptop, check_equal, plain_rows, quieten

import wanllmdb


def test_a_pull_gives_an_equal_store(a: Laptop, b: Laptop, tmp_path: Path) -> None:
    """Runs, rows, logs, files, alerts, versions, lineage, models: all of it."""
    saved = tmp_path / "weights.txt"
    saved.write_text("w" * 1000)
    run = a.begin(
        id="r", config={"lr": 0.1, "deep": {"x": [1, None]}}, tags=["x", "y"],
        notes="noted", group="g", job_type="j",
    )  # fmt: skip
    run.define_metric("loss", summary="min")
    for n in range(50):
        run.log({"loss": 1 / (n + 1), "n": n, "text": f"t{n}", "even": n % 2 == 0})
    run.log_message("hello")
    run.alert("bad", "worse")
    run.save(str(saved), policy="now")
    run.summary["by_hand"] = [1, {"a": math.pi}]
    draft = wanllmdb.Artifact("data", type="dataset", metadata={"m": 1})
    draft.add_file(str(saved))
    made = run.log_artifact(draft, aliases=["best"])
    made.tags = ["t"]
    run.finish()
    used = a.begin(id="s")
    used.use_artifact("data:best")
    used.finish()
    with a.api():
        registry = wanllmdb.ModelRegistry(a.store)
        registry.link("p/data:v1", "m", aliases=["good"])
        registry.transition_stage("m", 1, "staging")
    assert a.push().pushed["run"] == 2
    b.pull(full=True)
    check_equal(a, b)
    with b.api() as api:
        assert api.run("p/r").file("weights.txt").read() == b"w" * 1000
        place = api.artifact("p/data:best").download(str(tmp_path / "out"))
    assert (Path(place) / "weights.txt").read_text() == "w" * 1000


def test_a_second_sync_writes_and_reads_nothing(a: Laptop, b: Laptop) -> None:
    """Twice is once, on either side."""
    a.run("r")
    a.commit("one", aliases=["x"])
    a.sync()
    b.sync()
    quieten(a, b, rounds=1)


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, -math.inf, -0.0, 2**53 + 1, -(2**63), 2**63 - 1, 2**80, True,
     "ünï\u2028", "", "x" * 100_000, [1, "a", None], 5e-324],
    ids=str,
)  # fmt: skip
def test_odd_values_arrive_bit_for_bit(a: Laptop, b: Laptop, value: Any) -> None:
    """Rows, config and summary hold on the second laptop what they held."""
    a.run("r", [{"v": value}, {"v": 1}, {"v": value}], config={"c": value})
    with a.api() as api:
        rows = [repr(row) for row in plain_rows(api.run("p/r"))]
    a.push()
    b.pull(full=True)
    check_equal(a, b)
    with b.api() as api:
        assert [repr(row) for row in plain_rows(api.run("p/r"))] == rows


@pytest.mark.slow
def test_a_large_config_and_many_keys_arrive(a: Laptop, b: Laptop) -> None:
    """What the Catalog spills to a blob, or packs, is no less synced."""
    config = {f"k{n}": "v" * 1000 for n in range(2000)}
    a.run("r", [{f"m{n}": n / 7 for n in range(10_000)}] * 2, config=config)
    a.push()
    b.pull()
    check_equal(a, b, views=False)  # which are slow with so many
    with b.api() as api:
        assert api.run("p/r").config == config


def test_a_live_run_grows_elsewhere_row_by_row(a: Laptop, b: Laptop) -> None:
    """Pushed in the middle, again later, and finished: no row is lost or doubled."""
    run = a.begin(id="r")
    for n in range(10):
        run.log({"n": n})
    a.push()
    b.pull()
    assert b.runs["p/r"] == [{"n": n} for n in range(10)]
    for n in range(10, 25):
        run.log({"n": n})
    a.push()
    b.pull()
    assert b.runs["p/r"] == [{"n": n} for n in range(25)]
    run.log({"n": 25})
    run.finish()
    a.push()
    b.pull()
    check_equal(a, b)
    assert b.runs["p/r"] == [{"n": n} for n in range(26)]
    quieten(a, b, rounds=1)


def test_a_second_laptop_goes_on_with_everything(a: Laptop, b: Laptop) -> None:
    """It resumes the run, makes a version, moves an alias, and pushes it all back."""
    a.run("r", 3, config={"lr": 1})
    a.commit("one", aliases=["best"], id="maker")
    a.sync()
    b.sync()
    run = b.begin(id="r", resume="must")
    assert run.step == 3
    run.log({"loss": 9.0, "n": 3})
    run.finish()
    assert b.commit("two", aliases=["best"], id="maker2") == "v2"
    b.sync()
    a.sync()
    check_equal(a, b)
    assert a.aliases == {"data:best": "v2"}
    assert len(a.runs["p/r"]) == 4


def test_attempts_that_were_reverted_are_so_elsewhere(a: Laptop, b: Laptop) -> None:
    """Rewinds, overwritten attempts and restored ones show the same rows."""
    a.run("r", 5)
    a.sync()
    b.sync()
    run = a.begin(resume_from="r?_step=1")
    run.log({"n": 70})
    run.finish()
    a.sync()
    b.sync()
    check_equal(a, b)
    a.run("r", [{"n": 80}])
    a.sync()
    b.sync()
    check_equal(a, b)
    with a.api() as api:
        api.run("p/r").restore_epoch(1)
    a.sync()
    b.sync()
    check_equal(a, b)
    assert len(b.runs["p/r"]) == 5


def test_forks_follow_their_parents(a: Laptop, b: Laptop) -> None:
    """A fork shows the rows that it took over, on the second laptop as on the first."""
    a.run("r", 5)
    run = a.begin(id="f", fork_from="r?_step=2")
    run.log({"n": 90})
    run.finish()
    a.sync()
    b.sync()
    check_equal(a, b)
    assert [row["n"] for row in b.runs["p/f"]] == [0, 1, 2, 90]
    run = b.begin(id="g", fork_from="f?_step=3")
    run.log({"n": 91})
    run.finish()
    b.sync()
    a.sync()
    check_equal(a, b)
    assert [row["n"] for row in a.runs["p/g"]] == [0, 1, 2, 90, 91]


def test_ranks_of_a_run_arrive_apart(
    a: Laptop, b: Laptop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streams of other writers are streams of other writers."""
    first = a.begin(id="r")
    second = a.begin(id="r", shared=True)
    for n in range(5):
        first.log({"n": n})
        second.log({"n": -n})
    a.push()
    b.pull()
    second.finish()
    first.finish()
    a.push()
    b.pull()
    check_equal(a, b)


def test_a_run_that_was_killed_arrives_with_what_it_logged(
    a: Laptop, b: Laptop
) -> None:
    """Recovered or not, its rows are there."""
    import subprocess
    import sys

    subprocess.run(
        [sys.executable, "-c", KILLED, str(a.store)], check=False, timeout=60
    )
    a.push()
    b.pull()
    assert b.runs["p/r"] == [{"n": n} for n in range(7)]
    with a.api() as api:
        assert api.run("p/r").state == "crashed"
    a.push()
    b.pull()
    check_equal(a, b)


KILLED = """
import os, signal, sys, wanllmdb
run = wanllmdb.init(project="p", id="r", store=sys.argv[1])
for n in range(7):
    run.log({"n": n})
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_store_syncs_with_two_remotes(tmp_path: Path) -> None:
    """What came from one remote is told to the other."""
    for name in ("r1", "r2"):
        (tmp_path / name).mkdir()
    first, second = str(tmp_path / "r1"), str(tmp_path / "r2")
    a = Laptop(tmp_path / "a", one=first)
    b = Laptop(tmp_path / "b", one=first, two=second)
    c = Laptop(tmp_path / "c", two=second)
    a.run("r", 4)
    a.commit("one", aliases=["x"])
    c.run("s", 3)
    a.sync()
    b.sync("one")
    c.sync()
    b.sync("two")
    b.sync("one")
    a.sync()
    c.sync()
    check_equal(a, b, c)
    for remote in ("one", "two", "one"):
        assert b.sync(remote).objects_written == 0
