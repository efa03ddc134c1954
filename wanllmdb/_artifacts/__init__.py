"""Artifacts: drafts, versions, and how they are found."""

from wanllmdb._artifacts.handle import Artifact, metadata_json
from wanllmdb._artifacts.lookup import (
    count_elsewhere,
    differences,
    find,
    newest,
    nowhere,
    of_run,
    put,
    restored,
    versions,
)

__all__ = [
    "Artifact",
    "count_elsewhere",
    "differences",
    "find",
    "metadata_json",
    "newest",
    "nowhere",
    "of_run",
    "put",
    "restored",
    "versions",
]
