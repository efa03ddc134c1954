"""SQL equals a model in plain Python, wherever the rows lie."""

from __future__ import annotations

import contextlib
import shutil
import struct
import tempfile
import warnings

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import wanllmdb
from wanllmdb import _compaction, _digest, _json
from wanllmdb._views import OWN, column_titles

KEYS = [
    "a", "b", "Loss", "loss", "LOSS", "step", "ts", "_own", "loss#i", "run", "project",
    "writer", "key", "value", "value#i", "kind", "json", "a.b", "a/b", 'q"x', "it's",
    "e🚀", "x~y", "late_0", "é", "É", "select", "%s", "a b", "\\n",
]  # fmt: skip
NUMBERS = st.floats() | st.sampled_from(
    [float("nan"), float("inf"), -float("inf"), -0.0, 5e-324, 1.7976931348623157e308]
)
HEADS = {"_step", "_timestamp", "_runtime", "_writer"}
INTS = st.integers(-3, 3) | st.sampled_from(
    [2**63 - 1, -(2**63), 2**63, 2**53 + 1, -(2**53) - 1, 10**30]
)
VALUES = st.one_of(
    NUMBERS, NUMBERS, INTS, st.booleans(), st.none(), st.sampled_from(["", "1", "é🚀"]),
    st.lists(NUMBERS | INTS, max_size=3),
)  # fmt: skip
PLAIN = st.dictionaries(st.sampled_from(KEYS), NUMBERS | INTS, min_size=1, max_size=4)
ANY = st.dictionaries(st.sampled_from(KEYS), VALUES, min_size=1, max_size=4)
STEPS = st.none() | st.integers(0, 6)
ROWS = st.lists(st.tuples(STEPS, PLAIN | ANY), min_size=1, max_size=8)
# How a run goes on after its first attempt, and where its rows are then.
MORE = st.none() | st.tuples(
    st.sampled_from(["resume", "rewind", "anew", "fork"]), ROWS
)
PLACES = st.sampled_from(["inline", "sealed", "merged"])
RUNS = st.lists(
    st.tuples(st.sampled_from("pq"), ROWS, PLACES, MORE, PLACES), min_size=1, max_size=3
)


@contextlib.contextmanager
def fresh_store():
    """A Store of its own, for each example."""
    path = tempfile.mkdtemp()
    try:
        yield path
    finally:
        wanllmdb.teardown()
        shutil.rmtree(path)


@contextlib.contextmanager
def inline_limit(size):
    """Runs whose log is larger are sealed when they end."""
    old, _compaction.INLINE_BYTES = _compaction.INLINE_BYTES, size
    try:
        yield
    finally:
        _compaction.INLINE_BYTES = old


def merged(api):
    """Seal and merge all that can be."""
    with inline_limit(0):
        return list(api.store.compact())


def bits(value):
    """A value that equals itself alone: NaN too, and -0.0 is not 0.0."""
    if isinstance(value, float):
        return "nan" if value != value else struct.pack("<d", value)
    return value


def log(run, rows):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of steps that go back
        for step, values in rows:
            run.log(values, step=step)


def record(store, number, spec):
    """One run and what becomes of it."""
    project, rows, place, more, then = spec
    name = f"r{number}"
    with inline_limit(0 if place == "sealed" else 16 << 10):
        with wanllmdb.init(store=store, project=project, id=name) as run:
            log(run, rows)
        if place == "merged":
            with wanllmdb.Api(store) as api:
                merged(api)
    if more is None:
        return
    how = {
        "resume": {"id": name, "resume": "must"},
        "rewind": {"resume_from": f"{name}?_step=2"},
        "anew": {"id": name},
        "fork": {"id": f"f{number}", "fork_from": f"{name}?_step=2"},
    }[more[0]]
    with (
        inline_limit(0 if then == "sealed" else 16 << 10),
        wanllmdb.init(store=store, project=project, **how) as run,
    ):
        log(run, more[1])


def model_of(api):
    """(project, run) -> rows, as `scan_history` shows them."""
    return {(run.project, run.id): list(run.scan_history()) for run in api.runs()}


def value_columns(value):
    """value, value_int, value_text and type in `metrics`."""
    if isinstance(value, bool):
        return float(value), None, None, "bool"
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return float(value), value, None, "int"
    if isinstance(value, float):
        return value, None, None, "float"
    if isinstance(value, str):
        return None, None, value, "str"
    return None, None, _json.dumps(value), "json"


def expected_metrics(model):
    return sorted(
        (project, run, key, row["_step"], row["_writer"],
         round(row["_timestamp"] * 1000), *map(bits, value_columns(value)))
        for (project, run), rows in model.items()
        for row in rows
        for key, value in row.items()
        if key not in HEADS and value is not None
    )  # fmt: skip


def ordered(rows):
    return sorted(rows, key=repr)


METRICS = (
    "SELECT project, run, key, step, writer, epoch_ms(ts), value, value_int,"
    " value_text, type FROM "
)


def check_metrics(api, model):
    found = [tuple(map(bits, row)) for row in api.query(METRICS + "metrics").fetchall()]
    assert ordered(found) == ordered(expected_metrics(model))


def check_all(api, model):
    """`metrics_all`, of runs that are no forks and lost nothing, is a superset."""
    sql = METRICS + "metrics_all WHERE NOT superseded"
    found = {tuple(map(bits, row)) for row in api.query(sql).fetchall()}
    shown = {row for row in expected_metrics(model) if not row[1].startswith("f")}
    # A row that a later one of its step replaced has its own time.
    assert {row[:5] + row[6:] for row in shown} <= {r[:5] + r[6:] for r in found}


def check_history(api, model, project):
    """Each cell is in the column of its key; where types differ, as a float or text."""
    mine = {run: rows for (name, run), rows in model.items() if name == project}
    keys = {
        key for rows in mine.values() for row in rows for key, value in row.items()
        if value is not None
    } - HEADS  # fmt: skip
    found = api.query("FROM history($p)", {"p": project})
    titles = column_titles(keys, OWN)
    for key in keys:  # another key of these files may differ in case, unseen
        digest = _digest.hex_of(_digest.of_bytes(key.encode()))[:6]
        if f"{key}~{digest}" in found.columns:
            titles[key] = f"{key}~{digest}"
    cells = {(row["run"], row["step"], row["writer"]): row for row in found.to_pylist()}
    assert len(cells) == len(found) == sum(map(len, mine.values()))
    for run, rows in mine.items():
        for row in rows:
            shown = cells[run, row["_step"], row["_writer"]]
            for key in keys:
                check_cell(row.get(key), shown.get(titles[key]))


def check_cell(value, shown):
    if isinstance(shown, float) and isinstance(value, (bool, int)):
        value = float(value)
    if isinstance(shown, str) and not isinstance(value, str):
        assert value is not None
        if isinstance(value, (list, int)) and not isinstance(value, bool):
            assert _json.loads(shown) == value or "nan" in shown
    else:
        assert bits(shown) == bits(value)


def check(api):
    model = model_of(api)
    check_metrics(api, model)
    check_all(api, model)
    for project in {project for project, _ in model}:
        check_history(api, model, project)


# Shrinking writes whole Stores again for minutes: a failure shows as it was found.
@settings(
    max_examples=25, deadline=None, suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate], database=None,
)  # fmt: skip
@given(runs=RUNS, live=st.none() | ROWS, trashed=st.booleans())
def test_sql_shows_what_scan_history_shows(runs, live, trashed):
    """In logs, in the Catalog, in parts, merged, mixed: the same rows, bit by bit."""
    with fresh_store() as store:
        for number, spec in enumerate(runs):
            record(store, number, spec)
        if live is not None:
            run = wanllmdb.init(store=store, project="p", id="live")
            log(run, live)
        with wanllmdb.Api(store) as api:
            check(api)
            if trashed:
                api.run(f"{runs[0][0]}/r0").delete()
                check(api)
            merged(api)
            check(api)
            if live is not None:
                run.finish()
                check(api)


@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=ROWS, place=PLACES)
def test_scan_history_shows_what_was_logged(rows, place):
    """The model itself is right: last values win, None only where nothing else is."""
    expected: dict[int, dict[str, object]] = {}
    cursor = 0
    for step, values in rows:
        at = cursor if step is None else step
        cursor = cursor + 1 if step is None else max(cursor, step)
        into = expected.setdefault(at, {})
        into |= {k: v for k, v in values.items() if v is not None or k not in into}
    with fresh_store() as store:
        record(store, 0, ("p", rows, place, None, place))
        with wanllmdb.Api(store) as api:
            found = {
                row["_step"]: {k: v for k, v in row.items() if k not in HEADS}
                for row in api.run("p/r0").scan_history()
            }
    assert _exact(found) == _exact(expected)


def _exact(rows):
    return {
        step: {key: (type(v).__name__, _json.dumps(v)) for key, v in row.items()}
        for step, row in rows.items()
    }
