"""``project ls|show|rename|rm|restore``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from wanllmdb import _clock
from wanllmdb.cli import Group
from wanllmdb.cli.opening import api_of, confirm
from wanllmdb.cli.render import Output, echo, output_options
from wanllmdb.cli.words import PROJECT, TEXT

if TYPE_CHECKING:
    from wanllmdb._catalog.projects import ProjectRecord


@click.group(cls=Group)
def project() -> None:
    """List and change projects."""


def _row(record: ProjectRecord) -> dict[str, Any]:
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
def list_(ctx: click.Context, /, out: Output) -> None:
    """List the projects."""
    out.emit([_row(record) for record in api_of(ctx).projects()])


@project.command()
@click.argument("name", type=PROJECT)
@output_options
@click.pass_context
def show(ctx: click.Context, /, name: str, out: Output) -> None:
    """Show one project."""
    out.emit([_row(api_of(ctx).project(name))])


@project.command()
@click.argument("old", type=PROJECT)
@click.argument("new", type=TEXT)
@click.pass_context
def rename(ctx: click.Context, /, old: str, new: str) -> None:
    """Give a project another name."""
    api_of(ctx).rename_project(old, new)


@project.command()
@click.argument("name", type=PROJECT)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.pass_context
def rm(ctx: click.Context, /, name: str, yes: bool, dry_run: bool) -> None:
    """Move a project, its runs and its artifacts to the trash."""
    api = api_of(ctx)
    found = api.runs(api.project(name).name)
    versions = api.project_versions(name)
    if not dry_run:
        what = f"Move project {name!r} and its {len(found)} runs to the trash"
        if versions:
            what += f", and {len(versions)} versions of its artifacts"
        confirm(what, yes=yes)
        api.delete_project(name, delete_artifacts=True)
    for run in found:
        echo(run.path)
    for version in versions:
        echo(version.path)


@project.command()
@click.argument("name", type=TEXT)
@click.pass_context
def restore(ctx: click.Context, /, name: str) -> None:
    """Bring a project back, with what went to the trash with it."""
    api = api_of(ctx)
    api.restore_project(name)
    echo(name)


COMMANDS = {"project": project}
