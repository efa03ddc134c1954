"""The Store: Catalog, logs, blobs and locks under one directory.

The write order lives here and only here. A run starts: directory, lock file (locked
before it can be seen), then one transaction. A run ends: the log is sealed and
synced, then one durable transaction. Whatever is interrupted, the lock is free and
the next reader recovers the run from its log.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from wanllmdb import (
    _clock,
    _files,
    _ids,
    _layout,
    _locks,
    _merging,
)
from wanllmdb._blobs import Blobs
from wanllmdb._budget import Budget
from wanllmdb._catalog import events, migrations, projects, runs, streams, values
from wanllmdb._catalog.connection import Database, read_stamp
from wanllmdb._compaction import Compactor, Inline
from wanllmdb._debuglog import DebugLog, noted
from wanllmdb._liveness import Liveness, OpenStream
from wanllmdb._metrics.fold import Fold
from wanllmdb._metrics.summary import summarise
from wanllmdb._rundata import Document, RunData, put_document
from wanllmdb._runlog import RunLogs, Sums
from wanllmdb._sweeping import SWEPT_AT_ONCE, Sweeper
from wanllmdb.errors import IntegrityError, RemoteError, StoreClosedError
from wanllmdb.types import (
    Damage,
    End,
    Epoch,
    JSONValue,
    Location,
    Losses,
    NewRun,
    RunRecord,
    State,
    StreamIdentity,
)

ASKED_AT_ONE_IN = 32
"""How many runs end for each that asks whether its project should be merged, and that
seals what the others left."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """What a run came to, ready to be written."""

    summary: Document
    keys: values.KeyRows
    last_step: int | None
    damage: Sequence[Damage] | None


class _HasStore(Protocol):
    @property
    def store(self) -> Store: ...


P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound="_HasStore | Store")


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
        self.read_only = not _layout.prepare(self.path, create=create)
        self.tmp = self.path / _layout.TMP
        self.lock_dir = self.path / _layout.LOCKS
        self.debug = DebugLog(self.path / "logs")
        self.network = _layout.is_on_network(self.path)
        self.blobs = Blobs(
            self.path / _layout.BLOBS, self.tmp, self.path / _layout.TRASH / "blobs"
        )
        catalog = self.path / _layout.CATALOG
        self.catalog = Database(
            catalog, self.lock_dir, wal=not self.network, read_only=self.read_only,
            load_blob=self.blobs.get,
        )  # fmt: skip
        if self.read_only:
            migrations.check(read_stamp(self.catalog.reader), catalog)
        else:
            migrations.prepare(self.catalog, catalog, self.lock_dir)
        self.parts = self.path / _layout.PARTS
        self.logs = RunLogs(
            self.path / _layout.LIVE, self.parts, self.catalog, self.blobs
        )
        self.budget = Budget(self.path)
        self.data = RunData(self.catalog, self.blobs, self.logs, self.budget)
        self.liveness = Liveness(self.logs, self.debug)
        self.sweeper = Sweeper(self.path, self.catalog, self.debug)
        self.compactor = Compactor(
            self.path, self.catalog, self.logs, self.sweeper, self.debug
        )

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

    def set_blob_aside(self, digest: str) -> None:
        """Put a blob that was found damaged into the trash, if it is.

        Then its content is stored anew by whoever adds it again. Where it cannot be
        moved, it stays: every reader checks it.
        """
        if not self.read_only:
            try:
                self.blobs.set_aside(digest)
            except OSError as error:
                self.debug.survived("setting a blob aside", error)

    @contextmanager
    def operation(self, name: str) -> Iterator[str]:
        """An operation with an id, noted in the debug log."""
        with noted(None if self.read_only else self.debug, name) as op:
            yield op

    # Beginning to write

    def create_run(
        self, new: NewRun, *, writer: str = "primary", job: str | None = None
    ) -> OpenStream:
        """Start a new run; survives kill -9 on return.

        Raises:
            RunExistsError: a run of that id exists in the project.
        """
        stream = self._open_stream(new.uid, 1, writer)
        config = self.data.document(new.config)
        kind = "fork" if new.parent else "init"
        first = new.parent.step + 1 if new.parent else 0
        with (
            _released_on_error(stream),
            self.catalog.transaction(durable=False) as connection,
        ):
            pk = runs.insert(connection, new, os.getpid())
            runs.add_epoch(connection, pk, kind, os.getpid(), first_step=first, job=job)
            streams.add(connection, pk, stream.identity, creator=True)
            put_document(connection, pk, "config", config)
        stream.run_pk = pk
        return stream

    def continue_run(
        self,
        record: RunRecord,
        kind: str,
        *,
        first_step: int,
        keep_step: int | None,
        writer: str = "primary",
        job: str | None = None,
    ) -> OpenStream:
        """Open the next epoch of a run that nobody writes.

        Raises:
            RunActiveError: a live process, this one included, writes to it.
        """
        stream = self._open_stream(record.uid, record.epoch + 1, writer)
        with (
            _released_on_error(stream),
            self.catalog.transaction(durable=False) as connection,
        ):
            # Decided inside the transaction: of two processes that got here at once,
            # the second one sees the stream that the first one registered.
            self.liveness.refuse(connection, record, stream)
            epoch = runs.add_epoch(
                connection, record.pk, kind, os.getpid(), first_step=first_step,
                keep_step=keep_step, job=job,
            )  # fmt: skip
            stream.identity = StreamIdentity(stream.identity.token, epoch, writer)
            streams.add(connection, record.pk, stream.identity, creator=True)
        stream.run_pk = record.pk
        return stream

    def join_run(self, record: RunRecord, writer: str) -> OpenStream:
        """Open a further stream of a run that others write too.

        A writer's name that a living process has already gets a suffix: rows of
        different writers never merge.
        """
        stream = self._open_stream(record.uid, record.epoch, writer)
        with (
            _released_on_error(stream),
            self.catalog.transaction(durable=False) as connection,
        ):
            now = runs.read(connection, record.pk)
            if writer in self.liveness.writers(connection, now):
                writer = f"{writer[:9]}-{stream.identity.token[:6]}"
            runs.revive(connection, now)
            stream.identity = StreamIdentity(stream.identity.token, now.epoch, writer)
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

    # Ending

    def end_stream(
        self, stream: OpenStream, end: End, losses: Losses, sums: Sums | None
    ) -> None:
        """Store how a stream ended; the last one out ends the run.

        Survives a power cut on return: the log is synced first.

        Args:
            stream: Closed by its writer.
            end: How it ended.
            losses: What could not be kept as it was logged.
            sums: What the run came to as its writer sees it, if that is certain.
        """
        try:
            self.logs.sync(stream.uid)
        except OSError as error:  # the end is stored all the same
            self.debug.survived("sync", error)
        record = runs.read(self.catalog.reader, stream.run_pk)
        numbers = None
        with self.sweeper.alone(record.uid) as alone:
            inline = Inline()
            if not self.liveness.others_alive(stream):
                numbers = self.numbers(record, self._all(record, stream, losses, sums))
                if alone:
                    inline = self._small(record, stream)
            with self.catalog.transaction(durable=True) as connection:
                streams.close(connection, stream.identity.token, end)
                runs.add_losses(connection, record.pk, losses)
                # Asked again: somebody may have joined while the log was summed up.
                ends = numbers is not None and not self.liveness.others_alive(stream)
                if numbers is not None and ends and _creators_left(connection, record):
                    self._conclude(connection, record, numbers)
                    self.compactor.put_inline(connection, record, inline)
            stream.lock.release(unlink=True)
        try:
            if not ends:
                self.end_if_left(record.pk)
        except OSError as error:  # recovery ends it
            self.debug.survived("end", error)
        if not self.compactor.may_wait(record):
            self.compact_run(record)
        elif _is_one_in(ASKED_AT_ONE_IN, record):
            self.seal_ended()

    def _small(self, record: RunRecord, stream: OpenStream) -> Inline:
        try:
            return self.compactor.small(record, stream.identity.token)
        except OSError as error:  # the log stays where it is
            self.debug.survived("inline", error)
            return Inline()

    def compact(self) -> Iterator[str]:
        """Seal every log that nobody writes, merge small parts, remove what may go.

        Yields:
            One line for each thing done.
        """
        for record, size in self.compactor.seal_all():
            yield f"sealed {record.path}, {size} bytes of log"
        for project in projects.read_all(self.catalog.reader):
            try:
                while _merging.merge(self.sweeper, self.catalog, project.name):
                    yield f"merged small parts of project {project.name}"
            except IntegrityError as error:  # the others are merged all the same
                yield f"cannot merge the parts of project {project.name}: {error}"
        removed = self.sweeper.sweep() + self.sweeper.collect_orphans()
        if removed:
            yield f"removed {removed} files that nothing names any more"

    def seal_ended(self) -> None:
        """Seal logs of runs that ended; where that fails, they stay as they are."""
        if self.read_only:
            return
        try:
            self.compactor.seal_ended()
        except Exception as error:  # noqa: BLE001 - noted; the logs are read as they are
            self.debug.survived("sealing what waits", error)

    def compact_run(self, record: RunRecord, limit: int | None = None) -> None:
        """Seal what can be sealed of a run; where that fails, its log stays as it is.

        Args:
            record: The run.
            limit: Leave alone a log of more bytes; None: any size.
        """
        try:
            self.compactor.seal(record, limit)
            self.sweeper.sweep(SWEPT_AT_ONCE)
            # Asked at one run in so many, for the answer costs more the more runs wait.
            if _is_one_in(ASKED_AT_ONE_IN, record) and _merging.is_due(
                self.catalog, record.project
            ):
                _merging.merge(self.sweeper, self.catalog, record.project)
        except Exception as error:  # noqa: BLE001 - noted; the next compaction tries again
            self.debug.survived(
                f"compaction of {record.project}/{record.run_id}", error
            )

    def end_child_stream(self, stream: OpenStream) -> None:
        """Let go of a child's stream; the last one out ends the run."""
        self.logs.sync(stream.uid)
        stream.lock.release(unlink=True)
        try:
            self.end_if_left(stream.run_pk)
        except StoreClosedError as error:  # by its parent: who reads it next ends it
            self.debug.survived("end", error)

    def end_if_left(self, pk: int) -> bool:
        """End a run whose creator finished, if no process writes to it any more."""
        record = runs.read(self.catalog.reader, pk)
        if not self.liveness.is_left(self.catalog.reader, record):
            return False
        if not _creators_left(self.catalog.reader, record):
            return False
        numbers = self.numbers(record, self.logs.sums(record))
        with self.catalog.transaction(durable=True) as connection:
            if not self.liveness.is_left(connection, record):
                return False
            self._conclude(connection, record, numbers)
        return True

    def amend_end(self, stream: OpenStream, end: End) -> None:
        """Correct how a stream, and its run with it, ended."""
        with self.catalog.transaction(durable=True) as connection:
            record = runs.read(connection, stream.run_pk)
            streams.close(connection, stream.identity.token, end)
            if record.state is not State.RUNNING:
                self._set_ended(connection, record)

    def _conclude(self, connection: Any, record: RunRecord, numbers: Numbers) -> None:
        self.write_numbers(connection, record.pk, numbers)
        self._set_ended(connection, record)

    def _set_ended(self, connection: Any, record: RunRecord) -> None:
        """A run ends as the worst of its writers did; one that died has failed."""
        dead = End(State.FAILED, 1, "a writer died")
        streams_of = streams.ends(connection, record.pk, record.epoch)
        worst = max(
            (stream.end or dead for stream in streams_of),
            key=lambda end: end.exit_code,
            default=End(State.FINISHED),
        )
        runs.set_ended(connection, record.pk, worst, ended_us=_clock.now_us())

    def sums_before(self, record: RunRecord, own: OpenStream, *, summed: bool) -> Sums:
        """What a run came to before a stream was opened.

        Args:
            record: The run.
            own: The stream, which has no rows yet.
            summed: False for a run that is begun anew: what was, counts no more.
        """
        if summed:
            return self.logs.sums(record)
        return Sums(Fold(), damage=[], streams=self.logs.tokens(record.pk, own.uid))

    def _all(
        self, record: RunRecord, stream: OpenStream, losses: Losses, sums: Sums | None
    ) -> Sums:
        """A writer's sums where they are all that there is, else the log's."""
        if sums is not None and not sums.own.overlaps and not losses.rows:
            others = self.logs.tokens(record.pk, stream.uid) - {stream.identity.token}
            if others == sums.streams:
                return sums
        return self.logs.sums(record)

    # Numbers

    def numbers(
        self, record: RunRecord, sums: Sums, epochs: Sequence[Epoch] | None = None
    ) -> Numbers:
        """What a run came to, made ready before a transaction begins."""
        definitions = self.definitions(record, epochs)
        summary = {}
        for key, value in summarise(sums.own, definitions, record.started_us).items():
            try:
                summary[key] = self.logs.resolve(value)
            # Its blob is lost, or out of reach; not the run.
            except (IntegrityError, RemoteError, OSError) as error:
                self.debug.survived(f"summary of {record.run_id}", error)
        return Numbers(
            self.data.document(summary),
            values.key_rows(sums.stats(), definitions),
            sums.last_step,
            sums.damage,
        )

    def definitions(
        self, record: RunRecord, epochs: Sequence[Epoch] | None = None
    ) -> dict[str, dict[str, JSONValue]]:
        """Every `define_metric` of a run that holds, in order."""
        reader = self.catalog.reader
        if epochs is None:
            epochs = runs.epochs(reader, record.pk)
        return values.read_definitions(reader, record.pk, epochs)

    def write_numbers(self, connection: Any, pk: int, numbers: Numbers) -> None:
        """Write what a run came to, inside a transaction."""
        put_document(connection, pk, "summary", numbers.summary)
        values.set_keys(connection, pk, numbers.keys)
        runs.set_last_step(connection, pk, numbers.last_step)
        if numbers.damage is not None:
            text = "; ".join(str(item) for item in numbers.damage) or None
            runs.set_damage(connection, pk, text)

    def save_numbers(self, pk: int, sums: Sums, timeout: float | None = None) -> None:
        """Store what a run has come to so far, so that lists can show it.

        Raises:
            StoreLockedError: others wrote for `timeout` seconds.
        """
        record = runs.read(self.catalog.reader, pk)
        self.logs.add_edits(sums.own, record)
        numbers = self.numbers(record, sums)
        with self.catalog.transaction(durable=False, timeout=timeout) as connection:
            self.write_numbers(connection, pk, numbers)

    def _open_stream(self, uid: str, epoch: int, writer: str) -> OpenStream:
        directory = self.run_dir(uid)
        token = _ids.stream_token()
        content = {
            "pid": os.getpid(), "host": events.host_name(), "epoch": epoch,
            "writer": writer, "opened_us": _clock.now_us(),
        }  # fmt: skip
        text = json.dumps(content).encode()
        path = directory / f"{token}.lock"
        while True:
            _files.make_private_dir(directory)
            try:
                lock = _locks.create_locked(path, self.tmp, text)
                break
            except FileNotFoundError:
                # Swept away just now, as the log of a run that had ended.
                if not self.tmp.is_dir():
                    raise
        with _released_on_error(
            OpenStream(0, uid, StreamIdentity(token, epoch, writer), lock)
        ) as stream:
            _files.make_private_dir(directory / "files")
        return stream


def operation(
    name: str,
) -> Callable[[Callable[Concatenate[S, P], R]], Callable[Concatenate[S, P], R]]:
    """Make each call of a function an operation of a Store, with an id of its own.

    The function's first argument is the Store, or has it as `store`.
    """

    def decorate(
        function: Callable[Concatenate[S, P], R],
    ) -> Callable[Concatenate[S, P], R]:
        @wraps(function)
        def call(subject: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
            store = subject if isinstance(subject, Store) else subject.store
            with store.operation(name):
                return function(subject, *args, **kwargs)

        return call

    return decorate


@contextmanager
def _released_on_error(stream: OpenStream) -> Iterator[OpenStream]:
    try:
        yield stream
    except BaseException:
        stream.lock.release(unlink=True)
        raise


def _is_one_in(many: int, record: RunRecord) -> bool:
    """Whether it is this run's turn to do what one of many does for all."""
    return int(record.uid[-4:], 16) % many == 0


def _creators_left(connection: Any, record: RunRecord) -> bool:
    """Whether whoever began the epoch has finished: one that died is recovery's."""
    ends = streams.ends(connection, record.pk, record.epoch)
    return all(stream.end for stream in ends if stream.creator)
