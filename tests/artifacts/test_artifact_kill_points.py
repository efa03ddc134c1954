"""Killed or refused at any system call, a version is absent or whole."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import wanllmdb
from wanllmdb import _gc, _reach

pytestmark = pytest.mark.slow
KILL = "signal=KILL:when={}"
ONCE = "error={}:when={{}}"
PER_CALL = int(os.environ.get("WANLLMDB_TEST_POINTS", "3"))
"""How many places of each system call a sweep tries; raise it for a night's work."""
FAILING = {
    "EIO": {"write", "pwrite64", "openat", "rename", "renameat", "link", "unlink",
            "unlinkat", "fsync", "fdatasync", "mkdir", "mkdirat", "copy_file_range",
            "syncfs", "utimensat"},
    "ENOSPC": {"write", "pwrite64", "mkdir", "mkdirat", "openat", "link", "rename",
               "renameat", "copy_file_range"},
}  # fmt: skip
"""The calls that each error hits. Not fcntl: SQLite waits 10 s where locks fail."""

spec = importlib.util.spec_from_file_location(
    "artifact_child", Path(__file__).with_name("child.py")
)
assert spec is not None
assert spec.loader is not None
child: Any = importlib.util.module_from_spec(spec)
spec.loader.exec_module(child)
WHOLE = [child.FIRST, child.SECOND, child.THIRD]


@pytest.fixture
def bench(lab: Any) -> Iterator[Any]:
    """The laboratory, with a Store that holds a version."""
    done = lab.play("template")
    assert done.stage == 1, done.stderr
    lab._template = done.store
    yield lab
    wanllmdb.teardown()


def texts(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): path.read_text()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.suffix != ".part"
    }


def cleared(outcome: Any) -> None:
    for path in outcome.store.parent.glob(f"{outcome.store.name}.*"):
        if path.is_dir():
            shutil.rmtree(path)


def check_versions(outcome: Any, count: int) -> None:
    """Every version there is has every byte, and the newest has the alias."""
    with wanllmdb.Api(outcome.store) as api:
        found = api.artifacts("dataset", "p/a")
        assert [a.version for a in found] == [f"v{n}" for n in range(count, 0, -1)]
        assert api.artifact("p/a:best").version == f"v{count}"
        for artifact in found:
            assert artifact.verify()
            root = outcome.store.with_suffix(f".{artifact.version}")
            artifact.download(root)
            wanted = WHOLE[int(artifact.version[1:]) - 1]
            assert texts(root) == wanted
            assert artifact.file_count == len(wanted)
            assert artifact.size == sum(map(len, wanted.values()))


def check_commits(lab: Any, outcome: Any, *, soft: bool) -> None:
    """What was acknowledged is there, and what comes next works."""
    if soft:
        assert outcome.code in (0, 120), outcome.stderr[-400:]
        assert "Traceback" not in outcome.stderr, outcome.stderr[-400:]
        assert outcome.stage == 2
    with wanllmdb.Api(outcome.store) as api:
        count = len(api.artifacts("dataset", "p/a"))
    acknowledged = max(outcome.stage, 0) + 1
    assert acknowledged <= count <= acknowledged + 1
    check_versions(outcome, count)
    lab.check_sound(outcome.store)
    with wanllmdb.init(project="p", id="next", store=outcome.store) as run:
        for n in range(count, 3):
            artifact = wanllmdb.Artifact("a", "dataset")
            root = child.write(outcome.store.with_suffix(f".next{n}"), WHOLE[n])
            artifact.add_dir(root)
            run.log_artifact(artifact, aliases=["best"])
    wanllmdb.teardown()
    check_versions(outcome, 3)
    with closing(sqlite3.connect(outcome.store / "catalog.db")) as connection:
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    cleared(outcome)


def check_joined(lab: Any, outcome: Any, *, soft: bool) -> None:
    """What was added is in the version that is made then, each addition whole."""
    if soft:
        assert outcome.code in (0, 120), outcome.stderr[-400:]
        assert "Traceback" not in outcome.stderr, outcome.stderr[-400:]
        assert outcome.stage == 3
    twice = {f"twice/{path}": text for path, text in child.SECOND.items()}
    wanted = [{}, child.SECOND, child.SECOND | twice]
    acknowledged = min(max(outcome.stage, 0), 2)
    with wanllmdb.init(project="p", id="next", group="g", store=outcome.store) as run:
        try:
            version = run.finish_artifact(wanllmdb.Artifact("a", "dataset"))
        except wanllmdb.errors.ArtifactStateError:  # nothing was added
            assert acknowledged == 0
        else:
            assert version.version == "v2"
            assert version.aliases == ["best"]
            assert version.verify()
            root = outcome.store.with_suffix(".joined")
            version.download(root)
            assert texts(root) in wanted[max(acknowledged, 1) :]
    wanllmdb.teardown()
    lab.check_sound(outcome.store)
    cleared(outcome)


def check_target(lab: Any, outcome: Any, *, soft: bool, exact: bool) -> None:
    """Each file is as it was or as it shall be; trying again makes it right."""
    target = outcome.store.with_suffix(".out")
    found = texts(target)
    for path, text in found.items():
        assert text in (child.FIRST.get(path), child.BEFORE.get(path)), path
    wanted = child.FIRST if exact else {**child.BEFORE, **child.FIRST}
    if soft:
        assert outcome.code in (0, 120), outcome.stderr[-400:]
        assert "Traceback" not in outcome.stderr
        assert list(target.rglob("*.part")) == []
    if soft or outcome.stage == 1:
        assert found == wanted
    elif not exact:
        assert found.keys() >= child.BEFORE.keys()
    with wanllmdb.Api(outcome.store) as api:
        version = api.artifact("a:best")
        assert version.verify()
        (version.checkout if exact else version.download)(target)
    assert texts(target) == wanted
    if exact:
        assert list(target.rglob("*.part")) == []
    cleared(outcome)


def check_collected(lab: Any, outcome: Any, *, soft: bool) -> None:
    """Every version that is left is whole, and the next gc ends what this one began."""
    if soft:
        assert outcome.code in (0, 120), outcome.stderr[-400:]
        assert outcome.stage == 1
    with wanllmdb.Api(outcome.store) as api:
        assert api.artifact("a:best").verify()
        assert api.artifacts("dataset", "p/gone") == []
        past = time.time() - 10 * 86_400
        for path in (outcome.store / "blobs").rglob("*"):
            os.utime(path, (past, past))
        _gc.collect(api.store, grace=60)
        assert api.artifact("a:best").verify()
        needed = {use.digest for use in _reach.of_versions(api.store)}
        left = {f"sha256:{p.name}" for p in (outcome.store / "blobs").glob("*/*/*")}
        assert left == needed
    lab.check_sound(outcome.store)
    cleared(outcome)


def points(lab: Any, scenario: str, error: str | None, per_call: int) -> list[Any]:
    found = lab.points(scenario, template=True, per_call=per_call)
    return [p for p in found if error is None or p.call in FAILING[error]]


def test_a_killed_commit_is_absent_or_whole(bench: Any) -> None:
    """Nothing that was acknowledged is missing a byte, and the next commit works."""
    found = points(bench, "committing", None, PER_CALL)
    verdict = partial(check_commits, bench, soft=False)
    bench.sweep("committing", found, KILL, verdict, template=True)
    assert len(found) >= 20


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_a_commit_that_fails_works_when_it_is_tried_again(
    bench: Any, error: str
) -> None:
    """With the same draft: nothing of it was lost."""
    found = points(bench, "committing", error, max(2, PER_CALL - 1))
    verdict = partial(check_commits, bench, soft=True)
    bench.sweep("committing", found, ONCE.format(error), verdict, template=True)
    assert len(found) >= 10


def test_a_killed_adder_has_added_what_was_acknowledged(bench: Any) -> None:
    """Each addition is there whole or not at all, and the draft can be finished."""
    found = points(bench, "joining", None, PER_CALL)
    verdict = partial(check_joined, bench, soft=False)
    bench.sweep("joining", found, KILL, verdict, template=True)
    assert len(found) >= 20


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_an_addition_that_fails_works_when_it_is_tried_again(
    bench: Any, error: str
) -> None:
    """With the same draft: nothing of it was lost."""
    found = points(bench, "joining", error, max(2, PER_CALL - 1))
    verdict = partial(check_joined, bench, soft=True)
    bench.sweep("joining", found, ONCE.format(error), verdict, template=True)
    assert len(found) >= 10


@pytest.mark.parametrize("scenario", ["downloading", "checking_out"])
def test_a_killed_download_leaves_no_wrong_file(bench: Any, scenario: str) -> None:
    """Each is as it was, or right."""
    found = points(bench, scenario, None, PER_CALL)
    verdict = partial(check_target, bench, soft=False, exact=scenario == "checking_out")
    bench.sweep(scenario, found, KILL, verdict, template=True)
    assert len(found) >= 10


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_a_download_that_fails_works_when_it_is_tried_again(
    bench: Any, error: str
) -> None:
    """And leaves no draft beside its files."""
    found = points(bench, "downloading", error, max(2, PER_CALL - 1))
    verdict = partial(check_target, bench, soft=True, exact=False)
    bench.sweep("downloading", found, ONCE.format(error), verdict, template=True)
    assert len(found) >= 5


def test_a_killed_gc_takes_nothing_that_is_needed(bench: Any) -> None:
    """Whatever it had moved or removed by then."""
    found = points(bench, "collecting", None, PER_CALL)
    verdict = partial(check_collected, bench, soft=False)
    bench.sweep("collecting", found, KILL, verdict, template=True)
    assert len(found) >= 10


def test_a_gc_that_fails_works_when_it_is_tried_again(bench: Any) -> None:
    """Nothing that is needed is taken by the one that failed."""
    found = points(bench, "collecting", "EIO", PER_CALL)
    verdict = partial(check_collected, bench, soft=True)
    bench.sweep("collecting", found, ONCE.format("EIO"), verdict, template=True)
    assert found
