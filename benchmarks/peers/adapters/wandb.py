"""W&B in offline mode: one log file a run, which only its server can read.

There is no local interface for reading, so the reader here is our own: records in
LevelDB's log format, each a protocol buffer of the installed package.
"""

from __future__ import annotations

import json
import struct
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adapters import PROJECT, Row

TITLE = "W&B offline"
OWN_READER = True
BLOCK = 32 * 1024
FILE_HEADER = 7  # ":W&B", a magic number and a version
RECORD_HEADER = 7  # CRC-32, length and kind
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def start(store: Path, name: str, config: dict[str, Any]) -> Any:
    import wandb

    settings = wandb.Settings(
        console="off", silent=True, disable_git=True, disable_code=True,
        x_disable_stats=True, x_disable_meta=True, x_disable_machine_info=True,
    )  # fmt: skip
    return wandb.init(
        project=PROJECT, name=name, config=config, dir=str(store), mode="offline",
        settings=settings,
    )  # fmt: skip


def log(run: Any, row: Row, step: int) -> None:
    run.log(row)


def finish(run: Any) -> None:
    run.finish()


def import_reader() -> None:
    import numpy  # noqa: F401
    from wandb.proto import wandb_internal_pb2  # noqa: F401


def read_points(store: Path) -> dict[str, Any]:
    import numpy as np

    values: dict[str, list[float]] = defaultdict(list)
    for path in _files(store):
        for item in _items(path):
            values[_key(item)].append(_value(item))
    return {key: np.array(v) for key, v in values.items() if not key.startswith("_")}


def read_metric(store: Path, key: str) -> dict[str, Any]:
    import numpy as np

    return {
        path.stem: np.array([_value(x) for x in _items(path) if _key(x) == key])
        for path in _files(store)
    }


def _files(store: Path) -> list[Path]:
    return sorted(store.glob("wandb/offline-run-*/run-*.wandb"))


def _items(path: Path) -> Iterator[Any]:
    """The history items of one run's file, in the order that they were logged."""
    from wandb.proto import wandb_internal_pb2

    for payload in _records(path.read_bytes()):
        record = wandb_internal_pb2.Record.FromString(payload)
        if record.WhichOneof("record_type") == "history":
            yield from record.history.item


def _key(item: Any) -> str:
    return item.key or item.nested_key[0]


def _value(item: Any) -> Any:
    if item.WhichOneof("value") == "number":
        return item.number
    return json.loads(item.value_json) if item.value_json else None


def _records(data: bytes) -> Iterator[bytes]:
    """The whole records of a log; a torn one at its end is left out."""
    at, pieces = FILE_HEADER, []
    while at + RECORD_HEADER <= len(data):
        left = BLOCK - at % BLOCK
        if left < RECORD_HEADER:  # a header never crosses a block's end
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        at += RECORD_HEADER
        if kind not in {FULL, FIRST, MIDDLE, LAST} or at + length > len(data):
            return
        pieces.append(data[at : at + length])
        at += length
        if kind in {FULL, LAST}:
            yield b"".join(pieces)
            pieces = []
