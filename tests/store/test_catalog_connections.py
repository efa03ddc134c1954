"""What is in force on each connection, and how statements reach the Catalog.

A child watches each connection from `sqlite3.connect` on, whoever makes it.
"""

from __future__ import annotations

import json

import pytest

# `made` lists every connection, `said` the statements of each.
WATCH = """
import json, sqlite3, threading
made, said, connect = [], [], sqlite3.connect
def watching(*args, **options):
    connection, number = connect(*args, **options), len(made)
    connection.set_trace_callback(lambda text: said.append((number, text)))
    made.append(connection)
    return connection
sqlite3.connect = watching
import wanllmdb
def pragma(connection, name):
    connection.set_trace_callback(None)
    return connection.execute("PRAGMA " + name).fetchone()[0]
def open_ones():
    for connection in made:
        try:
            connection.execute("SELECT 1")
        except sqlite3.ProgrammingError:
            continue
        yield connection
"""


def watched(child, code):
    """What a watched child prints as JSON."""
    return json.loads(child(WATCH + code).stdout.splitlines()[-1])


@pytest.fixture
def some_runs():
    """Code that records runs in bulk."""
    return lambda count: (
        f"""
for i in range({count}):
    with wanllmdb.init(project="p%d" % (i % 3), config={{"lr": i}}, tags=["t"]) as run:
        run.log({{"loss": i}})
"""
    )


def test_pragmas_are_in_force_on_every_connection(child):
    """Writers, readers, readers of further threads: all alike."""
    code = """
run = wanllmdb.init(); run.log({"x": 1}); run.finish()
api = wanllmdb.Api(); api.runs()
keep = []
def read():
    keep.append(api.runs()); done.wait()
done = threading.Event()
threads = [threading.Thread(target=read) for _ in range(2)]
for t in threads: t.start()
while len(keep) < 2: pass
names = ["foreign_keys", "journal_mode", "wal_autocheckpoint", "cell_size_check"]
print(json.dumps([[pragma(c, n) for n in names] for c in open_ones()]))
done.set()
"""
    found = watched(child, code)
    assert len(found) >= 4
    assert all(row == [1, "wal", 0, 1] for row in found)


def test_the_file_says_whose_it_is(child, sql):
    """application_id and user_version stand in its header."""
    child("import wanllmdb; wanllmdb.init().finish()")
    assert sql("PRAGMA application_id") == [(0x57414E44,)]
    assert sql("PRAGMA user_version")[0][0] >= 1


def test_what_finish_stores_is_synced_in_full(child):
    """At init NORMAL is enough, at finish FULL."""
    code = """
def writers():
    numbers = {n for n, text in said if text.startswith("BEGIN IMMEDIATE")}
    still = list(open_ones())
    return {pragma(made[n], "synchronous") for n in numbers if made[n] in still}
run = wanllmdb.init(); after_init = list(writers())
run.log({"x": 1}); run.finish(); after_finish = list(writers())
print(json.dumps([after_init, after_finish]))
"""
    after_init, after_finish = watched(child, code)
    assert after_init == [1]
    assert after_finish == [2]


def test_every_write_is_in_an_immediate_transaction(child, some_runs):
    """A deferred one fails at its first write if another process wrote meanwhile."""
    code = """
wanllmdb.Api().run("@last").update(name="n", config={"a": 2}, summary={"b": 3})
print(json.dumps(said))
"""
    inside: dict[int, bool] = {}
    writes = 0
    for number, text in watched(child, some_runs(2) + code):
        word = text.split()[0].upper()
        if word == "BEGIN":
            assert text.upper().startswith("BEGIN IMMEDIATE")
        inside[number] = word == "BEGIN" or (
            inside.get(number, False) and word not in ("COMMIT", "ROLLBACK", "END")
        )
        if word in ("INSERT", "UPDATE", "DELETE", "REPLACE", "CREATE"):
            writes += 1
            assert inside[number], text
    assert writes > 10


def test_logging_touches_the_catalog_not_at_all(child):
    """A row of metrics is never a commit."""
    code = """
run = wanllmdb.init(); before = len(said)
for i in range(1000): run.log({"x": i})
after = len(said); run.finish()
print(json.dumps(after - before))
"""
    assert watched(child, code) == 0


LIST = """
import io, contextlib
from wanllmdb.cli import cli
said.clear()
with wanllmdb.Api() as api:
    said.clear()
    for found in api.runs("p1"), api.runs(order="+summary.loss"), api.runs(limit=20):
        for run in found: run.tags, run.config, run.summary, run.name, run.state
    runs = len(said); api.projects(); projects = len(said) - runs
said.clear()
with contextlib.redirect_stdout(io.StringIO()):
    cli.main(["ls", "-c", "id,summary.loss,config.lr"], standalone_mode=False)
print(json.dumps([runs, projects, len(said)]))
"""


def test_a_listing_takes_as_many_statements_for_300_runs_as_for_one(child, some_runs):
    """No statement per run, for Api and command line alike."""
    one = watched(child, some_runs(3) + LIST)
    many = watched(child, some_runs(297) + LIST)
    assert one == many
    assert one[1] == 1


PLAN = """
import re
with wanllmdb.Api() as api:
    api.runs(); said.clear()
    {call}
    plans = []
    for number, text in list(said):
        if text.startswith(("SELECT", "\\nSELECT", "WITH")):
            made[number].set_trace_callback(None)
            rows = made[number].execute("EXPLAIN QUERY PLAN " + text)
            plans.append([row[3] for row in rows])
print(json.dumps(plans))
"""


@pytest.mark.parametrize(
    ("call", "index"),
    [
        ("api.runs('p1', limit=20)", "run_by_state|run_id_unique|run_by_start"),
        ("api.runs(limit=20)", "run_by_start"),
        ("api.runs('p1', 'state = finished', limit=20)", "run_by_state"),
        ("api.runs(filters='config.lr < 3')", "run_by_value"),
        ("api.runs(filters='tag:t')", "run_by_tag|run_tag_once|PRIMARY KEY"),
        ("api.runs(deleted=True)", "run_in_trash|run_by_start"),
        ("api.run('p1/' + api.runs('p1')[0].id)", "run_id_unique|autoindex_run|run_by"),
        ("api.runs()[0].events", "event_by_entity"),
    ],
)
def test_listed_queries_use_an_index(child, some_runs, call, index):
    """No query of a list walks the table of runs, and page 1 needs no sorting."""
    plans = watched(child, some_runs(9) + PLAN.format(call=call))
    steps = [step for plan in plans for step in plan]
    import re

    assert any(re.search(f"{index}|autoindex_run_2", step) for step in steps), steps
    walks = [s for s in steps if re.fullmatch(r"SCAN (run|event|run_tag)", s)]
    assert walks == []


def test_the_newest_runs_of_all_projects_need_no_sort(child, some_runs):
    """The first page reads 20 entries of an index, however many runs there are."""
    plans = watched(child, some_runs(9) + PLAN.format(call="api.runs(limit=20)"))
    chosen, _, rest = "|".join(plans[-1]).partition("SCAN chosen")
    assert "run_by_start" in chosen
    assert "TEMP B-TREE" not in chosen, plans
    assert rest
