"""The laboratory: children that strace kills, or whose system calls fail."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner

import wanllmdb
from wanllmdb.cli import cli

SCRIPT = Path(__file__).with_name("child.py")
CALLS = [
    "write", "pwrite64", "pwritev", "writev", "openat", "rename", "renameat",
    "renameat2", "link", "linkat", "unlink", "unlinkat", "fsync", "fdatasync",
    "ftruncate", "mkdir", "mkdirat", "fcntl",
]  # fmt: skip
"""System calls that change what another process can see."""

PER_CALL = int(os.environ.get("WANLLMDB_TEST_POINTS", "9"))
"""How many places of each system call a sweep tries; raise it for a night's work."""


def load_child() -> Any:
    spec = importlib.util.spec_from_file_location("crash_child", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


child = load_child()


class Point(NamedTuple):
    """The `when`-th time that the child makes a system call."""

    call: str
    when: int

    def __str__(self) -> str:
        return f"{self.call}#{self.when}"


@dataclass(frozen=True)
class Outcome:
    """How a child ended, and what it was told before.

    Attributes:
        point: Where it was disturbed.
        store: Its Store.
        code: Its exit status, negative for a signal.
        stderr: What it printed there.
        begun: Whether its scenario began.
        rows: Rows whose `log` returned.
        stage: Stages of the scenario that returned; -1 if `init` was refused.
    """

    point: Point | None
    store: Path
    code: int
    stderr: str
    begun: bool
    rows: int
    stage: int

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL


def _places(store: Path) -> dict[str, str]:
    """A Store and a home of its own, so that each child makes the same calls."""
    home = str(store.with_suffix(".home"))
    return {"WANLLMDB_DIR": str(store), "HOME": home, "XDG_CONFIG_HOME": home}


class Lab:
    """Runs scenarios of child.py, each in a Store of its own."""

    def __init__(self, directory: Path, plans: dict[str, list[Point]]) -> None:
        self._directory = directory
        self._plans = plans
        self._count = 0
        self._environment = dict(os.environ)
        self._template: Path | None = None

    def play(
        self, scenario: str, point: Point | None = None, how: str = "",
        store: Path | None = None, trace: Path | None = None, **variables: str,
    ) -> Outcome:  # fmt: skip
        """Run a scenario to its end, or to where strace disturbs it."""
        store = store or self.new_place()
        shared = store.with_suffix(".shared")
        shared.write_bytes(bytes(child.SLOTS.size))
        command = [sys.executable, "-W", "ignore", str(SCRIPT), scenario, str(shared)]
        if trace is not None:
            calls = ",".join(f"?{call}" for call in (*CALLS, "access", "faccessat"))
            command = [*_strace(calls), "-y", "-o", str(trace), *command]
        elif point is not None:
            inject = f"inject={point.call}:{how.format(point.when)}"
            # strace 6.1 sends no signals where the kernel filters for it.
            filtered = [] if "signal" in how else ["--seccomp-bpf"]
            traced = _strace(point.call)
            command = [*traced, *filtered, "-o/dev/null", "-e", inject, *command]
        done = subprocess.run(
            command, env={**self._environment, **variables, **_places(store)},
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        begun, rows, stage = child.SLOTS.unpack(shared.read_bytes())
        return Outcome(
            point, store, done.returncode, done.stderr, bool(begun), rows, stage
        )

    def points(
        self, scenario: str, template: bool = False, per_call: int = PER_CALL,
        **variables: str,
    ) -> list[Point]:  # fmt: skip
        """Where the calls of a scenario stand that touch its Store: some of each."""
        if scenario not in self._plans:
            trace = self._directory / f"{scenario}.trace"
            store = self.from_template() if template else self.new_place()
            done = self.play(scenario, store=store, trace=trace, **variables)
            assert done.code == 0, done.stderr
            self._plans[scenario] = list(_between_marks(trace, str(store)))
        return _chosen(self._plans[scenario], per_call)

    def sweep(
        self, scenario: str, points: list[Point], how: str,
        check: Callable[[Outcome], None], template: bool = False, **variables: str,
    ) -> None:  # fmt: skip
        """Disturb a scenario at each point, and check what is left.

        A failing check is named by its point; all points are tried. Threads share the
        work by chance, so that the main one may make fewer calls than in the trace: a
        scenario that reached its end before its point is checked as it ended, and
        counts as missed. Few may be.
        """
        assert points
        failures = []
        missed = 0
        places = [
            self.from_template() if template else self.new_place() for _ in points
        ]

        def disturbed(point: Point, store: Path) -> Outcome:
            return self.play(scenario, point, how, store, **variables)

        with ThreadPoolExecutor(2) as pool:
            for outcome in pool.map(disturbed, points, places):
                try:
                    assert outcome.begun, f"it never began: {outcome.stderr}"
                    if "signal" in how and not outcome.killed:
                        assert outcome.code == 0, f"it ended with {outcome.stderr}"
                        missed += 1
                    check(outcome)
                except Exception as error:
                    lines = str(error).strip().splitlines()
                    where = _line_of(error)
                    failures.append(
                        f"{scenario} {outcome.point}: {type(error).__name__} in {where}"
                        f" {' | '.join(lines[:9])[-500:]}"
                    )
                finally:
                    wanllmdb.teardown()
                    shutil.rmtree(outcome.store, ignore_errors=True)
        assert not failures, "\n".join(failures)
        assert missed <= len(points) // 4, f"{missed} of {len(points)} were not killed"

    def new_place(self) -> Path:
        """Where a Store can be made."""
        self._count += 1
        return self._directory / f"s{self._count}"

    def from_template(self) -> Path:
        """A copy of a Store whose only run was killed, and not recovered yet."""
        if self._template is None:
            store = self._directory / "template"
            shared = store.with_suffix(".shared")
            shared.write_bytes(bytes(child.SLOTS.size))
            command = [sys.executable, str(SCRIPT), "left_behind", str(shared)]
            environment = {**self._environment, **_places(store)}
            with subprocess.Popen(command, env=environment) as process:
                while child.SLOTS.unpack(shared.read_bytes())[2] == 0:
                    assert process.poll() is None
                process.kill()
            self._template = store
        place = self.new_place()
        shutil.copytree(self._template, place)
        return place

    row = staticmethod(child.row)

    def rows_of(self, run: Any) -> list[dict[str, Any]]:
        """A run's history without what the Store adds, in order of steps."""
        return [
            {k: v for k, v in row.items() if not k.startswith("_")}
            for row in run.scan_history()
        ]

    def check_rows(self, run: Any, acknowledged: int) -> int:
        """Nothing acknowledged is missing, and nothing is invented; return the count.

        Summary and statistics are what the rows come to.
        """
        count = len(self.rows_of(run))
        assert acknowledged <= count <= acknowledged + 1
        assert run.dropped_rows == 0
        self.check_numbers(run, range(count))
        return count

    def check_numbers(self, run: Any, numbers: Iterable[int]) -> None:
        """The run holds these rows exactly, and its sums are theirs."""
        steps, rows = list(numbers), list(map(child.row, numbers))
        found = self.rows_of(run)
        assert [row["_step"] for row in run.scan_history()] == steps
        assert len(found) == len(rows)
        assert all(map(_same, found, rows))
        assert run.last_step == (steps[-1] if steps else None)
        summary = {k: v for k, v in run.summary.items() if not k.startswith("_")}
        last: dict[str, Any] = {}
        for row in rows:
            last.update(row)
        by_hand = {**last, "note": "by hand"}
        assert _same(summary, last) or _same(summary, by_hand)
        keys = {key: stats.count for key, stats in run.keys.items()}
        assert keys == {key: sum(key in row for row in rows) for key in last}
        if rows:
            half, low, top = run.keys["half"], rows[0]["half"], rows[-1]["half"]
            assert (half.min, half.max, half.last) == (low, top, top)

    def check_sound(self, store: Path) -> None:
        """`wanllmdb doctor` finds nothing: pages, foreign keys, frames, blobs."""
        done = CliRunner().invoke(cli, ["--store", str(store), "doctor"])
        assert done.exit_code == 0, done.output
        assert "No problems found." in done.output

    def check_goes_on(self, store: Path, numbers: Iterable[int]) -> None:
        """The run with these rows can be resumed, and logs on."""
        rows = list(numbers)
        run = wanllmdb.init(project="p", id="r", resume="allow", store=store)
        assert run.step == (rows[-1] + 1 if rows else 0)
        for _ in range(3):
            rows.append(run.step)
            run.log(child.row(run.step))
        run.finish()
        with wanllmdb.Api(store) as api:
            again = api.run("p/r")
            assert again.state == "finished"
            self.check_numbers(again, rows)


def _strace(calls: str) -> list[str]:
    return ["strace", "-f", "-qq", "-e", f"trace={calls}"]


def _between_marks(trace: Path, store: str) -> Iterator[Point]:
    """The calls of the main thread that name the Store, in the part that counts."""
    lines = trace.read_text("utf-8", "replace").splitlines()
    main = lines[0].split()[0]
    counts: dict[str, int] = {}
    inside = False
    for line in lines:
        found = re.match(rf"{main} +(\w+)\((.*)", line)
        if found is None:
            continue
        call, rest = found.groups()
        if '"/phase/' in rest:
            inside = '"/phase/begin"' in rest
        counts[call] = counts.get(call, 0) + 1
        if inside and store in rest and call in CALLS:
            yield Point(call, counts[call])


def _chosen(points: Iterable[Point], per_call: int) -> list[Point]:
    """Up to `per_call` points of each call, from its first to its last."""
    by_call: dict[str, list[Point]] = {}
    for point in points:
        by_call.setdefault(point.call, []).append(point)
    chosen: list[Point] = []
    for found in by_call.values():
        if len(found) > per_call:
            last = len(found) - 1
            found = [found[last * i // (per_call - 1)] for i in range(per_call)]
        chosen += found
    return chosen


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two rows are equal bit for bit, NaN and all."""
    return repr(sorted(one.items())) == repr(sorted(other.items()))


def _line_of(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "?"
    return f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"


@pytest.fixture
def start(store: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts scripts on this test's Store, and kills those that a test leaves."""
    running: list[subprocess.Popen[str]] = []

    def started(code: str, *arguments: object, **variables: str) -> Any:
        command = [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)]
        environment = {**os.environ, "WANLLMDB_DIR": str(store), **variables}
        process = subprocess.Popen(
            command, env=environment, text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        running.append(process)
        return process

    yield started
    for process in running:
        process.kill()  # a stopped one too
        process.communicate()


@pytest.fixture
def ended() -> Callable[[subprocess.Popen[str]], str]:
    """Waits for a script that must end well; returns what it printed."""

    def printed(process: subprocess.Popen[str], seconds: float = 60) -> str:
        out, err = process.communicate(timeout=seconds)
        assert process.returncode == 0, err
        assert "Traceback" not in err
        return out.strip()

    return printed


@pytest.fixture(scope="session")
def _plans() -> dict[str, list[Point]]:
    return {}


@pytest.fixture
def lab(tmp_path: Path, _plans: dict[str, list[Point]]) -> Lab:
    """A laboratory of this test's own; skips where there is no strace."""
    if shutil.which("strace") is None:
        pytest.skip("there is no strace")
    place = tmp_path / "lab"
    place.mkdir()
    return Lab(place, _plans)
