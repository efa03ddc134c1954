"""Runs another command: passes its output and our signals on, and sees how it ended."""

from __future__ import annotations

import codecs
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any, TextIO

from wanllmdb.cli.render import tell
from wanllmdb.types import End, State

LINGER_SECONDS = 5.0
"""How long what a command left running may still print into the run."""

NOT_FOUND, NOT_EXECUTABLE = 127, 126  # as a shell says it
_PASSED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
_CHUNK = 1 << 16


def speak_utf8() -> None:
    """Make stdout and stderr pass on any bytes that were decoded by `run`."""
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(encoding="utf-8", errors="surrogateescape")


def run(
    command: Sequence[str], environment: Mapping[str, str], *, recorded: bool = False
) -> End:
    """Run a command to its end.

    SIGTERM, SIGHUP and SIGINT that reach us are passed on to it.

    Args:
        command: Program and arguments.
        environment: Its variables.
        recorded: Its output goes through our stdout and stderr, where a run's console
            capture sees it; else it has ours.

    Returns:
        How it ended, by its wait status; 127 or 126 if it could not be started.
    """
    pipe = subprocess.PIPE if recorded else None
    with _signals() as signals:
        try:
            child = subprocess.Popen(
                command, env=environment, stdout=pipe, stderr=pipe, bufsize=0
            )
        except (OSError, ValueError) as error:
            return _not_started(command[0], error)
        pumps = _pumps(child)
        signals.reach(child)
        code = child.wait()
        deadline = time.monotonic() + LINGER_SECONDS
        for pump in pumps:
            # A daemon that it left behind may hold the pipe for ever.
            pump.join(max(0.0, deadline - time.monotonic()))
    return _end(code, signals.seen)


def _not_started(program: str, error: Exception) -> End:
    reason = getattr(error, "strerror", None) or str(error)
    tell(f"{program}: {reason}")
    missing = isinstance(error, FileNotFoundError)
    return End(State.FAILED, NOT_FOUND if missing else NOT_EXECUTABLE, str(error))


def _end(code: int, seen: Sequence[int]) -> End:
    if code < 0:
        killed = -code in _PASSED_ON
        try:
            name = signal.Signals(-code).name
        except ValueError:  # a real-time signal
            name = f"signal {-code}"
        state = State.KILLED if killed else State.CRASHED
        return End(state, 128 - code, f"ended by {name}")
    if code == 0:
        return End(State.FINISHED)
    if seen:  # it cleaned up after our signal, and said so by its code
        return End(State.KILLED, code, f"ended by {signal.Signals(seen[-1]).name}")
    return End(State.FAILED, code)


# Signals


class _Signals:
    """Passes signals on to a child; those that come before it starts, later."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self._child: subprocess.Popen[bytes] | None = None
        self._on_terminal = _is_in_foreground()

    def __call__(self, number: int, frame: object) -> None:
        del frame
        self.seen.append(number)
        if self._child is not None and not self._has_it(number):
            self._child.send_signal(number)

    def reach(self, child: subprocess.Popen[bytes]) -> None:
        """Pass on from now on, beginning with what came so far."""
        self._child = child
        for number in self.seen[:1]:
            child.send_signal(number)

    def _has_it(self, number: int) -> bool:
        # Ctrl-C goes to all that run on the terminal. A second copy of it would break
        # into the child's clean-up; a second Ctrl-C may.
        return (
            number == signal.SIGINT
            and self._on_terminal
            and self.seen.count(signal.SIGINT) == 1
        )


@contextmanager
def _signals() -> Iterator[_Signals]:
    handler = _Signals()
    earlier: dict[int, Any] = {}
    for number in _PASSED_ON:
        if signal.getsignal(number) is not signal.SIG_IGN:  # `nohup` stays in force
            earlier[number] = signal.signal(number, handler)
    try:
        yield handler
    finally:
        for changed, old in earlier.items():
            signal.signal(changed, old)


def _is_in_foreground() -> bool:
    for fd in range(3):
        with suppress(OSError):
            return os.tcgetpgrp(fd) == os.getpgrp()
    return False


# Output


def _pumps(child: subprocess.Popen[bytes]) -> list[threading.Thread]:
    pairs = ((child.stdout, sys.stdout), (child.stderr, sys.stderr))
    pumps = [
        threading.Thread(target=_pump, args=(source, target), daemon=True)
        for source, target in pairs
        if source is not None
    ]
    for pump in pumps:
        pump.start()
    return pumps


def _pump(source: IO[bytes], target: TextIO | None) -> None:
    """Pass output on as it comes, byte for byte, progress bars included."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    # Whoever reads our output may leave: the pipe is closed then, and the command
    # learns of it as it would without us.
    with source, suppress(OSError, ValueError):
        while data := os.read(source.fileno(), _CHUNK):
            if target is not None:
                target.write(decoder.decode(data))
                target.flush()
        if target is not None:
            target.write(decoder.decode(b"", final=True))
            target.flush()
