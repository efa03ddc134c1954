"""A part that an enemy made is refused, whole, with one error that names it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest

from wanllmdb._metrics import parts
from wanllmdb.errors import IntegrityError


@pytest.fixture
def sent(bench, exchange):
    """One set, of a wide, a tall and an objects part."""
    run = bench.begin(id="r")
    for n in range(60):
        run.log({"loss": 1.0 / (n + 1), "n": n})
    run.log({"rare": 1.0, "list": [1]})
    run.summary["best"] = 3
    run.finish()
    (one,) = exchange.out(bench.store)
    return one


@pytest.fixture
def target(bench, exchange, sent):
    """A Store that knows the run, and none of its rows."""
    return exchange.emptied(bench.store)


def rewritten(one, layout, change, metadata=None, **options):
    """The set with another file in place of a part; what is said of it is true."""
    import pyarrow.parquet as pq

    files = []
    for file in one.parts:
        if file.layout == layout:
            table = change(pq.read_table(file.path))
            path = file.path.with_name(f"evil-{file.path.name}")
            text = metadata or json.loads(
                pq.read_metadata(file.path).metadata[parts.METADATA]
            )
            with pq.ParquetWriter(path, table.schema, store_schema=False) as writer:
                writer.write_table(table, **options)
                writer.add_key_value_metadata({parts.METADATA: json.dumps(text)})
            data = path.read_bytes()
            digest = hashlib.sha256(data).hexdigest()
            file = replace(
                file, path=path, sha256=digest, size=len(data), rows=table.num_rows
            )
        files.append(file)
    return replace(one, parts=tuple(files))


def put(name, values, kind=None):
    """Replaces a column."""

    def change(table):
        import pyarrow as pa

        at = table.column_names.index(name)
        return table.set_column(
            at,
            name,
            pa.array(values(table[name].to_pylist()), kind or table[name].type),
        )

    return change


def swapped(values):
    return [values[1], values[0], *values[2:]]


CHANGES = {
    "a value": ("wide", put("loss", lambda v: [9.0, *v[1:]])),
    "a step": ("wide", put("_step", lambda v: [9, *v[1:]])),
    "another run": ("wide", put("_uid", lambda v: ["0" * 32, *v[1:]])),
    "two ids": ("wide", put("_run", lambda v: ["other", *v[1:]])),
    "another stream": ("wide", put("_stream", lambda v: ["0" * 10, *v[1:]])),
    "another writer": ("wide", put("_writer", lambda v: ["rank-1", *v[1:]])),
    "another epoch": ("wide", put("_epoch", lambda v: [7, *v[1:]])),
    "an ordinal twice": ("wide", put("_n", lambda v: [v[1], *v[1:]])),
    "a negative ordinal": ("wide", put("_n", lambda v: [-1, *v[1:]])),
    "an ordinal beyond": ("wide", put("_n", lambda v: [*v[:-1], 10**12])),
    "ordinals out of order": ("wide", put("_n", swapped)),
    "no step": ("wide", put("_step", lambda v: [None, *v[1:]])),
    "a missing row": ("wide", lambda t: t.slice(1)),
    "no rows": ("wide", lambda t: t.slice(0, 0)),
    "another type": ("wide", put("loss", lambda v: ["x"] * len(v), "string")),
    "a nested type": ("wide", put("loss", lambda v: [[1.0]] * len(v), None)),
    "a column more": ("wide", lambda t: t.append_column("more", t["loss"])),
    "the same column": ("wide", lambda t: t.append_column("LOSS", t["loss"])),
    "a column less": ("wide", lambda t: t.drop_columns(["loss"])),
    "a value of no row": ("tall", put("_n", lambda v: [55])),
    "another key": ("tall", put("key", lambda v: ["other"])),
    "bad JSON": ("objects", put("json", lambda v: ["{", *v[1:]])),
    "deep JSON": ("objects", put("json", lambda v: ["[" * 99_999, *v[1:]])),
    "an unknown kind": ("objects", put("kind", lambda v: ["code", *v[1:]])),
    "a lost write": ("objects", lambda t: t.slice(0, t.num_rows - 1)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_part_with_other_content_is_refused(exchange, sent, target, name):
    """And nothing of it is left in the Store."""
    layout, change = CHANGES[name]
    if name == "a nested type":
        import pyarrow as pa

        change = put("loss", lambda v: [[1.0]] * len(v), pa.list_(pa.float64()))
    evil = rewritten(sent, layout, change)
    with pytest.raises(IntegrityError):
        exchange.take(target, [evil])
    assert not list(target.rglob("*.parquet"))
    assert exchange.take(target, [sent])


DESCRIPTIONS = {
    "version": {"version": 2, "layout": "wide", "columns": {}},
    "layout": {"version": 1, "layout": "system", "columns": {}},
    "no columns": {"version": 1, "layout": "wide"},
    "a list": [1],
    "another's column": {
        "version": 1, "layout": "wide",
        "columns": {"Loss": ["loss", "d"], "n": ["n", "q"]},
    },
    "code": {
        "version": 1, "layout": "wide",
        "columns": {"loss": ["loss", "z"], "n": ["n", "q"]},
    },
    "a surrogate": {
        "version": 1, "layout": "wide",
        "columns": {"\ud800": ["loss", "d"], "n": ["n", "q"]},
    },
}  # fmt: skip


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_a_part_that_describes_itself_wrongly_is_refused(exchange, sent, target, name):
    """Its layout and the columns of its keys are looked at first."""
    evil = rewritten(sent, "wide", lambda table: table, DESCRIPTIONS[name])
    with pytest.raises(IntegrityError):
        exchange.take(target, [evil])
    assert not list(target.rglob("*.parquet"))


def test_texts_that_fill_the_memory_are_refused(exchange, sent, target, monkeypatch):
    """One long text that all rows share takes next to nothing in the file."""
    from wanllmdb import _partcheck

    monkeypatch.setattr(_partcheck, "GROUP_BYTES", 1 << 20)
    evil = rewritten(
        sent, "wide", put("loss", lambda v: ["x" * 100_000] * len(v), "string"),
        {"version": 1, "layout": "wide",
         "columns": {"loss": ["loss", "s"], "n": ["n", "q"]}},
    )  # fmt: skip
    evil = rewritten(
        evil, "wide", lambda t: t.rename_columns(
            ["loss#s" if name == "loss" else name for name in t.column_names]
        ),
    )  # fmt: skip
    with pytest.raises(IntegrityError, match="too long"):
        exchange.take(target, [evil])


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" * 3, b"x" * 500])
def test_what_is_no_parquet_is_refused(exchange, sent, target, data):
    """Whatever its length."""
    (first, *rest) = sent.parts
    path = first.path.with_name(f"no-{first.path.name}")
    path.write_bytes(data)
    evil = replace(sent, parts=(replace(first, path=path, size=len(data)), *rest))
    with pytest.raises(IntegrityError):
        exchange.take(target, [evil])
    assert not list(target.rglob("*.parquet"))


@pytest.mark.parametrize("change", [
    {"end": 61}, {"first": 1}, {"rows_before": 1, "first": 1},
    {"digest": "0" * 64}, {"epoch": 2}, {"writer": "other"}, {"run": "../../x"},
    {"token": "a/b"}, {"end": 1 << 64}, {"rows_before": -1}, {"epoch": True},
])  # fmt: skip
def test_a_range_that_is_not_what_the_part_holds_is_refused(
    exchange, sent, target, change
):
    """Of the right number of rows, under the right names."""
    (found,) = sent.ranges
    evil = replace(sent, ranges=(replace(found, **change),))
    with pytest.raises(IntegrityError):
        exchange.take(target, [evil])
    assert not list(target.rglob("*.parquet"))


def test_ranges_that_nothing_holds_and_rows_in_no_range_are_refused(
    exchange, sent, target
):
    """A set is its ranges, no more and no less."""
    (found,) = sent.ranges
    for ranges in [(), (found, found), (found, replace(found, token="0" * 10))]:
        with pytest.raises(IntegrityError):
            exchange.take(target, [replace(sent, ranges=ranges)])
