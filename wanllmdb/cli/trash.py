"""``trash ls|restore|empty``."""

from __future__ import annotations

from typing import Any

import click

from wanllmdb import _clock
from wanllmdb.cli.edit import confirm
from wanllmdb.cli.render import emit, output_options
from wanllmdb.cli.runs import api_of, row_of


@click.group()
def trash() -> None:
    """What was removed, and can come back."""


@trash.command("ls")
@output_options
@click.pass_context
def list_(ctx: click.Context, /, **how: Any) -> None:
    """List the runs in the trash."""
    found = api_of(ctx).runs(deleted=True)
    emit(
        [{**row_of(r), "deleted": _clock.iso(r.record.deleted_us)} for r in found],
        **how,
    )


@trash.command()
@click.argument("run")
@click.pass_context
def restore(ctx: click.Context, /, run: str) -> None:
    """Bring a run back."""
    click.echo(api_of(ctx).run(run, deleted=True).restore().path)


@trash.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.pass_context
def empty(ctx: click.Context, /, yes: bool, dry_run: bool) -> None:
    """Remove for good what is in the trash."""
    api = api_of(ctx)
    found = api.runs(deleted=True)
    if found and not dry_run:
        confirm(f"Remove {len(found)} runs for good", yes)
    for run in found:
        if not dry_run:
            api.purge(run)
        click.echo(run.path)


COMMANDS = {"trash": trash}
