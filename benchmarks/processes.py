"""Eight processes on one Store: throughput, latency, errors, and short runs.

``python benchmarks/processes.py``; wall time, beside the same loops with bare writes.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

from measuring import QUIET, head, show

PROCESSES = 8
CALLS = 125_000  # 10^6 calls of eight processes

LOOP = """
import json, os, sys, time
from os import write
calls, kind = int(sys.argv[1]), sys.argv[2]
data = {f"metric/{i}": i * 0.1 for i in range(10)}
if kind == "raw":
    fd = os.open(f"{os.environ['WANLLMDB_DIR']}.{os.getpid()}",
                 os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    frame = bytes(104)
    call = lambda: write(fd, frame)
else:
    import wanllmdb
    run = wanllmdb.init(project="p")
    call = lambda: run.log(data)
call()
sys.stdin.readline()
clock, times = time.perf_counter_ns, []
begun, cpu = clock(), time.process_time()
for _ in range(calls):
    start = clock()
    call()
    times.append(clock() - start)
wall, cpu = (clock() - begun) / 1e9, time.process_time() - cpu
times.sort()
if kind != "raw":
    run.finish()
print(json.dumps([wall, cpu, times[-max(1, calls // 10_000)] / 1e6, times[-1] / 1e6]))
"""
SHORT = """
import json, sys, time, wanllmdb
wanllmdb.init(project="warm").finish()
sys.stdin.readline()
inits, finishes = [], []
for _ in range(int(sys.argv[1])):
    a = time.perf_counter()
    run = wanllmdb.init(project="p", config={"lr": 0.1}, reinit=True)
    b = time.perf_counter()
    run.log({"loss": 1.0})
    c = time.perf_counter()
    run.finish()
    inits.append((b - a) * 1e3)
    finishes.append((time.perf_counter() - c) * 1e3)
print(json.dumps([inits, finishes]))
"""


def together(code: str, count: int, *arguments: str) -> list[list[float]]:
    """Run a script in so many processes at once; what each printed."""
    running = [
        subprocess.Popen([sys.executable, "-P", "-c", code, *arguments],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(count)
    ]  # fmt: skip
    time.sleep(3)  # all have started, and wait for the line
    for process in running:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    answers = [process.communicate()[0] for process in running]
    assert all(process.returncode == 0 for process in running)
    return [json.loads(answer.splitlines()[-1]) for answer in answers]


def bench_log() -> None:
    """Throughput against what the cores allow, and the slowest calls."""
    cores = len(os.sched_getaffinity(0))
    one = together(LOOP, 1, str(CALLS), "ours")[0]
    ours = together(LOOP, PROCESSES, str(CALLS), "ours")
    raw = together(LOOP, PROCESSES, str(CALLS), "raw")
    allowed = cores * CALLS / one[1]
    reached = PROCESSES * CALLS / max(wall for wall, *_ in ours)
    show("8 processes: calls per second, of what the cores allow", reached / allowed,
         "", ">= 0.8")  # fmt: skip
    show("8 processes: p99.99 of 10^6 calls", max(x[2] for x in ours), "ms", "< 5",
         max(x[2] for x in raw))  # fmt: skip
    show("8 processes: slowest call", max(x[3] for x in ours), "ms", "<= 2 x raw",
         max(x[3] for x in raw))  # fmt: skip


def bench_short_runs() -> None:
    """Each init and each finish of a loop of short runs."""
    answers = together(SHORT, PROCESSES, "40")
    for name, index in (("init", 0), ("finish", 1)):
        times = sorted(t for answer in answers for t in answer[index])
        show(f"8 processes, init + finish in a loop: p99 of {name}",
             times[int(len(times) * 0.99)], "ms", "< 250",
             statistics.median(times))  # fmt: skip


def main() -> None:
    """Print the table; beside the p99 of short runs stands their median."""
    os.environ.update(QUIET)
    head()
    with tempfile.TemporaryDirectory() as directory:
        os.environ["WANLLMDB_DIR"] = f"{directory}/store"
        bench_log()
        bench_short_runs()


if __name__ == "__main__":
    main()
