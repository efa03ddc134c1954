"""Models of runs, with W&B's calls: log_model, use_model, link_model, link_artifact."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

import wanllmdb
from wanllmdb.errors import (
    ArtifactNotFoundError,
    InvalidInputError,
    InvalidNameError,
    ModelNotFoundError,
    NoActiveRunError,
    VersionNotFoundError,
)


@pytest.fixture(autouse=True)
def _here(monkeypatch, tmp_path):
    """Downloads go below the test's directory."""
    monkeypatch.chdir(tmp_path)


def test_the_signatures_are_wandbs():
    """Positions and names, as of W&B 0.31."""
    expected = {
        "log_model": ["path", "name", "aliases"],
        "use_model": ["name"],
        "link_model": ["path", "registered_model_name", "name", "aliases"],
        "link_artifact": ["artifact", "target_path", "aliases"],
    }
    for name, parameters in expected.items():
        found = inspect.signature(getattr(wanllmdb.Run, name)).parameters
        assert [*found] == ["self", *parameters]
        assert callable(getattr(wanllmdb, name))


def test_a_logged_model_is_used_as_its_one_file(run, weights):
    """By name and alias; the path is the file's."""
    made = run.log_model(weights("bytes"), "net", aliases=["best"])
    assert (made.type, made.aliases) == ("model", ["best"])
    assert run.logged_artifacts()[0].id == made.id
    path = Path(run.use_model("net:best"))
    assert path.name == "model.bin"
    assert path.read_text() == "bytes"
    assert [used.id for used in run.used_artifacts()] == [made.id]


def test_a_model_of_several_files_is_used_as_its_directory(run, weights, tmp_path):
    """And so it is logged; its name is the run's and the directory's by default."""
    weights(1, "saved/a"), weights(2, "saved/b")
    assert run.log_model(tmp_path / "saved").name == "run-r-saved:v1"
    place = Path(run.use_model("run-r-saved"))
    assert sorted(p.name for p in place.iterdir()) == ["a", "b"]


def test_only_models_are_used_as_models(run, weights):
    """Any type whose name says model is one; what is refused is not noted as read."""
    run.log_artifact(weights(), name="data", type="dataset")
    run.log_artifact(weights(), name="kin", type="My-Model")
    with pytest.raises(InvalidInputError, match="'dataset', and no model"):
        run.use_model("data")
    assert run.used_artifacts() == []
    assert Path(run.use_model("kin")).read_text() == "weights"


def test_a_linked_model_is_in_the_registry(run, weights, registry):
    """Stages among the aliases move it there; the artifact gets none of them."""
    made = run.link_model(weights(), "churn", "net", ["best", "staging", "latest"])
    assert (made.name, made.aliases) == ("net:v1", [])
    (version,) = registry.get_model_versions("churn")
    assert version["artifact"] == "p/net:v1"
    assert (version["aliases"], version["stage"]) == (["best"], "staging")


def test_a_model_is_linked_again_and_again(run, weights, registry):
    """Other bytes are the next version; its alias moves with it."""
    for number in range(3):
        run.link_model(weights(number), "churn", aliases="best")
    run.link_model(weights(2), "churn")
    found = registry.get_model_versions("churn")
    assert [v["version"] for v in found] == ["v3", "v2", "v1"]
    assert [v["aliases"] for v in found] == [["best"], [], []]
    assert found[0]["artifact"] == "p/run-r-model.bin:v3"


def test_an_artifact_that_is_a_model_keeps_its_type(run, weights):
    """link_model goes on with it; with one that is no model it does not."""
    run.log_artifact(weights(1), name="kin", type="my-model")
    assert run.link_model(weights(2), "churn", "kin").type == "my-model"
    run.log_artifact(weights(1), name="data", type="dataset")
    with pytest.raises(InvalidInputError, match="no model"):
        run.link_model(weights(2), "churn", "data")


@pytest.mark.parametrize("name", ["model-registry/churn", "a b", "", "c:v1", 7])
def test_a_registered_name_is_no_path(run, weights, registry, name):
    """It is refused before anything is logged."""
    with pytest.raises(InvalidNameError, match="no name for a model"):
        run.link_model(weights(), name)
    assert run.logged_artifacts() == []
    assert registry.list_models() == []


def test_a_version_is_in_one_stage(run, weights, registry):
    """Two stages among the aliases contradict each other."""
    with pytest.raises(InvalidInputError, match="in one stage"):
        run.link_model(weights(), "churn", aliases=["staging", "production"])
    assert registry.list_models() == []


def test_a_draft_is_logged_before_it_is_linked(run, weights, registry):
    """The artifact that comes back is a version."""
    draft = wanllmdb.Artifact("net", "model")
    draft.add_file(weights())
    linked = run.link_artifact(draft, "wandb-registry-model/churn", aliases=["best"])
    assert linked is draft
    assert (linked.name, linked.source_run) == ("net:v1", "p/r")
    assert registry.get_model_version("churn", "best")["artifact"] == "p/net:v1"


@pytest.mark.parametrize("prefix", ["", "entity/", "org/entity/"])
@pytest.mark.parametrize("home", ["model-registry", "wandb-registry-model"])
@pytest.mark.parametrize("selector", ["", ":v1", ":latest", ":staging", ":best"])
def test_a_registered_model_is_used_by_its_path(
    run, weights, registry, prefix, home, selector
):
    """As W&B's scripts do it, with use_model and with use_artifact."""
    run.link_model(weights(), "churn", aliases=["staging", "best"])
    path = f"{prefix}{home}/churn{selector}"
    assert Path(run.use_model(path)).read_text() == "weights"
    assert run.use_artifact(path, type="model").qualified_name == (
        "p/run-r-model.bin:v1"
    )  # fmt: skip


def test_the_api_reads_the_registry_by_path(run, weights, api):
    """A stage with nothing in it, or no such model, is named."""
    run.link_model(weights(), "churn")
    assert api.artifact("model-registry/churn:v1").type == "model"
    with pytest.raises(VersionNotFoundError, match="no version 'production'"):
        api.artifact("model-registry/churn:production")
    with pytest.raises(ModelNotFoundError, match="no model 'other'"):
        api.artifact("model-registry/other")


def test_names_of_artifacts_are_not_looked_for_in_the_registry(run, weights):
    """A name without the registry's path is an artifact's alone."""
    run.link_model(weights(), "churn")
    with pytest.raises(ArtifactNotFoundError):
        run.use_model("churn")


def test_a_project_may_be_called_nearly_as_the_registry(weights):
    """Only the very word stands for it."""
    with wanllmdb.init(project="model-registry-demo") as run:
        run.log_model(weights(), "net")
        assert Path(run.use_model("model-registry-demo/net")).exists()


def test_a_disabled_run_keeps_and_links_nothing(weights, registry):
    """Scripts go on: each call gives a version that is nowhere."""
    with wanllmdb.init(mode="disabled") as run:
        assert run.log_model(weights(), "net").version == "v0"
        assert run.link_model(weights(), "churn", "net").version == "v0"
        assert run.link_artifact(wanllmdb.Artifact("a", "t"), "churn").version == "v0"
        assert not Path(run.use_model("net")).exists()
    assert registry.list_models() == []


def test_an_artifact_of_another_store_is_not_linked(run, weights, tmp_path):
    """Neither is anything made of it here."""
    other = wanllmdb.init(project="p", store=tmp_path / "other", reinit="create_new")
    artifact = other.log_model(weights(), "net")
    other.finish()
    with pytest.raises(InvalidInputError, match="in another Store"):
        run.link_artifact(artifact, "churn")


def test_the_modules_calls_are_the_active_runs(run, weights, registry):
    """They log, use and link as its methods do."""
    artifact = wanllmdb.log_model(weights(1), "net")
    assert Path(wanllmdb.use_model("net")).read_text() == "1"
    wanllmdb.link_artifact(artifact, "churn")
    wanllmdb.link_model(weights(2), "churn", "net")
    assert len(registry.get_model_versions("churn")) == 2


@pytest.mark.parametrize(
    "name", ["log_model", "use_model", "link_model", "link_artifact"]
)
def test_the_modules_calls_need_an_active_run(name):
    """They say so, and what to do."""
    with pytest.raises(NoActiveRunError, match=rf"{name}\(\) needs an active run"):
        getattr(wanllmdb, name)("x", "y")


def test_the_old_sdks_example_runs_as_it_is(weights, tmp_path):
    """Registered under names, promoted, used and listed; its keywords are kept."""
    run = wanllmdb.init(project="model-registry-demo", name="train-v1")
    registry = wanllmdb.ModelRegistry(None, "project-id")
    for number, version in enumerate(("v1.0.0", "v2.0.0")):
        info = registry.log_model(
            run=run, model_path=str(weights(number, "credit.pkl")),
            registered_model_name="credit-risk-model", version=version,
            description="d", tags=["sklearn"], metadata={"framework": "scikit-learn"},
        )  # fmt: skip
        assert info["version"] == version
    wanllmdb.finish()
    moved = registry.transition_stage(
        registered_model_name="credit-risk-model", version="v2.0.0",
        stage="production", comment="passed",
    )  # fmt: skip
    assert moved["stage"] == "production"
    assert moved.get("approved_at", "N/A") is None
    path = registry.use_model(
        registered_model_name="credit-risk-model", stage="production"
    )
    assert (Path(path) / "credit.pkl").read_text() == "1"
    (model,) = registry.list_models()
    versions = registry.get_model_versions(model["name"])
    assert [v["registered_as"] for v in versions] == ["v2.0.0", "v1.0.0"]
