"""kill -9 at random times: nothing acknowledged is lost, nothing is invented."""

from __future__ import annotations

import mmap
import os
import random
import struct
import subprocess
import sys
import time

import pytest

CHILD = """
import mmap, struct, sys
import wanllmdb
from wanllmdb._metrics import writer
writer.SEGMENT_BYTES = int(sys.argv[2])
with open(sys.argv[1], 'r+b') as file:
    acked = mmap.mmap(file.fileno(), 8)
    run = wanllmdb.init(id='r', resume='allow')
    struct.pack_into('<q', acked, 0, run.step)
    while True:
        run.log({'x': run.step, 'y': run.step * 0.5, 'even': run.step % 2 == 0})
        struct.pack_into('<q', acked, 0, run.step)
"""


@pytest.mark.parametrize("segment_bytes", [4096, 8 << 20])
def test_acknowledged_rows_survive_kill_9(segment_bytes, tmp_path, api):
    """Killed and resumed again and again, a run holds every acknowledged row once."""
    counter = tmp_path / "acked"
    counter.write_bytes(bytes(8))
    total = 0
    for _ in range(10):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(counter), str(segment_bytes)],
            env=dict(os.environ),
        )
        with counter.open("r+b") as file:
            acked = mmap.mmap(file.fileno(), 8)
            deadline = time.monotonic() + 30
            while struct.unpack_from("<q", acked)[0] <= total:
                assert time.monotonic() < deadline
                time.sleep(0.001)
            time.sleep(random.uniform(0, 0.05))
            child.kill()
            child.wait()
            now = struct.unpack_from("<q", acked)[0]
        assert now > total, "the child acknowledged nothing"
        run = api.run("r")
        assert run.state == "crashed"
        steps = run.history(["x", "y"]).arrow()
        count = steps.num_rows
        assert now <= count <= now + 1
        assert steps["_step"].to_pylist() == list(range(count))
        assert steps["x"].to_pylist() == list(range(count))
        assert run.summary["x"] == count - 1
        assert run.keys["y"].count == count
        total = count
