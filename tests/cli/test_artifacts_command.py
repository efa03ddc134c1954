"""``artifact``, ``trash`` and ``store gc|verify``, as they are typed."""

from __future__ import annotations

import json
import os

import pytest

import wanllmdb


@pytest.fixture
def files(tmp_path):
    """A directory of two files."""
    place = tmp_path / "files"
    place.mkdir()
    (place / "a.txt").write_text("A")
    (place / "b.txt").write_text("B")
    return place


@pytest.fixture
def put(invoke, files):
    """Commit the directory as `p/ds`, after changing a file of it."""

    def commit(text, *options):
        (files / "a.txt").write_text(text)
        return invoke("artifact", "put", files, "p/ds", *options).strip()

    return commit


def rows(text):
    return json.loads(text)


def test_put_get_and_list(invoke, put, tmp_path):
    """Versions begin at v1; the newest is what a bare name gives."""
    assert put("one", "--alias", "best", "--tag", "t") == "p/ds:v1"
    assert put("two", "--metadata", '{"rows": 2}', "--description", "more") == "p/ds:v2"
    assert put("two") == "p/ds:v2"
    (newest,) = rows(invoke("artifact", "ls", "--json"))
    assert (newest["artifact"], newest["files"], newest["type"]) == (
        "p/ds:v2", 2, "dataset",
    )  # fmt: skip
    every = rows(invoke("artifact", "ls", "p/ds", "--json"))
    assert [(row["artifact"], row["aliases"]) for row in every] == [
        ("p/ds:v2", ""), ("p/ds:v1", "best"),
    ]  # fmt: skip
    shown = rows(invoke("artifact", "show", "ds", "--json"))[0]
    assert (shown["metadata"], shown["description"]) == ({"rows": 2}, "more")
    goal = tmp_path / "out"
    assert invoke("artifact", "get", "p/ds:BEST", "-o", goal).strip() == str(goal)
    assert (goal / "a.txt").read_text() == "one"
    (goal / "other").write_text("x")
    invoke("artifact", "get", "p/ds", "-o", goal, "--exact", "--yes")
    assert sorted(os.listdir(goal)) == ["a.txt", "b.txt"]
    assert "2 files are right" in invoke(
        "artifact", "verify", "ds", "--directory", goal
    )


def test_files_and_diff(invoke, put, files):
    """What two versions differ in."""
    put("one")
    (files / "c.txt").write_text("C")
    put("two")
    listed = rows(invoke("artifact", "files", "ds:v2", "--json"))
    assert [(row["path"], row["size"]) for row in listed] == [
        ("a.txt", 3), ("b.txt", 1), ("c.txt", 1),
    ]  # fmt: skip
    assert invoke("artifact", "diff", "ds:v1", "ds:v2") == "~ a.txt\n+ c.txt\n"
    assert invoke("artifact", "diff", "ds:v2", "ds:v1") == "~ a.txt\n- c.txt\n"


def test_aliases_move_and_go_back(invoke, put, cli):
    """With a history; a protected one by force."""
    put("one", "--alias", "best")
    put("two")
    refused = cli("artifact", "alias", "add", "ds:v2", "best", ok=False)
    assert refused.returncode == 4
    assert "names v1" in refused.stderr
    refused = cli("artifact", "alias", "mv", "ds:v2", "best", "--from", "2", ok=False)
    assert refused.returncode == 4
    invoke("artifact", "alias", "mv", "ds:v2", "best", "--from", "1", "--reason", "why")
    assert invoke("artifact", "alias", "undo", "ds", "best") == "best names v1\n"
    invoke("artifact", "alias", "protect", "ds", "best")
    assert cli("artifact", "alias", "mv", "ds:v2", "best", ok=False).returncode == 4
    assert cli("artifact", "alias", "rm", "ds:v1", "best", ok=False).returncode == 4
    invoke("artifact", "alias", "rm", "ds", "best", "--force")
    moves = rows(invoke("artifact", "alias", "log", "ds", "best", "--json"))
    assert [(m["what"], m["from"], m["to"]) for m in moves] == [
        ("alias", None, 1), ("alias", 1, 2), ("alias", 2, 1), ("protect", None, "best"),
        ("alias", 1, None),
    ]  # fmt: skip
    assert moves[1]["reason"] == "why"


def test_lineage_as_tree_json_and_dot(invoke, put):
    """From what it was made, and what was made with it, trashed runs included."""
    put("one")
    with wanllmdb.init(project="p", id="train") as run:
        run.use_artifact("ds")
        model = wanllmdb.Artifact("model", "model")
        with model.new_file("w") as file:
            file.write("1")
        run.log_artifact(model)
    with wanllmdb.init(project="p", id="eval") as run:
        run.use_artifact("model")
    with wanllmdb.Api() as api:
        api.run("p/eval").delete()
    assert invoke("artifact", "lineage", "model") == (
        "p/model:v1\n   <- run p/train\n      <- version p/ds:v1\n"
        "   -> run p/eval (in the trash)\n"
    )
    found = rows(invoke("artifact", "lineage", "ds", "--format", "json"))
    assert {node["path"] for node in found["nodes"]} == {
        "p/ds:v1", "p/train", "p/model:v1", "p/eval",
    }  # fmt: skip
    assert {"from": "p/train", "to": "p/model:v1"} in found["edges"]
    dot = invoke("artifact", "lineage", "ds", "--depth", "1", "--format", "dot")
    assert dot.startswith("digraph lineage {")
    assert '"version p/ds:v1" -> "run p/train";' in dot
    assert "model" not in dot


def test_rm_trash_and_restore(invoke, put, cli):
    """Aliases are removed when told so, and come back with the version."""
    put("one", "--alias", "best")
    assert cli("artifact", "rm", "ds:v1", "--yes", ok=False).returncode == 4
    assert cli("artifact", "rm", "ds:v1", ok=False).returncode == 2
    assert invoke("artifact", "rm", "ds:v1", "--dry-run") == "p/ds:v1\n"
    invoke("artifact", "rm", "ds:v1", "--yes", "--delete-aliases")
    assert cli("artifact", "show", "ds", ok=False).returncode == 3
    assert rows(invoke("trash", "ls", "--json"))[0]["artifact"] == "p/ds:v1"
    assert invoke("trash", "restore", "p/ds:v1") == "p/ds:v1\n"
    assert rows(invoke("artifact", "show", "ds:best", "--json"))[0]["files"] == 2
    invoke("artifact", "rm", "ds:v1", "--yes", "--delete-aliases")
    assert invoke("trash", "empty", "--yes") == "p/ds:v1\n"
    assert rows(invoke("trash", "ls", "--json")) == []


def test_why_verify_and_gc(invoke, put, cli, store):
    """Damage is named by artifact and path."""
    put("one")
    (blob,) = [
        path for path in (store / "blobs").rglob("*")
        if path.is_file() and path.read_bytes() == b"one"
    ]  # fmt: skip
    assert invoke("artifact", "why", blob.name[:12]) == (
        "p/ds:v1: the bytes of 'a.txt'\n"
    )
    assert invoke("artifact", "why", "0" * 12) == "Nothing needs it.\n"
    assert "whole" in invoke("store", "verify")
    assert "whole" in invoke("store", "verify", "--quick", "--sample", "0.5")
    assert "nothing to remove" in invoke("store", "gc", "--dry-run")
    blob.chmod(0o600)
    blob.write_bytes(b"two")
    assert "whole" in invoke("store", "verify", "--quick")  # the size is right
    for args, said in (
        (["doctor"], "the bytes of 'a.txt' have changed"),
        (["artifact", "verify", "ds"], "the bytes of 'a.txt' have changed"),
        (["artifact", "verify", "ds"], "'a.txt' is missing"),  # it was set aside
        (["store", "verify"], "the bytes of 'a.txt' are missing"),
    ):
        done = cli(*args, ok=False)
        assert done.returncode == 5
        assert f"p/ds:v1: {said}" in done.stdout + done.stderr
    assert json.loads(invoke("trash", "ls", "--json"))[0]["damaged"] == "blob"
    blob.write_bytes(b"other")
    assert cli("store", "verify", "--quick", ok=False).returncode == 5
    assert cli("store", "gc", "--grace", "1", ok=False).returncode == 2


def test_names_that_are_none_are_refused(cli, files):
    """One line says what and how; nothing is committed."""
    for args, status in (
        (["put", files, "p/a b"], 2), (["put", files, "ds", "--alias", "v3x/"], 2),
        (["put", files, "ds", "--metadata", "[1]"], 2), (["show", "nope"], 3),
        (["get", "nope:v1"], 3), (["why", "xyz"], 2), (["diff", "a", "b"], 3),
    ):  # fmt: skip
        done = cli("artifact", *args, ok=False)
        assert (done.returncode, done.stdout) == (status, ""), args
        assert "Traceback" not in done.stderr
    with wanllmdb.Api() as api:
        assert api.artifacts() == []
