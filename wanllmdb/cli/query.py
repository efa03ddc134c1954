"""``query``: SQL over every run."""

from __future__ import annotations

import datetime
import decimal
import json
import sys
from typing import Any

import click

from wanllmdb._json import to_plain
from wanllmdb.cli.opening import api_of, project_option
from wanllmdb.cli.render import Output, output_options
from wanllmdb.cli.words import TEXT
from wanllmdb.errors import InvalidInputError

_PLAIN = (str, int, float, bool, type(None))


@click.command()
@click.argument("sql", type=TEXT)
@click.option(
    "--param", "params", metavar="NAME=VALUE", multiple=True, type=TEXT,
    help="A value for $NAME; JSON, or else text.",
)  # fmt: skip
@click.option(
    "--external", is_flag=True,
    help="Let it reach files, extensions and the network, by any statement.",
)  # fmt: skip
@project_option
@output_options
@click.pass_context
def query(
    ctx: click.Context, /, sql: str, params: tuple[str, ...], external: bool,
    project: str | None, out: Output,
) -> None:  # fmt: skip
    """Run one SELECT over projects, runs, metrics, history, logs and more.

    `-` reads the query from stdin. Tables and columns: docs/sql.md.
    """
    text = sys.stdin.read() if sql == "-" else sql
    given = dict(_param(word) for word in params)
    result = api_of(ctx).query(text, given or None, project=project, external=external)
    if out.fmt == "parquet":
        out.save_table(result.arrow())
        return
    rows = [
        {name: _cell(value) for name, value in row.items()}
        for row in result.to_pylist()
    ]
    out.emit(rows, result.columns)


def _param(word: str) -> tuple[str, Any]:
    name, equals, text = word.partition("=")
    if not equals or not name:
        raise InvalidInputError(
            f"{word!r} gives no parameter.", hint="Write --param name=value."
        )
    try:
        return name, json.loads(text)
    except ValueError:
        return name, text


def _cell(value: Any) -> Any:
    """A value as JSON, CSV and tables can hold it."""
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, dict):
        return {str(key): _cell(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_cell(item) for item in value]
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return to_plain(str(value))


COMMANDS = {"query": query}
