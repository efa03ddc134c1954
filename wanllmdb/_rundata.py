"""What a run keeps beside its rows: config, summary, definitions, files, alerts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wanllmdb import _clock, _digest, _json, _values
from wanllmdb._blobs import Blobs
from wanllmdb._budget import Budget, Room
from wanllmdb._catalog import files as run_files
from wanllmdb._catalog import runs, values
from wanllmdb._catalog.connection import Database
from wanllmdb._catalog.schema import JSON_LIMIT
from wanllmdb._media.content import Content
from wanllmdb._runlog import RunLogs
from wanllmdb.errors import DiskBudgetError
from wanllmdb.types import Alert, Digest, JSONValue, RunFile, RunRecord, Source

OnError = Callable[[Source, OSError | DiskBudgetError], None]


@dataclass(frozen=True, slots=True)
class Document:
    """Config or summary, ready to be written; too large a text is a blob already."""

    value: Mapping[str, JSONValue]
    text: str
    blob: str | None


class RunData:
    """Writes and reads what a run keeps. Durable as each method says.

    Args:
        catalog: Where it is listed.
        blobs: Where bytes are.
        logs: Says where a run's directory is.
        budget: How much may be stored.
    """

    def __init__(
        self, catalog: Database, blobs: Blobs, logs: RunLogs, budget: Budget
    ) -> None:
        self._catalog = catalog
        self._blobs = blobs
        self._logs = logs
        self._budget = budget

    def save_environment(self, pk: int, facts: Mapping[str, JSONValue]) -> None:
        """Store what was captured of a run's surroundings."""
        with self._catalog.transaction(durable=False) as connection:
            runs.set_environment(connection, pk, facts)

    def save_definition(
        self, record: RunRecord, name: str, options: Mapping[str, JSONValue]
    ) -> None:
        """Store a `define_metric` of a run."""
        with self._catalog.transaction(durable=False) as connection:
            values.add_definition(connection, record, name, options)

    def save_alert(self, pk: int, alert: Alert) -> None:
        """Store an alert of a run."""
        with self._catalog.transaction(durable=True) as connection:
            run_files.add_alert(connection, pk, alert)

    def spill(self, pk: int, text: bytes) -> _json.BlobRef:
        """Store a value too large for a frame as a blob; return what stands for it."""
        digest = self._blobs.put_bytes(text)
        with self._catalog.transaction(durable=False) as connection:
            run_files.refer(connection, pk, digest)
        return _json.BlobRef(digest, len(text))

    def write_json(
        self, connection: Any, pk: int, scope: str, value: Mapping[str, JSONValue]
    ) -> None:
        """Write config or summary inside a transaction."""
        put_document(connection, pk, scope, self.document(value))

    def load_json(self, record: RunRecord, scope: str) -> dict[str, JSONValue]:
        """A run's config or summary."""
        config = scope == "config"
        blob = record.config_blob if config else record.summary_blob
        text: str | bytes = record.config_json if config else record.summary_json
        if blob is not None:
            text = self._blobs.get(blob)
        value: dict[str, JSONValue] = _json.loads(text)
        return value

    def document(self, value: Mapping[str, JSONValue]) -> Document:
        """Config or summary, made ready before a transaction begins."""
        text = _json.dumps(dict(value))
        blob = self._blobs.put_bytes(text.encode()) if len(text) > JSON_LIMIT else None
        return Document(value, text, blob)

    def ingest_files(
        self, record: RunRecord, on_error: OnError = lambda source, error: None
    ) -> None:
        """Store what lies in the run's directory of files as blobs.

        Args:
            record: The run.
            on_error: As `store_files` takes it; what was not stored stays there.
        """
        root = self._logs.directory(record.uid) / "files"
        sources = [
            Source(path, path.relative_to(root).as_posix(), "end")
            for path in sorted(root.rglob("*"))
            if path.is_file() and not path.is_symlink()
        ]
        self.store_files(record.pk, sources, on_error, inside=True)

    def store_files(
        self,
        pk: int,
        sources: Sequence[Source],
        on_error: OnError = lambda source, error: None,
        *,
        inside: bool = False,
    ) -> None:
        """Copy files' bytes into the Store and record them; durable on return.

        Args:
            pk: The run.
            sources: What to store; a later source of the same name replaces it.
            on_error: Told of each file that could not be read or stored.
            inside: They lie in the Store, and will be removed there.
        """
        stored = []
        room = self._budget.room() if sources else None
        if room is not None and inside:  # they are in the count already
            room.left += sum(_size_of(source.path) for source in sources)
        for source in sources:
            try:
                mtime_ns = source.path.stat().st_mtime_ns
                digest, size = self._put(source.path, room)
            except (OSError, DiskBudgetError) as error:
                on_error(source, error)
                continue
            stored.append(
                RunFile(
                    _values.clean_text(source.name), digest, size, source.policy,
                    _values.clean_text(str(source.path)), mtime_ns, _clock.now_us(),
                )
            )  # fmt: skip
        if stored:
            with self._catalog.transaction(durable=True) as connection:
                for file in stored:
                    run_files.put(connection, pk, file)

    def _put(self, path: Path, room: Room | None) -> tuple[Digest, int]:
        """Store a file's bytes, unless they are beyond what may be stored."""
        if room is None:
            return self._blobs.put_file(path)
        size = path.stat().st_size
        if size <= room.left:
            room.left -= size
        elif not self._blobs.present({_digest.of_file(path): size}):
            raise room.refusal(size, room.left, str(path))
        return self._blobs.put_file(path)

    def store_media(self, pk: int, contents: Mapping[str, Content]) -> None:
        """Store what media hold as a run's files, by path; durable on return.

        Raises:
            OSError: the Store cannot be written.
            WanllmdbError: it is locked, or bytes have changed where they are.
        """
        self._blobs.put_all(contents.values())
        now = _clock.now_us()
        with self._catalog.transaction(durable=True) as connection:
            for path, content in contents.items():
                file = RunFile(
                    path, content.digest, content.size, "now", None, 0, now
                )  # fmt: skip
                run_files.put(connection, pk, file)

    def files(self, pk: int) -> list[RunFile]:
        """The files stored with a run, by name."""
        return run_files.read(self._catalog.reader, pk)


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # it vanished, which its user is told of when it is stored
        return 0


def put_document(connection: Any, pk: int, scope: str, document: Document) -> None:
    """Write config or summary inside a transaction."""
    if document.blob is not None:
        run_files.refer(connection, pk, document.blob)
    values.set_json(connection, pk, scope, document.value, document.text, document.blob)
