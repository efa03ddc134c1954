"""A run's push as it ends: ``init(sync="finish")``.

By a process of its own: threads cannot be begun while a program exits, which is when
most runs end, and a push that hangs can be ended at the deadline. Killed at any point,
it leaves nothing half-told.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

from wanllmdb import _observers
from wanllmdb._catalog import remotes
from wanllmdb._voice import say
from wanllmdb.types import SyncReport

if TYPE_CHECKING:
    from wanllmdb._run import Run
    from wanllmdb._settings import Settings
    from wanllmdb._store import Store

DEADLINE = 60.0
"""Seconds that the end of a script may be put off."""

_PARTIAL = 10


def wanted(settings: Settings, store: Store) -> bool:
    """Whether a run is to be pushed as it ends."""
    if settings["sync"] == "finish":
        return True
    if settings["mode"] != "online":
        return False
    default = remotes.find_default(store.catalog.reader)
    return settings["remote"] is not None or default is not None


def push(run: Run, store: Store, settings: Settings) -> None:
    """Push a run that ended; nothing is raised, and what waits is said in one line."""
    command = [sys.executable, "-P", "-m", "wanllmdb", "--store", str(store.path),
               "push", run.path, "--format", "json"]  # fmt: skip
    if settings["remote"] is not None:
        command += ["--remote", settings["remote"]]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=DEADLINE,
            check=False, text=True,
        )  # fmt: skip
        report = _report(done)
        fault = _fault(done)
    except subprocess.TimeoutExpired:
        report, fault = None, f"{DEADLINE:.0f} s were not enough"
    except OSError as error:
        report, fault = None, f"{error.strerror}"
    if report is not None:
        _observers.notify("sync", report, store.debug.survived)
    if settings["silent"]:
        return
    if fault is None:
        say(f"pushed {run.path}")
    else:
        say(f"{run.path} waits to be pushed: {fault}; `wanllmdb sync` goes on")


def _report(done: subprocess.CompletedProcess[str]) -> SyncReport | None:
    if done.returncode not in (0, _PARTIAL):
        return None
    return SyncReport(**json.loads(done.stdout)[0])


def _fault(done: subprocess.CompletedProcess[str]) -> str | None:
    if not done.returncode:
        return None
    try:
        return str(json.loads(done.stderr.strip())["error"]["message"])
    except (ValueError, TypeError, KeyError):
        lines = done.stderr.strip().splitlines()
        return lines[-1] if lines else f"status {done.returncode}"
