"""The same work through wanllmdb and five other trackers, side by side.

``python benchmarks/peers/run.py --out docs/benchmarks.md`` makes a virtual environment
for each system, runs all of them in turn, round by round, and writes a table of the
medians. Workers have no network. ``--quick`` is for trying it out.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import launch
import table
import venvs
from adapters import load
from launch import Place, WorkerError
from table import Results

Work = Callable[[Place, "Sizes", Path], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much work; seconds are caps for those that need longer."""

    log_calls: int = 10_000
    log_cap: float = 20
    long_calls: int = 100_000
    long_cap: float = 60
    history_runs: int = 100
    history_steps: int = 1000
    runs: int = 10_000
    fill_cap: float = 90
    listed: int = 50
    burst_acks: int = 2000
    paced_acks: int = 300
    kill_cap: float = 20
    writers: int = 8
    writer_seconds: float = 4


QUICK = Sizes(
    log_calls=1000, log_cap=4, long_calls=5000, long_cap=5, history_runs=5,
    history_steps=200, runs=200, fill_cap=8, burst_acks=300, paced_acks=100,
    writer_seconds=1,
)  # fmt: skip


def work_start(place: Place, sizes: Sizes, stores: Path) -> dict[str, Any]:
    return launch.run(place, "start", fresh(stores / "start"))


def work_log(place: Place, sizes: Sizes, stores: Path) -> dict[str, Any]:
    answer = launch.run(
        place, "log", fresh(stores / "log"), calls=sizes.log_calls, cap=sizes.log_cap
    )
    return answer | {"share": answer.pop("calls") / sizes.log_calls}


def work_long(place: Place, sizes: Sizes, stores: Path) -> dict[str, Any]:
    """Memory and bytes of a long run, then reading it back."""
    store = fresh(stores / "long")
    answer, memory = launch.run_measuring_memory(
        place, "long", store, calls=sizes.long_calls, cap=sizes.long_cap
    )
    points, share = answer["calls"] * 10, answer["calls"] / sizes.long_calls
    size = bytes_of(store)
    index = launch.run(place, "index", store)["wall"]
    read = launch.run(place, "read_points", store)
    return {
        "share": share, "memory": memory, "bytes": size / points,
        "read": read["cpu"] / share, "index": index,
        "missing": points - read["points"],
    }  # fmt: skip


def work_metric(place: Place, sizes: Sizes, stores: Path) -> dict[str, Any]:
    """One key of many runs; the Store is filled in the first round and kept."""
    store = stores / "metric"
    filled = fill(place, store, "fill_history", runs=sizes.history_runs,
                  steps=sizes.history_steps, cap=sizes.fill_cap)  # fmt: skip
    read = launch.run(place, "read_metric", store)
    share = filled / sizes.history_runs
    return {
        "share": share, "cpu": read["cpu"] / share, "wall": read["wall"] / share,
        "missing": filled * sizes.history_steps - read["points"],
    }  # fmt: skip


def work_list(place: Place, sizes: Sizes, stores: Path) -> dict[str, Any]:
    """The best of many runs; the Store is filled in the first round and kept."""
    if not hasattr(load(place.system), "list_runs"):
        return {"none": True}
    store = stores / "list"
    filled = fill(place, store, "fill_runs", runs=sizes.runs, cap=sizes.fill_cap)
    cost = launch.run(place, "list_runs", store, runs=filled, limit=sizes.listed)
    share = filled / sizes.runs
    return {"share": share, "cpu": cost["cpu"] / share, "wall": cost["wall"] / share}


def work_kill(place: Place, sizes: Sizes, stores: Path) -> dict[str, Any]:
    """What a kill takes along, at full speed and at a hundred calls a second."""
    answer: dict[str, Any] = {}
    for name, pause, acks in (
        ("burst", 0.0, sizes.burst_acks), ("paced", 0.01, sizes.paced_acks)
    ):  # fmt: skip
        store = fresh(stores / name)
        acked = launch.kill_in_burst(place, store, pause, acks, sizes.kill_cap)
        launch.run(place, "index", store)
        found = launch.run(place, "read_points", store)["points"] // 10
        answer[f"{name}_acked"] = acked
        # A call that was under way when the kill came may be found beyond these.
        answer[f"{name}_lost"] = max(0, acked - found)
    return answer


def work_writers(place: Place, sizes: Sizes, stores: Path) -> dict[str, Any]:
    """Many processes on one Store, new and in use, against one of them alone."""
    seconds, many = sizes.writer_seconds, sizes.writers
    new = together(place, fresh(stores / "new"), "new", many, seconds / 4)
    store = fresh(stores / "writers")
    alone = together(place, store, "alone", 1, seconds)
    if alone["dead"]:
        raise WorkerError("one writer alone")
    used = together(place, store, "used", many, seconds)
    return {
        "new_dead": new["dead"], "dead": used["dead"], "errors": used["errors"],
        "ratio": used["rate"] / alone["rate"], "slowest": used["slowest"] * 1e3,
        "rate": used["rate"] * 10,
    }  # fmt: skip


WORKS: dict[str, Work] = {
    "start": work_start, "log": work_log, "long": work_long, "metric": work_metric,
    "list": work_list, "kill": work_kill, "writers": work_writers,
}  # fmt: skip


def fresh(store: Path) -> Path:
    """A directory that holds nothing of an earlier round."""
    shutil.rmtree(store, ignore_errors=True)
    return store


def bytes_of(store: Path) -> int:
    """Bytes that a Store's files take on the disk."""
    files = (path for path in store.rglob("*") if path.is_file())
    return sum(path.lstat().st_blocks * 512 for path in files)


def fill(place: Place, store: Path, job: str, **options: Any) -> int:
    """Fill a Store, unless it is there; how many runs it has."""
    note = store.with_suffix(".filled")
    if not note.exists():
        filled = launch.run(place, job, fresh(store), **options)["runs"]
        launch.run(place, "index", store)
        note.write_text(str(filled))
    return int(note.read_text())


def together(
    place: Place, store: Path, name: str, count: int, seconds: float
) -> dict[str, Any]:
    """So many writers at once: what they reached together and what went wrong."""
    processes = [
        launch.start(place, "writer", store, name=f"{name}-{i}", seconds=seconds)
        for i in range(count)
    ]
    for process in processes:  # all are ready, or have died
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        try:
            process.stdin.write("go\n")
            process.stdin.flush()
        except BrokenPipeError:  # died before; its answer will say so
            process.stdin = None
    answers, dead = [], 0
    for process in processes:
        try:
            answers.append(launch.collect(place, process))
        except WorkerError:
            dead += 1
    launch.wait_for_helpers()
    if not answers:
        return {"dead": dead, "errors": 0, "rate": 0.0, "slowest": 0.0}
    wall = max(answer["wall"] for answer in answers)
    return {
        "dead": dead, "errors": sum(answer["errors"] for answer in answers),
        "rate": sum(answer["calls"] for answer in answers) / wall,
        "slowest": max(answer["slowest"] for answer in answers),
    }  # fmt: skip


def measure(
    places: list[Place], works: list[str], sizes: Sizes, rounds: int
) -> Iterator[Results]:
    """All rounds: in each, every piece of work through every system in turn.

    Yields: The answers of all rounds up to now, after each.
    """
    results: Results = {place.system: {work: [] for work in works} for place in places}
    for place in places:  # byte code and the file cache, before anything is measured
        attempt(place, "start", sizes)
    for number in range(1, rounds + 1):
        for work in works:
            for place in places:
                begun = time.perf_counter()
                answer = attempt(place, work, sizes)
                results[place.system][work].append(answer)
                spent = time.perf_counter() - begun
                print(
                    f"round {number}, {work}, {place.system}: {spent:.0f} s, {answer}",
                    file=sys.stderr, flush=True,
                )  # fmt: skip
        yield results


def attempt(place: Place, work: str, sizes: Sizes) -> dict[str, Any]:
    """One piece of work; a system that fails at it must not stop the others."""
    try:
        return WORKS[work](place, sizes, place.directory / "stores")
    except WorkerError as error:
        launch.wait_for_helpers()
        return {"failed": str(error)}


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    names = list(venvs.REQUIREMENTS)
    parser.add_argument("--systems", nargs="+", default=names, choices=names)
    parser.add_argument("--works", nargs="+", default=list(WORKS), choices=list(WORKS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="little work, to try it")
    parser.add_argument("--out", type=Path, help="the Markdown file; default: print it")
    parser.add_argument("--machine", default=f"{os.cpu_count()} cores",
                        help="what the table says of the machine")  # fmt: skip
    parser.add_argument("--venvs", type=Path, default=venvs.default_directory())
    parser.add_argument("--scratch", type=Path, help="where Stores are made")
    return parser.parse_args()


def command(given: argparse.Namespace) -> str:
    """What makes the same table again, without the paths of this machine."""
    words = ["python", "benchmarks/peers/run.py", "--rounds", str(given.rounds)]
    if given.quick:
        words.append("--quick")
    if given.systems != list(venvs.REQUIREMENTS):
        words += ["--systems", *given.systems]
    if given.works != list(WORKS):
        words += ["--works", *given.works]
    return shlex.join([*words, "--out", "docs/benchmarks.md"])


def main() -> None:
    """Make the environments, measure, write the table."""
    given = parse()
    sizes = QUICK if given.quick else Sizes()
    launch.adopt_orphans()
    with tempfile.TemporaryDirectory(dir=given.scratch) as scratch:
        places = [
            Place(system, venvs.make(given.venvs, system), Path(scratch, system))
            for system in given.systems
        ]
        versions = {x.system: venvs.versions(x.python, x.system) for x in places}
        begun = time.perf_counter()
        for results in measure(places, given.works, sizes, given.rounds):
            text = table.document(
                results, sizes, command=command(given), versions=versions,
                machine=given.machine, minutes=(time.perf_counter() - begun) / 60,
            )  # fmt: skip
            if given.out is not None:
                given.out.write_text(text)
    if given.out is None:
        print(text)


if __name__ == "__main__":
    main()
