"""Long runs: memory over 10^7 calls, and the recovery of a 1 GiB log.

``python benchmarks/large.py`` needs some 2 GB of disk and two minutes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile

from measuring import QUIET, head, show

LOG = """
import os, sys
sys.path.insert(0, sys.argv[2])
from measuring import rss_mib
import wanllmdb
run = wanllmdb.init(project="p", id="r")
data = {f"metric/{i}": i * 0.1 for i in range(10)}
for _ in range(200_000):
    run.log(data)
before = rss_mib()
for _ in range(int(sys.argv[1]) - 200_000):
    run.log(data)
print(rss_mib() - before, flush=True)
os._exit(0)
"""
RECOVER = """
import json, os, pathlib, sys, time, zlib
sys.path.insert(0, sys.argv[1])
from measuring import rss_mib
import wanllmdb
api = wanllmdb.Api()
before = rss_mib()
wall = time.perf_counter()
run = api.run("p/r")
assert run.state == "crashed", run.state
import resource
top = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
wall = time.perf_counter() - wall
raw, size = time.perf_counter(), 0
for path in pathlib.Path(os.environ["WANLLMDB_DIR"]).rglob("*.wlog"):
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            zlib.crc32(piece)
            size += len(piece)
raw = time.perf_counter() - raw
print(json.dumps([wall, raw, top - before, size / 2**30]))
"""


def main() -> None:
    """Print the table."""
    os.environ.update(QUIET)
    here = os.path.dirname(os.path.abspath(__file__))
    head()
    with tempfile.TemporaryDirectory() as directory:
        os.environ["WANLLMDB_DIR"] = f"{directory}/store"
        grown = subprocess.run(
            [sys.executable, "-P", "-c", LOG, "10400000", here], check=True, text=True,
            capture_output=True,
        )  # fmt: skip
        show(
            "10^7 calls: growth of resident memory", float(grown.stdout), "MiB", "<= 2"
        )
        done = subprocess.run(
            [sys.executable, "-P", "-c", RECOVER, here], check=True, text=True,
            capture_output=True,
        )  # fmt: skip
        wall, raw, memory, size = json.loads(done.stdout)
        what = f"recovery of a log of {size:.2f} GiB"
        show(f"{what}, wall; raw: read and CRC-32", wall, "s", "<= 30", raw)
        show(f"{what}, memory", memory, "MiB", "<= 100")


if __name__ == "__main__":
    main()
