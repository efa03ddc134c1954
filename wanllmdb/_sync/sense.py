"""Whether documents say what a Store of ours could have said, beyond their shape.

Names pass the rules that they passed when they were given, uids and digests are such,
times are of this millennium, JSON is bounded: before any of it enters the Catalog.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wanllmdb import _digest, _json, _names
from wanllmdb._manifest import entry_path
from wanllmdb._sync.shapes import Shape, ShapeError, checked
from wanllmdb.types import INT64_MAX

LATEST_US = 32_503_680_000_000_000
"""The year 3000, in microseconds since 1970."""

HIGHEST_NUMBER = 10**9
"""A version's number is below it."""

JSON_BYTES = 1 << 20
"""Of an environment, of an event's values, of a metric's options."""

FIELD_BYTES = 64 << 20
"""Of the value of any other field, as JSON."""

DEEPEST = 200
"""Levels of lists and mappings in each other."""

_UID = re.compile(r"[0-9a-f]{32}\Z")
_TOKEN = re.compile(r"[0-9a-f]{10}\Z")
_WRITER = re.compile(r"[!-~]{1,16}\Z")
_NUMBER, _TEXT = (int, None), (str, None)

_RECORD = Shape({
    "state": str, "exit_code": _NUMBER, "error": _TEXT, "started_us": int,
    "ended_us": _NUMBER, "last_step": _NUMBER, "host": str, "pid": int,
    "identity": str, "dropped_rows": int, "coerced_values": int, "damage": _TEXT,
    "environment": dict, "summary": dict, "keys": [list],
})  # fmt: skip

_FIELDS: Mapping[str, Mapping[str, Any]] = {
    "project": {"name": str, "deleted": _NUMBER},
    "artifact": {
        "name": str, "type": str, "description": _TEXT, "first_version": int,
    },
    "version": {"description": _TEXT, "ttl_us": _NUMBER, "deleted": _NUMBER},
    "model": {
        "name": str, "description": _TEXT, "single_holder": bool, "deleted": _NUMBER,
    },
    "model_version": {
        "description": _TEXT, "metadata": dict, "tags": [str],
        "stage": (_TEXT, _NUMBER), "approved": (_TEXT, _NUMBER),
    },
    "model_aliases": {},
    "run": {
        "name": str, "notes": _TEXT, "group": _TEXT, "job_type": _TEXT, "run_id": str,
        "deleted": _NUMBER, "record": _RECORD,
    },
}  # fmt: skip
"""The fields that a document must have, and the shapes of their values."""

_NAMES: Mapping[tuple[str, str], Callable[[object], str]] = {
    ("project", "name"): _names.project, ("artifact", "name"): _names.artifact,
    ("artifact", "type"): _names.artifact_type, ("model", "name"): _names.model,
    ("run", "run_id"): _names.run_id,
}  # fmt: skip


def check_document(document: Mapping[str, Any]) -> None:
    """Refuse what no Store of ours would have said.

    Args:
        document: Of the right shape.

    Raises:
        ShapeError: it names what is wrong.
        InvalidNameError: a name is none.
    """
    entity, uid = document["entity"], document["uid"]
    check_uid(uid, f"the uid of a {entity}")
    if "gone" in document:
        _check_stamp(document["gone"], entity)
        return
    check_time(document.get("created_us", 0), entity)
    _check_fields(entity, document["fields"])
    for name in ("project", "artifact", "model", "version", "run"):
        if isinstance(document.get(name), str):
            check_uid(document[name], f"{name} of {entity}")
    if "number" in document and not 0 <= document["number"] < HIGHEST_NUMBER:
        raise ShapeError(f"{entity} {uid} has the number {document['number']}")
    for tag, device, added, removed in document.get("tags", ()):
        _check_tag(tag)
        check_uid(device, "the device of a tag")
        check_time(added, "a tag")
        check_time(removed, "a tag")
    if entity == "version":
        _check_version(document)
    if entity == "run":
        _check_run(document)


def check_uid(uid: str, what: str) -> None:
    """Refuse what is no uid."""
    if not _UID.match(uid):
        raise ShapeError(f"{what} is {uid[:40]!r}")


def check_time(us: int | None, what: str) -> None:
    """Refuse a time before 1970, or after the year 3000."""
    if us is not None and not 0 <= us < LATEST_US:
        raise ShapeError(f"{what} has a time that cannot be: {us}")


def check_json(text: str | None, what: str) -> None:
    """Refuse a text that is no JSON, or too much."""
    if text is None:
        return
    if len(text) > JSON_BYTES:
        raise ShapeError(f"{what} has more than {JSON_BYTES} bytes")
    check_value(_json.loads(text), what)


def check_value(value: Any, what: str, level: int = 0) -> None:
    """Refuse a value that is too deep, or names a blob that can be none."""
    if level > DEEPEST:
        raise ShapeError(f"{what} is nested more than {DEEPEST} times")
    if isinstance(value, _json.BlobRef):
        if not isinstance(value.digest, str):
            raise ShapeError(f"{what} names a blob that is none")
        _digest.hex_of(value.digest)
        _check_count(value.size, what)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _check_text(key, what)
            check_value(item, what, level + 1)
    elif isinstance(value, list):
        for item in value:
            check_value(item, what, level + 1)
    elif isinstance(value, str):
        _check_text(value, what)


def check_alias(alias: str) -> None:
    """Refuse what can be no alias.

    Raises:
        InvalidNameError: it is none.
    """
    _expect_same(_names.alias(alias), alias)


def _check_text(text: str, what: str) -> None:
    if "\0" in text:
        raise ShapeError(f"{what} holds a NUL character")
    text.encode()


def _check_count(number: Any, what: str) -> None:
    if type(number) is not int or not 0 <= number <= INT64_MAX:
        raise ShapeError(f"{what} has {str(number)[:40]} of something")


def _expect_same(name: str, given: str) -> None:
    if name != given:
        raise ShapeError(f"the name {given[:80]!r} is not in its canonical form")


def _check_tag(tag: str) -> None:
    _expect_same(_names.tags([tag])[0], tag)


# Fields


def _check_fields(entity: str, fields: Mapping[str, Any]) -> None:
    shapes = _FIELDS[entity]
    for name in shapes:
        if "v" not in fields.get(name, ()):
            raise ShapeError(f"{entity} has no {name}")
    for name, field in fields.items():
        what = f"{name[:80]} of {entity}"
        _check_text(name, what)
        _check_stamp(field, what)
        if name in shapes:
            checked(field["v"], shapes[name], what)
        elif "." not in name:
            raise ShapeError(f"{entity} has an unknown field {name[:40]!r}")
        if "v" in field:
            _check_field(entity, name, field["v"], what)


def _check_field(entity: str, name: str, value: Any, what: str) -> None:
    check_value(value, what)
    if len(_json.dumps(value)) > FIELD_BYTES:
        raise ShapeError(f"{what} has more than {FIELD_BYTES} bytes")
    rule = _NAMES.get((entity, name))
    if rule is not None:
        _expect_same(rule(value), value)
    elif name == "deleted":
        check_time(value, what)
    elif name in ("stage", "approved"):
        check_time(value[1], what)
    elif name == "tags":
        for tag in value:
            _check_tag(tag)
    elif name.startswith("protect."):
        checked(value, bool, what)
    elif name.startswith("alias.") and entity == "model_aliases":
        checked(value, (str, bool), what)
        check_alias(name.removeprefix("alias."))


def _check_stamp(field: Mapping[str, Any], what: str) -> None:
    check_time(field["at"], what)
    if field["by"]:
        check_uid(field["by"], f"the device of {what}")


# Versions and runs


def _check_version(document: Mapping[str, Any]) -> None:
    _digest.hex_of(document["digest"])
    for name in ("files", "size"):
        _check_count(document[name], f"{name} of a version")
    for run, _, at in document["edges"]:
        check_uid(run, "the run of a version")
        check_time(at, "lineage")


def _check_run(document: Mapping[str, Any]) -> None:
    parent = document["parent"]
    if parent is not None:
        check_uid(parent["uid"], "the parent of a run")
        if parent["uid"] == document["uid"]:
            raise ShapeError("a run is a fork of itself")
        _check_epoch(parent["epoch"], least=0)
        _check_marks(parent["marks"])
    _check_record(document["fields"]["record"]["v"])
    for epoch, device, _, _, _, began, ended, _, _, reverted, _ in document["epochs"]:
        _check_epoch(epoch)
        if device:
            check_uid(device, "the device of an attempt")
        for at in (began, ended, reverted):
            check_time(at, "an attempt")
    for token, epoch, writer, _, opened, closed, *_ in document["streams"]:
        _check_stream(token, epoch, writer)
        check_time(opened, "a stream")
        check_time(closed, "a stream")
    _check_things(document)


def _check_things(document: Mapping[str, Any]) -> None:
    for epoch, position, _, options in document["definitions"]:
        _check_epoch(epoch)
        _check_count(position, "a metric's definition")
        check_json(options, "a metric's definition")
        checked(_json.loads(options), dict, "a metric's definition")
    for path, digest, size, _, _, _, saved in document["files"]:
        _expect_same(entry_path(path), path)
        _digest.hex_of(digest)
        _check_count(size, "a file")
        check_time(saved, "a file")
    for (digest,) in document["blobs"]:
        _digest.hex_of(digest)
    for _, _, _, raised, _ in document["alerts"]:
        check_time(raised, "an alert")
    for token, _, items, rows in document["rows"]:
        _check_marks({token: items})
        _check_count(rows, "a stream")


def _check_record(record: Mapping[str, Any]) -> None:
    check_time(record["started_us"], "a run")
    check_time(record["ended_us"], "a run")
    for name in ("dropped_rows", "coerced_values"):
        _check_count(record[name], name)
    check_json(_json.dumps(record["environment"]), "the environment of a run")
    for found in record["keys"]:
        _check_key(found)


def _check_key(found: Sequence[Any]) -> None:
    key, count, nans, _, step, low, high, mean = found
    checked(key, str, "a key")
    _check_count(count, "a key")
    _check_count(nans, "a key")
    checked(step, _NUMBER, "a key")
    for number in (low, high, mean):
        if number is not None and type(number) not in (int, float):
            raise ShapeError(f"key {key[:80]!r} has a number that is none")


def _check_epoch(epoch: int, least: int = 1) -> None:
    if not least <= epoch < 1 << 31:
        raise ShapeError(f"there is no attempt {epoch}")


def _check_stream(token: str, epoch: int, writer: str) -> None:
    _check_epoch(epoch)
    if not _TOKEN.match(token) or not _WRITER.match(writer):
        raise ShapeError(f"{token[:40]!r} is no stream")


def _check_marks(marks: Mapping[str, int]) -> None:
    for token, count in marks.items():
        if not _TOKEN.match(token):
            raise ShapeError(f"{token[:40]!r} is no stream")
        _check_count(count, "a stream")
