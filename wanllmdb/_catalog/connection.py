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
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wanllmdb import _locks
from wanllmdb._catalog import filters, forks
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

    Args:
        path: The file.
        lock_dir: Where lock files are.
        wal: False where shared memory cannot be trusted (network disks).
        read_only: Never write.
        load_blob: Reads the config or summary that is too large for its row.
    """

    def __init__(
        self,
        path: Path,
        lock_dir: Path,
        *,
        wal: bool,
        read_only: bool,
        load_blob: Callable[[str], bytes],
    ) -> None:
        self._path = path
        self._checkpoint_lock = lock_dir / "checkpoint.lock"
        self._wal = wal
        self.read_only = read_only
        self._load_blob = load_blob
        self._closed = False
        self._copy_dir: str | None = None
        self._reset()
        forks.watch(self)

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._write_lock = threading.RLock()
        self._writer: sqlite3.Connection | None = None
        self._local = threading.local()
        self._readers: weakref.WeakSet[_Reader] = weakref.WeakSet()
        self._synchronous = ""
        self._depth = 0

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @property
    def write_lock(self) -> threading.RLock:
        """Held by the thread that is in a transaction."""
        return self._write_lock

    @property
    def connected(self) -> bool:
        """Whether this process has it open for writing, in WAL mode."""
        mine = self._pid == os.getpid() and not self._closed and not self.read_only
        return mine and self._wal and bool(self._writer or len(self._readers))

    @property
    def closed(self) -> bool:
        """Whether it was closed, and is of no use any more."""
        return self._closed

    @property
    def reader(self) -> sqlite3.Connection:
        """This thread's connection for reading; it closes when the thread ends."""
        self._guard()
        held: _Reader | None = getattr(self._local, "reader", None)
        if held is None:
            connection = self._open_read_only() if self.read_only else self._connect()
            connection.path = self._path
            filters.register_functions(connection, self._load_blob)
            connection.row_factory = sqlite3.Row
            held = self._local.reader = _Reader(connection)
            self._readers.add(held)
        return held.connection

    @contextmanager
    def transaction(
        self, *, durable: bool, timeout: float | None = None
    ) -> Iterator[sqlite3.Connection]:
        """One write transaction, taken at once and retried while others write.

        Inside another one of this thread it is part of that one.

        Args:
            durable: True where a power cut must not undo the commit (FULL).
            timeout: Seconds to wait for a turn; default `LOCK_TIMEOUT`.

        Raises:
            ReadOnlyError: the Store was opened for reading.
            StoreLockedError: no turn in that time.
            DiskFullError: no space; nothing was changed.
        """
        self._guard()
        if self.read_only:
            raise ReadOnlyError(
                f"The Store at {self._path.parent} is read-only.",
                hint="Copy it with `wanllmdb store backup`, and open the copy.",
            )
        deadline = time.monotonic() + (LOCK_TIMEOUT if timeout is None else timeout)
        with self._write_lock:
            if self._depth:
                yield self._writing  # the outer transaction commits
                return
            with translated(self._path):
                self._depth = 1
                try:
                    connection = self._writing
                    self._begin(connection, durable, deadline)
                    yield connection
                    self._retry(connection, "COMMIT", deadline)
                except BaseException:
                    if self._writing.in_transaction:
                        self._writing.execute("ROLLBACK")
                    raise
                finally:
                    self._depth = 0
            self._checkpoint_if_large(connection)

    def close(self) -> None:
        """Close every connection; the last of a process truncates the WAL."""
        if self._closed or self._pid != os.getpid():
            return
        self._closed = True
        if self._writer is not None and self._wal:
            self._checkpoint(self._writer, "TRUNCATE")
        for reader in list(self._readers):
            reader.connection.close()
        if self._writer is not None:
            self._writer.close()
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
        with translated(path):
            self.reader.execute("VACUUM INTO ?", (str(path),))

    def _guard(self) -> None:
        if self._closed:
            raise StoreClosedError(
                f"The Store at {self._path.parent} was closed.", hint="Open it again."
            )
        if self._pid != os.getpid():
            _leaked.extend(reader.connection for reader in self._readers)
            if self._writer is not None:
                _leaked.append(self._writer)
            self._reset()

    @property
    def _writing(self) -> sqlite3.Connection:
        if self._writer is None:
            self._writer = self._connect()
            self._writer.row_factory = sqlite3.Row
        return self._writer

    def _begin(
        self, connection: sqlite3.Connection, durable: bool, deadline: float
    ) -> None:
        level = "FULL" if durable else "NORMAL"
        if level != self._synchronous:
            connection.execute(f"PRAGMA synchronous={level}")
            self._synchronous = level
        # IMMEDIATE: a deferred transaction that reads first fails at its first write
        # if another process wrote in between, whatever the timeout.
        self._retry(connection, "BEGIN IMMEDIATE", deadline)

    def _retry(
        self, connection: sqlite3.Connection, statement: str, deadline: float
    ) -> None:
        while True:
            try:
                connection.execute(statement)
            except sqlite3.OperationalError as error:
                if not _is_busy(error) or time.monotonic() > deadline:
                    raise
                _wait_for_turn()
            else:
                return

    def _connect(self) -> _Connection:
        forks.take_over(self._path)
        with translated(self._path):
            connection = _open(f"file:{_quoted(self._path)}?mode=rw")
            deadline = time.monotonic() + LOCK_TIMEOUT
            self._retry(connection, "PRAGMA foreign_keys=ON", deadline)
            mode = "WAL" if self._wal else "DELETE"
            self._retry(connection, f"PRAGMA journal_mode={mode}", deadline)
            connection.execute("PRAGMA wal_autocheckpoint=0")
            return connection

    def _open_read_only(self) -> _Connection:
        """Open a Catalog that cannot be written, by the safest way that works.

        ``immutable`` beside a non-empty -wal would miss its commits, so such a pair is
        copied aside by a child process, which holds no locks that it could drop.
        """
        wal = Path(f"{self._path}-wal")
        has_wal = wal.exists() and wal.stat().st_size > 0
        with translated(self._path):
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
            # PASSIVE waits for nobody, so busy writers never let it finish: beyond a
            # bound RESTART makes the next writer wait for a moment.
            mode = "RESTART" if size > 4 * CHECKPOINT_BYTES else "PASSIVE"
            self._checkpoint(connection, mode)

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


class _Connection(sqlite3.Connection):
    """A connection; as a reader it waits for its turn and raises errors of ours.

    With a rollback journal (network disks) a writer keeps readers out for moments.

    Attributes:
        path: The Catalog, on a reader; None on the writer, whose errors `transaction`
            translates.
    """

    path: Path | None = None

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        """Run one statement."""
        if self.path is None:
            return super().execute(*arguments)
        deadline = time.monotonic() + LOCK_TIMEOUT
        with translated(self.path):
            while True:
                try:
                    return super().execute(*arguments)
                except sqlite3.OperationalError as error:
                    if not _is_busy(error) or time.monotonic() > deadline:
                        raise
                    _wait_for_turn()


def _is_busy(error: sqlite3.OperationalError) -> bool:
    return error.sqlite_errorcode & 0xFF in (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
    )


def _wait_for_turn() -> None:
    # SQLite's own busy handler sleeps ever longer and starves a waiter for seconds;
    # short random sleeps give everyone a turn.
    time.sleep(0.001 + 0.009 * os.urandom(1)[0] / 255)


class _Reader:
    """A thread's connection: closed with the thread, but never in a forked child.

    There the close would take itself for the last one, and remove the WAL.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self._pid = os.getpid()

    def __del__(self) -> None:
        if self._pid == os.getpid():
            self.connection.close()
        else:
            _leaked.append(self.connection)


def _open(uri: str) -> _Connection:
    connection = sqlite3.connect(  # noqa: TID251 - the one place
        uri,
        uri=True,
        timeout=0,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
        factory=_Connection,
    )
    connection.execute("PRAGMA cell_size_check=ON")
    return connection


def create(path: Path, script: Callable[[sqlite3.Connection], None]) -> None:
    """Make a database file, private to its owner, and fill it; durable on return.

    Only for a file that no other process can know of yet.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    os.close(fd)
    with translated(path):
        connection = _open(f"file:{_quoted(path)}?mode=rw")
        try:
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("BEGIN IMMEDIATE")
            script(connection)
            connection.execute("COMMIT")
        finally:
            connection.close()


def stamp_of(path: Path) -> tuple[int, int]:
    """(user_version, application_id) of a database, read without changing it."""
    with translated(path):
        connection = _open(f"file:{_quoted(path)}?mode=rw")
        connection.path = path
        try:
            return read_stamp(connection)
        finally:
            connection.close()


def read_stamp(connection: sqlite3.Connection) -> tuple[int, int]:
    """(user_version, application_id) of the database behind a connection."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    owner = connection.execute("PRAGMA application_id").fetchone()[0]
    return version, owner


def _quoted(path: Path) -> str:
    from urllib.parse import quote

    return quote(os.fsencode(path))


@contextmanager
def translated(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
        # A named constraint, of which the noun's module says what it means; or a
        # mistake of ours, which nobody should take for the Store's.
        raise
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
