"""Who writes a run: the locks that living processes hold on its streams."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wanllmdb import _locks
from wanllmdb._catalog import runs, streams
from wanllmdb._debuglog import DebugLog
from wanllmdb._runlog import RunLogs
from wanllmdb.errors import RunActiveError
from wanllmdb.types import RunRecord, State, StreamIdentity

_CHILD_PREFIXES = ("fork", "spawn")
"""What stands in the lock file of a child's stream, which the Catalog does not know."""


@dataclass(slots=True)
class OpenStream:
    """A stream that this process may write: its identity and its liveness lock."""

    run_pk: int
    uid: str
    identity: StreamIdentity
    lock: _locks.FileLock


class Liveness:
    """Asks the kernel who lives: a lock that nobody holds is a dead writer's.

    Args:
        logs: Where the runs' directories are.
        debug: Told where the system cannot say.
    """

    def __init__(self, logs: RunLogs, debug: DebugLog) -> None:
        self._logs = logs
        self._debug = debug

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

    def others_alive(self, stream: OpenStream) -> bool:
        """Whether other living processes write to the run of a stream.

        Where the system cannot say (no descriptor is free) they are taken to live:
        then the run is left to recovery.
        """
        try:
            return any(
                path != stream.lock.path and _locks.is_held(path)
                for path in self.lock_files(stream.uid)
            )
        except OSError as error:
            self._debug.survived("liveness", error)
            return True

    def lock_files(self, uid: str) -> list[Path]:
        """The liveness locks of a run's writers, living or dead."""
        directory = self._logs.directory(uid)
        try:
            # Not glob, which from Python 3.12 on takes what it cannot list for empty.
            names = os.listdir(directory)  # noqa: PTH208
        except FileNotFoundError:
            return []
        return [directory / name for name in names if name.endswith(".lock")]

    def writers(self, connection: Any, record: RunRecord) -> set[str]:
        known = streams.identities(connection, record.pk)
        held = [p.stem for p in self.lock_files(record.uid) if _locks.is_held(p)]
        return {known[token].writer for token in held if token in known}

    def refuse(self, connection: Any, record: RunRecord, own: OpenStream) -> None:
        known = streams.identities(connection, record.pk)
        for path in self.lock_files(record.uid):
            if path == own.lock.path or not _locks.is_held(path):
                continue
            # A lock that the Catalog does not know is a child's, or that of somebody
            # who wants to go on with the run too, and will be refused in turn.
            if path.stem in known or _is_childs(path):
                raise being_written(record)


def refuse_live(liveness: Liveness, records: Iterable[RunRecord]) -> None:
    """Raise where one of some runs is being written.

    Raises:
        RunActiveError: that one.
    """
    for record in records:
        if liveness.is_live(record):
            raise being_written(record)


def being_written(record: RunRecord) -> RunActiveError:
    """The error that says who writes a run."""
    return RunActiveError(
        f"Run {record.path} is being written by pid {record.pid} on {record.host}.",
        hint="Wait for it, stop it, or join it with init(id=..., shared=True).",
        run=record.id, pid=record.pid, host=record.host,
    )  # fmt: skip


def _is_childs(lock: Path) -> bool:
    """Whether a lock file is that of a forked or spawned child's stream."""
    if _locks.is_owned(lock):  # never opened in the process that holds it
        return False
    try:
        return json.loads(lock.read_bytes())["writer"] in _CHILD_PREFIXES
    except (OSError, ValueError, KeyError):
        return False
