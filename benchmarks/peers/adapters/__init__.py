"""One module per system, each with the same handful of functions.

`start`, `log` and `finish` record the way the system's own guide recommends; `read_*`
and `list_runs` are the fastest way that it has to read. Modules load their system
inside functions: so a start costs what a user's does, and the process that measures
can ask a module what it has without the system being installed.

A module may also have:

- `index`: what has to run before a fresh process sees what was recorded;
- `fill_history`, `fill_runs`: a faster way to make the Stores that are only read;
- `OWN_READER = True`, where the system has no reader and a parser of ours reads.

One without `list_runs` is of a system that has no such function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

PROJECT = "peers"

Row = dict[str, float]
Histories = Iterable[tuple[str, list[Row]]]  # name, rows
Runs = Iterable[tuple[str, dict[str, Any], float]]  # name, config, loss


class Adapter(Protocol):
    """What is asked of each module of this package."""

    TITLE: str
    """The system's name in the table."""
    start: Callable[[Path, str, dict[str, Any]], Any]
    """Open the run of that name; the handle that `log` and `finish` take."""
    log: Callable[[Any, Row, int], None]
    """Log one row at one step; return when the system's own call returns."""
    finish: Callable[[Any], None]
    """End the run; everything is stored when this returns."""
    import_reader: Callable[[], None]
    """Load what the readers need, so that reading is measured without it."""
    read_points: Callable[[Path], dict[str, Any]]
    """The history of a Store's only run: an array per key."""
    read_metric: Callable[[Path, str], dict[str, Any]]
    """One key's values in all runs: an array per run."""
    list_runs: Callable[[Path, str, int], list[float]]
    """The smallest losses of the runs with that optimizer in their config."""


def load(system: str) -> Adapter:
    """The module of a system."""
    return cast(Adapter, import_module(f"adapters.{system}"))
