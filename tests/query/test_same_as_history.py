"""Shapes of data that the property test is too small for."""

from __future__ import annotations

import json
import os

import pytest

import wanllmdb
from wanllmdb.errors import QueryError

OWN = ("_step", "_timestamp", "_runtime", "_writer")


def cells(run):
    """(key, step, writer, value) of each number of a run, by its history."""
    return sorted(
        (key, row["_step"], row["_writer"], float(value))
        for row in run.scan_history()
        for key, value in row.items()
        if key not in OWN and value is not None
    )


def shown(ask, run="r"):
    sql = "SELECT key, step, writer, value FROM metrics WHERE run = ? ORDER BY ALL"
    return sorted(ask(sql, [run]))


@pytest.mark.usefixtures("sealed")
@pytest.mark.parametrize("merge", [False, True])
def test_keys_beyond_256_and_sparse_ones_are_exact(record, api, ask, merge):
    """300 keys, one of 3 values in 100 rows, and keys that differ in case."""
    rows = [{f"k{n:03}": float(n * step) for n in range(300)} for step in range(60)]
    rows[7] |= {"Rare": 1.0, "rare": 2.0, "RARE": 3.0}
    record(rows)
    record([{"k000": 5.0, "Rare": 6.0}], id="s")
    if merge:
        list(api.store.compact())
    assert shown(ask) == cells(api.run("p/r"))
    sql = "SELECT k299, rare, \"Rare~b9b73f\" FROM history WHERE run = 'r' AND step = 7"
    title = next(c for c in api.query("SELECT * FROM history").columns if "Rare~" in c)
    assert ask(sql.replace("Rare~b9b73f", title)) == [(299.0 * 7, 2.0, 1.0)]


@pytest.mark.usefixtures("sealed")
def test_rows_of_several_writers_stay_apart(api, ask):
    """A rank's rows of the same steps are rows of their own, sealed too."""
    run = wanllmdb.init(project="p", id="r")
    other = os.fork()
    if other == 0:
        run.log({"loss": 9.0}, step=0)
        os._exit(0)
    os.waitpid(other, 0)
    for step in range(3):
        run.log({"loss": float(step)}, step=step)
    assert shown(ask) == cells(api.run("p/r"))
    run.finish()
    list(api.store.compact())
    assert shown(ask) == cells(api.run("p/r"))
    assert len(ask("SELECT DISTINCT writer FROM history")) == 2


def test_trashed_and_purged_runs_never_show(record, api, ask, monkeypatch):
    """Nor do they where their rows lie in one part with those of others."""
    monkeypatch.setattr("wanllmdb._compaction.INLINE_BYTES", 0)
    for name in "abc":
        record([{"loss": 1.0, name: [1]}], id=name)
    list(api.store.compact())
    api.run("p/a").delete()
    api.run("p/b").delete()
    api.purge(api.run("p/b", deleted=True))
    for table in ("metrics", "metrics_all", "history", "runs", "history('p')"):
        assert ask(f"SELECT DISTINCT run FROM {table}") == [("c",)], table


@pytest.mark.usefixtures("sealed")
def test_rows_of_a_reverted_epoch_do_not_show(record, api, ask):
    """Also where they are all that the run has, at step 0."""
    with wanllmdb.init(project="p", id="r"):
        pass
    record([{"loss": 1.0}])
    api.run("p/r").restore_epoch(1)
    assert ask("SELECT * FROM metrics") == []
    assert ask("SELECT value, epoch, superseded FROM metrics_all") == [(1.0, 2, True)]


def test_metrics_all_keeps_what_a_rewind_hides(record, ask):
    """Superseded rows are there with their epoch, and marked."""
    record([{"loss": float(n)} for n in range(4)])
    with wanllmdb.init(project="p", resume_from="r?_step=1") as run:
        run.log({"loss": 20.0})
    sql = "SELECT step, value, epoch, superseded FROM metrics_all ORDER BY epoch, step"
    assert ask(sql) == [
        (0, 0.0, 1, False), (1, 1.0, 1, False), (2, 2.0, 1, True), (3, 3.0, 1, True),
        (2, 20.0, 2, False),
    ]  # fmt: skip
    assert ask("SELECT step, value FROM metrics ORDER BY step") == [
        (0, 0.0), (1, 1.0), (2, 20.0),
    ]  # fmt: skip


def test_a_fork_shows_the_rows_that_it_took_over(record, ask):
    """Under its own name in `metrics`; in `metrics_all` they are their run's alone."""
    record([{"loss": float(n)} for n in range(4)])
    with wanllmdb.init(project="p", id="f", fork_from="r?_step=1") as run:
        run.log({"loss": 7.0})
    assert shown(ask, "f") == [
        ("loss", 0, "primary", 0.0), ("loss", 1, "primary", 1.0),
        ("loss", 2, "primary", 7.0),
    ]  # fmt: skip
    sql = "SELECT step FROM metrics_all WHERE run = 'f'"
    assert ask(sql) == [(2,)]


def test_one_project_holds_logs_of_every_kind_at_once(record, api, ask):
    """Plain inline logs beside lists, a live run, and a part."""
    record([{"loss": 1.0}, {"loss": 2.0}], id="plain")
    record([{"loss": 3.0, "note": [1, 2]}], id="late")
    big = [{"loss": float(x), "text": "x" * 40} for x in range(1000)]
    record(big, id="sealed")
    run = wanllmdb.init(project="p", id="live")
    run.log({"loss": 4.0})
    found = dict(ask("SELECT run, count(*) FROM history GROUP BY run"))
    assert found == {"plain": 2, "late": 1, "sealed": 1000, "live": 1}
    ((note,),) = ask("SELECT note FROM history WHERE note IS NOT NULL")
    assert json.loads(note) == [1, 2]
    run.finish()


PROJECTS = ["a.b", "my proj", "x'y", 'x"y', "naïve-🚀", "-rf", "select", "x*", "A", "a"]


def test_history_of_a_project_of_any_name(record, ask):
    """Dots, quotes, and names that differ in case alone."""
    for number, project in enumerate(PROJECTS):
        record([{"v": float(number)}], project=project)
    for number, project in enumerate(PROJECTS):
        sql = "SELECT v FROM history($p)"
        assert ask(sql, {"p": project}) == [(float(number),)], project
        quoted = project.replace("'", "''")
        assert ask(f"SELECT v FROM history('{quoted}')") == [(float(number),)]
    assert ask('SELECT v FROM "history_x""y"') == [(3.0,)]


def test_history_of_several_projects_asks_which(record, api):
    """And says how to name one."""
    for project in "pq":
        record([{"v": 1.0}], project=project)
    with pytest.raises(QueryError, match="history"):
        api.query("FROM history")
    assert len(api.query("FROM history", project="p")) == 1
    with pytest.raises(QueryError, match="nope"):
        api.query("FROM history('nope')")


def test_a_store_in_a_directory_of_any_name(record, tmp_path, monkeypatch):
    """What is a pattern or a quote to SQL is none in the paths of parts."""
    place = tmp_path / "we[ir]d * ?'\"{a} \\x"
    monkeypatch.setenv("WANLLMDB_DIR", str(place))
    monkeypatch.setattr("wanllmdb._compaction.INLINE_BYTES", 0)
    record([{"loss": 1.0}])
    assert wanllmdb.query("SELECT value FROM metrics").fetchall() == [(1.0,)]


def test_a_metric_called_key_is_merged_as_any_other(record, api, ask):
    """Rows that later ones of their step replace do not come back."""
    for name in "ab":
        rows = [{"key": 2.0, "kind": 1.0}, (0, {"key": 1.0}), {"key": 0.0}]
        record(rows, id=name)
    assert "merged" in next(iter(api.store.compact()))
    for name in "ab":
        assert shown(ask, name) == cells(api.run(f"p/{name}"))
        history = api.run(f"p/{name}").history(["key"])["key"].to_pylist()
        assert history == [1.0, 0.0]


def test_metrics_all_reads_a_part_that_a_trashed_run_shares(record, api, ask):
    """Also of a run whose rows `metrics` merges in Python."""
    for name in "ab":
        record([{"loss": 2.0}, (0, {"loss": 1.0})], id=name)
    list(api.store.compact())
    api.run("p/a").delete()
    sql = "SELECT run, step, value FROM metrics_all ORDER BY value"
    assert ask(sql) == [("b", 0, 1.0), ("b", 0, 2.0)]


def test_lists_of_keys_that_differ_in_case_stay_apart(record, ask):
    """As numbers do: each under its own title."""
    record([{"Loss": [1], "loss": [2]}])
    assert ask('SELECT loss, "Loss~df2927" FROM history') == [("[2]", "[1]")]
