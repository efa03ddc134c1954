"""The summary of a run: what the log and the user say of each key, in order."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from wanllmdb._metrics.fold import Fold, KeyFold
from wanllmdb.types import JSONValue

DELETED = {"_type": "wanllmdb-deleted"}
"""What stands in the log for a key that the user removed from the summary."""

Definitions = Mapping[str, Mapping[str, JSONValue]]
"""`define_metric` options by glob, in the order of definition."""


def options_of(key: str, definitions: Definitions) -> Mapping[str, JSONValue]:
    """The options that hold for a key: its own, else the last glob that fits."""
    if key in definitions:
        return definitions[key]
    for glob in reversed(list(definitions)):
        if "*" in glob and fnmatchcase(key, glob):
            return definitions[glob]
    return {}


def summarise(fold: Fold, definitions: Definitions, started_us: int) -> dict[str, Any]:
    """The summary, by total order: the last write of a key wins.

    `define_metric(summary=...)` turns a logged key's entry into
    ``{"max": v, "min": v, ...}``; ``none`` leaves it out, ``copy`` is the last value.
    """
    summary: dict[str, Any] = {}
    for _, key, value, written in fold.entries():
        if written:
            if value == DELETED:
                summary.pop(key, None)
            else:
                summary[key] = value
            continue
        entry = _logged(fold.keys[key], value, options_of(key, definitions))
        if entry is not _NOTHING:
            summary[key] = entry
    if fold.last_step is not None:
        summary["_step"] = fold.last_step
    if fold.last_us is not None:
        # In whole ms, as sealed rows have it.
        summary["_timestamp"] = fold.last_us // 1000 / 1e3
        summary["_runtime"] = max(0, fold.last_us // 1000 - started_us // 1000) / 1e3
    return summary


_NOTHING = object()


def _logged(fold: KeyFold, last: JSONValue, options: Mapping[str, JSONValue]) -> Any:
    wanted = [word.strip() for word in str(options.get("summary") or "").split(",")]
    wanted = [word for word in wanted if word]
    if "none" in wanted:
        return _NOTHING
    if not wanted:
        return last
    stats = fold.stats()
    values = {
        "min": stats.min,
        "max": stats.max,
        "mean": stats.mean,
        "last": fold.last,
        "first": fold.first,
        "best": stats.max if options.get("goal") == "maximize" else stats.min,
    }
    chosen = {word: values[word] for word in wanted if word in values}
    return chosen or last
