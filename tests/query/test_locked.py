"""Users' SQL is locked in: it reads the Store, and leads nowhere else."""

from __future__ import annotations

import pytest

import wanllmdb
from wanllmdb.errors import CorruptPartError, QueryError

pd = pytest.importorskip("pandas")

# Of each: {csv} a file, {part} a part that the query may read, {other} one that it may
# not, {store} the Store.
FILES = """
SELECT * FROM '{csv}'
SELECT * FROM "{csv}"
SELECT * FROM read_csv('{csv}')
SELECT * FROM read_csv_auto('{csv}')
SELECT * FROM read_csv(['{part}', '{csv}'])
SELECT * FROM sniff_csv('{csv}')
SELECT * FROM read_text('{csv}')
SELECT * FROM read_text('file://{csv}')
SELECT * FROM read_text('{part}/../../../../x.csv')
SELECT * FROM read_blob('{csv}')
SELECT * FROM read_json('{csv}')
SELECT * FROM read_ndjson_objects('{csv}')
SELECT * FROM read_text('/proc/self/environ')
SELECT * FROM read_csv('/dev/stdin')
SELECT * FROM glob('{store}/*')
SELECT * FROM read_parquet('{store}/parts/*/*.parquet')
SELECT * FROM read_blob('{store}/catalog.db')
SELECT * FROM read_duckdb('{store}/catalog.db')
SELECT * FROM '{other}'
SELECT * FROM read_parquet('{other}')
SELECT * FROM parquet_metadata('{other}')
SELECT * FROM parquet_schema('{other}')
SELECT * FROM parquet_kv_metadata('{other}')
SELECT * FROM query('FROM ''{csv}''')
SELECT * FROM query_table('{csv}')
SELECT * FROM query_table(['{other}'])
SELECT * FROM 'https://example.com/x.parquet'
SELECT * FROM read_csv('http://127.0.0.1:9/x.csv')
SELECT * FROM 's3://bucket/x.parquet'
SELECT (SELECT max(a) FROM '{csv}')
WITH x AS (FROM '{csv}') SELECT * FROM x
WITH x AS MATERIALIZED (SELECT content FROM read_text('{csv}')) FROM x
SELECT run FROM metrics WHERE EXISTS (FROM '{csv}')
SELECT run FROM metrics UNION ALL SELECT content FROM read_text('{csv}')
SELECT * FROM duckdb_extensions()
SELECT * FROM which_secret('s3://x', 's3')
"""
STATEMENTS = """
COPY (SELECT 1) TO '{new}'
COPY (SELECT 1) TO '{part}' (FORMAT parquet, use_tmp_file false)
COPY metrics TO '{part}' (FORMAT csv, use_tmp_file false)
ATTACH '{part}' AS p
ATTACH '{store}/catalog.db' AS c (TYPE sqlite)
ATTACH '{new}' AS n
EXPORT DATABASE '{new}'
IMPORT DATABASE '{new}'
INSTALL httpfs
LOAD httpfs
LOAD '{csv}'
SET enable_external_access = true
SET lock_configuration = false
RESET enable_external_access
PRAGMA enable_profiling = 'json'
PRAGMA database_list
CREATE TABLE t AS SELECT 1
CREATE TEMP VIEW t AS FROM '{csv}'
CREATE OR REPLACE VIEW metrics AS SELECT 1
CREATE SECRET s (TYPE s3)
CREATE MACRO m() AS TABLE FROM '{csv}'
INSERT INTO metrics VALUES (1)
UPDATE runs SET name = 'x'
DELETE FROM runs
DROP VIEW metrics
PREPARE p AS SELECT 1
EXECUTE p
CALL pragma_version()
VACUUM
CHECKPOINT
BEGIN
USE memory
DETACH memory
EXPLAIN ANALYZE SELECT * FROM '{csv}'
SELECT 1; SELECT 2
SELECT 1; COPY (SELECT 1) TO '{new}'
-- SELECT 1
"""
REFUSED = """
SELECT * FROM host_frame
SELECT host_value
SELECT getenv('HOME')
SELECT * FROM query('COPY (SELECT 1) TO ''{new}''')
SELECT * FROM query('SELECT 1; SELECT 2')
SELECT * FROM json_execute_serialized_sql(json_serialize_sql('COPY t TO ''{new}'''))
SELECT * FROM enable_logging(storage := 'file', storage_path := '{new}')
SELECT * FROM enable_profiling(save_location := '{part}')
SELECT * FROM arrow_scan(1, 2, 3)
SELECT * FROM pandas_scan(1)
SELECT * FROM python_map_function((SELECT 1))
PIVOT metrics ON key USING first(value)
SELECT * FROM nowhere.nothing
SELEC 1
"""


@pytest.fixture
def places(record, sealed, store, tmp_path):
    """Where the files are that the probes try."""
    record([{"loss": 1.0}])
    record([{"loss": 2.0}], project="other")
    found = {}
    with wanllmdb.Api(store) as api:
        for line in api.store.catalog.reader.execute(
            "SELECT project.name, project.uid || '/' || part.name FROM part"
            " JOIN project ON project.id = project_id"
        ):
            found[line[0]] = store / "parts" / line[1]
    csv = tmp_path / "x.csv"
    csv.write_text("a,b\n1,2\n")
    return {"csv": csv, "store": store, "part": found["p"], "other": found["other"],
            "new": tmp_path / "new"}  # fmt: skip


def probes(text, places):
    return [line.format(**places) for line in text.strip().splitlines()]


def refusals(api, queries):
    """What the queries are refused with; each must be."""
    host_frame, host_value = pd.DataFrame({"a": [1]}), 1
    assert len(host_frame) == host_value
    found = {}
    for sql in queries:
        with pytest.raises(QueryError) as caught:
            # `metrics` is named, so that the part of project p may be read.
            api.query(f"{sql} -- metrics", project="p")
        found[sql] = str(caught.value)
    return found


def test_no_query_leads_to_a_file_or_the_network(places, api, digests, tmp_path):
    """Each probe is refused with external=True named; no byte of the Store changes."""
    before = digests()
    for sql, message in refusals(api, probes(FILES, places)).items():
        assert "external=True" in message, (sql, message)
    assert digests() == before
    assert not (tmp_path / "new").exists()


def test_no_statement_but_one_select_runs(places, api, digests, tmp_path):
    """Nothing of it is executed."""
    before = digests()
    refusals(api, probes(STATEMENTS, places))
    assert digests() == before
    assert not (tmp_path / "new").exists()


def test_no_function_reaches_out(places, api, digests, tmp_path):
    """Host variables, logs, profiles and pointers: all are out of reach."""
    before = digests()
    refusals(api, probes(REFUSED, places))
    assert digests() == before
    assert not (tmp_path / "new").exists()


def test_the_command_line_exits_with_2(places, cli):
    """And points to --external."""
    code, out, err = cli("query", f"SELECT * FROM '{places['csv']}'")
    assert (code, out) == (2, "")
    assert "--external" in err
    assert cli("query", "SELECT 1; SELECT 2")[0] == 2


def test_external_lifts_the_lock(places, api, cli):
    """A CSV file joins the Store, and a result is copied out."""
    sql = f"SELECT value, b FROM metrics JOIN '{places['csv']}' ON a = value"
    assert api.query(sql, external=True).fetchall() == [(1.0, 2)]
    api.query(f"COPY (FROM metrics) TO '{places['new']}'", external=True)
    assert places["new"].exists()
    code, out, _ = cli("query", "--external", f"FROM '{places['csv']}'", "--json")
    assert code == 0
    assert '"a": 1' in out


def test_a_missing_file_is_no_damage(places, api):
    """With external=True it is the query that is wrong, not the Store."""
    with pytest.raises(QueryError):
        api.query("FROM '/nope/x.csv'", external=True)
    with pytest.raises(QueryError):
        api.query(f"FROM read_parquet('{places['csv']}')", external=True)


def test_a_damaged_part_is_named(places, api):
    """CorruptPartError, which verify then mends."""
    places["part"].chmod(0o600)
    places["part"].write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(CorruptPartError, match="parquet"):
        api.query("SELECT * FROM metrics", project="p")
    with pytest.raises(CorruptPartError, match="parquet"):
        api.statistics("loss", project="p")


@pytest.mark.parametrize(
    ("sql", "params"),
    [("SELECT '\ud800'", None), ("SELECT ?", ["\ud800"]), ("SELECT ?", [object()]),
     ("SELECT ?", None), ("SELECT $a", {"b": 1}), ("", None), ("SELECT ?", [2**200])],
)  # fmt: skip
def test_what_is_no_query_is_refused(record, api, sql, params):
    """Half characters, missing and odd parameters, nothing at all."""
    record([{"loss": 1.0}])
    with pytest.raises(QueryError):
        api.query(sql, params)


def test_spilling_leaves_nothing_behind(record, api, store, tmp_path, monkeypatch):
    """What does not fit into memory goes to the Store's tmp/, and away again."""
    monkeypatch.chdir(tmp_path)
    psutil = pytest.importorskip("psutil")
    share = (60 << 20) / psutil.virtual_memory().total
    monkeypatch.setattr("wanllmdb._sql.MEMORY_SHARE", share)
    record([{"loss": 1.0}])
    sql = "SELECT count(*) FROM (SELECT * FROM range(9000000) t(a) ORDER BY hash(a))"
    assert api.query(sql).fetchall() == [(9000000,)]
    assert list((store / "tmp").iterdir()) == []
    assert not (tmp_path / ".tmp").exists()
