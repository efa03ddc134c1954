"""What of a Store a sync is about: all of it, some runs, or a project."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Choice:
    """What is to be synced.

    Attributes:
        runs: Uids of runs; empty for all.
        projects: Uids of projects; empty for all.
        artifacts: Uids of artifacts; empty for all.
        with_artifacts: Whether artifacts, their versions and models go along.
        since_us: Only runs that were started since.
    """

    runs: frozenset[str] = field(default_factory=frozenset)
    projects: frozenset[str] = field(default_factory=frozenset)
    artifacts: frozenset[str] = field(default_factory=frozenset)
    with_artifacts: bool = True
    since_us: int | None = None

    @property
    def whole(self) -> bool:
        """Whether nothing is left out, so that the next sync need not look again."""
        return self == Choice()

    def takes(self, document: Mapping[str, Any]) -> bool:
        """Whether a thing belongs to it, going by its document."""
        entity = document["entity"]
        if "gone" in document or entity == "project":
            return self.whole or entity == "project"
        if not self.with_artifacts and entity not in ("run", "project"):
            return False
        if entity == "run":
            return self._takes_run(document)
        if self.runs and not self.artifacts:
            return False
        if entity in ("artifact", "version"):
            return self._takes_artifact(document)
        return self.whole or not (self.projects or self.artifacts)

    def _takes_run(self, document: Mapping[str, Any]) -> bool:
        if self.artifacts and not self.runs:
            return False
        if self.runs and document["uid"] not in self.runs:
            return False
        if self.projects and document["project"] not in self.projects:
            return False
        started = document["fields"]["record"]["v"]["started_us"]
        return self.since_us is None or started >= self.since_us

    def _takes_artifact(self, document: Mapping[str, Any]) -> bool:
        artifact = document.get("artifact", document["uid"])
        if self.artifacts:
            made_by = self.runs and document["entity"] == "version"
            return artifact in self.artifacts and (
                not made_by or document["run"] in self.runs
            )
        return not self.projects or document["project"] in self.projects
