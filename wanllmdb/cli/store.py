"""``init status env doctor version completion store``."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import click

import wanllmdb
from wanllmdb import _settings
from wanllmdb._catalog.connection import SQLITE_VERSION
from wanllmdb._recovery import recover_dead
from wanllmdb._store import Store
from wanllmdb.cli.render import emit, output_options
from wanllmdb.cli.runs import api_of
from wanllmdb.errors import ConflictError, IntegrityError, StoreUnavailableError
from wanllmdb.types import Location

_FIXED_SQLITE = (3, 51, 3)


@click.command()
@click.argument("directory", default=".")
def init(directory: str) -> None:
    """Make a Store in DIRECTORY/.wanllmdb; runs below it are recorded there."""
    path = Path(directory).absolute() / _settings.STORE_DIR
    Store(Location(path, "wanllmdb init"), create=True).close()
    click.echo(path)


@click.command()
@click.pass_context
def status(ctx: click.Context) -> None:
    """Where the Store is, why there, and what it holds."""
    store = api_of(ctx).store
    count = store.catalog.reader.execute(
        "SELECT count(*), coalesce(sum(state = 'running'), 0),"
        " coalesce(sum(deleted_us IS NOT NULL), 0) FROM run"
    ).fetchone()
    click.echo(f"Store    {store.path} ({store.reason})")
    click.echo(f"Runs     {count[0]}, {count[1]} running, {count[2]} in the trash")
    click.echo(f"Access   {'read-only' if store.read_only else 'read and write'}")
    click.echo(f"Versions wanllmdb {wanllmdb.__version__}, SQLite {SQLITE_VERSION}")


@click.command()
@output_options
@click.pass_context
def env(ctx: click.Context, /, **how: Any) -> None:
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
    emit(rows, columns=["setting", "value", "source", "variable"], **how)


@click.command()
@click.option("--fix", is_flag=True, help="Recover dead runs.")
@click.pass_context
def doctor(ctx: click.Context, /, fix: bool) -> None:
    """Look for what is wrong with the Store."""
    api = api_of(ctx)
    store = api.store
    version = tuple(map(int, SQLITE_VERSION.split(".")))
    if version < _FIXED_SQLITE:
        click.echo(
            f"note: SQLite {SQLITE_VERSION} has the checkpoint race mended in"
            " 3.51.3; wanllmdb lets one process checkpoint at a time."
        )
    if store.network:
        click.echo("note: a network filesystem; durability=buffered is quicker there.")
    problems = [
        f"catalog: {row[0]}"
        for row in store.catalog.reader.execute("PRAGMA quick_check")
        if row[0] != "ok"
    ]
    rows = store.catalog.reader.execute("PRAGMA foreign_key_check")
    problems += [f"catalog: a row of {row[0]} points nowhere" for row in rows]
    if fix:
        for record in recover_dead(store):
            click.echo(f"recovered {record.project}/{record.run_id}")
    for run in api.runs():
        damaged = [d for d in store.logs.damage(run.record) if not d.torn]
        problems += [f"{run.path}: {item}" for item in damaged]
        for file in run.files():
            if not store.blobs.path_of(file.digest).exists():
                problems.append(f"{run.path}: the bytes of {file.name} are missing")
    for problem in problems:
        click.echo(problem)
    if problems:
        raise IntegrityError(f"{len(problems)} problems.", hint="Restore a backup.")
    click.echo("No problems found.")


@click.command()
def version() -> None:
    """Print the version."""
    click.echo(wanllmdb.__version__)


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a shell's completion script."""
    from click.shell_completion import get_completion_class

    from wanllmdb.cli import cli

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(cli, {}, "wanllmdb", "_WANLLMDB_COMPLETE").source())


@click.group("store")
def store_group() -> None:
    """Back up, restore, migrate."""


@store_group.command()
@click.pass_context
def path(ctx: click.Context) -> None:
    """Print the Store's directory."""
    click.echo(_settings.find_store(ctx.obj["store"]).path)


@store_group.command()
@click.argument("target")
@click.pass_context
def backup(ctx: click.Context, /, target: str) -> None:
    """Copy the Store to a new directory, while runs go on."""
    source = api_of(ctx).store
    goal = Path(target).absolute()
    if goal.exists():
        raise ConflictError(f"{goal} exists.", hint="Name a new directory.")
    draft = goal.with_name(goal.name + ".part")
    draft.mkdir(mode=0o700, parents=True)
    # The Catalog first: whatever it names is then still there to be copied.
    source.catalog.backup_to(draft / "catalog.db")
    for name in ("live", "blobs"):
        if (source.path / name).exists():
            ignore = shutil.ignore_patterns("*.lock")
            shutil.copytree(source.path / name, draft / name, ignore=ignore)
    shutil.copy(source.path / _settings.FORMAT_FILE, draft)
    draft.rename(goal)
    click.echo(goal)


@store_group.command()
@click.argument("source")
@click.pass_context
def restore(ctx: click.Context, /, source: str) -> None:
    """Copy a backup to the place of the Store, which must be empty."""
    goal = _settings.find_store(ctx.obj["store"]).path
    origin = Path(source).absolute()
    if not (origin / _settings.FORMAT_FILE).exists():
        raise StoreUnavailableError(f"{origin} is no backup.", hint="Check the path.")
    if goal.exists() and any(goal.iterdir()):
        raise ConflictError(
            f"{goal} is not empty.", hint="Move it away first, or set --store."
        )
    shutil.copytree(origin, goal, dirs_exist_ok=True)
    click.echo(goal)


@store_group.command()
@click.pass_context
def migrate(ctx: click.Context) -> None:
    """Bring the Store to this version; opening it does the same."""
    click.echo(f"{api_of(ctx).store.path} is up to date")


COMMANDS = {
    "init": init, "status": status, "env": env, "doctor": doctor, "version": version,
    "completion": completion, "store": store_group,
}  # fmt: skip
