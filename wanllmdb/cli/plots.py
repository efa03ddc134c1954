"""``plot``: curves in the terminal."""

from __future__ import annotations

import sys
from itertools import cycle
from typing import Any

import click

from wanllmdb import _extras
from wanllmdb._query import Api
from wanllmdb._stored_run import StoredRun
from wanllmdb._text import clean
from wanllmdb.cli.opening import api_of
from wanllmdb.cli.render import write
from wanllmdb.cli.words import RUN_OR_KEY, TEXT
from wanllmdb.errors import InvalidInputError, RunNotFoundError

BUCKETS = 500
"""Buckets of a curve: more than a terminal has columns."""

_MARKERS = "•+×ox*#@"
_PLAIN_FRAME = str.maketrans("─│┌┐└┘├┤┬┴┼•×", "-|+++++++++*x")
_Words = tuple[str, ...]


class _Plot(click.Command):
    """Keeps the place of ``--``, which click itself forgets."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            place = args.index("--")
            if any(not word.startswith("-") for word in args[:place]):
                ctx.meta["keys"] = len(args) - place - 1
        return super().parse_args(ctx, args)


@click.command(cls=_Plot)
@click.argument("words", metavar="RUN... KEY...", nargs=-1, type=RUN_OR_KEY)
@click.option("--x", default="step", type=TEXT, help="step, time, relative or KEY.")
@click.option(
    "--smooth", type=click.FloatRange(0, 1, max_open=True), default=0.0,
    help="Weight of what was before; default 0.",
)  # fmt: skip
@click.pass_context
def plot(ctx: click.Context, /, words: _Words, x: str, smooth: float) -> None:
    """Draw metrics of one or more runs over each other.

    The words that name runs come first, the metrics after them. Where a metric is
    called like a run, `--` stands between: `plot RUN... -- KEY...`.
    """
    api = api_of(ctx)
    runs, keys = _sorted_out(api, words, ctx.meta.get("keys"))
    curves = []
    for run in runs:
        for key in keys:
            label = key if len(runs) == 1 else f"{run.path} {key}"
            curves.append((clean(label), *_curve(api, run, key, x, smooth)))
    library = _extras.need("plotext", "plot", "A plot in the terminal")
    title = runs[0].path if len(runs) == 1 else ""
    write(f"{_drawn(library, curves, clean(title))}\n")


def _sorted_out(
    api: Api, words: _Words, keys: int | None
) -> tuple[list[StoredRun], list[str]]:
    if not words or keys == 0 or (keys is None and len(words) < 2):
        raise click.UsageError("Give a run, and then a metric: plot RUN... KEY...")
    if keys is not None:
        split = len(words) - keys
        return [api.run(word) for word in words[:split]], list(words[split:])
    runs = [api.run(words[0])]
    for word in words[1:-1]:
        if word in runs[0].keys:
            break
        try:
            runs.append(api.run(word))
        except RunNotFoundError:
            break
    return runs, list(words[len(runs) :])


def _curve(
    api: Api, run: StoredRun, key: str, x: str, smooth: float
) -> tuple[list[float], list[float]]:
    """Where a metric goes: per bucket its minimum and maximum, or the smooth mean."""
    found = api.metrics(key, run, x=x, buckets=BUCKETS, smooth=smooth)
    xs: list[float] = []
    ys: list[float] = []
    for row in found.to_pylist():
        shown = [row["smooth"]] if smooth else sorted({row["min"], row["max"]} - {None})
        for value in shown:
            if value is not None and abs(value) < sys.float_info.max:
                xs.append(row["x"])
                ys.append(value)
    if not ys:
        raise InvalidInputError(
            f"Run {run.path} logged nothing in {key!r} that can be drawn.",
            hint="Only finite numbers can; `metric get RUN KEY` prints what there is.",
        )
    return xs, ys


def _drawn(library: Any, curves: list[Any], title: str) -> str:
    library.clear_figure()
    library.theme("clear")
    for (label, steps, values), marker in zip(curves, cycle(_MARKERS), strict=False):
        library.plot(steps, values, label=label, marker=marker)
    library.title(title)
    text: str = library.uncolorize(library.build())
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except (UnicodeError, AttributeError):
        text = text.translate(_PLAIN_FRAME)
    return text


COMMANDS = {"plot": plot}
