"""Writers, readers and a compactor at once, some killed: every read is right."""

from __future__ import annotations

import importlib.util
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import wanllmdb
from wanllmdb import _recovery

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).with_name("crowd.py")
SECONDS = float(os.environ.get("WANLLMDB_TEST_STRESS_SECONDS", "20"))
"""How long they crowd; raise it for a night's work."""

LEAST = {
    "killed": 2, "write": 1, "compact": 1, "finished": 3, "sealed": 3, "merged": 1,
    "removed": 1, "read": 10,
}  # fmt: skip
"""What has to happen, and how often at least."""

spec = importlib.util.spec_from_file_location("compaction_crowd", SCRIPT)
assert spec is not None
assert spec.loader is not None
crowd: Any = importlib.util.module_from_spec(spec)
spec.loader.exec_module(crowd)


class Crowd:
    """The processes, what they said, and how they ended."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.said: Counter[str] = Counter()
        self.errors: list[str] = []
        self._count = 0
        self._running: list[tuple[str, subprocess.Popen[bytes], Path]] = []

    def start(self, role: str) -> None:
        self._count += 1
        out = self.place / f"{role}-{self._count}.out"
        with out.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-W", "ignore", str(SCRIPT), role, str(self.place),
                 str(self._count)],
                stdout=file, stderr=subprocess.STDOUT,
            )  # fmt: skip
        self._running.append((role, process, out))

    def kill(self, role: str, dice: random.Random) -> None:
        """Kill one that has begun, and start another one in its place."""
        mine = [item for item in self._running if item[0] == role]
        begun = [item for item in mine if item[2].stat().st_size]
        if begun:
            self._end(dice.choice(begun))
            self.said.update(["killed", role])
            self.start(role)

    def lacks(self) -> list[str]:
        """What has not happened as often as it shall."""
        now = Counter(self.said)
        for _, _, out in self._running:
            now.update(out.read_text().split())
        return [word for word, least in LEAST.items() if now[word] < least]

    def look(self) -> None:
        """Nobody ends by itself."""
        for role, process, out in self._running:
            if process.poll() is not None:
                self.errors.append(f"{role}: {out.read_text()[-1500:]}")

    def end(self) -> None:
        self.look()
        for item in [*self._running]:
            self._end(item)

    def _end(self, item: tuple[str, subprocess.Popen[bytes], Path]) -> None:
        _, process, out = item
        process.kill()
        process.wait()
        self._running.remove(item)
        self.said.update(out.read_text().split())


@pytest.mark.timeout(6 * SECONDS + 280)
def test_a_crowd_loses_and_doubles_nothing(tmp_path, bench):
    """Each row is there once, before, while and after it is compacted."""
    wanllmdb.init(store=tmp_path / "store").finish()
    wanllmdb.teardown()
    many = Crowd(tmp_path)
    dice = random.Random(SECONDS)
    for role in ["write"] * 4 + ["read"] * 3 + ["compact"]:
        many.start(role)
    try:
        until = time.monotonic() + SECONDS
        last = until + 3 * SECONDS  # on a busy machine some of it takes longer
        while not many.errors and time.monotonic() < (last if many.lacks() else until):
            time.sleep(dice.uniform(0.2, 1.2))
            many.kill(dice.choice([*["write"] * 9, "compact"]), dice)
            many.look()
        if "compact" in many.lacks():  # by chance no compactor was chosen
            many.kill("compact", dice)
    finally:
        many.end()
    assert not many.errors, many.errors[0]
    check_all(tmp_path)
    bench.check_sound(tmp_path / "store")
    runs = len(crowd.acknowledged(tmp_path))  # the writers sweep, too
    assert len([*(tmp_path / "store" / "live").iterdir()]) < runs
    print(dict(many.said))
    assert not many.lacks(), many.said


def check_all(place: Path) -> None:
    """Every run that was acknowledged is whole, and compacted once more it is too."""
    acks = crowd.acknowledged(place)
    assert len(acks) > 10
    with wanllmdb.Api(place / "store") as api:
        _recovery.recover_dead(api.store)
        for _ in range(2):
            for name, count in acks.items():
                crowd.check(api.run(f"p/{name}"), count, count + 1)
            list(api.store.compact())
