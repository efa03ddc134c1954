"""The Store: Catalog, logs, blobs and locks under one directory.

The write order lives here and only here. A run starts: directory, lock file (locked
before it can be seen), then one transaction. A run ends: seal and fdatasync of the
log, then one durable transaction. Whatever is interrupted, the lock is free and the
next reader recovers the run from its log.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wanllmdb import _clock, _files, _ids, _json, _locks, _settings
from wanllmdb._blobs import Blobs
from wanllmdb._catalog import events, migrations, runs, values
from wanllmdb._catalog import files as run_files
from wanllmdb._catalog.connection import Database
from wanllmdb._catalog.schema import JSON_LIMIT
from wanllmdb._debuglog import DebugLog, operation
from wanllmdb._metrics import decode, segment
from wanllmdb._metrics.fold import Fold
from wanllmdb._metrics.scan import Scan, VisibleStream
from wanllmdb._metrics.summary import DELETED, summarise
from wanllmdb.errors import NewerStoreError, RunActiveError, StoreUnavailableError
from wanllmdb.types import (
    ALL_STEPS_SUPERSEDED,
    Damage,
    Epoch,
    JSONValue,
    Kind,
    Location,
    NewRun,
    Parent,
    RunFile,
    RunRecord,
    State,
    StreamIdentity,
)

FORMAT_LINE = "wanllmdb store 1\n"
BLOB_TYPE = "wanllmdb-blob"


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

    def close(self) -> None:
        """Close the Catalog; runs of this process must be finished first."""
        self.catalog.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run_dir(self, uid: str) -> Path:
        """The directory of a run's log and files."""
        return self.live / uid

    @contextmanager
    def operation(self, name: str) -> Iterator[str]:
        """An operation with an id, noted in the debug log."""
        with operation(None if self.read_only else self.debug, name) as op:
            yield op

    # Writing runs

    def create_run(
        self, new: NewRun, *, writer: str = "primary", creator: bool = True
    ) -> OpenStream:
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
                runs.add_stream(
                    connection, pk, stream.identity.token, 1, writer, creator=creator
                )
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
                runs.add_stream(
                    connection, record.pk, identity.token, epoch, "primary",
                    creator=True,
                )  # fmt: skip
        except BaseException:
            stream.lock.release(unlink=True)
            raise
        return OpenStream(record.pk, record.uid, identity, stream.lock)

    def join_run(self, record: RunRecord, writer: str) -> OpenStream:
        """Open a further stream of a run that others write too."""
        stream = self._open_stream(record.uid, record.epoch, writer)
        with self.catalog.transaction(durable=False) as connection:
            runs.add_stream(
                connection, record.pk, stream.identity.token, record.epoch, writer,
                creator=False,
            )  # fmt: skip
        stream.run_pk = record.pk
        return stream

    def open_child_stream(self, uid: str, epoch: int, prefix: str) -> OpenStream:
        """A stream for a forked or spawned child; the Catalog is not touched."""
        stream = self._open_stream(uid, epoch, prefix)
        writer = f"{prefix}-{stream.identity.token[:6]}"
        stream.identity = StreamIdentity(stream.identity.token, epoch, writer)
        return stream

    def end_run(
        self,
        stream: OpenStream,
        state: State,
        *,
        exit_code: int,
        error: str | None,
        dropped: int,
        fold: Fold | None,
    ) -> None:
        """Store how a run ended and what it came to; survives a power cut on return.

        Args:
            stream: The closed stream of its creator.
            state: How it ended.
            exit_code: 0 for success.
            error: The exception's text, if one ended it.
            dropped: Rows that a faulty disk refused.
            fold: The sums of the stream, if it is the run's only one.
        """
        record = runs.read(self.catalog.reader, stream.run_pk)
        damage: list[Damage] = []
        if fold is None or record.epoch > 1 or record.parent is not None:
            fold, damage = self.fold(record)
        with self.catalog.transaction(durable=True) as connection:
            self._write_numbers(connection, record, fold)
            connection.execute(
                "UPDATE run SET dropped_rows = dropped_rows + ?, damage = ?"
                " WHERE id = ?",
                (dropped, _damage_text(damage), record.pk),
            )
            runs.close_stream(connection, stream.identity.token, exit_code)
            runs.set_ended(
                connection, record.pk, state, ended_us=_clock.now_us(),
                exit_code=exit_code, error=error,
            )  # fmt: skip
        stream.lock.release(unlink=True)

    def leave_run(self, stream: OpenStream, exit_code: int, dropped: int) -> None:
        """Close a joined stream; the last one out ends a run whose creator has left."""
        with self.catalog.transaction(durable=True) as connection:
            runs.close_stream(connection, stream.identity.token, exit_code)
            connection.execute(
                "UPDATE run SET dropped_rows = dropped_rows + ? WHERE id = ?",
                (dropped, stream.run_pk),
            )
        stream.lock.release(unlink=True)
        self.end_if_left(stream.run_pk)

    def end_if_left(self, pk: int) -> bool:
        """End a shared run when its creator finished and no stream is locked."""
        record = runs.read(self.catalog.reader, pk)
        rows = self.catalog.reader.execute(
            "SELECT creator, closed_us, exit_code FROM stream WHERE run_id = ?"
            " AND epoch = ?",
            (pk, record.epoch),
        ).fetchall()
        creators_left = all(row["closed_us"] for row in rows if row["creator"])
        if not creators_left or self.is_live(record) or record.state != State.RUNNING:
            return False
        worst = max((row["exit_code"] or 0 for row in rows), default=0)
        fold, damage = self.fold(record)
        with self.catalog.transaction(durable=True) as connection:
            self._write_numbers(connection, record, fold)
            connection.execute(
                "UPDATE run SET damage = ? WHERE id = ?", (_damage_text(damage), pk)
            )
            state = State.FAILED if worst else State.FINISHED
            runs.set_ended(
                connection, pk, state, ended_us=_clock.now_us(), exit_code=worst
            )
        return True

    def save_numbers(self, pk: int, fold: Fold) -> None:
        """Store the summary of a live run, so that lists can show it."""
        record = runs.read(self.catalog.reader, pk)
        with self.catalog.transaction(durable=False) as connection:
            self._write_numbers(connection, record, fold)

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

    def save_file(self, pk: int, file: RunFile) -> None:
        """Record a file of a run whose blob is stored."""
        with self.catalog.transaction(durable=True) as connection:
            run_files.put(connection, pk, file)

    def spill(self, pk: int, text: bytes) -> JSONValue:
        """Store a value too large for a frame as a blob; return what stands for it."""
        digest = self.blobs.put_bytes(text)
        with self.catalog.transaction(durable=False) as connection:
            run_files.refer(connection, pk, digest)
        return {"_type": BLOB_TYPE, "digest": digest, "size": len(text)}

    # Liveness and recovery

    def is_live(self, record: RunRecord) -> bool:
        """Whether any living process holds a stream of the run."""
        return any(_locks.is_held(path) for path in self._lock_files(record.uid))

    def recover_dead(self, project: str | None = None) -> list[RunRecord]:
        """Give every run whose writers died its end and its summary.

        Called by readers. Runs that live are left alone, and so is all of a read-only
        Store.

        Returns:
            The runs recovered now.
        """
        if self.read_only:
            return []
        running = runs.find_many(
            self.catalog.reader, project=project, condition={"state": "running"}
        )
        return [record for record in running if self.recover(record)]

    def recover(self, record: RunRecord) -> bool:
        """Set a dead run `crashed`, with the summary that its log comes to.

        Returns:
            False if a process lives that writes to it, or another one recovers it now.
        """
        if record.state is not State.RUNNING or self.is_live(record):
            return False
        lock = _locks.try_acquire(self.lock_dir / f"recover-{record.uid}.lock")
        if lock is None:
            return False
        try:
            current = runs.read(self.catalog.reader, record.pk)
            if current.state is not State.RUNNING or self.is_live(current):
                return False
            with self.operation(f"recover {current.project}/{current.run_id}"):
                if not self.end_if_left_cleanly(current):
                    self._set_crashed(current)
            return True
        finally:
            lock.release(unlink=True)

    def end_if_left_cleanly(self, record: RunRecord) -> bool:
        """End a shared run whose creator finished before its other writers did."""
        row = self.catalog.reader.execute(
            "SELECT count(*) FROM stream WHERE run_id = ? AND epoch = ?"
            " AND closed_us IS NULL",
            (record.pk, record.epoch),
        ).fetchone()
        return row[0] == 0 and self.end_if_left(record.pk)

    def _set_crashed(self, record: RunRecord) -> None:
        self.ingest_files(record)
        fold, damage = self.fold(record)
        fences = self._fences(record)
        with self.catalog.transaction(durable=True) as connection:
            if runs.read(connection, record.pk).state is not State.RUNNING:
                return  # its owner's finish() came first, and wins
            self._write_numbers(connection, record, fold)
            connection.execute(
                "UPDATE run SET damage = ? WHERE id = ?",
                (_damage_text(damage), record.pk),
            )
            connection.executemany(
                "UPDATE stream SET fence_seq = ?, fence_bytes = ? WHERE token = ?",
                fences,
            )
            runs.set_ended(
                connection, record.pk, State.CRASHED,
                ended_us=fold.last_us or record.started_us,
            )  # fmt: skip
            events.record(connection, "crash", "run", record.uid, after=fold.last_step)
        for path in self._lock_files(record.uid):
            if not _locks.is_held(path):
                path.unlink(missing_ok=True)

    def recheck_fence(self, record: RunRecord) -> bool:
        """Return a run to `running` if its log grew after it was called crashed.

        Whatever a lock said (a network disk may lie), a file that grows has a writer.
        """
        if record.state is not State.CRASHED or self.read_only:
            return False
        fenced = self.catalog.reader.execute(
            "SELECT fence_seq, fence_bytes, token FROM stream WHERE run_id = ?"
            " AND fence_seq IS NOT NULL",
            (record.pk,),
        ).fetchall()
        now = {token: (seq, size) for seq, size, token in self._fences(record)}
        if all(now.get(r["token"], (0, 0)) <= (r["fence_seq"], r["fence_bytes"])
               for r in fenced):  # fmt: skip
            return False
        with self.catalog.transaction(durable=False) as connection:
            connection.execute(
                "UPDATE run SET state = 'running', ended_us = NULL WHERE id = ?"
                " AND state = 'crashed'",
                (record.pk,),
            )
            events.record(connection, "revive", "run", record.uid)
        return True

    def ingest_files(self, record: RunRecord) -> None:
        """Store what lies in the run's directory of files as blobs."""
        root = self.run_dir(record.uid) / "files"
        for path in sorted(root.rglob("*")):
            if path.is_file() and not path.is_symlink():
                name = path.relative_to(root).as_posix()
                self.store_file(record.pk, path, name, "end")

    def store_file(self, pk: int, source: Path, name: str, policy: str) -> None:
        """Copy a file's bytes into the Store and record it under a name."""
        stat = source.stat()
        digest, size = self.blobs.put_file(source)
        file = RunFile(
            name, digest, size, policy, str(source), stat.st_mtime_ns, _clock.now_us()
        )
        self.save_file(pk, file)

    # Reading runs

    def fold(self, record: RunRecord) -> tuple[Fold, list[Damage]]:
        """Sum up a run's visible rows from its log, in constant memory."""
        fold = Fold()
        damage: list[Damage] = []
        for stream in self._visible(record, damage):
            token, epoch = stream.token, stream.epoch
            for decoded in stream.segments:
                _fold_segment(fold, decoded, epoch, token, stream)
            fold.end_stream()
        return fold, damage

    def scan(self, record: RunRecord, keys: Sequence[str] | None = None) -> Scan:
        """All visible rows of a run, exact."""
        return Scan(self._visible(record, []), keys, self.resolve)

    def damage(self, record: RunRecord) -> list[Damage]:
        """What in a run's log is no frame."""
        found: list[Damage] = []
        for stream in self._visible(record, found):
            for _ in stream.segments:
                pass
        return found

    def records(
        self, record: RunRecord, kind: Kind
    ) -> Iterator[tuple[int, int, str, dict[str, JSONValue]]]:
        """(time in us, ordinal, writer, values) of console or system rows, in order."""
        found = []
        for token, paths in decode.list_segments(
            self.run_dir(record.uid), kind
        ).items():
            for decoded in decode.read_stream(paths):
                found += list(_rows_of(decoded, token))
        found.sort(key=lambda row: (row[0] // 1000, row[2], row[1]))
        yield from found

    def load_json(self, record: RunRecord, scope: str) -> dict[str, JSONValue]:
        """A run's config or summary."""
        config = scope == "config"
        blob = record.config_blob if config else record.summary_blob
        text: str | bytes = record.config_json if config else record.summary_json
        if blob is not None:
            text = self.blobs.get(blob)
        value: dict[str, JSONValue] = _json.loads(text)
        return value

    def resolve(self, value: JSONValue) -> JSONValue:
        """The value that a blob reference stands for; any other value as it is."""
        if isinstance(value, dict) and value.get("_type") == BLOB_TYPE:
            return _json.loads(self.blobs.get(value["digest"]))
        return value

    def _visible(
        self, record: RunRecord, damage: list[Damage], fork: _Fork | None = None
    ) -> Iterator[VisibleStream]:
        """The streams of a run, and of what it was forked from, with their limits.

        Args:
            record: The run.
            damage: Gets what is no frame.
            fork: Show the run as it was when this fork of it was made.
        """
        parent = record.parent
        if parent is not None:
            origin = runs.read(self.catalog.reader, parent.run_pk)
            made = _Fork(parent, record.created_us)
            for stream in self._visible(origin, damage, made):
                limits = [x for x in (stream.limit, parent.step) if x is not None]
                rows = stream.max_rows  # what the parent itself took over
                if rows is None:
                    rows = parent.marks.get(stream.token, 0)
                # Epochs of the parent come before the child's own.
                yield VisibleStream(
                    stream.token, stream.epoch - parent.epoch, "primary",
                    stream.segments, min(limits), rows,
                )  # fmt: skip
        limits_of = _limits(runs.epochs(self.catalog.reader, record.pk), fork)
        known = self._identities(record.pk)
        directory = self.run_dir(record.uid)
        for token, paths in decode.list_segments(directory, Kind.METRICS).items():
            identity = (
                known.get(token)
                or _identity_in_header(token, paths)
                or self._identity_in_lock(directory, token)
            )
            segments = _read_noting(paths, identity, damage)
            if identity is not None and identity.epoch in limits_of:
                limit = limits_of[identity.epoch]
                yield VisibleStream(
                    token, identity.epoch, identity.writer, segments, limit
                )

    def _identities(self, pk: int) -> dict[str, StreamIdentity]:
        rows = self.catalog.reader.execute(
            "SELECT token, epoch, writer FROM stream WHERE run_id = ?", (pk,)
        )
        return {row[0]: StreamIdentity(*row) for row in rows}

    def _identity_in_lock(self, directory: Path, token: str) -> StreamIdentity | None:
        path = directory / f"{token}.lock"
        try:
            if _locks.is_held(path):
                return None  # never open a lock file that this process may own
            content = json.loads(path.read_bytes())
            return StreamIdentity(token, content["epoch"], content["writer"])
        except (OSError, ValueError, KeyError):
            return None

    def _fences(self, record: RunRecord) -> list[tuple[int, int, str]]:
        """(last segment's number, its size, stream) of each stream."""
        found = []
        streams = decode.list_segments(self.run_dir(record.uid), Kind.METRICS)
        for token, paths in streams.items():
            parsed = segment.parse_file_name(paths[-1].name)
            assert parsed is not None
            found.append((parsed[2], paths[-1].stat().st_size, token))
        return found

    def _write_numbers(self, connection: Any, record: RunRecord, fold: Fold) -> None:
        definitions = values.read_definitions(connection, record.pk)
        summary = summarise(fold, definitions, record.started_us)
        summary = {key: self.resolve(value) for key, value in summary.items()}
        self._write_json(connection, record.pk, "summary", summary)
        values.set_keys(connection, record.pk, fold.stats(), definitions)
        connection.execute(
            "UPDATE run SET last_step = ? WHERE id = ?", (fold.last_step, record.pk)
        )

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

    def _lock_files(self, uid: str) -> list[Path]:
        return list(self.run_dir(uid).glob("*.lock"))

    def _refuse_if_live(self, record: RunRecord, except_token: str) -> None:
        for path in self._lock_files(record.uid):
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


@dataclass(frozen=True, slots=True)
class _Fork:
    """What a fork took over, and when."""

    parent: Parent
    made_us: int


def _limits(epochs: Sequence[Epoch], fork: _Fork | None) -> dict[int, int | None]:
    """The greatest visible step of each epoch that was not reverted; None: any.

    For a fork, as it was then: nothing done to the parent later changes it.
    """
    limits: dict[int, int | None] = {}
    lowest: int | None = None
    for epoch in reversed(epochs):
        reverted = epoch.reverted_us
        if fork is not None:
            if epoch.number > fork.parent.epoch:
                continue
            if reverted is not None and reverted > fork.made_us:
                reverted = None
        if reverted is not None:
            continue
        limits[epoch.number] = lowest
        if epoch.keep_step is not None:
            lowest = epoch.keep_step if lowest is None else min(lowest, epoch.keep_step)
    return limits


def _identity_in_header(token: str, paths: Sequence[Path]) -> StreamIdentity | None:
    for path in paths:
        with path.open("rb") as file:
            head = segment.parse_header(file.read(segment.HEADER_BYTES))
        if head is not None:
            return StreamIdentity(token, head[1], head[2])
    return None


def _read_noting(
    paths: Sequence[Path], identity: StreamIdentity | None, damage: list[Damage]
) -> Iterator[decode.Segment]:
    for decoded in decode.read_stream(paths, identity):
        damage += decoded.damage
        yield decoded


def _rows_of(
    decoded: decode.Segment, token: str
) -> Iterator[tuple[int, int, str, dict[str, JSONValue]]]:
    writer = decoded.identity.writer if decoded.identity else token
    for row in decoded.objects:
        yield row.time_us, row.ordinal, writer, row.values
    for block in decoded.shaped:
        names = [key for key, _ in block.shape.present]
        rows = block.shape.struct.iter_unpack(block.frames)
        for ordinal, (_w, _s, _step, time_us, *cells) in zip(
            block.ordinals, rows, strict=True
        ):
            yield time_us, ordinal, writer, dict(zip(names, cells, strict=True))


def _fold_segment(
    fold: Fold, decoded: decode.Segment, epoch: int, token: str, stream: VisibleStream
) -> None:
    """Fold a segment: the rows of fixed shapes, the others, the summary's writes."""
    limit, end = stream.limit, stream.max_rows
    blocks = [(b.shape, b.frames, b.ordinals) for b in decoded.shaped]
    fold.add_blocks(blocks, epoch, token, limit, end)
    for row in decoded.objects:
        if (limit is None or row.step <= limit) and (end is None or row.ordinal < end):
            place = (epoch, row.time_us // 1000, token, row.ordinal)
            fold.add_row(row.values, row.step, row.time_us, place)
    for write in decoded.summaries:
        if limit != ALL_STEPS_SUPERSEDED and (end is None or write.ordinal <= end):
            at = (epoch, write.time_us // 1000, token, write.ordinal - 0.5)
            fold.write_summary(write.values, at)


def _damage_text(damage: Sequence[Damage]) -> str | None:
    return "; ".join(str(item) for item in damage) or None
