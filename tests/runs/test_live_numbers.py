"""What others see of a run while it is written."""

from __future__ import annotations

import time

import wanllmdb


def test_a_live_run_shows_its_summary_and_rows(api, monkeypatch):
    """The background thread stores the summary; rows are read from the log."""
    monkeypatch.setattr("wanllmdb._run.SUMMARY_SECONDS", 0.05)
    run = wanllmdb.init(id="r")
    run.log({"x": 1})
    assert len(api.run("r").history()) == 1
    deadline = time.monotonic() + 10
    while api.run("r").summary.get("x") != 1:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert (api.run("r").state, api.run("r").keys["x"].count) == ("running", 1)
    run.log({"x": 2})
    run.finish()
    assert api.run("r").keys["x"].count == 2
