"""What moves: `tail -f` beside a live run, listings of live runs, and plots."""

from __future__ import annotations

import pytest

import wanllmdb

LIVE = """
import sys, wanllmdb
run = wanllmdb.init(project="p", id="live")
for line in sys.stdin:
    word, _, value = line.strip().partition(" ")
    if word == "log": run.log({"x": int(value)})
    if word == "die":
        import os; os._exit(1)
    if word == "finish": run.finish()
    print("did", word, flush=True)
"""


@pytest.fixture
def trainer(start):
    """A live run in another process, which does as it is told."""
    process = start(code=LIVE)

    def tell(text):
        process.stdin.write(f"{text}\n")
        process.stdin.flush()
        if text != "die":
            assert process.stdout.readline() == f"did {text.split()[0]}\n"

    tell("log 0")
    return tell


def steps(text):
    """The steps that tail showed."""
    return [int(line.split()[0]) for line in text.splitlines()]


def test_tail_f_shows_each_row_once_and_ends_with_the_run(trainer, start):
    """Rows appear while they are logged; finish() ends the command."""
    tail = start("tail", "-f", "p/live")
    shown = tail.stdout.readline()
    for value in range(1, 6):
        trainer(f"log {value}")
        shown += tail.stdout.readline()
    assert steps(shown) == [0, 1, 2, 3, 4, 5]
    assert "x=5" in shown
    trainer("log 6")
    trainer("finish")
    out, err = tail.communicate(timeout=20)
    assert (tail.returncode, err) == (0, "")
    assert steps(out) == [6]


def test_tail_f_ends_when_the_run_dies(trainer, start):
    """A crash is an end too."""
    tail = start("tail", "-f", "p/live")
    tail.stdout.readline()
    trainer("log 1")
    trainer("die")
    out, err = tail.communicate(timeout=20)
    assert (tail.returncode, err) == (0, "")
    assert steps(out) == [1]


def test_tail_f_of_a_finished_run_shows_it_and_ends(two_runs, cli):
    """There is nothing to wait for."""
    assert steps(cli("tail", "-f", "p/a").stdout) == [0, 1, 2]


def test_tail_n_shows_the_last_rows(two_runs, cli):
    """-n counts rows; 0 is none."""
    assert steps(cli("tail", "-n", "2", "p/a").stdout) == [1, 2]
    assert steps(cli("tail", "-n", "0", "p/a").stdout) == []


def test_tail_f_of_a_run_without_rows_waits_for_the_first(start):
    """Started before the first log()."""
    run = wanllmdb.init(project="p", id="slow")
    tail = start("tail", "-f", "p/slow")
    run.log({"x": 1})
    assert steps(tail.stdout.readline()) == [0]
    run.finish()
    assert tail.wait(20) == 0


def test_a_live_run_is_listed_and_shown_as_running(trainer, cli):
    """Every reading command works beside the writer."""
    trainer("log 1")
    assert "running" in cli("ls").stdout
    assert "state: running" in cli("show", "p/live").stdout
    assert "1 running" in cli("status").stdout
    text = cli("metric", "get", "p/live", "x", "--format", "csv").stdout
    assert [line.split(",")[-1] for line in text.splitlines()] == ["x", "0", "1"]
    trainer("finish")


def test_plot_draws_several_metrics_of_one_run(two_runs, cli):
    """Each is named."""
    drawn = cli("plot", "p/a", "loss", "acc").stdout
    assert "loss" in drawn
    assert "acc" in drawn


@pytest.mark.parametrize("keys", [["loss"], ["loss", "acc"]])
def test_plot_draws_several_runs(two_runs, cli, keys):
    """`plot RUN... KEY...`: each curve is named by run and metric."""
    drawn = cli("plot", "p/a", "p/b", *keys).stdout
    for word in ("a", "b", *keys):
        assert word in drawn
    assert "p/a" in drawn
    assert "p/b" in drawn


def test_plot_of_a_run_without_the_key_names_both(two_runs, cli):
    """The error says which run lacks which metric."""
    with wanllmdb.init(project="p", id="other") as run:
        run.log({"else": 1})
    done = cli("plot", "p/a", "p/other", "loss", ok=False)
    assert done.returncode == 3
    assert "p/other" in done.stderr
    assert "'loss'" in done.stderr


def test_plot_of_what_cannot_be_drawn_is_an_error(cli):
    """Text has no curve; NaN alone has none either."""
    with wanllmdb.init(project="p", id="r") as run:
        run.log({"text": "hello", "nan": float("nan")})
    for key in ("text", "nan"):
        done = cli("plot", "r", key, ok=False)
        assert "Traceback" not in done.stderr
        assert key in done.stdout + done.stderr
