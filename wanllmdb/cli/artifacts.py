"""``artifact ls|show|put|get|files|diff|verify|why|lineage|rm|alias``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wanllmdb import _clock, _settings
from wanllmdb._text import clean
from wanllmdb.cli import Group
from wanllmdb.cli.opening import api_of, confirm, project_option
from wanllmdb.cli.render import Output, echo, output_options, write
from wanllmdb.cli.words import ARTIFACT, TEXT
from wanllmdb.errors import InvalidInputError

if TYPE_CHECKING:
    from wanllmdb._artifacts import Artifact

_DIFFERENCES = {"added": "+", "removed": "-", "changed": "~"}


@click.group(cls=Group)
def artifact() -> None:
    """Versioned files: list, put, get, compare, verify."""


def _row(found: Artifact) -> dict[str, Any]:
    return {
        "artifact": found.qualified_name,
        "type": found.type,
        "aliases": ", ".join(found.aliases),
        "files": found.file_count,
        "size": found.size,
        "created": found.created_at,
        "run": found.source_run,
        "digest": found.digest,
    }


@artifact.command("ls")
@click.argument("name", type=ARTIFACT, required=False)
@click.option("--type", "kind", type=TEXT, help="Only of this type.")
@project_option
@output_options
@click.pass_context
def list_(
    ctx: click.Context, /, name: str | None, kind: str | None, project: str | None,
    out: Output,
) -> None:  # fmt: skip
    """List artifacts, each by its newest version; or all versions of NAME."""
    found = api_of(ctx).artifacts(kind, name, project=project)
    out.emit([_row(one) for one in found])


@artifact.command()
@click.argument("name", type=ARTIFACT)
@output_options
@click.pass_context
def show(ctx: click.Context, /, name: str, out: Output) -> None:
    """Show one version: NAME[:alias|:vN|:@digest]."""
    found = api_of(ctx).artifact(name)
    facts = {
        **_row(found), "tags": ", ".join(found.tags),
        "description": found.description, "metadata": found.metadata,
        "updated": found.updated_at, "ttl": found.ttl,
        "used_by": ", ".join(found.used_by()),
    }  # fmt: skip
    if out.plain:
        rows = [{"field": key, "value": value} for key, value in facts.items()]
        out.emit([row for row in rows if row["value"] not in (None, "", {})])
    else:
        out.emit([facts])


@artifact.command()
@click.argument("path", type=click.Path(exists=True))
@click.argument("name", type=TEXT)
@click.option("--type", "kind", type=TEXT, default="dataset", help="Default dataset.")
@click.option("--alias", "aliases", multiple=True, type=TEXT, help="Name the version.")
@click.option("--tag", "tags", multiple=True, type=TEXT, help="Tag the version.")
@click.option("--description", type=TEXT, help="For people.")
@click.option("--metadata", type=TEXT, help="A JSON object.")
@click.pass_context
def put(
    ctx: click.Context, /, path: str, name: str, kind: str, aliases: tuple[str, ...],
    tags: tuple[str, ...], description: str | None, metadata: str | None,
) -> None:  # fmt: skip
    """Commit the file or directory PATH as [PROJECT/]NAME, without a run."""
    from wanllmdb._artifacts import put as commit
    from wanllmdb._store import Store

    store = ctx.with_resource(Store(_settings.find_store(ctx.obj["store"])))
    made = commit(
        store, Path(path), name, kind, aliases=aliases, tags=tags,
        description=description, metadata=_object(metadata),
    )  # fmt: skip
    echo(made.qualified_name)


def _object(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError as error:
        raise InvalidInputError(f"--metadata: {error}.", hint="Give JSON.") from error
    if not isinstance(found, dict):
        raise InvalidInputError("--metadata is no object.", hint='Give {"key": 1}.')
    return found


@artifact.command()
@click.argument("name", type=ARTIFACT)
@click.option("-o", "--output", type=click.Path(), help="The directory.")
@click.option("--path", "prefix", type=TEXT, help="Only this path, or what is below.")
@click.option("--exact", is_flag=True, help="Remove what else is in the directory.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def get(
    ctx: click.Context, /, name: str, output: str | None, prefix: str | None,
    exact: bool, yes: bool,
) -> None:  # fmt: skip
    """Write a version's files; default ./artifacts/NAME-vN."""
    found = api_of(ctx).artifact(name)
    if exact and prefix is not None:
        raise click.UsageError("--exact and --path do not go together.")
    if exact:
        confirm(f"Remove all else in {output or 'the directory'}", yes=yes)
        echo(found.checkout(output))
    else:
        echo(found.download(output, path_prefix=prefix))


@artifact.command()
@click.argument("name", type=ARTIFACT)
@output_options
@click.pass_context
def files(ctx: click.Context, /, name: str, out: Output) -> None:
    """List a version's files."""
    out.emit(
        [
            {"path": e.path, "size": e.size, "digest": e.digest, "reference": e.ref}
            for e in api_of(ctx).artifact(name).files()
        ],
        ["path", "size", "digest", "reference"],
    )


@artifact.command()
@click.argument("old", type=ARTIFACT)
@click.argument("new", type=ARTIFACT)
@output_options
@click.pass_context
def diff(ctx: click.Context, /, old: str, new: str, out: Output) -> None:
    """Compare the files of two versions."""
    from wanllmdb._artifacts import differences

    api = api_of(ctx)
    found = differences(api.artifact(old), api.artifact(new))
    if out.plain:
        for row in found:
            echo(f"{_DIFFERENCES[row['what']]} {row['path']}")
    else:
        out.emit(found, ["what", "path", "old_size", "new_size"])


@artifact.command()
@click.argument("name", type=ARTIFACT)
@click.option("--directory", type=click.Path(), help="Look at a download instead.")
@click.pass_context
def verify(ctx: click.Context, /, name: str, directory: str | None) -> None:
    """Compare every byte of a version with its digest."""
    from wanllmdb._artifacts import count_elsewhere

    found = api_of(ctx).artifact(name)
    found.verify(directory)
    away = 0 if directory is not None else count_elsewhere(found)
    note = f", {away} of them at the remote: not looked at" if away else ""
    echo(f"{found.qualified_name}: {found.file_count} files are right{note}.")


@artifact.command()
@click.argument("digest", type=TEXT)
@click.pass_context
def why(ctx: click.Context, /, digest: str) -> None:
    """Say what needs the blob DIGEST; six hex digits do."""
    from wanllmdb._reach import why as uses

    found = uses(api_of(ctx).store, digest)
    for line in found:
        echo(line)
    if not found:
        echo("Nothing needs it.")


@artifact.command()
@click.argument("name", type=ARTIFACT)
@click.option("--depth", type=click.IntRange(min=1), help="Steps; default all.")
@click.option(
    "--format", "fmt", type=click.Choice(["tree", "json", "dot"]), default="tree",
    help="Default tree.",
)  # fmt: skip
@click.pass_context
def lineage(ctx: click.Context, /, name: str, depth: int | None, fmt: str) -> None:
    """Show which runs made a version and read it, and so on."""
    found = api_of(ctx).artifact(name).lineage(depth)
    if fmt == "json":
        write(json.dumps(found.as_json(), indent=2) + "\n")
    elif fmt == "dot":
        write(clean(found.as_dot(), keep="\n"))
    else:
        echo(found.start.path)
        signs = {"upstream": "<-", "downstream": "->"}
        for level, direction, node, again in found.as_tree():
            note = " (in the trash)" if node.deleted else " ..." if again else ""
            echo(f"{'   ' * level}{signs[direction]} {node.kind} {node.path}{note}")


@artifact.command()
@click.argument("names", type=ARTIFACT, nargs=-1, required=True)
@click.option("--delete-aliases", is_flag=True, help="Remove their aliases, too.")
@click.option("--force", is_flag=True, help="Also while a live run reads them.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.pass_context
def rm(
    ctx: click.Context, /, names: tuple[str, ...], delete_aliases: bool, force: bool,
    yes: bool, dry_run: bool,
) -> None:  # fmt: skip
    """Move versions to the trash."""
    api = api_of(ctx)
    found = [api.artifact(name) for name in names]
    if not dry_run:
        confirm(f"Move {len(found)} versions to the trash", yes=yes)
    for one in found:
        if not dry_run:
            one.delete(delete_aliases=delete_aliases, force=force)
        echo(one.qualified_name)


@artifact.group(cls=Group)
def alias() -> None:
    """Movable names of versions."""


def _force(command: Any) -> Any:
    return click.option("--force", is_flag=True, help="A protected one, too.")(command)


def _reason(command: Any) -> Any:
    return click.option("--reason", type=TEXT, help="Why, for the history.")(command)


@alias.command("add")
@click.argument("name", type=ARTIFACT)
@click.argument("alias", type=TEXT)
@_reason
@click.pass_context
def add_alias(ctx: click.Context, /, name: str, alias: str, reason: str | None) -> None:
    """Name a version by an alias that the artifact does not have yet."""
    api_of(ctx).artifact(name).add_alias(alias, expected=0, reason=reason)


@alias.command("mv")
@click.argument("name", type=ARTIFACT)
@click.argument("alias", type=TEXT)
@click.option(
    "--from", "source", type=click.IntRange(min=0),
    help="The number that it must name now.",
)  # fmt: skip
@_force
@_reason
@click.pass_context
def move_alias(
    ctx: click.Context, /, name: str, alias: str, source: int | None, force: bool,
    reason: str | None,
) -> None:  # fmt: skip
    """Let an alias name another version: NAME:vN ALIAS."""
    found = api_of(ctx).artifact(name)
    found.add_alias(alias, expected=source, force=force, reason=reason)


@alias.command("rm")
@click.argument("name", type=ARTIFACT)
@click.argument("alias", type=TEXT)
@_force
@_reason
@click.pass_context
def remove_alias(
    ctx: click.Context, /, name: str, alias: str, force: bool, reason: str | None
) -> None:
    """Remove an alias of an artifact."""
    api_of(ctx).artifact(name).remove_alias(alias, force=force, reason=reason)


@alias.command("undo")
@click.argument("name", type=ARTIFACT)
@click.argument("alias", type=TEXT)
@_force
@click.pass_context
def undo_alias(ctx: click.Context, /, name: str, alias: str, force: bool) -> None:
    """Take back the last move of an alias."""
    number = api_of(ctx).artifact(name).undo_alias(alias, force=force)
    echo(f"{alias} is gone" if number is None else f"{alias} names v{number}")


@alias.command("resolve")
@click.argument("name", type=ARTIFACT)
@click.argument("alias", type=TEXT)
@click.option(
    "--take", type=click.Choice(["mine", "theirs"]), required=True,
    help="What it named here, or what it names at the remote.",
)  # fmt: skip
@project_option
@click.pass_context
def resolve_alias(
    ctx: click.Context, /, name: str, alias: str, take: str, project: str | None
) -> None:
    """Settle an alias that two laptops moved; the next sync tells the remote."""
    from wanllmdb._artifacts import find

    found = find(api_of(ctx).store, name, project)
    number = found.resolve_alias(alias, take)
    echo(f"{alias} is gone" if number is None else f"{alias} names v{number}")


@alias.command("protect")
@click.argument("name", type=ARTIFACT)
@click.argument("alias", type=TEXT)
@click.option("--off", is_flag=True, help="Lift the protection.")
@click.pass_context
def protect_alias(ctx: click.Context, /, name: str, alias: str, off: bool) -> None:
    """Let an alias be moved and removed by --force only."""
    api_of(ctx).artifact(name).protect_alias(alias, on=not off)


@alias.command("log")
@click.argument("name", type=ARTIFACT)
@click.argument("alias", type=TEXT)
@output_options
@click.pass_context
def alias_log(ctx: click.Context, /, name: str, alias: str, out: Output) -> None:
    """Show every move of an alias."""
    found = api_of(ctx).artifact(name).alias_history(alias)
    out.emit(
        [
            {
                "at": _clock.iso(e.at_us), "what": e.kind, "from": e.before,
                "to": e.after, "who": e.who, "host": e.host, "reason": e.reason,
            }
            for e in found
        ],
        ["at", "what", "from", "to", "who", "host", "reason"],
    )  # fmt: skip


COMMANDS = {"artifact": artifact}
