"""``model ls|show|create|set|link|unlink|stage|approve|history|rm``."""

from __future__ import annotations

import click

from wanllmdb import _artifacts
from wanllmdb._registry import ModelRegistry
from wanllmdb.cli import Group
from wanllmdb.cli.opening import api_of, confirm, project_option
from wanllmdb.cli.render import Output, echo, output_options
from wanllmdb.cli.words import MODEL, TEXT
from wanllmdb.types import STAGES

_LISTED = (
    "version", "stage", "artifact", "run", "aliases", "tags", "created_at",
    "approved_by", "approved_at", "description",
)  # fmt: skip
_CHANGES = (
    "at",
    "kind",
    "version",
    "from",
    "to",
    "who",
    "host",
    "approver",
    "comment",
    "alias",
)


@click.group(cls=Group)
def model() -> None:
    """List models of the registry, and move their versions through stages."""


def _registry(ctx: click.Context) -> ModelRegistry:
    return ModelRegistry(api_of(ctx).store)


@model.command("ls")
@click.option("--search", type=TEXT, help="Only names that hold this.")
@output_options
@click.pass_context
def list_(ctx: click.Context, /, search: str | None, out: Output) -> None:
    """List the models, with what is in production."""
    columns = (
        "name", "versions", "latest", "staging", "production", "single_holder",
        "created_at", "description",
    )  # fmt: skip
    out.emit(_registry(ctx).list_models(search), columns)


@model.command()
@click.argument("name", type=MODEL)
@click.argument("version", type=TEXT, required=False)
@output_options
@click.pass_context
def show(ctx: click.Context, /, name: str, version: str | None, out: Output) -> None:
    """Show a model's versions, or all about one.

    VERSION is N, vN, latest, a stage or a name of it.
    """
    registry = _registry(ctx)
    if version is None:
        out.emit(registry.get_model_versions(name), _LISTED)
    else:
        out.emit([registry.get_model_version(name, version)])


@model.command()
@click.argument("name", type=TEXT)
@click.option("--description", type=TEXT, help="For people.")
@click.option(
    "--single-holder", is_flag=True, help="One version in staging and in production."
)
@click.pass_context
def create(
    ctx: click.Context, /, name: str, description: str | None, single_holder: bool
) -> None:
    """Make a model; `model link` makes one without these facts."""
    echo(_registry(ctx).create(name, description, single_holder)["name"])


@model.command("set")
@click.argument("name", type=MODEL)
@click.option(
    "--single-holder/--many-holders", required=True,
    help="One version in staging and in production, or any number.",
)  # fmt: skip
@click.pass_context
def set_(ctx: click.Context, /, name: str, single_holder: bool) -> None:
    """Change how many versions a model's stages have."""
    _registry(ctx).set_single_holder(name, single_holder)


@model.command()
@click.argument("artifact", type=TEXT)
@click.argument("name", type=MODEL)
@click.option("-a", "--alias", "aliases", multiple=True, type=TEXT, help="A name.")
@click.option("--description", type=TEXT, help="For people.")
@project_option
@click.pass_context
def link(
    ctx: click.Context, /, artifact: str, name: str, aliases: tuple[str, ...],
    description: str | None, project: str | None,
) -> None:  # fmt: skip
    """Make an artifact's version a model's next version.

    ARTIFACT is [PROJECT/]NAME[:ALIAS|:vN|:@DIGEST]. The model is made if there is none.
    An --alias that is a stage moves the version there.
    """
    api = api_of(ctx)
    found = _artifacts.find(api.store, artifact, project)
    made = ModelRegistry(api.store).link(
        found, name, aliases=aliases, description=description
    )
    echo(f"{made['model']}:{made['version']}")


@model.command()
@click.argument("name", type=MODEL)
@click.argument("version", type=TEXT)
@click.argument("stage", type=click.Choice([*map(str, STAGES)]))
@click.option("-m", "--comment", type=TEXT, help="Why.")
@click.option("--approver", type=TEXT, help="Who agreed.")
@click.option(
    "--archive-existing", is_flag=True, help="Archive what is in the stage now."
)
@click.pass_context
def stage(
    ctx: click.Context, /, name: str, version: str, stage: str, comment: str | None,
    approver: str | None, archive_existing: bool,
) -> None:  # fmt: skip
    """Move a model's version to a stage."""
    moved = _registry(ctx).transition_stage(
        name, version, stage, comment, approver, archive_existing
    )
    echo(f"{name}:{moved['version']} {moved['stage']}")
    for former in moved["archived"]:
        echo(f"{name}:{former} archived")


@model.command()
@click.argument("name", type=MODEL)
@click.argument("version", type=TEXT)
@click.option("-m", "--comment", type=TEXT, help="Why.")
@click.option("--approver", type=TEXT, help="Who agreed; default you.")
@click.pass_context
def approve(
    ctx: click.Context, /, name: str, version: str, comment: str | None,
    approver: str | None,
) -> None:  # fmt: skip
    """Note that somebody approved a version."""
    found = _registry(ctx).approve_version(name, version, approver, comment)
    echo(f"{name}:{found['version']} approved by {found['approved_by']}")


@model.command()
@click.argument("name", type=MODEL)
@click.argument("version", type=TEXT)
@click.option("--force", is_flag=True, help="Also what is in production.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.pass_context
def unlink(
    ctx: click.Context, /, name: str, version: str, force: bool, yes: bool,
    dry_run: bool,
) -> None:  # fmt: skip
    """Take a version out of a model; the artifact stays."""
    registry = _registry(ctx)
    number = registry.get_model_version(name, version)["version"]
    if not dry_run:
        confirm(f"Take {name}:{number} out of the model for good", yes=yes)
        registry.unlink(name, number, force=force)
    echo(f"{name}:{number}")


@model.command()
@click.argument("names", type=MODEL, nargs=-1, required=True)
@click.option("--force", is_flag=True, help="Also with versions in production.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.pass_context
def rm(
    ctx: click.Context, /, names: tuple[str, ...], force: bool, yes: bool, dry_run: bool
) -> None:
    """Move models to the trash; the artifacts stay."""
    registry = _registry(ctx)
    for name in names:
        registry.get_model_versions(name)  # before any is moved, all must be there
    if not dry_run:
        confirm(f"Move {len(names)} models to the trash", yes=yes)
    for name in names:
        if not dry_run:
            registry.delete(name, force=force)
        echo(name)


@model.command()
@click.argument("name", type=MODEL)
@output_options
@click.pass_context
def history(ctx: click.Context, /, name: str, out: Output) -> None:
    """Show every change of a model: who, when, from, to, why."""
    out.emit(_registry(ctx).history(name), _CHANGES)


COMMANDS = {"model": model}
