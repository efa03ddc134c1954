"""Media in artifacts: a value is a small JSON document, and files beside it."""

from __future__ import annotations

import os
from functools import partial
from typing import BinaryIO

from wanllmdb._artifacts.draft import Draft
from wanllmdb._artifacts.entries import ArtifactEntry
from wanllmdb._manifest import Entry, entry_path
from wanllmdb._media import documents
from wanllmdb._media.base import Place, Value
from wanllmdb._media.content import Content
from wanllmdb.errors import InvalidInputError


class HoldsMedia(Draft):
    """A draft that media are added to, or a version that they are got from."""

    def add(
        self,
        obj: Value,
        name: str | os.PathLike[str],
        overwrite: bool = False,
    ) -> ArtifactEntry:
        """Add a table, an image, or another value, as it is now.

        Args:
            obj: The value: `Table`, `Image`, `Audio`, `Video`, `Html`, `Histogram`,
                `Object3D` or `Molecule`.
            name: Its path in the artifact. What it is, is added: a table ``eval``
                becomes ``eval.table.json``, and its images files under ``media/``.
            overwrite: Take the place of another value of the same name and kind.

        Returns:
            The entry of its document.

        Raises:
            InvalidInputError: it is no such value, or its path is taken by other
                content.
        """
        if not isinstance(obj, Value):
            raise InvalidInputError(
                f"add() takes media, not a {type(obj).__name__}.",
                hint="Use add_file, or wrap it: Table(data=...), Image(...).",
            )
        goal = entry_path(documents.path_of(entry_path(name), obj.TYPE))
        beside = Place()
        text = documents.encoded(obj._document(beside))
        contents = {**beside.contents, goal: Content.of(text)}
        with self._adding() as staging:
            if staging is not None:
                staging.add_contents(list(contents.values()))
            new = [Entry(path, one.digest, one.size) for path, one in contents.items()]
            self._put_entries(new, overwrite=overwrite)
        return self.get_entry(goal)

    def get(self, name: str | os.PathLike[str]) -> Value | None:
        """A value that was added; the bytes of its files are read when they are used.

        Args:
            name: The name that it was added by, or the path of its document.

        Returns:
            A value equal to the one that was added; None where there is none, as in
            mode "disabled", which keeps no bytes.

        Raises:
            IntegrityError: what is there is no such value, or its bytes have changed.
        """
        path = entry_path(name)
        if self._unkept:
            return None
        for at in (path, *documents.paths_of(path)):
            if self._entries.find(at) is not None and at in documents.paths_of(at):
                reader = documents.Reader(self._content)
                return reader.read(at, f"artifact {self.name}")
        return None

    def _content(self, path: str) -> Content:
        """The bytes of an entry, which are read later.

        Raises:
            EntryNotFoundError: there is none.
            ValueError: it is a reference.
        """
        entry: Entry | None = self._entries.find(path)
        if entry is None:
            raise self._lacks(path)
        if entry.uri is not None or entry.digest is None or entry.size is None:
            message = f"{path!r} is a reference, whose bytes are elsewhere"
            raise ValueError(message)
        return Content.stored(entry.digest, entry.size, partial(self._open, entry))

    def _open(self, entry: Entry) -> BinaryIO:
        """The bytes of an entry, wherever a draft or a version has them."""
        assert entry.digest is not None
        staging, home = self._staging, self._store or self._origin
        if staging is not None:
            try:
                return staging.path_of(entry.digest).open("rb")
            except FileNotFoundError:  # another thread has just committed it
                home = home or staging.store
        assert home is not None
        return home.blobs.open(entry.digest)
