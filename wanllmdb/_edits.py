"""What people change from outside a run: config, summary, names, tags, the trash.

Each is one durable transaction with its event; a change of the summary stands in the
run's log too, so that it is there when the log is summed up again.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from wanllmdb import _changes, _clock, _files, _ids
from wanllmdb._catalog import events, runs, sealed
from wanllmdb._liveness import refuse_live
from wanllmdb._metrics.summary import DELETED
from wanllmdb._metrics.writer import StreamWriter
from wanllmdb._store import Store, operation
from wanllmdb.errors import StateError
from wanllmdb.types import JSONValue, Kind, RunRecord, State, StreamIdentity


@operation("edit config")
def change_config(
    store: Store,
    pk: int,
    new: Mapping[str, JSONValue],
    removed: Iterable[str] = (),
    *,
    durable: bool = True,
) -> dict[str, JSONValue]:
    """Set and remove keys of a run's config; return it whole.

    Keys that others changed in the meantime stay as they are.
    """
    with store.catalog.transaction(durable=durable) as connection:
        record = runs.read(connection, pk)
        before = store.data.load_json(record, "config")
        after = {**before, **new}
        for key in removed:
            after.pop(key, None)
        changed = _changes.keys(before, after)
        if changed:
            store.data.write_json(connection, pk, "config", after)
            events.record(
                connection, "config", "run", record.uid,
                before={k: before[k] for k in changed if k in before},
                after={k: after[k] for k in changed if k in after},
            )  # fmt: skip
            names = [f"config.{key}" for key in changed]
            events.touch_fields(connection, "run", record.uid, names)
    return after


@operation("edit summary")
def change_summary(store: Store, pk: int, new: Mapping[str, JSONValue]) -> None:
    """Set keys of a run's summary; `DELETED` as a value removes one."""
    record = runs.read(store.catalog.reader, pk)
    _log_summary(store, record, new)
    with store.catalog.transaction(durable=True) as connection:
        record = runs.read(connection, pk)
        before = store.data.load_json(record, "summary")
        after = {k: v for k, v in {**before, **new}.items() if v != DELETED}
        store.data.write_json(connection, pk, "summary", after)
        events.record(
            connection, "summary", "run", record.uid,
            before={key: before.get(key) for key in new}, after=dict(new),
        )  # fmt: skip
        names = [f"summary.{key}" for key in new]
        events.touch_fields(connection, "run", record.uid, names)
    if record.state is not State.RUNNING:
        store.compact_run(record)


def _log_summary(store: Store, record: RunRecord, new: Mapping[str, JSONValue]) -> None:
    def fail(error: OSError) -> None:
        raise error

    identity = StreamIdentity(_ids.stream_token(), record.epoch, "edit")
    directory = store.run_dir(record.uid)
    for last in (False, True):
        _files.make_private_dir(directory)
        writer = StreamWriter(
            directory, identity, Kind.EDITS, on_fault=fail,
            spill=lambda text: store.data.spill(record.pk, text),
        )  # fmt: skip
        try:
            writer.write_summary(new)
            writer.close()
            break
        except FileNotFoundError:  # swept away just now, as an ended run's directory
            if last:
                raise
    store.logs.sync(record.uid)


@operation("edit run")
def change_fields(
    store: Store, record: RunRecord, changes: Mapping[str, str | None]
) -> RunRecord:
    """Change name, notes, group or job type; return the run as it is then."""
    with store.catalog.transaction(durable=True) as connection:
        runs.update(connection, record, changes)
    return runs.read(store.catalog.reader, record.pk)


@operation("edit tags")
def change_tags(
    store: Store, record: RunRecord, add: Sequence[str], remove: Sequence[str] = ()
) -> RunRecord:
    """Add and remove tags; return the run as it is then."""
    with store.catalog.transaction(durable=True) as connection:
        before = runs.read(connection, record.pk).tags
        runs.remove_tags(connection, record.pk, remove)
        runs.add_tags(connection, record.pk, add)
        after = runs.read(connection, record.pk).tags
        if before != after:
            events.record(
                connection, "tags", "run", record.uid,
                before=list(before), after=list(after),
            )  # fmt: skip
            events.touch_fields(connection, "run", record.uid, ["tags"])
    return runs.read(store.catalog.reader, record.pk)


def set_tags(store: Store, record: RunRecord, tags: Sequence[str]) -> RunRecord:
    """Replace the tags that `record` knows of by others; return the run then."""
    added = [tag for tag in tags if tag not in record.tags]
    return change_tags(store, record, added, [t for t in record.tags if t not in tags])


@operation("delete run")
def delete_run(store: Store, record: RunRecord) -> RunRecord:
    """Move a run to the trash.

    Raises:
        RunActiveError: it is being written.
    """
    with store.catalog.transaction(durable=True) as connection:
        refuse_live(store.liveness, [record])
        runs.set_deleted(connection, record, deleted=True)
    return runs.read(store.catalog.reader, record.pk)


@operation("restore run")
def restore_run(store: Store, record: RunRecord) -> RunRecord:
    """Bring a run back from the trash, and its project with it."""
    with store.catalog.transaction(durable=True) as connection:
        runs.set_deleted(connection, record, deleted=False)
    return runs.read(store.catalog.reader, record.pk)


@operation("restore epoch")
def restore_epoch(store: Store, record: RunRecord, number: int) -> RunRecord:
    """Show again what later epochs superseded, and hide these.

    Raises:
        RunActiveError: the run is being written.
    """
    now = _clock.now_us()
    epochs = [
        replace(e, reverted_us=None if e.number <= number else e.reverted_us or now)
        for e in runs.epochs(store.catalog.reader, record.pk)
    ]
    numbers = store.numbers(record, store.logs.sums(record, epochs), epochs)
    with store.catalog.transaction(durable=True) as connection:
        refuse_live(store.liveness, [record])
        runs.revert_epochs(connection, record, number)
        store.write_numbers(connection, record.pk, numbers)
    return runs.read(store.catalog.reader, record.pk)


@operation("purge run")
def purge_run(store: Store, record: RunRecord) -> None:
    """Remove a run in the trash for good, with its log.

    Raises:
        StateError: it is not in the trash.
        RunActiveError: it is being written.
        ConflictError: a fork of it shows some of its rows.
    """
    with store.catalog.transaction(durable=True) as connection:
        now = runs.read(connection, record.pk)
        if now.deleted_us is None:
            raise StateError(
                f"Run {now.project}/{now.run_id} is not in the trash.",
                hint="Move it there first.",
            )
        refuse_live(store.liveness, [now])
        runs.purge(connection, now)
        sealed.retire_empty(connection)
    shutil.rmtree(store.run_dir(record.uid), ignore_errors=True)
