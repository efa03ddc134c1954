"""One module per system, each with the same handful of functions.

`start`, `log` and `finish` record the way the system's own guide recommends; the
`read_*` and `list_runs` functions are the fastest way that it has to read. Modules
load what they need inside functions, so that a start costs what a user's does.

A module may also have:

- `import_reader`: loads what the readers need, so that reading is measured without it;
- `index`: what has to run before a fresh process sees what was recorded;
- `fill_history`, `fill_runs`: a faster way to make the Stores that are only read;
- `list_runs` missing, for a system that has no such function;
- `OWN_READER = True`, for a system that has no reader of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

PROJECT = "peers"
Row = dict[str, float]


class Adapter(Protocol):
    """What the worker asks of each module of this package."""

    start: Callable[[Path, str, dict[str, Any]], Any]
    """Open the run of that name; the handle that `log` and `finish` take."""
    log: Callable[[Any, Row, int], None]
    """Log one row at one step; return when the system's own call returns."""
    finish: Callable[[Any], None]
    """End the run; everything is stored when this returns."""
    read_points: Callable[[Path], dict[str, Any]]
    """The history of a Store's only run: an array per key."""
    read_metric: Callable[[Path, str], dict[str, Any]]
    """One key's values in all runs: an array per run."""


Histories = Iterable[tuple[str, list[Row]]]
Runs = Iterable[tuple[str, dict[str, Any], float]]
