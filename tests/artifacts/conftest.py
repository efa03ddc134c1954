"""A run to log with, files to add, and ways to look at what a Store holds."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import wanllmdb


@pytest.fixture
def run(store: Path) -> Any:
    """A run of project p."""
    return wanllmdb.init(project="p", id="r")


@pytest.fixture
def made(tmp_path: Path) -> Callable[[Mapping[str, str]], Path]:
    """Makes a directory with these texts in files of these names."""
    count = 0

    def make(texts: Mapping[str, str]) -> Path:
        nonlocal count
        count += 1
        root = tmp_path / f"made{count}"
        root.mkdir()
        for name, text in texts.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return root

    return make


@pytest.fixture
def log(run: Any) -> Callable[..., Any]:
    """Logs texts as a version of artifact a."""

    def logged(texts: Mapping[str, str] | str, name: str = "a", **how: Any) -> Any:
        artifact = wanllmdb.Artifact(name, "dataset")
        if isinstance(texts, str):
            texts = {"x": texts}
        for path, text in texts.items():
            with artifact.new_file(path) as file:
                file.write(text)
        return run.log_artifact(artifact, **how)

    return logged


@pytest.fixture
def read() -> Callable[[Any], dict[str, str]]:
    """The texts below a directory, by path."""

    def texts(root: Any) -> dict[str, str]:
        place = Path(root)
        return {
            path.relative_to(place).as_posix(): path.read_text()
            for path in sorted(place.rglob("*"))
            if path.is_file()
        }

    return texts


@pytest.fixture
def sql(store: Path) -> Callable[..., list[Any]]:
    """Asks the Catalog, through a connection of its own."""

    def asked(text: str, *values: Any) -> list[Any]:
        with contextlib.closing(sqlite3.connect(store / "catalog.db")) as connection:
            return connection.execute(text, values).fetchall()

    return asked


@pytest.fixture
def blob(store: Path) -> Callable[[str], Path]:
    """Where the blob of a digest is."""

    def path(digest: str) -> Path:
        name = digest.removeprefix("sha256:")
        return store / "blobs" / "sha256" / name[:2] / name

    return path


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Any]:
    """The laboratory of tests/crash, with this folder's scenarios."""
    if shutil.which("strace") is None:
        pytest.skip("there is no strace")
    path = Path(__file__).parents[1] / "crash" / "conftest.py"
    spec = importlib.util.spec_from_file_location("crash_lab", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses ask for it
    spec.loader.exec_module(module)
    module.SCRIPT = Path(__file__).with_name("child.py")
    module.CALLS += ["utimensat", "copy_file_range", "syncfs", "rmdir"]
    place = tmp_path / "lab"
    place.mkdir()
    return module.Lab(place, {})


@pytest.fixture
def start_script() -> Callable[..., str]:
    """Runs code in a process of its own, which must end well; what it printed."""

    def ran(code: str, *arguments: object) -> str:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    return ran
