"""The house itself: exports, lazy imports, settings, no sockets."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

import wanllmdb
from wanllmdb import _settings

HEAVY = [
    "duckdb",
    "pyarrow",
    "pandas",
    "numpy",
    "pydantic",
    "fsspec",
    "sqlite_utils",
    "psutil",
    "torch",
    "jax",
]


def loaded_after(code: str) -> set[str]:
    """Heavy modules that a fresh interpreter holds after running some code."""
    tail = f"\nimport sys; print(*[m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code + tail],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(done.stdout.split())


def test_all_names_what_is_public():
    """Everything in __all__ exists, and nothing public is missing from it."""
    for name in wanllmdb.__all__:
        assert name in ("run",) or getattr(wanllmdb, name) is not None
    modules = {"types", "cli", "errors", "testing"}
    public = {n for n in vars(wanllmdb) if not n.startswith("_")}
    assert public - set(wanllmdb.__all__) - modules <= {
        "annotations",
        "TYPE_CHECKING",
        "Any",
    }


def test_import_loads_nothing_heavy():
    """`import wanllmdb` stays within the standard library."""
    assert loaded_after("import wanllmdb") == set()


def test_recording_a_small_run_loads_nothing_heavy():
    """Nor do init, log and finish, with capture off."""
    code = """
import wanllmdb as w
with w.init(config={"lr": 0.1}) as run:
    for n in range(100):
        run.log({"a": n, "b": n / 2})
        run.log({"c": "text"}, step=n)
    run.summary["best"] = 1
"""
    assert loaded_after(code) == set()


def test_sealing_a_large_run_loads_pyarrow_alone():
    """finish() writes Parquet; it needs neither pandas nor DuckDB for that."""
    code = """
import wanllmdb as w
with w.init(config={"lr": 0.1}) as run:
    for n in range(%d):
        run.log({"a": n, "b": n / 2, "d": True})
        run.log({"c": "text", "e": [n]}, step=n)
    run.summary["best"] = 1
"""
    assert loaded_after(code % 20_000) == {"numpy", "pyarrow"}
    assert loaded_after(code % 2000) == set()  # such a log is left to a reader


def test_at_most_25_settings_and_each_is_documented():
    """docs/guide.md has a line for each variable."""
    assert len(_settings.FIELDS) <= 25
    guide = Path(__file__).parents[1] / "docs" / "guide.md"
    text = guide.read_text("utf-8")
    for name in _settings.FIELDS:
        assert f"WANLLMDB_{name.upper()}" in text


def test_the_wheel_is_under_test_not_the_checkout():
    """In tox the package comes from site-packages."""
    if ".tox" in sys.prefix:
        assert "site-packages" in wanllmdb.__file__


def test_a_run_opens_no_socket():
    """Recording and reading never open a socket."""
    code = """
import socket
def refuse(*a, **k): raise AssertionError('a socket was opened')
socket.socket = refuse
import wanllmdb as w
r = w.init(); r.log({'a': 1}); r.finish(); w.Api().run(r.path).history()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          timeout=60, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_no_test_opens_a_socket_unnoticed():
    """What a test starts is refused an internet socket, as is the test itself."""
    code = "import socket; socket.create_connection(('127.0.0.1', 9))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert "asks for no socket" in done.stderr
    with pytest.raises(PermissionError):
        socket.getaddrinfo("localhost", 80)
