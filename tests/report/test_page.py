"""What a report says, of one run and of many."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import wanllmdb
from wanllmdb.errors import InvalidInputError, RunNotFoundError


def anchors(page):
    return [link["href"] for link in page.all("a")]


def test_one_run_is_shown_whole(trained, page):
    """Its facts, config, summary, curves, console and alerts."""
    found = page("p/a")
    assert anchors(found) == ["#runs", "#alerts", "#config", "#summary", "#metrics",
                              "#console"]  # fmt: skip
    for text in ("p/a", "finished", "one\ntwo", "net.depth", "hello from a", "loss is"):
        assert text in found.text
    assert len(found.charts()) == 3


def test_runs_are_drawn_over_each_other(trained, page):
    """One chart for each metric, with a line of every run in a colour of its own."""
    found = page("p/a", "p/b", "p/c")
    assert len(found.charts()) == 3
    for color in range(3):
        in_charts = len(found.all("path", kind=f"line r{color}"))
        assert in_charts == 3


def test_what_differs_comes_before_what_is_the_same(trained, page):
    """Config that all runs share is folded away."""
    text = page("p/a", "p/b").text
    section = text[text.index("Config that differs") :]
    order = [section.index(word) for word in ("net.width", "the same in", "net.depth")]
    assert order == sorted(order)


def test_absent_is_not_none(page):
    """A key that a run lacks differs from one that holds None."""
    for name, config in (("a", {"x": None}), ("b", {})):
        with wanllmdb.init(project="p", id=name, config=config):
            pass
    found = page("p/a", "p/b")
    assert "Config that differs" in found.text
    assert "null" in found.text


def test_metrics_stand_in_groups_by_prefix(trained, page):
    """What stands before the first slash names a group."""
    text = page("p/a").text
    assert len(page("p/a").all("details")) == 3
    assert re.search(r"without a prefix 1\s.*train 1\s.*val 1\s", text, re.S)


def test_a_run_without_anything_has_a_report(page):
    """It says what the run is, and has no empty sections."""
    with wanllmdb.init(project="p", id="empty"):
        pass
    assert anchors(page("p/empty")) == ["#runs"]


def test_a_live_run_has_a_report(page):
    """It is read as it stands now."""
    with wanllmdb.init(project="p", id="live") as run:
        run.log({"x": 1})
        text = page("p/live").text
    assert "running" in text
    assert "so far" in text


def test_three_hundred_metrics_stay_small(page):
    """All are drawn, most folded away, in less than ten megabytes."""
    with wanllmdb.init(project="p", id="r") as run:
        for step in range(1000):
            run.log({f"g{n % 30}/m{n}": step * n % 97 for n in range(300)})
    found = page("p/r")
    assert len(found.charts()) == 300
    assert len(found.all("details")) == 30
    assert 1 <= len(found.all("details", open=None)) < 10
    assert len(found.source) < 10_000_000


def test_reports_differ_by_the_time_made_alone(trained, api):
    """The same runs give the same bytes."""
    made = re.compile(r"Made <time.*?</time>")
    first, second = (made.sub("", api.report(["p/a", "p/b"])) for _ in range(2))
    assert first == second


def test_runs_of_the_same_name_are_told_apart(page):
    """Then they are called by their paths."""
    for name in "ab":
        with wanllmdb.init(project="p", id=name, name="same"):
            pass
    assert page("p/a", "p/b").text.count("p/a") > 1


def test_the_same_run_twice_counts_once(trained, api, page):
    """However it was named."""
    assert len(page("p/a", "run a", api.run("p/a")).all("table", kind="facts")) == 1


def test_gauges_are_drawn_over_the_time(page, monkeypatch):
    """System metrics have seconds as x, and groups by their first word."""
    monkeypatch.setenv("WANLLMDB_SYSTEM_INTERVAL", "0.05")
    with wanllmdb.init(project="p", id="r"):
        pass
    text = page("p/r").text
    assert "seconds since the start" in text
    assert "memory.percent" in text


def test_files_are_listed(page):
    """With their sizes and digests."""
    with wanllmdb.init(project="p", id="r") as run:
        Path(run.dir, "weights.bin").write_bytes(b"x" * 1500)
    text = page("p/r").text
    assert "weights.bin" in text
    assert "1.5 kB" in text


def test_the_axis_that_define_metric_named_is_used(page):
    """Its x is the step metric, also where it was logged out of order."""
    with wanllmdb.init(project="p", id="r") as run:
        run.define_metric("loss", step_metric="epoch")
        run.define_metric("secret", hidden=True)
        for epoch in (3, 1, 2):
            run.log({"loss": epoch, "epoch": epoch, "secret": 1})
    found = page("p/r")
    assert len(found.charts()) == 2
    assert re.search(r'class="name"[^>]*>epoch<', found.source)


@pytest.mark.parametrize("runs", [[], ()])
def test_a_report_of_nothing_is_refused(trained, api, runs):
    """There is nothing that it could say."""
    with pytest.raises(InvalidInputError):
        api.report(runs)


def test_the_file_is_written_whole_or_not_at_all(trained, api, tmp_path):
    """An old report stays where the new one cannot be made."""
    target = tmp_path / "x.html"
    assert api.report("p/a", target) == target
    before = target.read_bytes()
    with pytest.raises(RunNotFoundError):
        api.report(["p/a", "p/none"], target)
    assert target.read_bytes() == before
    with pytest.raises(InvalidInputError):
        api.report("p/a", tmp_path / "nowhere" / "x.html")
    assert [path.name for path in tmp_path.glob("*html*")] == ["x.html"]


def test_the_command_writes_the_same_page(trained, tmp_path):
    """`wanllmdb report RUN... -o FILE`, over what is there."""
    from click.testing import CliRunner

    from wanllmdb.cli import cli

    target = tmp_path / "x.html"
    target.write_text("old")
    words = ["report", "p/a", "p/b", "-o", str(target), "--title", "My <runs>"]
    done = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert done.exit_code == 0
    assert "<title>My &lt;runs&gt;</title>" in target.read_text("utf-8")
    for wrong in (["report"], ["report", "p/a"], ["report", "-o", str(target)]):
        assert CliRunner().invoke(cli, wrong).exit_code == 2
