"""Made store_v1.tar.gz with commit 7c74f4f, whose Catalog is of version 1.

    PYTHONPATH=<checkout of 7c74f4f> python record_version_1.py store_v1.tar.gz

`rows` is what a run of it holds, and test_version_1.py asks for that.
"""

from __future__ import annotations

import math
import os
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any


def rows(run: str, first: int, count: int) -> list[dict[str, Any]]:
    """The rows of a run, from a step on."""
    found: list[dict[str, Any]] = []
    for n in range(first, first + count):
        row: dict[str, Any] = {
            "loss": math.nan if n == 3 else -0.0 if n == 4 else n / 3,
            "Loss": n, "big": 2**53 + n, "flag": n % 2 == 0, "train/acc": math.inf,
        }  # fmt: skip
        if n % 5 == 2:
            row |= {"text": f"row {n} of {run}\n\N{FIRE}", "list": [n, None, "x"],
                    "huge": 2**70 + n, "none": None}  # fmt: skip
        found.append(row)
    return found


def record(store: Path) -> None:
    """A finished run, one that was resumed and rewound, a fork, and a killed one."""
    import wanllmdb

    def log(run: Any, first: int, count: int) -> None:
        for n, row in enumerate(rows(run.id, first, count), first):
            run.log(row, step=n)

    how: dict[str, Any] = {"project": "p", "store": store}
    with wanllmdb.init(id="whole", config={"lr": 0.1}, tags=["t"], **how) as run:
        log(run, 0, 30)
        run.log_message("hello\nworld")
        Path(run.dir, "model.txt").write_text("weights")
        run.summary["note"] = "by hand"
    with wanllmdb.init(id="again", **how) as run:
        log(run, 0, 20)
    with wanllmdb.init(id="again", resume="must", **how) as run:
        log(run, 20, 10)
    with wanllmdb.init(resume_from="again?_step=24", **how) as run:
        log(run, 25, 2)
    with wanllmdb.init(id="fork", fork_from="whole?_step=9", **how) as run:
        log(run, 10, 3)
    with wanllmdb.Api(store) as api:
        api.run("p/whole").update(summary={"edited": [1, 2]})
    if os.fork() == 0:
        log(wanllmdb.init(id="killed", **how), 0, 12)
        os._exit(9)
    os.wait()


def forget_the_machine(catalog: Path) -> None:
    """Leave out whose and where it was."""
    connection = sqlite3.connect(catalog)
    connection.execute("UPDATE epoch SET host = 'host'")
    connection.execute("UPDATE event SET host = 'host', who = 'who'")
    connection.execute("UPDATE run SET host = 'host', identity = ''")
    connection.execute("UPDATE run_file SET source = 'model.txt'")
    connection.commit()
    connection.execute("VACUUM")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def nobodys(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without the names and numbers of who made it."""
    info.uname = info.gname = ""
    info.uid = info.gid = 0
    return info


if __name__ == "__main__":
    os.environ.update({
        "WANLLMDB_CONSOLE": "0", "WANLLMDB_SYSTEM_INTERVAL": "0", "WANLLMDB_GIT": "0",
        "WANLLMDB_ENVIRONMENT": "0", "WANLLMDB_SILENT": "1",
    })  # fmt: skip
    if len(sys.argv) == 3:  # in a process of its own, so that nothing is open
        record(Path(sys.argv[2]))
    else:
        with tempfile.TemporaryDirectory() as place:
            target = Path(place, "store")
            command = [sys.executable, __file__, "record", str(target)]
            subprocess.run(command, check=True)
            for path in [*target.glob("logs/*"), *target.glob("locks/*")]:
                path.unlink()
            forget_the_machine(target / "catalog.db")
            with tarfile.open(sys.argv[1], "w:gz") as archive:
                archive.add(target, "store", filter=nobodys)
