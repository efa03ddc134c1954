"""Models, their versions and changes as plain dicts, which users get."""

from __future__ import annotations

from typing import Any

from wanllmdb import _clock, _json
from wanllmdb.types import Event, ModelRecord, ModelVersionRecord


def of_model(record: ModelRecord) -> dict[str, Any]:
    """A model, as `ModelRegistry.list_models` has it."""
    return {
        "id": record.uid, "name": record.name, "description": record.description,
        "single_holder": record.single_holder, "versions": record.versions,
        "latest": _numbered(record.latest),
        "staging": [_numbered(number) for number in record.staging],
        "production": [_numbered(number) for number in record.production],
        "created_at": _clock.iso(record.created_us),
    }  # fmt: skip


def of_version(record: ModelVersionRecord) -> dict[str, Any]:
    """A version, as `ModelRegistry.get_model_version` has it."""
    return {
        "id": record.uid, "model": record.model, "version": f"v{record.number}",
        "registered_as": record.label, "aliases": list(record.aliases),
        "stage": str(record.stage), "artifact": record.artifact,
        "artifact_version_id": record.version_uid, "run": record.run,
        "description": record.description, "tags": list(record.tags),
        "metadata": _json.loads(record.metadata_json),
        "created_at": _clock.iso(record.created_us),
        "staged_at": _clock.iso(record.staged_us),
        "approved_by": record.approved_by,
        "approved_at": _clock.iso(record.approved_us),
    }  # fmt: skip


def _numbered(number: int | None) -> str | None:
    return None if number is None else f"v{number}"


_TOLD = {"stage": "stage", "link": "artifact", "unlink": "artifact",
         "approve": "approver", "single_holder": "single_holder"}  # fmt: skip
"""What of an event's two sides its `from` and `to` are."""


def of_event(event: Event) -> dict[str, Any]:
    """A row of `ModelRegistry.history`."""
    before = event.before if isinstance(event.before, dict) else {}
    after = event.after if isinstance(event.after, dict) else {}
    told = _TOLD.get(event.kind, "")
    sides = [side.get(told) for side in (before, after)]
    if event.kind == "alias":
        sides = [_numbered(side.get("names")) for side in (before, after)]
    return {
        "at": _clock.iso(event.at_us), "kind": event.kind,
        "version": _numbered(after.get("version", before.get("version"))),
        "from": sides[0], "to": sides[1], "who": event.who, "host": event.host,
        "approver": after.get("approver"), "comment": event.reason,
        "alias": after.get("alias"),
    }  # fmt: skip
