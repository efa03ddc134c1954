"""Creating a Catalog and bringing an older one to this version.

Under ``migrate.lock``: of many processes that open a fresh Store at once, one
creates it and the others wait.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from wanllmdb import _clock, _files, _ids, _locks
from wanllmdb._catalog.connection import Database, create, stamp_of
from wanllmdb._catalog.schema import (
    APPLICATION_ID,
    ARTIFACTS,
    SCHEMA,
    SCHEMA_VERSION,
    SEALED,
)
from wanllmdb._catalog.schema_sync import SYNC
from wanllmdb.errors import (
    MigrationError,
    NewerStoreError,
    StoreError,
    StoreLockedError,
)

MIGRATIONS: dict[int, str] = {1: SEALED, 2: ARTIFACTS, 3: SYNC}
"""SQL that leads from each older version to the next one."""

_WAIT_SECONDS = 60.0


def prepare(database: Database, path: Path, lock_dir: Path) -> None:
    """Create or migrate the Catalog behind `database`, if it needs that.

    A Catalog is made under tmp/ and renamed into place: no process ever sees one
    without its tables, and none opens the file but through SQLite.

    Raises:
        NewerStoreError: a newer wanllmdb wrote it.
        StoreLockedError: another process has been migrating it for a minute.
    """
    if not _is_absent(path) and check(stamp_of(path), path) == SCHEMA_VERSION:
        return
    lock = _locks.acquire(lock_dir / "migrate.lock", _WAIT_SECONDS)
    if lock is None:
        raise StoreLockedError(
            f"Another process has been migrating {path} for {_WAIT_SECONDS:.0f} s.",
            hint="Wait for it, or end it: a migration can be interrupted safely.",
        )
    with lock:
        if _is_absent(path):
            draft = path.parent / "tmp" / f"catalog-{_ids.op_id()}.db"
            create(draft, _fill_new)
            draft.rename(path)
            _files.fsync_dir(path.parent)
        version = check(stamp_of(path), path)
        if version != SCHEMA_VERSION:
            _back_up(database, path, version)
            _migrate(database, version)


def _is_absent(path: Path) -> bool:
    """Whether there is no Catalog; an empty file is one that was never filled."""
    return not path.exists() or path.stat().st_size == 0


def check(stamp: tuple[int, int], path: Path) -> int:
    """The schema version of a Catalog.

    Args:
        stamp: What `stamp_of` or `read_stamp` read of it.
        path: Where it is.

    Raises:
        NewerStoreError: it is newer than this library.
        MigrationError: the file is some other application's database.
    """
    version, owner = stamp
    if owner != APPLICATION_ID:
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
    _files.write_private(draft, b"")  # VACUUM INTO takes an empty file
    database.backup_to(draft)
    draft.rename(path.parent / f"catalog.v{version}.backup.db")
    _files.fsync_dir(path.parent)


def _fill_new(connection: sqlite3.Connection) -> None:
    for script in (SCHEMA, *MIGRATIONS.values()):
        _run_script(connection, script)
    connection.executemany(
        "INSERT INTO meta VALUES (?, ?)",
        [
            ("store_uid", _ids.uid()),
            ("device", _ids.uid()),
            ("created_us", str(_clock.now_us())),
            ("hlc", "0"),
        ],
    )
    _stamp(connection)


def _migrate(database: Database, version: int) -> None:
    try:
        with database.transaction(durable=True) as connection:
            for step in range(version, SCHEMA_VERSION):
                _run_script(connection, MIGRATIONS[step])
            _stamp(connection)
    except (sqlite3.Error, StoreError) as error:
        raise MigrationError(
            f"The Catalog could not be brought to version {SCHEMA_VERSION}: {error}.",
            hint="It is as it was, and there is a backup beside it.",
        ) from error


def _stamp(connection: sqlite3.Connection) -> None:
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
