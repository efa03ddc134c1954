"""``init status env doctor version completion store``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

import wanllmdb
from wanllmdb import _settings
from wanllmdb._text import clean
from wanllmdb.cli import COMPLETE, Group
from wanllmdb.cli.opening import api_of
from wanllmdb.cli.render import Output, echo, output_options
from wanllmdb.errors import IntegrityError
from wanllmdb.types import Location

if TYPE_CHECKING:
    from wanllmdb._store import Store

_FIXED_SQLITE = (3, 51, 3)


@click.command()
@click.argument("directory", default=".", type=click.Path())
def init(directory: str) -> None:
    """Make a Store in DIRECTORY/.wanllmdb; runs below it are recorded there."""
    from wanllmdb._store import Store

    path = Path(directory).absolute() / _settings.STORE_DIR
    Store(Location(path, "wanllmdb init"), create=True).close()
    echo(str(path))


@click.command()
@output_options
@click.pass_context
def status(ctx: click.Context, /, out: Output) -> None:
    """Where the Store is, why there, and what it holds."""
    from wanllmdb._catalog.connection import SQLITE_VERSION

    api = api_of(ctx)
    store = api.store
    total, running, trashed = api.counts()
    facts = {
        "store": str(store.path), "reason": store.reason, "runs": total,
        "running": running, "trash": trashed,
        "access": "read-only" if store.read_only else "read and write",
        "version": wanllmdb.__version__, "sqlite": SQLITE_VERSION,
    }  # fmt: skip
    if out.fmt != "table":
        out.emit([facts])
        return
    out.text(
        f"Store    {clean(str(store.path))} ({store.reason})\n"
        f"Runs     {total}, {running} running, {trashed} in the trash\n"
        f"Access   {facts['access']}\n"
        f"Versions wanllmdb {wanllmdb.__version__}, SQLite {SQLITE_VERSION}\n"
    )


@click.command()
@output_options
@click.pass_context
def env(ctx: click.Context, /, out: Output) -> None:
    """Every setting: its value, and where it comes from."""
    store = _settings.find_store(ctx.obj["store"])
    settings = _settings.load(store.path)
    rows = [
        {
            "setting": name, "value": settings[name], "source": settings.sources[name],
            "variable": _settings.PREFIX + name.upper(),
        }
        for name in _settings.FIELDS
    ]  # fmt: skip
    rows[0].update(value=str(store.path), source=store.reason)
    out.emit(rows, ["setting", "value", "source", "variable"])


@click.command()
@click.option("--fix", is_flag=True, help="Recover dead runs.")
@click.pass_context
def doctor(ctx: click.Context, /, fix: bool) -> None:
    """Look for what is wrong with the Store."""
    from wanllmdb import _upkeep
    from wanllmdb._recovery import recover_dead

    store = api_of(ctx).store
    _tell_notes(network=store.network)
    used = store.budget.used()
    if used is not None:
        echo(f"note: {used} are used.")
    if fix:
        for record in recover_dead(store):
            echo(f"recovered {record.project}/{record.run_id}")
    found = 0
    for problem in _upkeep.check(store):
        echo(problem)
        found += 1
    if found:
        raise IntegrityError(f"{found} problems.", hint="Restore a backup.")
    for held in _upkeep.part_statistics(store):
        echo(
            f"parts: {held['parts']} {held['layout']}, {held['merged']} of them merged,"
            f" {held['rows']} rows, {held['bytes']} bytes"
        )
    _tell_elsewhere(store)
    for record in _upkeep.dead_runs(store):
        echo(f"note: {record.project}/{record.run_id} has died; --fix recovers it.")
    echo("No problems found.")


def _tell_elsewhere(store: Store) -> None:
    """Say how many blobs lie at a remote, if any does."""
    from wanllmdb import _upkeep

    away = _upkeep.elsewhere(store)
    if away:
        echo(
            f"note: {len(away)} blobs that are needed lie at the remote; they come when"
            " they are first used, or by `wanllmdb pull --full`."
        )


def _tell_notes(*, network: bool) -> None:
    from wanllmdb._catalog.connection import SQLITE_VERSION

    if tuple(map(int, SQLITE_VERSION.split("."))) < _FIXED_SQLITE:
        echo(
            f"note: SQLite {SQLITE_VERSION} has the checkpoint race mended in"
            " 3.51.3; wanllmdb lets one process checkpoint at a time."
        )
    if network:
        echo("note: a network filesystem; durability=buffered is quicker there.")


@click.command()
def version() -> None:
    """Print the version."""
    echo(wanllmdb.__version__)


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a shell's completion script: `eval "$(wanllmdb completion bash)"`."""
    from click.shell_completion import get_completion_class

    from wanllmdb.cli import cli

    kind = get_completion_class(shell)
    assert kind is not None
    for line in kind(cli, {}, "wanllmdb", COMPLETE).source().splitlines():
        echo(line)


@click.group("store", cls=Group)
def store_group() -> None:
    """Look after the files: compact, verify, sizes, backups."""


@store_group.command()
@click.pass_context
def path(ctx: click.Context) -> None:
    """Print the Store's directory."""
    echo(str(_settings.find_store(ctx.obj["store"]).path))


@store_group.command()
@click.argument("target", type=click.Path())
@click.pass_context
def backup(ctx: click.Context, /, target: str) -> None:
    """Copy the Store to a new directory, while runs go on."""
    from wanllmdb import _upkeep

    echo(str(_upkeep.backup(api_of(ctx).store, Path(target))))


@store_group.command()
@click.argument("source", type=click.Path())
@click.pass_context
def restore(ctx: click.Context, /, source: str) -> None:
    """Copy a backup to the place of the Store, which must be empty."""
    from wanllmdb import _upkeep

    goal = _settings.find_store(ctx.obj["store"]).path
    echo(str(_upkeep.restore(Path(source), goal)))


@store_group.command()
@click.pass_context
def compact(ctx: click.Context) -> None:
    """Seal logs of runs that ended into Parquet, and merge small files."""
    from wanllmdb._recovery import recover_dead

    store = api_of(ctx).store
    recover_dead(store)
    done = False
    for line in store.compact():
        echo(line)
        done = True
    if not done:
        echo("Nothing to compact.")


@store_group.command()
@click.option("--quick", is_flag=True, help="Of blobs look at the sizes alone.")
@click.option(
    "--sample", type=click.FloatRange(0, 1, min_open=True), default=1.0,
    help="The share of blobs that is read, at random; default all.",
)  # fmt: skip
@click.pass_context
def verify(ctx: click.Context, /, quick: bool, sample: float) -> None:
    """Check the bytes of sealed parts and blobs; damaged parts are set aside."""
    from wanllmdb import _upkeep

    store = api_of(ctx).store
    found = 0
    for problem in _upkeep.verify(store, sample, quick=quick):
        echo(problem)
        found += 1
    if found:
        raise IntegrityError(
            f"{found} problems.", hint="A backup may have the bytes whole."
        )
    _tell_elsewhere(store)
    echo("Every part and every blob is whole.")


@store_group.command()
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option(
    "--grace", default=86400.0, help="Seconds that unneeded blobs stay; default a day."
)
@click.option(
    "--trash", default=30 * 86400.0,
    help="Seconds that deleted versions stay; default 30 days.",
)  # fmt: skip
@output_options
@click.pass_context
def gc(
    ctx: click.Context, /, dry_run: bool, grace: float, trash: float, out: Output
) -> None:
    """Remove what nothing needs: unneeded blobs, drafts, what expired."""
    from wanllmdb import _gc

    done = _gc.collect(api_of(ctx).store, grace=grace, trash=trash, dry_run=dry_run)
    rows = [
        {"what": kind, "count": count, "bytes": done.bytes[kind]}
        for kind, count in sorted(done.counts.items())
    ]
    out.emit(rows, ["what", "count", "bytes"])
    if not rows and out.plain:
        echo("There is nothing to remove.")


@store_group.command()
@click.option(
    "--by", type=click.Choice(["kind", "project", "run"]), default="kind",
    help="What to sum up by; default kind.",
)  # fmt: skip
@output_options
@click.pass_context
def du(ctx: click.Context, /, by: str, out: Output) -> None:
    """Bytes on the disk, by kind of file, by project or by run."""
    from wanllmdb import _upkeep

    store = api_of(ctx).store
    out.emit(_upkeep.usage(store, by), [by, "bytes"])
    used = store.budget.used()
    if used is not None and out.plain:
        echo(f"{used} are used.")
    if out.plain:
        _tell_elsewhere(store)


@store_group.command()
@click.pass_context
def migrate(ctx: click.Context) -> None:
    """Bring the Store to this version; opening it does the same."""
    echo(f"{api_of(ctx).store.path} is up to date")


COMMANDS = {
    "init": init, "status": status, "env": env, "doctor": doctor, "version": version,
    "completion": completion, "store": store_group,
}  # fmt: skip
