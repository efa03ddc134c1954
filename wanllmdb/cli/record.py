"""``demo exec resume``: commands that record."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
from typing import IO, Any

import click

import wanllmdb
from wanllmdb.cli.runs import api_of
from wanllmdb.types import State


@click.command()
@click.option("--steps", default=400, show_default=True)
@click.pass_context
def demo(ctx: click.Context, /, steps: int) -> None:
    """Record a small real training: a classifier learns two moons."""
    from wanllmdb.cli import moons

    with wanllmdb.init(
        project="demo", job_type="train", tags=["demo"], store=ctx.obj["store"],
        config={"learning_rate": 0.5, "hidden": 8, "samples": 200, "noise": 0.15},
    ) as run:  # fmt: skip
        run.define_metric("val/accuracy", summary="max,last")
        print("learning two moons with a network of 8 hidden units")
        for metrics in moons.train(steps=steps, **run.config):
            run.log(metrics)
            if run.step % 100 == 0:
                print(f"step {run.step}: loss {metrics['train/loss']:.4f}")
        path = run.path
    click.echo(f"\nRecorded {path}. Look at it with:")
    for command in (f"show {path}", f"metric ls {path}", f"tail {path}",
                    f"plot {path} train/loss", "ls"):  # fmt: skip
        click.echo(f"  wanllmdb {command}")


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("-p", "--project")
@click.option("--name")
@click.pass_context
def exec_(
    ctx: click.Context,
    /,
    command: tuple[str, ...],
    project: str | None,
    name: str | None,
) -> None:
    """Run a command; record its output and its end. `exec -- CMD ARGS`."""
    run = wanllmdb.init(
        project=project, name=name, job_type="exec", store=ctx.obj["store"],
        config={"command": shlex.join(command)}, shared=True,
    )  # fmt: skip
    variables = {
        "WANLLMDB_RUN_ID": run.id, "WANLLMDB_PROJECT": run.project,
        "_WANLLMDB_JOIN": "1",
    }  # fmt: skip
    sys.exit(_watch(run, command, variables))


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("run")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def resume(ctx: click.Context, /, run: str, command: tuple[str, ...]) -> None:
    """Run a command whose `init` goes on with RUN. `resume RUN -- CMD ARGS`."""
    found = api_of(ctx).run(run)
    variables = {
        "WANLLMDB_RUN_ID": found.id, "WANLLMDB_PROJECT": found.project,
        "WANLLMDB_RESUME": "must", "WANLLMDB_DIR": str(api_of(ctx).store.path),
    }  # fmt: skip
    sys.exit(subprocess.call(command, env={**os.environ, **variables}))


def _watch(run: Any, command: tuple[str, ...], variables: dict[str, str]) -> int:
    """Run the command, pass its output on, and end the run as it ended."""
    try:
        child = subprocess.Popen(
            command, env={**os.environ, **variables}, text=True, errors="replace",
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
    except OSError as error:
        run._finish(127, State.FAILED, str(error))
        click.echo(f"{command[0]}: {error.strerror}", err=True)
        return 127
    # Our own stdout and stderr are captured, so passing lines on records them.
    pumps = [
        threading.Thread(target=_pump, args=pair)
        for pair in ((child.stdout, sys.stdout), (child.stderr, sys.stderr))
    ]
    for pump in pumps:
        pump.start()
    try:
        code = child.wait()
    except KeyboardInterrupt:
        child.send_signal(signal.SIGINT)
        code = child.wait()
    for pump in pumps:
        pump.join()
    if code < 0:
        name = signal.Signals(-code).name
        state = (
            State.KILLED if -code in (signal.SIGTERM, signal.SIGINT) else State.CRASHED
        )
        run._finish(128 - code, state, f"ended by {name}")
        return 128 - code
    run.finish(code)
    return code


def _pump(source: IO[str], target: IO[str]) -> None:
    for line in source:
        target.write(line)
        target.flush()


COMMANDS = {"demo": demo, "exec": exec_, "resume": resume}
