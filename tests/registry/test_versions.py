"""Versions of models: made, numbered, named, found, used and taken away."""

from __future__ import annotations

from pathlib import Path

import pytest

import wanllmdb
from wanllmdb import _gc
from wanllmdb.errors import (
    AliasConflictError,
    AliasNotFoundError,
    ArtifactStateError,
    ConflictError,
    InvalidInputError,
    InvalidNameError,
    ModelNotFoundError,
    NoActiveRunError,
    StateError,
    VersionInUseError,
    VersionNotFoundError,
)


def numbers(registry, name="churn"):
    """The versions of a model, the newest first."""
    return [version["version"] for version in registry.get_model_versions(name)]


def test_a_logged_model_is_an_artifact_and_the_models_next_version(
    registry, run, weights, api
):
    """The answer names both by their uids."""
    made = registry.log_model(
        run, weights("bytes"), "churn", description="first", tags=["tree", "tree"],
        metadata={"auc": 0.9},
    )  # fmt: skip
    assert set(made) == {"model_id", "version_id", "version", "artifact_version_id"}
    assert made["version"] == "v1"
    artifact = api.artifact("p/churn")
    assert (artifact.id, artifact.type) == (made["artifact_version_id"], "model")
    assert artifact.source_run == "p/r"
    (version,) = registry.get_model_versions("churn")
    assert version["id"] == made["version_id"]
    assert version["artifact"] == "p/churn:v1"
    assert version["run"] == "p/r"
    assert version["stage"] == "none"
    assert version["description"] == "first"
    assert version["tags"] == ["tree"]
    assert version["metadata"] == {"auc": 0.9}
    assert version["approved_at"] is None
    (model,) = registry.list_models()
    assert (model["id"], model["name"]) == (made["model_id"], "churn")


def test_a_directory_is_a_model_too(registry, run, weights, tmp_path):
    """Its files are found again below the place of the download."""
    weights(1, "saved/a.bin"), weights(2, "saved/deep/b.bin")
    registry.log_model(run, tmp_path / "saved", "churn")
    place = Path(registry.use_model("churn", download_path=tmp_path / "out"))
    assert place == tmp_path / "out"
    assert (place / "a.bin").read_text() == "1"
    assert (place / "deep" / "b.bin").read_text() == "2"


def test_without_a_run_the_active_one_logs(registry, run, weights):
    """None is the active run."""
    registry.log_model(None, weights(), "churn")
    assert registry.get_latest_version("churn")["run"] == run.path


def test_without_any_run_nothing_is_logged(registry, weights):
    """Somebody must have made the model."""
    with pytest.raises(NoActiveRunError, match="needs a run"):
        registry.log_model(None, weights(), "churn")


def test_a_run_that_is_disabled_logs_nothing(registry, weights):
    """Scripts go on in mode disabled."""
    with wanllmdb.init(mode="disabled") as run:
        made = registry.log_model(run, weights(), "churn", version="1.0")
    assert set(made.values()) == {None, "1.0"}
    assert registry.list_models() == []


def test_what_is_not_there_is_no_model(registry, run, tmp_path):
    """A path that cannot be added leaves no model behind."""
    with pytest.raises(InvalidInputError, match="No such file"):
        registry.log_model(run, tmp_path / "gone", "churn")
    assert registry.list_models() == []


def test_numbers_rise_from_1_and_are_never_given_twice(logged):
    """Neither after an unlink of the newest, nor after the model was deleted."""
    registry = logged(2)
    registry.unlink("churn", 2)
    registry.link("p/churn:v2", "churn")
    assert numbers(registry) == ["v3", "v1"]
    registry.delete("churn")
    registry.link("p/churn:v1", "churn")
    assert numbers(registry) == ["v4"]


def test_the_same_again_is_the_same_version(registry, run, weights):
    """What is said of it is taken over; what is not said again, stays."""
    registry.log_model(run, weights(), "churn", description="a", tags=["x"])
    again = registry.log_model(run, weights(), "churn", tags=["y"], metadata={"k": 1})
    assert again["version"] == "v1"
    (version,) = registry.get_model_versions("churn")
    assert (version["description"], version["tags"]) == ("a", ["x", "y"])
    assert version["metadata"] == {"k": 1}


def test_what_an_older_version_holds_gives_a_new_one(registry, run, weights):
    """Log A, B, A: the newest version has A's bytes."""
    for content in ("A", "B", "A"):
        registry.log_model(run, weights(content), "churn")
    assert numbers(registry) == ["v3", "v2", "v1"]
    newest = Path(registry.use_model("churn")) / "model.bin"
    assert newest.read_text() == "A"


def test_the_number_that_was_asked_for_must_be_the_next_one(registry, run, weights):
    """A version that is a number is checked, and then no alias."""
    assert registry.log_model(run, weights(1), "churn", version=1)["version"] == "v1"
    assert registry.log_model(run, weights(2), "churn", version="v2")["version"] == "v2"
    with pytest.raises(ConflictError, match="is v3, not v7"):
        registry.log_model(run, weights(3), "churn", version="7")
    assert numbers(registry) == ["v2", "v1"]
    assert registry.get_latest_version("churn")["aliases"] == []


def test_the_latest_version_is_whichever_is_next(registry, run, weights):
    """As a name of what is logged, `latest` says nothing."""
    assert registry.log_model(run, weights(), "churn", "latest")["version"] == "v1"
    assert registry.get_latest_version("churn")["aliases"] == []


def test_a_version_is_registered_under_a_name_for_good(registry, run, weights):
    """As the old SDK's users do it; the name is the version's own."""
    first = registry.log_model(run, weights(1), "churn", version="v1.0.0")
    assert first["version"] == "v1.0.0"
    assert registry.log_model(run, weights(1), "churn", "V1.0.0") == {
        **first, "version": "V1.0.0"
    }  # fmt: skip
    with pytest.raises(AliasConflictError, match=r"names churn:v1 already"):
        registry.log_model(run, weights(2), "churn", version="v1.0.0")
    with pytest.raises(AliasConflictError, match="already"):
        registry.set_alias("churn", registry.log_model(run, weights(2), "churn")[
            "version"], "v1.0.0")  # fmt: skip
    with pytest.raises(AliasConflictError, match="churn:v1 was registered as"):
        registry.delete_alias("churn", "v1.0.0")
    version = registry.get_model_version("churn", "v1.0.0")
    assert (version["version"], version["registered_as"]) == ("v1", "v1.0.0")


def test_the_same_bytes_under_another_name_are_another_version(registry, run, weights):
    """Whoever names a version anew wants one."""
    registry.log_model(run, weights(), "churn", version="1.0")
    registry.log_model(run, weights(), "churn", version="1.1")
    found = registry.get_model_versions("churn")
    assert [v["registered_as"] for v in found] == ["1.1", "1.0"]
    assert len({v["artifact"] for v in found}) == 1


def test_an_alias_moves_from_version_to_version(logged):
    """It names one version at a time, in any case, until it is removed."""
    registry = logged(2)
    registry.set_alias("churn", 1, "Champion")
    moved = registry.set_alias("churn", 2, "champion")
    assert moved["aliases"] == ["champion"]
    assert registry.get_model_version("churn", "CHAMPION")["version"] == "v2"
    assert registry.get_model_version("churn", 1)["aliases"] == []
    registry.delete_alias("churn", "Champion")
    with pytest.raises(VersionNotFoundError, match="no version 'champion'"):
        registry.get_model_version("churn", "champion")
    with pytest.raises(AliasNotFoundError, match="no alias 'champion'"):
        registry.delete_alias("churn", "champion")


@pytest.mark.parametrize("alias", ["latest", "v3", "production", "Staging", "", "a/b"])
def test_what_follows_from_elsewhere_is_no_alias(logged, alias):
    """Numbers, `latest` and stages never name anything else."""
    registry = logged()
    with pytest.raises(InvalidNameError):
        registry.set_alias("churn", 1, alias)


@pytest.mark.parametrize("version", [2, "2", "v2", "V2", "v02", "latest", "best"])
def test_a_version_is_named_in_many_ways(logged, version):
    """By number, as text or not, and by alias."""
    registry = logged(2)
    registry.set_alias("churn", 2, "best")
    assert registry.get_model_version("churn", version)["version"] == "v2"


@pytest.mark.parametrize("version", [0, 3, -1, "v3", "9" * 5000, "best", "", "v", "²"])
def test_a_version_that_is_not_there_is_named(logged, version):
    """However it is spelled, it is not found."""
    registry = logged(2)
    with pytest.raises(VersionNotFoundError, match="Model 'churn' has no version"):
        registry.get_model_version("churn", version)


@pytest.mark.parametrize("version", [True, 1.0, None, ["v1"]])
def test_a_version_is_a_number_or_a_name(logged, version):
    """Anything else is refused."""
    with pytest.raises(InvalidInputError, match="is a number or a name"):
        logged().unlink("churn", version)


def test_using_a_model_gives_its_files_and_notes_the_reader(logged, api, tmp_path):
    """The newest version, one by number, and the input edge of the active run."""
    registry = logged(2)
    newest = Path(registry.use_model("churn", download_path=tmp_path / "new"))
    oldest = Path(registry.use_model("churn", version=1, download_path=tmp_path / "o"))
    assert (newest / "model.bin").read_text() == "churn 1"
    assert (oldest / "model.bin").read_text() == "churn 0"
    assert api.artifact("p/churn:v2").used_by() == ["p/r"]
    assert api.artifact("p/churn:v1").used_by() == ["p/r"]


def test_a_model_is_used_without_a_run(logged, tmp_path, monkeypatch):
    """By default below the working directory; nobody is noted as its reader."""
    registry = logged()
    wanllmdb.finish()
    monkeypatch.chdir(tmp_path)
    assert registry.use_model("churn") == "artifacts/churn-v1"
    with wanllmdb.Api() as api:
        assert api.artifact("p/churn").used_by() == []


def test_a_given_run_is_the_reader(logged, api, tmp_path):
    """Not the active one."""
    registry = logged()
    other = wanllmdb.init(project="q", id="reader", reinit="create_new")
    registry.use_model("churn", download_path=tmp_path / "out", run=other)
    other.finish()
    assert api.artifact("p/churn").used_by() == ["q/reader"]


def test_a_run_of_another_store_reads_nothing_of_this_one(logged, api, tmp_path):
    """As the active run it is passed over, given it is refused."""
    logged()
    wanllmdb.finish()
    here = wanllmdb.ModelRegistry(api.store)
    with wanllmdb.init(project="p", id="here"):
        here.use_model("churn", download_path=tmp_path / "out")
    with wanllmdb.init(project="p", store=tmp_path / "other") as run:
        here.use_model("churn", download_path=tmp_path / "out")
        with pytest.raises(InvalidInputError, match="in another Store"):
            here.use_model("churn", download_path=tmp_path / "out", run=run)
        assert run.used_artifacts() == []
    assert api.artifact("p/churn").used_by() == ["p/here"]


def test_a_version_or_a_stage_but_not_both(logged):
    """They might disagree."""
    with pytest.raises(InvalidInputError, match="Both version 1 and stage"):
        logged().use_model("churn", version=1, stage="production")


def test_an_unknown_model_is_named_wherever_it_is_looked_for(registry):
    """Every call says the same, with the command that lists models."""
    for call in (
        lambda: registry.use_model("none"),
        lambda: registry.get_model_versions("none"),
        lambda: registry.get_latest_version("none"),
        lambda: registry.get_model_version("none", 1),
        lambda: registry.transition_stage("none", 1, "staging"),
        lambda: registry.approve_version("none", 1),
        lambda: registry.set_alias("none", 1, "a"),
        lambda: registry.delete_alias("none", "a"),
        lambda: registry.unlink("none", 1),
        lambda: registry.delete("none"),
        lambda: registry.history("none"),
    ):
        with pytest.raises(ModelNotFoundError, match=r"no model 'none'.*model ls"):
            call()


# Models


def test_a_model_is_made_before_its_versions(registry):
    """With what is said of it."""
    made = registry.create("churn", "who leaves", single_holder=True)
    assert made["description"] == "who leaves"
    assert made["single_holder"] is True
    assert (made["versions"], made["latest"], made["production"]) == (0, None, [])
    assert registry.list_models() == [made]
    with pytest.raises(VersionNotFoundError, match="no version 'latest'"):
        registry.get_latest_version("churn")


def test_a_model_is_made_once(registry):
    """The second one of its name is refused."""
    registry.create("churn")
    with pytest.raises(ConflictError, match="a model 'churn' already"):
        registry.create("churn")


def test_models_are_listed_by_name_and_searched(registry):
    """Search looks for a text in names, whatever the case; nothing in it is special."""
    for name in ("b_model", "Alpha", "bXmodel"):
        registry.create(name)
    assert [m["name"] for m in registry.list_models()] == [
        "Alpha",
        "bXmodel",
        "b_model",
    ]
    assert [m["name"] for m in registry.list_models("ALPH")] == ["Alpha"]
    assert [m["name"] for m in registry.list_models("b_")] == ["b_model"]
    assert registry.list_models("%") == []


def test_a_deleted_model_is_gone_and_its_artifacts_stay(logged, api):
    """It is made anew without what was said of the former one."""
    registry = logged(2, description="old", single_holder=True)
    registry.set_alias("churn", 1, "best")
    registry.delete("churn")
    assert registry.list_models() == []
    with pytest.raises(ModelNotFoundError):
        registry.get_model_versions("churn")
    with pytest.raises(ModelNotFoundError):
        registry.delete("churn")
    assert api.artifact("p/churn:v2").verify()
    made = registry.create("churn")
    assert (made["description"], made["single_holder"]) == (None, False)
    with pytest.raises(VersionNotFoundError):
        registry.get_model_version("churn", "best")


def test_a_model_in_production_is_deleted_by_force_only(logged):
    """And so is the version that is in production unlinked."""
    registry = logged(2)
    registry.transition_stage("churn", 2, "production")
    with pytest.raises(VersionInUseError, match="v2 is in production"):
        registry.delete("churn")
    with pytest.raises(VersionInUseError, match="v2 is in production"):
        registry.unlink("churn", "production")
    registry.unlink("churn", 1)
    registry.unlink("churn", 2, force=True)
    assert numbers(registry) == []
    registry.link("p/churn:v1", "churn", aliases="production")
    registry.delete("churn", force=True)
    assert registry.list_models() == []


# Links


def test_versions_of_any_project_and_type_are_linked(registry, run, weights):
    """A model is no project's."""
    run.log_artifact(weights(1), name="one", type="data")
    with wanllmdb.init(project="q", reinit="create_new") as other:
        other.log_artifact(weights(2), name="two", type="model")
    registry.link("p/one", "mixed", description="d", tags="t", metadata={"k": [1]})
    registry.link("q/two:v1", "mixed", aliases=["best", "latest"])
    second, first = registry.get_model_versions("mixed")
    assert (first["artifact"], second["artifact"]) == ("p/one:v1", "q/two:v1")
    assert (first["description"], first["tags"]) == ("d", ["t"])
    assert first["metadata"] == {"k": [1]}
    assert second["aliases"] == ["best"]


def test_an_artifact_links_and_unlinks_itself(run, registry, weights):
    """The path of W&B's registries names the model with its last part."""
    artifact = run.log_artifact(weights(), name="one")
    assert artifact.link("wandb-registry-model/churn", aliases=["best"]) is artifact
    artifact.link("entity/model-registry/other")
    assert [m["name"] for m in registry.list_models()] == ["churn", "other"]
    artifact.unlink("churn")
    assert registry.get_model_versions("churn") == []
    artifact.unlink()
    assert registry.get_model_versions("other") == []
    for target in (None, "churn"):
        with pytest.raises(StateError, match="is not linked to"):
            artifact.unlink(target)


def test_an_artifact_in_production_unlinks_itself_by_force_only(run, weights):
    """As the registry does."""
    artifact = run.log_artifact(weights(), name="one").link("churn", "production")
    with pytest.raises(VersionInUseError, match="v1 is in production"):
        artifact.unlink()
    artifact.unlink(force=True)


def test_a_draft_is_not_linked(registry):
    """It has no version yet."""
    draft = wanllmdb.Artifact("one", "model")
    for call in (
        lambda: draft.link("churn"),
        lambda: draft.unlink(),
        lambda: registry.link(draft, "churn"),
    ):
        with pytest.raises(ArtifactStateError, match="is a draft"):
            call()
    assert registry.list_models() == []


def test_a_linked_version_is_never_deleted(logged, api):
    """Not even by force, until it is unlinked."""
    registry = logged()
    artifact = api.artifact("p/churn")
    with pytest.raises(VersionInUseError, match=r"p/churn:v1 is model churn:v1"):
        artifact.delete(delete_aliases=True, force=True)
    registry.unlink("churn", 1)
    artifact.delete()
    with pytest.raises(StateError, match="in the trash"):
        artifact.link("churn")


def test_gc_leaves_what_a_model_links_to(logged, api, tmp_path):
    """Though its time to live is over, until it is unlinked."""
    registry = logged()
    artifact = api.artifact("p/churn")
    artifact.ttl = 1e-6
    artifact.save()
    wanllmdb.finish()
    _gc.collect(api.store)
    assert api.artifact("p/churn").verify()
    registry.unlink("churn", 1)
    _gc.collect(api.store)
    assert not api.artifact_exists("p/churn")


def test_a_version_of_another_store_is_not_linked(registry, weights, tmp_path):
    """The bytes would be elsewhere."""
    with wanllmdb.init(project="p", store=tmp_path / "other") as run:
        artifact = run.log_artifact(weights(), name="one")
        here = wanllmdb.ModelRegistry(tmp_path / "store")
        with pytest.raises(InvalidInputError, match=r"Run p/.* is in another Store"):
            here.log_model(run, weights(), "churn")
        assert len(run.logged_artifacts()) == 1
    with pytest.raises(InvalidInputError, match="p/one:v1 is in another Store"):
        here.link(artifact, "churn")
    assert here.list_models() == []


def test_a_registry_is_of_the_store_that_was_given(weights, tmp_path):
    """As a path, or open; what the old SDK gives is ignored."""
    with wanllmdb.init(project="p", store=tmp_path / "other") as run:
        wanllmdb.ModelRegistry(object(), "project").log_model(run, weights(), "churn")
        assert len(wanllmdb.ModelRegistry().list_models()) == 1
    assert wanllmdb.ModelRegistry(tmp_path / "store").list_models() == []
    there = wanllmdb.ModelRegistry(str(tmp_path / "other"))
    assert len(there.list_models()) == 1
    assert wanllmdb.ModelRegistry(there.store).store is there.store
    assert wanllmdb.ModelRegistry(api_client=object()).list_models() is not None


def test_a_script_of_the_old_sdk_finds_what_it_hands_on(run, weights):
    """`ModelRegistry(run.api_client, run.project_id)` is the run's registry."""
    assert run.api_client is None
    assert isinstance(run.project_id, str)
    registry = wanllmdb.ModelRegistry(run.api_client, run.project_id)
    made = registry.log_model(run, weights(), "old")
    assert registry.get_model_versions("old")[0]["id"] == made["version_id"]
    with wanllmdb.init(project="p", mode="disabled", reinit="create_new") as disabled:
        assert disabled.project_id is None


def test_metadata_that_is_no_mapping_is_refused(registry, run, weights):
    """Before anything is logged."""
    with pytest.raises(InvalidInputError, match="is a mapping, not list"):
        registry.log_model(run, weights(), "churn", metadata=["k"])
    assert run.logged_artifacts() == []


def test_metadata_beyond_its_room_is_refused(registry, run, weights):
    """The error names the model and the key; nothing was made."""
    with pytest.raises(InvalidInputError, match=r"model 'churn'.*largest key is 'big'"):
        registry.log_model(run, weights(), "churn", metadata={"big": "x" * 100_001})
    assert registry.list_models() == []
