"""Killed anywhere, a sync leaves nothing half told, and the next one completes it."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from laptops import Killed, Laptop, check_equal, killing, quieten

import wanllmdb
from wanllmdb._sync.peer import binding

pytestmark = pytest.mark.slow

POINTS = int(os.environ.get("WANLLMDB_TEST_POINTS", "9")) * 8
"""How many calls of a remote are the last ones of a sync; raise it for a night."""

SEED = 5


@pytest.fixture
def prepared(tmp_path: Path) -> Callable[[], tuple[Laptop, Laptop, Laptop]]:
    """Makes three laptops that know the same; the first has news, and so has another.

    News are runs, versions, files, aliases, a conflict and a number that is taken.
    """
    place = tmp_path / "template"
    _prepare(place)
    count = 0

    def made() -> tuple[Laptop, Laptop, Laptop]:
        nonlocal count
        count += 1
        copy = tmp_path / f"copy{count}"
        shutil.copytree(place, copy)
        return _laptops(copy)

    return made


def _laptops(place: Path) -> tuple[Laptop, Laptop, Laptop]:
    found = [Laptop(place / name, r=str(place / "remote")) for name in "abc"]
    return found[0], found[1], found[2]


def _prepare(place: Path) -> None:
    (place / "remote").mkdir(parents=True)
    a, b, c = _laptops(place)
    a.run("r", 3)
    a.commit("base", aliases=["x"], id="maker")
    quieten(a, b, c, rounds=2)
    for name in ("s", "t"):
        a.run(name, 5)
    a.run("r", [{"n": 100}], resume="must")
    a.update("p/r", notes="of a")
    a.commit("of a" * 100_000, aliases=["x", "y"], id="maker", resume="must")
    b.run("r", [{"n": 200}], resume="must")
    b.commit("of b", aliases=["x"], id="maker", resume="must")
    b.sync()
    wanllmdb.teardown()  # nobody has them open when they are copied


def _addressed(laptops: tuple[Laptop, ...], place: Path) -> None:
    """Copies of Stores are the laptops now, and know where their remote is."""
    for laptop in laptops:
        with laptop.written() as connection:
            connection.execute(
                "UPDATE meta SET value = ? WHERE key = 'binding'",
                (binding(laptop.store),),
            )
            connection.execute(
                "UPDATE remote SET url = ?", (f"file://{place / 'remote'}",)
            )


def _check_reader(reader: Laptop) -> None:
    """Whoever pulls in the meantime sees whole runs and versions, or none."""
    report = reader.pull(full=True)
    assert not report.failed, report
    with reader.api() as api:
        counts = {run.id: len(list(run.scan_history())) for run in api.runs()}
        for version in api.artifacts(None, "p/data"):
            version.verify()
    assert counts["r"] == 4
    assert {counts.get("s"), counts.get("t")} <= {None, 5}


@pytest.mark.parametrize("part", range(2))
def test_syncs_that_die_at_any_point_are_gone_on_with(
    prepared: Callable[[], tuple[Laptop, Laptop, Laptop]], part: int
) -> None:
    """No reader sees anything partial; the rerun uploads only what is missing.

    A point is a call of the remote, or a transaction, before or after it took effect.
    The first laptop dies at each point of its sync, the others anywhere in theirs.
    """
    dice = random.Random(SEED + part)
    failures = []
    point, after = 1, bool(part)
    while True:
        laptops = a, b, c = prepared()
        _addressed(laptops, a.store.parent)
        try:
            died = _dies(a, point, after=after)
            _check_reader(c)
            _dies(b, dice.randint(1, 30), after=bool(dice.getrandbits(1)))
            _dies(c, dice.randint(1, 30), after=bool(dice.getrandbits(1)))
            _check_rerun(a)
            quieten(a, b, c)
            check_equal(a, b, c, views=False)
            _check_remote(a.store.parent / "remote")
        except Exception as error:
            failures.append(f"{point} {after}: {type(error).__name__} {error}"[:900])
        shutil.rmtree(a.store.parent)
        if not died:
            break
        point += 1
    assert not failures, "\n".join(failures)
    assert point > 20


def _dies(laptop: Laptop, point: int, *, after: bool) -> bool:
    """Sync until a point; whether there was one."""
    try:
        with killing(point, after=after):
            laptop.sync()
    except Killed:
        return True
    return False


def _check_rerun(laptop: Laptop) -> None:
    """It uploads nothing anew of which it knows that it is there."""
    remote = laptop.store.parent / "remote"
    with laptop.opened() as store:
        rows = store.catalog.reader.execute("SELECT DISTINCT key FROM sync_object")
        held = {row[0]: (remote / row[0]).stat().st_ino for row in rows}
    laptop.sync()
    assert held == {key: (remote / key).stat().st_ino for key in held}


def _check_remote(remote: Path) -> None:
    """Nothing is told of twice: batches are dense, and each blob is there once."""
    for device in (remote / "log").iterdir():
        numbers = sorted(int(path.stem) for path in device.iterdir())
        assert numbers == list(range(1, len(numbers) + 1))


def test_a_sync_that_is_killed_at_any_moment_is_gone_on_with(
    prepared: Callable[[], tuple[Laptop, Laptop, Laptop]],
) -> None:
    """The same with a process that SIGKILL ends, wherever it was; 80 times."""
    dice = random.Random(SEED)
    here = str(Path(__file__).parent)
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path;"
        " from laptops import Laptop; print('go', flush=True);"
        " Laptop(Path(sys.argv[2]), r=sys.argv[3]).sync()"
    )
    killed = 0
    for _ in range(POINTS + 8):
        a, b, c = prepared()
        _addressed((a, b, c), a.store.parent)
        remote = a.store.parent / "remote"
        with subprocess.Popen(
            [sys.executable, "-c", script, here, str(a.store), str(remote)],
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            try:
                process.wait(dice.uniform(0.0, 0.5))
            except subprocess.TimeoutExpired:
                process.kill()
                killed += 1
        _check_reader(c)
        quieten(a, b, c)
        check_equal(a, b, c, views=False)
        _check_remote(remote)
        shutil.rmtree(a.store.parent)
    assert killed
