"""``trash ls|restore|empty``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import click

from wanllmdb import _clock, _models, _names
from wanllmdb._registry import ModelRegistry
from wanllmdb.cli import Group
from wanllmdb.cli.opening import api_of, confirm
from wanllmdb.cli.render import Output, echo, output_options
from wanllmdb.cli.runs import row_of
from wanllmdb.cli.words import TRASHED
from wanllmdb.errors import ConflictError, StoreLockedError, WanllmdbError


@click.group(cls=Group)
def trash() -> None:
    """What was removed, and can come back."""


@trash.command("ls")
@output_options
@click.pass_context
def list_(ctx: click.Context, /, out: Output) -> None:
    """List the runs, versions, models and damaged files in the trash."""
    from wanllmdb import _trash

    api = api_of(ctx)
    rows = [{**row_of(r), "deleted": _clock.iso(r.record.deleted_us)}
            for r in api.runs(deleted=True)]  # fmt: skip
    rows += [
        {"artifact": version.path, "deleted": _clock.iso(version.deleted_us)}
        for version in api.trashed_versions()
    ]
    rows += [
        {
            "model": f"{_names.REGISTRY}/{model.name}", "versions": model.versions,
            "deleted": _clock.iso(model.deleted_us),
        }
        for model in _models.trash(api.store)
    ]  # fmt: skip
    rows += [
        {
            "damaged": aside.what, "path": str(aside.path.relative_to(api.store.path)),
            "of": ", ".join(aside.of), "size": aside.size,
            "deleted": _clock.iso(aside.since_us),
        }
        for aside in _trash.listed(api.store)
    ]  # fmt: skip
    out.emit(rows)


@trash.command()
@click.argument("run", type=TRASHED)
@click.pass_context
def restore(ctx: click.Context, /, run: str) -> None:
    """Bring a run, a version (PROJECT/NAME:vN) or model (model-registry/NAME) back."""
    api = api_of(ctx)
    if run.startswith(f"{_names.REGISTRY}/"):
        name = _names.model_of(run)
        found = ModelRegistry(api.store).restore(name)
        echo(f"{run}: {found['versions']} versions")
    elif ":" in run:
        echo(api.restore_version(run).qualified_name)
    else:
        echo(api.run(run, deleted=True).restore().path)


@trash.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.pass_context
def empty(ctx: click.Context, /, yes: bool, dry_run: bool) -> None:
    """Remove for good what is in the trash; `store gc` frees the space of files.

    What can be read of a damaged part is kept.
    """
    from wanllmdb import _trash

    api = api_of(ctx)
    found = api.runs(deleted=True)
    versions = api.trashed_versions()
    models = _models.trash(api.store)
    damaged = _trash.listed(api.store)
    counts = {"runs": len(found), "versions": len(versions), "models": len(models),
              "damaged files": len(damaged)}  # fmt: skip
    told = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    if told and not dry_run:
        confirm(f"Remove {told} for good", yes=yes)
    refused: WanllmdbError | None = None
    purges: list[tuple[str, Callable[[], object]]] = []
    for run in found:  # the newest first, so that forks go before what they show
        purges.append((run.path, partial(api.purge, run)))
    for model in models:
        path = f"{_names.REGISTRY}/{model.name}"
        purges.append((path, partial(_models.purge, api.store, model.name)))
    for version in versions:
        purges.append((version.path, partial(api.purge_version, version)))
    for aside in damaged:
        path = str(aside.path.relative_to(api.store.path))
        purges.append((path, partial(_trash.discard, api.store, aside)))
    for path, purge in purges:
        try:
            kept = None if dry_run else purge()
            echo(f"{path}: {kept}" if isinstance(kept, str) else path)
        except (ConflictError, StoreLockedError) as error:  # something else needs it
            refused = error
    if refused is not None:
        raise refused


COMMANDS = {"trash": trash}
