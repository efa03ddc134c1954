"""Ties the capture sources to a run: what is recorded, when, and where it goes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from wanllmdb._capture.console import ConsoleCapture, pieces
from wanllmdb._metrics.writer import StreamWriter
from wanllmdb._settings import Settings
from wanllmdb._ticker import Ticker
from wanllmdb.types import Kind, StreamIdentity

Survived = Callable[[str, BaseException], None]


class Recorder:
    """Everything captured beside metrics; none of it may disturb training.

    Args:
        directory: The run's directory.
        identity: The stream whose console and system logs these are.
        settings: Which sources are on.
        survived: Told of what went wrong.
    """

    def __init__(
        self,
        directory: Path,
        identity: StreamIdentity,
        settings: Settings,
        survived: Survived,
    ) -> None:
        self._survived = survived
        self._settings = settings
        self._directory = directory
        self._lock = threading.RLock()
        self._console = StreamWriter(directory, identity, Kind.CONSOLE)
        self._system = StreamWriter(directory, identity, Kind.SYSTEM)
        self._sampler: Any = None
        self._capture: ConsoleCapture | None = None
        self._samples = 0

    def start(self, ticker: Ticker, save: Callable[[Mapping[str, Any]], None]) -> None:
        """Begin; slow sources run in the ticker's thread.

        Args:
            ticker: Gets the jobs.
            save: Stores what was found out about the surroundings.
        """
        if self._settings["console"]:
            self._capture = ConsoleCapture(self._line)
            self._capture.start()
        if seconds := self._settings["system_interval"]:
            ticker.once(self._sample)
            ticker.every(seconds, self._sample)
        ticker.once(lambda: self._surroundings(save))

    def message(self, text: str, level: str) -> None:
        """Record one log message."""
        for piece in pieces(text):
            self._append({"stream": "log", "text": piece, "level": level})

    def stop(self) -> None:
        """Restore the streams and close the logs."""
        if self._capture is not None:
            self._capture.stop()
        with self._lock:
            for writer in (self._console, self._system):
                writer.close()
        if self._sampler is not None:
            self._sampler.close()

    def detach(self) -> None:
        """In a forked child: record nothing more."""
        self._lock = threading.RLock()
        if self._capture is not None:
            self._capture.detach()
        self._console.abandon_after_fork()
        self._system.abandon_after_fork()

    def _line(self, stream: str, text: str, _time_us: int) -> None:
        self._append({"stream": stream, "text": text})

    def _append(self, row: dict[str, str]) -> None:
        row["text"] = row["text"].encode("utf-8", "backslashreplace").decode()
        with self._lock:
            self._console.append(row, 0)

    def _sample(self) -> None:
        if self._sampler is None:
            from wanllmdb._capture.system import SystemSampler

            self._sampler = SystemSampler(path=self._directory)
        row = self._sampler.sample()
        with self._lock:
            self._system.append(row, self._samples)
        self._samples += 1

    def _surroundings(self, save: Callable[[Mapping[str, Any]], None]) -> None:
        facts: dict[str, Any] = {}
        if self._settings["environment"]:
            from wanllmdb._capture import environment

            facts = dict(environment.environment_facts())
            facts["packages"] = environment.installed_packages()
        if self._settings["git"]:
            from wanllmdb._capture import git

            facts["git"] = git.git_facts(Path.cwd())
            if facts["git"] and facts["git"].get("dirty"):
                found = git.git_diff(Path.cwd())
                if found is not None:
                    facts["git"]["diff"], facts["git"]["diff_truncated"] = found
        if facts:
            save(facts)
