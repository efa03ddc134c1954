"""Leaderboards: runs by what one metric came to, from the statistics of its keys."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from wanllmdb._catalog import runs, values
from wanllmdb._catalog.values import Standing
from wanllmdb._metrics.summary import options_of
from wanllmdb._store import Store
from wanllmdb.errors import InvalidInputError

if TYPE_CHECKING:
    import pyarrow as pa

HOWS = ("best", "last", "min", "max", "mean")
GOALS = ("minimize", "maximize")


def schema() -> pa.Schema:
    """The columns of a leaderboard."""
    import pyarrow as pa

    return pa.schema({
        "rank": pa.int64(), "run": pa.string(), "project": pa.string(),
        "name": pa.string(), "state": pa.string(), "value": pa.float64(),
        "step": pa.int64(), "count": pa.int64(),
    })  # fmt: skip


def ranked(
    store: Store,
    key: str,
    how: str,
    project: str | None,
    goal: str | None,
    limit: int | None,
) -> list[dict[str, Any]]:
    """Runs by one metric, the best first; those without a number come last.

    Raises:
        InvalidInputError: `how` or `goal` is unknown, or `limit` is negative.
    """
    if how not in HOWS:
        raise InvalidInputError(f"There is no how={how!r}.", hint=f"Use {HOWS}.")
    if goal not in (None, *GOALS):
        raise InvalidInputError(f"There is no goal {goal!r}.", hint=f"Use {GOALS}.")
    if limit is not None and limit < 0:
        raise InvalidInputError(f"A limit of {limit} runs?", hint="Give 0 or more.")
    found = values.standings(store.catalog.reader, key, project)
    goal = goal or _goal_of(store, key, project)
    scored = [(_score(item, how, goal), item) for item in found]
    sign = -1 if goal == "maximize" else 1
    scored.sort(
        key=lambda pair: (pair[0] is None, sign * (pair[0] or 0), pair[1].run_id)
    )
    return [
        {
            "rank": number, "run": item.run_id, "project": item.project,
            "name": item.name, "state": item.state, "value": value,
            "step": item.stats.last_step, "count": item.stats.count,
        }
        for number, (value, item) in enumerate(scored[:limit], 1)
    ]  # fmt: skip


def _score(item: Standing, how: str, goal: str) -> float | None:
    if how == "best":
        how = "max" if goal == "maximize" else "min"
    value = getattr(item.stats, how)
    if not isinstance(value, (int, float)) or value != value:
        return None
    try:
        return float(value)
    except OverflowError:  # an int beyond every float
        return math.inf if value > 0 else -math.inf


def _goal_of(store: Store, key: str, project: str | None) -> str:
    """What `define_metric` said of a key in the newest run that says anything of it."""
    reader = store.catalog.reader
    for record in runs.find_many(reader, project=project, limit=50):
        said = options_of(key, store.definitions(record)).get("goal")
        if said in GOALS:
            return str(said)
    return "minimize"
