"""Killed at any moment, a run keeps every row whose `log` returned."""

from __future__ import annotations

import mmap
import os
import random
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import wanllmdb

CHILD = """
import mmap, struct, sys
import wanllmdb
from wanllmdb._metrics import writer
writer.SEGMENT_BYTES = int(sys.argv[2]) or writer.SEGMENT_BYTES
with open(sys.argv[1], "r+b") as file:
    shared = mmap.mmap(file.fileno(), 8)
run = wanllmdb.init(project="p", id="r")
n = 0
while True:
    row = {"n": n, "half": n / 2, "odd": n % 2 == 1}
    if n % 50 == 0:
        row["note"] = f"row {n}"
    wanllmdb.log(row)
    n += 1
    shared[:] = struct.pack("<q", n)
"""
QUIET = {
    "WANLLMDB_CONSOLE": "0", "WANLLMDB_SYSTEM_INTERVAL": "0", "WANLLMDB_GIT": "0",
    "WANLLMDB_ENVIRONMENT": "0", "WANLLMDB_SILENT": "1",
}  # fmt: skip


def kill_while_logging(store: Path, shared: Path, size: int, seconds: float) -> int:
    """Start the child, kill it; return how many rows it was told are logged."""
    shared.write_bytes(bytes(8))
    command = [sys.executable, "-c", CHILD, str(shared), str(size)]
    environment = {**os.environ, **QUIET, "WANLLMDB_DIR": str(store)}
    with shared.open("r+b") as file, mmap.mmap(file.fileno(), 8) as acked:
        child = subprocess.Popen(command, env=environment)
        try:
            deadline = time.monotonic() + 30
            while acked[:] == bytes(8) and child.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.001)
            time.sleep(seconds)
        finally:
            child.kill()
            assert child.wait() == -signal.SIGKILL
        return int(struct.unpack("<q", acked[:])[0])


def expected_rows(count: int) -> Iterator[dict[str, object]]:
    for n in range(count):
        row: dict[str, object] = {"n": n, "half": n / 2, "odd": n % 2 == 1}
        yield row | ({"note": f"row {n}"} if n % 50 == 0 else {})


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 4096], ids=["one segment", "rotating"])
@pytest.mark.parametrize("seed", range(8))
def test_a_killed_run_keeps_every_acknowledged_row(
    tmp_path: Path, size: int, seed: int
) -> None:
    """After SIGKILL no acknowledged row is missing, and the summary is the last row."""
    seconds = random.Random(seed * 2 + bool(size)).uniform(0, 0.25)
    acked = kill_while_logging(tmp_path / "s", tmp_path / "acked", size, seconds)
    assert acked > 0
    with wanllmdb.Api(tmp_path / "s") as api:
        run = api.run("p/r")
        assert run.state == "crashed"
        found = [
            {k: v for k, v in row.items() if not k.startswith("_")}
            for row in run.scan_history()
        ]
        assert acked <= len(found) <= acked + 1
        assert found == list(expected_rows(len(found)))
        last = {key: found[-1][key] for key in ("n", "half", "odd")}
        assert {key: run.summary[key] for key in last} == last
        assert run.summary["note"] == f"row {(len(found) - 1) // 50 * 50}"
        assert run.summary["_step"] == run.last_step == len(found) - 1
        assert run.dropped_rows == 0
