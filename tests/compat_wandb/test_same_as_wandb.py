"""wanllmdb does with each sequence what W&B was recorded to do, or what DESIGN says."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from playing import plain
from sequences import SEQUENCES

import wanllmdb

HERE = Path(__file__).parent
EXPECTED = json.loads((HERE / "expectations.json").read_text())["sequences"]
SCRIPT = """
import sys, wanllmdb, sequences
sequences.perform(wanllmdb, sys.argv[1], {"project": "compat"}, "live")
"""
STATES = {0: "finished", 255: "killed"}  # W&B's exit codes; any other one is a failure
UNSTEADY = ("_timestamp", "_runtime", "_writer")


def flat(tree: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Give nested and dotted keys one spelling: W&B nests them in the summary."""
    leaves: dict[str, Any] = {}
    for key, value in sorted(plain(tree).items()):
        if isinstance(value, dict) and value and list(value) != ["float"]:
            leaves |= flat(value, f"{above}{key}.")
        elif above + key not in UNSTEADY:
            leaves[above + key] = value
    return leaves


def text(value: Any) -> str:
    """JSON tells true from 1, where == does not, and diffs line by line."""
    lines = value if isinstance(value, list) else [value]
    return "\n".join(json.dumps(line, sort_keys=True) for line in lines)


def expected_runs(expectation: dict[str, Any]) -> list[dict[str, Any]]:
    """What W&B recorded, run by run, under what wanllmdb is to do instead."""
    runs: list[dict[str, Any]] = expectation["runs"]
    ours = expectation.get("ours", {}).get("runs")
    if ours is None:
        return runs
    return [{**dict(enumerate(runs)).get(i, {}), **run} for i, run in enumerate(ours)]


def raised(seen: list[list[Any]]) -> list[list[Any]]:
    """The two libraries name their errors differently: compare that one came."""
    return [[w, v is not None if w == "raises" else v] for w, v in seen]


def play_alone(name: str, folder: Path) -> dict[str, Any]:
    """Play a sequence as a script of its own, with the Store in the folder."""
    inherited = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("WANDB_", "WANLLMDB_", "RANK", "SLURM_"))
    }
    package = Path(wanllmdb.__file__).parent.parent
    path = os.pathsep.join([str(HERE), str(package)])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, name],
        cwd=folder,
        env=inherited | {"PYTHONPATH": path, "WANLLMDB_DIR": str(folder / "store")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    live = folder / "live"
    assert live.exists(), done.stderr
    return json.loads(live.read_text())  # type: ignore[no-any-return]


@pytest.mark.parametrize("expectation", EXPECTED, ids=lambda e: e["name"])
def test_sequence(expectation: dict[str, Any], tmp_path: Path) -> None:
    """Rows, summary, config, state and what the script saw are the expected ones."""
    live = play_alone(expectation["name"], tmp_path)
    seen = expectation.get("ours", {}).get("seen", expectation["seen"])
    assert text(raised(live["seen"])) == text(raised(seen))

    expected = expected_runs(expectation)
    assert len(live["paths"]) == len(expected)
    api = wanllmdb.Api(store=tmp_path / "store")
    for path, wanted in zip(live["paths"], expected, strict=True):
        run = api.run(path)
        assert text([flat(row) for row in run.scan_history()]) == text(
            [flat(row) for row in wanted["history"]]
        )
        assert text(flat(run.summary)) == text(flat(wanted["summary"]))
        assert text(flat(run.config)) == text(flat(wanted["config"]))
        assert run.state == STATES.get(wanted["exit_code"], "failed")


def test_every_sequence_is_recorded() -> None:
    """expectations.json holds each sequence, with today's deviations."""
    fields = ("name", "differs", "ours")
    written = [{k: s[k] for k in fields if k in s} for s in SEQUENCES]
    assert [{k: e[k] for k in fields if k in e} for e in EXPECTED] == written
