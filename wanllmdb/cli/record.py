"""``demo exec resume``: commands that record."""

from __future__ import annotations

import os
import shlex

import click

import wanllmdb
from wanllmdb._ends import end_of
from wanllmdb._query import Api
from wanllmdb._redact import redact_argv
from wanllmdb.cli import children
from wanllmdb.cli.opening import project_option
from wanllmdb.cli.render import echo
from wanllmdb.cli.words import RUN, TEXT

_Command = tuple[str, ...]


@click.command()
@click.option("--steps", default=400, show_default=True, type=click.IntRange(min=1))
@click.pass_context
def demo(ctx: click.Context, /, steps: int) -> None:
    """Record a small real training: a classifier learns two moons."""
    from wanllmdb.cli import moons

    with wanllmdb.init(
        project="demo", job_type="train", tags=["demo"], store=ctx.obj["store"],
        config={"learning_rate": 0.5, "hidden": 8, "samples": 200, "noise": 0.15},
    ) as run:  # fmt: skip
        run.define_metric("val/accuracy", summary="max,last")
        echo("learning two moons with a network of 8 hidden units")
        for metrics in moons.train(steps=steps, **run.config):
            run.log(metrics)
            if run.step % 100 == 0:
                echo(f"step {run.step}: loss {metrics['train/loss']:.4f}")
        path = run.path
    echo()
    echo(f"Recorded {path}. Look at it with:")
    for command in (f"show {path}", f"metric ls {path}", f"tail {path}",
                    f"plot {path} train/loss", "ls"):  # fmt: skip
        echo(f"  wanllmdb {command}")


@click.command(context_settings={"ignore_unknown_options": True,
                                 "allow_interspersed_args": False})  # fmt: skip
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@project_option
@click.option("--name", type=TEXT, help="The run's name.")
@click.pass_context
def exec_(
    ctx: click.Context, /, command: _Command, project: str | None, name: str | None
) -> None:
    """Run a command; record its output and its end. `exec -- CMD ARGS`."""
    children.speak_utf8()
    shown = [os.fsencode(word).decode("utf-8", "replace") for word in command]
    run = wanllmdb.init(
        project=project, name=name, job_type="exec", store=ctx.obj["store"],
        config={"command": shlex.join(redact_argv(shown))}, shared=True,
        settings={"x_label": "exec"},  # "primary" is the writer that the command is
    )  # fmt: skip
    variables = {
        "WANLLMDB_RUN_ID": run.id, "WANLLMDB_PROJECT": run.project,
        "_WANLLMDB_JOIN": "1",
    }  # fmt: skip
    try:
        end = children.run(command, {**os.environ, **variables}, recorded=True)
    except BaseException as error:
        run._finish(end_of(error))
        raise
    run._finish(end)
    ctx.exit(end.exit_code)


@click.command(context_settings={"ignore_unknown_options": True,
                                 "allow_interspersed_args": False})  # fmt: skip
@click.argument("run", type=RUN)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def resume(ctx: click.Context, /, run: str, command: _Command) -> None:
    """Run a command whose `init` goes on with RUN. `resume RUN -- CMD ARGS`."""
    with Api(ctx.obj["store"]) as api, api.store.operation("resume"):
        found = api.run(run)
        variables = {
            "WANLLMDB_RUN_ID": found.id, "WANLLMDB_PROJECT": found.project,
            "WANLLMDB_RESUME": "must", "WANLLMDB_DIR": str(api.store.path),
        }  # fmt: skip
    if command[0] == "--" and len(command) > 1:
        command = command[1:]
    ctx.exit(children.run(command, {**os.environ, **variables}).exit_code)


COMMANDS = {"demo": demo, "exec": exec_, "resume": resume}
