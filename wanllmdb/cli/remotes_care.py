"""``remote verify`` and ``remote gc``."""

from __future__ import annotations

import re
from collections.abc import Callable

import click

from wanllmdb.cli.opening import api_of
from wanllmdb.cli.render import Output, echo, output_options
from wanllmdb.errors import IntegrityError


def _sample(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> Callable[[int], int] | None:
    """How many of so many objects a number, or a percentage, means."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d{1,12})|(\d{1,3}(?:\.\d{1,6})?)%", value)
    if match is None or float(match[2] or 0) > 100:
        raise click.BadParameter("Use N, or P%.", ctx, param)
    if match[1]:
        return lambda total: min(int(match[1]), total)
    return lambda total: -int(-total * float(match[2]) // 100)


@click.command("verify")
@click.argument("name", required=False)
@click.option(
    "--level", type=click.IntRange(1, 2), default=1,
    help="1, the default: objects are there; 2: their bytes are read.",
)  # fmt: skip
@click.option(
    "--sample",
    callback=_sample,
    metavar="N|P%",
    help="Of level 2: read so many objects, at random.",
)
@click.option("--heal", is_flag=True, help="Upload again what is lost and whole here.")
@output_options
@click.pass_context
def verify(
    ctx: click.Context,
    /,
    name: str | None,
    level: int,
    sample: Callable[[int], int] | None,
    heal: bool,
    out: Output,
) -> None:
    """See whether a remote holds what its batches say."""
    from wanllmdb._sync.peer import choose
    from wanllmdb._sync.remote_verify import verify

    if sample is not None and level == 1:
        raise click.UsageError("--sample is of --level 2.")
    store = api_of(ctx).store
    record = choose(store, name)
    done = verify(store, record, level=level, sample=sample, mend=heal)
    rows = [
        {"key": p.key, "of": p.of, "problem": p.problem, "healed": p.healed}
        for p in done.problems
    ]
    if not out.plain:
        out.emit(rows, ["key", "of", "problem", "healed"])
    else:
        for problem in done.problems:
            of = f" ({problem.of})" if problem.of else ""
            told = f"{problem.key} {problem.problem}".strip() + of
            echo(f"{told}: uploaded again" if problem.healed else told)
    left = sum(not problem.healed for problem in done.problems)
    if left:
        raise IntegrityError(
            f"{left} things are wrong at {record.name}.",
            hint="`wanllmdb remote verify --heal` uploads again what is whole in this"
            " Store; another laptop's may have the rest.",
        )
    if out.plain:
        read = f", {done.read} of them read" if level == 2 else ""
        echo(
            f"{done.batches} batches and {done.objects} objects of {done.bytes} bytes"
            f" are there{read}."
        )


@click.command("gc")
@click.argument("name", required=False)
@click.option("--yes", is_flag=True, help="Do it; without it, only say what would go.")
@click.option(
    "--grace", type=click.FloatRange(min=0), metavar="DAYS",
    help="Days between condemning and deleting; default 14.",
)  # fmt: skip
@output_options
@click.pass_context
def gc(
    ctx: click.Context, /, name: str | None, yes: bool, grace: float | None, out: Output
) -> None:
    """Remove from a remote what nothing needs: condemned first, deleted days later."""
    from wanllmdb._sync.peer import choose
    from wanllmdb._sync.remote_gc import GRACE_DAYS, collect

    store = api_of(ctx).store
    days = GRACE_DAYS if grace is None else grace
    done = collect(store, choose(store, name), grace_days=days, dry_run=not yes)
    rows = [
        {"what": what, "count": len(sizes), "bytes": sum(sizes.values())}
        for what, sizes in (("condemned", done.condemned), ("deleted", done.deleted))
    ]
    if not out.plain:
        out.emit(rows, ["what", "count", "bytes"])
        return
    for row in rows:
        verb = "" if yes else "would be "
        echo(f"{row['count']} objects of {row['bytes']} bytes {verb}{row['what']}.")
    if done.waiting:
        echo(f"{done.waiting} objects wait for the end of {days:g} days.")
    if done.aborted:
        echo(f"{done.aborted} uploads that never ended are removed.")
