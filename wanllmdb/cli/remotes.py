"""``remote verify|gc``."""

from __future__ import annotations

import click

from wanllmdb.cli import Group
from wanllmdb.cli.remotes_care import gc, verify


@click.group(cls=Group)
def remote() -> None:
    """Buckets and directories to sync with."""


remote.add_command(verify)
remote.add_command(gc)

COMMANDS = {"remote": remote}
