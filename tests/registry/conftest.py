"""A registry, files that stand for models, and a run that logs them."""

from __future__ import annotations

import pytest

import wanllmdb


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """Models are downloaded below the working directory."""
    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.chdir(place)


@pytest.fixture
def registry():
    """The registry of this test's Store."""
    return wanllmdb.ModelRegistry()


@pytest.fixture
def weights(tmp_path):
    """A file of some bytes, as a model would be saved."""

    def write(content="weights", name="model.bin"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(content))
        return path

    return write


@pytest.fixture
def run():
    """An active run of project `p`."""
    with wanllmdb.init(project="p", id="r") as active:
        yield active


@pytest.fixture
def logged(registry, run, weights):
    """Log so many versions of a model; the registry."""

    def log(count=1, name="churn", **how):
        if how:
            registry.create(name, **how)
        for number in range(count):
            registry.log_model(run, weights(f"{name} {number}"), name)
        return registry

    return log


@pytest.fixture
def stages():
    """The stage of each version of a model, the oldest first."""

    def read(registry, name="churn"):
        return [v["stage"] for v in reversed(registry.get_model_versions(name))]

    return read
