"""The schema refuses what the code must never write."""

from __future__ import annotations

import sqlite3

import pytest

import wanllmdb

RUN = {
    "uid": "u2", "project_id": 1, "run_id": "r2", "name": "n", "created_us": 1,
    "started_us": 1, "updated_us": 1, "host": "h", "pid": 1,
}  # fmt: skip


@pytest.fixture
def catalog(store):
    """A connection of our own to a Catalog that holds run `r`."""
    with wanllmdb.init(project="p", id="r", tags=["t"]) as run:
        run.log({"x": 1})
        run.alert("title")
    wanllmdb.teardown()
    connection = sqlite3.connect(store / "catalog.db")
    connection.execute("PRAGMA foreign_keys=ON")
    yield connection
    connection.close()


def insert(connection, table, values):
    """Insert one row."""
    names, marks = ", ".join(values), ", ".join("?" * len(values))
    connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})",
                       list(values.values()))  # fmt: skip


def test_a_good_row_is_taken(catalog):
    """The row that the next tests spoil is right."""
    insert(catalog, "run", RUN)


@pytest.mark.parametrize(
    ("spoiled", "message"),
    [
        ({"state": "happy"}, "run_state_known"),
        ({"config": "{not json"}, "run_config_bounded"),
        ({"config": '"' + "x" * (1 << 20) + '"'}, "run_config_bounded"),
        ({"summary": "NaN"}, "run_summary_bounded"),
        ({"environment": "x"}, "run_environment_valid"),
        ({"parent_id": 1}, "run_fork_complete"),
        ({"run_id": "r"}, "run.project_id, run.run_id"),
        ({"project_id": 77}, "FOREIGN KEY"),
        ({"pid": "many"}, "cannot store TEXT value in INTEGER column run.pid"),
        ({"name": None}, "NOT NULL constraint failed: run.name"),
    ],
)
def test_bad_runs_are_refused_by_a_named_constraint(catalog, spoiled, message):
    """Each invariant of a run is a constraint that says which one it is."""
    with pytest.raises(sqlite3.IntegrityError, match=message):
        insert(catalog, "run", {**RUN, **spoiled})


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("INSERT INTO epoch SELECT run_id, 9, 'dream', keep_step, first_step, 1, 1,"
         " host, pid, NULL, NULL, '' FROM epoch", "epoch_kind_known"),
        ("INSERT INTO epoch SELECT * FROM epoch", "epoch.run_id, epoch.epoch"),
        ("INSERT INTO run_file VALUES (1, 'a', 'sha256:x', 1, 'often', NULL, 1, 1)",
         "run_file_policy_known"),
        ("INSERT INTO run_value VALUES (1, 2, 'k', 1)", "run_value_scope_known"),
        ("INSERT INTO alert VALUES (9, 1, 't', '', 'PANIC', 1, NULL)",
         "alert_level_known"),
        ("INSERT INTO project VALUES (2, 'u', 'p', 1, NULL, NULL)", "project.name"),
        ("INSERT INTO run_tag VALUES (77, 't')", "FOREIGN KEY"),
        ("INSERT INTO run_tag VALUES (1, 't')", "run_tag.run_id, run_tag.tag"),
        ("INSERT INTO metric_definition VALUES (1, 1, 0, '*', '{')",
         "metric_definition_valid"),
        ("DELETE FROM project", "FOREIGN KEY"),
    ],
)  # fmt: skip
def test_bad_rows_are_refused_by_a_named_constraint(catalog, statement, message):
    """The same holds for all that belongs to a run."""
    with pytest.raises(sqlite3.IntegrityError, match=message):
        catalog.execute(statement)


def test_every_table_is_strict(catalog):
    """No column takes a value of another type."""
    loose = catalog.execute(
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND NOT strict"
        " AND name NOT LIKE 'sqlite_%'"
    ).fetchall()
    assert loose == []


def test_every_foreign_key_says_what_a_delete_does(catalog):
    """ON DELETE is explicit everywhere, and its column is indexed."""
    keys = catalog.execute(
        "SELECT t.name, f.'from', f.on_delete FROM pragma_table_list t,"
        " pragma_foreign_key_list(t.name) f WHERE t.schema = 'main'"
    ).fetchall()
    assert len(keys) >= 9
    assert [key for key in keys if key[2] == "NO ACTION"] == []


def test_deleting_a_run_takes_all_that_is_its_own(catalog):
    """No row is left that points nowhere."""
    catalog.execute("DELETE FROM run")
    for table in ("epoch", "stream", "run_tag", "run_key", "run_value", "alert"):
        assert catalog.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
    assert catalog.execute("PRAGMA foreign_key_check").fetchall() == []
