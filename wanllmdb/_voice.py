"""What a run says to people: each thing once, and never as an error into training."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from wanllmdb._debuglog import DebugLog
from wanllmdb.errors import WanllmdbWarning

MAX_TOPICS = 1000
"""Different warnings of one run; a loop over ever new keys must not fill memory."""


class Voice:
    """Warnings, messages and the debug log of one run.

    Args:
        path: The run's, for the debug log.
        silent: Print nothing to stderr; warnings still come.
        debug: The Store's debug log, if it can be written.
    """

    def __init__(self, path: str, *, silent: bool, debug: DebugLog | None) -> None:
        self._path = path
        self._silent = silent
        self._debug = debug
        self._said: set[str] = set()

    def warn_once(self, topic: str, text: str) -> None:
        """Warn of a topic the first time that it comes up."""
        if topic not in self._said and len(self._said) < MAX_TOPICS:
            self._said.add(topic)
            warn(text, stacklevel=5)

    def say(self, text: str) -> None:
        """Print one line to stderr, unless silent."""
        if not self._silent:
            say(text)

    def survived(self, what: str, error: BaseException) -> None:
        """Note in the debug log what was kept out of training."""
        if self._debug is not None:
            self._debug.survived(f"{what} of {self._path}", error)

    @contextmanager
    def guarded(self, what: str) -> Iterator[None]:
        """Keep the tracker's own faults out of training: noted and warned of once."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever fails, training goes on
            self.survived(what, error)
            self.warn_once(what, f"{what}: {error}")


def say(text: str) -> None:
    """Print one line to stderr, if there is one."""
    if sys.stderr is not None:
        try:
            sys.stderr.write(f"wanllmdb: {text}\n")
        except (OSError, ValueError):  # closed stream
            pass


def warn(text: str, stacklevel: int = 3) -> None:
    """Warn; where warnings are errors, print instead: never into training."""
    try:
        warnings.warn(text, WanllmdbWarning, stacklevel=stacklevel)
    except WanllmdbWarning:
        say(text)
