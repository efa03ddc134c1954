"""MLflow with its SQLite store, whose metrics are written when the call returns."""

from __future__ import annotations

import time
import uuid
from itertools import groupby
from pathlib import Path
from typing import Any

from adapters import PROJECT, Histories, Row, Runs

TITLE = "MLflow (SQLite)"
BATCH = 1000  # metrics; the most that log_batch takes


def start(store: Path, name: str, config: dict[str, Any]) -> Any:
    import mlflow

    mlflow.set_tracking_uri(_uri(store))
    mlflow.set_experiment(PROJECT)
    run = mlflow.start_run(run_name=name, log_system_metrics=False)
    if config:
        mlflow.log_params(config)
    return run


def log(run: Any, row: Row, step: int) -> None:
    import mlflow

    mlflow.log_metrics(row, step=step, synchronous=True)


def finish(run: Any) -> None:
    import mlflow

    mlflow.end_run()


def import_reader() -> None:
    import mlflow  # noqa: F401
    import numpy  # noqa: F401
    from mlflow.store.tracking import sqlalchemy_store  # noqa: F401


def read_points(store: Path) -> dict[str, Any]:
    import numpy as np

    client, experiment = _reader(store)
    (run,) = client.search_runs([experiment])
    histories = {
        key: client.get_metric_history(run.info.run_id, key) for key in run.data.metrics
    }
    return {
        key: np.array([point.value for point in points])
        for key, points in histories.items()
    }


def read_metric(store: Path, key: str) -> dict[str, Any]:
    """The store's own bulk call, which the client does not have."""
    import numpy as np

    client, experiment = _reader(store)
    runs = [run.info.run_id for run in client.search_runs([experiment])]
    rows = client._tracking_client.store.get_metric_history_bulk(runs, key, 10**7)
    return {
        run: np.array([row.value for row in part])
        for run, part in groupby(rows, key=lambda row: row.run_id)
    }


def list_runs(store: Path, optimizer: str, limit: int) -> list[float]:
    client, experiment = _reader(store)
    found = client.search_runs(
        [experiment], f"params.optimizer = '{optimizer}'",
        order_by=["metrics.loss ASC"], max_results=limit,
    )  # fmt: skip
    return [run.data.metrics["loss"] for run in found]


def fill_history(store: Path, histories: Histories) -> int:
    """Batches of a thousand: five times as fast as a call per step."""
    import mlflow
    from mlflow.entities import Metric

    mlflow.set_tracking_uri(_uri(store))
    client, count = mlflow.MlflowClient(), 0
    for name, rows in histories:
        run = start(store, name, {})
        metrics = [
            Metric(key, value, int(time.time() * 1000), step)
            for step, row in enumerate(rows)
            for key, value in row.items()
        ]
        for at in range(0, len(metrics), BATCH):
            client.log_batch(
                run.info.run_id, metrics[at : at + BATCH], synchronous=True
            )
        finish(run)
        count += 1
    return count


def fill_runs(store: Path, runs: Runs) -> int:
    """Rows of its own tables: its interface takes some 15 ms a run."""
    import mlflow
    from mlflow.store.tracking.dbmodels import models

    client, experiment = _reader(store, make=True)
    artifacts = client.get_experiment(experiment).artifact_location
    tables: dict[Any, list[dict[str, Any]]] = {}
    count = 0
    for name, config, loss in runs:
        run = uuid.uuid4().hex
        for table, row in _rows(models, run, name, config, loss):
            tables.setdefault(table, []).append(row)
        info = tables[models.SqlRun][-1]
        info["experiment_id"] = int(experiment)
        info["artifact_uri"] = f"{artifacts}/{run}/artifacts"
        count += 1
    with client._tracking_client.store.ManagedSessionMaker() as session:
        for table, rows in tables.items():
            session.bulk_insert_mappings(table, rows)
    assert mlflow.get_tracking_uri() == _uri(store)
    return count


def _rows(
    models: Any, run: str, name: str, config: dict[str, Any], loss: float
) -> list[tuple[Any, dict[str, Any]]]:
    """The rows that one finished run has in each table."""
    now = int(time.time() * 1000)
    value = {"run_uuid": run, "key": "loss", "value": loss, "timestamp": now,
             "step": 0, "is_nan": False}  # fmt: skip
    info = {"run_uuid": run, "name": name, "user_id": "", "status": "FINISHED",
            "source_type": "LOCAL", "source_name": "", "entry_point_name": "",
            "source_version": "", "lifecycle_stage": "active", "start_time": now,
            "end_time": now}  # fmt: skip
    return [
        (models.SqlRun, info),
        (models.SqlTag, {"run_uuid": run, "key": "mlflow.runName", "value": name}),
        *(
            (models.SqlParam, {"run_uuid": run, "key": key, "value": str(item)})
            for key, item in config.items()
        ),
        (models.SqlMetric, value),
        (models.SqlLatestMetric, value),
    ]


def _uri(store: Path) -> str:
    return f"sqlite:///{store}/mlflow.db"


def _reader(store: Path, make: bool = False) -> tuple[Any, str]:
    """A client, and the id of the experiment."""
    import mlflow

    mlflow.set_tracking_uri(_uri(store))
    if make:
        mlflow.set_experiment(PROJECT)
    client = mlflow.MlflowClient()
    return client, client.get_experiment_by_name(PROJECT).experiment_id
