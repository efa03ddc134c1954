"""What tests of a remote's care share: the command line, and files that go bad."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from laptops import Laptop

from wanllmdb._catalog import remotes
from wanllmdb._sync.remote_gc import Collected, collect
from wanllmdb._sync.remote_verify import Verified, verify

LARGE = "x" * (300 << 10)
"""More than what is packed."""


def command(laptop: Laptop, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command on a laptop's Store."""
    return subprocess.run(
        [sys.executable, "-m", "wanllmdb", "--store", str(laptop.store), *arguments],
        capture_output=True, text=True, timeout=120, check=False,
        stdin=subprocess.DEVNULL, env={**os.environ},
    )  # fmt: skip


def verified(laptop: Laptop, **how: object) -> Verified:
    with laptop.opened() as store:
        record = remotes.listed(store.catalog.reader)[0]
        return verify(store, record, **how)


def collected(laptop: Laptop, **how: object) -> Collected:
    with laptop.opened() as store:
        record = remotes.listed(store.catalog.reader)[0]
        return collect(store, record, **how)


def one(remote: Path, pattern: str) -> Path:
    (found,) = remote.glob(pattern)
    return found


def spoil(path: Path) -> None:
    """Flip a bit in the middle of a file."""
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def age(place: Path, days: float) -> None:
    """Let files below a directory be older by days."""
    for path in [*place.rglob("*")] if place.is_dir() else [place]:
        told = path.stat()
        then = told.st_mtime - days * 86_400
        os.utime(path, (then, then))
