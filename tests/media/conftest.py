"""Media of each kind, and a run to log them with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253 - what media are made of
import pytest

import wanllmdb


@pytest.fixture
def run(store: Path) -> Any:
    """A run of project p."""
    return wanllmdb.init(project="p", id="r")


@pytest.fixture
def pixels() -> np.ndarray[Any, Any]:
    """A small image's brightness, of three channels."""
    return np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)


@pytest.fixture
def each(pixels: np.ndarray[Any, Any], tmp_path: Path) -> dict[str, Any]:
    """A value of each kind, by the name of its class."""
    pdb = tmp_path / "water.pdb"
    pdb.write_text("HETATM")
    box = {"position": {"minX": 0.1, "maxX": 0.5, "minY": 0, "maxY": 1}, "class_id": 1}
    names = {1: "cat"}
    layers = {
        "boxes": {"found": {"box_data": [box], "class_labels": names}},
        "masks": {
            "true": {"mask_data": np.eye(5, 7, dtype=int), "class_labels": names}
        },
    }
    rows = [[1, wanllmdb.Image(pixels)], [None, None]]
    return {
        "Image": wanllmdb.Image(
            pixels, caption="a cat", grouping=3, classes=[{"id": 1, "name": "cat"}],
            **layers,
        ),
        "Audio": wanllmdb.Audio(np.sin(np.arange(800)), 8000, caption="a beep"),
        "Video": wanllmdb.Video(np.zeros((2, 3, 4, 4), np.uint8), caption="black"),
        "Html": wanllmdb.Html("<html><p>ä</p></html>"),
        "Histogram": wanllmdb.Histogram([1, 2.5, float("inf"), 3]),
        "Object3D": wanllmdb.Object3D(np.zeros((2, 6)), caption="dust"),
        "Molecule": wanllmdb.Molecule(pdb),
        "Table": wanllmdb.Table(["n", "image"], rows),
    }  # fmt: skip


KINDS = [
    "Image", "Audio", "Video", "Html", "Histogram", "Object3D", "Molecule", "Table",
]  # fmt: skip


@pytest.fixture(params=KINDS)
def value(request: Any, each: dict[str, Any]) -> Any:
    """One value after the other."""
    return each[request.param]


@pytest.fixture
def rows() -> Callable[[], list[dict[str, Any]]]:
    """What run p/r has logged, without the heads of its rows."""

    def read() -> list[dict[str, Any]]:
        with wanllmdb.Api() as api:
            return [
                {key: cell for key, cell in row.items() if not key.startswith("_")}
                for row in api.run("p/r").scan_history()
            ]

    return read
