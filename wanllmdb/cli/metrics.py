"""``metric ls|get|stats``."""

from __future__ import annotations

from dataclasses import asdict

import click

from wanllmdb._ranking import GOALS, HOWS
from wanllmdb.cli import Group
from wanllmdb.cli.opening import api_of, project_option
from wanllmdb.cli.render import Output, output_options
from wanllmdb.cli.words import KEY, RUN, TEXT
from wanllmdb.errors import MetricNotFoundError


@click.group(cls=Group)
def metric() -> None:
    """List and read metrics."""


@metric.command("ls")
@click.argument("run", type=RUN)
@output_options
@click.pass_context
def list_(ctx: click.Context, /, run: str, out: Output) -> None:
    """List a run's metrics with their statistics."""
    stats = api_of(ctx).run(run).keys
    out.emit([{"key": key, **asdict(item)} for key, item in stats.items()])


@metric.command()
@click.argument("run", type=RUN)
@click.argument("keys", nargs=-1, required=True, type=KEY)
@click.option("-n", "--last", type=click.IntRange(min=0), help="Only the last rows.")
@output_options
@click.pass_context
def get(
    ctx: click.Context, /, run: str, keys: tuple[str, ...], last: int | None,
    out: Output,
) -> None:  # fmt: skip
    """Print metrics, every row, exact."""
    history = api_of(ctx).run(run).history(list(keys), last=last)
    out.emit(history.to_pylist(), ["_step", "_timestamp", *keys])


@metric.command()
@click.argument("run", type=RUN)
@click.argument("keys", metavar="KEY...", nargs=-1, required=True, type=KEY)
@output_options
@click.pass_context
def stats(ctx: click.Context, /, run: str, keys: tuple[str, ...], out: Output) -> None:
    """Print metrics' count, NaNs, last, min, max, mean, deviation and quantiles."""
    api = api_of(ctx)
    found = api.run(run)
    known = found.keys
    for key in keys:
        if key not in known:
            raise MetricNotFoundError(
                f"Run {found.path} never logged {key!r}.", hint="See `metric ls`."
            )
    spread = {row["key"]: row for row in api.statistics(keys, found).to_pylist()}
    names = ("std", "p05", "median", "p95")
    out.emit([
        {
            "key": key, **asdict(known[key]),
            **{name: spread.get(key, {}).get(name) for name in names},
        }
        for key in keys
    ])  # fmt: skip


@metric.command()
@click.argument("key", type=TEXT)
@project_option
@click.option(
    "--how", type=click.Choice(HOWS), default="best", help="What counts; default best."
)
@click.option("--goal", type=click.Choice(GOALS), help="Default: define_metric's.")
@click.option("-n", "--limit", type=click.IntRange(min=0), help="At most so many.")
@output_options
@click.pass_context
def rank(
    ctx: click.Context, /, key: str, project: str | None, how: str, goal: str | None,
    limit: int | None, out: Output,
) -> None:  # fmt: skip
    """List runs by what a metric came to, the best first."""
    found = api_of(ctx).leaderboard(key, how, project=project, goal=goal, limit=limit)
    out.emit(found.to_pylist(), found.columns)


COMMANDS = {"metric": metric}
