"""Times as the Store keeps them: UTC microseconds since 1970."""

from __future__ import annotations

import re
import time

US_PER_SECOND = 1_000_000
_RELATIVE = re.compile(r"-(\d+(?:\.\d+)?)([smhdw])\Z")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LONGEST_SECONDS = 1e11  # 3,000 years; SQLite's integers hold 292,000


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


def parse(text: str, now_us: int) -> int:
    """UTC microseconds since 1970 of a time that a person wrote.

    Args:
        text: ISO 8601, in UTC where it names no zone, or the time before `now_us`:
            a number and s, m, h, d or w behind a minus.
        now_us: What is now.

    Raises:
        ValueError: it is neither, or beyond the years of a datetime.
    """
    relative = _RELATIVE.match(text)
    if relative:
        seconds = float(relative[1]) * _UNIT_SECONDS[relative[2]]
        if seconds > _LONGEST_SECONDS:
            raise ValueError(f"{text} is too long ago")
        return now_us - int(seconds * US_PER_SECOND)
    from datetime import UTC, datetime

    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * US_PER_SECOND)
