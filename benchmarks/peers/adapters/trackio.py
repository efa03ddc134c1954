"""Trackio, local: one SQLite file a project in TRACKIO_DIR.

Its `Api` lists runs and reads no metric; its storage class and its read-only SQL (which
is its `trackio query` command) are the readers that it has.
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

from adapters import PROJECT, Row, Runs

TITLE = "Trackio"
EVERYTHING = 10_000_000  # rows; its SQL answers 1,000 unless told


def start(store: Path, name: str, config: dict[str, Any]) -> Any:
    import trackio

    return trackio.init(
        project=PROJECT, name=name, config=config, embed=False,
        auto_log_gpu=False, auto_log_cpu=False,
    )  # fmt: skip


def log(run: Any, row: Row, step: int) -> None:
    run.log(row)


def finish(run: Any) -> None:
    run.finish()


def import_reader() -> None:
    import numpy  # noqa: F401
    from trackio.sqlite_storage import SQLiteStorage  # noqa: F401


def read_points(store: Path) -> dict[str, Any]:
    import numpy as np
    from trackio.sqlite_storage import SQLiteStorage

    records = SQLiteStorage.get_run_records(PROJECT)
    if not records:
        return {}
    (record,) = records
    rows = SQLiteStorage.get_logs(PROJECT, run_id=record["id"])
    keys = [key for key in rows[0] if key not in {"step", "timestamp"}]
    return {key: np.array([row[key] for row in rows]) for key in keys}


def read_metric(store: Path, key: str) -> dict[str, Any]:
    import numpy as np

    rows = _query(
        f"SELECT run_id, json_extract(metrics, '$.{key}') AS value FROM metrics"
        " ORDER BY run_id, step"
    )
    return {
        run: np.array([row["value"] for row in part])
        for run, part in groupby(rows, key=lambda row: row["run_id"])
    }


def list_runs(store: Path, optimizer: str, limit: int) -> list[float]:
    rows = _query(
        "WITH last AS (SELECT run_id, metrics, max(step) FROM metrics GROUP BY run_id)"
        " SELECT c.run_name, json_extract(last.metrics, '$.loss') AS loss"
        " FROM configs c JOIN last USING (run_id)"
        f" WHERE json_extract(c.config, '$.optimizer') = '{optimizer}'"
        f" ORDER BY loss LIMIT {limit}"
    )
    return [row["loss"] for row in rows]


def fill_runs(store: Path, runs: Runs) -> int:
    """The storage call that its writer thread makes, without a thread per run."""
    from trackio.sqlite_storage import SQLiteStorage

    count = 0
    for name, config, loss in runs:
        SQLiteStorage.bulk_log(
            PROJECT, name, [{"loss": loss}], config=config, run_id=name
        )
        count += 1
    return count


def _query(statement: str) -> list[dict[str, Any]]:
    from trackio.sqlite_storage import SQLiteStorage

    return SQLiteStorage.query_project(PROJECT, statement, EVERYTHING)["rows"]
