"""A fuzz of batches: whatever is changed in one, it does no harm."""

from __future__ import annotations

import copy
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from laptops import Laptop

from wanllmdb.errors import NewerRemoteError

pytestmark = pytest.mark.slow

EVIL = "e" * 32
ODD = st.sampled_from([
    None, True, False, -1, 0, 1, 2, 10**15, (1 << 63) - 1, 1 << 63, -(1 << 63), 10**40,
    0.5, float("nan"), float("inf"), 1e308, "", "x", "../../x", "/etc/passwd", "a\0b",
    "\ud800", "x" * 300, "@", "latest", "v1", "sha256:" + "0" * 64, "0" * 32, "f" * 64,
    [], {}, [[]], [None], {"": 1}, {"~b": {"digest": "x", "size": 1}}, {"~f": "nan"},
    {"at": 1, "by": "x"}, "{}", "[", "\u202e", "🦉",
])  # fmt: skip
"""Values that have no place where they are put."""


def places(raw: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of everything in a value."""
    found = [above] if above else []
    if isinstance(raw, dict):
        for key in raw:
            found += places(raw[key], (*above, key))
    elif isinstance(raw, list):
        for index, item in enumerate(raw):
            found += places(item, (*above, index))
    return found


def mutated(raw: Any, data: st.DataObject) -> Any:
    """The value with one to three things in it set, removed or doubled."""
    raw = copy.deepcopy(raw)
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(places(raw)))
        at = raw
        for step in path[:-1]:
            at = at[step]
        what = data.draw(st.sampled_from(["set", "remove", "double", "swap"]))
        if what == "set":
            at[path[-1]] = data.draw(ODD)
        elif what == "remove":
            del at[path[-1]]
        elif what == "double" and isinstance(at, list):
            at.append(copy.deepcopy(at[path[-1]]))
        elif what == "swap":
            other = data.draw(st.sampled_from(places(raw)))
            found = raw
            for step in other:
                found = found[step]
            at[path[-1]] = copy.deepcopy(found)
    return raw


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A remote with a batch of everything, and a laptop that has pulled it."""
    place = tmp_path_factory.mktemp("world")
    (place / "remote").mkdir()
    a = Laptop(place / "a", r=str(place / "remote"))
    run = a.begin(id="r1", config={"lr": 0.1, "deep": {"a": [1, None]}}, tags=["t"])
    run.define_metric("loss", summary="min")
    for n in range(3):
        run.log({"loss": 1.0 / (n + 1), "text": f"t{n}"})
    run.alert("high", "text")
    run.finish()
    a.commit("content", aliases=["prod"])
    a.begin(id="r1", resume="must").finish()
    a.sync()
    (found,) = (place / "remote" / "log").glob("*/*.json")
    raw = {**json.loads(found.read_text()), "device": EVIL}
    return place, raw


def files_outside(here: Path) -> dict[Path, bytes]:
    """Every file but the Store's."""
    return {
        path: path.read_bytes()
        for path in here.rglob("*")
        if path.is_file() and here / "b" not in path.parents
    }


@settings(
    max_examples=40, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(data=st.data(), known=st.booleans())
def test_a_changed_batch_is_refused_whole_or_does_no_harm(world, data, known):
    place, raw = world
    changed = mutated(raw, data)
    here = Path(tempfile.mkdtemp(dir=place))
    try:
        remote = here / "remote"
        shutil.copytree(place / "remote", remote)
        b = Laptop(here / "b", r=str(remote))
        if known:
            b.pull()
        else:
            shutil.rmtree(remote / "log")
        path = remote / "log" / EVIL / "0000000001.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(changed))
        before = files_outside(here)
        try:
            report = b.pull()
        except NewerRemoteError:
            assert changed["format"] > 1
            return
        with b.opened() as store:
            faults = store.catalog.reader.execute("PRAGMA foreign_key_check").fetchall()
        assert faults == []
        b.contents()  # every reader reads what was taken over
        assert b.pull().failed == report.failed or not report.failed
        assert files_outside(here) == before
        assert not list((here / "b" / "tmp").glob("pull-*"))
    finally:
        shutil.rmtree(here)
