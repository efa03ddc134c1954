"""This project, by its public interface."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adapters import PROJECT, Row


def start(store: Path, name: str, config: dict[str, Any]) -> Any:
    import wanllmdb

    return wanllmdb.init(project=PROJECT, name=name, config=config, store=str(store))


def log(run: Any, row: Row, step: int) -> None:
    run.log(row)


def finish(run: Any) -> None:
    run.finish()


def import_reader() -> None:
    import pandas  # noqa: F401
    import pyarrow  # noqa: F401

    import wanllmdb  # noqa: F401


def read_points(store: Path) -> dict[str, Any]:
    import wanllmdb

    (run,) = wanllmdb.Api(str(store)).runs(PROJECT)
    frame = run.history().df()
    return {key: frame[key].to_numpy() for key in frame if not key.startswith("_")}


def read_metric(store: Path, key: str) -> dict[str, Any]:
    import wanllmdb

    frame = wanllmdb.Api(str(store)).history(PROJECT, [key]).df()
    return {run: part.to_numpy() for run, part in frame.groupby("run")[key]}


def list_runs(store: Path, optimizer: str, limit: int) -> list[float]:
    import wanllmdb

    found = wanllmdb.Api(str(store)).runs(
        PROJECT, {"config.optimizer": optimizer}, order="+summary.loss", limit=limit
    )
    return [run.summary["loss"] for run in found]
