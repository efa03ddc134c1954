"""What is said of a version: stored with its event, and not lost by what comes next."""

from __future__ import annotations

import getpass
import os
import time

import pytest

import wanllmdb
from wanllmdb._catalog import events
from wanllmdb.errors import AliasConflictError, InvalidInputError


def edit(version):
    """Say something else of each thing that can be said."""
    version.description = "new"
    version.metadata["rows"] = 3
    version.metadata.pop("old")
    version.tags = ["b", "c"]
    version.ttl = 60


def again(version):
    """Commit the same content, and say all of it by that."""
    draft = version.new_draft()
    edit(draft)
    wanllmdb.run.log_artifact(draft)


WAYS = {
    "save": lambda v: (edit(v), v.save()),
    "log the handle": lambda v: (edit(v), wanllmdb.run.log_artifact(v)),
    "commit it again": again,
}


@pytest.fixture
def said(run):
    """A version of which something is said."""
    artifact = wanllmdb.Artifact(
        "a", "dataset", "first", {"rows": 1, "old": True, "kept": [1]}, ["a", "b"]
    )
    return run.log_artifact(artifact)


@pytest.mark.parametrize("way", WAYS)
def test_each_change_of_a_version_is_an_event_with_its_revision(said, way, api, sql):
    """Who, where, when, from and to; sync goes by the revisions."""
    start, uid = time.time_ns() // 1000, said.id
    WAYS[way](said)
    found = events.read(api.store.catalog.reader, "version", uid)
    changes = {e.kind: (e.before, e.after) for e in found if e.kind != "commit"}
    tags = ["a", "b", "c"] if way == "commit it again" else ["b", "c"]
    assert changes == {
        "set description": ("first", "new"),
        "metadata": ({"rows": 1, "old": True}, {"rows": 3}),
        "set ttl_us": (None, 60_000_000),
        "tags": (["a", "b"], tags),
    }
    for event in found[1:]:
        assert event.at_us >= start
        assert (event.who, event.host) == (getpass.getuser(), os.uname().nodename)
    fields = sql(
        "SELECT field, hlc FROM field_rev WHERE entity='version' AND uid=?", uid
    )
    assert {field for field, hlc in fields if hlc >= start} == {
        "description", "metadata.rows", "metadata.old", "ttl_us", "tags",
    }  # fmt: skip


def test_what_did_not_change_is_no_event(said, api, run):
    """Nor does it stamp anything."""
    said.save()
    run.log_artifact(said)
    run.log_artifact(said.new_draft())
    found = events.read(api.store.catalog.reader, "version", said.id)
    assert [event.kind for event in found] == ["commit"]
    assert said.updated_at == said.created_at


def test_a_field_that_others_changed_stays_unless_it_is_changed_here(said, api):
    """Key by key in the metadata, tag by tag."""
    other = api.artifact("p/a")
    other.description, other.tags = "theirs", ["b", "theirs"]
    other.metadata |= {"theirs": 1, "rows": 9}
    other.save()
    said.metadata["rows"] = 2
    said.tags.append("mine")
    said.save()
    assert said.description == "theirs"
    assert said.metadata == {"rows": 2, "old": True, "kept": [1], "theirs": 1}
    assert said.tags == ["b", "mine", "theirs"]


def test_edits_that_are_not_saved_stay_when_the_handle_is_used(said, run, api):
    """As W&B has it: they wait for `save`."""
    edit(said)
    said.aliases.append("mine")
    run.use_artifact(said, aliases=["used"])
    said.add_alias("added")
    stored = api.artifact("p/a")
    assert (stored.description, stored.tags) == ("first", ["a", "b"])
    assert stored.aliases == ["added", "used"]
    assert (said.description, said.tags, said.ttl) == ("new", ["b", "c"], 60.0)
    assert said.metadata == {"rows": 3, "kept": [1]}
    assert said.aliases == ["added", "used", "mine"]
    said.save()
    stored = api.artifact("p/a")
    assert (stored.description, stored.metadata["rows"]) == ("new", 3)
    assert stored.aliases == ["added", "mine", "used"]


def test_edits_that_are_not_saved_are_saved_when_the_handle_is_logged(said, run, api):
    """Its aliases, too."""
    edit(said)
    said.aliases.append("mine")
    run.log_artifact(said, aliases=["given"], tags="more")
    stored = api.artifact("p/a")
    assert (stored.description, stored.metadata) == ("new", {"rows": 3, "kept": [1]})
    assert (stored.tags, stored.ttl) == (["b", "c", "more"], 60.0)
    assert stored.aliases == ["given", "mine"]


def test_undoing_the_removal_of_a_protected_alias_protects_it_again(said, run):
    """One that was not protected any more comes back as it was."""
    said.add_alias("prod")
    said.protect_alias("prod")
    said.remove_alias("prod", force=True)
    assert said.undo_alias("prod") == 1
    with pytest.raises(AliasConflictError, match="protected"):
        said.remove_alias("prod")
    said.remove_alias("prod", force=True)
    said.add_alias("prod")  # by another one, and not protected
    said.undo_alias("prod")
    assert said.undo_alias("prod") == 1
    with pytest.raises(AliasConflictError, match="protected"):
        said.remove_alias("prod")
    said.protect_alias("prod", on=False)
    said.remove_alias("prod")
    assert said.undo_alias("prod") == 1
    said.remove_alias("prod")


@pytest.mark.parametrize("version", [3, "3", "v3", "V3"])
def test_a_version_is_named_by_its_number_in_any_way(log, run, version):
    """As a number or as text, beside an alias that names it."""
    for text in "ABC":
        log(text)
    made = log("D")
    run.use_artifact("a:v3").add_alias("best")
    assert run.use_artifact("a", version=version).version == "v3"
    assert run.use_artifact("a", version=version, alias="best").version == "v3"
    with pytest.raises(InvalidInputError, match="p/a:v3 and p/a:v4"):
        run.use_artifact("a", version=version, alias="latest")
    with pytest.raises(InvalidInputError, match="p/a:v4 and p/a:v3"):
        run.use_artifact(made, version=version)
    with pytest.raises(InvalidInputError, match="Give one"):
        run.use_artifact("a:v3", alias="best")


def test_a_handle_is_asked_for_by_what_it_is(log, run):
    """Its type counts, and a draft is no version yet."""
    made = log("A")
    assert run.use_artifact(made, "dataset", version=1, alias="latest") is made
    with pytest.raises(InvalidInputError, match="'dataset', not 'model'"):
        run.use_artifact(made, "model")
    with pytest.raises(InvalidInputError, match="is a draft"):
        run.use_artifact(wanllmdb.Artifact("a", "dataset"), version=1)
