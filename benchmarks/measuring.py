"""What the benchmarks share: a table, a quiet tracker, fresh interpreters."""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

ROUNDS = 7
QUIET = {
    "WANLLMDB_CONSOLE": "0", "WANLLMDB_SYSTEM_INTERVAL": "0", "WANLLMDB_GIT": "0",
    "WANLLMDB_ENVIRONMENT": "0", "WANLLMDB_SILENT": "1",
}  # fmt: skip


def head() -> None:
    """Print the head of the table."""
    print("| work | wanllmdb | raw | bar |\n|---|---|---|---|", flush=True)


def show(
    what: str, value: float, unit: str, bar: str, raw: float | None = None
) -> None:
    """Print one row of the table."""
    beside = "" if raw is None else f"{raw:.2f} {unit}"
    print(f"| {what} | {value:.2f} {unit} | {beside} | {bar} |", flush=True)


def child_ms(code: str, fresh: str = "", **env: str) -> float:
    """CPU milliseconds of a fresh interpreter that runs some code; the median.

    Args:
        code: What it runs. If the last line it prints is a number of seconds, these
            count, else the process as a whole.
        fresh: A directory that is removed before each round.
        env: Environment variables.
    """
    # An installed package has its byte code: the first round makes it.
    given = {**os.environ, **env, "PYTHONDONTWRITEBYTECODE": ""}
    times = []
    for _ in range(ROUNDS):
        shutil.rmtree(fresh, ignore_errors=True)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-P", "-c", code], env=given, check=True,
            capture_output=True, text=True,
        )  # fmt: skip
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        *_, last = ["", *done.stdout.splitlines()]
        with suppress(ValueError):
            spent = float(last)
        times.append(spent * 1e3)
    return statistics.median(times)


def rss_mib() -> float:
    """Resident memory of this process now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0
