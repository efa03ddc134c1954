"""``logs``: searched by level, stream, text and time; kept as text, JSON or CSV."""

from __future__ import annotations

import csv
import json
import time
from datetime import timedelta

import pytest

import wanllmdb
from wanllmdb.errors import InvalidInputError

LONG = "x" * 200


@pytest.fixture
def messages():
    """Three messages, a minute apart; the last one just now."""
    with (
        wanllmdb.init(project="p", id="r") as run,
        pytest.MonkeyPatch.context() as clock,
    ):
        for minutes, level, text in (
            (2, "INFO", "one"),
            (1, "WARN", LONG),
            (0, "INFO", "3"),
        ):
            then = time.time_ns() - minutes * 60_000_000_000
            clock.setattr("wanllmdb._metrics.writer.time_ns", lambda at=then: at)
            run.log_message(f"\x1b[31m{text}\x1b[0m", level=level)


def _texts(lines):
    return [
        line.text.removeprefix("\x1b[31m").removesuffix("\x1b[0m") for line in lines
    ]


@pytest.mark.usefixtures("messages")
def test_logs_are_cut_at_moments_exact_to_the_microsecond(api):
    """From `since` on, before `until`: as datetimes, as text, or as time ago."""
    run = api.run("p/r")
    first, second, third = (line.time for line in run.logs())
    assert _texts(run.logs(since=second)) == [LONG, "3"]
    assert _texts(run.logs(until=second)) == ["one"]
    assert _texts(run.logs(since=second, until=third)) == [LONG]
    assert _texts(run.logs(since=first + timedelta(microseconds=1))) == [LONG, "3"]
    assert _texts(run.logs(since=second.replace(tzinfo=None).isoformat())) == [
        LONG,
        "3",
    ]
    assert _texts(run.logs(since=second.replace(tzinfo=None))) == [LONG, "3"]
    assert _texts(run.logs(since="-90s")) == [LONG, "3"]
    assert _texts(run.logs(until="-1.5m", level="info")) == ["one"]
    assert _texts(run.logs(since="-1w")) == ["one", LONG, "3"]


@pytest.mark.usefixtures("messages")
@pytest.mark.parametrize(
    "when", ["", "yesterday", "-5y", "-99999999999999999w", "9999-99"]
)
def test_a_time_that_is_none_is_named(api, when):
    """Whether it is text that says nothing, or too far away."""
    with pytest.raises(InvalidInputError) as caught:
        list(api.run("p/r").logs(since=when))
    assert repr(when) in str(caught.value)


@pytest.mark.usefixtures("messages")
def test_logs_are_searched_and_kept_from_the_command_line(invoke, tmp_path):
    """Text whole and as it was printed; JSON and CSV with every fact."""
    assert invoke("logs", "r", "--since", "-90s", "--level", "info") == "[INFO] 3\n"
    assert invoke("logs", "r", "--until", "-90s") == "[INFO] one\n"
    assert invoke("logs", "r", "--grep", "^.{0,6}on") == "[INFO] one\n"
    texts = [f"\x1b[31m{text}\x1b[0m" for text in ("one", LONG, "3")]
    kept = tmp_path / "log.txt"
    invoke("logs", "r", "-o", str(kept))
    assert kept.read_text().splitlines() == [
        f"[{level}] {text}"
        for level, text in zip(("INFO", "WARN", "INFO"), texts, strict=True)
    ]
    invoke("logs", "r", "--format", "csv", "-o", str(kept))
    with kept.open(newline="") as file:
        assert [row["text"] for row in csv.DictReader(file)] == texts
    assert [row["text"] for row in json.loads(invoke("logs", "r", "--json"))] == texts
