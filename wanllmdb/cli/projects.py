"""``project ls|show|rename|rm``."""

from __future__ import annotations

from typing import Any

import click

from wanllmdb import _clock
from wanllmdb._catalog import projects
from wanllmdb.cli.edit import confirm
from wanllmdb.cli.render import emit, output_options
from wanllmdb.cli.runs import api_of


@click.group()
def project() -> None:
    """List and change projects."""


def _row(record: projects.ProjectRecord) -> dict[str, Any]:
    return {
        "name": record.name,
        "runs": record.runs,
        "running": record.running,
        "created": _clock.iso(record.created_us),
        "last_started": _clock.iso(record.last_started_us),
    }


@project.command("ls")
@output_options
@click.pass_context
def list_(ctx: click.Context, /, **how: Any) -> None:
    """List the projects."""
    emit([_row(record) for record in api_of(ctx).projects()], **how)


@project.command()
@click.argument("name")
@output_options
@click.pass_context
def show(ctx: click.Context, /, name: str, **how: Any) -> None:
    """Show one project."""
    emit([_row(projects.get(api_of(ctx).store.catalog.reader, name))], **how)


@project.command()
@click.argument("old")
@click.argument("new")
@click.pass_context
def rename(ctx: click.Context, /, old: str, new: str) -> None:
    """Give a project another name."""
    with api_of(ctx).store.catalog.transaction(durable=True) as connection:
        projects.rename(connection, old, new)


@project.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def rm(ctx: click.Context, /, name: str, yes: bool) -> None:
    """Move a project and its runs to the trash."""
    confirm(f"Move project {name!r} and its runs to the trash", yes)
    with api_of(ctx).store.catalog.transaction(durable=True) as connection:
        projects.delete(connection, name)


COMMANDS = {"project": project}
