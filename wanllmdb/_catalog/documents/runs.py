"""Runs: what is said of them, their attempts, and one run that two laptops extended.

The attempts of a run are a chain. Where two laptops went on from the same one, the
attempt that began first stays, by (time, device); the other branch becomes a run of
its own, a fork of the first, with a uid that every laptop derives alike.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence
from dataclasses import astuple
from typing import Any, NamedTuple

from wanllmdb import _json
from wanllmdb._catalog import events, registers, values
from wanllmdb._catalog import runs as run_rows
from wanllmdb._catalog.documents import projects, versions
from wanllmdb._catalog.documents.merge import (
    Deferred,
    Documents,
    Merge,
    Reader,
    short,
)
from wanllmdb.types import ALL_STEPS_SUPERSEDED, KeyStats, Kind, RunRecord, RunRef

_SAID = {
    "name": "name", "notes": "notes", "group": "run_group", "job_type": "job_type",
    "run_id": "given_id", "deleted": "deleted_us",
}  # fmt: skip
"""Registers, and the columns that they are."""

_RECORD = (
    "state", "exit_code", "error", "started_us", "ended_us", "last_step", "host", "pid",
    "identity", "dropped_rows", "coerced_values", "damage",
)  # fmt: skip
"""Columns that the register `record` holds as they are."""

_LISTS = {
    "epochs": (
        "epoch", "epoch, device, kind, keep_step, first_step, started_us, ended_us,"
        " host, pid, reverted_us, job", "epoch",
    ),
    "streams": (
        "stream", "token, epoch, writer, creator, opened_us, closed_us, state,"
        " exit_code, error", "token",
    ),
    "definitions": ("metric_definition", "epoch, position, glob, options", "1, 2, 3"),
    "files": (
        "run_file", "path, digest, size, policy, source, mtime_ns, saved_us", "path",
    ),
    "blobs": ("run_blob", "digest", "digest"),
    "alerts": ("alert", "title, text, level, raised_us, step", "raised_us, 1, 2, 3"),
}  # fmt: skip
"""What a run has several of: the table, its columns, and their order."""


def read(reader: Reader, uid: str) -> Documents | None:
    """The document of a run."""
    connection = reader.connection
    pk = run_rows.find_uid(connection, uid)
    if pk is None:
        return None
    row = connection.execute(
        "SELECT run.*, project.uid AS project FROM run"
        " JOIN project ON project.id = project_id WHERE run.id = ?",
        (pk,),
    ).fetchone()
    record = run_rows.read(connection, pk)
    document = {
        "entity": "run", "uid": uid, "project": row["project"],
        "created_us": row["created_us"], "parent": _parent(record),
        "fields": registers.document(
            connection, "run", uid, _values(reader, row, record)
        ),
        "tags": registers.tags(connection, "run", uid),
        "rows": [[*key, *held] for key, held in sorted(reader.rows(uid).items())],
    }  # fmt: skip
    for name, (table, columns, order) in _LISTS.items():
        found = connection.execute(
            f"SELECT {columns} FROM {table} WHERE run_id = ? ORDER BY {order}", (pk,)
        )
        document[name] = [list(each) for each in found]
    # Fields hold config and summary; as blobs they may be written in another order.
    own = {row["config_blob"], row["summary_blob"]}
    document["blobs"] = [each for each in document["blobs"] if each[0] not in own]
    return document


def _parent(record: RunRecord) -> dict[str, Any] | None:
    parent = record.parent
    if parent is None:
        return None
    return {
        "uid": parent.uid, "epoch": parent.epoch, "step": parent.step,
        "marks": dict(sorted(parent.marks.items())),
    }  # fmt: skip


def _values(reader: Reader, row: sqlite3.Row, record: RunRecord) -> dict[str, Any]:
    config = reader.data.load_json(record, "config")
    keys = values.read_keys(reader.connection, record.pk)
    return {
        **{name: row[column] for name, column in _SAID.items()},
        "run_id": row["given_id"] or row["run_id"],
        **{f"config.{key}": value for key, value in config.items()},
        "record": {
            **{name: row[name] for name in _RECORD},
            "environment": _json.loads(row["environment"]),
            "summary": reader.data.load_json(record, "summary"),
            "keys": [[key, *astuple(stats)] for key, stats in keys.items()],
        },
    }  # fmt: skip


# Merging


def merge(context: Merge, document: Documents) -> None:
    """Merge a run.

    Raises:
        Deferred: its project, or what it was forked from, is not known; or it is being
            written here and was extended elsewhere.
    """
    connection, uid = context.connection, document["uid"]
    if "gone" in document:
        _to_trash(context, document)
        return
    project = projects.key_of(connection, document["project"])
    if project is None:
        raise Deferred(f"run {uid} is of a project that is not known")
    pk = run_rows.find_uid(connection, uid)
    if pk is None:
        pk = _insert(context, project, document)
        versions.link(connection, "run", uid)
        mine: Documents = {"fields": {}, "epochs": [], "rows": []}
    else:
        found = read(context.reader, uid)
        assert found is not None
        mine = found
    document, follows = _one_chain(context, pk, mine, document)
    theirs = registers.later(mine["fields"], document["fields"])
    if follows is not None:  # the longer chain knows more, whatever the clocks say
        theirs.pop("record", None)
        if follows:
            theirs["record"] = document["fields"]["record"]
    registers.put(connection, "run", uid, theirs)
    _merge_lists(context, pk, document, whole="record" in theirs)
    _say(context, pk, theirs)
    registers.merge_tags(connection, "run", uid, pk, document["tags"])
    _undelete(context, pk, uid)
    settle_id(context, pk)
    if _lacks_rows(context, pk, document):
        context.recount.add(uid)


def _insert(context: Merge, project: int, document: Documents) -> int:
    connection, parent = context.connection, document["parent"]
    held = None
    if parent is not None:
        held = run_rows.find_uid(connection, parent["uid"])
        if held is None:
            raise Deferred(f"run {document['uid']} is a fork of one that is not known")
    fields, record = document["fields"], document["fields"]["record"]["v"]
    cursor = connection.execute(
        "INSERT INTO run (uid, project_id, run_id, given_id, name, created_us,"
        " started_us, updated_us, host, pid, parent_id, parent_epoch, parent_step,"
        " parent_marks) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            document["uid"], project, f"@{document['uid']}", fields["run_id"]["v"],
            fields["name"]["v"], document["created_us"], record["started_us"],
            document["created_us"], record["host"], record["pid"], held,
            parent and parent["epoch"], parent and parent["step"],
            parent and _json.dumps(parent["marks"]),
        ),
    )  # fmt: skip
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def _say(context: Merge, pk: int, theirs: registers.Fields) -> None:
    connection = context.connection
    for name, column in _SAID.items():
        if name in theirs:
            connection.execute(
                f"UPDATE run SET {column} = ? WHERE id = ?", (theirs[name]["v"], pk)
            )
    config = {
        name.removeprefix("config."): field
        for name, field in theirs.items() if name.startswith("config.")
    }  # fmt: skip
    if config:
        record = run_rows.read(connection, pk)
        after = context.data.load_json(record, "config")
        for key, field in config.items():
            after.pop(key, None)
            if "v" in field:
                after[key] = field["v"]
        context.data.write_json(connection, pk, "config", after)
    if "record" in theirs:
        _take_record(context, pk, theirs["record"]["v"])
    latest = max((field["at"] for field in theirs.values()), default=0)
    connection.execute(
        "UPDATE run SET updated_us = max(updated_us, ?) WHERE id = ?", (latest, pk)
    )


def _take_record(context: Merge, pk: int, record: dict[str, Any]) -> None:
    connection = context.connection
    columns = ", ".join(f"{name} = ?" for name in _RECORD)
    connection.execute(
        f"UPDATE run SET {columns}, environment = ?, epoch ="
        " (SELECT coalesce(max(epoch), 1) FROM epoch WHERE run_id = run.id)"
        " WHERE id = ?",
        (
            *(record[name] for name in _RECORD), _json.dumps(record["environment"]),
            pk,
        ),
    )  # fmt: skip
    context.data.write_json(connection, pk, "summary", record["summary"])
    stats = {key: KeyStats(*fields) for key, *fields in record["keys"]}
    rows = connection.execute(
        "SELECT glob FROM metric_definition WHERE run_id = ?", (pk,)
    )
    defined = [row[0] for row in rows]
    values.set_keys(connection, pk, values.key_rows(stats, defined))


def _merge_lists(context: Merge, pk: int, document: Documents, *, whole: bool) -> None:
    """Join what a run has several of.

    Args:
        context: The batch.
        pk: The run.
        document: What the remote says.
        whole: Whether its record was taken over: then its attempts' ends are, too.
    """
    connection = context.connection
    replacing = "OR REPLACE" if whole else "OR IGNORE"
    for name in ("epochs", "streams", "definitions"):
        table, columns, _ = _LISTS[name]
        marks = ", ".join("?" * len(columns.split(", ")))
        connection.executemany(
            f"INSERT {replacing} INTO {table} (run_id, {columns}) VALUES (?, {marks})",
            [(pk, *row) for row in document[name]],
        )
    connection.executemany(
        "INSERT INTO run_file VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET digest = excluded.digest, size = excluded.size,"
        " policy = excluded.policy, source = excluded.source,"
        " mtime_ns = excluded.mtime_ns, saved_us = excluded.saved_us"
        " WHERE (excluded.saved_us, excluded.digest) > (saved_us, digest)",
        [(pk, *row) for row in document["files"]],
    )
    connection.executemany(
        "INSERT OR IGNORE INTO run_blob VALUES (?, ?)",
        [(pk, *row) for row in document["blobs"]],
    )
    connection.executemany(
        "INSERT INTO alert (run_id, title, text, level, raised_us, step)"
        " SELECT :pk, :title, :text, :level, :raised, :step WHERE NOT EXISTS"
        " (SELECT 1 FROM alert WHERE run_id = :pk AND title = :title"
        " AND text = :text AND raised_us = :raised)",
        [
            dict(zip(("pk", "title", "text", "level", "raised", "step"), (pk, *row),
                     strict=True))
            for row in document["alerts"]
        ],
    )  # fmt: skip


def _undelete(context: Merge, pk: int, uid: str) -> None:
    """Work that is later than a removal brings a run back."""
    connection = context.connection
    stamps = registers.stamps(connection, "run", uid)
    deleted = stamps.get("deleted", registers.NEVER)
    worked = stamps.get("record", registers.NEVER)
    row = connection.execute("SELECT deleted_us FROM run WHERE id = ?", (pk,))
    if row.fetchone()[0] is None or worked <= deleted:
        return
    connection.execute("UPDATE run SET deleted_us = NULL WHERE id = ?", (pk,))
    registers.put(
        connection, "run", uid, {"deleted": {"at": worked.hlc, "by": worked.device}}
    )
    path = run_rows.read(connection, pk).path
    events.record(
        connection, "restore", "run", uid, reason="it was gone on with elsewhere"
    )
    context.notices.append(
        f"Run {path} is out of the trash: it was gone on with after it was removed."
    )


def _to_trash(context: Merge, document: Documents) -> None:
    """What another laptop removed for good, goes to the trash here."""
    connection, uid, gone = context.connection, document["uid"], document["gone"]
    pk = run_rows.find_uid(connection, uid)
    if pk is None:
        return
    stamps = registers.stamps(connection, "run", uid)
    stamp = registers.Stamp(gone["at"], gone["by"])
    if stamp <= max(
        stamps.get("record", registers.NEVER), stamps.get("deleted", registers.NEVER)
    ):
        return
    connection.execute(
        "UPDATE run SET deleted_us = coalesce(deleted_us, ?) WHERE id = ?",
        (gone["at"], pk),
    )
    registers.put(connection, "run", uid, {"deleted": gone})


def settle_id(context: Merge, pk: int) -> None:
    """Give an id to one of the runs of a project that have it: the first one made."""
    connection = context.connection
    project, wanted = connection.execute(
        "SELECT project_id, coalesce(given_id, run_id) FROM run WHERE id = ?", (pk,)
    ).fetchone()
    wanting = connection.execute(
        "SELECT id, uid, run_id, given_id FROM run WHERE project_id = ?"
        " AND coalesce(given_id, run_id) = ? ORDER BY created_us, uid",
        (project, wanted),
    ).fetchall()
    for place, row in reversed(list(enumerate(wanting))):
        # Not by its device: a branch of a run shows as ID@DEVICE.
        shown = f"{wanted}@{row['uid'][-6:]}" if place else wanted
        given = wanted if place else None
        if (row["run_id"], row["given_id"]) != (shown, given):
            connection.execute(
                "UPDATE run SET run_id = ?, given_id = ? WHERE id = ?",
                (shown, given, row["id"]),
            )
        if place:
            context.conflict(
                "run id", "run", row["uid"], shown, wanted,
                f"Two laptops made a run {wanted!r}: the later one shows as {shown!r};"
                f" `wanllmdb run resolve {shown} --id NEW` settles it.",
            )  # fmt: skip


def _lacks_rows(context: Merge, pk: int, document: Documents) -> bool:
    """Whether a run has rows here that a document's summary does not count."""
    counted = {(token, kind): count for token, kind, _, count in document["rows"]}
    rows = context.connection.execute(
        "SELECT token, kind, rows FROM watermark AS mine WHERE run_id = ? AND NOT"
        " EXISTS (SELECT 1 FROM watermark WHERE token = mine.token"
        " AND run_id != mine.run_id)",  # such a stream is another run's now
        (pk,),
    )
    return any(
        count > counted.get((token, kind), -1)
        for token, kind, count in rows.fetchall()
        if kind in (Kind.METRICS, Kind.EDITS)
    )


# One run, extended by two laptops


def _one_chain(
    context: Merge, pk: int, mine: Documents, theirs: Documents
) -> tuple[Documents, bool | None]:
    """Let a run have one chain of attempts.

    Returns:
        What is to be merged into the run itself; and whether that continues what is
        here: None where both have the same attempts.
    """
    ours, others = mine["epochs"], theirs["epochs"]
    place = _parting(ours, others)
    if place == len(ours) == len(others) or not ours:
        return theirs, None
    if place == len(ours) or place == len(others):
        return theirs, place == len(ours)
    record = run_rows.read(context.connection, pk)
    if context.is_live(record):
        raise Deferred(
            f"run {record.path} was extended on another laptop, and is being written"
        )
    if _began(ours[place]) < _began(others[place]):
        _merge_branch(context, record, theirs, place)
        return _until(theirs, others[place][0]), False
    _split_branch(context, record, mine, place)
    return theirs, True


def branches(connection: sqlite3.Connection, document: Documents) -> dict[str, RunRef]:
    """Where the rows of a document's streams go that lost against what is here.

    Returns:
        The run that each such stream is part of, by the stream.
    """
    parted = _parted(connection, document)
    if parted is None or not parted.mine_stays:
        return {}
    made = _branch(document, parted.place)
    ref = RunRef(made["uid"], made["fields"]["run_id"]["v"])
    return {row[0]: ref for row in made["streams"]}


def losing(
    connection: sqlite3.Connection, document: Documents
) -> tuple[int, set[str], RunRef] | None:
    """What of a run here loses against a document.

    Returns:
        The run's key, the streams that become another run's, and that run.
    """
    parted = _parted(connection, document)
    if parted is None or parted.mine_stays:
        return None
    epoch = parted.ours[parted.place]
    (wanted,) = connection.execute(
        "SELECT coalesce(given_id, run_id) FROM run WHERE id = ?", (parted.pk,)
    ).fetchone()
    ref = RunRef(branch_uid(document["uid"], epoch), _branch_id(wanted, epoch))
    return parted.pk, _tokens_from(connection, parted.pk, epoch[0]), ref


class _Parted(NamedTuple):
    """A run that two laptops extended: its chains here and there, and where they part.

    `mine_stays` says whose attempt began first.
    """

    pk: int
    ours: list[list[Any]]
    place: int
    mine_stays: bool


def _parted(connection: sqlite3.Connection, document: Documents) -> _Parted | None:
    pk = run_rows.find_uid(connection, document["uid"])
    if pk is None or "gone" in document:
        return None
    _, columns, order = _LISTS["epochs"]
    rows = connection.execute(
        f"SELECT {columns} FROM epoch WHERE run_id = ? ORDER BY {order}", (pk,)
    )
    ours, others = [list(row) for row in rows], document["epochs"]
    place = _parting(ours, others)
    if place >= min(len(ours), len(others)):
        return None
    return _Parted(pk, ours, place, _began(ours[place]) < _began(others[place]))


def _tokens_from(connection: sqlite3.Connection, pk: int, epoch: int) -> set[str]:
    """The streams of a run from one of its attempts on."""
    rows = connection.execute(
        "SELECT token FROM stream WHERE run_id = :run AND epoch >= :epoch"
        " UNION SELECT token FROM watermark WHERE run_id = :run AND epoch >= :epoch",
        {"run": pk, "epoch": epoch},
    )
    return {row[0] for row in rows}


def _parting(ours: Sequence[Sequence[Any]], others: Sequence[Sequence[Any]]) -> int:
    """How many attempts two chains have in common."""
    place = 0
    for one, other in zip(ours, others, strict=False):
        if (one[0], *_began(one)) != (other[0], *_began(other)):
            break
        place += 1
    return place


def _began(epoch: Sequence[Any]) -> tuple[int, str]:
    return epoch[5], epoch[1]


def branch_uid(uid: str, epoch: Sequence[Any]) -> str:
    """The uid of the run that a branch becomes: the same on every laptop."""
    text = f"branch:{uid}/{epoch[0]}/{epoch[1]}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _branch_id(run_id: str, epoch: Sequence[Any]) -> str:
    return f"{run_id}@{short(epoch[1])}"


def _branch(document: Documents, place: int) -> Documents:
    """The document of the run that a branch becomes."""
    epoch = document["epochs"][place]
    number = epoch[0]
    earlier = {row[0] for row in document["streams"] if row[1] < number}
    marks = {
        token: count for token, kind, _, count in document["rows"]
        if token in earlier and kind == Kind.METRICS
    }  # fmt: skip
    overwrites = epoch[3] == ALL_STEPS_SUPERSEDED
    wanted = document["fields"]["run_id"]
    return {
        **document,
        "uid": branch_uid(document["uid"], epoch),
        "created_us": epoch[5],
        "parent": {
            "uid": document["uid"], "epoch": number - 1,
            "step": -1 if overwrites else epoch[4] - 1, "marks": marks,
        },
        "fields": {
            **document["fields"],
            "run_id": {**wanted, "v": _branch_id(wanted["v"], epoch)},
        },
        "epochs": document["epochs"][place:],
        "streams": [row for row in document["streams"] if row[1] >= number],
        "definitions": [row for row in document["definitions"] if row[0] >= number],
        "rows": [row for row in document["rows"] if row[0] not in earlier],
    }  # fmt: skip


def _until(document: Documents, number: int) -> Documents:
    """A document without a branch that is another run now."""
    left = {row[0] for row in document["streams"] if row[1] < number}
    return {
        **document,
        "epochs": [row for row in document["epochs"] if row[0] < number],
        "streams": [row for row in document["streams"] if row[1] < number],
        "definitions": [row for row in document["definitions"] if row[0] < number],
        "rows": [row for row in document["rows"] if row[0] in left],
    }


def _merge_branch(
    context: Merge, record: RunRecord, theirs: Documents, place: int
) -> None:
    """What another laptop did, and lost, becomes a run here."""
    made = _branch(theirs, place)
    merge(context, made)
    _tell(context, record, made, theirs["epochs"][place])


def _split_branch(
    context: Merge, record: RunRecord, mine: Documents, place: int
) -> None:
    """What was done here, and lost, becomes a run of its own."""
    connection = context.connection
    held = connection.execute(
        "SELECT token, kind, rows, rows FROM watermark WHERE run_id = ?", (record.pk,)
    )
    made = _branch({**mine, "rows": [list(row) for row in held]}, place)
    number = mine["epochs"][place][0]
    tokens = _tokens_from(connection, record.pk, number)
    connection.execute(
        "DELETE FROM epoch WHERE run_id = ? AND epoch >= ?", (record.pk, number)
    )
    connection.execute(
        "DELETE FROM metric_definition WHERE run_id = ? AND epoch >= ?",
        (record.pk, number),
    )
    connection.executemany(
        "DELETE FROM stream WHERE token = ?", [(token,) for token in tokens]
    )
    merge(context, made)
    pk = run_rows.find_uid(connection, made["uid"])
    assert pk is not None
    context.split(record, tokens, run_rows.read(connection, pk))
    _tell(context, record, made, mine["epochs"][place])


def _tell(
    context: Merge, record: RunRecord, made: Documents, epoch: Sequence[Any]
) -> None:
    pk = run_rows.find_uid(context.connection, made["uid"])
    assert pk is not None
    branch = run_rows.read(context.connection, pk)
    context.conflict(
        "run", "run", branch.uid, branch.run_id, record.run_id,
        f"Two laptops went on with run {record.path}: the attempt of {epoch[7]} that"
        f" began later shows as {branch.path}; `wanllmdb run resolve {branch.run_id}`"
        " tells what can be done.",
    )  # fmt: skip
