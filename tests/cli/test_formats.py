"""Every listing in every format, to stdout or to a file."""

from __future__ import annotations

import csv
import io
import json

import pytest

# Each listing, and something that its rows must tell.
LISTINGS = {
    "ls": (["ls"], "run a"),
    "show": (["show", "p/a"], "run a"),
    "status": (["status"], ""),
    "env": (["env"], "WANLLMDB_DIR"),
    "metric ls": (["metric", "ls", "p/a"], "loss"),
    "metric get": (["metric", "get", "p/b", "loss"], "0.4"),
    "metric stats": (["metric", "stats", "p/a", "loss"], "loss"),
    "project ls": (["project", "ls"], "p"),
    "project show": (["project", "show", "p"], "p"),
    "trash ls": (["trash", "ls"], "run c"),
    "logs": (["logs", "p/a"], "hello from a"),
    "tail": (["tail", "p/b"], "0.4"),
    "diff": (["diff", "p/a", "p/b"], "config.lr"),
}
EACH = pytest.mark.parametrize("name", LISTINGS)


def read(text, form):
    """Rows of a listing's output."""
    if form == "json":
        rows = json.loads(text)
    elif form == "jsonl":
        rows = [json.loads(line) for line in text.splitlines()]
    else:
        rows = list(csv.DictReader(io.StringIO(text)))
    return rows


@EACH
@pytest.mark.parametrize("form", ["json", "jsonl", "csv"])
def test_rows_come_out_in_each_format(two_runs, invoke, store, name, form):
    """The same rows, as a list of objects, one object a line, or a table."""
    args, told = LISTINGS[name]
    rows = read(invoke(*args, "--format", form), form)
    assert rows
    assert all(isinstance(row, dict) and row for row in rows)
    assert (told or str(store)) in json.dumps(rows, ensure_ascii=False)


@EACH
def test_the_table_is_for_people(two_runs, invoke, store, name):
    """--format table is what stands there without it."""
    args, told = LISTINGS[name]
    plain = invoke(*args)
    assert (told or str(store)) in plain
    if name not in ("tail", "logs", "show", "status"):
        assert invoke(*args, "--format", "table") == plain


@EACH
def test_parquet_goes_to_a_file(two_runs, invoke, store, tmp_path, name):
    """-o FILE holds the rows that json shows."""
    import pyarrow.parquet as pq

    args, told = LISTINGS[name]
    invoke(*args, "--format", "parquet", "-o", tmp_path / "x.parquet")
    rows = pq.read_table(tmp_path / "x.parquet").to_pylist()
    assert len(rows) == len(json.loads(invoke(*args, "--json")))
    assert (told or str(store)) in json.dumps(rows, ensure_ascii=False, default=str)


@EACH
@pytest.mark.parametrize("form", ["table", "json", "jsonl", "csv"])
def test_o_writes_a_file_and_prints_nothing(two_runs, invoke, tmp_path, name, form):
    """What would be on stdout is in the file, byte for byte."""
    args, _ = LISTINGS[name]
    target = tmp_path / "out"
    assert invoke(*args, "--format", form, "-o", target) == ""
    assert target.read_text("utf-8") == invoke(*args, "--format", form)


@EACH
def test_json_is_short_for_format_json(two_runs, invoke, name):
    """--json is on every listing."""
    args, _ = LISTINGS[name]
    assert invoke(*args, "--json") == invoke(*args, "--format", "json")


def test_parquet_on_a_terminal_is_refused(two_runs, cli):
    """Bytes are no text: the error says what to add."""
    done = cli("ls", "--format", "parquet", ok=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "-o FILE" in done.stderr


@pytest.mark.parametrize("args", [
    ["ls", "-o", "{}/none/x.json"], ["metric", "get", "p/a", "loss", "--format",
    "parquet", "-o", "{}/none/x"], ["ls", "-o", "{}"],
])  # fmt: skip
def test_a_file_that_cannot_be_written_is_one_clear_error(
    two_runs, cli, tmp_path, args
):
    """The error names the path; no traceback."""
    done = cli(*(a.format(tmp_path) for a in args), ok=False)
    assert done.returncode not in (0, 130)
    assert str(tmp_path) in done.stderr
    assert "Traceback" not in done.stderr


def test_an_output_file_is_replaced_whole_or_not_at_all(two_runs, cli, tmp_path):
    """A command that fails leaves the old file."""
    target = tmp_path / "rows.csv"
    target.write_text("old")
    cli("metric", "get", "p/a", "nope", "--format", "csv", "-o", target, ok=False)
    assert target.read_text() == "old"
    cli("metric", "get", "p/a", "loss", "--format", "csv", "-o", target)
    assert target.read_text().splitlines()[0] == "_step,_timestamp,loss"


@pytest.mark.parametrize("form", ["json", "jsonl", "csv"])
def test_an_empty_listing_is_empty_and_valid(two_runs, cli, form):
    """No rows: [] or no line; the word for people is on stderr."""
    done = cli("ls", "-p", "nothing", "--format", form)
    assert done.stdout in {"json": ["[]\n"], "jsonl": [""], "csv": ["", "\n"]}[form]
    assert "No runs" in done.stderr


def test_odd_numbers_are_valid_json_and_exact_csv(invoke):
    """NaN and infinities are no bare words of JSON; floats keep every bit."""
    import math

    import wanllmdb

    with wanllmdb.init(project="p", id="r") as run:
        for value in (math.nan, math.inf, -math.inf, 0.1 + 0.2, 5e-324):
            run.log({"x": value})

    def refuse(word):
        raise AssertionError(word)

    json.loads(invoke("metric", "get", "r", "x", "--json"), parse_constant=refuse)
    rows = read(invoke("metric", "get", "r", "x", "--format", "csv"), "csv")
    assert [row["x"] for row in rows] == ["nan", "inf", "-inf", repr(0.1 + 0.2),
                                          "5e-324"]  # fmt: skip


def test_ls_columns_show_what_was_asked(two_runs, invoke):
    """-c takes config, summary and the run's own columns, in that order."""
    text = invoke("ls", "-c", "summary.acc,id,config.lr,nope", "--format", "csv")
    assert text == "summary.acc,id,config.lr,nope\n2,b,0.2,\n2,a,0.1,\n"


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_ls_columns_choose_what_json_holds_too(two_runs, invoke, form):
    """-c means the same in every format."""
    rows = read(invoke("ls", "-c", "id,config.lr", "--format", form), form)
    assert [list(row) for row in rows] == [["id", "config.lr"]] * 2
