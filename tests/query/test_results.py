"""What a query gives: Arrow, pandas, Polars, tuples, text, HTML; and Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

import wanllmdb

HOSTILE = "<script>alert(1)</script>\u202e\"'&\x07"


@pytest.fixture
def result(record, api):
    """Three rows of a number, a text and a time."""
    record([{"loss": 0.5}, {"loss": float("nan")}, {"loss": 2.0}])
    return api.query("SELECT step, value, key, ts FROM metrics ORDER BY step")


def test_arrow_and_batches_hold_the_same_rows(result):
    """Batches are no larger than asked for."""
    table = result.arrow()
    batches = list(result.batches(2))
    assert [batch.num_rows for batch in batches] == [2, 1]
    assert sum(batch.num_rows for batch in batches) == table.num_rows == len(result)
    assert result.columns == ["step", "value", "key", "ts"]


def test_a_data_frame_keeps_types_and_times(result):
    """int64, float64 with NaN, and times in UTC."""
    pytest.importorskip("pandas")
    frame = result.df()
    assert list(frame["step"]) == [0, 1, 2]
    assert frame["value"].isna().tolist() == [False, True, False]
    assert str(frame["ts"].dt.tz) == "UTC"


def test_polars_keeps_types_and_times(result):
    """NaN stays NaN and is no null."""
    pytest.importorskip("polars")
    frame = result.pl()
    assert frame["step"].to_list() == [0, 1, 2]
    assert frame["value"].is_nan().to_list() == [False, True, False]
    assert frame["value"].null_count() == 0
    assert frame.schema["ts"].time_zone == "UTC"


def test_columns_of_one_name_are_all_there(record, api):
    """All but the first get a number, and no cell is lost."""
    record([{"loss": 1.0}])
    found = api.query("SELECT 1 AS a, 2 AS a, 3 AS a_1, 4 AS a")
    assert found.fetchall() == [(1, 2, 3, 4)]
    assert len(set(found.columns)) == 4
    joined = api.query("SELECT * FROM runs JOIN metrics USING (project)")
    assert len(joined.to_pylist()[0]) == len(joined.columns)


def test_sums_of_integers_are_integers(record, api):
    """128 bits become 64 where they fit, and are exact where they do not."""
    record([{"n": 2**62}, {"n": 2**62}])
    ((small,),) = api.query("SELECT sum(step) FROM metrics").fetchall()
    ((large,),) = api.query("SELECT sum(value_int) FROM metrics").fetchall()
    assert (small, large) == (1, 2**63)
    assert isinstance(small, int)


def test_show_prints_the_first_rows(result, capsys):
    """And says how many are left."""
    result.show(2)
    text = capsys.readouterr().out
    assert text.splitlines()[0].split() == ["step", "value", "key", "ts"]
    assert "1 more row" in text


def test_parameters_are_values_never_sql(record, api):
    """Positional, numbered and named."""
    record([{HOSTILE: 1.0, "x' OR 1=1 --": 2.0}])
    sql = "SELECT value FROM metrics WHERE key = "
    assert api.query(sql + "?", ["x' OR 1=1 --"]).fetchall() == [(2.0,)]
    assert api.query(sql + "$1", ["nothing"]).fetchall() == []
    assert api.query(sql + "$k", {"k": "x' OR 1=1 --"}).fetchall() == [(2.0,)]
    found = wanllmdb.query("SELECT ? + ?, $3".replace("$3", "?"), [1, 2, None])
    assert found.fetchall() == [(3, None)]


def test_notebooks_get_escaped_tables(record, api):
    """Of a Result, of runs and of one run: no tag, no script, no bidi character."""
    record([{HOSTILE: 1.0}], name=HOSTILE, config={HOSTILE: HOSTILE}, tags=["<b>"])
    runs = api.runs("p")
    result = api.query('SELECT name, name AS "<i>" FROM runs')
    for shown in (result, runs, runs[0]):
        page = shown._repr_html_()
        assert "<script" not in page
        assert "&lt;script&gt;" in page
        assert not {"\u202e", "\x07"} & set(page)
    assert "<b>" not in runs._repr_html_()
    assert "<i>" not in result._repr_html_()
    for word in ("id", "name", "state", "config", "summary"):
        assert f"<th>{word}</th>" in runs[0]._repr_html_()


LONG = """
import sys, wanllmdb
api = wanllmdb.Api()
print("ready", flush=True)
try:
    api.query("SELECT count(*) FROM range(100000000000) a, range(1000) b WHERE a.range"
              " % 7 = b.range")
except KeyboardInterrupt:
    print("stopped", flush=True)
    print(api.query("SELECT 1").fetchall(), flush=True)
"""


def test_ctrl_c_stops_a_long_query(record):
    """The caller gets KeyboardInterrupt, and can go on."""
    record([{"loss": 1.0}])
    child = subprocess.Popen([sys.executable, "-c", LONG], stdout=subprocess.PIPE,
                             text=True, env=os.environ)  # fmt: skip
    assert child.stdout.readline() == "ready\n"
    time.sleep(1)
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate(timeout=30)
    assert out == "stopped\n[(1,)]\n"


def test_ctrl_c_stops_the_command_line(record):
    """With 130, and without a traceback."""
    record([{"loss": 1.0}])
    sql = "SELECT count(*) FROM range(100000000000) a, range(1000) b WHERE a.range=-1"
    child = subprocess.Popen([sys.executable, "-m", "wanllmdb", "query", sql],
                             stderr=subprocess.PIPE, text=True)  # fmt: skip
    time.sleep(2)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=30)
    assert child.returncode == 130
    assert "Traceback" not in err
