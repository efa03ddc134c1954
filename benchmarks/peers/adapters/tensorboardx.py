"""TensorBoardX: one event file a run, read by TensorBoard's accumulator.

A run has no config and no summary, so there is nothing to list runs by.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from adapters import Row

TITLE = "TensorBoardX"


def start(store: Path, name: str, config: dict[str, Any]) -> Any:
    from tensorboardX import SummaryWriter

    writer = SummaryWriter(str(store / name))
    if config:
        writer.add_text("config", json.dumps(config))
    return writer


def log(run: Any, row: Row, step: int) -> None:
    for key, value in row.items():
        run.add_scalar(key, value, step)


def finish(run: Any) -> None:
    run.close()


def import_reader() -> None:
    import numpy  # noqa: F401
    from tensorboard.backend.event_processing import event_accumulator  # noqa: F401


def read_points(store: Path) -> dict[str, Any]:
    (directory,) = store.iterdir()
    events = _events(directory)
    return {key: _values(events, key) for key in events.Tags()["scalars"]}


def read_metric(store: Path, key: str) -> dict[str, Any]:
    return {
        directory.name: _values(_events(directory), key)
        for directory in store.iterdir()
    }


def _events(directory: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import (
        EventAccumulator,
    )

    # 0: keep all points, where it would keep a sample of 10,000.
    return EventAccumulator(str(directory), size_guidance={"scalars": 0}).Reload()


def _values(events: Any, key: str) -> Any:
    import numpy as np

    return np.array([event.value for event in events.Scalars(key)])
