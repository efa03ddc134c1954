"""``metric ls|get|stats``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from wanllmdb.cli.render import emit, output_options
from wanllmdb.cli.runs import api_of
from wanllmdb.errors import MetricNotFoundError


@click.group()
def metric() -> None:
    """List and read metrics."""


@metric.command("ls")
@click.argument("run")
@output_options
@click.pass_context
def list_(ctx: click.Context, /, run: str, **how: Any) -> None:
    """List a run's metrics with their statistics."""
    stats = api_of(ctx).run(run).keys
    emit([{"key": key, **asdict(item)} for key, item in stats.items()], **how)


@metric.command()
@click.argument("run")
@click.argument("keys", nargs=-1, required=True)
@click.option("-n", "--last", type=int, help="Only the last rows.")
@output_options
@click.pass_context
def get(
    ctx: click.Context, /, run: str, keys: tuple[str, ...], last: int | None, **how: Any
) -> None:
    """Print metrics, every row, exact."""
    history = api_of(ctx).run(run).history(list(keys), last=last)
    emit(history.to_pylist(), columns=["_step", "_timestamp", *keys], **how)


@metric.command()
@click.argument("run")
@click.argument("key")
@output_options
@click.pass_context
def stats(ctx: click.Context, /, run: str, key: str, **how: Any) -> None:
    """Print one metric's count, last, min, max and mean."""
    found = api_of(ctx).run(run)
    if key not in found.keys:
        raise MetricNotFoundError(
            f"Run {found.path} never logged {key!r}.", hint="See `metric ls`."
        )
    emit([{"key": key, **asdict(found.keys[key])}], **how)


COMMANDS = {"metric": metric}
