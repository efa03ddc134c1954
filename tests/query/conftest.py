"""Stores whose rows lie in logs, in the Catalog, in parts, and in merged parts."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import wanllmdb
from wanllmdb import _compaction
from wanllmdb._settings import find_store
from wanllmdb._store import Store


@pytest.fixture
def digests(store):
    """Digest and mtime of every file of the Store but its debug log."""
    return lambda: _digests(store)


def _digests(root: Path) -> dict[str, tuple[str, int]]:
    """Digest and mtime of every file of a Store but its debug log."""
    return {
        str(path.relative_to(root)): (
            hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns
        )
        for path in sorted(root.rglob("*"))
        if path.is_file() and "logs" not in path.relative_to(root).parts
    }  # fmt: skip


@pytest.fixture
def sealed(monkeypatch):
    """Every run is sealed when it ends."""
    monkeypatch.setattr(_compaction, "INLINE_BYTES", 0)


@pytest.fixture
def record():
    """Record a finished run of some rows: dicts, or (step, dict)."""

    def record_run(rows, id="r", project="p", **options):
        with wanllmdb.init(project=project, id=id, **options) as run:
            for row in rows:
                step, values = row if isinstance(row, tuple) else (None, row)
                run.log(values, step=step)

    return record_run


@pytest.fixture
def ask(api):
    """The rows of a query as tuples."""

    def fetch(sql, params=None, **options):
        return api.query(sql, params, **options).fetchall()

    return fetch


@pytest.fixture
def empty_store(store):
    """A Store that holds nothing."""
    Store(find_store(store)).close()
    return store


@pytest.fixture
def cli():
    """Run a command in a process of its own; (exit code, stdout, stderr)."""

    def run(*args, **options):
        done = subprocess.run(
            [sys.executable, "-m", "wanllmdb", *map(str, args)], env=os.environ,
            capture_output=True, text=True, timeout=60, check=False, **options,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture
def invoke():
    """Run a command in this process, where many are run; its stdout."""
    from click.testing import CliRunner

    from wanllmdb.cli import cli as group

    def run(*args, **options):
        done = CliRunner().invoke(
            group, [*map(str, args)], catch_exceptions=False, **options
        )
        assert done.exit_code == 0, done.output
        return done.stdout

    return run
