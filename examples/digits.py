"""Train on scikit-learn's digits, be killed half-way, resume, check every value.

python examples/digits.py            # all of it; needs scikit-learn and numpy
"""

from __future__ import annotations

import os
import pickle
import signal
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

import wanllmdb

STEPS = 3000
KILL_AT = 1700


def softmax(scores: np.ndarray) -> np.ndarray:
    """Row-wise softmax; shape (rows, classes)."""
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def train(memory: Path, kill_at: int | None) -> None:
    """Train a linear classifier; what is logged is noted in `memory` too.

    `memory` stands for the checkpoint a real training writes.
    """
    x, y = load_digits(return_X_y=True)
    x = x / 16.0
    cut = 1400
    run = wanllmdb.init(project="digits", id="digits", resume="allow",
                        config={"lr": 0.1, "batch": 64}, tags=["example"])  # fmt: skip
    weights, noted = np.zeros((64, 10)), {}
    if memory.exists():
        weights, noted = pickle.loads(memory.read_bytes())
    rng = np.random.default_rng(len(noted))
    for step in range(run.step, STEPS):
        rows = rng.integers(0, cut, run.config.batch)
        p = softmax(x[rows] @ weights)
        loss = float(-np.log(p[np.arange(len(rows)), y[rows]]).mean())
        p[np.arange(len(rows)), y[rows]] -= 1
        weights -= run.config.lr * x[rows].T @ p / len(rows)
        metrics: dict[str, float] = {"train/loss": loss}
        if step % 50 == 0:
            right = (x[cut:] @ weights).argmax(axis=1) == y[cut:]
            metrics["val/accuracy"] = float(right.mean())
        noted[step] = metrics
        memory.write_bytes(pickle.dumps((weights, noted)))
        run.log(metrics)
        if step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
    run.finish()


def check(memory: Path) -> None:
    """Every value read back has the bits that were logged."""
    _, noted = pickle.loads(memory.read_bytes())
    found = wanllmdb.Api().run("digits/digits")
    assert found.state == "finished", found.state
    rows = {row["_step"]: row for row in found.scan_history()}
    assert sorted(rows) == list(range(STEPS))
    for step, metrics in noted.items():
        logged = {k: v for k, v in rows[step].items() if not k.startswith("_")}
        assert logged.keys() == metrics.keys()
        for key, value in metrics.items():
            assert struct.pack("<d", logged[key]) == struct.pack("<d", value)
    print(f"{len(rows)} steps, every value exact; val/accuracy "
          f"{found.summary['val/accuracy']:.3f}")  # fmt: skip


def main() -> None:
    """Kill one training half-way, resume it, check it."""
    if len(sys.argv) > 1:
        train(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None)
        return
    with tempfile.TemporaryDirectory() as directory:
        os.environ.setdefault("WANLLMDB_DIR", f"{directory}/store")
        memory = Path(directory, "memory")
        script = [sys.executable, __file__, str(memory)]
        killed = subprocess.run([*script, str(KILL_AT)], check=False)
        assert killed.returncode == -signal.SIGKILL
        subprocess.run(script, check=True)
        check(memory)


if __name__ == "__main__":
    main()
