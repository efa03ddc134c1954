"""What a child does while its commit or its download is killed or its disk fails."""

from __future__ import annotations

import importlib
import importlib.util
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import wanllmdb
from wanllmdb import Artifact, _gc, _versions
from wanllmdb._store import Store


def _told() -> ModuleType:
    """The child of tests/crash, and how it tells how far it came."""
    path = Path(__file__).parents[1] / "crash" / "child.py"
    spec = importlib.util.spec_from_file_location("crash_child", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


for name in ("json", "hashlib", "ctypes", "getpass", "concurrent.futures.thread"):
    importlib.import_module(name)  # now: a trace of the phases shall hold no imports
told = _told()
phase, SLOTS = told.phase, told.SLOTS

FIRST = {"kept": "kept", "d/old": "old", "big": "b" * (3 << 20)}
SECOND = {
    "kept": "kept",
    "d/new": "new",
    "d/e/deep": "deep",
    "big": "c" * (3 << 20),
} | {f"many/{n}": str(n) for n in range(10)}
THIRD = {"kept": "kept", "d/new": "changed"}
BEFORE = {"kept": "kept", "d/old": "wrong, and mine", "else": "mine"}
"""What is in a download's target before."""


def place(suffix: str) -> Path:
    """Beside this child's Store."""
    return Path(os.environ["WANLLMDB_DIR"]).with_suffix(suffix)


def write(root: Path, texts: dict[str, str]) -> Path:
    for path, text in texts.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def insist(call: Callable[[], Any]) -> Any:
    """A failing disk fails once: what is tried again works."""
    try:
        return call()
    except wanllmdb.WanllmdbError:
        return call()


def template(shared: Any) -> None:
    """A Store with a version."""
    with wanllmdb.init(project="p", id="t") as run:
        artifact = Artifact("a", "dataset")
        artifact.add_dir(write(place(".first"), FIRST))
        run.log_artifact(artifact, aliases=["best"])
    shared.tell(stage=1)


def committing(shared: Any) -> None:
    """Two further versions, of many files and of few."""
    second, third = write(place(".second"), SECOND), write(place(".third"), THIRD)
    run = wanllmdb.init(project="p", id="r")
    shared.tell(stage=0)
    phase("begin")
    for stage, root in enumerate((second, third), 1):
        artifact = Artifact("a", "dataset")
        insist(lambda a=artifact, r=root: a.add_dir(r))
        insist(lambda a=artifact: run.log_artifact(a, aliases=["best"]))
        shared.tell(stage=stage)
    phase("end")
    wanllmdb.finish()


def joining(shared: Any) -> None:
    """Two additions to a joint draft, and its end."""
    second = write(place(".second"), SECOND)
    run = wanllmdb.init(project="p", id="r", group="g")
    shared.tell(stage=0)
    phase("begin")
    for stage, name in enumerate((None, "twice"), 1):
        artifact = Artifact("a", "dataset")
        insist(lambda a=artifact, n=name: a.add_dir(second, name=n))
        insist(lambda a=artifact: run.upsert_artifact(a, aliases=["best"]))
        shared.tell(stage=stage)
    ending = Artifact("a", "dataset")
    insist(lambda: run.finish_artifact(ending))
    shared.tell(stage=3)
    phase("end")
    wanllmdb.finish()


def downloading(shared: Any) -> None:
    """A version into a directory that holds some of it, some of it wrong."""
    target = write(place(".out"), BEFORE)
    with wanllmdb.Api() as api:
        version = api.artifact("a:best")
        shared.tell(stage=0)
        phase("begin")
        insist(lambda: version.download(target))
        shared.tell(stage=1)
        phase("end")


def checking_out(shared: Any) -> None:
    """As `downloading`, and what is no part of it goes."""
    target = write(place(".out"), BEFORE)
    with wanllmdb.Api() as api:
        version = api.artifact("a:best")
        shared.tell(stage=0)
        phase("begin")
        insist(lambda: version.checkout(target))
        shared.tell(stage=1)
        phase("end")


def collecting(shared: Any) -> None:
    """Gc of a Store with purged versions, old blobs, a dead draft and a full trash."""
    run = wanllmdb.init(project="p", id="gc")
    for number, texts in enumerate((SECOND, THIRD)):
        artifact = Artifact("gone", "dataset")
        artifact.add_dir(write(place(f".gone{number}"), texts))
        made = run.log_artifact(artifact)
        made.delete()
        _versions.purge(made._place(), made._record)
    store = made._place()
    old = time.time() - 10 * 86_400
    dead = store.tmp / "draft-dead"
    write(dead, {"lock": "", "copy": "x" * 1000})
    write(store.path / "trash" / "blobs", {"0" * 64: "old trash"})
    for path in [*(store.path / "blobs").rglob("*"), *dead.rglob("*"), dead]:
        os.utime(path, (old, old))
    shared.tell(stage=0)
    phase("begin")
    insist(lambda: _gc.collect(store, grace=60))
    shared.tell(stage=1)
    phase("end")
    wanllmdb.finish()


assert Store  # imported before the phases
told.SCENARIOS = {
    play.__name__: play
    for play in (
        template,
        committing,
        joining,
        downloading,
        checking_out,
        collecting,
    )
}
SCENARIOS, main = told.SCENARIOS, told.main

if __name__ == "__main__":
    import sys

    main(*sys.argv[1:])
