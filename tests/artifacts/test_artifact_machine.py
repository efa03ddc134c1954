"""Versions against a plain-Python model: any order of commits, moves and the trash."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

import wanllmdb
from wanllmdb import Artifact, _versions
from wanllmdb._catalog import aliases, artifacts
from wanllmdb.errors import (
    AliasConflictError,
    AliasNotFoundError,
    InvalidInputError,
    StateError,
    VersionInUseError,
    VersionNotFoundError,
)

NAMES = ["a", "a", "a", "b"]
ALIASES = ["best", "Best", "x"]
PATHS = ["f", "g", "d", "d/f", "d/e/g"]
TEXTS = ["", "1", "2", "3" * 30]
QUIET = {
    "WANLLMDB_CONSOLE": "0", "WANLLMDB_SYSTEM_INTERVAL": "0", "WANLLMDB_GIT": "0",
    "WANLLMDB_ENVIRONMENT": "0", "WANLLMDB_SILENT": "1",
}  # fmt: skip


@dataclass
class Version:
    """A version that is assumed to be perfect."""

    number: int
    files: dict[str, str]
    metadata: dict[str, Any]
    tags: set[str] = field(default_factory=set)
    deleted: dict[str, bool] | None = None
    made_by: set[str] = field(default_factory=set)
    used_by: set[str] = field(default_factory=set)


@dataclass
class Alias:
    """What an alias names, how it is written, and the moves that can be undone."""

    shown: str
    number: int | None = None
    protected: bool = False
    undoable: list[tuple[int | None, bool]] = field(default_factory=list)
    moves: int = 0


@dataclass
class Model:
    """An artifact that is assumed to be perfect."""

    versions: list[Version] = field(default_factory=list)
    aliases: dict[str, Alias] = field(default_factory=dict)

    @property
    def alive(self) -> list[Version]:
        return [v for v in self.versions if v.deleted is None]

    def aliases_of(self, number: int) -> list[str]:
        held = [a for a in self.aliases.values() if a.number == number]
        return sorted((a.shown for a in held), key=str.casefold)

    def alias(self, name: str) -> Alias:
        return self.aliases.setdefault(name.casefold(), Alias(name))

    def put(self, name: str, number: int, *, force: bool = False) -> bool:
        """Move an alias; False if it is protected."""
        alias = self.alias(name)
        moves = alias.number != number
        if alias.number is not None and alias.protected and moves and not force:
            return False
        if moves:
            alias.undoable.append((alias.number, False))
            alias.moves += 1
        alias.number, alias.shown = number, name
        return True

    def drop(self, name: str) -> None:
        alias = self.alias(name)
        alias.undoable.append((alias.number, alias.protected))
        alias.moves += 1
        alias.number, alias.protected = None, False


class ArtifactMachine(RuleBasedStateMachine):
    """The model and a real Store, side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp(prefix="artifacts-"))
        self.patch = pytest.MonkeyPatch()
        for name, value in QUIET.items():
            self.patch.setenv(name, value)
        self.patch.setenv("HOME", str(self.place))
        self.patch.setenv("WANLLMDB_DIR", str(self.place / "store"))
        self.models = {name: Model() for name in dict.fromkeys(NAMES)}
        self.count = 0
        self.begin()
        self.drafts: dict[str, tuple[Artifact, dict[str, str]]] = {}

    def begin(self) -> None:
        self.count += 1
        self.run = wanllmdb.init(project="p", id=f"r{self.count}")
        self.store = self.run._store

    def teardown(self) -> None:
        self.drafts.clear()
        wanllmdb.teardown()
        self.patch.undo()
        shutil.rmtree(self.place)

    # Helpers

    def draw_version(
        self, data: Any, name: str, *, alive: bool | None = None
    ) -> Version:
        found = [
            v for v in self.models[name].versions
            if alive is None or (v.deleted is None) == alive
        ]  # fmt: skip
        return data.draw(st.sampled_from(found))

    def record(self, name: str, version: Version) -> Any:
        reader = self.store.catalog.reader
        key = artifacts.find(reader, "p", name)
        (pk,) = reader.execute(
            "SELECT id FROM version WHERE artifact_id = ? AND number = ?",
            (key, version.number),
        ).fetchone()
        return artifacts.read(reader, pk)

    def has(self, *, alive: bool | None = None) -> list[str]:
        return [
            name for name, model in self.models.items()
            if any(alive in (None, v.deleted is None) for v in model.versions)
        ]  # fmt: skip

    def draft(self, name: str) -> tuple[Artifact, dict[str, str]]:
        if name not in self.drafts:
            self.drafts[name] = Artifact(name, "dataset"), {}
        return self.drafts[name]

    # Drafts

    @rule(name=st.sampled_from(NAMES), path=st.sampled_from(PATHS),
          text=st.sampled_from(TEXTS))  # fmt: skip
    def add(self, name, path, text):
        """A file, unless it is a directory or other content already."""
        artifact, files = self.draft(name)
        (self.place / "source").write_text(text)
        clash = (
            any(
                f != path and (f.startswith(path + "/") or path.startswith(f + "/"))
                for f in files
            )
            or files.get(path, text) != text
        )
        try:
            artifact.add_file(self.place / "source", name=path)
        except InvalidInputError:
            assert clash
        else:
            assert not clash
            files[path] = text

    @rule(name=st.sampled_from(NAMES), path=st.sampled_from(PATHS))
    def remove(self, name, path):
        """A path, or all below it."""
        artifact, files = self.draft(name)
        gone = [f for f in files if f == path or f.startswith(path + "/")]
        if not gone:
            with pytest.raises(wanllmdb.errors.EntryNotFoundError):
                artifact.remove(path)
        else:
            artifact.remove(path)
            for file in gone:
                del files[file]

    @rule(name=st.sampled_from(NAMES))
    def drop(self, name):
        """The draft is given up."""
        self.drafts.pop(name, None)

    # Versions

    @rule(name=st.sampled_from(NAMES),
          names=st.lists(st.sampled_from(ALIASES), max_size=2),
          said=st.sampled_from([{}, {"m": 1}, {"m": 2}]))  # fmt: skip
    def commit(self, name, names, said):
        """A draft becomes a version, or is found to be the newest one."""
        artifact, files = self.draft(name)
        model = self.models[name]
        protected = [n for n in names if model.alias(n).protected]
        alive = model.alive
        same = bool(alive) and alive[-1].files == files
        number = alive[-1].number if same else len(model.versions) + 1
        artifact.metadata = said
        if any(model.alias(n).number != number for n in protected):
            with pytest.raises(AliasConflictError):
                self.run.log_artifact(artifact, aliases=names)
            assert artifact.is_draft
            return
        self.run.log_artifact(artifact, aliases=names, tags=[f"t{len(names)}"])
        del self.drafts[name]
        if not same:
            model.versions.append(Version(number, dict(files), {}))
        version = model.versions[number - 1]
        version.metadata = said or version.metadata
        version.tags.add(f"t{len(names)}")
        version.made_by.add(self.run.id)
        for n in names:
            model.put(n, number)
        assert artifact.version == f"v{number}"

    @precondition(lambda self: self.has(alive=True))
    @rule(data=st.data())
    def draft_of_a_version(self, data):
        """A version's content, to go on with."""
        name = data.draw(st.sampled_from(self.has(alive=True)))
        version = self.draw_version(data, name, alive=True)
        made = Artifact._of(self.store, self.record(name, version)).new_draft()
        made.tags = []
        self.drafts[name] = made, dict(version.files)

    @precondition(lambda self: self.has(alive=True))
    @rule(data=st.data())
    def use(self, data):
        """The run is noted as a reader."""
        name = data.draw(st.sampled_from(self.has(alive=True)))
        version = self.draw_version(data, name, alive=True)
        self.run.use_artifact(f"{name}:v{version.number}")
        version.used_by.add(self.run.id)

    @rule()
    def another_run(self):
        """The run ends, and another one begins."""
        self.run.finish()
        self.begin()

    @rule()
    def another_process(self):
        """The Store is closed and opened; drafts go on."""
        wanllmdb.teardown()
        self.begin()

    # Aliases

    @precondition(lambda self: self.has())
    @rule(data=st.data(), alias=st.sampled_from(ALIASES), force=st.booleans(),
          expected=st.none() | st.none() | st.integers(0, 3))  # fmt: skip
    def move(self, data, alias, force, expected):
        """An alias names a version, if it may; or what it names, spelled anew."""
        name = data.draw(st.sampled_from(self.has()))
        version = self.draw_version(data, name)
        model = self.models[name]
        held = model.alias(alias)
        if held.number is not None and data.draw(st.booleans()):
            version = model.versions[held.number - 1]
        record = self.record(name, version)

        def call():
            _versions.move_alias(
                self.store, record, alias, expected=expected, force=force
            )

        if version.deleted is not None:
            with pytest.raises(StateError):
                call()
        elif expected not in (None, held.number or 0) or (
            held.protected and held.number != version.number and not force
        ):
            with pytest.raises(AliasConflictError):
                call()
        else:
            call()
            model.put(alias, version.number, force=force)

    @precondition(lambda self: self.has())
    @rule(data=st.data(), alias=st.sampled_from(ALIASES), force=st.booleans())
    def unalias(self, data, alias, force):
        """An alias is removed, if it is there and may be."""
        name = data.draw(st.sampled_from(self.has()))
        record = self.record(name, self.draw_version(data, name))
        held = self.models[name].alias(alias)
        if held.number is None:
            with pytest.raises(AliasNotFoundError):
                _versions.remove_alias(self.store, record, alias, force=force)
        elif held.protected and not force:
            with pytest.raises(AliasConflictError):
                _versions.remove_alias(self.store, record, alias, force=force)
        else:
            _versions.remove_alias(self.store, record, alias, force=force)
            self.models[name].drop(alias)

    @precondition(lambda self: self.has())
    @rule(data=st.data(), alias=st.sampled_from(ALIASES), force=st.booleans())
    def undo(self, data, alias, force):
        """The last move that was not taken back is."""
        name = data.draw(st.sampled_from(self.has()))
        model = self.models[name]
        record = self.record(name, self.draw_version(data, name))
        held = model.alias(alias)

        def call():
            return _versions.undo_alias(self.store, record, alias, force=force)

        if not held.undoable:
            with pytest.raises(StateError):
                call()
            return
        goal, protected = held.undoable[-1]
        if goal is not None and model.versions[goal - 1].deleted is not None:
            with pytest.raises(VersionNotFoundError):
                call()
        elif held.protected and goal != held.number and not force:
            with pytest.raises(AliasConflictError):
                call()
        else:
            shown = held.shown if held.number is not None else alias
            assert call() == goal
            held.undoable.pop()
            held.moves += 1
            held.number, held.shown = goal, shown
            held.protected = goal is not None and (held.protected or protected)

    @precondition(lambda self: self.has())
    @rule(data=st.data(), alias=st.sampled_from(ALIASES), on=st.booleans())
    def protect(self, data, alias, on):
        """It moves by force only from now on, or no longer."""
        name = data.draw(st.sampled_from(self.has()))
        record = self.record(name, self.draw_version(data, name))
        held = self.models[name].alias(alias)
        if held.number is None:
            with pytest.raises(AliasNotFoundError):
                _versions.protect_alias(self.store, record, alias, on=on)
        else:
            _versions.protect_alias(self.store, record, alias, on=on)
            held.protected = on

    # The trash

    @precondition(lambda self: self.has())
    @rule(data=st.data(), aliased=st.booleans(), force=st.booleans())
    def delete(self, data, aliased, force):
        """A version goes into the trash, unless it is used or aliased."""
        name = data.draw(st.sampled_from(self.has()))
        model, version = self.models[name], self.draw_version(data, name)
        names = model.aliases_of(version.number)
        record = self.record(name, version)

        def call():
            _versions.delete(self.store, record, delete_aliases=aliased, force=force)

        if version.deleted is not None:
            call()
        elif (self.run.id in version.used_by and not force) or (names and not aliased):
            with pytest.raises(VersionInUseError):
                call()
        elif any(model.alias(n).protected for n in names) and not force:
            with pytest.raises(AliasConflictError):
                call()
        else:
            call()
            version.deleted = {n: model.alias(n).protected for n in names}
            for n in names:
                model.drop(n)

    @precondition(lambda self: self.has())
    @rule(data=st.data())
    def restore(self, data):
        """A version comes back with its aliases, unless one is taken."""
        name = data.draw(st.sampled_from(self.has(alive=False) or self.has()))
        model, version = self.models[name], self.draw_version(data, name)
        record = self.record(name, version)
        if version.deleted is None:
            with pytest.raises(StateError):
                _versions.restore(self.store, record)
        elif any(model.alias(n).number is not None for n in version.deleted):
            with pytest.raises(AliasConflictError):
                _versions.restore(self.store, record)
        else:
            _versions.restore(self.store, record)
            names, version.deleted = version.deleted, None
            for n, protected in names.items():
                model.put(n, version.number)
                model.alias(n).protected = protected

    # Looking

    @precondition(lambda self: self.has(alive=True))
    @rule(data=st.data(), exact=st.booleans())
    def download(self, data, exact):
        """Into one directory, over whatever version was there before."""
        name = data.draw(st.sampled_from(self.has(alive=True)))
        version = self.draw_version(data, name, alive=True)
        found = self.run.use_artifact(f"{name}:v{version.number}")
        version.used_by.add(self.run.id)
        target = self.place / ("exact" if exact else f"{name}{version.number}")
        (found.checkout if exact else found.download)(target)
        assert self.texts(target) == version.files
        assert found.verify(target)
        assert found.verify()

    @staticmethod
    def texts(root: Path) -> dict[str, str]:
        return {
            path.relative_to(root).as_posix(): path.read_text()
            for path in root.rglob("*") if path.is_file()
        }  # fmt: skip

    @initialize()
    def one_version(self):
        """There is something to begin with."""
        self.add(name="a", path="f", text="1")
        self.commit(name="a", names=["best"], said={})

    @invariant()
    def it_is_what_the_model_says(self):
        """Versions, aliases, lineage, and the rules of the database."""
        reader = self.store.catalog.reader
        assert reader.execute("PRAGMA foreign_key_check").fetchall() == []
        for name, model in self.models.items():
            if not model.versions:
                continue
            key = artifacts.find(reader, "p", name)
            found = artifacts.versions(reader, key)
            assert [v.number for v in found] == [v.number for v in model.alive[::-1]]
            trash = [v.number for v in artifacts.trash(reader) if v.name == name]
            assert set(trash) == {
                v.number for v in model.versions if v.deleted is not None
            }
            for record, version in zip(found, model.alive[::-1], strict=True):
                self.check(record, model, version)
            for alias in model.aliases.values():
                held = aliases.find(reader, key, alias.shown)
                now = held and (held.alias, held.number, held.protected)
                assert now == (
                    None if alias.number is None
                    else (alias.shown, alias.number, alias.protected)
                )  # fmt: skip
            if model.alive:
                assert (
                    artifacts.resolve(reader, key, "latest").number == found[0].number
                )
        for artifact, files in self.drafts.values():
            assert {e.path: e.size for e in artifact.files()} == {
                path: len(text) for path, text in files.items()
            }

    def check(self, record: Any, model: Model, version: Version) -> None:
        reader = self.store.catalog.reader
        assert list(record.aliases) == model.aliases_of(version.number)
        assert set(record.tags) == version.tags
        assert record.latest == (version is model.alive[-1])
        assert (record.files, record.size) == (
            len(version.files), sum(map(len, version.files.values())),
        )  # fmt: skip
        for direction, wanted in (
            ("output", version.made_by),
            ("input", version.used_by),
        ):
            pks = artifacts.runs_of(reader, record.pk, direction)
            names = {
                reader.execute("SELECT run_id FROM run WHERE id = ?", (pk,)).fetchone()[
                    0
                ]
                for pk in pks
            }
            assert names == wanted


TestArtifactMachine = ArtifactMachine.TestCase
# Shrinking runs whole machines again for minutes: a failure shows as it was found.
TestArtifactMachine.settings = settings(
    max_examples=int(os.environ.get("WANLLMDB_TEST_EXAMPLES", "40")),
    stateful_step_count=40, deadline=None, phases=[Phase.generate], database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
