"""``ls show diff``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from wanllmdb import _clock, _known
from wanllmdb._catalog.runs import is_ours
from wanllmdb._query import Api
from wanllmdb._stored_run import StoredRun, without_media
from wanllmdb._text import cell
from wanllmdb.cli.opening import api_of, project_option
from wanllmdb.cli.render import Output, echo, output_options, tell
from wanllmdb.cli.words import RUN, TEXT


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


def _ending_of(run: StoredRun) -> dict[str, Any]:
    record = run.record
    return {
        "ended": _clock.iso(record.ended_us),
        "exit_code": record.exit_code,
        "error": record.error,
        "group": run.group,
        "job_type": run.job_type,
        "notes": run.notes,
        "host": record.host,
    }


@click.command()
@project_option
@click.option("-f", "--filter", "where", type=TEXT, metavar="EXPR",
              help="config.lr < 0.1 and ...")  # fmt: skip
@click.option("-s", "--sort", type=TEXT, metavar="KEY",
              help="-created_at, +summary.loss ...")  # fmt: skip
@click.option("-c", "--columns", type=TEXT,
              help="Comma-separated, such as name,config.lr,summary.loss")  # fmt: skip
@click.option("-n", "--limit", default=20, show_default=True)
@click.option("-q", "--quiet", is_flag=True, help="Print ids only.")
@output_options
@click.pass_context
def ls(
    ctx: click.Context, /, project: str | None, where: str | None, sort: str | None,
    columns: str | None, limit: int, quiet: bool, out: Output,
) -> None:  # fmt: skip
    """List runs, newest first."""
    api = api_of(ctx)
    found = api.runs(project, where, sort, limit)
    if quiet:
        for run in found:
            echo(run.id)
        return
    if not found:
        _tell_nothing(api)
    if columns is None:
        rows = [row_of(run) for run in found]
        if out.plain:
            _tell_hosts(api, found, rows)
        out.emit(rows)
        return
    wanted = columns.split(",")
    out.emit([_columns_of(run, wanted) for run in found], wanted)


def _tell_hosts(api: Api, found: list[StoredRun], rows: list[dict[str, Any]]) -> None:
    """Say of runs that another Store writes, where that is."""
    reader = api.store.catalog.reader
    for run, row in zip(found, rows, strict=True):
        if run.state == "running" and not is_ours(reader, run.record):
            row["state"] = f"running on {run.record.host}"


def _tell_nothing(api: Api) -> None:
    tell("No runs.")
    if api.counts()[0]:
        return
    others = [s for s in _known.stores() if s != api.store.path and s.is_dir()]
    if others:
        tell(f"The Store at {api.store.path} is empty; others, for --store, are at:")
        for store in others:
            tell(f"  {store}")


def _columns_of(run: StoredRun, wanted: Sequence[str]) -> dict[str, Any]:
    own = {**row_of(run), **_ending_of(run)}
    row = {}
    for name in wanted:
        scope, _, key = name.partition(".")
        sections = scope in ("config", "summary") and key
        row[name] = _within(getattr(run, scope), key) if sections else own.get(name)
    return row


def _within(values: Mapping[str, Any], key: str) -> Any:
    """What a dotted key names in nested mappings."""
    if key in values:
        return values[key]
    head, _, rest = key.partition(".")
    inner = values.get(head)
    return _within(inner, rest) if rest and isinstance(inner, Mapping) else None


@click.command()
@click.argument("run", type=RUN)
@output_options
@click.pass_context
def show(ctx: click.Context, /, run: str, out: Output) -> None:
    """Show one run: state, config, summary, epochs, files, damage."""
    found = api_of(ctx).run(run)
    record = found.record
    facts = {
        **row_of(found),
        **_ending_of(found),
        "dropped_rows": record.dropped_rows,
        "damage": record.damage,
        "config": found.config,
        "summary": found.summary,
        "epochs": [f"{e.number} {e.kind}" for e in found.epochs],
        "files": _names_of(found, whole=out.fmt != "table"),
        "alerts": [f"{a.level} {a.title}" for a in found.alerts],
    }
    if out.fmt == "table":
        out.text("".join(f"{line}\n" for line in _lines_of(facts)))
    else:
        out.emit([facts])


def _names_of(run: StoredRun, *, whole: bool) -> list[str]:
    """A run's files; for people those of media by folder."""
    files = run.files()
    if whole:
        return [file.name for file in files]
    others, media = without_media(files)
    folders = [f"{folder} ({len(held)} files)" for folder, held in media.items()]
    return [*(file.name for file in others), *folders]


def _lines_of(facts: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, value in facts.items():
        if isinstance(value, dict):
            lines.append(f"{name}:")
            lines += [f"  {cell(key)} = {cell(item)}" for key, item in value.items()]
        elif isinstance(value, list) and value:
            lines.append(f"{name}: {'  '.join(map(cell, value))}")
        elif value not in (None, "", [], 0):
            lines.append(f"{name}: {cell(value)}")
    return lines


@click.command()
@click.argument("runs", metavar="RUN RUN...", nargs=-1, required=True, type=RUN)
@click.option("--all", "same", is_flag=True, help="What is equal, too.")
@output_options
@click.pass_context
def diff(ctx: click.Context, /, runs: tuple[str, ...], same: bool, out: Output) -> None:
    """Show where config and summary of runs differ."""
    if len(runs) < 2:
        raise click.UsageError("Give two runs or more: diff RUN RUN...")
    rows = api_of(ctx).diff([*runs], same=same)
    out.emit(rows, [*rows[0]] if rows else ["key"])


COMMANDS = {"ls": ls, "show": show, "diff": diff}
