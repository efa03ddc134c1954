"""Who crowds one Store: crowd.py ROLE DIRECTORY NUMBER, until it is killed or told.

A row is a function of its run and step. Writers note in a file of their own what was
acknowledged; readers compare what they read with what was noted before and after.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import wanllmdb
from wanllmdb import _compaction, _merging, _recovery
from wanllmdb._metrics import writer


def value(run: str, step: int) -> dict[str, Any]:
    """The row that a run has at a step."""
    number = crc32(f"{run}/{step}".encode())
    row: dict[str, Any] = {"v": number / 7, "i": number << 30, f"k{step % 30}": step}
    if step % 9 == 4:
        row["text"] = f"row {number}"
    return row


def acknowledged(directory: Path) -> dict[str, int]:
    """How many rows of each run `log` returned for."""
    found: dict[str, int] = {}
    for path in directory.glob("acks-*"):
        for line in path.read_text().splitlines():
            run, _, count = line.partition(" ")
            if count.endswith("."):  # not cut by a kill
                found[run] = max(found.get(run, 0), int(count[:-1]))
    return found


def check(run: Any, least: int, most: int | None) -> None:
    """A run's rows are those of steps 0, 1, 2, ..., as many as there may be."""
    rows = [{k: v for k, v in row.items() if k not in ("_timestamp", "_runtime")}
            for row in run.scan_history()]  # fmt: skip
    wanted = [
        {"_step": n, "_writer": "primary", **value(run.id, n)} for n in range(len(rows))
    ]
    wrong = [pair for pair in zip(rows, wanted, strict=True) if pair[0] != pair[1]]
    assert not wrong, f"{run.id}: {len(wrong)} of {len(rows)} rows, as {wrong[0]}"
    assert least <= len(rows), f"{run.id}: {len(rows)} of {least} rows"
    assert most is None or len(rows) <= most, f"{run.id}: {len(rows)} of {most} rows"
    one = [row["v"] for row in run.scan_history(keys=["v"])]
    assert one[: len(rows)] == [row["v"] for row in rows], f"{run.id}: v differs"


def write(directory: Path, number: str) -> None:
    """Start, log and finish runs; go on with some of them."""
    dice = random.Random(number)
    writer.SEGMENT_BYTES = 4096
    acks = os.open(directory / f"acks-{number}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    turn = 0
    while True:
        turn += 1
        _compaction.INLINE_BYTES = dice.choice([0, 16 << 10])
        _compaction.LEFT_BYTES = dice.choice([0, 1 << 20])
        name = f"w{number}-{turn}"
        for attempt in range(dice.choice([1, 1, 2, 3])):
            run = wanllmdb.init(
                project="p", id=name, resume="must" if attempt else None,
                store=directory / "store",
            )  # fmt: skip
            for _ in range(dice.choice([1, 20, 150])):
                step = run.step
                run.log(value(name, step))
                os.write(acks, f"{name} {step + 1}.\n".encode())
            run.finish()
        print("finished", flush=True)


def compact(directory: Path, number: str) -> None:
    """Recover, seal, merge and sweep, over and over; nothing has to wait long."""
    dice = random.Random(number)
    with wanllmdb.Api(directory / "store") as api:
        while True:
            _compaction.INLINE_BYTES = dice.choice([0, 16 << 10])
            _merging.GROWTH = dice.choice([4, 1 << 30])
            _recovery.recover_dead(api.store)
            for line in api.store.compact():
                print(line.split()[0], flush=True)
            with api.store.catalog.transaction(durable=False) as connection:
                connection.execute("UPDATE retired SET due_us = 1")
            time.sleep(dice.uniform(0, 0.2))


def read(directory: Path, number: str) -> None:
    """Read runs, the newest ones most of all."""
    dice = random.Random(number)
    with wanllmdb.Api(directory / "store") as api:
        while True:
            before = acknowledged(directory)
            for name in _some(list(before), dice):
                before = acknowledged(directory)
                run = api.run(f"p/{name}")
                check(run, before[name], None)
                print("read", flush=True)


def _some(names: list[str], dice: random.Random) -> Iterator[str]:
    for _ in range(5 if names else 0):
        newest = dice.random() < 0.5
        yield (
            names[-1 - dice.randrange(min(8, len(names)))]
            if newest
            else (dice.choice(names))
        )


ROLES = {"write": write, "compact": compact, "read": read}

if __name__ == "__main__":
    ROLES[sys.argv[1]](Path(sys.argv[2]), sys.argv[3])
