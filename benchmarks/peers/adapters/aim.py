"""Aim: one RocksDB a run, and an index that readers need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from adapters import PROJECT, Row

TITLE = "Aim"


def start(store: Path, name: str, config: dict[str, Any]) -> Any:
    from aim import Run

    run = Run(
        repo=str(store), experiment=PROJECT, system_tracking_interval=None,
        log_system_params=False, capture_terminal_logs=False,
    )  # fmt: skip
    run.name = name
    if config:
        run["config"] = config
    return run


def log(run: Any, row: Row, step: int) -> None:
    run.track(row, step=step)


def finish(run: Any) -> None:
    run.close()


def index(store: Path) -> None:
    """Without this a fresh process finds no run; Aim's web server does it too."""
    subprocess.run(
        [Path(sys.executable).with_name("aim"), "storage", "--repo", store, "reindex",
         "-y"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def import_reader() -> None:
    import aim  # noqa: F401
    import numpy  # noqa: F401
    from aim.storage.context import Context  # noqa: F401


def read_points(store: Path) -> dict[str, Any]:
    metrics = _repo(store).query_metrics("", report_mode=_silent()).iter()
    return {metric.name: _values(metric) for metric in metrics}


def read_metric(store: Path, key: str) -> dict[str, Any]:
    query = f"metric.name == '{key}'"
    metrics = _repo(store).query_metrics(query, report_mode=_silent()).iter()
    return {metric.run.hash: _values(metric) for metric in metrics}


def list_runs(store: Path, optimizer: str, limit: int) -> list[float]:
    """Its query filters; sorting by a last value is up to the caller."""
    query = f"run.config.optimizer == '{optimizer}'"
    found = _repo(store).query_runs(query, report_mode=_silent()).iter_runs()
    return sorted(_last_loss(item.run) for item in found)[:limit]


def _last_loss(run: Any) -> float:
    (metric,) = run.collect_sequence_info(("metric",))["metric"]
    return metric["values"]["last"]


def _repo(store: Path) -> Any:
    from aim import Repo

    return Repo(str(store))


def _silent() -> Any:
    from aim.sdk.types import QueryReportMode

    return QueryReportMode.DISABLED


def _values(metric: Any) -> Any:
    _, (values, *_) = metric.data.numpy()
    return values
