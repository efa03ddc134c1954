"""The command line: thin commands over `Api` and `init`; no logic of its own.

Commands load when they are called, so that ``--help`` stays quick.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from typing import Any

import click

from wanllmdb.cli import failures

COMPLETE = "_WANLLMDB_COMPLETE"
"""The variable by which a shell's completion script calls us."""

_COMMANDS = {
    "demo": ("record", "Record a small real training and show it"),
    "init": ("store", "Make a Store here, in .wanllmdb"),
    "status": ("store", "Where the Store is and what it holds"),
    "env": ("store", "Every setting, and where it comes from"),
    "doctor": ("store", "Look for what is wrong; --fix mends it"),
    "version": ("store", "The version"),
    "completion": ("store", "Print a shell's completion script"),
    "ls": ("runs", "List runs"),
    "show": ("runs", "Show one run"),
    "tail": ("logs", "Show a run's last rows, -f follows"),
    "logs": ("logs", "Show a run's console log"),
    "plot": ("plots", "Draw metrics in the terminal"),
    "report": ("report", "Write runs as one HTML file"),
    "diff": ("runs", "Compare config and summary of runs"),
    "tag": ("edit", "Add or remove tags"),
    "note": ("edit", "Set a run's notes"),
    "rename": ("edit", "Set a run's name"),
    "rm": ("edit", "Move runs to the trash"),
    "restore": ("edit", "Bring a run, or an earlier epoch, back"),
    "exec": ("record", "Run a command and record it"),
    "resume": ("record", "Run a command that goes on with a run"),
    "metric": ("metrics", "List, read and rank metrics"),
    "query": ("query", "Run SQL over every run"),
    "artifact": ("artifacts", "Versioned files: put, get, compare, verify"),
    "project": ("projects", "List and change projects"),
    "model": ("models", "Models of the registry, and their stages"),
    "run": ("resolving", "Settle runs that two laptops made or went on with"),
    "remote": ("remotes", "Buckets and directories to sync with"),
    "sync": ("sync", "Pull, then push; --watch, --status, --verify"),
    "push": ("sync", "Tell the remote what is new here"),
    "pull": ("sync", "Take over what others told the remote"),
    "trash": ("trash", "What was removed"),
    "store": ("store", "Compact, verify, sizes, backups"),
}


class Group(click.Group):
    """A group that suggests the nearest command where there is none."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first word names."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(error.message + hint, ctx) from None


class LazyGroup(Group):
    """A group whose commands are imported when called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, in the order of the table."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name; its module loads now."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"wanllmdb.cli.{_COMMANDS[cmd_name][0]}")
        command: click.Command = module.COMMANDS[cmd_name]
        return command

    def format_commands(self, ctx: click.Context, formatter: Any) -> None:
        """List the commands from the table, so that none is imported for it."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--store", metavar="DIR", type=click.Path(), help="The Store's directory."
)
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.pass_context
def cli(ctx: click.Context, store: str | None, debug: bool) -> None:
    """Record, list and read runs of an embedded experiment tracker."""
    ctx.obj = {"store": store, "debug": debug}


def main() -> None:
    """Run the command line and exit with its status."""
    arguments = sys.argv[1:]
    failures.prepare_streams()
    try:
        status = _run(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - told to people
        status = failures.told(error, arguments)
    sys.exit(status)


def _run(arguments: list[str]) -> int:
    if instruction := os.environ.get(COMPLETE):
        from click.shell_completion import shell_complete

        return shell_complete(cli, {}, "wanllmdb", COMPLETE, instruction)
    try:
        with cli.make_context("wanllmdb", arguments[:]) as context:
            cli.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code
    return 0
