"""How far a long copy is: one line on a terminal's stderr, and nothing elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LEAST_BYTES = 64 << 20
"""Less than that is done before anybody wonders."""

SECONDS = 0.1


@contextmanager
def shown(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show how many of `total` bytes are done.

    Args:
        what: What is being done.
        total: Bytes in all.

    Yields:
        To be called with the bytes of each file that is done.
    """
    stream = sys.stderr
    if stream is None or total < LEAST_BYTES or not stream.isatty():
        yield lambda size: None
        return
    done, count, last, started = 0, 0, 0.0, time.monotonic()

    def told(size: int) -> None:
        nonlocal done, count, last
        done += size
        count += 1
        now = time.monotonic()
        if now - last >= SECONDS or done >= total:
            last = now
            rate = done / max(now - started, 1e-3) / 1e6
            left = max(total - done, 0) / 1e6 / max(rate, 1e-3)
            stream.write(
                f"\r{what}: {count} done, {done / 1e6:.0f} of {total / 1e6:.0f} MB,"
                f" {rate:.0f} MB/s, {left:.0f} s left "
            )
            stream.flush()

    try:
        yield told
    finally:
        stream.write("\n")
