"""Laptops that sync by a directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from laptops import Laptop


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """A directory that is a remote."""
    place = tmp_path / "remote"
    place.mkdir()
    return place


@pytest.fixture
def laptop(tmp_path: Path, remote: Path) -> Callable[[str], Laptop]:
    """Makes laptops by name, all with the same remote."""
    return lambda name: Laptop(tmp_path / name, r=str(remote))


@pytest.fixture
def a(laptop: Callable[[str], Laptop]) -> Laptop:
    """A laptop."""
    return laptop("a")


@pytest.fixture
def b(laptop: Callable[[str], Laptop]) -> Laptop:
    """Another one."""
    return laptop("b")


@pytest.fixture
def c(laptop: Callable[[str], Laptop]) -> Laptop:
    """A third one."""
    return laptop("c")
