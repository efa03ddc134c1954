"""Record what the real W&B package does with each sequence, offline.

Run by hand, with the Python of a virtual environment that holds wandb:
    python record.py > expectations.json
"""

import json
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import wandb
from playing import Sequence, plain
from sequences import SEQUENCES
from wandb.proto.wandb_internal_pb2 import Record

HERE = Path(__file__).parent
SCRIPT = """
import sys, wandb, sequences
sequences.perform(wandb, sys.argv[1], {"project": "compat"}, "live")
"""
UNSTEADY = ("_timestamp", "_runtime", "_wandb")  # clock values and W&B's own notes

# A .wandb file is a LevelDB log behind a 7-byte file header: blocks of 32 KiB, in them
# fragments of records, each with a header of CRC-32, length and kind.
FILE_HEADER, BLOCK, HEADER = 7, 32 * 1024, struct.Struct("<IHB")
PADDING, WHOLE, LAST = 0, 1, 4


def fragments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield kind and bytes of each fragment; none crosses the end of its block."""
    for start in range(0, len(data), BLOCK):
        at, end = start or FILE_HEADER, min(start + BLOCK, len(data))
        while end - at >= HEADER.size:
            _, length, kind = HEADER.unpack_from(data, at)
            if kind == PADDING:
                break
            at += HEADER.size
            yield kind, data[at : at + length]
            at += length


def records(path: Path) -> Iterator[Record]:
    """Yield the protobuf records of one .wandb file."""
    joined = b""
    for kind, body in fragments(path.read_bytes()):
        joined += body
        if kind in (WHOLE, LAST):
            yield Record.FromString(joined)
            joined = b""


def place(tree: dict[str, Any], item: Any) -> None:
    """Set one item of a summary or config at its place in the tree."""
    *above, last = item.nested_key or [item.key]
    for key in above:
        if not isinstance(tree.get(key), dict):
            tree[key] = {}
        tree = tree[key]
    tree[last] = json.loads(item.value_json)


def remove(tree: dict[str, Any], item: Any) -> None:
    """Take one item out of the tree again."""
    *above, last = item.nested_key or [item.key]
    for key in above:
        tree = tree.get(key, {})
    tree.pop(last, None)


def change(tree: dict[str, Any], record: Any) -> None:
    """Apply one summary or config record."""
    for item in record.update:
        place(tree, item)
    for item in record.remove:
        remove(tree, item)


def row(record: Any) -> dict[str, Any]:
    """Return one history row, its nested keys joined by dots."""
    # The core writes the items in no fixed order: nested ones last, if keys collide.
    items = sorted(record.item, key=lambda i: len(i.nested_key))
    return {i.key or ".".join(i.nested_key): json.loads(i.value_json) for i in items}


def steady(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values that are the same in every recording."""
    return {k: v for k, v in plain(values).items() if k not in UNSTEADY}


def recorded(path: Path) -> tuple[int, dict[str, Any]]:
    """Return when a run started (ns), and what its file says about it."""
    history: list[dict[str, Any]] = []
    summary: dict[str, Any] = {}
    config: dict[str, Any] = {}
    started, exit_code = 0, None
    for record in records(path):
        match record.WhichOneof("record_type"):
            case "run":
                started = record.run.start_time.ToNanoseconds()
                change(config, record.run.config)
            case "config":
                change(config, record.config)
            case "history":
                history.append(steady(row(record.history)))
            case "summary":
                change(summary, record.summary)
            case "exit":
                exit_code = record.exit.exit_code
    return started, {
        "history": history,
        "summary": steady(summary),
        "config": steady(config),
        "exit_code": exit_code,
    }


def expectation(sequence: Sequence) -> dict[str, Any]:
    """Play one sequence in a process and directory of its own; decode its files."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            "PATH": os.defpath,
            "HOME": folder,
            "PYTHONPATH": str(HERE),
            "WANDB_DIR": folder,
            "WANDB_MODE": "offline",
            "WANDB_SILENT": "true",
            "WANDB_CONSOLE": "off",
            "WANDB_DISABLE_GIT": "true",
        }
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, sequence["name"]],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        live = Path(folder, "live")
        if not live.exists():
            raise RuntimeError(f"{sequence['name']}: {done.stderr}")
        files = Path(folder).glob("wandb/offline-run-*/*.wandb")
        runs = [run for _, run in sorted(map(recorded, files), key=lambda r: r[0])]
        seen = json.loads(live.read_text())["seen"]
    made = {"name": sequence["name"], "seen": seen, "runs": runs}
    return made | {k: sequence[k] for k in ("differs", "ours") if k in sequence}


def pretty(value: Any, indent: str = "", label: str = "") -> str:
    """Write JSON with one line for whatever fits one, for readable diffs."""
    line = label + json.dumps(value, ensure_ascii=False, allow_nan=False)
    if len(indent + line) < 88 or not isinstance(value, dict | list) or not value:
        return line
    deeper = indent + " "
    if isinstance(value, dict):
        parts = [pretty(v, deeper, f"{json.dumps(k)}: ") for k, v in value.items()]
    else:
        parts = [pretty(v, deeper) for v in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    inner = f",\n{deeper}".join(parts)
    return f"{label}{opening}\n{deeper}{inner}\n{indent}{closing}"


if __name__ == "__main__":
    with ThreadPoolExecutor(2) as pool:  # the work is in the child processes
        made = list(pool.map(expectation, SEQUENCES))
    sys.stdout.write(pretty({"wandb": wandb.__version__, "sequences": made}) + "\n")
