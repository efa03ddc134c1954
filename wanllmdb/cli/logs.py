"""``tail logs``: what a run says, as it says it."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator
from typing import Any

import click

from wanllmdb._query import Api
from wanllmdb._stored_run import StoredRun
from wanllmdb._text import cell, clean
from wanllmdb.cli.opening import api_of
from wanllmdb.cli.render import Output, echo, flush, output_options, write
from wanllmdb.cli.words import RUN, TEXT

POLL_SECONDS = 0.5
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@click.command()
@click.argument("run", type=RUN)
@click.option("-n", "--rows", default=10, show_default=True,
              type=click.IntRange(min=0), help="How many.")  # fmt: skip
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends.")
@output_options
@click.pass_context
def tail(ctx: click.Context, /, run: str, rows: int, follow: bool, out: Output) -> None:
    """Show a run's last rows."""
    api = api_of(ctx)
    found = api.run(run)
    if not follow:
        shown = found.history(last=rows).to_pylist()
        if out.plain:
            out.text("".join(f"{_line(row)}\n" for row in shown))
        else:
            out.emit(shown)
        return
    if not out.plain and out.fmt != "jsonl":
        raise click.UsageError("-f prints lines: leave out --format, or give jsonl.")
    if out.path is not None:
        raise click.UsageError("-f prints lines: leave out -o.")
    for row in _followed(api, found, rows):
        if out.plain:
            echo(_line(row))
        else:
            out.emit([row])
        flush()


def _line(row: dict[str, Any]) -> str:
    values = {k: v for k, v in row.items() if v is not None and k[:1] != "_"}
    text = "  ".join(f"{cell(k)}={cell(v)}" for k, v in values.items())
    return f"{row['_step']:>8}  {text}"


def _followed(api: Api, run: StoredRun, rows: int) -> Iterator[dict[str, Any]]:
    """The last rows, then each new one until the run ends.

    A row that gets further values after it was shown comes again with these.
    """
    shown: int | None = None
    last: dict[str, Any] = {}
    while True:
        started = time.monotonic()
        # The state first: what is logged before the end is read after it.
        live = run.state == "running"
        history = run.history()
        total = len(history)
        first = max(0, total - rows) if shown is None else min(shown, total)
        begin = max(0, first - 1) if last else first
        table = history.arrow().slice(begin)
        for row in type(history)(table).to_pylist():
            again = begin < first and row["_step"] == last["_step"]
            known = last if again else {}
            begin += 1
            new = {k: v for k, v in row.items() if v is not None and k not in known}
            if new:
                yield {"_step": row["_step"], **new}
            last = {k: v for k, v in row.items() if v is not None}
        shown = total
        if not live:
            return
        # A long history takes long to read: do that a fifth of the time at most.
        time.sleep(max(POLL_SECONDS, 4 * (time.monotonic() - started)))
        run = api.run(run.path)


@click.command()
@click.argument("run", type=RUN)
@click.option("--stream", type=click.Choice(["stdout", "stderr", "log"]))
@click.option("--level", type=TEXT, help="Only messages of this level.")
@click.option("--grep", type=TEXT, help="Only lines with this regular expression.")
@click.option("--since", type=TEXT, metavar="TIME",
              help="Only lines from 2026-01-31T12:00 (UTC) on, or -5m.")  # fmt: skip
@click.option("--until", type=TEXT, metavar="TIME", help="Only lines before then.")
@output_options
@click.pass_context
def logs(ctx: click.Context, /, run: str, out: Output, **only: str | None) -> None:
    """Show a run's console log; -o FILE keeps it as text, as it was printed."""
    lines = api_of(ctx).run(run).logs(**only)
    if out.plain:
        shown = _coloured if out.path is None else str
        text = (f"{_head(line.level)}{shown(line.text)}\n" for line in lines)
        if out.path is None:
            for line in text:
                write(line)
        else:
            out.text("".join(text))
        return
    rows = [
        {
            "time": line.time.isoformat(), "stream": line.stream, "level": line.level,
            "text": line.text,
        }
        for line in lines
    ]  # fmt: skip
    out.emit(rows, ["time", "stream", "level", "text"])


def _head(level: str | None) -> str:
    return f"[{clean(level)}] " if level else ""


def _coloured(text: str) -> str:
    """A line with its colours where they can be seen, and no other escapes."""
    colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    shown, end = "", 0
    for match in _COLOUR.finditer(text):
        shown += clean(text[end : match.start()], "\t")
        shown += match[0] if colours else ""
        end = match.end()
    return shown + clean(text[end:], "\t")


COMMANDS = {"tail": tail, "logs": logs}
