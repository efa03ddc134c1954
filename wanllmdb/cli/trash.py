"""``trash ls|restore|empty``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

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
    """List the runs and the versions in the trash."""
    api = api_of(ctx)
    rows = [{**row_of(r), "deleted": _clock.iso(r.record.deleted_us)}
            for r in api.runs(deleted=True)]  # fmt: skip
    rows += [
        {"artifact": version.path, "deleted": _clock.iso(version.deleted_us)}
        for version in api.trashed_versions()
    ]
    out.emit(rows)


@trash.command()
@click.argument("run", type=TRASHED)
@click.pass_context
def restore(ctx: click.Context, /, run: str) -> None:
    """Bring a run, or a version (PROJECT/NAME:vN), back."""
    api = api_of(ctx)
    if ":" in run:
        echo(api.restore_version(run).qualified_name)
    else:
        echo(api.run(run, deleted=True).restore().path)


@trash.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.pass_context
def empty(ctx: click.Context, /, yes: bool, dry_run: bool) -> None:
    """Remove for good what is in the trash; `store gc` frees the space of files."""
    api = api_of(ctx)
    found = api.runs(deleted=True)
    versions = api.trashed_versions()
    if (found or versions) and not dry_run:
        what = f"Remove {len(found)} runs and {len(versions)} versions for good"
        confirm(what, yes=yes)
    refused: ConflictError | None = None
    purges: list[tuple[str, Callable[[], object]]] = []
    for run in found:  # the newest first, so that forks go before what they show
        purges.append((run.path, partial(api.purge, run)))
    for version in versions:
        purges.append((version.path, partial(api.purge_version, version)))
    for path, purge in purges:
        try:
            if not dry_run:
                purge()
            echo(path)
        except ConflictError as error:  # something that is not in the trash needs it
            refused = error
    if refused is not None:
        raise refused


COMMANDS = {"trash": trash}
