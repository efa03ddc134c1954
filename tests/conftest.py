"""Fixtures: a Store of one's own, and nothing captured unless a test asks."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

import pytest

import wanllmdb

pytest_plugins = ["served"]  # tests/remotes: servers that speak S3

QUIET = {
    "WANLLMDB_CONSOLE": "0", "WANLLMDB_SYSTEM_INTERVAL": "0", "WANLLMDB_GIT": "0",
    "WANLLMDB_ENVIRONMENT": "0", "WANLLMDB_SILENT": "1",
}  # fmt: skip


# Every Python that a test starts loads the same file, by PYTHONPATH.
NO_SOCKETS = Path(__file__).parent / "no_sockets"
runpy.run_path(str(NO_SOCKETS / "sitecustomize.py"))


def pytest_report_teststatus(report):
    """Under CI a test that skips for a missing component is a failure."""
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        return "failed", "S", "SKIPPED, which CI does not take"
    return None


def pytest_sessionfinish(session):
    """... also in the exit status."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter and not hasattr(session.config, "workerinput"):
        skipped = [r for r in reporter.stats.get("failed", []) if r.skipped]
        if skipped and session.exitstatus == 0:
            session.exitstatus = 1


@pytest.fixture(autouse=True)
def _isolated(monkeypatch, tmp_path):
    """No variable of the developer's leaks in, no Store is shared, all runs end."""
    for name in list(os.environ):
        if name.startswith(("WANLLMDB_", "WANDB_", "_WANLLMDB")):
            monkeypatch.delenv(name)
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home" / "config"))
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("WANLLMDB_DIR", str(tmp_path / "store"))
    paths = [str(NO_SOCKETS), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    hooks = sys.excepthook, sys.exit
    yield
    wanllmdb.teardown()
    sys.excepthook, sys.exit = hooks
    from wanllmdb._process import process

    process.hooked = False
    process.exit_code = 0


@pytest.fixture
def store(tmp_path) -> Path:
    """The directory of this test's Store."""
    return tmp_path / "store"


@pytest.fixture
def api(store):
    """An Api of this test's Store, opened when first used."""

    class Lazy:
        def __init__(self):
            self.real = None

        def __getattr__(self, name):
            if self.real is None:
                self.real = wanllmdb.Api(store)
            return getattr(self.real, name)

    lazy = Lazy()
    yield lazy
    if lazy.real is not None:
        lazy.real.close()
