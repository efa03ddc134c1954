"""What a run says to people: each thing once, and never as an error into training."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wanllmdb._debuglog import DebugLog
from wanllmdb.errors import WanllmdbWarning

_PACKAGE = str(Path(__file__).parent) + os.sep

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
            warn(text)

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


def warn(text: str) -> None:
    """Warn, of the line outside this package that called it.

    Where warnings are errors the text is printed instead: never into training.
    """
    level = 2
    frame = sys._getframe(1)
    # warnings.warn's own skip_file_prefixes came with Python 3.12.
    while frame.f_back and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    try:
        warnings.warn(text, WanllmdbWarning, stacklevel=level)
    except WanllmdbWarning:
        say(text)
