"""A project goes to the trash with its artifacts, and comes back with them."""

from __future__ import annotations

import pytest

import wanllmdb
from wanllmdb.errors import (
    ArtifactNotFoundError,
    ConflictError,
    ProjectNotFoundError,
    StateError,
    VersionInUseError,
    VersionNotFoundError,
)


@pytest.fixture
def filled(log, run):
    """Project p: two artifacts, aliases, lineage, and a version that went before."""
    first = log("A", aliases=["best", "x"])
    first.protect_alias("best")
    log("B", aliases=["newest"], tags="t")
    log("C", name="b").delete()
    log("D", name="b")
    run.use_artifact("a:v1")
    run.finish()


@pytest.fixture
def seen(sql, api):
    """All that is to be seen of project p; what stays in the trash, too."""

    def look():
        versions = [a for name in "ab" for a in api.artifacts("dataset", f"p/{name}")]
        return (
            [(p.name, p.runs) for p in api.projects()],
            [(r.path, r.state) for r in api.runs()],
            [(a.qualified_name, a.aliases, a.tags, a.digest, a.updated_at, a.used_by(),
              a.source_run) for a in versions],
            sql("SELECT alias, version_id, protected FROM alias ORDER BY alias"),
            sql("SELECT run_id, version_id, direction FROM edge ORDER BY 1, 2, 3"),
            [version.path for version in api.trashed_versions()],
        )  # fmt: skip

    return look


def test_a_project_with_artifacts_is_not_removed_unasked(filled, api, seen):
    """The message says how many there are; nothing is removed."""
    before = seen()
    with pytest.raises(ConflictError, match="has 3 versions of 2 artifacts") as caught:
        api.delete_project("p")
    assert "delete_artifacts=True" in caught.value.hint
    assert seen() == before


def test_it_goes_with_them_and_comes_back_as_it_was(filled, api, seen):
    """Aliases and their protection, tags, lineage; what went before stays there."""
    before = seen()
    assert before[-1] == ["p/b:v1"]
    api.delete_project("p", delete_artifacts=True)
    assert (api.projects(), api.runs(), api.artifacts()) == ([], [], [])
    with pytest.raises(VersionNotFoundError, match="trash"):
        api.artifact("p/a:v1")
    with pytest.raises((VersionNotFoundError, ArtifactNotFoundError)):
        api.artifact("p/a:best")
    api.restore_project("p")
    assert seen() == before
    for artifact in api.artifacts("dataset", "p/a"):
        assert artifact.verify()


def test_a_project_comes_back_piece_by_piece(filled, api, seen):
    """A version takes its project along; the rest can follow at once."""
    before = seen()
    api.delete_project("p", delete_artifacts=True)
    api.restore_version("p/a:v1")
    assert [project.name for project in api.projects()] == ["p"]
    assert api.runs() == []
    api.restore_project("p")
    assert seen() == before
    with pytest.raises(StateError, match="Nothing that went with project 'p'"):
        api.restore_project("p")


def test_only_what_went_last_comes_back(filled, api):
    """Not what was removed by itself, before or after."""
    api.delete_project("p", delete_artifacts=True)
    api.restore_project("p")
    api.run("p/r").delete()
    api.delete_project("p", delete_artifacts=True)
    api.restore_project("p")
    assert api.runs() == []
    assert len(api.artifacts("dataset", "p/a")) == 2
    with pytest.raises(ProjectNotFoundError):
        api.restore_project("q")


def test_versions_that_models_link_to_keep_their_project(filled, api, seen):
    """Each is named; without the link it goes."""
    api.artifact("p/a:v1").link("churn")
    before = seen()
    with pytest.raises(VersionInUseError, match="p/a:v1 is model churn:v1"):
        api.delete_project("p", delete_artifacts=True)
    assert seen() == before
    api.artifact("p/a:v1").unlink("churn")
    api.delete_project("p", delete_artifacts=True)
    assert api.projects() == []


def test_versions_that_other_projects_read_keep_their_project(filled, api, seen):
    """Each is named, with the run; a run in the trash reads nothing."""
    with wanllmdb.init(project="q", id="reader") as run:
        run.use_artifact("p/a:v2")
    wanllmdb.teardown()
    before = seen()
    with pytest.raises(VersionInUseError, match="p/a:v2 is read by run q/reader"):
        api.delete_project("p", delete_artifacts=True)
    assert seen() == before
    api.run("q/reader").delete()
    api.delete_project("p", delete_artifacts=True)
    assert [project.name for project in api.projects()] == ["q"]


def test_an_alias_that_was_given_away_stops_the_restore_whole(filled, api):
    """It is named, and nothing comes back before it is settled."""
    api.delete_project("p", delete_artifacts=True)
    with wanllmdb.init(project="p", id="new") as run:
        artifact = wanllmdb.Artifact("a", "dataset")
        with artifact.new_file("x") as file:
            file.write("new")
        assert run.log_artifact(artifact, aliases=["best"]).version == "v3"
    wanllmdb.teardown()
    with pytest.raises(ConflictError, match="'best' of a names v3"):
        api.restore_project("p")
    assert [r.id for r in api.runs("p")] == ["new"]
    api.artifact("p/a").remove_alias("best")
    api.restore_project("p")
    assert api.artifact("p/a:best").version == "v1"
    assert sorted(r.id for r in api.runs("p")) == ["new", "r"]


def test_a_live_run_keeps_its_project(log, run, api):
    """As before."""
    log("A")
    with pytest.raises(wanllmdb.errors.RunActiveError):
        api.delete_project("p", delete_artifacts=True)
