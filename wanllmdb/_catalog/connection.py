"""Connections to the Catalog: pragmas, transactions, retries. No business logic.

The files ``catalog.db``, ``-wal`` and ``-shm`` are never opened by anything else in
this process: closing any descriptor of them drops SQLite's POSIX locks, and commits
are lost without a word (SQLite, "How To Corrupt", 2.2).
"""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wanllmdb import _locks
from wanllmdb._catalog import filters
from wanllmdb.errors import (
    DiskFullError,
    IntegrityError,
    ReadOnlyError,
    StoreClosedError,
    StoreError,
    StoreLockedError,
)

SQLITE_VERSION = sqlite3.sqlite_version
CHECKPOINT_BYTES = 4 << 20
LOCK_TIMEOUT = 30.0
"""Seconds that a write waits for its turn before it raises StoreLockedError."""

_leaked: list[sqlite3.Connection] = []
"""Connections inherited through fork: closing one would break the parent's locks."""


class Database:
    """One Catalog file: a writer connection per process, a reader per thread.

    Safe for threads; after a fork the child opens connections of its own.
    """

    def __init__(
        self, path: Path, lock_dir: Path, *, wal: bool, read_only: bool
    ) -> None:
        self._path = path
        self._checkpoint_lock = lock_dir / "checkpoint.lock"
        self._wal = wal
        self.read_only = read_only
        self._closed = False
        self._copy_dir: str | None = None
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._write_lock = threading.RLock()
        self._writer: sqlite3.Connection | None = None
        self._local = threading.local()
        self._readers: list[sqlite3.Connection] = []
        self._synchronous = ""

    @property
    def reader(self) -> sqlite3.Connection:
        """This thread's connection for reading."""
        self._guard()
        connection: sqlite3.Connection | None = getattr(self._local, "reader", None)
        if connection is None:
            connection = self._open_read_only() if self.read_only else self._connect()
            filters.register_functions(connection)
            connection.row_factory = sqlite3.Row
            self._local.reader = connection
            self._readers.append(connection)
        return connection

    @contextmanager
    def transaction(self, *, durable: bool) -> Iterator[sqlite3.Connection]:
        """One write transaction, taken at once and retried while others write.

        Args:
            durable: True where a power cut must not undo the commit (FULL).

        Raises:
            ReadOnlyError: the Store was opened for reading.
            StoreLockedError: no turn within 30 s.
            DiskFullError: no space; nothing was changed.
        """
        self._guard()
        if self.read_only:
            raise ReadOnlyError(
                f"The Store at {self._path.parent} is read-only.",
                hint="Copy it with `wanllmdb store backup`, and open the copy.",
            )
        with self._write_lock:
            if self._writer is not None and self._writer.in_transaction:
                yield self._writer  # nested: the outer transaction commits
                return
            with _translated(self._path):
                connection = self._begin(durable)
                try:
                    yield connection
                    self._retry(connection, "COMMIT")
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
            self._checkpoint_if_large(connection)

    def close(self) -> None:
        """Close every connection; the last of a process truncates the WAL."""
        if self._closed or self._pid != os.getpid():
            return
        self._closed = True
        if self._writer is not None and self._wal:
            self._checkpoint(self._writer, "TRUNCATE")
        for connection in (*self._readers, self._writer):
            if connection is not None:
                connection.close()
        if self._copy_dir is not None:
            import shutil

            shutil.rmtree(self._copy_dir, ignore_errors=True)

    def __del__(self) -> None:
        try:
            self.close()
        except Exception:  # noqa: BLE001 - a destructor has nobody to tell
            pass

    def backup_to(self, path: Path) -> None:
        """Copy a consistent state to a new file, while others write."""
        with _translated(path):
            self.reader.execute("VACUUM INTO ?", (str(path),))

    def _guard(self) -> None:
        if self._closed:
            raise StoreClosedError(
                f"The Store at {self._path.parent} was closed.", hint="Open it again."
            )
        if self._pid != os.getpid():
            _leaked.extend(c for c in (*self._readers, self._writer) if c is not None)
            self._reset()

    def _begin(self, durable: bool) -> sqlite3.Connection:
        if self._writer is None:
            self._writer = self._connect()
            self._writer.row_factory = sqlite3.Row
        level = "FULL" if durable else "NORMAL"
        if level != self._synchronous:
            self._writer.execute(f"PRAGMA synchronous={level}")
            self._synchronous = level
        # IMMEDIATE: a deferred transaction that reads first fails at its first write
        # if another process wrote in between, whatever the timeout.
        self._retry(self._writer, "BEGIN IMMEDIATE")
        return self._writer

    def _retry(self, connection: sqlite3.Connection, statement: str) -> None:
        # SQLite's own busy handler sleeps ever longer and starves a waiter for
        # seconds; short random sleeps give everyone a turn.
        deadline = time.monotonic() + LOCK_TIMEOUT
        while True:
            try:
                connection.execute(statement)
            except sqlite3.OperationalError as error:
                busy = error.sqlite_errorcode & 0xFF in (
                    sqlite3.SQLITE_BUSY,
                    sqlite3.SQLITE_LOCKED,
                )
                if not busy or time.monotonic() > deadline:
                    raise
                time.sleep(0.001 + 0.009 * os.urandom(1)[0] / 255)
            else:
                return

    def _connect(self) -> sqlite3.Connection:
        with _translated(self._path):
            connection = _open(f"file:{_quoted(self._path)}?mode=rw")
            self._retry(connection, "PRAGMA foreign_keys=ON")
            mode = "WAL" if self._wal else "DELETE"
            self._retry(connection, f"PRAGMA journal_mode={mode}")
            connection.execute("PRAGMA wal_autocheckpoint=0")
            return connection

    def _open_read_only(self) -> sqlite3.Connection:
        """Open a Catalog that cannot be written, by the safest way that works.

        ``immutable`` beside a non-empty -wal would miss its commits, so such a pair is
        copied aside by a child process, which holds no locks that it could drop.
        """
        wal = Path(f"{self._path}-wal")
        has_wal = wal.exists() and wal.stat().st_size > 0
        with _translated(self._path):
            try:
                connection = _open(f"file:{_quoted(self._path)}?mode=ro")
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            except sqlite3.OperationalError:
                if not has_wal:
                    return _open(f"file:{_quoted(self._path)}?mode=ro&immutable=1")
                return _open(f"file:{_quoted(self._copy())}?mode=rw")
            return connection

    def _copy(self) -> Path:
        import subprocess
        import tempfile

        if self._copy_dir is None:
            self._copy_dir = tempfile.mkdtemp(prefix="wanllmdb-read-")
            code = (
                "import shutil, sys\nfor p in sys.argv[2:]: shutil.copy(p, sys.argv[1])"
            )
            sources = [str(self._path), f"{self._path}-wal"]
            subprocess.run(
                [sys.executable, "-I", "-c", code, self._copy_dir, *sources], check=True
            )
        return Path(self._copy_dir) / self._path.name

    def _checkpoint_if_large(self, connection: sqlite3.Connection) -> None:
        if not self._wal:
            return
        try:
            size = Path(f"{self._path}-wal").stat().st_size
        except OSError:
            return
        if size > CHECKPOINT_BYTES:
            self._checkpoint(connection, "PASSIVE")

    def _checkpoint(self, connection: sqlite3.Connection, mode: str) -> None:
        # One checkpointer at a time: SQLite before 3.51.3 can lose pages when two
        # race. Nobody waits for it.
        try:
            lock = _locks.try_acquire(self._checkpoint_lock)
            if lock is None:
                return
            with lock:
                connection.execute(f"PRAGMA wal_checkpoint({mode})")
        except (OSError, sqlite3.Error):  # the WAL stays, and stays readable
            pass


def _open(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(  # noqa: TID251 - the one place
        uri,
        uri=True,
        timeout=0,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )
    connection.execute("PRAGMA cell_size_check=ON")
    return connection


def create_empty(path: Path) -> None:
    """Make an empty database file, private to its owner, unless it exists."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.close(fd)


def _quoted(path: Path) -> str:
    from urllib.parse import quote

    return quote(str(path))


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.IntegrityError:
        raise  # a named constraint: the noun's module says what it means
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        identity = {"path": str(path), "sqlite": getattr(error, "sqlite_errorname", "")}
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise StoreLockedError(
                f"Another process held {path} for {LOCK_TIMEOUT:.0f} s.",
                hint="Look for a stopped process that writes to this Store.",
                **identity,
            ) from error
        if code == sqlite3.SQLITE_FULL:
            raise DiskFullError(
                f"No space left for {path}.", hint="Free some space.", **identity
            ) from error
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise IntegrityError(
                f"{path} is damaged: {error}.",
                hint="Restore it with `wanllmdb store restore`.",
                **identity,
            ) from error
        raise StoreError(
            f"{path} refused: {error}.", hint="Run `wanllmdb doctor`.", **identity
        ) from error
