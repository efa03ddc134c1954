"""The views over artifacts: every version, alias and edge that is not in the trash."""

from __future__ import annotations

import pytest

import wanllmdb


@pytest.fixture
def recorded():
    """Two versions of `p/ds`, made by `make`, the first of them read by `q/read`."""
    with wanllmdb.init(project="p", id="make") as run:
        for text in ("one", "two"):
            draft = wanllmdb.Artifact("ds", "dataset", metadata={"t": text}, tags=["x"])
            with draft.new_file("a") as file:
                file.write(text)
            run.log_artifact(draft, aliases=["Best"] if text == "one" else [])
    with wanllmdb.init(project="q", id="read") as run:
        run.use_artifact("p/ds:best")


def test_versions_aliases_and_edges_are_rows(recorded):
    """With the types that docs/sql.md names."""
    with wanllmdb.Api() as api:
        found = api.query(
            "SELECT project, artifact, type, version, size, files, run, metadata, tags"
            " FROM artifacts ORDER BY version"
        )
        assert found.fetchall() == [
            ("p", "ds", "dataset", 1, 3, 1, "make", '{"t":"one"}', ["x"]),
            ("p", "ds", "dataset", 2, 3, 1, "make", '{"t":"two"}', ["x"]),
        ]
        aliases = api.query(
            "SELECT project, artifact, alias, version, protected FROM aliases"
        )
        assert aliases.fetchall() == [("p", "ds", "Best", 1, False)]
        edges = api.query(
            "SELECT project, run, artifact_project, artifact, version, direction"
            " FROM lineage ORDER BY ts, version"
        )
        assert edges.fetchall() == [
            ("p", "make", "p", "ds", 1, "output"),
            ("p", "make", "p", "ds", 2, "output"),
            ("q", "read", "p", "ds", 1, "input"),
        ]


def test_a_project_sees_its_own_and_the_trash_is_not_shown(recorded):
    """Of lineage it is the run's project that counts."""
    with wanllmdb.Api() as api:
        for view, count in (("artifacts", 0), ("aliases", 0), ("lineage", 1)):
            found = api.query(f"SELECT count(*) FROM {view}", project="q")
            assert found.fetchall() == [(count,)], view
        api.artifact("ds:v1").delete(delete_aliases=True)
        for view, count in (("artifacts", 1), ("aliases", 0), ("lineage", 1)):
            assert api.query(f"SELECT count(*) FROM {view}").fetchall() == [(count,)], (
                view
            )
        api.run("p/make").delete()
        assert api.query("SELECT * FROM lineage").fetchall() == []
        assert api.query("SELECT version FROM artifacts").fetchall() == [(2,)]


def test_a_report_lists_what_was_made_and_read(recorded, tmp_path):
    """With every name escaped."""
    with wanllmdb.Api() as api:
        path = tmp_path / "r.html"
        api.report(["p/make", "q/read"], path)
    text = path.read_text("utf-8")
    assert "Artifacts" in text
    assert text.count("p/ds:v1") == 2  # made, and read
    assert "p/ds:v2" in text
