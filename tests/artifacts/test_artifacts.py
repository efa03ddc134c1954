"""Drafts and versions, as users of W&B make and log them."""

from __future__ import annotations

import os

import pytest

import wanllmdb
from wanllmdb import Artifact
from wanllmdb.errors import (
    ArtifactStateError,
    ConflictError,
    InvalidInputError,
    InvalidNameError,
    MissingBlobError,
)


def entries(artifact):
    return {entry.path: entry.size for entry in artifact.files()}


def draft(name="a", **how):
    return Artifact(name, "dataset", **how)


def test_a_version_says_what_it_is(run, made):
    """The attributes W&B has, before and after."""
    artifact = draft(description="d", metadata={"n": 1, "deep": {"x": [1, None]}},
                     tags=["t"])  # fmt: skip
    assert (artifact.is_draft, artifact.state, artifact.name) == (True, "PENDING", "a")
    for what in ("version", "project", "source_run"):
        with pytest.raises(ArtifactStateError):
            getattr(artifact, what)
    for call in (artifact.wait, artifact.download, artifact.save, artifact.delete,
                 artifact.verify, artifact.checkout):  # fmt: skip
        with pytest.raises(ArtifactStateError):
            call()
    artifact.add_dir(made({"x": "1"}))
    before = artifact.digest
    logged = run.log_artifact(artifact, aliases=["best"], tags=["u"])
    assert logged is artifact
    assert logged.wait() is logged
    assert (logged.is_draft, logged.state, logged.name, logged.version) == (
        False, "COMMITTED", "a:v1", "v1",
    )  # fmt: skip
    assert (logged.qualified_name, logged.project) == ("p/a:v1", "p")
    assert (logged.digest, logged.size, logged.file_count) == (before, 1, 1)
    assert (logged.description, logged.metadata) == (
        "d",
        {"n": 1, "deep": {"x": [1, None]}},
    )
    assert (logged.tags, logged.aliases) == (["t", "u"], ["best"])
    assert (logged.source_run, logged.logged_by()) == ("p/r", "p/r")
    assert logged.created_at == logged.updated_at
    assert [a.name for a in run.logged_artifacts()] == ["a:v1"]
    for change in (
        lambda: logged.add_file("x"),
        lambda: logged.add_dir("."),
        lambda: logged.remove("x"),
        lambda: logged.new_file("y").__enter__(),
    ):
        with pytest.raises(ArtifactStateError):
            change()


def test_identical_content_gives_no_new_version(log, run, api):
    """Aliases, metadata, tags and edges are recorded all the same."""
    log("A")
    wanllmdb.finish()
    other = wanllmdb.init(project="p", id="s")
    artifact = draft(metadata={"m": 1}, tags=["t"])
    with artifact.new_file("x") as file:
        file.write("A")
    logged = other.log_artifact(artifact, aliases=["best", "latest", "v1"])
    assert (logged.version, logged.source_run) == ("v1", "p/r")
    found = api.artifact("p/a")
    assert (found.version, found.aliases, found.metadata, found.tags) == (
        "v1", ["best"], {"m": 1}, ["t"],
    )  # fmt: skip
    assert [a.name for a in other.logged_artifacts()] == ["a:v1"]


def test_older_content_gives_a_new_number(log, api, read, tmp_path):
    """Log A, B, A: `latest` gives A's bytes."""
    assert [log(text).version for text in "ABAA"] == ["v1", "v2", "v3", "v3"]
    assert read(api.artifact("a").download(tmp_path / "out")) == {"x": "A"}
    assert api.artifact("a:v1").digest == api.artifact("a:v3").digest
    found = api.artifact(f"a:@{api.artifact('a:v1').digest[7:15]}")
    assert found.version == "v3"


def test_content_is_stored_once(log, store):
    """Whatever its path and its artifact."""
    log({"x": "same", "y": "same", "d/z": "same"})
    log({"w": "same"}, name="b")
    blobs = [p for p in (store / "blobs").rglob("*") if p.is_file()]
    assert len(blobs) == 3  # two manifests


def test_an_artifact_keeps_its_type(log, run):
    """Another type is refused, and the draft can still be logged."""
    log("A")
    artifact = Artifact("a", "model")
    with artifact.new_file("x") as file:
        file.write("B")
    with pytest.raises(ConflictError, match="'dataset'"):
        run.log_artifact(artifact)
    assert artifact.is_draft
    again = artifact.new_draft()
    again._type = "dataset"
    assert run.log_artifact(again).version == "v2"


@pytest.mark.parametrize(
    "name", ["", "a b", "a/b", "a:b", "\u00e9", "n" * 129, 5, None]
)
def test_a_name_or_a_type_that_is_none_is_refused(name):
    """In the constructor."""
    with pytest.raises(InvalidNameError):
        Artifact(name, "dataset")


def test_metadata_may_have_100_000_bytes(run, api):
    """One more is refused, naming the largest key; then nothing was committed."""
    full = draft(metadata={"k": "x" * (100_000 - len('{"k":""}'))})
    assert run.log_artifact(full).version == "v1"
    assert api.artifact("a").metadata == full.metadata
    more = draft(metadata={"small": 1, "big": "x" * 99_979})
    more.metadata["big"] += "xx"
    with pytest.raises(InvalidInputError, match="'big'") as caught:
        run.log_artifact(more)
    assert caught.value.identity["key"] == "big"
    full.metadata = {"k": "x" * 100_000}
    with pytest.raises(InvalidInputError, match="'k'"):
        full.save()
    assert len(api.artifacts("dataset", "a")) == 1


def test_metadata_comes_back_as_it_was(run, api):
    """Whatever JSON holds, and what it does not."""
    metadata = {
        "nan": float("nan"),
        "big": 2**70,
        "~f": 1,
        "t": (1, 2),
        "e": "\U0001f600",
    }
    run.log_artifact(draft(metadata=metadata))
    found = api.artifact("a").metadata
    assert repr(found) == repr({**metadata, "t": [1, 2]})


def test_an_empty_artifact_is_a_version(run, api, tmp_path):
    """Of no entries."""
    logged = run.log_artifact(draft())
    assert (logged.version, logged.size, logged.file_count) == ("v1", 0, 0)
    assert os.listdir(logged.download(tmp_path / "out")) == []


def test_a_path_becomes_an_artifact(run, made, tmp_path):
    """A file or a directory, named after run and file where no name is given."""
    root = made({"x": "1", "d/y": "2"})
    logged = run.log_artifact(root / "x")
    assert (logged.name, logged.type) == ("run-r-x:v1", "unspecified")
    logged = run.log_artifact(str(root), name="tree", type="dataset", aliases="best")
    assert (logged.name, logged.aliases) == ("tree:v1", ["best"])
    assert entries(logged) == {"x": 1, "d/y": 1}
    odd = tmp_path / "h\u00e9 & co"
    odd.write_text("1")
    assert run.log_artifact(odd).name == "run-r-h----co:v1"
    with pytest.raises(InvalidInputError):
        run.log_artifact(tmp_path / "none")


def test_a_version_that_is_logged_again_gets_what_is_given(log, run):
    """Edges, aliases and tags."""
    first = log("A")
    wanllmdb.finish()
    other = wanllmdb.init(project="p", id="s")
    other.log_artifact(first, aliases=["best"], tags=["t"])
    assert (first.aliases, first.tags) == (["best"], ["t"])
    assert [a.name for a in other.logged_artifacts()] == ["a:v1"]


def test_a_draft_goes_to_the_store_of_the_run(made, tmp_path, run):
    """Wherever its bytes were put before."""
    artifact = draft()
    artifact.add_dir(made({"x": "1", "big": "b" * (3 << 20)}))
    run.log_artifact(artifact.new_draft())
    again = draft()
    again.add_dir(made({"x": "1", "y": "2"}))  # x is in the first Store already
    wanllmdb.finish()
    with wanllmdb.init(project="p", store=tmp_path / "other") as other:
        assert other.log_artifact(again).verify()
    with wanllmdb.Api(tmp_path / "other") as api:
        assert api.artifact("a").verify()
        assert entries(api.artifact("a")) == {"x": 1, "y": 1}


def test_a_version_of_another_store_is_logged_as_a_draft(log, tmp_path, read):
    """As the error says that refuses the version itself."""
    first = log({"x": "1", "d/y": "2"})
    wanllmdb.finish()
    with wanllmdb.init(project="p", store=tmp_path / "other") as other:
        for call in (other.log_artifact, other.use_artifact):
            with pytest.raises(InvalidInputError, match="another Store"):
                call(first)
        copied = first.new_draft()
        copied.remove("x")
        assert other.log_artifact(copied).verify()
    with wanllmdb.Api(tmp_path / "other") as api:
        assert read(api.artifact("a").download(tmp_path / "o")) == {"d/y": "2"}


def test_bytes_that_are_gone_before_the_commit_are_named(log, run, blob, api):
    """A draft of a version relies on the Store's blobs."""
    copied = log({"x": "1", "d/y": "2"}).new_draft()
    with copied.new_file("z") as file:
        file.write("3")
    blob(copied.get_entry("d/y").digest).unlink()
    with pytest.raises(MissingBlobError, match="'d/y'"):
        run.log_artifact(copied)
    assert copied.is_draft
    assert len(api.artifacts("dataset", "a")) == 1
    with copied.new_file("d/y", mode="w") as file:
        file.write("2")
    assert run.log_artifact(copied).verify()


def test_a_draft_that_is_dropped_leaves_nothing(run, store, made):
    """Nor does one that was committed."""
    root = made({"x": "1", "y": "y" * (2 << 20)})
    for _ in range(3):
        artifact = draft()
        artifact.add_dir(root)
        with pytest.raises(KeyError), artifact.new_file("z"):
            raise KeyError
        del artifact
    logged = draft()
    logged.add_dir(root)
    run.log_artifact(logged)
    assert list((store / "tmp").iterdir()) == []


def test_a_draft_that_another_run_of_the_process_logs(made, store):
    """Runs may end, and the module may be torn down, between add and log."""
    artifact = draft()
    artifact.add_dir(made({"x": "1"}))
    wanllmdb.init(project="p").finish()
    wanllmdb.teardown()
    with wanllmdb.init(project="p") as run:
        artifact.add_dir(made({"y": "1"}))
        assert entries(run.log_artifact(artifact)) == {"x": 1, "y": 1}


def test_a_draft_is_kept_where_the_last_run_is(tmp_path, store, made):
    """Not in another Store, which would be made for it."""
    with wanllmdb.init(project="p", store=tmp_path / "other") as run:
        artifact = draft()
        artifact.add_dir(made({"x": "1"}))
        assert run.log_artifact(artifact).version == "v1"
    assert not store.exists()
