"""Runs whose writers died: what readers and the next `init` make of them.

Whoever comes by first takes the run's recovery lock, reads its log, and gives it its
end and its summary in one durable transaction. Interrupted, it leaves the run as it
was, for the next one.
"""

from __future__ import annotations

from wanllmdb import _locks, _observers
from wanllmdb._catalog import events, runs, streams
from wanllmdb._store import Store
from wanllmdb.types import RunRecord, State


def recover_dead(store: Store, project: str | None = None) -> list[RunRecord]:
    """Give every run whose writers died its end and its summary.

    Runs that live are left alone, and so is all of a read-only Store.

    Returns:
        The runs recovered now.
    """
    if store.read_only:
        return []
    running = runs.find_many(
        store.catalog.reader, project=project, condition={"state": "running"}
    )
    return [record for record in running if recover(store, record)]


def recover(store: Store, record: RunRecord, wait_seconds: float = 0.0) -> bool:
    """Set a dead run `crashed`, with the summary that its log comes to.

    Args:
        store: Its Store.
        record: The run.
        wait_seconds: How long to wait for another process that recovers it now.

    Returns:
        False if a process lives that writes to it, or another one recovers it.
    """
    if record.state is not State.RUNNING or store.read_only or store.is_live(record):
        return False
    path = store.lock_dir / f"recover-{record.uid}.lock"
    lock = _locks.acquire(path, wait_seconds)
    if lock is None:
        return False
    try:
        current = runs.read(store.catalog.reader, record.pk)
        if current.state is not State.RUNNING or store.is_live(current):
            return False
        with store.operation(f"recover {current.project}/{current.run_id}"):
            if not _end_if_all_closed(store, current):
                _set_crashed(store, current)
    finally:
        lock.release(unlink=True)
    ended = runs.read(store.catalog.reader, record.pk)
    if ended.state is State.CRASHED:
        _observers.notify("crash", ended, store.debug.survived)
    return True


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
    return all(end.closed for end in ends) and store.end_if_left(record.pk)


def _set_crashed(store: Store, record: RunRecord) -> None:
    store.ingest_files(record)
    fold, damage = store.logs.fold(record)
    fences = store.logs.fences(record)
    with store.catalog.transaction(durable=True) as connection:
        if not store.is_left(connection, record):
            return  # its owner finished, or somebody has gone on with it
        store.write_numbers(connection, record, fold, damage)
        streams.set_fences(connection, fences)
        runs.set_ended(
            connection, record.pk, State.CRASHED,
            ended_us=fold.last_us or record.started_us,
        )  # fmt: skip
        events.record(connection, "crash", "run", record.uid, after=fold.last_step)
    for path in store.lock_files(record.uid):
        if not _locks.is_held(path):
            path.unlink(missing_ok=True)
