"""The bench of tests/compaction, and a Store beside it that takes rows over."""

from __future__ import annotations

import importlib.util
import itertools
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import wanllmdb
from wanllmdb import _rowintake, _rowsets
from wanllmdb._catalog import runs


def _loaded(name: str) -> Any:
    path = Path(__file__).parents[1] / "compaction" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"rowsets_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses ask for it
    spec.loader.exec_module(module)
    return module


_bench = _loaded("conftest")
bench, new_bench, sql = _bench.bench, _bench.new_bench, _bench.sql
_numbers = itertools.count()


@pytest.fixture
def exchange(tmp_path: Path) -> Any:
    """What takes rows from one Store into another."""
    place = tmp_path / "exchange"
    place.mkdir()
    return Exchange(place)


@dataclass
class Exchange:
    """Takes rows out of a Store, and into another one."""

    place: Path

    def out(self, store: Path, held: Any = None) -> list[Any]:
        """What a Store has and `held` has not; `held` has it then."""
        held = {} if held is None else held
        with wanllmdb.Api(store) as api:
            inner = api.store
            records = [run.record for run in api.runs("p", limit=None)]
            target = store / "tmp" / f"out{next(_numbers)}"
            project = runs.project_uid(inner.catalog.reader, "p")
            found = list(_rowsets.outgoing(inner.logs, project, records, held, target))
        kept = self.place / f"sent{next(_numbers)}"
        shutil.move(target, kept)
        for one in found:
            for part in one.ranges:
                held[part.place] = part.end
        return [moved(one, kept) for one in found]

    def take(self, store: Path, sets: list[Any], **how: Any) -> list[str]:
        """Install sets of parts; return the parts that came of it."""
        new = []
        with wanllmdb.Api(store) as api:
            inner = api.store
            intake = _rowintake.Intake(
                inner.path, inner.catalog, inner.logs, inner.sweeper
            )
            project = runs.project_uid(inner.catalog.reader, "p")
            for one in sets:
                with intake.check(project, one, **how) as prepared:
                    with inner.catalog.transaction(durable=True) as connection:
                        keys = {
                            found.run: runs.find_uid(connection, found.run)
                            for found in one.ranges
                        }
                        _rowintake.add(connection, prepared, keys)
                    new += [part.name for part, _ in prepared.parts]
        return new

    def digests(self, store: Path) -> dict[Any, tuple[int, str]]:
        """How far each stream of a Store goes, and the digest of all of it."""
        found = {}
        with wanllmdb.Api(store) as api:
            logs = api.store.logs
            for run in api.runs("p", limit=None):
                record = run.record
                for kind, identity, items in _rowsets.streams_of(
                    logs.view(), logs, record
                ):
                    token = identity.token
                    end = max((stretch.end for stretch in items), default=0)
                    if end:
                        digest = _rowsets.digest_of(logs, record, token, kind, 0, end)
                        found[record.uid, token, kind] = (end, digest)
        return found

    def emptied(self, store: Path) -> Path:
        """A copy of a Store that knows its runs, and has none of their rows."""
        target = self.place / f"emptied{next(_numbers)}"
        shutil.copytree(store, target)
        for table in ("part", "watermark", "inline_log", "retired"):
            sql(target, "PRAGMA foreign_keys = ON")
            sql(target, f"DELETE FROM {table}")
        sql(target, "DELETE FROM part_run")
        sql(target, "DELETE FROM part_key")
        for path in [*(target / "live").rglob("*.wlog"), *target.rglob("*.parquet")]:
            path.unlink()
        return target


def moved(one: Any, place: Path) -> Any:
    """A set whose files were brought elsewhere."""
    return replace(
        one,
        parts=tuple(replace(p, path=place / p.path.name) for p in one.parts),
    )
