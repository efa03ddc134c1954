"""Names and texts that nobody means well: refused by name, or kept as they are."""

from __future__ import annotations

import pytest

import wanllmdb
from wanllmdb.errors import (
    InvalidNameError,
    VersionNotFoundError,
    WanllmdbError,
)

HOSTILE = [
    "", " ", ".a b", "../up", "/abs", "a/b", "a\\b", "nul\0", "new\nline", "ä", "a:v1",
    "a@b", "x" * 129, "\ud800", "a'; DROP TABLE model; --", "%", "\u202e", "v1\n",
    None, 7, True, b"bytes", ["churn"],
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_a_hostile_name_makes_no_model(registry, run, weights, name):
    """One clear error, before anything is logged."""
    for call in (
        lambda: registry.create(name),
        lambda: registry.log_model(run, weights(), name),
        lambda: registry.link("churn", name),
        lambda: run.link_model(weights(), name),
    ):
        with pytest.raises(InvalidNameError, match="no name for a model"):
            call()
    assert registry.list_models() == []
    assert run.logged_artifacts() == []


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_a_hostile_name_is_not_found(registry, name):
    """One clear error, whoever asks."""
    for call in (
        lambda: registry.get_model_versions(name),
        lambda: registry.use_model(name),
        lambda: registry.history(name),
        lambda: registry.delete(name),
    ):
        with pytest.raises(InvalidNameError, match="no name for a model"):
            call()


@pytest.mark.parametrize("version", ["\ud800", "nul\0", "a'b", "%", "*", "x" * 10_000])
def test_a_hostile_version_is_not_found(logged, version):
    """However it is used."""
    registry = logged()
    for call in (
        lambda: registry.get_model_version("churn", version),
        lambda: registry.use_model("churn", version),
        lambda: registry.transition_stage("churn", version, "staging"),
        lambda: registry.unlink("churn", version),
    ):
        with pytest.raises(VersionNotFoundError, match="has no version"):
            call()


@pytest.mark.parametrize("version", ["\ud800", "nul\0", "a/b", "x" * 300, " ", "a:b"])
def test_a_hostile_version_names_none(registry, run, weights, version):
    """It is refused before the model is logged."""
    with pytest.raises(InvalidNameError):
        registry.log_model(run, weights(), "churn", version=version)
    assert run.logged_artifacts() == []
    assert registry.list_models() == []


@pytest.mark.parametrize("alias", ["\ud800", "nul\0", "a/b", "x" * 300, " ", 7, None])
def test_a_hostile_alias_names_nothing(logged, run, weights, alias):
    """Neither of a version that is there nor of one that is linked."""
    registry = logged()
    before = registry.history("churn")
    with pytest.raises(InvalidNameError):
        registry.set_alias("churn", 1, alias)
    with pytest.raises(InvalidNameError):
        run.link_model(weights("new"), "churn", aliases=[alias])
    assert registry.history("churn") == before


@pytest.mark.parametrize("what", ["comment", "approver"])
def test_texts_that_cannot_be_stored_are_refused(logged, what):
    """Half a character, NUL: nothing has moved."""
    registry = logged()
    for text in ("\ud800", "a\0b"):
        with pytest.raises(InvalidNameError, match=what):
            registry.transition_stage("churn", 1, "staging", **{what: text})
    assert registry.get_model_version("churn", 1)["stage"] == "none"


def test_texts_are_kept_as_they_are(logged):
    """Quotes, markup, many lines, any script."""
    registry = logged()
    text = 'it\'s "fine"; <b>50 %</b>\n日本\u202e --'
    registry.transition_stage("churn", 1, "staging", text, "ann")
    assert registry.history("churn")[-1]["comment"] == text


@pytest.mark.parametrize("search", ["", "%", "_", "'", "\ud800", "\0", "x" * 10_000])
def test_any_text_is_searched_for(registry, search):
    """Nothing in it is special."""
    registry.create("churn")
    assert len(registry.list_models(search)) == (search == "")


@pytest.mark.parametrize(
    "path",
    ["model-registry/", "model-registry/a b", "model-registry/churn:", "/churn:v1@x",
     "model-registry/../churn"],
)  # fmt: skip
def test_a_hostile_path_of_the_registry_is_refused(logged, path):
    """By an error of ours."""
    logged()
    with wanllmdb.Api() as api, pytest.raises(WanllmdbError):
        api.artifact(path)
