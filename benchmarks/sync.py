"""Sync, beside the bare client that brings the same bytes to the same server.

    python benchmarks/sync.py [--large] [--server rclone|moto]

The server is started here, and shares the machine: wall times are of both. With
``--large`` also a blob of 1 GiB. Needs the packages of `tests/remotes` and s3fs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measuring import QUIET, head, rss_mib, show

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "remotes"))

import servers

import wanllmdb
from wanllmdb import _sync
from wanllmdb._remotes.address import Address
from wanllmdb._store import Store
from wanllmdb._sync.peer import add_remote
from wanllmdb.types import Location, RemoteRecord

ROUNDS = 5


class Bench:
    """A server, and Stores that sync with buckets of it."""

    def __init__(self, server: servers.Server, root: Path) -> None:
        self.server, self.root = server, root
        self._made = 0

    def store(self) -> Store:
        """A new, empty Store."""
        self._made += 1
        return Store(Location(self.root / f"store{self._made}", "benchmark"))

    def remote(self, store: Store, bucket: str) -> RemoteRecord:
        """A bucket as a remote of a Store; it is not probed, which takes no part."""
        url = Address(f"s3://{bucket}", self.server.url, path_style=True)
        return add_remote(store, "bench", url, single_writer=True)

    def client(self) -> Any:
        """The bare client."""
        import s3fs

        return s3fs.S3FileSystem(
            endpoint_url=self.server.url, use_listings_cache=False,
            skip_instance_cache=True,
            config_kwargs={"s3": {"addressing_style": "path"}},
        )  # fmt: skip

    def put(self, files: list[Path]) -> float:
        """Wall seconds of the bare client for files, all of them at once."""
        client, bucket = self.client(), self.server.bucket()
        targets = [f"{bucket}/{path.name}" for path in files]
        return wall(lambda: client.put([str(path) for path in files], targets))


def wall(work: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def synced(store: Store, remote: RemoteRecord) -> tuple[_sync.SyncReport, float, float]:
    """A sync: what it did, its wall seconds and its CPU seconds."""
    start, cpu = time.perf_counter(), time.process_time()
    report = _sync.sync(store, remote)
    return report, time.perf_counter() - start, time.process_time() - cpu


def bare_files(bench: Bench, remote: RemoteRecord, name: str) -> list[Path]:
    """What a sync wrote, as files, for the bare client to write."""
    client = bench.client()
    target = bench.root / name
    found = []
    for key in client.find(remote.url.removeprefix("s3://")):
        path = target / key.replace("/", "_")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(client.cat_file(key))
        found.append(path)
    return found


def one_run(bench: Bench) -> None:
    """A finished run of 100,000 rows of 10 metrics."""
    store = bench.store()
    run = wanllmdb.init(project="p", id="r", store=store.path)
    for step in range(100_000):
        run.log({f"m{n}": step * 0.001 + n for n in range(10)})
    run.finish()
    remote = bench.remote(store, bench.server.bucket())
    report, seconds, _ = synced(store, remote)
    raw = bench.put(bare_files(bench, remote, "one-run"))
    show("one run of 100k x 10: writes", report.objects_written, "", "2")
    show("one run of 100k x 10: wall", seconds * 1e3, "ms", "", raw * 1e3)
    costs = [synced(store, remote) for _ in range(ROUNDS)]
    cpu = statistics.median(cost[2] for cost in costs)
    written = sum(cost[0].objects_written for cost in costs)
    show("nothing new: CPU", cpu * 1e3, "ms", "150")
    show("nothing new: writes", written, "", "0")
    second = bench.store()
    report, seconds, _ = synced(second, bench.remote(second, remote.url[5:]))
    show("the same, pulled: wall", seconds * 1e3, "ms", "")
    store.close()
    second.close()


def in_pieces(root: Path, files: list[Path], count: int) -> list[Path]:
    """The bytes of files, as so many files."""
    data = b"".join(path.read_bytes() for path in files)
    size = len(data) // count + 1
    (root / "pieces").mkdir()
    pieces = [root / "pieces" / f"{number:05}" for number in range(count)]
    for number, path in enumerate(pieces):
        path.write_bytes(data[number * size : (number + 1) * size])
    return pieces


def small_runs(bench: Bench) -> None:
    """A thousand runs of 20 rows."""
    store = bench.store()
    for number in range(1000):
        run = wanllmdb.init(project="p", id=f"r{number}", store=store.path)
        for step in range(20):
            run.log({"loss": step * 0.1, "acc": 1 - step * 0.01})
        run.finish()
    remote = bench.remote(store, bench.server.bucket())
    report, seconds, cpu = synced(store, remote)
    files = bare_files(bench, remote, "small-runs")
    raw, cut = bench.put(files), bench.put(in_pieces(bench.root, files, 1000))
    show("1,000 runs: writes", report.objects_written, "", "20")
    show("1,000 runs: wall, and of 1,000 puts", seconds * 1e3, "ms", "1.5x", cut * 1e3)
    show("1,000 runs: wall, and of as few puts", seconds * 1e3, "ms", "", raw * 1e3)
    show("1,000 runs: CPU", cpu * 1e3, "ms", "")
    second = bench.store()
    _, seconds, cpu = synced(second, bench.remote(second, remote.url[5:]))
    show("1,000 runs, pulled: wall", seconds * 1e3, "ms", "")
    store.close()
    second.close()


def many_small(bench: Bench) -> None:
    """An artifact of 5,000 files of 4 KiB."""
    store = bench.store()
    source = bench.root / "files"
    source.mkdir()
    for number in range(5000):
        (source / f"f{number:05}.bin").write_bytes(os.urandom(4096))
    with wanllmdb.init(project="p", id="r", store=store.path) as run:
        draft = wanllmdb.Artifact("data", "dataset")
        draft.add_dir(source)
        run.log_artifact(draft)
    remote = bench.remote(store, bench.server.bucket())
    report, seconds, _ = synced(store, remote)
    raw = bench.put(sorted(source.iterdir()))
    show("5,000 x 4 KiB: writes", report.objects_written, "", "5")
    show("5,000 x 4 KiB: wall", seconds * 1e3, "ms", "1x", raw * 1e3)
    store.close()


def one_large(bench: Bench) -> None:
    """A blob of 1 GiB, up and down."""
    store = bench.store()
    path = bench.root / "large.bin"
    with path.open("wb") as file:
        for _ in range(64):
            file.write(os.urandom(16 << 20))
    with wanllmdb.init(project="p", id="r", store=store.path) as run:
        draft = wanllmdb.Artifact("data", "model")
        draft.add_file(path)
        run.log_artifact(draft)
    remote = bench.remote(store, bench.server.bucket())
    before = rss_mib()
    _, up, _ = synced(store, remote)
    grown = rss_mib() - before
    store.close()
    client, bucket = bench.client(), bench.server.bucket()
    raw_up = wall(lambda: client.put_file(str(path), f"{bucket}/large.bin"))
    second = bench.store()
    other = bench.remote(second, remote.url[5:])
    _sync.sync(second, other)
    before = rss_mib()
    down = wall(lambda: _sync.sync(second, other, full=True))
    grown_down = rss_mib() - before
    target = bench.root / "down.bin"
    raw_down = wall(lambda: client.get_file(f"{bucket}/large.bin", str(target)))
    show("1 GiB up: wall", up * 1e3, "ms", "1.2x", raw_up * 1e3)
    show("1 GiB up: growth of memory", grown, "MiB", "200")
    show("1 GiB down: wall", down * 1e3, "ms", "1.2x", raw_down * 1e3)
    show("1 GiB down: growth of memory", grown_down, "MiB", "200")
    second.close()


def loaded() -> None:
    """What a configured remote costs who only imports and logs."""
    code = (
        "import sys, wanllmdb; print('fsspec' in sys.modules or 's3fs' in sys.modules)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, "WANLLMDB_REMOTE": "s3://bucket/prefix"},
    )  # fmt: skip
    show("import loads a client", float(out.stdout.strip() == "True"), "", "0")


def main() -> None:
    """Measure, and print a line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--server", choices=("rclone", "moto"), default="rclone")
    options = parser.parse_args()
    head()
    root = Path(tempfile.mkdtemp(prefix="wanllmdb-bench-"))
    kind = servers.Rclone if options.server == "rclone" else servers.Moto
    (root / "server").mkdir()
    try:
        with servers.sockets(), kind(root / "server") as server:
            os.environ.update(QUIET)
            os.environ["AWS_ACCESS_KEY_ID"] = server.key
            os.environ["AWS_SECRET_ACCESS_KEY"] = server.secret
            os.environ["AWS_DEFAULT_REGION"] = "us-east-1"
            bench = Bench(server, root)
            loaded()
            one_run(bench)
            small_runs(bench)
            many_small(bench)
            if options.large:
                one_large(bench)
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
