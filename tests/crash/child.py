"""What a child does while it is killed or its disk fails: child.py SCENARIO SHARED.

It tells a file that both processes map how far it came: a count written there
after `log` returned is an acknowledgement that no kill takes back. Before each phase
it asks for a path below /phase, which marks the place in a trace of its system calls.
"""

from __future__ import annotations

import math
import mmap
import os
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import wanllmdb
import wanllmdb._query  # now: a trace of the phases shall hold no imports
from wanllmdb._metrics import writer

Row = dict[str, Any]
SLOTS = struct.Struct("<qqq")
"""Whether the scenario has begun, rows acknowledged, stages acknowledged."""


class Shared:
    """The counters that outlive the process."""

    def __init__(self, path: str) -> None:
        with open(path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), SLOTS.size)
        self._begun = self._rows = self._stage = 0

    def tell(self, **counts: int) -> None:
        """Note what was acknowledged."""
        self._begun = 1
        self._rows = counts.get("rows", self._rows)
        self._stage = counts.get("stage", self._stage)
        SLOTS.pack_into(self._map, 0, self._begun, self._rows, self._stage)


def phase(name: str) -> None:
    """Mark the trace."""
    os.access(f"/phase/{name}", os.F_OK)


def row(n: int) -> Row:
    """Row number `n` of every scenario: each type, two shapes, and a JSON row."""
    values: Row = {
        "n": n, "half": n / 2, "odd": n % 2 == 1, "big": 2**62 + n,
        "tenth": math.nan if n % 11 == 5 else -n / 10,
    }  # fmt: skip
    if n % 7 == 3:
        values["note"] = f"row {n}"
    return values


def log(shared: Shared, first: int, count: int) -> None:
    for n in range(first, first + count):
        wanllmdb.log(row(n))
        shared.tell(rows=n + 1)


def first_run(shared: Shared) -> None:
    """A Store is made, a run starts, and logs."""
    phase("begin")
    wanllmdb.init(project="p", id="r")
    shared.tell(stage=1)
    log(shared, 0, 5)
    phase("end")
    wanllmdb.finish()
    shared.tell(stage=2)


def rotation(shared: Shared) -> None:
    """A segment ends every fifty rows or so."""
    writer.SEGMENT_BYTES = 4096
    wanllmdb.init(project="p", id="r")
    shared.tell(stage=1)
    log(shared, 0, 40)
    phase("begin")
    log(shared, 40, 140)
    phase("end")
    wanllmdb.finish()
    shared.tell(stage=2)


def rotation_into_a_spare(shared: Shared) -> None:
    """The next segment's file was made ahead of need."""
    writer.SEGMENT_BYTES = 4096
    wanllmdb.init(project="p", id="r")
    shared.tell(stage=1)
    log(shared, 0, 45)
    time.sleep(0.7)
    phase("begin")
    log(shared, 45, 20)
    phase("end")
    wanllmdb.finish()
    shared.tell(stage=2)


def finish(shared: Shared) -> None:
    """A run with a console log, a directory of files and saved files ends."""
    run = wanllmdb.init(project="p", id="r")
    shared.tell(stage=1)
    print("first line", flush=True)
    Path(run.dir, "model.txt").write_text("weights")
    saved = Path(os.environ["WANLLMDB_DIR"]).with_suffix(".txt")
    saved.write_text("data")
    wanllmdb.save(str(saved), base_path=str(saved.parent))
    log(shared, 0, 20)
    print("last line", flush=True)
    run.summary["note"] = "by hand"
    shared.tell(stage=2)
    phase("begin")
    wanllmdb.finish()
    shared.tell(stage=3)
    phase("end")


def left_behind(shared: Shared) -> None:
    """A run of several segments with a file; whoever started this kills it."""
    writer.SEGMENT_BYTES = 4096
    run = wanllmdb.init(project="p", id="r", config={"lr": 0.1}, tags=["old"])
    Path(run.dir, "model.txt").write_text("weights")
    log(shared, 0, 120)
    shared.tell(stage=1)
    time.sleep(60)


def recovery(shared: Shared) -> None:
    """A reader finds a run whose process was killed."""
    shared.tell(rows=120)
    phase("begin")
    with wanllmdb.Api() as api:
        assert [run.state for run in api.runs()] == ["crashed"]
        shared.tell(stage=1)
    phase("end")


def resumption(shared: Shared) -> None:
    """The killed run goes on, until it is killed again."""
    shared.tell(rows=120)
    phase("begin")
    wanllmdb.init(
        project="p", id="r", resume="must", config={"again": True}, tags=["new"]
    )
    shared.tell(stage=1)
    log(shared, 120, 5)
    phase("end")
    wanllmdb.finish()
    shared.tell(stage=2)


def edits(shared: Shared) -> None:
    """Into the trash, out of it, back to step 9 and on, and back to the first epoch."""
    shared.tell(rows=120)
    phase("begin")
    with wanllmdb.Api() as api:
        api.run("p/r").delete()
        shared.tell(stage=1)
        api.run("p/r", deleted=True).restore()
        shared.tell(stage=2)
        wanllmdb.init(project="p", resume_from="r?_step=9")
        shared.tell(stage=3)
        wanllmdb.log({"n": "anew"})
        shared.tell(stage=4)
        wanllmdb.finish()
        shared.tell(stage=5)
        api.run("p/r").restore_epoch(1)
        shared.tell(stage=6)
    phase("end")


SCENARIOS: dict[str, Callable[[Shared], None]] = {
    play.__name__: play
    for play in (
        first_run, rotation, rotation_into_a_spare, finish, left_behind, recovery,
        resumption, edits,
    )
}  # fmt: skip


def main(name: str, path: str) -> None:
    """Play a scenario; a Store that refuses at the start is stage -1."""
    shared = Shared(path)
    shared.tell()
    try:
        SCENARIOS[name](shared)
    except wanllmdb.WanllmdbError:
        if wanllmdb.run is not None:
            raise
        shared.tell(stage=-1)


if __name__ == "__main__":
    main(*sys.argv[1:])
