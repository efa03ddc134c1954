"""Entries: the paths of an artifact, each of which can be downloaded."""

from __future__ import annotations

import os
from pathlib import PosixPath
from typing import TYPE_CHECKING, Any

from wanllmdb._manifest import Entry
from wanllmdb.errors import InvalidInputError

if TYPE_CHECKING:
    from wanllmdb._artifacts.facts import ArtifactFacts


class EntryPath(PosixPath):
    """The path of an entry's file, which `download` writes."""

    _entry: ArtifactEntry

    def download(self, root: str | os.PathLike[str] | None = None) -> str:
        """Write the entry's file; see `ArtifactEntry.download`."""
        return self._entry.download(root)


class ArtifactEntry:
    """One path of an artifact.

    Attributes:
        path: Where it is in the artifact.
        digest: ``sha256:`` and hex; None for a reference of unknown content.
        size: Bytes; None for a reference of unknown size.
        ref: What a reference points at; None for stored bytes.
        md5: Of a reference, the MD5 that was given for it; else None.
    """

    def __init__(self, artifact: ArtifactFacts, entry: Entry) -> None:
        self._artifact = artifact
        self.path = entry.path
        self.digest = entry.digest
        self.size = entry.size
        self.ref = entry.uri
        self.md5 = entry.md5

    def __repr__(self) -> str:
        return f"<Entry {self.path!r} of {self._artifact.name}>"

    @property
    def name(self) -> str:
        """Its path, as W&B calls it."""
        return self.path

    def ref_target(self) -> str:
        """What a reference points at.

        Raises:
            InvalidInputError: it is no reference.
        """
        if self.ref is None:
            raise InvalidInputError(
                f"{self.path!r} is no reference.", hint="download() gives its bytes."
            )
        return self.ref

    def download(
        self,
        root: str | os.PathLike[str] | None = None,
        *,
        references: bool = False,
        **_: Any,
    ) -> str:
        """Write the file, unless it is there and right; its path.

        Args:
            root: Below which directory; default as `Artifact.download`.
            references: Fetch what a reference points at.

        Raises:
            InvalidInputError: it is a reference, and fetching was not asked for.
        """
        if self.ref is not None and not references:
            raise InvalidInputError(
                f"{self.path!r} is a reference, whose bytes are elsewhere.",
                hint="Fetch them: download(references=True) of the entry.",
            )
        place = self._artifact._download(root, [self.path], references=references)
        return str(place / self.path)
