"""Which words name runs, what is offered elsewhere, and how errors can be traced."""

from __future__ import annotations

import json

import pytest

import wanllmdb


def test_a_metric_called_like_a_run_is_told_apart(two_runs, cli):
    """A key of the first run is a key; `--` decides where that is wrong."""
    with wanllmdb.init(project="p", id="loss") as run:
        run.log({"loss": 1, "acc": 2})
    assert "p/loss" not in cli("plot", "p/a", "loss", "acc").stdout
    drawn = cli("plot", "p/a", "loss", "--", "acc").stdout
    assert "p/a acc" in drawn
    assert "p/loss acc" in drawn


@pytest.mark.parametrize("args", [["plot"], ["plot", "p/a"], ["plot", "p/a", "--"]])
def test_plot_needs_a_metric(two_runs, cli, args):
    """A usage error says what is missing."""
    done = cli(*args, ok=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "KEY" in done.stderr


def test_tail_f_shows_values_that_come_later_to_a_row(start):
    """A row that was shown half is completed by what it lacked."""
    run = wanllmdb.init(project="p", id="r")
    run.log({"x": 1}, commit=False)
    tail = start("tail", "-f", "p/r", "--format", "jsonl")
    assert json.loads(tail.stdout.readline())["x"] == 1
    run.log({"y": 2})
    assert json.loads(tail.stdout.readline()) == {"_step": 0, "y": 2}
    run.finish()
    assert tail.communicate(timeout=20) == ("", "")


def test_tail_f_takes_no_format_that_needs_the_end(two_runs, cli):
    """JSON is one list; so is a file."""
    assert cli("tail", "-f", "p/a", "--json", ok=False).returncode == 2
    assert cli("tail", "-f", "p/a", "-o", "x", ok=False).returncode == 2


def test_an_empty_store_says_where_others_are(cli, store, tmp_path):
    """Runs that seem lost are in the Store of another directory."""
    other = tmp_path / "other"
    with wanllmdb.init(project="p", store=other):
        pass
    cli("init", tmp_path)
    done = cli("--store", tmp_path / ".wanllmdb", "ls")
    assert str(other) in done.stderr


def test_errors_carry_the_operation_of_the_debug_log(two_runs, store):
    """The id in the error is the id of the log's line."""
    from click.testing import CliRunner

    from wanllmdb.cli import cli as group

    error = CliRunner().invoke(group, ["metric", "get", "p/a", "nope"]).exception
    assert isinstance(error, wanllmdb.errors.MetricNotFoundError)
    lines = (store / "logs" / "debug.log").read_text().splitlines()
    assert any(f" {error.op_id} metric get" in line for line in lines)


def test_debug_keeps_the_status(two_runs, cli):
    """A traceback more, and the same exit code."""
    done = cli("--debug", "show", "nope", ok=False)
    assert (done.returncode, "Traceback" in done.stderr) == (3, True)


def test_logs_show_colours_only_where_they_can_be_seen(invoke):
    """Other escapes never."""
    with wanllmdb.init(id="r") as run:
        run.log_message("\x1b[31mred\x1b[0m \x1b[2J\u202eback")
    assert invoke("logs", "r") == "[INFO] red \\x1b[2J\\u202eback\n"
    assert "\x1b[31m" in json.loads(invoke("logs", "r", "--json"))[0]["text"]


def test_nested_config_is_a_column(invoke):
    """By dots, as in filters."""
    wanllmdb.init(id="r", config={"opt": {"lr": 0.1}, "a.b": 2}).finish()
    text = invoke("ls", "-c", "config.opt.lr,config.a.b,config.no.such", "--json")
    assert json.loads(text) == [
        {"config.opt.lr": 0.1, "config.a.b": 2, "config.no.such": None}
    ]
