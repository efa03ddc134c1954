"""What commands share: the Store that the line names, options, questions."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from wanllmdb import _settings
from wanllmdb._query import Api
from wanllmdb._store import Store
from wanllmdb.cli.render import tell
from wanllmdb.cli.words import PROJECT


def api_of(ctx: click.Context, *, create: bool = False) -> Api:
    """The Api of the Store that the line names; closed with the command.

    The command is an operation of the Store: its errors carry the operation's id.

    Args:
        ctx: The command's.
        create: Make the Store if there is none, as what brings something into it does.
    """
    if create:
        Store(_settings.find_store(ctx.obj["store"])).close()
    api = ctx.with_resource(Api(ctx.obj["store"]))
    name = ctx.command_path.partition(" ")[2]
    ctx.with_resource(api.store.operation(name))
    return api


def project_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``-p/--project``."""
    return click.option("-p", "--project", type=PROJECT, help="The project.")(command)


def confirm(what: str, *, yes: bool) -> None:
    """Ask before something is removed; without a terminal ``--yes`` is needed."""
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise click.UsageError(f"{what} needs --yes where there is no terminal.")
    if not click.confirm(f"{what}?", err=True):
        tell("Nothing was removed.")
        raise click.exceptions.Exit(1)
