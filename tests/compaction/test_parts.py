"""What is in the Parquet files themselves, as other programs read them."""

from __future__ import annotations

import math
import stat

import pytest

import wanllmdb

duckdb = pytest.importorskip("duckdb")
pq = pytest.importorskip("pyarrow.parquet")
INT = 2**63


@pytest.fixture(params=["sealed", "merged"])
def parts(bench, request):
    """The parts of two runs of 1,000 rows with a NaN, of one each or merged."""
    for name in "ab":
        run = bench.begin(id=name)
        for n in range(1000):
            value = math.nan if n == 500 else -n / 1000
            row = {
                "v": value, "Case": n, "case": -n, "q": INT - 1 - n, "t": f"t{n % 3}",
                "f": n % 2 == 0, "key": n, "kind": n / 2, "level": "high",
            }  # fmt: skip
            if n % 100 == 7:
                row |= {"sparse": n, "list": [n], "z": -INT}
            run.log(row)
        run.log_message("hello")
        run.finish()
    bench.release()
    bench.compact(bench.store, INLINE_BYTES=0, MERGED_BYTES=0)
    if request.param == "merged":
        bench.compact(bench.store)
        bench.let_time_pass(bench.store)
        bench.compact(bench.store)
    found = {}
    for path in bench.store.glob("parts/*/*.parquet"):
        (layout,) = bench.sql(
            bench.store, "SELECT layout FROM part WHERE name = ?", path.name
        )[0]  # fmt: skip
        found.setdefault(layout, []).append(path)
    assert set(found) == {"wide", "tall", "objects", "console"}
    return found


def ask(paths, what):
    files = [str(path) for path in paths]
    with duckdb.connect() as connection:
        return connection.execute(
            f"SELECT {what} FROM read_parquet(?, union_by_name = true)", [files]
        ).fetchall()


def test_nan_is_found_in_spite_of_statistics(parts):
    """DuckDB sorts NaN above all numbers; statistics without it would hide it."""
    wide = parts["wide"]
    assert ask(wide, "count(*) FILTER (v > 5)") == [(2,)]
    with duckdb.connect() as connection:
        for where, count in (("v > 5", 2), ("isnan(v)", 2), ("v <= 0", 1998)):
            found = connection.execute(
                f"SELECT count(*) FROM read_parquet(?) WHERE {where}",
                [[str(path) for path in wide]],
            ).fetchall()
            assert found == [(count,)], where
    ((top, low),) = ask(wide, "max(v), min(v)")
    assert math.isnan(top)
    assert low == -0.999


def test_exact_values_are_in_the_file(parts):
    """int64 extremes, keys that differ in case, text and bools."""
    assert ask(parts["wide"], """min("q#i"), max("q#i")""") == [(INT - 1000, INT - 1)]
    assert ask(parts["wide"], """min("case#i"), max("case#i")""") == [(-999, 0)]
    (column,) = [
        name for name in pq.read_schema(parts["wide"][0]).names
        if name.startswith("Case~")
    ]  # fmt: skip
    assert ask(parts["wide"], f'''min("{column}"), max("{column}")''') == [(0, 999)]
    assert ask(parts["wide"], """count(*) FILTER ("f#b"), count(DISTINCT "t#s")""") == [
        (1000, 3)
    ]
    assert ask(parts["tall"], 'min("value#i"), count(*)') == [(-INT, 40)]
    assert ask(parts["objects"], "count(*) FILTER (json = '[7]')") == [(2,)]


def test_value_columns_have_no_statistics(parts):
    """Only what says which row it is has any."""
    own = {"_uid", "_run", "_step", "_ts"}
    for path in (path for paths in parts.values() for path in paths):
        group = pq.read_metadata(path).row_group(0)
        columns = [group.column(i) for i in range(group.num_columns)]
        held = {c.path_in_schema for c in columns if c.statistics is not None}
        assert held <= own
        assert "_run" in held


def test_encodings_are_the_ones_that_were_measured(parts):
    """Doubles are split into bytes, ints are deltas, and nothing is uncompressed."""
    kinds = {"DOUBLE": "BYTE_STREAM_SPLIT", "INT64": "DELTA_BINARY_PACKED",
             "INT32": "DELTA_BINARY_PACKED"}  # fmt: skip
    seen = set()
    for path in (path for paths in parts.values() for path in paths):
        group = pq.read_metadata(path).row_group(0)
        for column in (group.column(i) for i in range(group.num_columns)):
            wanted = kinds.get(column.physical_type)
            assert wanted is None or wanted in column.encodings, column
            assert column.compression == "ZSTD"
            seen.add(wanted)
    assert seen >= set(kinds.values())


def test_every_page_has_a_checksum(parts):
    """A flipped bit in a page is found by any reader that asks for it."""
    (path, *_) = parts["wide"]
    column = pq.read_metadata(path).row_group(0).column(9)
    data = bytearray(path.read_bytes())
    data[column.data_page_offset + column.total_compressed_size - 3] ^= 4
    damaged = path.with_name("damaged.parquet")
    damaged.write_bytes(data)
    with pytest.raises(OSError, match=r"(?i)crc|checksum"):
        pq.ParquetFile(damaged, page_checksum_verification=True).read()


def test_parts_are_read_only_and_private(parts):
    """Mode 0400, in directories of 0700."""
    for path in (path for paths in parts.values() for path in paths):
        assert stat.S_IMODE(path.stat().st_mode) == 0o400
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_many_and_sparse_keys_read_the_same(bench):
    """Beyond 256 keys, and of keys that few rows have, each value is at its row."""
    run = bench.begin(id="r")
    for n in range(45):
        row = {f"key{k}": n * 1000 + k for k in range(270)}
        row |= {f"sparse{n % 40}": n / 2, "text": f"t{n}" if n % 25 == 0 else n}
        run.log(row)
    run.finish()
    wanted = bench.look(bench.store)
    bench.release()
    for _ in range(2):
        bench.compact(bench.store, INLINE_BYTES=0)
        assert bench.look(bench.store) == wanted
        with wanllmdb.init(project="q", store=bench.store):
            pass
    assert {row[0] for row in bench.sql(bench.store, "SELECT layout FROM part")} == {
        "wide", "tall"
    }  # fmt: skip


def test_sparse_keys_of_several_runs_stay_apart(bench):
    """Merged from the Catalog together, each run has its own values."""
    for run_number in range(5):
        run = bench.begin(id=f"r{run_number}")
        for n in range(50):
            run.log({"v": n, f"k{n % 30}": run_number * 1000 + n, "note": f"{n}"})
        run.finish()
    wanted = bench.look(bench.store)
    bench.release()
    bench.compact(bench.store, INLINE_BYTES=1 << 20)
    assert bench.look(bench.store) == wanted
    assert bench.sql(bench.store, "SELECT count(*) FROM inline_log") == [(0,)]


def test_a_resumed_small_run_is_merged_whole(bench):
    """Two logs in the Catalog, each of one shape: both are in the part."""
    for attempt in range(3):
        with wanllmdb.init(
            project="p", id="r", resume="allow", store=bench.store
        ) as run:
            for n in range(4):
                run.log({"x": attempt * 10 + n})
    with wanllmdb.init(project="p", id="s", store=bench.store) as run:
        run.log({"x": 1})
        run.summary["note"] = "after the last row"
    wanted = bench.look(bench.store)
    assert len(wanted["r"]["rows"]) == 12
    bench.compact(bench.store)
    assert bench.sql(bench.store, "SELECT count(*) FROM inline_log") == [(0,)]
    assert bench.look(bench.store) == wanted


def test_a_metric_may_have_the_name_of_a_column(bench):
    """`key`, `kind` and `json` are metrics like others, also where parts are merged."""
    for name in "rs":
        for attempt in range(2):
            run = bench.begin(id=name, resume="allow")
            for n in range(20):
                run.log({"key": -n, "kind": n / 3, "json": n, "stream": attempt})
            run.log({"key": 5, "list": [1]}, step=3)
            run.finish()
    wanted = bench.look(bench.store)
    bench.release()
    bench.compact(bench.store, INLINE_BYTES=0, BATCH_BYTES=1, MERGED_BYTES=0)
    assert bench.sql(
        bench.store, "SELECT min(plain) FROM part_run JOIN part ON part.id = part_id"
        " WHERE layout = 'wide' GROUP BY run_id",
    ) == [(0,), (0,)]  # fmt: skip
    bench.compact(bench.store)
    assert bench.look(bench.store) == wanted
