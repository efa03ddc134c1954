"""`wanllmdb model`: lists, shows, links, moves, and tells the history."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

import wanllmdb
from wanllmdb.cli import cli as group


@pytest.fixture
def invoke(logged):
    """Run a command in this process, over two versions of model `churn`; its stdout."""
    logged(2)
    wanllmdb.finish()

    def run(*args):
        done = CliRunner().invoke(group, [*map(str, args)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    return run


@pytest.fixture
def fails(logged):
    """Run a command that fails, in a process of its own: (status, stderr)."""
    logged(2, single_holder=True)
    wanllmdb.finish()

    def run(*args):
        done = subprocess.run(
            [sys.executable, "-m", "wanllmdb", *args], capture_output=True, text=True,
            timeout=60, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        assert done.stdout == ""
        return done.returncode, done.stderr

    return run


def test_ls_lists_models_with_what_is_in_production(invoke, registry):
    """In the columns' order; --search looks for a text in names."""
    registry.create("other", "of another kind", single_holder=True)
    registry.transition_stage("churn", 1, "production")
    rows = json.loads(invoke("model", "ls", "--json"))
    assert [*rows[0]] == ["name", "versions", "latest", "staging", "production",
                          "single_holder", "created_at", "description"]  # fmt: skip
    assert [row["name"] for row in rows] == ["churn", "other"]
    assert (rows[0]["versions"], rows[0]["latest"]) == (2, "v2")
    assert rows[0]["production"] == ["v1"]
    found = invoke("model", "ls", "--search", "OTH", "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(found))
    assert row["description"] == "of another kind"


def test_show_lists_versions_or_tells_all_of_one(invoke, registry, tmp_path):
    """By number or by name; -o writes a file."""
    registry.set_alias("churn", 1, "best")
    text = invoke("model", "show", "churn")
    assert text.index("v2") < text.index("v1")
    invoke("model", "show", "churn", "best", "--json", "-o", tmp_path / "x.json")
    (row,) = json.loads((tmp_path / "x.json").read_text())
    assert row == registry.get_model_version("churn", 1)


def test_link_makes_the_next_version(invoke, registry):
    """The model is made if there is none; a stage among the aliases moves it there."""
    told = invoke("model", "link", "p/churn:v1", "churn", "-a", "best", "-a", "staging")
    assert told == "churn:v3\n"
    version = registry.get_model_version("churn", "best")
    assert (version["artifact"], version["stage"]) == ("p/churn:v1", "staging")
    assert invoke(
        "model", "link", "churn", "new", "-p", "p", "--description", "why"
    ) == "new:v1\n"  # fmt: skip
    assert registry.get_latest_version("new")["description"] == "why"


def test_stage_moves_and_says_what_was_archived(invoke, registry):
    """The comment and the approver are in the history."""
    invoke("model", "stage", "churn", "1", "production")
    told = invoke(
        "model", "stage", "churn", "latest", "production", "--archive-existing",
        "-m", "better", "--approver", "ann",
    )  # fmt: skip
    assert told == "churn:v2 production\nchurn:v1 archived\n"
    (last, *_) = reversed(json.loads(invoke("model", "history", "churn", "--json")))
    assert (last["version"], last["from"], last["to"]) == ("v2", "none", "production")
    assert (last["comment"], last["approver"]) == ("better", "ann")


def test_create_and_set_say_what_a_model_is(invoke, registry):
    """With its facts; they can be changed later."""
    assert invoke("model", "create", "net", "--description", "d",
                  "--single-holder") == "net\n"  # fmt: skip
    found = {one["name"]: one for one in registry.list_models()}
    assert (found["net"]["description"], found["net"]["single_holder"]) == ("d", True)
    assert invoke("model", "set", "net", "--many-holders") == ""
    assert registry.list_models("net")[0]["single_holder"] is False


def test_approve_notes_who_agreed(invoke, registry):
    """You, unless somebody is named."""
    said = invoke("model", "approve", "churn", "1", "--approver", "ann", "-m", "good")
    assert said == "churn:v1 approved by ann\n"
    last = registry.history("churn")[-1]
    assert (last["kind"], last["approver"], last["comment"]) == (
        "approve", "ann", "good",
    )  # fmt: skip
    invoke("model", "approve", "churn", "2")
    assert registry.get_model_version("churn", 2)["approved_by"] == last["who"]


def test_unlink_takes_a_version_out(invoke, registry):
    """Not without being told to; the artifact stays."""
    assert invoke("model", "unlink", "churn", "1", "--dry-run") == "churn:v1\n"
    assert len(registry.get_model_versions("churn")) == 2
    assert invoke("model", "unlink", "churn", "1", "--yes") == "churn:v1\n"
    assert [v["version"] for v in registry.get_model_versions("churn")] == ["v2"]


def test_rm_moves_models_to_the_trash(invoke, registry):
    """All of them, or none where one is not there."""
    assert invoke("model", "rm", "churn", "--dry-run") == "churn\n"
    done = CliRunner().invoke(group, ["model", "rm", "churn", "none", "--yes"])
    assert done.exit_code != 0
    assert len(registry.list_models()) == 1
    assert invoke("model", "rm", "churn", "--yes") == "churn\n"
    assert registry.list_models() == []


@pytest.mark.parametrize("words", [["rm", "churn"], ["unlink", "churn", "1"]])
def test_what_removes_asks_or_needs_to_be_told(fails, registry, words):
    """Off a terminal it wants --yes; what is in production wants --force."""
    status, said = fails("model", *words)
    assert status == 2
    assert "--yes" in said
    registry.transition_stage("churn", 1, "production")
    status, said = fails("model", *words, "--yes")
    assert status == 4
    assert "production" in said


def test_history_is_a_table(invoke):
    """Oldest first, one line for each change."""
    lines = invoke("model", "history", "churn").splitlines()
    assert lines[0].split()[:5] == ["at", "kind", "version", "from", "to"]
    assert [line.split()[1] for line in lines if "T" in line.split()[0]] == [
        "create", "link", "link"
    ]  # fmt: skip


def test_errors_say_what_to_do(fails, registry):
    """With the status of their group."""
    status, told = fails("model", "show", "none")
    assert (status, "`wanllmdb model ls`" in told) == (3, True)
    status, told = fails("model", "show", "churn", "v9")
    assert (status, "`wanllmdb model show churn`" in told) == (3, True)
    registry.transition_stage("churn", 1, "production")
    status, told = fails("model", "stage", "churn", "v2", "production")
    assert (status, "--archive-existing" in told) == (4, True)
    status, told = fails("model", "stage", "churn", "v2", "live")
    assert (status, "'none', 'staging', 'production', 'archived'" in told) == (2, True)
    status, told = fails("model", "link", "none", "churn")
    assert (status, "`wanllmdb artifact ls`" in told) == (3, True)
    status, told = fails("model", "link", "churn", "a b")
    assert (status, "letters, digits" in told) == (2, True)
    status, told = fails("model", "shwo", "churn")
    assert (status, "Did you mean 'show'?" in told) == (2, True)


def test_errors_are_json_where_json_is_asked_for(fails):
    """Their kind is for programs."""
    status, told = fails("model", "history", "none", "--json")
    assert (status, json.loads(told)["error"]["kind"]) == (3, "model_not_found")


def test_hostile_text_does_not_reach_the_terminal(invoke, registry):
    """Escape sequences of a comment are shown, not obeyed."""
    registry.transition_stage("churn", 1, "staging", "\x1b[31mred")
    assert "\x1b" not in invoke("model", "history", "churn")


def test_names_of_models_are_completed(invoke):
    """TAB offers what the Store holds."""
    done = subprocess.run(
        [sys.executable, "-m", "wanllmdb"], capture_output=True, text=True, timeout=60,
        check=True, env={
            **os.environ, "_WANLLMDB_COMPLETE": "bash_complete",
            "COMP_WORDS": "wanllmdb model show ", "COMP_CWORD": "3",
        },
    )  # fmt: skip
    assert "churn" in done.stdout
