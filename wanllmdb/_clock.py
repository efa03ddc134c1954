"""The only place that reads the wall clock, so that tests can set it."""

from __future__ import annotations

import time

US_PER_SECOND = 1_000_000


def now_us() -> int:
    """UTC microseconds since 1970."""
    return time.time_ns() // 1000


def to_seconds(us: int) -> float:
    """Seconds since 1970; exact to the microsecond until the year 2255."""
    return us / US_PER_SECOND


def iso(us: int | None) -> str | None:
    """ISO 8601 in UTC with milliseconds, or None."""
    if us is None:
        return None
    from datetime import UTC, datetime

    moment = datetime.fromtimestamp(us // 1000 / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
