"""Four processes write to one run, each as its own rank.

python examples/ranks.py
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile

import wanllmdb

RANKS, STEPS = 4, 200


def work(rank: int) -> None:
    """One rank: joins the run under a name of its own."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
    run = wanllmdb.init(project="ranks", id="together", shared=True, resume="allow")
    for step in range(STEPS):
        run.log({"loss": 1 / (step + 1) + rank, "rank": rank}, step=step)
    run.finish()


def main() -> None:
    """Start the ranks, and check that each one's rows are all there."""
    with tempfile.TemporaryDirectory() as directory:
        os.environ.setdefault("WANLLMDB_DIR", f"{directory}/store")
        context = multiprocessing.get_context("spawn")
        ranks = [context.Process(target=work, args=(rank,)) for rank in range(RANKS)]
        with wanllmdb.init(project="ranks", id="together", shared=True) as run:
            for process in ranks:
                process.start()
            for process in ranks:
                process.join()
                assert process.exitcode == 0
            run.summary["ranks"] = RANKS
        found = wanllmdb.Api().run("ranks/together")
        rows = list(found.scan_history())
        assert len(rows) == RANKS * STEPS, len(rows)
        per_rank = dict.fromkeys(range(RANKS), 0)
        for row in rows:
            per_rank[row["rank"]] += 1
        assert set(per_rank.values()) == {STEPS}
        assert found.state == "finished", found.state
        print(f"{len(rows)} rows of {len({r['_writer'] for r in rows})} writers")


if __name__ == "__main__":
    main()
