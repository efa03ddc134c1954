"""Names of versions: aliases, what is derived, the trash, and how runs find them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import wanllmdb
from wanllmdb import WanllmdbWarning, _versions
from wanllmdb._catalog import aliases as catalog_aliases
from wanllmdb.errors import (
    AliasConflictError,
    AliasNotFoundError,
    ArtifactNotFoundError,
    InvalidInputError,
    InvalidNameError,
    StateError,
    VersionInUseError,
    VersionNotFoundError,
)

COMPOSED, SPLIT = "caf\u00e9", "cafe\u0301"


@pytest.fixture
def three(log, api):
    """Three versions of artifact a, and the Store they are in."""
    return [log(text)._record for text in "ABC"], api.store


def holder(api, alias):
    return api.artifact(f"p/a:{alias}").version


def moves(store, version, alias):
    found = catalog_aliases.history(store.catalog.reader, version, alias)
    return [(event.before, event.after) for event in found if event.kind == "alias"]


# Aliases


@pytest.mark.parametrize(("one", "other"), [
    ("Best", "bEST"), (COMPOSED, SPLIT), ("Stra\u00dfe", "STRASSE"), ("\u212a", "k"),
])  # fmt: skip
def test_two_spellings_are_one_alias(log, api, one, other):
    """Whatever the case and the form; it is shown as it was written last."""
    log("A", aliases=[one])
    log("B", aliases=[other])
    assert holder(api, one) == holder(api, other) == "v2"
    assert api.artifact("a:v1").aliases == []


@pytest.mark.parametrize("alias", ["", " ", "a:b", "a/b", "a\\b", "@x", "a,b", "#",
                                   "a?", "100%", "*", "a\0b", "\ud800", "x" * 256,
                                   7])  # fmt: skip
def test_a_hostile_alias_is_refused_before_anything_is_kept(log, api, alias):
    """In a commit, in `save`, and in a move."""
    first = log("A")
    with pytest.raises(InvalidNameError):
        log("B", aliases=[alias])
    first.aliases.append(alias)
    with pytest.raises(InvalidNameError):
        first.save()
    with pytest.raises(InvalidNameError):
        _versions.move_alias(api.store, first._record, alias)
    assert len(api.artifacts("dataset", "a")) == 1


@pytest.mark.parametrize(
    "alias",
    [
        "odd one",
        "-rf",
        "..",
        "'; DROP TABLE alias;--",
        "\u202egnp",
        "1",
        "v1.0",
        "v",
        "vv1",
        "latest-2",
    ],
)
def test_any_other_text_is_an_alias(log, run, alias):
    """It is data, and found by what it is."""
    log("A", aliases=[alias])
    log("B")
    assert run.use_artifact("a", alias=alias).version == "v1"
    assert run.use_artifact(f"a:{alias}").aliases == [alias]


def test_derived_names_are_no_aliases(log, run, api):
    """Committed with, they are skipped, and warned of where they are wrong."""
    assert log("A", aliases=["latest", "V1"]).aliases == []
    with pytest.warns(WanllmdbWarning, match="v2"):
        log("B", aliases="v7")
    for name in ("latest", "LATEST", "v3", "V0", "late\u017ft"):
        with pytest.raises(InvalidNameError):
            _versions.move_alias(api.store, api.artifact("a")._record, name)


def test_a_thousand_aliases_are_fine(log, api):
    """Of one version."""
    names = [f"n{number}" for number in range(1000)]
    log("A", aliases=names)
    assert sorted(api.artifact("a:n999").aliases) == sorted(names)


def test_save_stores_what_was_changed_of_a_version(log, api):
    """What others did meanwhile stays."""
    log("A", aliases=["old", "kept"], tags=["one", "two"])
    mine, theirs = api.artifact("a"), api.artifact("a")
    theirs.aliases.append("theirs")
    theirs.tags.append("three")
    theirs.description = "before"
    theirs.save()
    mine.aliases = ["kept", "mine"]
    mine.tags.remove("one")
    mine.metadata["m"] = 1
    mine.description = "said"
    mine.ttl = 3600
    mine.save()
    found = api.artifact("a")
    assert found.aliases == mine.aliases == ["kept", "mine", "theirs"]
    assert (found.tags, found.metadata) == (["three", "two"], {"m": 1})
    assert (found.description, found.ttl) == ("said", 3600)
    assert found.updated_at > found.created_at


def test_save_does_not_take_back_what_others_moved(log, api):
    """An alias that names another version by now is not removed; one gone is gone."""
    log("A", aliases=["moved", "gone"])
    mine = api.artifact("a")
    second = log("B", aliases=["moved"])
    _versions.remove_alias(api.store, second._record, "gone")
    mine.aliases.remove("gone")
    mine.save()
    assert mine.aliases == []
    assert holder(api, "moved") == "v2"


def test_save_refuses_to_remove_an_alias_that_moved(log, api):
    """Whoever wants it gone shall look again."""
    log("A", aliases=["x"])
    mine = api.artifact("a")
    log("B", aliases=["x"])
    mine.aliases.remove("x")
    with pytest.raises(AliasConflictError, match="v2"):
        mine.save()
    assert holder(api, "x") == "v2"


def test_a_move_can_ask_what_the_alias_names_now(three, api):
    """Compare and set; 0 stands for nothing."""
    (v1, v2, v3), store = three
    _versions.move_alias(store, v1, "x", expected=0)
    with pytest.raises(AliasConflictError, match="names v1, not nothing"):
        _versions.move_alias(store, v2, "x", expected=0)
    _versions.move_alias(store, v2, "x", expected=1)
    with pytest.raises(AliasConflictError, match="names v2, not v1"):
        _versions.remove_alias(store, v3, "x", expected=1)
    _versions.remove_alias(store, v3, "x", expected=2)
    with pytest.raises(AliasConflictError, match="names nothing, not v2"):
        _versions.move_alias(store, v1, "x", expected=2)
    with pytest.raises(AliasNotFoundError):
        _versions.remove_alias(store, v1, "x")
    assert moves(store, v1, "X") == [(None, 1), (1, 2), (2, None)]


def test_a_protected_alias_moves_by_force_only(three, api, log):
    """However it would be moved; naming what it names already is no move."""
    (v1, v2, _), store = three
    _versions.move_alias(store, v1, "prod")
    _versions.protect_alias(store, v2, "PROD")
    held = api.artifact("a:v1")
    for attempt in (
        lambda: log("D", aliases=["prod"]),
        lambda: _versions.move_alias(store, v2, "prod"),
        lambda: _versions.remove_alias(store, v1, "prod"),
        lambda: _versions.undo_alias(store, v1, "prod"),
        lambda: held.delete(delete_aliases=True),
    ):
        with pytest.raises(AliasConflictError, match="protected"):
            attempt()
    assert holder(api, "prod") == "v1"
    assert len(api.artifacts("dataset", "a")) == 3
    _versions.move_alias(store, v1, "prod")
    _versions.move_alias(store, v2, "prod", force=True)
    _versions.protect_alias(store, v2, "prod", on=False)
    _versions.move_alias(store, v1, "prod")
    with pytest.raises(AliasNotFoundError):
        _versions.protect_alias(store, v1, "none")


def test_moves_are_undone_one_after_the_other(three, api):
    """And what was undone is not undone twice."""
    (v1, v2, v3), store = three
    for version in (v1, v2, v3):
        _versions.move_alias(store, version, "x", reason="because")
    assert _versions.undo_alias(store, v1, "x") == 2
    _versions.move_alias(store, v1, "x")
    assert [_versions.undo_alias(store, v1, "X") for _ in range(3)] == [2, 1, None]
    with pytest.raises(StateError, match="to undo"):
        _versions.undo_alias(store, v1, "x")
    assert moves(store, v1, "x") == [
        (None, 1), (1, 2), (2, 3), (3, 2), (2, 1), (1, 2), (2, 1), (1, None),
    ]  # fmt: skip
    found = catalog_aliases.history(store.catalog.reader, v1, "x")
    assert found[0].reason == "because"
    assert all(e.who and e.host and e.at_us and e.op_id for e in found)
    assert sorted(e.at_us for e in found) == [e.at_us for e in found]


def test_a_removal_is_undone(three, api):
    """The alias names what it named."""
    (v1, v2, _), store = three
    _versions.move_alias(store, v2, "x")
    _versions.remove_alias(store, v1, "x")
    assert _versions.undo_alias(store, v1, "x") == 2
    assert holder(api, "x") == "v2"


def test_another_spelling_is_no_move_to_undo(three, api):
    """Undo goes past it, to the last move."""
    (v1, v2, _), store = three
    for version, name in ((v1, "x"), (v2, "x"), (v2, "X")):
        _versions.move_alias(store, version, name)
    assert api.artifact("a:v2").aliases == ["X"]
    assert [_versions.undo_alias(store, v1, "x") for _ in range(2)] == [1, None]


def test_undo_does_not_lead_into_the_trash(three, api, log):
    """The version has to be restored first."""
    (v1, v2, _), store = three
    _versions.move_alias(store, v1, "x")
    _versions.move_alias(store, v2, "x")
    _versions.delete(store, v1)
    with pytest.raises(VersionNotFoundError, match="trash"):
        _versions.undo_alias(store, v2, "x")
    assert holder(api, "x") == "v2"


# The trash


def test_delete_and_restore_bring_back_the_same(log, api, read, tmp_path):
    """Numbers, aliases, lineage; a deleted number is never given again."""
    log("A")
    second = log("B", aliases=["best", "two"], tags=["t"])
    before = second._record
    with pytest.raises(VersionInUseError, match="best, two"):
        second.delete()
    second.delete(delete_aliases=True)
    second.delete()  # is there already
    assert api.artifact("a").version == "v1"
    assert [a.name for a in api.artifacts("dataset", "a")] == ["a:v1"]
    with pytest.raises(VersionNotFoundError, match="is in the trash"):
        api.artifact("a:v2")
    with pytest.raises(VersionNotFoundError):
        api.artifact("a:best")
    assert log("C").version == "v3"
    restored = _versions.restore(api.store, before)
    assert (restored.aliases, restored.tags) == (before.aliases, before.tags)
    assert (restored.number, restored.digest, restored.uid) == (
        before.number, before.digest, before.uid,
    )  # fmt: skip
    assert read(api.artifact("a:two").download(tmp_path / "o")) == {"x": "B"}
    with pytest.raises(StateError, match="not in the trash"):
        _versions.restore(api.store, before)
    assert second.used_by() == []


def test_restore_names_the_alias_that_is_taken(log, api):
    """And restores nothing, until it is free."""
    log("A", aliases=["x", "y"]).delete(delete_aliases=True)
    second = log("B", aliases=["y"])
    gone = wanllmdb._artifacts.lookup.artifacts.trash(api.store.catalog.reader)[0]
    with pytest.raises(AliasConflictError, match="'y' of a names v2"):
        _versions.restore(api.store, gone)
    with pytest.raises(VersionNotFoundError):
        api.artifact("a:x")
    _versions.remove_alias(api.store, second._record, "y")
    assert _versions.restore(api.store, gone).aliases == ("x", "y")


def test_nothing_is_done_to_what_is_in_the_trash(log, run, api):
    """No alias, no description, no edge."""
    first = log("A")
    first.delete()
    first.aliases.append("x")
    for attempt in (
        first.save,
        lambda: _versions.move_alias(api.store, first._record, "x"),
        lambda: run.use_artifact(first),
        lambda: run.log_artifact(first),
    ):
        with pytest.raises(StateError, match="in the trash"):
            attempt()
    with pytest.raises(VersionNotFoundError):
        api.artifact("a:x")
    assert log("A").version == "v2"  # what is in the trash is not the newest


def test_a_version_that_a_live_run_reads_is_not_deleted(log, run, api, store):
    """Unless by force; a run that ended does not count."""
    first = log("A")
    log("B")
    code = (
        "import sys, wanllmdb\nrun = wanllmdb.init(project='p', id='other')\n"
        "run.use_artifact('a:v1')\nprint('used', flush=True)\nsys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env=dict(os.environ), text=True,
    ) as other:  # fmt: skip
        assert other.stdout is not None
        assert other.stdout.readline() == "used\n"
        with pytest.raises(VersionInUseError, match="p/other"):
            first.delete()
        assert first.used_by() == ["p/other"]
    first.delete()
    run.use_artifact(wanllmdb.Artifact._of(api.store, api.artifact("a")._record))
    with pytest.raises(VersionInUseError, match="p/r"):
        api.artifact("a").delete()
    api.artifact("a").delete(force=True)
    with pytest.raises(VersionNotFoundError):
        api.artifact("a")


# Finding


def test_use_artifact_takes_every_form(log, run, api):
    """Of a path, a selector and an alias; each notes the run as a reader."""
    first = log("A", aliases=["best"])
    log("B")
    for given, version in [
        (("a",), "v2"), (("a:latest",), "v2"), (("a:LATEST",), "v2"), (("a:v1",), "v1"),
        (("a:V1",), "v1"), (("a:Best",), "v1"), (("p/a:v1",), "v1"),
        (("entity/p/a",), "v2"), ((f"a:@{first.digest[7:]}",), "v1"),
        ((f"a:@{first.digest}",), "v1"), ((f"a:@{first.digest[7:13].upper()}",), "v1"),
        ((first,), "v1"),
    ]:  # fmt: skip
        assert run.use_artifact(*given).version == version, given
    assert run.use_artifact("a", type="dataset", version="v1").version == "v1"
    assert run.use_artifact("a", version=1).version == "v1"
    assert run.use_artifact("a", alias="best").version == "v1"
    assert run.use_artifact("a:v2", aliases=["used"]).aliases == ["used"]
    assert sorted(a.name for a in run.used_artifacts()) == ["a:v1", "a:v2"]
    assert api.artifact("a:v1").used_by() == ["p/r"]
    assert wanllmdb.use_artifact("a").version == "v2"


@pytest.mark.parametrize(("given", "error"), [
    (("b",), ArtifactNotFoundError), (("q/a",), ArtifactNotFoundError),
    (("a:v9",), VersionNotFoundError), (("a:v0",), VersionNotFoundError),
    (("a:none",), VersionNotFoundError), (("a:v" + "9" * 5000,), VersionNotFoundError),
    (("a:v" + "9" * 30,), VersionNotFoundError),
    (("a:@" + "0" * 64,), VersionNotFoundError),
    (("a:@12345",), InvalidInputError), (("a:@xyz123",), InvalidInputError),
    (("a:",), InvalidNameError), (("",), InvalidNameError), ((5,), InvalidNameError),
    (("a:a:b",), VersionNotFoundError), (("\ud800",), InvalidNameError),
    (("a", "model"), InvalidInputError),
])  # fmt: skip
def test_what_is_not_there_is_an_error_of_its_kind(log, run, given, error):
    """And no reader is noted."""
    log("A")
    with pytest.raises(error):
        run.use_artifact(*given)
    assert run.used_artifacts() == []


def test_a_version_is_named_once(log, run):
    """By a suffix or by a keyword."""
    log("A")
    with pytest.raises(InvalidInputError):
        run.use_artifact("a:v1", version="v1")


def test_a_draft_that_is_used_is_logged_and_read(run):
    """As W&B has it."""
    artifact = wanllmdb.Artifact("a", "dataset")
    assert run.use_artifact(artifact).version == "v1"
    assert [a.name for a in run.used_artifacts()] == ["a:v1"]
    assert [a.name for a in run.logged_artifacts()] == ["a:v1"]


def test_the_api_finds_what_runs_made(log, api, run):
    """By name, by type, by project."""
    log("A")
    log("B")
    log("A", name="b")
    assert [a.name for a in api.artifacts()] == ["a:v2", "b:v1"]
    assert [a.name for a in api.artifacts("model")] == []
    assert [a.name for a in api.artifacts("dataset", "p/a")] == ["a:v2", "a:v1"]
    assert [a.name for a in api.artifact_versions("dataset", "a")] == ["a:v2", "a:v1"]
    assert api.artifact_exists("p/a:v1")
    assert not api.artifact_exists("p/a:v3")
    assert not api.artifact_exists("a", type="model")
    run.finish()
    with wanllmdb.init(project="q") as other:
        other.log_artifact(wanllmdb.Artifact("a", "model"))
    with pytest.raises(wanllmdb.errors.AmbiguousNameError, match="p/a, q/a"):
        api.artifact("a")


def test_a_protected_alias_comes_back_protected(three, api):
    """As it was when its version went."""
    (v1, v2, v3), store = three
    for name in ("prod", "x"):
        _versions.move_alias(store, v1, name)
    _versions.protect_alias(store, v1, "prod")
    _versions.delete(store, v1, delete_aliases=True, force=True)
    assert _versions.restore(store, v1).aliases == ("prod", "x")
    _versions.move_alias(store, v2, "x")
    with pytest.raises(AliasConflictError, match="protected"):
        _versions.move_alias(store, v3, "prod")
