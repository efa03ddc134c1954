"""SQL over a Store, with DuckDB: users' queries locked in, our own beside them.

A user's query gets a connection of its own, in memory, with the views that it names
and no way out: only the parts that these read may be opened, no other file, no
network, no extension, no setting, no variable of the host program.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from wanllmdb import _relations, _sources, _views
from wanllmdb._catalog import overview
from wanllmdb._sources import Lost, Source, Sources
from wanllmdb._store import Store
from wanllmdb.errors import CorruptPartError, QueryError

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

MEMORY_SHARE = 0.5
"""Of the machine's memory, what a query may take before it spills, or is refused."""

ATTEMPTS = 5
LONG_SECONDS = 45.0
"""A query that took longer is run again if rows were moved meanwhile: what they were
moved from stays for 60 s."""

_METRICS = ("metrics", "metrics_all", "history")
_TABLES = tuple(_relations.SCHEMAS)
_WORD = re.compile(r"\w+")
_OUTSIDE = re.compile(
    r"disabled by configuration|has been disabled|Loading external extensions"
    r"|Cannot access (file|directory)|Table with name \S*[/.]\S* does not exist"
)
_NO_HISTORY = re.compile(r"Table with name history\b.* does not exist")

Params = Mapping[str, Any] | Sequence[Any] | None


def run_query(
    store: Store,
    sql: str,
    params: Params = None,
    *,
    projects: Sequence[str] | None = None,
    external: bool = False,
) -> pa.Table:
    """The rows of a query, as an Arrow table.

    Args:
        store: The Store.
        sql: One SELECT.
        params: Values for ``?``, ``$1`` or ``$name``.
        projects: See only these; None for all.
        external: Lift the lock: files, extensions, the network, any statement.

    Raises:
        QueryError: it is no single SELECT, it is wrong, or it needs `external`.
        CorruptPartError: a part that it reads is damaged.
    """
    if not external:
        check(sql)
    for attempt in range(ATTEMPTS):
        before = overview.generation(store.catalog.reader)
        started = time.monotonic()
        last = attempt == ATTEMPTS - 1
        try:
            table = _run_once(store, sql, params, projects, external)
        except (FileNotFoundError, CorruptPartError, QueryError):
            moved = overview.generation(store.catalog.reader) != before
            if last or not moved:
                raise
            continue
        slow = time.monotonic() - started > LONG_SECONDS
        if last or not slow or overview.generation(store.catalog.reader) == before:
            return table
    raise AssertionError


def check(sql: str) -> None:
    """Refuse whatever is no single SELECT, before anything is executed.

    Raises:
        QueryError: it is none.
    """
    import duckdb

    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise QueryError(_first_line(error), hint="See docs/sql.md.") from error
    except TypeError:  # what DuckDB's binding says of half a character
        raise QueryError("The query is no valid text.", hint="Decode it.") from None
    if len(statements) != 1:
        raise QueryError(
            f"A query is one statement, and these are {len(statements)}.",
            hint="Ask them one by one.",
        )
    kind = statements[0].type
    if kind == duckdb.StatementType.MULTI:
        raise QueryError(
            "This PIVOT is several statements, for it must look for its columns.",
            hint="Name them: PIVOT ... ON key IN ('a', 'b') USING ...",
        )
    if kind != duckdb.StatementType.SELECT:
        raise QueryError(
            f"A query is a SELECT, and this is {kind.name}.",
            hint="external=True (--external) allows any statement.",
        )


def _run_once(
    store: Store,
    sql: str,
    params: Params,
    projects: Sequence[str] | None,
    external: bool,
) -> pa.Table:
    import duckdb

    spill = store.tmp / f"query-{os.urandom(8).hex()}"
    prepared = _Prepared(store, sql, params, projects)
    with ThreadPoolExecutor(1) as pool:
        opening = pool.submit(connect)  # 12 ms, meanwhile
        try:
            prepared.gather()
        except BaseException:
            opening.result().close()
            raise
    connection = opening.result()
    try:
        prepared.make_views(connection)
        if not external:
            _lock(connection, prepared.paths, "" if store.read_only else str(spill))
        table = fetched(connection, sql, params or None)
        prepared.lost.warn()
        return table
    except duckdb.Error as error:
        raise explained(error, prepared.paths, external=external) from error
    except UnicodeError as error:
        raise QueryError(str(error), hint="Use valid text.") from error
    finally:
        connection.close()
        shutil.rmtree(spill, ignore_errors=True)


def connect() -> duckdb.DuckDBPyConnection:
    """A connection in memory that loads nothing by itself, and tells times in UTC."""
    import duckdb

    connection = duckdb.connect(
        config={
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "python_enable_replacements": "false",
        }
    )
    connection.execute("SET parquet_metadata_cache = true")
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def fetched(
    connection: duckdb.DuckDBPyConnection, sql: str, params: Params = None
) -> pa.Table:
    """The rows of a query, which Ctrl-C stops.

    It runs in a thread of its own: DuckDB looks for signals now and then only.
    """
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(lambda: _as_table(connection.sql(sql, params=params)))
        try:
            return future.result()
        except KeyboardInterrupt:
            while not future.done():  # again, if it had not yet begun
                connection.interrupt()
                time.sleep(0.02)
            raise


def _as_table(result: duckdb.DuckDBPyRelation | None) -> pa.Table:
    """A result as Arrow; integers of 128 bits, as sums are, become 64 if they fit.

    Of columns of one name all but the first get a number: ``run``, ``run_1``.
    """
    import pyarrow as pa

    if result is None:  # a statement that gives no rows
        return pa.table({})
    table: Any = result.to_arrow_table()
    table = table.rename_columns(_apart(table.column_names))
    for index, field in enumerate(table.schema):
        if pa.types.is_decimal(field.type) and field.type.scale == 0:
            try:
                column = table.column(index).cast(pa.int64())
            except pa.ArrowInvalid:
                continue
            table = table.set_column(index, field.name, column)
    return table


def _apart(names: Sequence[str]) -> list[str]:
    found: list[str] = []
    for name in names:
        title, number = name, 0
        while title in found or (number and title in names):
            number += 1
            title = f"{name}_{number}"
        found.append(title)
    return found


def _lock(
    connection: duckdb.DuckDBPyConnection, paths: Sequence[str], spill: str
) -> None:
    import psutil

    listed = ", ".join(_views.literal(path) for path in paths)
    megabytes = int(psutil.virtual_memory().total * MEMORY_SHARE) >> 20
    settings = (
        f"temp_directory = {_views.literal(spill)}",  # not the working directory
        f"allowed_paths = [{listed}]",
        "enable_external_access = false",
        f"memory_limit = '{megabytes}MB'",
        f"threads = {_usable_cores()}",
        "lock_configuration = true",  # at last
    )
    connection.execute("".join(f"SET {setting};" for setting in settings))


def _usable_cores() -> int:
    """The cores that this process may use: a cluster's job has fewer than the node."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def explained(
    error: Exception, paths: Sequence[str], *, external: bool = True
) -> QueryError | CorruptPartError:
    """What DuckDB says, as an error of ours.

    Args:
        error: DuckDB's.
        paths: Parts that are read: an error that names one means that it is damaged.
        external: Whether files were in reach.
    """
    text = _first_line(error)
    if not external and _OUTSIDE.search(text):
        return QueryError(
            f"A query reads the Store alone: {text}",
            hint="external=True (--external) lets it reach files and the network.",
        )
    if any(path in str(error) for path in paths):
        return CorruptPartError(
            text, hint="`wanllmdb store verify` finds and sets aside what is damaged."
        )
    if "empty struct" in text:
        return QueryError(
            "There is no such key: the config, or summary, of every run is empty.",
            hint="`SELECT config, summary FROM runs` shows what there is.",
        )
    if _NO_HISTORY.search(text):
        return QueryError(text, hint="Name a project: FROM history('PROJECT').")
    return QueryError(text, hint="See docs/sql.md for tables and columns.")


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    shown = [line for line in lines if not line.startswith(("LINE ", " "))]
    return " ".join(shown)[:500] or type(error).__name__


class _Prepared:
    """The views that a query names, made on its connection."""

    _connection: duckdb.DuckDBPyConnection

    def __init__(
        self,
        store: Store,
        sql: str,
        params: Params,
        projects: Sequence[str] | None,
    ) -> None:
        self._store = store
        self._sources: Sources | None = None
        given = params.values() if isinstance(params, Mapping) else params or ()
        # Whatever it names must stand here, or in a value that it is given.
        text = " ".join([sql, *(v for v in given if isinstance(v, str))])
        plain = text.replace('""', '"').replace("''", "'")
        self._text = text if plain == text else f"{text} {plain}"
        self._words = {word.lower() for word in _WORD.findall(self._text)}
        self._projects = projects
        self._tables: list[Any] = []
        self.paths: list[str] = []
        self.lost = Lost()

    def gather(self) -> None:
        """Find the rows of metrics, if the query names any."""
        if not self._words.isdisjoint(_METRICS) or any(
            word.startswith("history") for word in self._words
        ):
            self._sources = _sources.gather(self._store, self.lost, self._projects)

    def make_views(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        sources = self._sources
        for name in _TABLES:
            if name in self._words:
                self._make_table(name)
        if sources is None:
            return
        make_served(self._connection, sources)
        self.paths += [str(s.path) for s in sources.items if s.path is not None]
        if "metrics" in self._words:
            self._view("metrics", _views.metrics(sources.items, self.register))
        if "metrics_all" in self._words:
            self._make_all()
        if any(word.startswith("history") for word in self._words):
            self._make_histories(sources)

    def register(self, table: pa.Table) -> str:
        """Give an Arrow table a name."""
        for number, known in enumerate(self._tables):
            if known is table:
                return f"_table_{number}"
        self._tables.append(table)
        name = f"_table_{len(self._tables) - 1}"
        self._connection.register(name, table)
        return name

    def _view(self, name: str, body: str) -> None:
        self._connection.execute(f"CREATE VIEW {_views.quoted(name)} AS {body}")

    def _make_table(self, name: str) -> None:
        table = _relations.build(
            name, self._store, self._projects, self._needs, self.lost
        )
        self._connection.register(f"_{name}_rows", table)
        self._view(name, f"SELECT * FROM _{name}_rows")

    def _needs(self, scope: str) -> bool:
        named = not self._words.isdisjoint((scope, "columns")) or "*" in self._text
        return named or "select" not in self._words  # FROM runs

    def _make_histories(self, sources: Sources) -> None:
        by_project: dict[str, list[Source]] = {
            fact["project"]: []
            for fact in overview.project_facts(self._store.catalog.reader)
            if self._projects is None or fact["project"] in self._projects
        }
        for source in sources.items:
            by_project.setdefault(source.project, []).append(source)
        held = {run.project for run in sources.runs}
        titles = _views.column_titles(by_project)
        named: dict[str, str] = {}
        for number, (project, items) in enumerate(by_project.items()):
            if project.casefold() in self._text.casefold() or held == {project}:
                named[project] = f"_history_{number}"
                body = _views.history(items, self.register, self._text)
                self._view(named[project], body)
                self._view(f"history_{titles[project]}", f"FROM {named[project]}")
        if len(held) < 2:
            only = "".join(named[project] for project in held)
            self._view("history", f"FROM {only}" if held else _views.NO_HISTORY)
        self._make_macro(named)

    def _make_macro(self, named: Mapping[str, str]) -> None:
        """Let ``history('p')`` read the view of a project, whatever it is called."""
        cases = "".join(
            f" WHEN {_views.literal(project)} THEN {_views.literal(view)}"
            for project, view in named.items()
        )
        other = """'"history of ' || replace(project, '"', '""') || '"'"""
        self._connection.execute(
            "CREATE MACRO history(project) AS TABLE FROM query_table("
            f"CASE project{cases} WHEN NULL THEN '' ELSE {other} END)"
        )

    def _make_all(self) -> None:
        sources, limits = _sources.gather_all(self._store, self.lost, self._projects)
        self.paths += [str(s.path) for s in sources.items if s.path is not None]
        body = _views.metrics_all(sources.items, self.register, self.register(limits))
        self._view("metrics_all", body)


def make_served(connection: duckdb.DuckDBPyConnection, sources: Sources) -> None:
    """The table of the runs that files may show, where they hold others too."""
    import pyarrow as pa

    if not any(source.mixed for source in sources.items):
        return
    served = pa.table({"uid": pa.array(sorted(sources.served), pa.string())})
    connection.register("_served_uids", served)
    connection.execute(f"CREATE VIEW {_views.SERVED} AS FROM _served_uids")
