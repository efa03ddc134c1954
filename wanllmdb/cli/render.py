"""Output: one table, in the format asked for."""

from __future__ import annotations

import csv
import io
import json
import sys
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from wanllmdb import _json, _settings
from wanllmdb.errors import InvalidInputError

FORMATS = ("table", "json", "jsonl", "csv", "parquet")


def output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--format``, ``--json`` and ``-o`` to a listing."""
    command = click.option("-o", "--output", metavar="FILE", help="Write to a file.")(
        command
    )
    command = click.option("--json", "as_json", is_flag=True, help="--format json")(
        command
    )
    return click.option(
        "--format", "fmt", type=click.Choice(FORMATS), help="How to print."
    )(command)


def project_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``-p/--project``."""
    return click.option("-p", "--project", help="Only this project.")(command)


def emit(
    rows: Sequence[Mapping[str, Any]],
    *,
    fmt: str | None = None,
    as_json: bool = False,
    output: str | None = None,
    columns: Sequence[str] | None = None,
) -> None:
    """Print rows as table, json, jsonl, csv or parquet.

    Raises:
        InvalidInputError: Parquet without ``-o FILE``.
    """
    chosen = "json" if as_json else fmt or _settings.load()["format"]
    names = list(columns or dict.fromkeys(key for row in rows for key in row))
    if chosen == "parquet":
        _parquet(rows, names, output)
        return
    text = _RENDER[chosen](rows, names)
    if output is None:
        sys.stdout.write(text)
    else:
        Path(output).write_text(text, "utf-8")


def cell(value: Any) -> str:
    """A value as one line for people; control and bidi characters are escaped."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    text = value if isinstance(value, str) else json.dumps(_json.to_plain(value))
    return "".join(
        c if unicodedata.category(c) not in ("Cc", "Cf", "Cs") else f"\\u{ord(c):04x}"
        for c in text
    )


def _table(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    if not rows:
        return ""
    grid = [[_short(cell(row.get(name))) for name in names] for row in rows]
    widths = [
        max(len(name), *(len(line[i]) for line in grid)) for i, name in enumerate(names)
    ]
    lines = [names, *grid]
    return "".join(
        "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() + "\n"
        for line in lines
    )


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def _as_json(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    del names
    return json.dumps([_json.to_plain(dict(row)) for row in rows], indent=2) + "\n"


def _as_jsonl(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    del names
    return "".join(json.dumps(_json.to_plain(dict(row))) + "\n" for row in rows)


def _as_csv(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow([_csv_cell(row.get(name)) for name in names])
    return buffer.getvalue()


def _csv_cell(value: Any) -> Any:
    if isinstance(value, float):
        return repr(value)
    return (
        json.dumps(_json.to_plain(value)) if isinstance(value, (dict, list)) else value
    )


def _parquet(
    rows: Sequence[Mapping[str, Any]], names: Sequence[str], output: str | None
) -> None:
    if output is None:
        raise InvalidInputError("Parquet needs a file.", hint="Add -o FILE.")
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {n: [_flat(row.get(n)) for row in rows] for n in names}
    pq.write_table(pa.table(columns), output)


def _flat(value: Any) -> Any:
    return _json.dumps(value) if isinstance(value, (dict, list)) else value


_RENDER = {"table": _table, "json": _as_json, "jsonl": _as_jsonl, "csv": _as_csv}
