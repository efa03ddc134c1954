"""What a child does while its compaction is killed or its disk fails."""

from __future__ import annotations

import importlib
import importlib.util
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import wanllmdb
import wanllmdb._merging
from wanllmdb import _compaction
from wanllmdb._metrics import decode, inline, parts, seal, writer  # noqa: F401


def _told() -> ModuleType:
    """The child of tests/crash: its rows, and how it tells how far it came."""
    path = Path(__file__).parents[1] / "crash" / "child.py"
    spec = importlib.util.spec_from_file_location("crash_child", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


for name in ("numpy", "pyarrow.compute", "pyarrow.parquet"):
    importlib.import_module(name)  # now: a trace of the phases shall hold no imports
told = _told()
row, log, phase, SLOTS = told.row, told.log, told.phase, told.SLOTS


def record(shared: Any, name: str, rows: int) -> None:
    run = wanllmdb.init(project="p", id=name)
    shared.tell(stage=1)
    run.log_message("hello")
    Path(run.dir, "model.txt").write_text("weights")
    log(shared, 0, rows)
    run.summary["note"] = "by hand"
    phase("begin")
    wanllmdb.finish()
    phase("end")
    shared.tell(stage=2)


def inlining(shared: Any) -> None:
    """A small run ends: its log goes into the Catalog."""
    record(shared, "r", 30)


def sealing(shared: Any) -> None:
    """A large run ends: its log goes into parts."""
    _compaction.INLINE_BYTES = 0
    writer.SEGMENT_BYTES = 4096
    record(shared, "r", 120)


def left_behind(shared: Any) -> None:
    """A run that whoever started this kills, as its process would be."""
    told.left_behind(shared)


def sealing_the_dead(shared: Any) -> None:
    """`store compact` recovers and seals a run that was killed."""
    from wanllmdb._recovery import recover_dead

    _compaction.INLINE_BYTES = 0
    _compaction.BATCH_BYTES = 4096
    shared.tell(rows=120)
    phase("begin")
    with wanllmdb.Api() as api, suppress(OSError):
        recover_dead(api.store)
        list(api.store.compact())
        shared.tell(stage=1)
    phase("end")


def merging(shared: Any) -> None:
    """Parts of two runs and the inline logs of two others become one part each."""
    shared.tell(rows=40)
    with wanllmdb.Api() as api, suppress(OSError):
        phase("begin")
        list(api.store.compact())
        shared.tell(stage=1)
    phase("end")


def merge_template(shared: Any) -> None:
    """What `merging` finds."""
    for name, limit in (("r", 0), ("s", 0), ("t", 1 << 20), ("u", 1 << 20)):
        _compaction.INLINE_BYTES = limit
        run = wanllmdb.init(project="p", id=name)
        run.log_message(f"hello from {name}")
        log(shared, 0, 40)
        run.summary["note"] = "by hand"
        wanllmdb.finish()
    shared.tell(stage=1)


told.SCENARIOS = {
    play.__name__: play
    for play in (
        inlining, sealing, left_behind, sealing_the_dead, merging, merge_template,
    )
}  # fmt: skip
SCENARIOS, main = told.SCENARIOS, told.main

if __name__ == "__main__":
    import sys

    main(*sys.argv[1:])
