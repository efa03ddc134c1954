"""Output: rows in the format asked for, and text that is safe to look at."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from wanllmdb import _json, _settings
from wanllmdb._files import save
from wanllmdb._text import Row, clean, table
from wanllmdb.errors import InvalidInputError, WanllmdbError

FORMATS = ("table", "json", "jsonl", "csv", "parquet")
_EXACT_FLOAT = 1 << 53


@dataclass(frozen=True, slots=True)
class Output:
    """How one listing is shown, and where.

    Attributes:
        fmt: One of `FORMATS`.
        plain: Nobody asked for a format: the command may show what people like best.
        path: The file to write; None for stdout.
    """

    fmt: str
    plain: bool
    path: Path | None

    def emit(self, rows: Sequence[Row], columns: Sequence[str] | None = None) -> None:
        """Show rows.

        Args:
            rows: One mapping for each row.
            columns: Which keys, in which order; default every key of any row.
        """
        names = list(
            dict.fromkeys(columns or (key for row in rows for key in row))
        )  # fmt: skip
        if self.fmt == "parquet":
            assert self.path is not None
            save(self.path, lambda draft: _write_parquet(rows, names, draft))
        else:
            self.text(_RENDER[self.fmt](rows, names))

    def save_table(self, table: Any) -> None:
        """Write an Arrow table as Parquet."""
        import pyarrow.parquet as pq

        assert self.path is not None
        save(self.path, lambda draft: pq.write_table(table, draft))

    def text(self, text: str) -> None:
        """Show text as it is."""
        if self.path is None:
            write(text)
            return
        data = text.encode("utf-8", "backslashreplace")
        save(self.path, lambda draft: draft.write_bytes(data))


def output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--format``, ``--json`` and ``-o``; the command gets `out`, an `Output`."""

    @functools.wraps(command)
    def listing(
        *args: Any, fmt: str | None, as_json: bool, output: str | None, **given: Any
    ) -> Any:
        return command(*args, out=_chosen(fmt, as_json, output), **given)

    for option in (
        click.option("-o", "--output", metavar="FILE", help="Write to a file."),
        click.option("--json", "as_json", is_flag=True, help="--format json"),
        click.option("--format", "fmt", type=click.Choice(FORMATS), help="How."),
    ):  # fmt: skip
        listing = option(listing)
    return listing


def _chosen(fmt: str | None, as_json: bool, output: str | None) -> Output:
    asked = "json" if as_json else fmt
    store = click.get_current_context().obj["store"]
    chosen = asked or str(_settings.load(_settings.find_store(store).path)["format"])
    if chosen == "parquet" and output is None:
        raise InvalidInputError("Parquet needs a file.", hint="Add -o FILE.")
    plain = asked is None and chosen == "table"
    return Output(chosen, plain, None if output is None else Path(output))


def write(text: str) -> None:
    """Write text to stdout as it is."""
    if sys.stdout is None:
        raise WanllmdbError("stdout is closed.", hint="Give the command a stdout.")
    sys.stdout.write(text)


def echo(text: str = "") -> None:
    """Print one line to stdout, cleaned."""
    write(f"{clean(text)}\n")


def tell(text: str, keep: str = "") -> None:
    """Print one line to stderr, cleaned; nobody there to read it is no matter."""
    with suppress(OSError, ValueError):
        if sys.stderr is not None:
            sys.stderr.write(f"{clean(text, keep)}\n")
            sys.stderr.flush()


def flush() -> None:
    """Hand on what was written so far."""
    if sys.stdout is not None:
        sys.stdout.flush()


def _as_json(rows: Sequence[Row], names: Sequence[str]) -> str:
    return json.dumps([_plain(row, names) for row in rows], indent=2) + "\n"


def _as_jsonl(rows: Sequence[Row], names: Sequence[str]) -> str:
    return "".join(json.dumps(_plain(row, names)) + "\n" for row in rows)


def _plain(row: Row, names: Sequence[str]) -> dict[str, Any]:
    return {name: _json.to_plain(row.get(name)) for name in names}


def _as_csv(rows: Sequence[Row], names: Sequence[str]) -> str:
    if not names:
        return ""
    lines = [_csv_line([row.get(name) for name in names]) for row in rows]
    return "".join(f"{line}\n" for line in [_csv_line(names), *lines])


def _csv_line(line: Sequence[Any]) -> str:
    # Not the csv module: it leaves a lone \r bare, which its reader then refuses.
    texts = [_csv_cell(value) for value in line]
    return '""' if texts == [""] else ",".join(texts)


def _csv_cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return repr(value)
    text = value if isinstance(value, str) else json.dumps(_json.to_plain(value))
    if any(c in text for c in ',"\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text


def _write_parquet(rows: Sequence[Row], names: Sequence[str], draft: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = [_column([row.get(name) for row in rows]) for name in names]
    pq.write_table(pa.table(arrays, names=list(names)), draft)


def _column(values: Sequence[Any]) -> Any:
    """An Arrow column; values that share no type become JSON text."""
    import pyarrow as pa

    kinds = {type(value) for value in values if value is not None}
    exact = kinds != {int, float} or all(
        value is None or isinstance(value, float) or abs(value) <= _EXACT_FLOAT
        for value in values
    )
    if exact and not kinds & {dict, list, tuple}:
        with suppress(pa.ArrowException, TypeError, OverflowError, UnicodeError):
            return pa.array(values)
    texts = [None if v is None else json.dumps(_json.to_plain(v)) for v in values]
    return pa.array(texts, pa.string())


_RENDER = {"table": table, "json": _as_json, "jsonl": _as_jsonl, "csv": _as_csv}
