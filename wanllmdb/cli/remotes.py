"""``remote add|ls|test|rm|default|verify|gc``."""

from __future__ import annotations

from typing import Any

import click

from wanllmdb import _clock
from wanllmdb._catalog import remotes
from wanllmdb._remotes.address import Address
from wanllmdb._sync import peer
from wanllmdb.cli import Group
from wanllmdb.cli.opening import api_of
from wanllmdb.cli.remotes_care import gc, verify
from wanllmdb.cli.render import Output, echo, output_options, tell
from wanllmdb.cli.words import REMOTE, TEXT
from wanllmdb.types import RemoteRecord

_LISTED = (
    "name", "default", "url", "endpoint_url", "profile", "path_style",
    "single_writer", "last_synced", "added",
)  # fmt: skip

UNSAFE = (
    "It failed the test: its server does not create objects exclusively, so that two"
    " writers could overwrite each other. One device may push there, any number may"
    " pull."
)


@click.group(cls=Group)
def remote() -> None:
    """Buckets and directories to sync with."""


@remote.command()
@click.argument("name", type=TEXT)
@click.argument("url", type=TEXT)
@click.option("--endpoint-url", type=TEXT, help="The server of an S3 bucket.")
@click.option("--profile", type=TEXT, help="A profile of the AWS configuration.")
@click.option("--path-style", is_flag=True, help="The bucket's name is in the path.")
@click.option(
    "--single-writer", is_flag=True,
    help="Do not try exclusive create: this device alone will push.",
)  # fmt: skip
@click.pass_context
def add(
    ctx: click.Context, /, name: str, url: str, endpoint_url: str | None,
    profile: str | None, path_style: bool, single_writer: bool,
) -> None:  # fmt: skip
    """Name a place to sync with: s3://BUCKET/PREFIX, a directory, any fsspec URL.

    No credential is stored: they come from the environment or the profile.
    """
    address = Address(url, endpoint_url, profile, path_style)
    store = api_of(ctx, create=True).store
    made = peer.add_remote(store, name, address, single_writer=single_writer)
    echo(f"{made.name} {made.url} {_kind(made)}")
    if made.single_writer:
        asked = "As asked for: one device may push there, any number may pull."
        tell(asked if single_writer else UNSAFE)


def _kind(record: RemoteRecord) -> str:
    return "single writer" if record.single_writer else "many writers"


@remote.command("ls")
@output_options
@click.pass_context
def list_(ctx: click.Context, /, out: Output) -> None:
    """List the remotes."""
    reader = api_of(ctx).store.catalog.reader
    chosen = remotes.find_default(reader)
    rows = [_row(each, remotes.state(reader, each.uid), chosen)
            for each in remotes.listed(reader)]  # fmt: skip
    out.emit(rows, _LISTED)


def _row(
    record: RemoteRecord, state: remotes.SyncState, chosen: RemoteRecord | None
) -> dict[str, Any]:
    return {
        "name": record.name, "default": record == chosen, "url": record.url,
        "endpoint_url": record.endpoint_url, "profile": record.profile,
        "path_style": record.path_style, "single_writer": record.single_writer,
        "last_synced": _clock.iso(state.synced_us),
        "added": _clock.iso(record.added_us),
    }  # fmt: skip


@remote.command()
@click.argument("name", type=REMOTE)
@click.pass_context
def test(ctx: click.Context, /, name: str) -> None:
    """Try a remote: whether it is there, can be written, and creates exclusively."""
    store = api_of(ctx).store
    record = remotes.get(store.catalog.reader, name)
    if peer.test_remote(store, record):
        echo(f"{name}: it can be read and written, and creates exclusively.")
    else:
        echo(f"{name}: it can be read and written by a single writer.")
        tell(UNSAFE)


@remote.command()
@click.argument("name", type=REMOTE)
@click.pass_context
def rm(ctx: click.Context, /, name: str) -> None:
    """Forget a remote's name; what lies there stays."""
    with api_of(ctx).store.catalog.transaction(durable=True) as connection:
        remotes.remove(connection, name)
    echo(name)


@remote.command()
@click.argument("name", type=REMOTE)
@click.pass_context
def default(ctx: click.Context, /, name: str) -> None:
    """Let a remote be the one that is meant where none is named."""
    with api_of(ctx).store.catalog.transaction(durable=True) as connection:
        remotes.set_default(connection, name)
    echo(name)


COMMANDS = {"remote": remote}


remote.add_command(verify)
remote.add_command(gc)
