"""The Store's debug log, and the operation ids that tie it to errors.

One line per operation and per failure survived, in ``<store>/logs/debug.log``; at
5 MB it is renamed to ``.1``, which becomes ``.2``. Never on the path of `log()`, and
it never raises: a tracker that cannot write its own diary still tracks.
"""

from __future__ import annotations

import os
import traceback  # not when needed: then no descriptor may be free
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from wanllmdb import _clock, _ids
from wanllmdb._redact import redact
from wanllmdb.errors import current_op

LIMIT_BYTES = 5_000_000
KEPT = 2


class DebugLog:
    """Appends lines to a rotating file; any number of processes may."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "debug.log"

    def write(self, text: str) -> None:
        """Append one line, stamped with time, pid and operation id."""
        op = current_op.get() or "-"
        clean = redact(text).replace("\n", "\n    ")
        line = f"{_clock.iso(_clock.now_us())} {os.getpid()} {op} {clean}\n"
        try:
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            self._rotate()
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            fd = os.open(self._path, flags, 0o600)
            try:
                os.write(fd, line.encode("utf-8", "backslashreplace"))
            finally:
                os.close(fd)
        except OSError:  # full disk, read-only Store: nothing to tell it to
            pass

    def survived(self, what: str, error: BaseException) -> None:
        """Note a failure that was kept away from the caller."""
        trace = "".join(traceback.format_exception(error)[-4:])
        self.write(f"survived {what}: {error!r}\n{trace}")

    def _rotate(self) -> None:
        # Two processes may rotate at once: the loser's rename fails or moves a
        # young file one place on. A line of a debug log is not worth a lock.
        if not self._path.exists() or self._path.stat().st_size < LIMIT_BYTES:
            return
        names = [self._path, *(self._path.with_suffix(f".log.{n}") for n in (1, KEPT))]
        for newer, older in reversed(list(pairwise(names))):
            if newer.exists():
                newer.replace(older)


@contextmanager
def noted(log: DebugLog | None, name: str) -> Iterator[str]:
    """Give one operation an id: in the log's lines and in errors raised inside.

    A nested operation keeps the id of the outer one.
    """
    outer = current_op.get()
    op = outer or _ids.op_id()
    token = current_op.set(op)
    try:
        if log is not None:
            log.write(name)
        yield op
    except Exception as error:
        if log is not None and outer is None:
            log.write(f"{name} failed: {error!r}")
        raise
    finally:
        current_op.reset(token)
