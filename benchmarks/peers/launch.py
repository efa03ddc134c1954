"""Workers without a network, their memory, and nothing left behind by them."""

from __future__ import annotations

import ctypes
import functools
import json
import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WORKER = Path(__file__).with_name("worker.py")
PR_SET_CHILD_SUBREAPER = 36
SAMPLE = 0.05  # seconds between two looks at the memory
QUIET = {
    "WANLLMDB_CONSOLE": "0", "WANLLMDB_SYSTEM_INTERVAL": "0", "WANLLMDB_GIT": "0",
    "WANLLMDB_ENVIRONMENT": "0", "WANLLMDB_SILENT": "1",
    "WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false",
    "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1",
}  # fmt: skip


class WorkerError(Exception):
    """A worker ended without an answer; the message is the end of its stderr."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a system's workers run: its interpreter and its working directory."""

    system: str
    python: Path
    directory: Path

    @property
    def stderr(self) -> Path:
        """What the workers of this system complained of."""
        return self.directory / "stderr.txt"


def adopt_orphans() -> None:
    """Helpers that outlive their worker become children of this process.

    So their memory is found, they are waited for, and they are reaped.
    """
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


@functools.cache
def no_network() -> tuple[str, ...]:
    """The command that takes the network away; empty where that is not allowed."""
    for command in (("unshare", "-n"), ("unshare", "-rn")):
        try:
            done = subprocess.run([*command, "true"], capture_output=True, check=False)
        except FileNotFoundError:
            return ()
        if done.returncode == 0:
            return command
    return ()


def start(place: Place, job: str, store: Path, **options: Any) -> subprocess.Popen[str]:
    """Start a worker; its pipes are text."""
    place.directory.mkdir(parents=True, exist_ok=True)
    store.mkdir(parents=True, exist_ok=True)
    environment = os.environ | QUIET | {
        "HOME": str(place.directory), "TRACKIO_DIR": str(store),
    }  # fmt: skip
    with place.stderr.open("a") as stderr:
        return subprocess.Popen(
            [*no_network(), place.python, WORKER, place.system, job, store,
             json.dumps(options)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True,
            env=environment, cwd=place.directory,
        )  # fmt: skip


def run(place: Place, job: str, store: Path, **options: Any) -> dict[str, Any]:
    """Run a worker to its end and return its answer."""
    answer = collect(place, start(place, job, store, **options))
    wait_for_helpers()
    return answer


def collect(place: Place, process: subprocess.Popen[str]) -> dict[str, Any]:
    """A started worker's answer.

    Raises:
        WorkerError: It gave none.
    """
    out, _ = process.communicate()
    if process.returncode != 0:
        *_, last = ["", *place.stderr.read_text().split("\n")[:-1]]
        raise WorkerError(last)
    answer: dict[str, Any] = json.loads(out.splitlines()[-1])
    return answer


def run_measuring_memory(
    place: Place, job: str, store: Path, **options: Any
) -> tuple[dict[str, Any], float]:
    """The same, and the most MiB that the worker and its helpers held at once."""
    process = start(place, job, store, **options)
    peak, ended = 0.0, threading.Event()

    def look() -> None:
        nonlocal peak
        while not ended.wait(SAMPLE):
            peak = max(peak, sum(map(_resident_mib, _descendants())))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        answer = collect(place, process)
    finally:
        ended.set()
        watcher.join()
        wait_for_helpers()
    return answer, peak


def kill_in_burst(
    place: Place, store: Path, pause: float, acks: int, cap: float
) -> int:
    """SIGKILL a worker that logs; how many calls it had said were done."""
    process = start(place, "burst", store, pause=pause)
    assert process.stdout is not None
    pipe = process.stdout.fileno()
    done = len(os.read(pipe, 1))  # the first call: from here on the time counts
    last = time.perf_counter() + cap
    while done < acks and time.perf_counter() < last:
        piece = os.read(pipe, 1)
        if not piece:
            break
        done += len(piece)
    process.send_signal(signal.SIGKILL)
    while piece := os.read(pipe, 65536):
        done += len(piece)
    process.communicate()
    if process.returncode != -signal.SIGKILL or not done:
        raise WorkerError("the worker ended before it was killed")
    wait_for_helpers()
    return done


def wait_for_helpers(patience: float = 30.0) -> None:
    """Wait until all that workers started has ended; kill what does not end."""
    last = time.perf_counter() + patience
    while (left := _descendants()) and time.perf_counter() < last:
        _reap()
        time.sleep(0.02)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    _reap()


def _reap() -> None:
    """Take the status of adopted helpers that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _descendants() -> list[int]:
    """The processes that came of this one."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:  # the name in parentheses may hold anything, so from its end
            _, ppid, *_ = path.read_text().rpartition(")")[2].split()
        except OSError:  # ended between the two looks
            continue
        parents[int(path.parent.name)] = int(ppid)
    found, todo = [], [os.getpid()]
    while todo:
        parent = todo.pop()
        children = [pid for pid, ppid in parents.items() if ppid == parent]
        found += children
        todo += children
    return found


def _resident_mib(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):  # ended meanwhile
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
