"""A disk that fails never stops training; what it refused is counted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import wanllmdb

PRELUDE = """
import json, os, resource, subprocess, sys, time
from pathlib import Path
import wanllmdb
from wanllmdb._metrics import writer
store = Path(os.environ["WANLLMDB_DIR"])
n = 0
def log(count):
    global n
    for _ in range(count):
        wanllmdb.log({"n": n, "half": n / 2})
        n += 1
def limit(what, value):
    resource.setrlimit(what, (value, resource.getrlimit(what)[1]))
def segments():
    return sorted(store.glob("live/*/*.wlog"))
"""
QUIET = {
    "WANLLMDB_CONSOLE": "0", "WANLLMDB_SYSTEM_INTERVAL": "0", "WANLLMDB_GIT": "0",
    "WANLLMDB_ENVIRONMENT": "0", "WANLLMDB_SILENT": "1",
}  # fmt: skip


def train(store: Path, body: str, **variables: str) -> str:
    """Run a training script that must end well; return what it printed."""
    environment = {**os.environ, **QUIET, "WANLLMDB_DIR": str(store), **variables}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PRELUDE + body],
        env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def read_back(store: Path) -> tuple[set[int], Any]:
    """The numbers stored, each with its right values, and the run."""
    with wanllmdb.Api(store) as api:
        run = api.run("p/r")
        rows = list(run.scan_history())
        assert [row["half"] for row in rows] == [row["n"] / 2 for row in rows]
        assert [row["_step"] for row in rows] == [row["n"] for row in rows]
        assert run.state == "finished"
        return {row["n"] for row in rows}, run


def check_counted(store: Path, logged: int, intact: list[range]) -> int:
    """Stored and dropped make what was logged; return how many were dropped."""
    found, run = read_back(store)
    assert len(found) + run.dropped_rows == logged
    for rows in intact:
        assert found >= set(rows)
    return int(run.dropped_rows)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of two megabytes."""
    place = tmp_path / "tiny"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip(f"mount of a tmpfs failed: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_limit_on_file_size_only_makes_more_segments(tmp_path: Path) -> None:
    """Under RLIMIT_FSIZE rows go on in the next segment, none is lost."""
    body = """
wanllmdb.init(project="p", id="r")
limit(resource.RLIMIT_FSIZE, 65536)
log(6000)
limit(resource.RLIMIT_FSIZE, resource.RLIM_INFINITY)
wanllmdb.finish()
print(len(segments()))
"""
    made = int(train(tmp_path / "s", body))
    assert made >= 3
    assert check_counted(tmp_path / "s", 6000, [range(6000)]) == 0


def test_a_limit_on_file_size_loses_nothing_uncounted_when_buffered(
    tmp_path: Path,
) -> None:
    """With durability "buffered" what a limit refuses is stored or counted too."""
    body = """
wanllmdb.init(project="p", id="r")
limit(resource.RLIMIT_FSIZE, 65536)
log(6000)
limit(resource.RLIMIT_FSIZE, resource.RLIM_INFINITY)
wanllmdb.finish()
"""
    train(tmp_path / "s", body, WANLLMDB_DURABILITY="buffered")
    check_counted(tmp_path / "s", 6000, [])


@pytest.mark.parametrize(
    "durability",
    [
        "process",
        "interval",
        "sync",
        "buffered",
    ],
)
def test_a_full_disk_drops_rows_and_counts_them(
    tiny_disk: Path, durability: str
) -> None:
    """Filled to the last byte the disk takes no rows; freed, it takes them again."""
    body = """
wanllmdb.init(project="p", id="r")
log(100)
wanllmdb.run._sync()
filler = store.parent / "filler"
with filler.open("wb", buffering=0) as file:
    for size in (4096, 1):
        try:
            while True:
                file.write(b"x" * size)
        except OSError:
            pass
log(4000)
wanllmdb.run._flush()
filler.unlink()
log(100)
wanllmdb.finish()
"""
    train(tiny_disk / "s", body, WANLLMDB_DURABILITY=durability)
    intact = [range(100), range(4100, 4200)]
    assert check_counted(tiny_disk / "s", 4200, intact) > 0


def test_no_free_descriptor_drops_rows_and_counts_them(tmp_path: Path) -> None:
    """EMFILE when a segment rolls costs rows until one is free, each counted."""
    body = """
writer.SEGMENT_BYTES = 4096
wanllmdb.init(project="p", id="r")
log(10)
time.sleep(0.2)
limit(resource.RLIMIT_NOFILE, 3)
log(1000)
limit(resource.RLIMIT_NOFILE, 256)
log(100)
wanllmdb.finish()
"""
    train(tmp_path / "s", body)
    dropped = check_counted(tmp_path / "s", 1110, [range(50), range(1010, 1110)])
    assert dropped > 0


@pytest.mark.skipif(shutil.which("strace") is None, reason="there is no strace")
@pytest.mark.parametrize("error", ["EIO", "EDQUOT"])
def test_a_write_error_drops_rows_and_counts_them(tmp_path: Path, error: str) -> None:
    """While every write of the log fails rows are dropped; later ones are stored."""
    body = f"""
wanllmdb.init(project="p", id="r")
log(10)
tracer = subprocess.Popen(
    ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=write",
     "-e", "inject=write:error={error}", "-P", str(segments()[0]),
     "-p", str(os.getpid())],
    stderr=subprocess.DEVNULL)
def traced():
    return "TracerPid:\\t0\\n" not in Path("/proc/self/status").read_text()
end = time.monotonic() + 5
while not traced() and tracer.poll() is None and time.monotonic() < end:
    time.sleep(0.01)
attached = traced()
log(10)
tracer.terminate()
tracer.wait()
log(10)
wanllmdb.finish()
print(json.dumps(attached))
"""
    if not json.loads(train(tmp_path / "s", body)):
        pytest.skip("strace may not attach here")
    assert check_counted(tmp_path / "s", 30, [range(10), range(20, 30)]) > 0
