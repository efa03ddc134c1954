"""The Store: Catalog, logs, blobs and locks under one directory.

The write order lives here and only here. A run starts: directory, lock file (locked
before it can be seen), then one transaction. A run ends: seal and fdatasync of the
log, then one durable transaction. Whatever is interrupted, the lock is free and the
next reader recovers the run from its log.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wanllmdb import _clock, _files, _ids, _json, _locks, _settings
from wanllmdb._blobs import Blobs
from wanllmdb._catalog import events, migrations, runs, streams, values
from wanllmdb._catalog import files as run_files
from wanllmdb._catalog.connection import Database
from wanllmdb._catalog.schema import JSON_LIMIT
from wanllmdb._debuglog import DebugLog, operation
from wanllmdb._metrics import decode
from wanllmdb._metrics.fold import Fold
from wanllmdb._metrics.summary import DELETED, summarise
from wanllmdb._runlog import BLOB_TYPE, RunLogs
from wanllmdb.errors import NewerStoreError, RunActiveError, StoreUnavailableError
from wanllmdb.types import (
    Alert,
    Damage,
    JSONValue,
    Kind,
    Location,
    Losses,
    NewRun,
    RunFile,
    RunRecord,
    Source,
    State,
    StreamIdentity,
)

FORMAT_LINE = "wanllmdb store 1\n"


@dataclass(slots=True)
class OpenStream:
    """A stream that this process may write: its identity and its liveness lock."""

    run_pk: int
    uid: str
    identity: StreamIdentity
    lock: _locks.FileLock


class Store:
    """One open Store. Safe for threads and across forks.

    Args:
        location: Where it is.
        create: Make it if there is none.

    Raises:
        StoreUnavailableError: there is none, or the place cannot be used.
        NewerStoreError: a newer wanllmdb wrote it.
    """

    def __init__(self, location: Location, *, create: bool = True) -> None:
        self.path = location.path
        self.reason = location.reason
        self.live = self.path / "live"
        self.tmp = self.path / "tmp"
        self.lock_dir = self.path / "locks"
        self.network = False
        writable = self._prepare_directories(create)
        self.debug = DebugLog(self.path / "logs")
        self.network = _settings.is_network_store(self.path)
        self.catalog = Database(
            self.path / "catalog.db",
            self.lock_dir,
            wal=not self.network,
            read_only=not writable,
        )
        self.read_only = not writable
        if writable:
            migrations.prepare(self.catalog, self.path / "catalog.db", self.lock_dir)
        else:
            migrations.version_of(self.catalog.reader, self.path / "catalog.db")
        self.blobs = Blobs(self.path / "blobs", self.tmp)
        self.logs = RunLogs(self.live, self.catalog, self.blobs)

    def close(self) -> None:
        """Close the Catalog; runs of this process must be finished first."""
        self.catalog.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run_dir(self, uid: str) -> Path:
        """The directory of a run's log and files."""
        return self.logs.directory(uid)

    @contextmanager
    def operation(self, name: str) -> Iterator[str]:
        """An operation with an id, noted in the debug log."""
        with operation(None if self.read_only else self.debug, name) as op:
            yield op

    # Writing runs

    def create_run(self, new: NewRun, *, writer: str = "primary") -> OpenStream:
        """Start a new run; survives kill -9 on return.

        Raises:
            RunExistsError: a run of that id exists in the project.
        """
        stream = self._open_stream(new.uid, 1, writer)
        try:
            with self.catalog.transaction(durable=False) as connection:
                pk = runs.insert(connection, new, os.getpid())
                kind = "fork" if new.parent else "init"
                first = new.parent.step + 1 if new.parent else 0
                runs.add_epoch(connection, pk, kind, os.getpid(), first_step=first)
                streams.add(connection, pk, stream.identity, creator=True)
                self._write_json(connection, pk, "config", new.config)
        except BaseException:
            stream.lock.release(unlink=True)
            raise
        stream.run_pk = pk
        return stream

    def continue_run(
        self, record: RunRecord, kind: str, *, first_step: int, keep_step: int | None
    ) -> OpenStream:
        """Open the next epoch of a run that nobody writes.

        Raises:
            RunActiveError: a live process, this one included, writes to it.
        """
        stream = self._open_stream(record.uid, record.epoch + 1, "primary")
        try:
            with self.catalog.transaction(durable=False) as connection:
                # Decided inside the transaction: of two processes that got here at
                # once, the second one sees the first one's lock.
                self._refuse_if_live(record, except_token=stream.identity.token)
                epoch = runs.add_epoch(
                    connection, record.pk, kind, os.getpid(),
                    first_step=first_step, keep_step=keep_step,
                )  # fmt: skip
                identity = StreamIdentity(stream.identity.token, epoch, "primary")
                streams.add(connection, record.pk, identity, creator=True)
        except BaseException:
            stream.lock.release(unlink=True)
            raise
        return OpenStream(record.pk, record.uid, identity, stream.lock)

    def join_run(self, record: RunRecord, writer: str) -> OpenStream:
        """Open a further stream of a run that others write too."""
        stream = self._open_stream(record.uid, record.epoch, writer)
        with self.catalog.transaction(durable=False) as connection:
            streams.add(connection, record.pk, stream.identity, creator=False)
        stream.run_pk = record.pk
        return stream

    def open_child_stream(self, record: RunRecord, prefix: str) -> OpenStream:
        """A stream for a forked or spawned child; the Catalog is not touched."""
        stream = self._open_stream(record.uid, record.epoch, prefix)
        token = stream.identity.token
        writer = f"{prefix}-{token[:6]}"
        stream.identity = StreamIdentity(token, record.epoch, writer)
        stream.run_pk = record.pk
        return stream

    def others_alive(self, stream: OpenStream) -> bool:
        """Whether other living processes write to the run of a stream."""
        return any(
            path != stream.lock.path and _locks.is_held(path)
            for path in self.lock_files(stream.uid)
        )

    def has_others(self, stream: OpenStream) -> bool:
        """Whether the run of a stream has others, of living writers or not."""
        found = decode.list_segments(self.run_dir(stream.uid), Kind.METRICS)
        return bool(set(found) - {stream.identity.token})

    def end_run(
        self,
        stream: OpenStream,
        state: State,
        *,
        exit_code: int,
        error: str | None,
        losses: Losses,
        fold: Fold | None,
    ) -> None:
        """Store how a run ended and what it came to; survives a power cut on return.

        Args:
            stream: The closed stream of its creator.
            state: How it ended.
            exit_code: 0 for success.
            error: The exception's text, if one ended it.
            losses: What could not be kept as it was logged.
            fold: The sums of the stream, if it is the run's only one.
        """
        record = runs.read(self.catalog.reader, stream.run_pk)
        damage: list[Damage] = []
        if fold is None or fold.overlaps or losses.rows or record.epoch > 1:
            fold, damage = self.logs.fold(record)
        with self.catalog.transaction(durable=True) as connection:
            self.write_numbers(connection, record, fold, damage)
            runs.add_losses(connection, record.pk, losses)
            streams.close(connection, stream.identity.token, exit_code)
            runs.set_ended(
                connection, record.pk, state, ended_us=_clock.now_us(),
                exit_code=exit_code, error=error,
            )  # fmt: skip
        stream.lock.release(unlink=True)

    def leave_run(self, stream: OpenStream, exit_code: int, losses: Losses) -> None:
        """Close a joined stream; the last one out ends a run whose creator has left."""
        with self.catalog.transaction(durable=True) as connection:
            streams.close(connection, stream.identity.token, exit_code)
            runs.add_losses(connection, stream.run_pk, losses)
        stream.lock.release(unlink=True)
        self.end_if_left(stream.run_pk)

    def end_if_left(self, pk: int) -> bool:
        """End a shared run when its creator finished and no stream is locked."""
        record = runs.read(self.catalog.reader, pk)
        ends = streams.ends(self.catalog.reader, pk, record.epoch)
        creators_left = all(end.closed for end in ends if end.creator)
        if not creators_left or self.is_live(record) or record.state != State.RUNNING:
            return False
        worst = max((end.exit_code for end in ends), default=0)
        fold, damage = self.logs.fold(record)
        with self.catalog.transaction(durable=True) as connection:
            if not self.is_left(connection, record):
                return False
            self.write_numbers(connection, record, fold, damage)
            state = State.FAILED if worst else State.FINISHED
            runs.set_ended(
                connection, pk, state, ended_us=_clock.now_us(), exit_code=worst
            )
        return True

    def save_numbers(self, pk: int, fold: Fold) -> None:
        """Store the summary of a live run, so that lists can show it."""
        record = runs.read(self.catalog.reader, pk)
        with self.catalog.transaction(durable=False) as connection:
            self.write_numbers(connection, record, fold)

    def edit_summary(self, pk: int, new: Mapping[str, JSONValue]) -> None:
        """Change the stored summary of a run that ended."""
        with self.catalog.transaction(durable=True) as connection:
            record = runs.read(connection, pk)
            before = self.load_json(record, "summary")
            after = {**before, **new}
            after = {key: value for key, value in after.items() if value != DELETED}
            self._write_json(connection, pk, "summary", after)
            events.record(
                connection, "summary", "run", record.uid,
                before={key: before.get(key) for key in new}, after=dict(new),
            )  # fmt: skip
            names = [f"summary.{key}" for key in new]
            events.touch_fields(connection, "run", record.uid, names)

    def save_config(self, pk: int, config: Mapping[str, JSONValue]) -> None:
        """Store a run's config."""
        with self.catalog.transaction(durable=False) as connection:
            before = runs.read(connection, pk)
            old = self.load_json(before, "config")
            self._write_json(connection, pk, "config", config)
            changed = sorted(
                k for k in {*old, *config} if old.get(k, _json) != config.get(k, _json)
            )
            if changed:
                events.record(
                    connection, "config", "run", before.uid,
                    before={k: old[k] for k in changed if k in old},
                    after={k: config[k] for k in changed if k in config},
                )  # fmt: skip
                names = [f"config.{key}" for key in changed]
                events.touch_fields(connection, "run", before.uid, names)

    def save_environment(self, pk: int, facts: Mapping[str, JSONValue]) -> None:
        """Store what was captured of a run's surroundings."""
        with self.catalog.transaction(durable=False) as connection:
            runs.set_environment(connection, pk, facts)

    def save_definition(
        self, pk: int, name: str, options: Mapping[str, JSONValue]
    ) -> None:
        """Store a `define_metric` of a run."""
        with self.catalog.transaction(durable=False) as connection:
            values.add_definition(connection, pk, name, options)

    def save_alert(self, pk: int, alert: Alert) -> None:
        """Store an alert of a run."""
        with self.catalog.transaction(durable=True) as connection:
            run_files.add_alert(connection, pk, alert)

    def save_tags(self, record: RunRecord, tags: Sequence[str]) -> RunRecord:
        """Give a run these tags and no others; return it as it is then."""
        with self.catalog.transaction(durable=True) as connection:
            before = runs.read(connection, record.pk).tags
            gone = [tag for tag in before if tag not in tags]
            runs.remove_tags(connection, record.pk, gone)
            runs.add_tags(connection, record.pk, tags)
            if set(before) != set(tags):
                events.record(
                    connection, "tags", "run", record.uid,
                    before=list(before), after=list(tags),
                )  # fmt: skip
                events.touch_fields(connection, "run", record.uid, ["tags"])
        return runs.read(self.catalog.reader, record.pk)

    def edit(self, record: RunRecord, changes: Mapping[str, str | None]) -> RunRecord:
        """Change name, notes, group or job type; return the run as it is then."""
        with self.catalog.transaction(durable=True) as connection:
            runs.update(connection, record, changes)
        return runs.read(self.catalog.reader, record.pk)

    def amend_end(
        self, pk: int, state: State, exit_code: int, error: str | None
    ) -> None:
        """Correct how a run ended."""
        with self.catalog.transaction(durable=True) as connection:
            runs.set_ended(
                connection, pk, state, ended_us=_clock.now_us(), exit_code=exit_code,
                error=error,
            )  # fmt: skip

    def spill(self, pk: int, text: bytes) -> JSONValue:
        """Store a value too large for a frame as a blob; return what stands for it."""
        digest = self.blobs.put_bytes(text)
        with self.catalog.transaction(durable=False) as connection:
            run_files.refer(connection, pk, digest)
        return {"_type": BLOB_TYPE, "digest": digest, "size": len(text)}

    # Liveness

    def is_live(self, record: RunRecord) -> bool:
        """Whether any living process holds a stream of the run."""
        return any(_locks.is_held(path) for path in self.lock_files(record.uid))

    def is_left(self, connection: Any, record: RunRecord) -> bool:
        """Whether a run still counts as running, in the same epoch, with no writer.

        Asked inside the transaction that ends it: whoever goes on with a run holds a
        lock before it opens the next epoch.
        """
        now = runs.read(connection, record.pk)
        same = now.state is State.RUNNING and now.epoch == record.epoch
        return same and not self.is_live(record)

    def lock_files(self, uid: str) -> list[Path]:
        """The liveness locks of a run's writers, living or dead."""
        return list(self.run_dir(uid).glob("*.lock"))

    def ingest_files(self, record: RunRecord) -> None:
        """Store what lies in the run's directory of files as blobs."""
        root = self.run_dir(record.uid) / "files"
        sources = [
            Source(path, path.relative_to(root).as_posix(), "end")
            for path in sorted(root.rglob("*"))
            if path.is_file() and not path.is_symlink()
        ]
        self.store_files(record.pk, sources)

    def store_files(
        self,
        pk: int,
        sources: Sequence[Source],
        on_error: Callable[[Source, OSError], None] = lambda source, error: None,
    ) -> None:
        """Copy files' bytes into the Store and record them; durable on return.

        Args:
            pk: The run.
            sources: What to store; a later source of the same name replaces it.
            on_error: Told of each file that could not be read or stored.
        """
        stored = []
        for source in sources:
            try:
                mtime_ns = source.path.stat().st_mtime_ns
                digest, size = self.blobs.put_file(source.path)
            except OSError as error:
                on_error(source, error)
                continue
            stored.append(
                RunFile(
                    source.name, digest, size, source.policy, str(source.path),
                    mtime_ns, _clock.now_us(),
                )
            )  # fmt: skip
        if stored:
            with self.catalog.transaction(durable=True) as connection:
                for file in stored:
                    run_files.put(connection, pk, file)

    def files(self, pk: int) -> list[RunFile]:
        """The files stored with a run, by name."""
        return run_files.read(self.catalog.reader, pk)

    def load_json(self, record: RunRecord, scope: str) -> dict[str, JSONValue]:
        """A run's config or summary."""
        config = scope == "config"
        blob = record.config_blob if config else record.summary_blob
        text: str | bytes = record.config_json if config else record.summary_json
        if blob is not None:
            text = self.blobs.get(blob)
        value: dict[str, JSONValue] = _json.loads(text)
        return value

    def write_numbers(
        self,
        connection: Any,
        record: RunRecord,
        fold: Fold,
        damage: Sequence[Damage] | None = None,
    ) -> None:
        """Write what a run's log came to, inside a transaction.

        Args:
            connection: The transaction's.
            record: The run.
            fold: The sums of its rows.
            damage: What is no frame, if its log was read.
        """
        definitions = values.read_definitions(connection, record.pk)
        summary = summarise(fold, definitions, record.started_us)
        summary = {key: self.logs.resolve(value) for key, value in summary.items()}
        self._write_json(connection, record.pk, "summary", summary)
        values.set_keys(connection, record.pk, fold.stats(), definitions)
        runs.set_last_step(connection, record.pk, fold.last_step)
        if damage is not None:
            text = "; ".join(str(item) for item in damage) or None
            runs.set_damage(connection, record.pk, text)

    def _write_json(
        self, connection: Any, pk: int, scope: str, value: Mapping[str, JSONValue]
    ) -> None:
        text = _json.dumps(dict(value))
        blob = None
        if len(text) > JSON_LIMIT:
            blob = self.blobs.put_bytes(text.encode())
            run_files.refer(connection, pk, blob)
        values.set_json(connection, pk, scope, value, text, blob)

    def _open_stream(self, uid: str, epoch: int, writer: str) -> OpenStream:
        directory = self.run_dir(uid)
        _files.make_private_dir(directory / "files")
        token = _ids.stream_token()
        content = {
            "pid": os.getpid(), "host": events.host_name(), "epoch": epoch,
            "writer": writer, "opened_us": _clock.now_us(),
        }  # fmt: skip
        lock = _locks.create_locked(
            directory / f"{token}.lock", self.tmp, json.dumps(content).encode()
        )
        return OpenStream(0, uid, StreamIdentity(token, epoch, writer), lock)

    def _refuse_if_live(self, record: RunRecord, except_token: str) -> None:
        for path in self.lock_files(record.uid):
            if path.stem != except_token and _locks.is_held(path):
                raise RunActiveError(
                    f"Run {record.project}/{record.run_id} is being written by pid"
                    f" {record.pid} on {record.host}.",
                    hint="Wait for it, or join it with init(id=..., shared=True).",
                    run=record.run_id, pid=record.pid, host=record.host,
                )  # fmt: skip

    def _prepare_directories(self, create: bool) -> bool:
        """Check or make the directory; False if it can only be read."""
        marker = self.path / _settings.FORMAT_FILE
        try:
            if not marker.exists():
                if not create:
                    raise StoreUnavailableError(
                        f"There is no Store at {self.path}.",
                        hint="Record a run first, or set WANLLMDB_DIR.",
                        path=str(self.path),
                    )
                self._create(marker)
            else:
                _check_format(marker)
            for directory in (self.live, self.tmp, self.lock_dir):
                directory.mkdir(mode=0o700, exist_ok=True)
        except NotADirectoryError as error:
            raise _files.explain_os_error(error, self.path) from error
        except OSError as error:
            if marker.exists() and (self.path / "catalog.db").exists():
                return False
            raise _files.explain_os_error(error, self.path) from error
        return os.access(self.path, os.W_OK)

    def _create(self, marker: Path) -> None:
        _files.make_private_dir(self.path)
        for directory in (self.tmp, self.live, self.lock_dir):
            _files.make_private_dir(directory)
        # Its own .gitignore: a Store inside a repository is never committed.
        (self.path / ".gitignore").write_text("*\n")
        _files.write_durably(marker, FORMAT_LINE.encode(), self.tmp)


def open_store(
    explicit: str | os.PathLike[str] | None = None, *, create: bool = False
) -> Store:
    """Open the Store that `explicit`, the environment or the directory names."""
    return Store(_settings.find_store(explicit), create=create)


def _check_format(marker: Path) -> None:
    line = marker.read_text("utf-8", "replace")
    name, _, version = line.strip().rpartition(" ")
    if name != "wanllmdb store" or not version.isdigit():
        raise StoreUnavailableError(
            f"{marker} is not the FORMAT file of a Store.",
            hint="Point WANLLMDB_DIR at another directory.",
        )
    if int(version) > 1:
        raise NewerStoreError(
            f"The Store at {marker.parent} has format {version}; this wanllmdb"
            " knows 1.",
            hint="Upgrade wanllmdb: pip install -U wanllmdb",
        )
