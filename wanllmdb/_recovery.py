"""Runs whose writers died: what readers and the next `init` make of them.

Whoever comes by first takes the run's recovery lock, reads its log, and gives it its
end and its summary in one durable transaction. Interrupted, it leaves the run as it
was, for the next one.
"""

from __future__ import annotations

from wanllmdb import _locks, _observers
from wanllmdb._catalog import events, runs, streams
from wanllmdb._compaction import SEALED_AT_ONCE
from wanllmdb._store import Store
from wanllmdb.types import RunRecord, State

READER_SECONDS = 1.0
"""How long a reader waits for a turn to write what it found of a dead run."""


def recover_dead(store: Store, project: str | None = None) -> list[RunRecord]:
    """Give every run whose writers died its end and its summary.

    Runs that live are left alone, and those of other Stores, and all of a read-only
    one.

    Returns:
        The runs recovered now.
    """
    if store.read_only:
        return []
    running = runs.running(store.catalog.reader, project)
    return [record for record in running if recover_quietly(store, record)]


def recover_quietly(store: Store, record: RunRecord) -> bool:
    """Recover a run if that can be done now: a reader goes on without it.

    One sick run, or a Catalog that others keep locked, must not hide the other runs.
    """
    try:
        return recover(store, record)
    except Exception as error:  # noqa: BLE001 - noted, and tried again by the next reader
        store.debug.survived(f"recovery of {record.project}/{record.run_id}", error)
        return False


def recover(store: Store, record: RunRecord, wait_seconds: float = 0.0) -> bool:
    """Set a dead run `crashed`, with the summary that its log comes to.

    Args:
        store: Its Store.
        record: The run.
        wait_seconds: How long to wait for another process that recovers it now.

    Returns:
        False if a process lives that writes to it, another one recovers it, or it is
        another Store's.
    """
    if (
        record.state is not State.RUNNING
        or store.read_only
        or not runs.is_ours(store.catalog.reader, record)
        or store.liveness.is_live(record)
    ):
        return False
    path = store.lock_dir / f"recover-{record.uid}.lock"
    lock = _locks.acquire(path, wait_seconds)
    if lock is None:
        return False
    try:
        current = runs.read(store.catalog.reader, record.pk)
        if not _is_dead(store, current):
            return False
        with store.operation(f"recover {current.project}/{current.run_id}"):
            if not _end_if_all_closed(store, current):
                _set_crashed(store, current, max(wait_seconds, READER_SECONDS))
    finally:
        lock.release(unlink=True)
    ended = runs.read(store.catalog.reader, record.pk)
    store.compact_run(ended, SEALED_AT_ONCE)
    if ended.state is State.CRASHED:
        _observers.notify("crash", ended, store.debug.survived)
    return True


def _is_dead(store: Store, record: RunRecord) -> bool:
    return record.state is State.RUNNING and not store.liveness.is_live(record)


def recheck_fence(store: Store, record: RunRecord) -> bool:
    """Return a run to `running` if its log grew after it was called crashed.

    Whatever a lock said (a network disk may lie), a file that grows has a writer.
    """
    if record.state is not State.CRASHED or store.read_only:
        return False
    fenced = streams.fences(store.catalog.reader, record.pk)
    now = {token: (seq, size) for seq, size, token in store.logs.fences(record)}
    if all(now.get(token, (0, 0)) <= (seq, size) for seq, size, token in fenced):
        return False
    with store.catalog.transaction(durable=False) as connection:
        runs.revive(connection, record)
    return True


def _end_if_all_closed(store: Store, record: RunRecord) -> bool:
    """End a shared run whose creator finished before its other writers did."""
    ends = streams.ends(store.catalog.reader, record.pk, record.epoch)
    return all(stream.end for stream in ends) and store.end_if_left(record.pk)


def _set_crashed(store: Store, record: RunRecord, timeout: float) -> None:
    store.data.ingest_files(record)
    # Before the sums: what a writer that lives after all adds must lie beyond.
    fences = store.logs.fences(record)
    sums = store.logs.sums(record)
    numbers = store.numbers(record, sums)
    with store.catalog.transaction(durable=True, timeout=timeout) as connection:
        if not store.liveness.is_left(connection, record):
            return  # its owner finished, or somebody has gone on with it
        store.write_numbers(connection, record.pk, numbers)
        streams.set_fences(connection, fences)
        runs.set_crashed(
            connection, record.pk, ended_us=sums.own.last_us or record.started_us
        )
        events.record(connection, "crash", "run", record.uid, after=sums.last_step)
    for path in store.liveness.lock_files(record.uid):
        if not _locks.is_held(path):
            path.unlink(missing_ok=True)
