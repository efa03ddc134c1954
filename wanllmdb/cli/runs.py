"""``ls show tail logs plot diff``."""

from __future__ import annotations

import time
from typing import Any

import click

from wanllmdb import _clock, _extras
from wanllmdb._query import Api, StoredRun
from wanllmdb.cli.render import cell, emit, output_options, project_option


def api_of(ctx: click.Context) -> Api:
    """The Api of the Store that the command line names; closed with the command."""
    api = Api(ctx.obj["store"])
    ctx.call_on_close(api.close)
    return api


def row_of(run: StoredRun) -> dict[str, Any]:
    """A run as a row of a listing."""
    record = run.record
    return {
        "id": run.id,
        "name": run.name,
        "project": run.project,
        "state": run.state,
        "steps": None if run.last_step is None else run.last_step + 1,
        "started": _clock.iso(record.started_us),
        "tags": ",".join(run.tags),
    }


@click.command()
@project_option
@click.option("-f", "--filter", "where", metavar="EXPR", help="config.lr < 0.1 and ...")
@click.option("-s", "--sort", metavar="KEY", help="-created_at, +summary.loss ...")
@click.option("-c", "--columns", help="Comma-separated, such as name,summary.loss")
@click.option("-n", "--limit", default=20, show_default=True)
@click.option("-q", "--quiet", is_flag=True, help="Print ids only.")
@output_options
@click.pass_context
def ls(
    ctx: click.Context, /, project: str | None, where: str | None, sort: str | None,
    columns: str | None, limit: int, quiet: bool, **how: Any,
) -> None:  # fmt: skip
    """List runs, newest first."""
    found = api_of(ctx).runs(project, where, sort, limit)
    if quiet:
        for run in found:
            click.echo(run.id)
        return
    rows = [row_of(run) for run in found]
    wanted = columns.split(",") if columns else None
    for row, run in zip(rows, found, strict=True):
        for name in wanted or ():
            scope, _, key = name.partition(".")
            if scope in ("config", "summary"):
                row[name] = getattr(run, scope).get(key)
    if not rows:
        click.echo("No runs.", err=True)
    emit(rows, columns=wanted or list(rows[0] if rows else []), **how)


@click.command()
@click.argument("run")
@click.option("--json", "as_json", is_flag=True)
@click.pass_context
def show(ctx: click.Context, /, run: str, as_json: bool) -> None:
    """Show one run: state, config, summary, epochs, files, damage."""
    found = api_of(ctx).run(run)
    record = found.record
    facts = {
        **row_of(found),
        "ended": _clock.iso(record.ended_us),
        "exit_code": record.exit_code,
        "error": record.error,
        "group": found.group,
        "notes": found.notes,
        "host": record.host,
        "dropped_rows": record.dropped_rows,
        "damage": record.damage,
        "config": found.config,
        "summary": found.summary,
        "epochs": [f"{e.number} {e.kind}" for e in found.epochs],
        "files": [f.name for f in found.files()],
        "alerts": [f"{a.level} {a.title}" for a in found.alerts],
    }
    if as_json:
        emit([facts], as_json=True)
        return
    for name, value in facts.items():
        if isinstance(value, dict):
            click.echo(f"{name}:")
            for key, item in value.items():
                click.echo(f"  {cell(key)} = {cell(item)}")
        elif value not in (None, "", [], 0):
            text = (
                "  ".join(map(cell, value)) if isinstance(value, list) else cell(value)
            )
            click.echo(f"{name}: {text}")


@click.command()
@click.argument("run")
@click.option("-n", "--rows", default=10, show_default=True)
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends.")
@click.pass_context
def tail(ctx: click.Context, /, run: str, rows: int, follow: bool) -> None:
    """Show a run's last rows."""
    api = api_of(ctx)
    found = api.run(run)
    shown = -1
    while True:
        history = found.history().to_pylist()
        new = history[-rows:] if shown < 0 else history[shown:]
        for row in new:
            values = {k: v for k, v in row.items() if v is not None and k[0] != "_"}
            text = "  ".join(f"{cell(k)}={cell(v)}" for k, v in values.items())
            click.echo(f"{row['_step']:>8}  {text}")
        shown = len(history)
        if not follow or found.state != "running":
            return
        time.sleep(0.5)
        found = api.run(found.path)


@click.command()
@click.argument("run")
@click.option("--stream", type=click.Choice(["stdout", "stderr", "log"]))
@click.option("--level", help="Only messages of this level.")
@click.option("--grep", help="Only lines with this regular expression.")
@output_options
@click.pass_context
def logs(
    ctx: click.Context, /, run: str, stream: str | None, level: str | None,
    grep: str | None, **how: Any,
) -> None:  # fmt: skip
    """Show a run's console log."""
    lines = api_of(ctx).run(run).logs(stream=stream, level=level, grep=grep)
    if not any(how.values()):
        for line in lines:
            click.echo(f"[{line.level}] {line.text}" if line.level else line.text)
        return
    rows = [
        {
            "time": line.time.isoformat(), "stream": line.stream, "level": line.level,
            "text": line.text,
        }
        for line in lines
    ]  # fmt: skip
    emit(rows, columns=["time", "stream", "level", "text"], **how)


@click.command()
@click.argument("run")
@click.argument("keys", nargs=-1, required=True)
@click.pass_context
def plot(ctx: click.Context, /, run: str, keys: tuple[str, ...]) -> None:
    """Draw metrics of a run in the terminal."""
    found = api_of(ctx).run(run)
    library = _extras.need("plotext", "plot", "A plot in the terminal")
    library.clear_figure()
    for key in keys:
        rows = found.history([key], samples=2000).to_pylist()
        library.plot([r["_step"] for r in rows], [r[key] for r in rows], label=key)
    library.title(found.path)
    library.theme("clear")
    click.echo(library.build())


@click.command()
@click.argument("first")
@click.argument("second")
@output_options
@click.pass_context
def diff(ctx: click.Context, /, first: str, second: str, **how: Any) -> None:
    """Show where config and summary of two runs differ."""
    api = api_of(ctx)
    a, b = api.run(first), api.run(second)
    rows = []
    for scope in ("config", "summary"):
        left, right = getattr(a, scope), getattr(b, scope)
        for key in dict.fromkeys([*left, *right]):
            if left.get(key) != right.get(key) and not key.startswith("_"):
                rows.append(
                    {"key": f"{scope}.{key}", a.id: left.get(key), b.id: right.get(key)}
                )
    emit(rows, **how)


COMMANDS = {
    "ls": ls, "show": show, "tail": tail, "logs": logs, "plot": plot, "diff": diff,
}  # fmt: skip
