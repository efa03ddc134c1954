"""A Store that an older wanllmdb made syncs like any other."""

from __future__ import annotations

import tarfile
from pathlib import Path

from laptops import Laptop, check_equal, quieten

OLD = Path(__file__).parents[1] / "compat" / "store_v1.tar.gz"


def test_a_store_of_version_1_is_migrated_and_told_whole(
    a: Laptop, b: Laptop, tmp_path: Path
) -> None:
    """All that it held before there was any sync arrives, and is told once."""
    with tarfile.open(OLD) as archive:
        archive.extractall(tmp_path, filter="data")
    (tmp_path / "store").rename(a.store)
    a.store.chmod(0o700)
    counts = {path: len(rows) for path, rows in a.runs.items()}
    assert len(counts) == 4
    a.sync()
    b.sync()
    assert {path: len(rows) for path, rows in b.runs.items()} == counts
    quieten(a, b)
    check_equal(a, b)
