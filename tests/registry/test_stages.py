"""Stages: who is in them, how one holder is kept, and what the history says."""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
from datetime import datetime

import pytest

import wanllmdb
from wanllmdb.errors import InvalidInputError, StageConflictError, VersionNotFoundError


def test_a_version_moves_through_the_stages(logged, tmp_path):
    """The answer says where it is, and since when."""
    registry = logged(2)
    for stage in ("staging", "production", "archived", "none"):
        moved = registry.transition_stage("churn", 1, stage.upper())
        assert (moved["version"], moved["stage"]) == ("v1", stage)
        assert datetime.fromisoformat(moved["staged_at"])
        assert moved["archived"] == []
        assert moved["approved_at"] is None
        (found,) = [v for v in registry.get_model_versions("churn", stage) if
                    v["version"] == "v1"]  # fmt: skip
        assert found == {k: v for k, v in moved.items() if k != "archived"}


def test_a_stage_names_its_newest_version(logged, tmp_path):
    """For use and for looking up; of a model that has several in it."""
    registry = logged(3)
    for version in (1, 2):
        registry.transition_stage("churn", version, "production")
    assert registry.get_latest_version("churn", "production")["version"] == "v2"
    assert registry.get_model_version("churn", "production")["version"] == "v2"
    place = registry.use_model(
        "churn", stage="Production", download_path=tmp_path / "o"
    )
    assert os.listdir(place) == ["model.bin"]
    (model,) = registry.list_models()
    assert (model["production"], model["latest"]) == (["v1", "v2"], "v3")


def test_an_empty_stage_is_named(logged):
    """With the command that fills it."""
    registry = logged()
    with pytest.raises(
        VersionNotFoundError, match=r"no version in staging.*model stage"
    ):
        registry.use_model("churn", stage="staging")


@pytest.mark.parametrize("stage", ["Live", "", None, 3, "prod\0"])
def test_an_unknown_stage_is_refused(logged, stage):
    """The error lists those that there are."""
    registry = logged()
    with pytest.raises(InvalidInputError, match="none, staging, production, archived"):
        registry.transition_stage("churn", 1, stage)
    assert registry.get_model_versions("churn", "none")


# One holder


def test_a_stage_takes_many_where_nobody_asks_for_one(logged, stages):
    """As MLflow: versions join those that are there."""
    registry = logged(2)
    for version in (1, 2):
        registry.transition_stage("churn", version, "production")
    assert stages(registry) == ["production", "production"]


@pytest.mark.parametrize("stage", ["staging", "production"])
def test_an_occupied_stage_is_refused(logged, stages, stage):
    """Of a model that has one holder; the error names it, and nothing has changed."""
    registry = logged(2, single_holder=True)
    registry.transition_stage("churn", 1, stage)
    before = registry.history("churn")
    with pytest.raises(StageConflictError, match=f"churn:v1 is in {stage}") as caught:
        registry.transition_stage("churn", 2, stage, approver="ann")
    assert caught.value.identity["version"] == 1
    assert "archive_existing" in caught.value.hint
    assert stages(registry) == [stage, "none"]
    assert registry.history("churn") == before
    assert registry.get_latest_version("churn")["approved_at"] is None


def test_the_former_holder_is_archived_on_request(logged, stages):
    """Both moves are in the history, and say why."""
    registry = logged(2, single_holder=True)
    registry.transition_stage("churn", 1, "production")
    moved = registry.transition_stage(
        "churn", 2, "production", "better", archive_existing=True
    )
    assert moved["archived"] == ["v1"]
    assert stages(registry) == ["archived", "production"]
    told = [(c["version"], c["from"], c["to"], c["comment"])
            for c in registry.history("churn")[-2:]]  # fmt: skip
    assert told == [
        ("v1", "production", "archived", "v2 moved to production"),
        ("v2", "none", "production", "better"),
    ]


def test_many_holders_are_archived_too(logged, stages):
    """Also of a model that may have many, as MLflow's archive_existing_versions."""
    registry = logged(3)
    for version in (1, 2):
        registry.transition_stage("churn", version, "staging")
    moved = registry.transition_stage("churn", 3, "staging", archive_existing=True)
    assert moved["archived"] == ["v2", "v1"]
    again = registry.transition_stage("churn", 3, "staging", archive_existing=True)
    assert again["archived"] == []
    assert stages(registry) == ["archived", "archived", "staging"]


@pytest.mark.parametrize("stage", ["none", "archived"])
def test_stages_that_hold_no_place_have_nothing_to_archive(logged, stages, stage):
    """They take any number, of every model."""
    registry = logged(2, single_holder=True)
    with pytest.raises(InvalidInputError, match="makes no sense"):
        registry.transition_stage("churn", 1, stage, archive_existing=True)
    for version in (1, 2):
        registry.transition_stage("churn", version, stage)
    assert stages(registry) == [stage, stage]


def test_one_holder_is_asked_for_model_by_model(logged, stages):
    """Another model's holder is no obstacle."""
    registry = logged(1, single_holder=True)
    logged(1, name="other", single_holder=True)
    registry.transition_stage("churn", 1, "production")
    registry.transition_stage("other", 1, "production")
    assert stages(registry, "other") == ["production"]


def test_a_link_to_an_occupied_stage_makes_no_version(logged, run, weights):
    """The link and its move are one transaction."""
    registry = logged(1, single_holder=True)
    registry.transition_stage("churn", 1, "production")
    before = registry.history("churn")
    with pytest.raises(StageConflictError):
        run.link_model(weights("other"), "churn", aliases=["production"])
    assert len(registry.get_model_versions("churn")) == 1
    assert registry.history("churn") == before


def test_the_constraint_holds_whatever_the_code_does(logged, api, store):
    """The Catalog itself refuses a second holder."""
    import sqlite3

    registry = logged(2, single_holder=True)
    registry.transition_stage("churn", 1, "production")
    wanllmdb.teardown()
    connection = sqlite3.connect(store / "catalog.db")
    with pytest.raises(sqlite3.IntegrityError, match=r"model_version\.model_id"):
        connection.execute("UPDATE model_version SET stage = 'production'")
    connection.close()


# Two processes at once

CONTENDER = """
import sys, wanllmdb
from wanllmdb.errors import StageConflictError
registry, mine, how = wanllmdb.ModelRegistry(), sys.argv[1], sys.argv[2]
registry.list_models()
print("ready", flush=True)
sys.stdin.readline()
won = lost = 0
for turn in range(40):
    try:
        registry.transition_stage("churn", mine, "production",
                                  archive_existing=how == "archive")
    except StageConflictError:
        lost += 1
        continue
    won += 1
    if how == "refuse":
        held = registry.get_model_versions("churn", "production")
        assert [v["version"] for v in held] == [mine], held
    registry.transition_stage("churn", mine, "none")
print(won, lost)
"""


@pytest.fixture
def contend(logged):
    """Two processes that move their versions to production; what each came to."""

    def run(how):
        registry = logged(2, single_holder=True)
        both = [
            subprocess.Popen(
                [sys.executable, "-c", CONTENDER, version, how], text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
            for version in ("v1", "v2")
        ]  # fmt: skip
        for process in both:
            assert process.stdout.readline() == "ready\n"
        for process in both:
            process.stdin.write("\n")
            process.stdin.flush()
        told = []
        for process in both:
            out, err = process.communicate(timeout=120)
            assert process.returncode == 0, err
            told.append([*map(int, out.split())])
        return registry, told

    return run


def test_of_two_processes_one_gets_the_stage(contend):
    """Whoever holds it is alone in it; nobody else fails but by the conflict."""
    registry, told = contend("refuse")
    assert all(won + lost == 40 for won, lost in told)
    assert any(won for won, _ in told)
    assert registry.get_model_versions("churn", "production") == []


def test_two_processes_archive_each_other(contend):
    """No move fails, and by the history the stage never had two holders."""
    registry, told = contend("archive")
    assert told == [[40, 0], [40, 0]]
    held = set()
    for change in registry.history("churn"):
        if change["kind"] == "stage":
            if change["from"] == "production":
                held.remove(change["version"])
            if change["to"] == "production":
                held.add(change["version"])
            assert len(held) <= 1
    assert held == set()


# Approval and history


def test_a_move_may_be_approved_with_it(logged):
    """The approver is asked for nothing: somebody says who it was."""
    registry = logged()
    moved = registry.transition_stage("churn", 1, "production", "ok", "ann")
    assert moved["approved_by"] == "ann"
    assert datetime.fromisoformat(moved["approved_at"])
    last = registry.history("churn")[-1]
    assert (last["kind"], last["approver"], last["comment"]) == ("stage", "ann", "ok")


def test_a_version_is_approved_without_a_move(logged):
    """By default by whoever runs the process; a later approval replaces it."""
    registry = logged()
    first = registry.approve_version("churn", "latest")
    assert (first["approved_by"], first["stage"]) == (getpass.getuser(), "none")
    second = registry.approve_version("churn", 1, approver="bob", comment="checked")
    assert second["approved_by"] == "bob"
    last = registry.history("churn")[-1]
    assert (last["kind"], last["from"], last["to"]) == (
        "approve", getpass.getuser(), "bob"
    )  # fmt: skip
    assert last["comment"] == "checked"


def test_a_move_to_where_it_is_changes_nothing(logged):
    """No event; an approver is noted all the same."""
    registry = logged()
    registry.transition_stage("churn", 1, "staging")
    before = registry.history("churn")
    registry.transition_stage("churn", 1, "staging", "again")
    assert registry.history("churn") == before
    assert registry.transition_stage("churn", 1, "staging", "x", "ann")[
        "approved_by"
    ] == "ann"  # fmt: skip
    assert [c["kind"] for c in registry.history("churn")[len(before) :]] == ["approve"]


def test_the_history_tells_everything_in_order(registry, run, weights):
    """Who, where, when, what, from and to; also of what is gone."""
    registry.create("churn")
    registry.log_model(run, weights(1), "churn", version="1.0")
    registry.transition_stage("churn", 1, "staging", "why")
    registry.approve_version("churn", 1, "ann")
    registry.log_model(run, weights(2), "churn")
    registry.set_alias("churn", 1, "best")
    registry.set_alias("churn", 2, "best")
    registry.unlink("churn", 1)
    registry.delete("churn")
    told = registry.history("churn")
    assert [(c["kind"], c["version"], c["from"], c["to"]) for c in told] == [
        ("create", None, None, None),
        ("link", "v1", None, "p/churn:v1"),
        ("alias", "v1", None, "v1"),
        ("stage", "v1", "none", "staging"),
        ("approve", "v1", None, "ann"),
        ("link", "v2", None, "p/churn:v2"),
        ("alias", "v1", None, "v1"),
        ("alias", "v2", "v1", "v2"),
        ("unlink", "v1", "p/churn:v1", None),
        ("delete", None, None, None),
    ]
    assert {c["who"] for c in told} == {getpass.getuser()}
    assert {c["host"] for c in told} == {os.uname().nodename}
    times = [datetime.fromisoformat(c["at"]) for c in told]
    assert times == sorted(times)
    assert told[3]["comment"] == "why"
    assert told[7]["alias"] == "best"


def test_events_are_in_sql_too(logged, api):
    """A transition is a row of `events`, with both sides as JSON."""
    registry = logged()
    registry.transition_stage("churn", 1, "staging", "why", "ann")
    (row,) = api.query(
        "SELECT before, after, reason FROM events WHERE entity = 'model'"
        " AND kind = 'stage'"
    ).fetchall()
    assert row[0] == '{"version":1,"stage":"none"}'
    assert row[1] == '{"version":1,"stage":"staging","approver":"ann"}'
    assert row[2] == "why"


def test_the_view_models_shows_every_version(logged, api, run, weights):
    """With the artifact's version that it is, of its project."""
    registry = logged(2)
    registry.transition_stage("churn", 2, "production")
    with wanllmdb.init(project="q", reinit="create_new") as other:
        other.link_model(weights("else"), "another", name="net")
    rows = api.query("SELECT * FROM models ORDER BY model, version").to_pylist()
    names = ("model", "version", "stage", "project", "artifact", "artifact_version")
    assert [tuple(row[name] for name in names) for row in rows] == [
        ("another", 1, "none", "q", "net", 1),
        ("churn", 1, "none", "p", "churn", 1),
        ("churn", 2, "production", "p", "churn", 2),
    ]
    mine = api.query("SELECT model FROM models", project="q").fetchall()
    assert mine == [("another",)]


# One holder, later


def test_one_holder_is_asked_for_later(logged, stages):
    """From then on, as if it had been made so; and it can be lifted again."""
    registry = logged(3)
    registry.transition_stage("churn", 1, "production")
    assert registry.set_single_holder("churn")["single_holder"] is True
    with pytest.raises(StageConflictError, match="churn:v1"):
        registry.transition_stage("churn", 2, "production")
    registry.log_model(None, _weights(registry), "churn")
    with pytest.raises(StageConflictError):
        registry.transition_stage("churn", 4, "production")
    assert registry.set_single_holder("churn", False)["single_holder"] is False
    registry.transition_stage("churn", 2, "production")
    last = [row for row in registry.history("churn") if row["kind"] == "single_holder"]
    assert [(row["from"], row["to"]) for row in last] == [(False, True), (True, False)]


def _weights(registry):
    path = registry.store.path.parent / "other.bin"
    path.write_text("other")
    return path


def test_a_crowded_stage_is_named_where_one_holder_is_asked_for(logged, stages):
    """All that are in it; nothing is changed, and said again it is no change."""
    registry = logged(5)
    for number, stage in ((1, "production"), (3, "production"), (2, "staging"),
                          (4, "staging"), (5, "archived")):  # fmt: skip
        registry.transition_stage("churn", number, stage)
    with pytest.raises(
        StageConflictError, match=r"v2, v4 in staging and v1, v3 in production"
    ):
        registry.set_single_holder("churn")
    registry.transition_stage("churn", 4, "archived")
    with pytest.raises(StageConflictError, match=r"has v1, v3 in production, which"):
        registry.set_single_holder("churn")
    assert registry.list_models()[0]["single_holder"] is False
    count = len(registry.history("churn"))
    registry.set_single_holder("churn", False)
    assert len(registry.history("churn")) == count
