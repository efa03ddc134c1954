"""The registry against a plain-Python model: any order of what can be done to it."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import wanllmdb
from wanllmdb.errors import (
    AliasConflictError,
    ConflictError,
    ModelNotFoundError,
    StageConflictError,
    VersionInUseError,
    VersionNotFoundError,
)

MODELS = st.sampled_from(["m", "n"])
CONTENTS = st.sampled_from("AB")
LABELS = st.none() | st.sampled_from(["1.0", "1.1"])
ALIASES = st.sampled_from(["best", "Best", "1.0"])
STAGES = st.sampled_from(["none", "staging", "production", "archived"])
NUMBERS = st.integers(1, 6)


@dataclass
class Version:
    """What a version should be."""

    number: int
    content: str
    label: str | None = None
    stage: str = "none"


@dataclass
class Model:
    """What a model should be; `names` are its aliases, folded.

    `trashed`: the versions and names that it comes back with.
    """

    single: bool = False
    alive: bool = False
    last: int = 0
    versions: list[Version] = field(default_factory=list)
    names: dict[str, tuple[str, int]] = field(default_factory=dict)
    trashed: tuple[list[Version], dict[str, tuple[str, int]]] | None = None

    def begin(self, single: bool) -> None:
        self.alive, self.single, self.trashed = True, single, None

    def find(self, number: int) -> Version | None:
        return next((v for v in self.versions if v.number == number), None)

    def drop(self, number: int) -> None:
        self.versions = [v for v in self.versions if v.number != number]
        self.names = {k: v for k, v in self.names.items() if v[1] != number}


class RegistryMachine(RuleBasedStateMachine):
    """Each step is done to both; then they must agree."""

    @initialize()
    def begin(self) -> None:
        self.place = Path(tempfile.mkdtemp())
        self.run = wanllmdb.init(project="p", store=self.place / "store")
        self.registry = wanllmdb.ModelRegistry(self.place / "store")
        self.models = {name: Model() for name in ("m", "n")}
        self.artifacts = {}
        for content in "AB":
            path = self.place / content
            path.write_text(content)
            self.artifacts[content] = self.run.log_model(path, content)

    def teardown(self) -> None:
        wanllmdb.teardown()
        shutil.rmtree(self.place, ignore_errors=True)

    def known(self, name: str, number: int) -> Version | None:
        """The version, where there is one; else the right error is due."""
        model = self.models[name]
        found = model.find(number) if model.alive else None
        if found is None:
            due = VersionNotFoundError if model.alive else ModelNotFoundError
            with pytest.raises(due):
                self.registry.get_model_version(name, number)
        return found

    @rule(name=MODELS, single=st.booleans())
    def create(self, name: str, single: bool) -> None:
        model = self.models[name]
        if model.alive:
            with pytest.raises(ConflictError):
                self.registry.create(name, single_holder=single)
        else:
            self.registry.create(name, single_holder=single)
            model.begin(single)

    @rule(name=MODELS, content=CONTENTS, alias=st.none() | ALIASES)
    def link(self, name: str, content: str, alias: str | None) -> None:
        model = self.models[name]
        fixed = {v.label: v.number for v in model.versions if v.label}
        newest = model.versions[-1] if model.versions else None
        same = newest is not None and newest.content == content
        number = newest.number if same and newest else model.last + 1
        if alias in fixed and fixed[alias] != number:
            with pytest.raises(AliasConflictError):
                self.registry.link(self.artifacts[content], name, aliases=alias)
            return
        self.registry.link(self.artifacts[content], name, aliases=alias)
        if not model.alive:
            model.begin(False)
        if not same:
            model.last = number
            model.versions.append(Version(number, content))
        if alias is not None and alias not in fixed:
            model.names[alias.casefold()] = (alias, number)

    @rule(name=MODELS, label=LABELS)
    def log(self, name: str, label: str | None) -> None:
        """Log A again and again: only another label makes another version."""
        model = self.models[name]
        content = f"logged {name}"
        newest = model.versions[-1] if model.versions else None
        same = (
            newest is not None
            and newest.content == content
            and (label is None or newest.label in (None, label))
        )
        number = newest.number if same and newest else model.last + 1
        held = model.names.get(label or "")
        path = self.place / "model"
        path.write_text(content)
        if held is not None and held[1] != number:
            with pytest.raises(AliasConflictError):
                self.registry.log_model(self.run, path, name, label)
            return
        self.registry.log_model(self.run, path, name, label)
        if not model.alive:
            model.begin(False)
        if not same:
            model.last = number
            model.versions.append(Version(number, content))
        if label is not None:
            model.versions[-1].label = label
            model.names[label] = (label, number)

    @rule(name=MODELS, number=NUMBERS, stage=STAGES, archive=st.booleans())
    def move(self, name: str, number: int, stage: str, archive: bool) -> None:
        version = self.known(name, number)
        if version is None:
            return
        model = self.models[name]
        archive = archive and stage in ("staging", "production")
        others = [v for v in model.versions if v.stage == stage and v is not version]
        occupied = model.single and stage in ("staging", "production") and others
        if occupied and not archive:
            with pytest.raises(StageConflictError):
                self.registry.transition_stage(name, number, stage)
            return
        moved = self.registry.transition_stage(
            name, number, stage, archive_existing=archive
        )
        version.stage = stage
        if archive:
            assert len(moved["archived"]) == len(others)
            for other in others:
                other.stage = "archived"

    @rule(name=MODELS, number=NUMBERS, alias=ALIASES)
    def name_it(self, name: str, number: int, alias: str) -> None:
        version = self.known(name, number)
        if version is None:
            return
        model = self.models[name]
        fixed = {v.label: v.number for v in model.versions if v.label}
        if alias in fixed:
            if fixed[alias] != number:
                with pytest.raises(AliasConflictError):
                    self.registry.set_alias(name, number, alias)
            return
        self.registry.set_alias(name, number, alias)
        model.names[alias.casefold()] = (alias, number)

    @rule(name=MODELS, number=NUMBERS, force=st.booleans())
    def unlink(self, name: str, number: int, force: bool) -> None:
        version = self.known(name, number)
        if version is None:
            return
        if version.stage == "production" and not force:
            with pytest.raises(VersionInUseError):
                self.registry.unlink(name, number)
            return
        self.registry.unlink(name, number, force=force)
        self.models[name].drop(number)

    @rule(name=MODELS, force=st.booleans())
    def delete(self, name: str, force: bool) -> None:
        model = self.models[name]
        busy = any(v.stage == "production" for v in model.versions)
        if not model.alive or (busy and not force):
            with pytest.raises(
                VersionInUseError if model.alive else ModelNotFoundError
            ):
                self.registry.delete(name)
            return
        self.registry.delete(name, force=force)
        model.trashed = model.versions, model.names
        model.alive, model.versions, model.names = False, [], {}

    @rule(name=MODELS)
    def restore(self, name: str) -> None:
        model = self.models[name]
        if model.trashed is None:
            with pytest.raises(ModelNotFoundError):
                self.registry.restore(name)
            return
        self.registry.restore(name)
        model.alive = True
        (model.versions, model.names), model.trashed = model.trashed, None

    @rule(name=MODELS, single=st.booleans())
    def hold(self, name: str, single: bool) -> None:
        model = self.models[name]
        staged = [v.stage for v in model.versions]
        crowded = max(staged.count("staging"), staged.count("production")) > 1
        if not model.alive or (single and crowded):
            with pytest.raises(
                StageConflictError if model.alive else ModelNotFoundError
            ):
                self.registry.set_single_holder(name, single)
            return
        self.registry.set_single_holder(name, single)
        model.single = single

    @invariant()
    def they_agree(self) -> None:
        if not hasattr(self, "registry"):
            return
        alive = sorted(name for name, model in self.models.items() if model.alive)
        listed = self.registry.list_models()
        assert [m["name"] for m in listed] == alive
        for fact in listed:
            model = self.models[fact["name"]]
            assert fact["single_holder"] == model.single
            found = self.registry.get_model_versions(fact["name"])
            assert [
                (v["version"], v["stage"], v["registered_as"], sorted(v["aliases"]))
                for v in reversed(found)
            ] == [
                (
                    f"v{v.number}", v.stage, v.label,
                    sorted(a for a, n in model.names.values() if n == v.number),
                )
                for v in model.versions
            ]  # fmt: skip

    @invariant()
    def the_catalog_is_sound(self) -> None:
        """Foreign keys hold, and the history's moves lead to where versions are."""
        if not hasattr(self, "registry"):
            return
        reader = self.registry.store.catalog.reader
        assert reader.execute("PRAGMA foreign_key_check").fetchall() == []
        for name, model in self.models.items():
            if not model.alive:
                continue
            staged = {}
            for change in self.registry.history(name):
                if change["kind"] == "link":
                    staged[change["version"]] = "none"
                if change["kind"] == "stage":
                    assert staged[change["version"]] == change["from"]
                    staged[change["version"]] = change["to"]
            for version in model.versions:
                assert staged[f"v{version.number}"] == version.stage


class TestRegistryMachine(RegistryMachine.TestCase):
    """Run the machine."""

    settings = settings(
        max_examples=15, stateful_step_count=30, deadline=None,
        phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
