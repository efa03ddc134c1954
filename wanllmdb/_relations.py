"""What SQL sees of the Catalog, as Arrow tables: runs, projects, events, logs, system.

Columns and their types are those of docs/sql.md, also where there are no rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wanllmdb import _json
from wanllmdb._catalog import models, overview, runs
from wanllmdb._metrics.columns import code_of
from wanllmdb._sources import Lost
from wanllmdb._store import Store
from wanllmdb._views import column_titles
from wanllmdb.errors import CorruptPartError
from wanllmdb.types import JSONValue, Kind

if TYPE_CHECKING:
    import pyarrow as pa

    Projects = Sequence[str] | None

_EXACT = 1 << 53


SCHEMAS: dict[str, dict[str, str]] = {
    "projects": {"project": "text", "runs": "int", "created_at": "time"},
    "runs": {
        "run": "text", "project": "text", "uid": "text", "name": "text",
        "state": "text", "group": "text", "job_type": "text", "notes": "text",
        "tags": "texts", "created_at": "time", "started_at": "time",
        "ended_at": "time", "duration": "float", "last_step": "int", "epochs": "int",
        "exit_code": "int", "error": "text", "host": "text", "dropped_rows": "int",
        "damage": "text", "parent": "text", "parent_step": "int",
    },
    "events": {
        "ts": "time", "kind": "text", "entity": "text", "uid": "text", "run": "text",
        "project": "text", "who": "text", "host": "text", "before": "text",
        "after": "text", "reason": "text",
    },
    "logs": {
        "project": "text", "run": "text", "ts": "time", "stream": "text",
        "level": "text", "text": "text", "writer": "text", "n": "int",
    },
    "system": {
        "project": "text", "run": "text", "ts": "time", "key": "text",
        "value": "float", "writer": "text",
    },
    "artifacts": {
        "project": "text", "artifact": "text", "type": "text", "version": "int",
        "digest": "text", "size": "int", "files": "int", "created_at": "time",
        "run": "text", "metadata": "text", "description": "text", "tags": "texts",
    },
    "aliases": {
        "project": "text", "artifact": "text", "alias": "text", "version": "int",
        "protected": "bool", "moved_at": "time",
    },
    "lineage": {
        "project": "text", "run": "text", "artifact": "text", "version": "int",
        "direction": "text", "artifact_project": "text", "ts": "time",
    },
    "models": {
        "model": "text", "version": "int", "stage": "text", "project": "text",
        "artifact": "text", "artifact_version": "int",
    },
}  # fmt: skip
"""The columns of each relation that is no metric's, with their kinds."""


def build(
    name: str,
    store: Store,
    projects: Projects,
    wanted: Callable[[str], bool],
    lost: Lost,
) -> pa.Table:
    """One of the relations of `SCHEMAS`.

    Args:
        name: Which.
        store: The Store.
        projects: Names; None for all.
        wanted: Says whether a query needs `config` or `summary`.
        lost: Gets what is left out.
    """
    if name == "runs":
        return _runs(store, projects, wanted)
    rows: Iterable[Mapping[str, Any]] = ()
    if name == "projects":
        rows = overview.project_facts(store.catalog.reader)
    elif name == "events":
        rows = overview.events(store.catalog.reader)
    elif name in overview.OF_ARTIFACTS:
        rows = overview.artifact_facts(store.catalog.reader, name)
    elif name == "logs":
        rows = _records(store, projects, Kind.CONSOLE, lost)
    elif name == "system":
        rows = _gauges(store, projects, lost)
    elif name == "models":
        rows = models.facts(store.catalog.reader)
    if projects is not None:
        rows = [row for row in rows if row["project"] in projects]
    return _table(name, list(rows))


def _table(name: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    import pyarrow as pa

    kinds = {
        "text": pa.string(), "int": pa.int64(), "float": pa.float64(),
        "bool": pa.bool_(), "time": pa.timestamp("us", "UTC"),
        "texts": pa.list_(pa.string()),
    }  # fmt: skip
    return pa.table({
        column: pa.array([row.get(column) for row in rows], kinds[kind])
        for column, kind in SCHEMAS[name].items()
    })  # fmt: skip


def _runs(store: Store, projects: Projects, wanted: Callable[[str], bool]) -> pa.Table:
    reader = store.catalog.reader
    with overview.moment(reader):
        rows = overview.run_facts(reader, projects)
        documents = {
            scope: overview.documents(reader, scope, projects)
            for scope in ("config", "summary")
            if wanted(scope)
        }
    for row in rows:
        end, start = row["ended_at"], row["started_at"]
        row["duration"] = None if end is None else (end - start) / 1e6
    table = _table("runs", rows)
    for scope, lines in documents.items():
        held = [
            _json.loads(text if blob is None else store.blobs.get(blob))
            for text, blob in lines
        ]
        table = table.append_column(scope, as_struct(held))
    return table


def as_struct(documents: Sequence[Mapping[str, JSONValue]]) -> pa.Array:
    """Config or summary of many runs as one struct column.

    A field for each key, nested ones with dots. Its type is that of the values where
    they share one; DOUBLE for bools, ints and floats together, if no int is beyond
    2^53; else VARCHAR: texts as they are, the rest as JSON.
    """
    import pyarrow as pa

    columns: dict[str, dict[int, JSONValue]] = {}
    for index, document in enumerate(documents):
        for key, value in flattened(document):
            columns.setdefault(key, {})[index] = value
    titles = column_titles(columns)
    count = len(documents)
    if not columns:
        return pa.array([{}] * count, pa.struct([]))
    names, arrays = [], []
    for key, cells in columns.items():
        names.append(titles[key])
        arrays.append(_column([cells.get(index) for index in range(count)]))
    return pa.StructArray.from_arrays(arrays, names)


def flattened(
    value: Mapping[str, JSONValue], prefix: str = ""
) -> Iterable[tuple[str, JSONValue]]:
    """The values of nested mappings, with dotted keys."""
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            yield from flattened(item, f"{prefix}{key}.")
        else:
            yield prefix + key, item


def _column(values: Sequence[JSONValue]) -> pa.Array:
    import pyarrow as pa

    codes = {code_of(value) for value in values} - {"n"}
    kinds = {"d": pa.float64(), "q": pa.int64(), "b": pa.bool_(), "s": pa.string()}
    if len(codes) == 1 and (code := next(iter(codes))) in kinds:
        return pa.array(values, kinds[code])
    exact = all(not isinstance(v, int) or abs(v) <= _EXACT for v in values)
    if codes and codes <= {"d", "q", "b"} and exact:
        return pa.array([None if v is None else float(v) for v in values])
    return pa.array(
        [v if v is None or isinstance(v, str) else _json.dumps(v) for v in values],
        pa.string(),
    )


def _records(
    store: Store, projects: Projects, kind: Kind, lost: Lost
) -> Iterator[dict[str, Any]]:
    for line in overview.runs(store.catalog.reader, projects):
        record = runs.read(store.catalog.reader, line.pk)
        try:
            found = list(store.logs.records(record, kind))
        except CorruptPartError as error:
            lost.take(error, record.path)
            continue
        for us, ordinal, writer, row in found:
            yield {
                "project": line.project, "run": line.run_id, "ts": us,
                "writer": writer, "n": ordinal, **row,
            }  # fmt: skip


def _gauges(store: Store, projects: Projects, lost: Lost) -> Iterator[dict[str, Any]]:
    own = ("project", "run", "ts", "writer", "n")
    for row in _records(store, projects, Kind.SYSTEM, lost):
        head = {name: row[name] for name in own}
        for key, value in row.items():
            if key not in own and value is not None:
                yield {**head, "key": key, "value": float(value)}
