"""What a run is, live or stored: its names, its place, its tags."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from wanllmdb import _clock, _edits, _names
from wanllmdb._catalog import runs
from wanllmdb._store import Store
from wanllmdb._voice import Voice
from wanllmdb.types import RunRecord, Tags


class Facts(ABC):
    """The names of a run, of which some may be set."""

    _record: RunRecord

    @property
    def id(self) -> str:
        """The run's id, unique in its project."""
        return self._record.run_id

    @property
    def name(self) -> str:
        """The display name."""
        return self._record.name

    @name.setter
    def name(self, value: str) -> None:
        self._set("name", value)

    @property
    def notes(self) -> str | None:
        """Free text about the run."""
        return self._record.notes

    @notes.setter
    def notes(self, value: str | None) -> None:
        self._set("notes", value)

    @property
    def group(self) -> str | None:
        """The group it belongs to."""
        return self._record.group

    @property
    def job_type(self) -> str | None:
        """The kind of job, such as ``train``."""
        return self._record.job_type

    @property
    def project(self) -> str:
        """The project's name."""
        return self._record.project

    @property
    def path(self) -> str:
        """``project/id``, as the command line takes it."""
        return f"{self._record.project}/{self._record.run_id}"

    @property
    def tags(self) -> Tags:
        """The tags; assign a list, or use ``run.tags += ["x"]``."""
        return Tags(self._record.tags)

    @tags.setter
    def tags(self, value: Iterable[str] | str) -> None:
        self._set_tags(_names.tags(value))

    @abstractmethod
    def _set(self, field: str, value: str | None) -> None:
        """Store a name, or notes."""

    @abstractmethod
    def _set_tags(self, tags: tuple[str, ...]) -> None:
        """Store these tags instead of those known."""


class RunFacts(Facts):
    """The part of `wanllmdb.Run` that says what the run is.

    Args:
        store: Its Store; None where nothing is recorded.
        record: The run.
        role: ``creator``, ``joined`` or ``child``.
        voice: Told of changes that could not be stored.
    """

    def __init__(
        self, store: Store | None, record: RunRecord, role: str, voice: Voice
    ) -> None:
        self._store = store
        self._record = record
        self._role = role
        self._voice = voice

    @property
    def entity(self) -> str:
        """Always empty: a Store has no accounts."""
        return ""

    @property
    def project_id(self) -> str | None:
        """The project's uid, for scripts of the old SDK; None in mode "disabled"."""
        if self._store is None:
            return None
        return runs.project_uid(self._store.catalog.reader, self._record.project)

    @property
    def api_client(self) -> None:
        """None, for scripts of the old SDK: there is no server that it talks to."""
        return

    @property
    def dir(self) -> str:
        """A directory whose files are stored with the run when it ends."""
        if self._store is None:
            return tempfile.gettempdir()
        return str(self._store.run_dir(self._record.uid) / "files")

    @property
    def url(self) -> str | None:
        """The local path of the run's directory; None in mode "disabled"."""
        if self._store is None:
            return None
        return str(self._store.run_dir(self._record.uid))

    @property
    def disabled(self) -> bool:
        """Whether nothing is recorded (``mode="disabled"``)."""
        return self._store is None

    @property
    def offline(self) -> bool:
        """True: nothing leaves the machine unless it is synced."""
        return True

    @property
    def start_time(self) -> float:
        """When the run started, seconds since 1970."""
        return _clock.to_seconds(self._record.started_us)

    def _set_tags(self, tags: tuple[str, ...]) -> None:
        record = self._record
        self._change(
            "tags", {"tags": tags}, lambda store: _edits.set_tags(store, record, tags)
        )

    def _set(self, field: str, value: str | None) -> None:
        clean = None if value is None else _names.text(str(value), field)
        record, changes = self._record, {field: clean}
        self._change(
            field, changes, lambda store: _edits.change_fields(store, record, changes)
        )

    def _change(
        self,
        what: str,
        fields: dict[str, Any],
        store_it: Callable[[Store], RunRecord],
    ) -> None:
        """Carry out a change; what the Store refuses never reaches training."""
        if self._role == "child":
            self._voice.warn_once(
                f"child {what}", f"A child process does not change the run's {what}."
            )
        elif self._store is None:
            self._record = replace(self._record, **fields)
        else:
            with self._voice.guarded(what):
                self._record = store_it(self._store)
