"""Content-addressed files: ``blobs/sha256/ab/<hex>``, each content once.

A blob appears complete and durable, or not at all, and its name is checked against
its bytes when it is read.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

from wanllmdb import _digest, _files
from wanllmdb._media.content import Content
from wanllmdb.errors import DigestMismatchError, MissingBlobError
from wanllmdb.types import Digest


class Blobs:
    """The blobs of one Store.

    Args:
        root: Where they are.
        tmp_dir: Where drafts are, on the same filesystem.
        trash: Where gc puts what nothing needs.
    """

    def __init__(self, root: Path, tmp_dir: Path, trash: Path) -> None:
        self._root = root / "sha256"
        self._tmp = tmp_dir
        self._trash = trash

    def path_of(self, digest: str) -> Path:
        """Where a blob is, or would be."""
        name = _digest.hex_of(digest)
        return self._root / name[:2] / name

    def put_bytes(self, data: bytes) -> Digest:
        """Store bytes; durable on return."""
        digest = _digest.of_bytes(data)
        path = self.path_of(digest)
        if self.touch(digest):
            return digest
        self.make_dirs([path.parent])
        _files.write_durably(path, data, self._tmp, mode=0o400)
        return digest

    def put_file(self, source: Path) -> tuple[Digest, int]:
        """Store a copy of a file's bytes, streaming; durable on return.

        Returns:
            Its digest, and its size in bytes.

        Raises:
            OSError: the source cannot be read, or the Store not written.
        """
        draft = self._tmp / f"blob-{os.urandom(8).hex()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            with source.open("rb") as reader:
                fd = os.open(draft, flags, 0o400)
                with os.fdopen(fd, "wb") as writer:
                    digest, size = _digest.of_copied(reader, writer)
                    writer.flush()
                    os.fsync(writer.fileno())
            path = self.path_of(digest)
            if self.touch(digest):
                return digest, size
            self.make_dirs([path.parent])
            draft.rename(path)
            _files.fsync_dir(path.parent)
            return digest, size
        finally:
            draft.unlink(missing_ok=True)

    def put_all(self, contents: Iterable[Content]) -> None:
        """Store contents, each once; durable on return.

        Raises:
            OSError: the Store cannot be written.
            IntegrityError: one can no longer be read as it was.
        """
        drafts: dict[Digest, Path] = {}
        try:
            for content in contents:
                if content.digest in drafts or self.touch(content.digest):
                    continue
                draft = self._tmp / f"blob-{os.urandom(8).hex()}"
                content.write_to(draft)
                drafts[content.digest] = draft
            self.adopt(drafts)
        finally:
            for draft in drafts.values():
                draft.unlink(missing_ok=True)

    def touch(self, digest: str) -> bool:
        """Make a blob young again, for gc; out of the trash, if it is there.

        Returns:
            False if there is no such blob.
        """
        path = self.path_of(digest)
        try:
            os.utime(path)
        except FileNotFoundError:
            try:
                (self._trash / path.name).rename(path)
            except FileNotFoundError:
                return False
            os.utime(path)
            _files.fsync_dir(path.parent)
        return True

    def present(self, sizes: Mapping[Digest, int | None]) -> set[Digest]:
        """Those of some contents that have a blob; out of the trash, if it is there.

        They are not made young: whoever asks keeps gc out, or names them for it.

        Args:
            sizes: The bytes that each should have; None where that is not known. A
                blob of another size is damaged, and counts for none.
        """
        found = {digest for digest, size in sizes.items() if self._has(digest, size)}
        if len(found) < len(sizes):
            trashed = set(os.listdir(self._trash)) if self._trash.exists() else set()  # noqa: PTH208
            found.update(
                digest for digest in sizes.keys() - found
                if _digest.hex_of(digest) in trashed and self.touch(digest)
            )  # fmt: skip
        return found

    def _has(self, digest: Digest, size: int | None) -> bool:
        name = digest[len(_digest.PREFIX) :]
        try:
            held = os.stat(f"{self._root}/{name[:2]}/{name}")  # noqa: PTH116 - thousands
        except FileNotFoundError:
            return False
        return size is None or held.st_size == size

    def adopt(self, drafts: Mapping[Digest, Path]) -> None:
        """Move whole files, named by what was hashed, into place; durable on return.

        Args:
            drafts: Files below the Store; those whose content is there are removed,
                and those that are gone are left out.
        """
        sizes = {digest: _size_of(path) for digest, path in drafts.items()}
        held = self.present(sizes)
        new = {
            digest: path
            for digest, path in drafts.items()
            if digest not in held and sizes[digest] is not None
        }
        _files.sync_files(list(new.values()))
        self.make_dirs(self.path_of(digest).parent for digest in new)
        for digest, draft in new.items():
            draft.replace(self.path_of(digest))
        _files.sync_dirs(self.path_of(digest).parent for digest in new)
        for digest in held:
            drafts[digest].unlink(missing_ok=True)

    def make_dirs(self, directories: Iterable[Path]) -> None:
        """Make directories that blobs are in; durable on return."""
        new = {path for path in directories if not path.exists()}
        for directory in new:
            _files.make_private_dir(directory)
        if new:
            for place in (self._root, self._root.parent, self._root.parent.parent):
                _files.fsync_dir(place)

    def open(self, digest: str) -> BinaryIO:
        """A blob, to be read; it is not checked.

        Raises:
            MissingBlobError: it is not there.
        """
        for _ in range(2):
            try:
                return self.path_of(digest).open("rb")
            except FileNotFoundError:
                # A gc moves what was just named for a moment, and then back.
                if not self.touch(digest):
                    break
        raise MissingBlobError(
            f"The blob {digest} is missing.",
            hint="Restore it from a backup.", digest=digest,
        )  # fmt: skip

    def get(self, digest: str) -> bytes:
        """The bytes of a blob, checked against its name.

        Raises:
            MissingBlobError: it is not there.
            DigestMismatchError: its bytes changed.
        """
        with self.open(digest) as file:
            data = file.read()
        if _digest.of_bytes(data) != digest:
            raise DigestMismatchError(
                f"The bytes of blob {digest} have changed.",
                hint="Restore it from a backup.",
                digest=digest,
            )
        return data


def _size_of(path: Path) -> int | None:
    """A file's size; None where it was moved, by a commit that failed after that."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None
