"""Versions in mode "disabled": they behave as others do, and nothing is kept."""

from __future__ import annotations

from wanllmdb import _clock, _names
from wanllmdb.types import Digest, NewVersion, VersionRecord

UID = "disabled"


def record(
    project: str, said: NewVersion, digest: str, selector: str = _names.LATEST
) -> VersionRecord:
    """What a handle on such a version is made of.

    Args:
        project: Of its run.
        said: Its names, its size, and what is said of it.
        digest: Of its content.
        selector: What it was asked for by; another one than a number makes it v0.
    """
    numbered = _names.is_derived(selector) and _names.alias_key(selector) != "latest"
    now = _clock.now_us()
    return VersionRecord(
        pk=0, uid=UID, artifact_pk=0, artifact_uid=UID, project=project,
        name=said.name, type=said.type,
        number=_names.version_number(selector) if numbered else 0,
        digest=Digest(digest), files=said.files, size=said.size,
        description=said.description, metadata_json=said.metadata_json, run_pk=None,
        created_us=now, updated_us=now, ttl_us=said.ttl_us, deleted_us=None,
        latest=True,
    )  # fmt: skip
