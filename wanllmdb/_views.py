"""The SQL of the views over metrics: one branch for each key, type and set of files.

A branch for each key lets DuckDB leave out all others before it opens a file. Columns
have the keys' exact names; keys that differ only in case, which SQL does not tell
apart, get a piece of their SHA-256 (docs/sql.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from wanllmdb import _digest
from wanllmdb._metrics.columns import SUFFIXES
from wanllmdb._sources import Source

if TYPE_CHECKING:
    import pyarrow as pa

    Register = Callable[[pa.Table], str]

SERVED = "_served"
"""The table of uids that are read from files."""

OWN = ("run", "project", "step", "ts", "writer")
"""Columns of `history` that are no metric's."""

WIDE_LIMIT = 256
"""Tall keys of a project beyond which `history` has those only that a query names."""

_TYPES = {"d": "float", "q": "int", "b": "bool", "s": "str"}
_VALUES = {
    "d": ("{c}", "NULL::BIGINT", "NULL::VARCHAR"),
    "q": ("CAST({c} AS DOUBLE)", "{c}", "NULL::VARCHAR"),
    "b": ("CAST({c} AS DOUBLE)", "NULL::BIGINT", "NULL::VARCHAR"),
    "s": ("NULL::DOUBLE", "NULL::BIGINT", "{c}"),
}
_HEAD = "_uid, _run, {project} AS project, {key} AS key, _step, _ts, _writer"
_ALL_HEAD = f"{_HEAD}, _epoch, _stream, _n"
_EMPTY = (
    "SELECT NULL::VARCHAR AS _uid, NULL::VARCHAR AS _run, NULL::VARCHAR AS project,"
    " NULL::VARCHAR AS key, NULL::BIGINT AS _step,"
    " NULL::TIMESTAMPTZ AS _ts, NULL::VARCHAR AS _writer, NULL::DOUBLE AS value,"
    " NULL::BIGINT AS value_int, NULL::VARCHAR AS value_text, NULL::VARCHAR AS type"
    " WHERE false"
)
_EMPTY_ALL = _EMPTY.replace(
    "AS type", "AS type, NULL::INTEGER AS _epoch, NULL::VARCHAR AS _stream,"
    " NULL::BIGINT AS _n"
)  # fmt: skip

NO_HISTORY = (
    "SELECT NULL::VARCHAR AS run, NULL::VARCHAR AS project, NULL::BIGINT AS step,"
    " NULL::TIMESTAMPTZ AS ts, NULL::VARCHAR AS writer WHERE false"
)
"""The view `history` of no rows."""


def quoted(name: str) -> str:
    """A name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def metrics(sources: Sequence[Source], register: Register) -> str:
    """The view `metrics`: a row for each value that shows."""
    body = _values(sources, register, _HEAD, _EMPTY)
    return (
        "SELECT project, _run AS run, key, _step AS step, _ts AS ts, _writer AS writer,"
        f" value, value_int, value_text, type FROM ({body})"
    )


def metrics_all(sources: Sequence[Source], register: Register, limits: str) -> str:
    """The view `metrics_all`: a row for each value that was ever logged.

    Args:
        sources: Every row of the runs, once.
        register: Gives a table a name.
        limits: The relation of (uid, epoch, last) that says which rows show.
    """
    # Every run is read from files here: the limits name those that show.
    every = [replace(source, mixed=False) for source in sources]
    body = _values(every, register, _ALL_HEAD, _EMPTY_ALL)
    return (
        "SELECT m.project, m._run AS run, m.key, m._step AS step, m._ts AS ts,"
        " m._writer AS writer, m.value, m.value_int, m.value_text, m.type,"
        " m._epoch AS epoch, m._stream AS stream, m._n AS n,"
        " (s.uid IS NULL OR m._step > coalesce(s.last, m._step)) AS superseded"
        f" FROM ({body}) m"
        f" LEFT JOIN {limits} s ON s.uid = m._uid AND s.epoch = m._epoch"
        f" WHERE m._uid IN (SELECT uid FROM {limits})"
    )


def numbers(sources: Sequence[Source], register: Register, keys: Sequence[str]) -> str:
    """A relation of the numbers of some keys: `value`, and which row's it is."""
    some = [
        replace(s, columns={k: s.columns[k] for k in keys if k in s.columns})
        if s.layout == "wide" else s
        for s in sources
    ]  # fmt: skip
    body = _values(some, register, _HEAD, _EMPTY)
    listed = ", ".join(literal(key) for key in keys)
    return (
        f"SELECT _uid, _run, project, key, _step, _ts, _writer, value FROM ({body})"
        f" WHERE value IS NOT NULL AND key IN ({listed})"
    )


def _values(
    sources: Sequence[Source], register: Register, head: str, empty: str
) -> str:
    """A relation of all values, one branch for each key and type."""
    branches = []
    for group in _grouped(sources, "wide"):
        branches += _wide_branches(group, register, head)
    for group in _grouped(sources, "tall"):
        branches.append(_tall_branch(group, register, head))
    for group in _grouped(sources, "objects"):
        relation = _relation(group, register)
        branches.append(
            f"SELECT {_headed(head, group, 'key')}, NULL::DOUBLE AS value, NULL::BIGINT"
            " AS value_int, json AS value_text, 'json' AS type"
            f" FROM {relation} WHERE kind = 'value' AND json <> 'null'"
        )
    return " UNION ALL ".join(branches or [empty])


def _headed(head: str, group: Sequence[Source], key: str) -> str:
    return head.format(project=literal(group[0].project), key=key)


def _grouped(sources: Iterable[Source], layout: str) -> list[list[Source]]:
    """Sources that are read as one relation: a project's files, each table.

    Files that hold rows of runs that must not show are a relation of their own.
    """
    groups: dict[Any, list[Source]] = {}
    for source in sources:
        if source.layout == layout:
            files = source.path is not None
            place = (source.project, source.mixed) if files else id(source)
            groups.setdefault(place, []).append(source)
    return list(groups.values())


def _relation(
    group: Sequence[Source], register: Register, *, same: bool = False
) -> str:
    """What stands after FROM.

    Args:
        group: Files of one kind, or one table.
        register: Gives a table a name.
        same: Whether all files have the columns that are wanted.
    """
    first = group[0]
    if first.table is not None:
        return register(first.table)
    names = ", ".join(literal(str(source.path)) for source in group)
    option = "" if same or len(group) == 1 else ", union_by_name = true"
    relation = f"read_parquet([{names}]{option})"
    if first.mixed:  # a semi join, so that others' rows never show
        return f"(SELECT * FROM {relation} WHERE _uid IN (SELECT uid FROM {SERVED}))"
    return relation


def _wide_branches(group: Sequence[Source], register: Register, head: str) -> list[str]:
    holders: dict[tuple[str, str, str], list[Source]] = {}
    for source in group:
        for key, (name, codes) in source.columns.items():
            for code in codes:
                if code in SUFFIXES:
                    holders.setdefault((key, code, name), []).append(source)
    relations: dict[tuple[int, ...], str] = {}
    branches = []
    for (key, code, name), held in holders.items():
        which = tuple(id(source) for source in held)
        if which not in relations:
            relations[which] = _relation(held, register, same=True)
        column = quoted(name + SUFFIXES[code])
        value, exact, text = (part.format(c=column) for part in _VALUES[code])
        branches.append(
            f"SELECT {_headed(head, held, literal(key))}, {value} AS value, {exact} AS"
            f" value_int, {text} AS value_text, '{_TYPES[code]}' AS type"
            f" FROM {relations[which]} WHERE {column} IS NOT NULL"
        )
    return branches


def _tall_branch(group: Sequence[Source], register: Register, head: str) -> str:
    codes = _codes_of(group)
    held = {code: quoted(f"value{SUFFIXES[code]}") for code in codes}
    numbers = [f"CAST({held[c]} AS DOUBLE)" for c in "dqb" if c in held]
    value = f"coalesce({', '.join(numbers)})" if numbers else "NULL::DOUBLE"
    kinds = " ".join(
        f"WHEN {column} IS NOT NULL THEN '{_TYPES[code]}'"
        for code, column in held.items()
    )
    return (
        f"SELECT {_headed(head, group, 'key')}, {value} AS value,"
        f" {held.get('q', 'NULL::BIGINT')} AS value_int,"
        f" {held.get('s', 'NULL::VARCHAR')} AS value_text, CASE {kinds} END AS type"
        f" FROM {_relation(group, register)}"
    )


def _codes_of(group: Iterable[Source]) -> list[str]:
    found = {code for s in group for _, codes in s.columns.values() for code in codes}
    return [code for code in SUFFIXES if code in found]


# Wide histories


def column_titles(keys: Iterable[str], own: Sequence[str] = ()) -> dict[str, str]:
    """The column of each key in `history`, and the field in `config` and `summary`.

    A key keeps its name, unless another one differs from it only in case: then the one
    that is its own lower case keeps it, and the others get ``~`` and six digits of
    their SHA-256. So does a key called like one of `own`, columns that are no key's.
    """
    names = sorted(set(keys))
    folded: dict[str, int] = {}
    for key in names:
        folded[key.casefold()] = folded.get(key.casefold(), 0) + 1
    titles = {}
    for key in names:
        low = key.casefold()
        alone = folded[low] == 1 or key == low
        if alone and low not in own and key:
            titles[key] = key
    taken = {title.casefold() for title in titles.values()}
    for key in names:
        if key not in titles:
            digest = _digest.hex_of(_digest.of_bytes(key.encode()))
            digits = 6
            while (title := f"{key}~{digest[:digits]}").casefold() in taken:
                digits += 2
            titles[key] = title
            taken.add(title.casefold())
    return titles


def history(sources: Sequence[Source], register: Register, text: str) -> str:
    """The view `history` of one project: a row for each step of a writer of a run.

    Args:
        sources: The project's.
        register: Gives a table a name.
        text: The query: of very many tall keys, those that it names are columns.
    """
    late = [s for s in sources if s.layout != "wide"]
    chosen = {key for source in late for key in source.columns}
    if len(chosen) > WIDE_LIMIT:
        chosen = {key for key in chosen if key in text}
    codes: dict[str, set[str]] = {}
    for source in sources:
        for key, (_, held) in source.columns.items():
            if source.layout == "wide" or key in chosen:
                codes.setdefault(key, set()).update(c for c in held if c != "n")
    codes = {key: held for key, held in codes.items() if held}
    titles = column_titles(codes, OWN)
    joined = _late_values(late, chosen, codes, register)
    branches = []
    for group in _grouped(sources, "wide"):
        of_these = joined.get(group[0].table is None)
        branches.append(_history_branch(group, codes, titles, register, of_these))
    return " UNION ALL BY NAME ".join(branches or [NO_HISTORY])


@dataclass(frozen=True, slots=True)
class _Late:
    """Values that stand in no wide table: one row per log row, a column per key."""

    relation: str
    columns: Mapping[str, str]


def _late_values(
    sources: Sequence[Source],
    chosen: set[str],
    codes: Mapping[str, set[str]],
    register: Register,
) -> dict[bool, _Late]:
    """Values of tall and objects sources: those of files, and those of tables."""
    found = {}
    for files in (True, False):
        selects = []
        for layout in ("tall", "objects"):
            for group in _grouped(sources, layout):
                if (group[0].table is None) is files:
                    selects.append(_late_rows(group, layout, register))
        keys = sorted({
            key for source in sources if (source.table is None) is files
            for key in source.columns if key in chosen and codes.get(key)
        })  # fmt: skip
        if selects and keys:
            # Numbered: SQL would take keys that differ in case for one column.
            names = {key: f"late_{number}" for number, key in enumerate(keys)}
            columns = ", ".join(
                f"max(CASE WHEN key = {literal(key)}"
                f" THEN {_late_value(codes[key])} END) AS {name}"
                for key, name in names.items()
            )
            wanted = ", ".join(literal(key) for key in keys)
            found[files] = _Late(
                f"(SELECT _uid, _stream, _n, {columns} FROM"
                f" ({' UNION ALL '.join(selects)}) WHERE key IN ({wanted})"
                " GROUP BY ALL)",
                names,
            )
    return found


def _late_rows(group: Sequence[Source], layout: str, register: Register) -> str:
    relation = _relation(group, register)
    stream = "_stream, _n, key"
    if layout == "objects":
        return (
            f"SELECT _uid, {stream}, NULL::DOUBLE AS d, NULL::BIGINT AS q,"
            f" NULL::BOOLEAN AS b, json AS s FROM {relation}"
            " WHERE kind = 'value' AND json <> 'null'"
        )
    held = _codes_of(group)
    columns = ", ".join(
        f"{quoted('value' + SUFFIXES[c]) if c in held else f'NULL::{kind}'} AS {c}"
        for c, kind in (("d", "DOUBLE"), ("q", "BIGINT"), ("b", "BOOLEAN"),
                        ("s", "VARCHAR"))
    )  # fmt: skip
    return f"SELECT _uid, {stream}, {columns} FROM {relation}"


_SQL_TYPES = {"d": "DOUBLE", "q": "BIGINT", "b": "BOOLEAN", "s": "VARCHAR"}


def _type_of(codes: set[str]) -> str:
    """The type of a column whose values are of several: DOUBLE, else VARCHAR."""
    if len(codes) == 1:
        return _SQL_TYPES.get(next(iter(codes)), "VARCHAR")
    return "DOUBLE" if codes <= {"d", "q", "b"} else "VARCHAR"


def _late_value(codes: set[str]) -> str:
    kind = _type_of(codes)
    some = [c for c in "dqbs" if c in codes or kind == "VARCHAR"]
    return f"coalesce({', '.join(f'CAST({c} AS {kind})' for c in some)})"


def _history_branch(
    group: Sequence[Source],
    codes: Mapping[str, set[str]],
    titles: Mapping[str, str],
    register: Register,
    late: _Late | None,
) -> str:
    relation = _relation(group, register)
    columns: dict[str, list[str]] = {}
    for source in group:
        for key, (name, held) in source.columns.items():
            for code in held:
                if code in SUFFIXES:
                    column = f"w.{quoted(name + SUFFIXES[code])}"
                    known = columns.setdefault(key, [])
                    if column not in known:
                        known.append(column)
    table = group[0].table
    join = ""
    # Plain inline logs hold nothing late, and do not say which log row is which.
    if late is not None and (table is None or "_stream" in table.column_names):
        join = f" LEFT JOIN {late.relation} l USING (_uid, _stream, _n)"
        for key, name in late.columns.items():
            columns.setdefault(key, []).append(f"l.{name}")
    shown = "".join(
        f", {_united(found, _type_of(codes[key]))} AS {quoted(titles[key])}"
        for key, found in columns.items()
        if codes.get(key)
    )
    return (
        f"SELECT _run AS run, {literal(group[0].project)} AS project, _step AS step,"
        f" _ts AS ts, _writer AS writer{shown} FROM {relation} w{join}"
    )


def _united(columns: Sequence[str], kind: str) -> str:
    if len(columns) == 1 and kind != "VARCHAR":
        return f"CAST({columns[0]} AS {kind})"
    return f"coalesce({', '.join(f'CAST({c} AS {kind})' for c in columns)})"
