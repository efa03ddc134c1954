"""Artifacts: adding, committing, finding and downloading, beside hash, copy and scan.

    python benchmarks/artifacts.py [--large]

With ``--large`` also a file of 1 GiB and 100,000 files, which take minutes and 5 GB.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from measuring import QUIET, head, rss_mib, show

import wanllmdb
from wanllmdb import _ids
from wanllmdb._catalog import artifacts, projects
from wanllmdb._manifest import decode
from wanllmdb.types import Digest, NewVersion

FILES, SIZE = 5000, 4096
ROUNDS = 5


def cpu(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """CPU seconds of a call, the median; nothing is called before."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return statistics.median(times)


def wall(work: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def fill(directory: Path, count: int, size: int) -> None:
    """Files of random bytes, a hundred in each directory."""
    for number in range(count):
        if number % 100 == 0:
            (directory / f"d{number // 100:04}").mkdir(parents=True)
        path = directory / f"d{number // 100:04}" / f"f{number:06}.bin"
        path.write_bytes(os.urandom(size))


def walked(directory: Path) -> list[Path]:
    """Every file below a directory, with its stat looked at."""
    found = []
    for place, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(place, name)
            os.stat(path)
            found.append(path)
    return found


def hashed(directory: Path) -> None:
    """SHA-256 of every file."""
    for path in walked(directory):
        with open(path, "rb") as file:
            hashlib.file_digest(file, "sha256").hexdigest()


def commit(run: wanllmdb.Run, directory: Path, name: str) -> wanllmdb.Artifact:
    """Log a directory as the next version."""
    draft = wanllmdb.Artifact(name, "dataset")
    draft.add_dir(directory)
    return run.log_artifact(draft)


def settle() -> None:
    """Until a stat stands for the bytes: nothing changed for two seconds."""
    time.sleep(2.2)


def many_small(root: Path) -> None:
    """5,000 files of 4 KiB: first, unchanged, one changed; and downloads."""
    data = root / "small"
    fill(data, FILES, SIZE)
    settle()
    run = wanllmdb.init(project="p", id="small")
    stat = cpu(lambda: walked(data))
    both = cpu(lambda: hashed(data), 1)
    both += cpu(lambda: shutil.copytree(data, root / "copy"), 1)
    first = cpu(lambda: commit(run, data, "small"), 1)
    show("5,000 x 4 KiB: first add", first * 1e3, "ms CPU", "1.5 x raw", both * 1e3)
    again = cpu(lambda: commit(run, data, "small"))
    show("... unchanged", again * 1e3, "ms CPU", "2 x raw", stat * 1e3)
    times = []
    for number in range(ROUNDS):
        (data / "d0007" / "f000700.bin").write_bytes(os.urandom(SIZE))
        times.append(cpu(lambda: commit(run, data, "small"), 1))
        assert number + 2 == int(run.use_artifact("small").version[1:])
    changed = statistics.median(times)
    show("... one changed", changed * 1e3, "ms CPU", "2.2 x raw", stat * 1e3)
    version = run.use_artifact("small")
    version.download(root / "out")
    settle()
    version.download(root / "out")
    present = cpu(lambda: version.download(root / "out"))
    show("download, all right", present * 1e3, "ms CPU", "2 x raw", stat * 1e3)
    run.finish()


def many_versions(root: Path) -> None:
    """A version by alias among 100,000."""
    del root
    run = wanllmdb.init(project="p", id="many")
    store = run._store
    assert store is not None
    digest = Digest("sha256:" + "0" * 64)
    with store.catalog.transaction(durable=False) as connection:
        project = projects.ensure(connection, "p")
        for number in range(1000):
            key = artifacts.ensure(connection, project, f"a{number}", "dataset")
            for _ in range(100):
                new = NewVersion(f"a{number}", "dataset", digest, 0, 0)
                pk = artifacts.add_version(connection, key, new, None)
            connection.execute(
                "INSERT INTO alias VALUES (?, 'best', 'best', ?, 0, 0)", (key, pk - 50)
            )
    reader = store.catalog.reader
    raw = cpu(lambda: reader.execute("SELECT * FROM alias LIMIT 1").fetchall())
    found = statistics.median(
        wall(lambda n=n: run.use_artifact(f"a{n * 31 % 1000}:best")) for n in range(50)
    )
    show("use_artifact of 100,000 versions", found * 1e3, "ms wall", "5", raw * 1e3)
    run.finish()


def one_large(root: Path) -> None:
    """A file of 1 GiB: first, unchanged; and what three versions take."""
    data = root / "large"
    data.mkdir()
    block = os.urandom(1 << 20)
    with (data / "big.bin").open("wb") as file:
        for _ in range(1024):
            file.write(block)
    (data / "note.txt").write_text("1")
    settle()
    run = wanllmdb.init(project="p", id="large")
    big = data / "big.bin"
    copied = cpu(lambda: shutil.copyfile(big, root / "copy.bin"), 1)
    (root / "copy.bin").unlink()
    with big.open("rb") as file:
        digest = cpu(lambda: hashlib.file_digest(file, "sha256"), 1)
    most = max(copied, digest)
    first = cpu(lambda: commit(run, data, "large"), 1)
    show("1 GiB: first add", first * 1e3, "ms CPU", "1.2 x raw", most * 1e3)
    again = cpu(lambda: commit(run, data, "large"))
    stat = cpu(lambda: walked(data))
    show("... unchanged", again * 1e3, "ms CPU", "a stat", stat * 1e3)
    for number in range(2, 4):
        (data / "note.txt").write_text(str(number))
        commit(run, data, "large")
    held = sum(p.stat().st_size for p in run._store.path.rglob("*") if p.is_file())  # type: ignore[union-attr]
    show("... three versions on the disk", held / (1 << 30), "GiB", "1", 1.0)
    run.finish()


def many_files(root: Path) -> None:
    """100,000 files of 100 bytes."""
    data = root / "many"
    fill(data, 100_000, 100)
    settle()
    run = wanllmdb.init(project="p", id="files")
    raw = wall(lambda: walked(data))
    before = rss_mib()
    taken = wall(lambda: commit(run, data, "many"))
    show("100,000 files", taken, "s wall", "20", raw)
    show("... growth of resident memory", rss_mib() - before, "MiB", "150")
    store, version = run._store, run.use_artifact("many")
    assert store is not None
    manifest = store.blobs.get(version.digest)
    read = cpu(lambda: decode(manifest))
    show("... its manifest read", read, "s CPU", "0.5")
    run.finish()


def main() -> None:
    """Measure everything, in a directory of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", action="store_true", help="1 GiB and 100,000 files")
    large = parser.parse_args().large
    os.environ.update(QUIET)
    root = Path(tempfile.mkdtemp(prefix=f"wanllmdb-artifacts-{_ids.op_id()}-"))
    os.environ["WANLLMDB_DIR"] = str(root / "store")
    try:
        head()
        works = [many_small, many_versions]
        for work in works + ([one_large, many_files] if large else []):
            work(root)
    finally:
        wanllmdb.teardown()
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
