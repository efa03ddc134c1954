"""Deleted models: they come back whole, keep nobody from anything, and go for good."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

import wanllmdb
from wanllmdb import _gc, _versions
from wanllmdb.cli import cli
from wanllmdb.errors import (
    ModelNotFoundError,
    StateError,
    VersionInUseError,
)


@pytest.fixture
def staged(logged):
    """Model `churn` of three versions, with stages, an alias and an approval."""
    registry = logged(3, description="who leaves", single_holder=True)
    registry.transition_stage("churn", 1, "production", approver="ann")
    registry.transition_stage("churn", 2, "staging")
    registry.set_alias("churn", 3, "challenger")
    return registry


def shown(registry):
    """All that can be seen of the model."""
    found = [one for one in registry.list_models() if one["name"] == "churn"]
    return found, registry.get_model_versions("churn")


def invoke(*args):
    done = CliRunner().invoke(cli, [*map(str, args)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def trash():
    return json.loads(invoke("trash", "ls", "--json"))


def test_a_deleted_model_comes_back_whole(staged):
    """Its versions, stages, aliases, approvals and description; the history tells."""
    before = shown(staged)
    staged.delete("churn", force=True)
    assert staged.list_models() == []
    assert wanllmdb.query("SELECT count(*) FROM models").fetchall() == [(0,)]
    with pytest.raises(ModelNotFoundError):
        staged.get_model_version("churn", 1)
    restored = staged.restore("churn")
    assert shown(staged) == before
    assert restored == before[0][0]
    assert [row["kind"] for row in staged.history("churn")][-2:] == [
        "delete", "restore",
    ]  # fmt: skip
    assert staged.get_model_version("churn", "challenger")["version"] == "v3"


def test_what_is_not_in_the_trash_is_not_restored(staged):
    """Nor what never was."""
    for name in ("churn", "never"):
        with pytest.raises(ModelNotFoundError, match="trash"):
            staged.restore(name)


def test_a_name_that_was_taken_anew_is_another_model(staged, run, weights):
    """The versions that it had are gone for good; its numbers go on."""
    staged.delete("churn", force=True)
    made = staged.log_model(run, weights("new"), "churn")
    assert made["version"] == "v4"
    assert len(staged.get_model_versions("churn")) == 1
    with pytest.raises(ModelNotFoundError):
        staged.restore("churn")


def test_a_deleted_model_keeps_no_version_of_an_artifact(staged, api):
    """It can be deleted; the model waits for it, or goes on without it."""
    artifact = api.artifact("p/churn:v2")
    with pytest.raises(VersionInUseError):
        artifact.delete(delete_aliases=True)
    staged.delete("churn", force=True)
    artifact.delete(delete_aliases=True)
    with pytest.raises(StateError, match="p/churn:v2"):
        staged.restore("churn")
    api.restore_version("p/churn:v2").delete(delete_aliases=True)
    _versions.purge(artifact._place(), artifact._record)
    staged.restore("churn")
    assert [v["version"] for v in staged.get_model_versions("churn")] == ["v3", "v1"]


def test_the_command_line_shows_restores_and_empties(staged):
    """Beside the runs and versions, by the name that paths have."""
    wanllmdb.finish()
    assert invoke("model", "rm", "churn", "--force", "--yes") == "churn\n"
    (row,) = trash()
    assert (row["model"], row["versions"]) == ("model-registry/churn", 3)
    assert row["deleted"]
    assert invoke("trash", "restore", row["model"]) == (
        "model-registry/churn: 3 versions\n"
    )
    assert trash() == []
    staged.delete("churn", force=True)
    assert invoke("trash", "empty", "--dry-run") == "model-registry/churn\n"
    assert len(trash()) == 1
    assert invoke("trash", "empty", "--yes") == "model-registry/churn\n"
    assert trash() == []
    assert [row["kind"] for row in staged.history("churn")][-1] == "purge"
    assert staged.restore("churn")["versions"] == 0


def test_gc_purges_models_a_month_after_they_were_deleted(staged, api):
    """As it does with versions."""
    staged.delete("churn", force=True)
    assert "models purged" not in _gc.collect(api.store).counts
    assert _gc.collect(api.store, trash=0).counts["models purged"] == 1
    assert trash() == []
