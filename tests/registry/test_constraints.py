"""What the Catalog itself refuses, whatever the code does."""

from __future__ import annotations

import sqlite3

import pytest

import wanllmdb


@pytest.fixture
def catalog(logged, store):
    """A connection of our own; `churn` has v1 in production, v2, and one holder."""
    registry = logged(2, single_holder=True)
    registry.transition_stage("churn", 1, "production")
    registry.set_alias("churn", 1, "best")
    logged(1, name="other")
    wanllmdb.teardown()
    connection = sqlite3.connect(store / "catalog.db")
    connection.execute("PRAGMA foreign_keys=ON")
    yield connection
    connection.close()


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE model_version SET stage = 'production' WHERE number = 2",
         "model_version.model_id, model_version.stage"),
        ("UPDATE model_version SET stage = 'live'", "model_version_stage_known"),
        ("UPDATE model_version SET single_holder = 0 WHERE number = 2", "FOREIGN KEY"),
        ("UPDATE model_version SET number = 1 WHERE number = 2",
         "model_version.model_id, model_version.number"),
        ("UPDATE model_version SET metadata = '{'", "model_version_metadata_bounded"),
        ("UPDATE model_version SET tags = 'x'", "model_version_tags_valid"),
        ("UPDATE model SET single_holder = 2", "model_single_holder_known"),
        ("UPDATE model SET name = 'churn'", "model.name"),
        ("DELETE FROM model", "FOREIGN KEY"),
        ("DELETE FROM version", "FOREIGN KEY"),
        ("INSERT INTO model_alias SELECT model_id, alias_key, alias, 2, 0"
         " FROM model_alias", "model_alias.model_id, model_alias.alias_key"),
        ("INSERT INTO model_alias VALUES (2, 'x', 'x', 1, 0)", "FOREIGN KEY"),
        ("UPDATE model_alias SET fixed = 7", "model_alias_fixed_known"),
    ],
)  # fmt: skip
def test_each_invariant_is_a_constraint(catalog, statement, message):
    """It says which one it is."""
    with pytest.raises(sqlite3.IntegrityError, match=message):
        catalog.execute(statement)


def test_a_model_takes_its_versions_along_when_one_holder_is_asked_for(catalog):
    """A model of which two versions are in a stage cannot become such a one."""
    catalog.execute("UPDATE model SET single_holder = 0")
    catalog.execute("UPDATE model_version SET stage = 'production' WHERE model_id = 1")
    with pytest.raises(sqlite3.IntegrityError, match=r"model_version\.stage"):
        catalog.execute("UPDATE model SET single_holder = 1")


def test_a_version_takes_its_aliases_along(catalog):
    """When it is unlinked, nothing names it any more."""
    catalog.execute("DELETE FROM model_version WHERE number = 1")
    assert catalog.execute("SELECT count(*) FROM model_alias").fetchone() == (0,)
