"""What became of one state of a thing, and of another one, put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def keys(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The keys that one of two mappings lacks, or has another value of."""
    return [key for key in {**before, **after} if _differ(before, after, key)]


def _differ(before: Mapping[str, Any], after: Mapping[str, Any], key: str) -> bool:
    # repr tells 1 from 1.0 and True, and finds NaN equal to NaN.
    return (key in before) != (key in after) or repr(before[key]) != repr(after[key])


def rebased(
    before: Mapping[str, Any], mine: Mapping[str, Any], now: Mapping[str, Any]
) -> dict[str, Any]:
    """A mapping as it is now, but for the keys that were changed here.

    Args:
        before: As it was read.
        mine: What was made of that here.
        now: What others made of it.
    """
    after = dict(now)
    for key in keys(before, mine):
        if key in mine:
            after[key] = mine[key]
        else:
            after.pop(key, None)
    return after


def rebased_names(
    before: Sequence[str], mine: Sequence[str], now: Sequence[str]
) -> list[str]:
    """As `rebased`, of names in a list."""
    kept = [name for name in now if name in mine or name not in before]
    return [*kept, *(n for n in mine if n not in before and n not in kept)]
