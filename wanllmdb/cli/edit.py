"""``tag note rename rm restore``."""

from __future__ import annotations

import sys

import click

from wanllmdb.cli.runs import api_of


@click.command()
@click.argument("run")
@click.argument("tags", nargs=-1, required=True)
@click.option("-d", "--delete", is_flag=True, help="Remove the tags instead.")
@click.pass_context
def tag(ctx: click.Context, /, run: str, tags: tuple[str, ...], delete: bool) -> None:
    """Add tags to a run."""
    found = api_of(ctx).run(run)
    kept = [t for t in found.tags if t not in tags]
    found.tags = kept if delete else [*kept, *tags]
    click.echo(" ".join(found.tags))


@click.command()
@click.argument("run")
@click.argument("text")
@click.pass_context
def note(ctx: click.Context, /, run: str, text: str) -> None:
    """Set a run's notes."""
    api_of(ctx).run(run).update(notes=text)


@click.command()
@click.argument("run")
@click.argument("name")
@click.pass_context
def rename(ctx: click.Context, /, run: str, name: str) -> None:
    """Set a run's display name."""
    api_of(ctx).run(run).rename(name)


def confirm(what: str, yes: bool) -> None:
    """Ask before something is removed; without a terminal ``--yes`` is needed."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{what} needs --yes where there is no terminal.")
    click.confirm(f"{what}?", abort=True, err=True)


@click.command()
@click.argument("runs", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.pass_context
def rm(ctx: click.Context, /, runs: tuple[str, ...], yes: bool, dry_run: bool) -> None:
    """Move runs to the trash."""
    api = api_of(ctx)
    found = [api.run(run) for run in runs]
    if not dry_run:
        confirm(f"Move {len(found)} runs to the trash", yes)
    for run in found:
        if not dry_run:
            run.delete()
        click.echo(run.path)


@click.command()
@click.argument("run")
@click.option("--epoch", type=int, help="Show this earlier epoch again instead.")
@click.pass_context
def restore(ctx: click.Context, /, run: str, epoch: int | None) -> None:
    """Bring a run back from the trash, or an epoch that was superseded."""
    api = api_of(ctx)
    if epoch is not None:
        api.run(run).restore_epoch(epoch)
    else:
        api.run(run, deleted=True).restore()
    click.echo(run)


COMMANDS = {"tag": tag, "note": note, "rename": rename, "rm": rm, "restore": restore}
