"""Recording stdout and stderr by patching `write` of the existing stream objects.

The objects stay, so handlers and rich consoles that hold them keep working. No pipe
and no file descriptor is touched.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

MAX_LINE = 16 << 10
"""Characters after which a line is recorded in pieces: each fits a frame of the log."""

Emit = Callable[[str, str, int], None]


class ConsoleCapture:
    """Passes each finished line of stdout and stderr on to `emit`.

    Args:
        emit: Called as ``emit(stream, text, time_us)``; what it raises is swallowed,
            what it prints is not captured.
    """

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._taps: list[_Tap] = []
        self._notebook: Any = None

    @property
    def patched(self) -> tuple[str, ...]:
        """The streams that could be patched."""
        return tuple(tap.name for tap in self._taps)

    def start(self) -> None:
        """Patch the streams; one that cannot be patched is left alone."""
        seen: list[Any] = []
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream is None or any(stream is other for other in seen):
                continue
            seen.append(stream)
            tap = _Tap(name, stream, self._emit)
            if tap.attach():
                self._taps.append(tap)
        self._notebook = _notebook_events()
        if self._notebook is not None:
            self._notebook.register("pre_run_cell", self._reattach)

    def stop(self) -> None:
        """Record unfinished lines, and restore what is still ours."""
        if self._notebook is not None:
            self._notebook.unregister("pre_run_cell", self._reattach)
            self._notebook = None
        for tap in self._taps:
            tap.flush_partial()
            tap.detach()
        self._taps.clear()

    def _reattach(self, *_: Any) -> None:
        # IPython puts a stream's `write` back after each cell.
        for tap in self._taps:
            tap.attach_again()

    def detach(self) -> None:
        """In a forked child: record nothing more, and touch no lock."""
        for tap in self._taps:
            tap.active = False


class _Tap:
    """One patched stream."""

    def __init__(self, name: str, stream: Any, emit: Emit) -> None:
        self.name = name
        self.active = True
        self._stream = stream
        self._emit = emit
        self._lock = threading.RLock()
        self._partial = ""
        self._busy = False
        self._own: Any = None

    def attach(self) -> bool:
        had_own = "write" in getattr(self._stream, "__dict__", {})
        earlier = self._stream.write

        def write(text: Any, /) -> Any:
            result = earlier(text)
            if self.active and isinstance(text, str):
                self._take(text)
            return result

        try:
            self._stream.write = write
        except AttributeError:  # a C-level object or one with slots
            return False
        self._own, self._earlier, self._had_own = write, earlier, had_own
        return True

    def attach_again(self) -> None:
        if self.active and getattr(self._stream, "write", None) is not self._own:
            self.attach()

    def detach(self) -> None:
        self.active = False
        if getattr(self._stream, "write", None) is not self._own:
            return  # somebody patched over us: we stay, passing through
        if self._had_own:
            self._stream.write = self._earlier
        else:
            del self._stream.write

    def flush_partial(self) -> None:
        with self._lock:
            if self._partial:
                rest, self._partial = self._partial, ""
                self._send(rest)

    def _take(self, text: str) -> None:
        with self._lock:
            if self._busy:  # emit printed something itself
                return
            self._partial += text
            if "\n" not in text and len(self._partial) < MAX_LINE:
                if "\r" in text:
                    # Only what a progress bar shows last is worth keeping.
                    self._partial = self._partial[-MAX_LINE:]
                return
            *lines, self._partial = self._partial.split("\n")
            for line in lines:
                self._send(line)
            if len(self._partial) >= MAX_LINE:
                rest, self._partial = self._partial, ""
                self._send(rest)

    def _send(self, line: str) -> None:
        self._busy = True
        try:
            for piece in pieces(shown(line)):
                self._emit(self.name, piece, time.time_ns() // 1000)
        except Exception:  # noqa: BLE001 - capture never raises into printing
            pass
        finally:
            self._busy = False


def pieces(line: str) -> list[str]:
    """A line in parts of at most `MAX_LINE` characters; an empty line is one part."""
    return [line[at : at + MAX_LINE] for at in range(0, len(line) or 1, MAX_LINE)]


def _notebook_events() -> Any:
    """IPython's event registry, in a process that runs IPython; else None."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "events", None)


def shown(line: str) -> str:
    r"""What a terminal shows of a line with carriage returns.

    Each part after ``\r`` overwrites the start of what stands there; with escapes in
    it the last part that is not empty is kept as it is.
    """
    line = line.rstrip("\r")
    if "\r" not in line:
        return line
    parts = [part for part in line.split("\r") if part]
    if "\x1b" in line:
        return parts[-1] if parts else ""
    screen = ""
    for part in parts:
        screen = part + screen[len(part) :]
    return screen
