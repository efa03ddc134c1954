"""Stores made to measure: many sealed runs, written as a compaction would write them.

Rows go straight into merged parts, because logging 10^9 points takes hours. The values
are float32 numbers held as float64, as ``loss.item()`` gives them: a falling curve with
5 % of noise.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from zlib import crc32

import numpy as np
import pyarrow as pa

from wanllmdb import _ids
from wanllmdb._catalog import runs, sealed, streams, values
from wanllmdb._catalog.sealed import NewPart, RunShare, Watermark
from wanllmdb._metrics import parts, segment
from wanllmdb._metrics.seal import Table
from wanllmdb._store import Store
from wanllmdb.types import (
    End,
    KeyStats,
    Kind,
    Location,
    NewRun,
    State,
    StreamIdentity,
)

START_MS = 1_780_000_000_000


def make(
    path: Path, count: int, steps: int, keys: Sequence[str], per_part: int
) -> Store:
    """Make a Store of finished runs.

    Args:
        path: Where; what is there is removed.
        count: How many runs.
        steps: Rows of each.
        keys: Its metrics.
        per_part: Runs of one part.
    """
    shutil.rmtree(path, ignore_errors=True)
    store = Store(Location(path, "benchmark"))
    random = np.random.default_rng(1)
    numbers = list(range(count))
    for first in range(0, count, per_part):
        _add_part(store, numbers[first : first + per_part], steps, keys, random)
    return store


def _add_part(
    store: Store,
    numbers: Sequence[int],
    steps: int,
    keys: Sequence[str],
    random: np.random.Generator,
) -> None:
    uids = [_ids.uid() for _ in numbers]
    tokens = [_ids.stream_token() for _ in numbers]
    with store.catalog.transaction(durable=False) as connection:
        added = [
            _add_run(connection, n, uid, steps, keys)
            for n, uid in zip(numbers, uids, strict=True)
        ]
        project = runs.project_uid(connection, "generated")
    columns = {key: (key, "d") for key in keys}
    ids = [f"run-{number}" for number in numbers]
    pieces = _tables(uids, ids, tokens, steps, keys, random)
    head = next(pieces)
    described = Table("wide", head, columns)

    def every() -> Iterator[pa.Table]:
        yield head
        yield from pieces

    target = store.parts / project
    done = parts.write(every(), described, target, store.tmp, project)
    shares = [
        RunShare(pk, i * steps, steps, 0, steps - 1, 1, 1, True)
        for i, pk in enumerate(added)
    ]
    part = NewPart(
        done.name,
        "wide",
        steps * len(numbers),
        done.bytes,
        done.digest,
        shares,
        columns,
    )
    with store.catalog.transaction(durable=False) as connection:
        sealed.add_part(connection, "generated", part)
        for pk, token in zip(added, tokens, strict=True):
            identity = StreamIdentity(token, 1, "primary")
            streams.add(connection, pk, identity, creator=True)
            streams.close(connection, token, End(State.FINISHED))
            mark = Watermark(identity, Kind.METRICS, 1, 0, steps)
            sealed.set_watermarks(connection, pk, [mark])


def _add_run(connection, number, uid, steps, keys):  # type: ignore[no-untyped-def]
    new = NewRun(uid, "generated", f"run-{number}", f"run {number}",
                 config={"lr": 10.0 ** -(number % 5), "seed": number % 7})  # fmt: skip
    pk = runs.insert(connection, new, 1)
    runs.add_epoch(connection, pk, "init", 1)
    loss = 1.0 + number % 97
    stats = {key: KeyStats(steps, 0, loss, steps - 1, loss, 10.0, loss) for key in keys}
    values.set_keys(connection, pk, values.key_rows(stats))
    for scope, held in (("config", new.config), ("summary", dict.fromkeys(keys, loss))):
        values.set_json(connection, pk, scope, held, _text(held), None)
    runs.set_last_step(connection, pk, steps - 1)
    runs.set_ended(connection, pk, End(State.FINISHED), ended_us=START_MS * 1000)
    return pk


def _text(held):  # type: ignore[no-untyped-def]
    from wanllmdb import _json

    return _json.dumps(dict(held))


def _tables(
    uids: Sequence[str],
    ids: Sequence[str],
    tokens: Sequence[str],
    steps: int,
    keys: Sequence[str],
    random: np.random.Generator,
) -> Iterator[pa.Table]:
    """Rows of so many runs as fill a row group or more."""
    at_once = max(1, parts.ROW_GROUP // steps)
    for first in range(0, len(uids), at_once):
        some = slice(first, first + at_once)
        yield _table(uids[some], ids[some], tokens[some], steps, keys, random)


def _table(uids, ids, tokens, steps, keys, random):  # type: ignore[no-untyped-def]
    count = len(uids) * steps
    step = np.tile(np.arange(steps), len(uids))
    which = pa.array(np.repeat(np.arange(len(uids)), steps).astype(np.int32))
    columns = {
        "_uid": pa.DictionaryArray.from_arrays(which, pa.array(uids)),
        "_run": pa.DictionaryArray.from_arrays(which, pa.array(ids)),
        "_step": pa.array(step),
        "_ts": pa.array(START_MS + step * 100 + random.integers(0, 5, count),
                        pa.timestamp("ms", "UTC")),
        "_epoch": pa.array(np.ones(count, np.int32)),
        "_stream": pa.DictionaryArray.from_arrays(which, pa.array(tokens)),
        "_n": pa.array(step),
        "_writer": pa.DictionaryArray.from_arrays(
            pa.array(np.zeros(count, np.int32)), pa.array(["primary"])
        ),
    }  # fmt: skip
    curve = 1 / np.sqrt(step + 1.0)
    for key in keys:
        noise = 1 + 0.05 * random.standard_normal(count)
        columns[key] = pa.array((curve * noise).astype(np.float32).astype(np.float64))
    return pa.table(columns)


def add_inline(store: Store, count: int, steps: int, keys: Sequence[str]) -> None:
    """Add finished runs so small that the Catalog holds their logs."""
    from wanllmdb._catalog.sealed import InlineSegment

    random = np.random.default_rng(3)
    shape = segment.Shape(1, keys, "d" * len(keys))
    definition = shape.definition()
    with store.catalog.transaction(durable=False) as connection:
        for number in range(count):
            uid, token = _ids.uid(), _ids.stream_token()
            pk = _add_run(connection, number, uid, steps, keys)
            start = (START_MS + number) * 1000
            data = segment.header(
                pid=1, created_us=start, first_row=0, epoch=1, kind=Kind.METRICS,
                writer="primary",
            ) + definition  # fmt: skip
            for step, row in enumerate(
                random.random((steps, len(keys))).astype(np.float32).tolist()
            ):
                body = shape.pack(shape.words, 1, step, start + step * 1000, *row)
                data += crc32(body).to_bytes(4, "little") + body
            data += segment.frame(segment.SEAL, 0, start, b'{"rows":10,"clean":true}')
            identity = StreamIdentity(token, 1, "primary")
            streams.add(connection, pk, identity, creator=True)
            streams.close(connection, token, End(State.FINISHED))
            held = InlineSegment(
                token, Kind.METRICS, 1, 1, steps, crc32(data), True, data
            )
            sealed.add_inline(connection, pk, [held])
            mark = Watermark(identity, Kind.METRICS, 1, len(data), steps)
            sealed.set_watermarks(connection, pk, [mark])
