"""Thirty runs of a small search, read back as one table.

python examples/search.py
"""

from __future__ import annotations

import os
import random
import tempfile

import wanllmdb


def main() -> None:
    """Search the learning rate of a quadratic, and find the best run."""
    with tempfile.TemporaryDirectory() as directory:
        os.environ.setdefault("WANLLMDB_DIR", f"{directory}/store")
        rng = random.Random(1)
        for _ in range(30):
            lr = 10 ** rng.uniform(-3, 0)
            with wanllmdb.init(project="search", config={"lr": lr}) as run:
                x = 5.0
                for _ in range(40):
                    x -= lr * 2 * x
                    run.log({"loss": x * x})
        api = wanllmdb.Api()
        table = api.history("search", ["loss"])
        assert len(table) == 30 * 40
        best = api.runs("search", order="+summary.loss", limit=1)[0]
        finals = {r.id: r.summary["loss"] for r in api.runs("search")}
        assert best.summary["loss"] == min(finals.values())
        print(f"{len(table)} rows of 30 runs; best lr {best.config['lr']:.3g}")


if __name__ == "__main__":
    main()
