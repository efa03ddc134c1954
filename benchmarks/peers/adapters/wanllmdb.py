"""This project, by its public interface."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adapters import PROJECT, Row, Runs

TITLE = "wanllmdb"


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

    from wanllmdb import Api  # noqa: F401


def read_points(store: Path) -> dict[str, Any]:
    import wanllmdb

    (run,) = wanllmdb.Api(str(store)).runs(PROJECT)
    frame = run.history().df()
    return {key: frame[key].to_numpy() for key in frame if not key.startswith("_")}


def read_metric(store: Path, key: str) -> dict[str, Any]:
    import wanllmdb

    frame = wanllmdb.Api(str(store)).metrics(key, project=PROJECT).df()
    return {run: part.to_numpy() for run, part in frame.groupby("run")["value"]}


def list_runs(store: Path, optimizer: str, limit: int) -> list[float]:
    import wanllmdb

    found = wanllmdb.Api(str(store)).runs(
        PROJECT, {"config.optimizer": optimizer}, order="+summary.loss", limit=limit
    )
    return [run.summary["loss"] for run in found]


def fill_runs(store: Path, runs: Runs) -> int:
    """Records of the catalog in one transaction: each `finish` syncs, 10,000 wait."""
    import wanllmdb
    from wanllmdb import _clock as clock
    from wanllmdb._catalog import runs as catalog_runs
    from wanllmdb._catalog import values
    from wanllmdb._json import dumps
    from wanllmdb.types import End, NewRun, State

    wanllmdb.init(project=PROJECT, store=str(store)).finish()  # makes the Store
    end = End(State.FINISHED)
    catalog, count = wanllmdb.Api(str(store)).store.catalog, 0
    with catalog.transaction(durable=False) as connection:
        for name, config, loss in runs:
            new = NewRun(f"uid-{name}", PROJECT, name, name)
            pk = catalog_runs.insert(connection, new, 1)
            for scope, value in (("config", config), ("summary", {"loss": loss})):
                values.set_json(connection, pk, scope, value, dumps(value), None)
            catalog_runs.set_ended(connection, pk, end, ended_us=clock.now_us())
            count += 1
    return count
