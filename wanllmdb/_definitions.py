"""`define_metric`: how metrics are summed up, and which other one is their x-axis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wanllmdb._metrics.summary import options_of
from wanllmdb.errors import InvalidInputError
from wanllmdb.types import JSONValue

SUMMARY_WORDS = ("min", "max", "mean", "last", "first", "best", "none", "copy")
GOALS = ("minimize", "maximize")


class Metric:
    """What `define_metric` returns; only its name is of use."""

    def __init__(self, name: str) -> None:
        self.name = name


class Definitions:
    """The definitions of one run, by key or glob.

    Attributes:
        options: What was defined, in the order of definition.
        has_axes: Whether rows may need a value of another metric copied in.
        version: How often something was defined.
    """

    def __init__(self, options: dict[str, dict[str, JSONValue]]) -> None:
        self.options = options
        self.version = 0
        self._latest: dict[str, Any] = {}
        self._refresh()

    def define(
        self, name: str, given: Mapping[str, JSONValue], *, overwrite: bool
    ) -> dict[str, JSONValue]:
        """Add options of a key or glob to what is known of it; return them all.

        Raises:
            InvalidInputError: a word is unknown, or ``best`` lacks a goal.
        """
        options = {} if overwrite else dict(self.options.get(name, {}))
        words = [*_words(options.get("summary")), *_words(given.get("summary"))]
        options.update({k: v for k, v in given.items() if v is not None})
        if words:
            options["summary"] = ",".join(dict.fromkeys(words))
        _check(words, options.get("goal"))
        self.options[name] = options
        self.version += 1
        self._refresh()
        return options

    def with_axes(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """A row with the last value of each step metric that it needs and lacks."""
        row = dict(data)
        for axis in self._axes:
            if axis in row:
                self._latest[axis] = row[axis]
        for key in data:
            axis = self._axis_of(key)
            if axis in self._latest and axis not in row:
                row[axis] = self._latest[axis]
        return row

    def _axis_of(self, key: str) -> str:
        axis = self._axis_by_key.get(key)
        if axis is None:
            options = options_of(key, self.options)
            synced = options.get("step_sync", True)
            axis = str(options.get("step_metric") or "") if synced else ""
            self._axis_by_key[key] = axis
        return axis

    def _refresh(self) -> None:
        self._axis_by_key: dict[str, str] = {}
        self._axes = {
            str(options["step_metric"])
            for options in self.options.values()
            if options.get("step_metric") and options.get("step_sync", True)
        }
        self.has_axes = bool(self._axes)


def _words(summary: JSONValue) -> list[str]:
    return [word.strip() for word in str(summary or "").split(",") if word.strip()]


def _check(words: list[str], goal: JSONValue) -> None:
    if bad := [word for word in words if word not in SUMMARY_WORDS]:
        raise InvalidInputError(
            f"define_metric has no summary {bad[0]!r}.",
            hint=f"Use {', '.join(SUMMARY_WORDS)}.",
        )
    if goal not in (None, *GOALS):
        raise InvalidInputError(
            f"define_metric has no goal {goal!r}.", hint=f"Use {' or '.join(GOALS)}."
        )
    if "best" in words and goal is None:
        raise InvalidInputError(
            "summary='best' needs a goal.", hint="Add goal='minimize' or 'maximize'."
        )
