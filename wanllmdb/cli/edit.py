"""``tag note rename rm restore``."""

from __future__ import annotations

import click

from wanllmdb.cli.opening import api_of, confirm
from wanllmdb.cli.render import echo
from wanllmdb.cli.words import RUN, TEXT, TRASHED


@click.command()
@click.argument("run", type=RUN)
@click.argument("tags", nargs=-1, required=True, type=TEXT)
@click.option("-d", "--delete", is_flag=True, help="Remove the tags instead.")
@click.pass_context
def tag(ctx: click.Context, /, run: str, tags: tuple[str, ...], delete: bool) -> None:
    """Add tags to a run."""
    found = api_of(ctx).run(run)
    if delete:
        found.remove_tags(list(tags))
    else:
        found.add_tags(list(tags))
    echo(" ".join(found.tags))


@click.command()
@click.argument("run", type=RUN)
@click.argument("text", type=TEXT)
@click.pass_context
def note(ctx: click.Context, /, run: str, text: str) -> None:
    """Set a run's notes."""
    api_of(ctx).run(run).update(notes=text)


@click.command()
@click.argument("run", type=RUN)
@click.argument("name", type=TEXT)
@click.pass_context
def rename(ctx: click.Context, /, run: str, name: str) -> None:
    """Set a run's display name."""
    api_of(ctx).run(run).rename(name)


@click.command()
@click.argument("runs", nargs=-1, required=True, type=RUN)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.pass_context
def rm(ctx: click.Context, /, runs: tuple[str, ...], yes: bool, dry_run: bool) -> None:
    """Move runs to the trash."""
    api = api_of(ctx)
    found = list({run.path: run for run in map(api.run, runs)}.values())
    if not dry_run:
        confirm(f"Move {len(found)} run{'s' * (len(found) != 1)} to the trash", yes=yes)
    for run in found:
        if not dry_run:
            run.delete()
        echo(run.path)


@click.command()
@click.option("--epoch", type=int, help="Show this earlier epoch again instead.")
@click.argument("run", type=TRASHED)
@click.pass_context
def restore(ctx: click.Context, /, run: str, epoch: int | None) -> None:
    """Bring a run back from the trash, or an epoch that was superseded."""
    api = api_of(ctx)
    if epoch is None:
        echo(api.run(run, deleted=True).restore().path)
    else:
        echo(api.run(run).restore_epoch(epoch).path)


COMMANDS = {"tag": tag, "note": note, "rename": rename, "rm": rm, "restore": restore}
