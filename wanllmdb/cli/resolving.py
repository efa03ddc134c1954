"""``run resolve``."""

from __future__ import annotations

import click

from wanllmdb import _resolving
from wanllmdb.cli import Group
from wanllmdb.cli.opening import api_of
from wanllmdb.cli.render import echo
from wanllmdb.cli.words import RUN, TEXT


@click.group(cls=Group)
def run() -> None:
    """Settle runs that two laptops made, or went on with."""


@run.command()
@click.argument("run", type=RUN)
@click.option("--id", "new", type=TEXT, help="The id that it shall have for good.")
@click.pass_context
def resolve(ctx: click.Context, /, run: str, new: str | None) -> None:
    """Give a run that shows as ID@DEVICE an id of its own, or say what it is.

    Without --id it stays under its name, and sync speaks of it no more.
    """
    api = api_of(ctx)
    record = api.run(run).record
    if new is None:
        for line in _resolving.described(api.store, record):
            echo(line)
        _resolving.settle(api.store, record)
    else:
        echo(_resolving.give_id(api.store, record, new).path)


COMMANDS = {"run": run}
