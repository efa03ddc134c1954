"""mode="disabled": artifacts behave, and nothing of them is on any disk."""

from __future__ import annotations

from pathlib import Path

import pytest

import wanllmdb
from wanllmdb.errors import ArtifactStateError, InvalidInputError, StateError


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A working directory with files to add, in which nothing may appear."""
    folder = tmp_path / "work"
    (folder / "d").mkdir(parents=True)
    (folder / "x").write_text("1")
    (folder / "d" / "y").write_text("22")
    monkeypatch.chdir(folder)
    before = sorted(tmp_path.rglob("*"))
    yield folder
    wanllmdb.teardown()
    assert sorted(tmp_path.rglob("*")) == before


def filled():
    """A draft with a file, a directory, new files and a reference."""
    artifact = wanllmdb.Artifact("a", "dataset", metadata={"rows": 2})
    artifact.add_file("x")
    artifact.add_dir("d", name="d")
    with artifact.new_file("new") as file:
        file.write("four")
    with artifact.new_file("raw", mode="wb") as file:
        file.write(b"\x00")
        file.close()
    artifact.add_reference("s3://bucket/key", name="far")
    return artifact


def use_everything(artifact):
    """Whatever a script does with a version."""
    assert artifact.wait() is artifact
    assert (artifact.version, artifact.name, artifact.state) == (
        "v0", "a:v0", "COMMITTED",
    )  # fmt: skip
    assert artifact.qualified_name == "p/a:v0"
    assert artifact.download() == "artifacts/a-v0"
    assert artifact.download("here", path_prefix="d") == "here"
    assert artifact.checkout("here") == "here"
    assert artifact.verify()
    assert artifact.get_entry("x").download("here") == "here/x"
    assert str(artifact.get_path("d/y")) == "artifacts/a-v0/d/y"
    assert artifact.source_run is None
    assert (artifact.used_by(), artifact.lineage().edges) == ([], [])
    artifact.add_alias("one")
    artifact.add_alias("two")
    artifact.remove_alias("two")
    assert artifact.aliases[-1] == "one"
    assert artifact.undo_alias("one") is None
    artifact.protect_alias("one")
    assert artifact.alias_history("one") == []
    artifact.description = "said"
    artifact.save()
    assert artifact.description == "said"
    assert artifact.link("m") is artifact
    artifact.unlink("m")
    artifact.delete()
    assert artifact.new_draft().is_draft


def test_a_disabled_run_logs_and_uses_artifacts(work):
    """A script that works recorded works disabled."""
    with wanllmdb.init(mode="disabled", project="p") as run:
        draft = filled()
        assert (draft.file_count, draft.size) == (5, 8)
        assert run.log_artifact(draft, aliases=["best"], tags="t") is draft
        assert (draft.aliases, draft.tags) == (["best"], ["t"])
        assert sorted(draft.manifest) == ["d/y", "far", "new", "raw", "x"]
        use_everything(draft)
        assert run.log_artifact(draft) is draft
        used = run.use_artifact("other/b:v7", type="dataset")
        assert (used.name, used.project, used.type) == ("b:v7", "other", "dataset")
        assert used.download() == used.file() == "artifacts/b-v7"
        assert str(used.get_path("any")) == "artifacts/b-v7/any"
        assert run.use_artifact("b", version=1, alias="best").version == "v1"
        assert run.use_artifact(filled()).version == "v0"
        assert run.logged_artifacts() == run.used_artifacts() == []
        assert run.log_model("x", "m").type == "model"
        assert run.use_model("m:latest") == "artifacts/m-v0"
        assert run.link_model("x", "registered").version == "v0"
        assert run.link_artifact(filled(), "m").version == "v0"


def test_media_are_added_and_kept_nowhere(work):
    """Nor can they be had again; nothing fails."""
    with wanllmdb.init(mode="disabled", project="p") as run:
        draft = wanllmdb.Artifact("a", "dataset")
        entry = draft.add(wanllmdb.Table(columns=["x"], data=[[1]]), "eval")
        assert (entry.path, draft.get("eval")) == ("eval.table.json", None)
        assert run.log_artifact(draft).get("eval") is None
        assert run.use_artifact("b").get("eval") is None


def test_the_content_is_that_of_a_recorded_run(made, monkeypatch, store):
    """Paths, sizes and digest; so that what is checked against them holds."""
    monkeypatch.chdir(made({"x": "1", "d/y": "22"}))
    with wanllmdb.init(mode="disabled"):
        disabled = filled()
    assert not store.exists()
    with wanllmdb.init(project="p") as run:
        assert run.log_artifact(filled()).digest == disabled.digest


def test_the_setting_counts_where_there_is_no_run(work, store, monkeypatch):
    """A draft is often filled before init is called."""
    monkeypatch.setenv("WANLLMDB_MODE", "disabled")
    draft = filled()
    with wanllmdb.init() as run:
        run.log_artifact(draft)
    assert not store.exists()


def test_what_any_draft_refuses_is_refused(work):
    """A script that works disabled works recorded."""
    with wanllmdb.init(mode="disabled") as run:
        artifact = filled()
        for wrong in (
            lambda: artifact.add_file("none"),
            lambda: artifact.add_dir("x"),
            lambda: artifact.add_file("d/y", name="x"),
            lambda: artifact.new_file("x").__enter__(),
            lambda: run.log_artifact("none"),
        ):
            with pytest.raises(InvalidInputError):
                wrong()
        logged = run.log_artifact(artifact)
        with pytest.raises(StateError):
            logged.add_file("x")


def test_what_was_added_disabled_is_not_logged_by_a_run_that_is_recorded(made, store):
    """Its bytes are nowhere; what is added while a run is recorded is kept."""
    root = made({"x": "1"})
    with wanllmdb.init(mode="disabled"):
        draft = wanllmdb.Artifact("a", "dataset")
        draft.add_dir(root)
        gone = wanllmdb.Artifact("a", "dataset")
        wanllmdb.log_artifact(gone)
    with wanllmdb.init(project="p") as run:
        with pytest.raises(ArtifactStateError, match=r"disabled.*keeps no bytes"):
            run.log_artifact(draft)
        with pytest.raises(ArtifactStateError, match="stored nowhere"):
            run.log_artifact(gone)
        draft.add_dir(root)
        assert Path(run.log_artifact(draft).download(store.with_name("out")), "x")


def test_a_run_beside_a_disabled_one_keeps_its_bytes(made):
    """The current run counts, whichever ended meanwhile."""
    root = made({"x": "1"})
    with wanllmdb.init(project="p") as run:
        off = wanllmdb.init(mode="disabled", reinit="create_new")
        draft = wanllmdb.Artifact("a", "dataset")
        draft.add_dir(root)
        off.finish()
        draft.add_file(root / "x", "y")
        assert run.log_artifact(draft).verify()
