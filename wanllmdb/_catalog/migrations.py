"""Creating a Catalog and bringing an older one to this version.

Under ``migrate.lock``: of many processes that open a fresh Store at once, one
creates it and the others wait.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from wanllmdb import _clock, _files, _ids, _locks
from wanllmdb._catalog.connection import Database, create_empty
from wanllmdb._catalog.schema import APPLICATION_ID, SCHEMA, SCHEMA_VERSION
from wanllmdb.errors import MigrationError, NewerStoreError, StoreLockedError

MIGRATIONS: dict[int, str] = {}
"""SQL that leads from each older version to the next one."""

_WAIT_SECONDS = 60.0


def prepare(database: Database, path: Path, lock_dir: Path) -> None:
    """Create or migrate the Catalog behind `database`, if it needs that.

    Raises:
        NewerStoreError: a newer wanllmdb wrote it.
        StoreLockedError: another process has been migrating it for a minute.
    """
    if path.exists() and version_of(database.reader, path) == SCHEMA_VERSION:
        return
    lock = _locks.acquire(lock_dir / "migrate.lock", _WAIT_SECONDS)
    if lock is None:
        raise StoreLockedError(
            f"Another process has been migrating {path} for {_WAIT_SECONDS:.0f} s.",
            hint="Wait for it, or end it: a migration can be interrupted safely.",
        )
    with lock:
        create_empty(path)
        version = version_of(database.reader, path)
        if version == SCHEMA_VERSION:
            return
        if version:
            _back_up(database, path, version)
        _apply(database, version)


def version_of(connection: sqlite3.Connection, path: Path) -> int:
    """The schema version of an open Catalog, 0 for an empty file.

    Raises:
        NewerStoreError: it is newer than this library.
        MigrationError: the file is some other application's database.
    """
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    owner: int = connection.execute("PRAGMA application_id").fetchone()[0]
    if version and owner != APPLICATION_ID:
        raise MigrationError(
            f"{path} is another application's database.",
            hint="Point WANLLMDB_DIR at another directory.",
        )
    if version > SCHEMA_VERSION:
        raise NewerStoreError(
            f"{path} has format {version}; this wanllmdb knows {SCHEMA_VERSION}.",
            hint="Upgrade wanllmdb: pip install -U wanllmdb",
        )
    return version


def _back_up(database: Database, path: Path, version: int) -> None:
    draft = path.parent / "tmp" / f"backup-{_ids.op_id()}.db"
    database.backup_to(draft)
    draft.rename(path.parent / f"catalog.v{version}.backup.db")
    _files.fsync_dir(path.parent)


def _apply(database: Database, version: int) -> None:
    with database.transaction(durable=True) as connection:
        if version == 0:
            _run_script(connection, SCHEMA)
            connection.executemany(
                "INSERT INTO meta VALUES (?, ?)",
                [
                    ("store_uid", _ids.uid()),
                    ("device", _ids.uid()),
                    ("created_us", str(_clock.now_us())),
                    ("hlc", "0"),
                ],
            )
        else:
            for step in range(version, SCHEMA_VERSION):
                _run_script(connection, MIGRATIONS[step])
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")


def _run_script(connection: sqlite3.Connection, script: str) -> None:
    # executescript() would commit the transaction first.
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""
