"""``metric ls|get|stats``."""

from __future__ import annotations

from dataclasses import asdict

import click

from wanllmdb.cli import Group
from wanllmdb.cli.opening import api_of
from wanllmdb.cli.render import Output, output_options
from wanllmdb.cli.words import KEY, RUN
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
@click.argument("key", type=KEY)
@output_options
@click.pass_context
def stats(ctx: click.Context, /, run: str, key: str, out: Output) -> None:
    """Print one metric's count, last, min, max and mean."""
    found = api_of(ctx).run(run)
    known = found.keys
    if key not in known:
        raise MetricNotFoundError(
            f"Run {found.path} never logged {key!r}.", hint="See `metric ls`."
        )
    out.emit([{"key": key, **asdict(known[key])}])


COMMANDS = {"metric": metric}
