"""``trash ls|restore|empty``."""

from __future__ import annotations

import click

from wanllmdb import _clock
from wanllmdb.cli import Group
from wanllmdb.cli.opening import api_of, confirm
from wanllmdb.cli.render import Output, echo, output_options
from wanllmdb.cli.runs import row_of
from wanllmdb.cli.words import TRASHED
from wanllmdb.errors import ConflictError


@click.group(cls=Group)
def trash() -> None:
    """What was removed, and can come back."""


@trash.command("ls")
@output_options
@click.pass_context
def list_(ctx: click.Context, /, out: Output) -> None:
    """List the runs in the trash."""
    found = api_of(ctx).runs(deleted=True)
    rows = [{**row_of(r), "deleted": _clock.iso(r.record.deleted_us)} for r in found]
    out.emit(rows)


@trash.command()
@click.argument("run", type=TRASHED)
@click.pass_context
def restore(ctx: click.Context, /, run: str) -> None:
    """Bring a run back."""
    echo(api_of(ctx).run(run, deleted=True).restore().path)


@trash.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.pass_context
def empty(ctx: click.Context, /, yes: bool, dry_run: bool) -> None:
    """Remove for good what is in the trash."""
    api = api_of(ctx)
    found = api.runs(deleted=True)
    if found and not dry_run:
        confirm(f"Remove {len(found)} runs for good", yes=yes)
    refused: ConflictError | None = None
    for run in found:  # the newest first, so that forks go before what they show
        try:
            if not dry_run:
                api.purge(run)
            echo(run.path)
        except ConflictError as error:  # a fork of it is not in the trash
            refused = error
    if refused is not None:
        raise refused


COMMANDS = {"trash": trash}
