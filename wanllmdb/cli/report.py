"""``report``: runs as one HTML file."""

from __future__ import annotations

import click

from wanllmdb.cli.opening import api_of
from wanllmdb.cli.words import RUN, TEXT


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=RUN)
@click.option("-o", "--output", metavar="FILE", required=True, help="The file.")
@click.option("--title", type=TEXT, help="The heading.")
@click.pass_context
def report(
    ctx: click.Context, /, runs: tuple[str, ...], output: str, title: str | None
) -> None:
    """Write runs as one HTML file, without scripts, that opens offline."""
    api_of(ctx).report(runs, output, title=title)


COMMANDS = {"report": report}
