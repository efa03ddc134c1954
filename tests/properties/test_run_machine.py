"""Runs against a plain-Python model: any order of log, kill, resume, rewind, fork."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import unicodedata
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

import wanllmdb

NAMES = ["r0", "r1", "r2"]
KEYS = "abc"
TEXT = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=3
).map(lambda text: unicodedata.normalize("NFC", text))
VALUES = (
    st.integers(-5, 5)
    | st.floats(allow_nan=False, width=32)
    | st.booleans()
    | TEXT
)  # fmt: skip
QUIET = {
    "WANLLMDB_CONSOLE": "0", "WANLLMDB_SYSTEM_INTERVAL": "0", "WANLLMDB_GIT": "0",
    "WANLLMDB_ENVIRONMENT": "0", "WANLLMDB_SILENT": "1",
}  # fmt: skip
STEPS = st.none() | st.integers(0, 9)

KILLER = """
import json, os, signal, sys
import wanllmdb
for line in sys.stdin:
    order = json.loads(line)
    pid = os.fork()
    if pid == 0:
        run = wanllmdb.init(**order["init"])
        for row, step in order["rows"]:
            run.log(row, step=step)
        os.kill(os.getpid(), signal.SIGKILL)
    print(os.waitpid(pid, 0)[1], flush=True)
"""
"""Forks a child per line, which logs rows and dies of SIGKILL; tells how it ended."""


class Event(NamedTuple):
    """A row, or where `step` is None what the user set in the summary."""

    step: int | None
    values: dict[str, Any]
    attempt: int


@dataclass
class Attempt:
    """An epoch: from which step on it hides earlier rows, and what it wrote itself."""

    keep: int | None = None
    hidden: bool = False
    events: list[Event] = field(default_factory=list)
    defined: set[str] = field(default_factory=set)


@dataclass
class Model:
    """A run that is assumed to be perfect."""

    attempts: list[Attempt] = field(default_factory=list)
    state: str = "running"
    deleted: bool = False
    config: dict[str, Any] = field(default_factory=dict)
    tags: set[str] = field(default_factory=set)

    def begin(self, keep: int | None) -> None:
        self.attempts.append(Attempt(keep))
        self.state, self.deleted = "running", False

    def write(self, step: int | None, values: dict[str, Any]) -> None:
        event = Event(step, values, len(self.attempts))
        self.attempts[-1].events.append(event)

    @property
    def visible(self) -> list[Event]:
        """What no later attempt hides, in order."""
        shown: list[Event] = []
        lowest: int | None = None
        for attempt in reversed(self.attempts):
            if attempt.hidden:
                continue
            shown[:0] = [
                event for event in attempt.events
                if lowest is None
                or (lowest >= 0 if event.step is None else event.step <= lowest)
            ]  # fmt: skip
            if attempt.keep is not None:
                lowest = attempt.keep if lowest is None else min(lowest, attempt.keep)
        return shown

    @property
    def rows(self) -> dict[int, dict[str, Any]]:
        """What history shows: rows of one step merge, the last value of a cell wins."""
        rows: dict[int, dict[str, Any]] = {}
        for step, values, _ in self.visible:
            if step is not None:
                rows.setdefault(step, {}).update(values)
        return rows

    @property
    def numbers(self) -> dict[str, list[Any]]:
        """The numbers of each key, in order of steps."""
        return {
            key: [row[key] for _, row in sorted(self.rows.items())
                  if key in row and not isinstance(row[key], str)]
            for key in KEYS
        }  # fmt: skip

    @property
    def summary(self) -> dict[str, Any]:
        """The last write of each key, in order of time."""
        summary: dict[str, Any] = {}
        for step, values, _ in self.visible:
            for key, value in values.items():
                logged = step is not None and key in self.defined
                summary[key] = {"max": None} if logged else value
        for key, value in summary.items():
            if value == {"max": None} and self.numbers[key]:
                summary[key] = {"max": max(self.numbers[key])}
        return summary

    @property
    def defined(self) -> set[str]:
        """The keys that are summed up by their maximum; begun anew, none is."""
        keys: set[str] = set()
        for attempt in self.attempts:
            if not attempt.hidden:
                anew = attempt.keep is not None and attempt.keep < 0
                keys = attempt.defined if anew else keys | attempt.defined
        return keys


class RunMachine(RuleBasedStateMachine):
    """Runs of one Store, of which at most one is being written here."""

    killer: ClassVar[subprocess.Popen[str]]

    def __init__(self) -> None:
        super().__init__()
        self.store = tempfile.mkdtemp()
        self.runs: dict[str, Model] = {}
        self.active: str | None = None
        self.cursor = 0

    def teardown(self) -> None:
        """End the run, and check everything once more."""
        if self.active:
            self.finish()
        self.check()
        wanllmdb.teardown()
        shutil.rmtree(self.store)

    def begin(self, name: str, **how: Any) -> None:
        self.run = wanllmdb.init(store=self.store, **how)
        self.active = name
        assert self.run.step == self.cursor

    def ended(self, *, deleted: bool = False) -> list[str]:
        return [
            name for name, run in self.runs.items()
            if name != self.active and (deleted or not run.deleted)
        ]  # fmt: skip

    def next_step(self, name: str) -> int:
        return max(self.runs[name].rows, default=-1) + 1

    def take(self, values: dict[str, Any], step: int | None) -> None:
        """The rule of the cursor."""
        run = self.runs[self.active or ""]
        run.write(self.cursor if step is None else step, values)
        self.cursor = self.cursor + 1 if step is None else max(self.cursor, step)

    @precondition(lambda self: self.active is None)
    @rule(name=st.sampled_from(NAMES), lr=st.integers(0, 3))
    def start(self, name, lr):
        """A new run, or a new epoch that supersedes the old rows."""
        run = self.runs.get(name)
        if run is None:
            run = self.runs[name] = Model()
        run.begin(-1 if run.attempts else None)
        run.config, self.cursor = {"lr": lr}, 0
        run.tags.add(f"lr{lr}")
        self.begin(name, id=name, config={"lr": lr}, tags=[f"lr{lr}"])

    @precondition(lambda self: self.active)
    @rule(key=st.sampled_from(KEYS), value=VALUES, step=STEPS)
    def log(self, key, value, step):
        """The cursor's rule, and the last value of a cell wins."""
        self.run.log({key: value}, step=step)
        self.take({key: value}, step)

    @precondition(lambda self: self.active)
    @rule(key=st.sampled_from(KEYS + "s"), value=VALUES)
    def set_summary(self, key, value):
        """What the user sets holds until the key is logged again."""
        self.run.summary[key] = value
        self.runs[self.active].write(None, {key: value})

    @precondition(lambda self: self.active)
    @rule(key=st.sampled_from(KEYS))
    def define(self, key):
        """The summary of a key is its maximum."""
        self.run.define_metric(key, summary="max")
        self.runs[self.active].attempts[-1].defined.add(key)

    @precondition(lambda self: self.active)
    @rule(key=st.sampled_from(["lr", "size"]), value=st.integers(0, 9))
    def configure(self, key, value):
        """Config and tags change while the run lives."""
        self.run.config[key] = value
        self.run.tags += (f"{key}{value}",)
        self.runs[self.active].config[key] = value
        self.runs[self.active].tags.add(f"{key}{value}")

    @precondition(lambda self: self.active)
    @rule()
    def finish(self):
        """A clean end."""
        self.run.finish()
        self.runs[self.active].state, self.active = "finished", None

    @precondition(lambda self: self.active is None and self.runs)
    @rule(
        data=st.data(),
        rows=st.lists(st.tuples(st.sampled_from(KEYS), VALUES, STEPS), max_size=4),
    )
    def kill(self, data, rows):
        """A process goes on with a run, and dies of SIGKILL as `log` returned."""
        name = data.draw(st.sampled_from(self.ended(deleted=True)))
        self.cursor, self.active = self.next_step(name), name
        self.runs[name].begin(None)
        order = {
            "init": {"id": name, "store": self.store, "resume": "must"},
            "rows": [({key: value}, step) for key, value, step in rows],
        }
        assert self.killer.stdin is not None
        assert self.killer.stdout is not None
        self.killer.stdin.write(json.dumps(order) + "\n")
        self.killer.stdin.flush()
        assert int(self.killer.stdout.readline()) == 9
        for key, value, step in rows:
            self.take({key: value}, step)
        self.runs[name].state, self.active = "crashed", None

    @precondition(lambda self: self.active is None and self.runs)
    @rule(data=st.data(), more=st.dictionaries(st.just("size"), st.integers(0, 3)))
    def resume(self, data, more):
        """Goes on after the greatest step, also out of the trash."""
        name = data.draw(st.sampled_from(self.ended(deleted=True)))
        self.cursor = self.next_step(name)
        self.runs[name].begin(None)
        self.runs[name].config |= more
        self.begin(name, id=name, resume="must", config=more)

    @precondition(lambda self: self.active is None and self.ended())
    @rule(data=st.data(), step=st.integers(0, 9))
    def rewind(self, data, step):
        """Later rows are superseded."""
        name = data.draw(st.sampled_from(self.ended()))
        self.runs[name].begin(step)
        self.cursor = step + 1
        self.begin(name, resume_from=f"{name}?_step={step}")

    @precondition(lambda self: self.active is None and self.ended())
    @rule(data=st.data(), step=st.integers(0, 9))
    def fork(self, data, step):
        """A new run with the rows so far, which nothing done to the parent changes."""
        parent = data.draw(st.sampled_from(self.ended()))
        child = f"f{len(self.runs)}"
        taken = [
            event._replace(attempt=event.attempt - 100)
            for event in self.runs[parent].visible
            if event.step is None or event.step <= step
        ]
        self.runs[child] = Model([Attempt(events=taken), Attempt()])
        self.cursor = step + 1
        self.begin(child, id=child, fork_from=f"{parent}?_step={step}")

    @precondition(lambda self: self.ended())
    @rule(data=st.data())
    def delete(self, data):
        """To the trash."""
        name = data.draw(st.sampled_from(self.ended()))
        with wanllmdb.Api(self.store) as api:
            api.run(f"uncategorized/{name}").delete()
        self.runs[name].deleted = True

    @precondition(lambda self: any(run.deleted for run in self.runs.values()))
    @rule(data=st.data())
    def restore(self, data):
        """And back."""
        names = [name for name, run in self.runs.items() if run.deleted]
        name = data.draw(st.sampled_from(names))
        with wanllmdb.Api(self.store) as api:
            api.run(f"uncategorized/{name}", deleted=True).restore()
        self.runs[name].deleted = False

    @precondition(lambda self: self.ended())
    @rule(data=st.data(), back=st.integers(1, 3))
    def restore_epoch(self, data, back):
        """Later attempts are hidden, and what they superseded shows again."""
        name = data.draw(st.sampled_from(self.ended()))
        attempts = self.runs[name].attempts
        taken = name.startswith("f")  # its first attempt here is its parent's part
        number = len(attempts) - taken - back
        if number < 1 or all(a.hidden for a in attempts[number + taken :]):
            return
        for index, attempt in enumerate(attempts):
            attempt.hidden = index >= number + taken
        with wanllmdb.Api(self.store) as api:
            api.run(f"uncategorized/{name}").restore_epoch(number)

    @precondition(lambda self: self.runs)
    @rule()
    def check(self):
        """The Store holds what the model holds."""
        with wanllmdb.Api(self.store) as api:
            found = {run.id: run for run in api.runs("uncategorized")}
            gone = {run.id: run for run in api.runs("uncategorized", deleted=True)}
            assert set(found) == {n for n, run in self.runs.items() if not run.deleted}
            assert set(gone) == {n for n, run in self.runs.items() if run.deleted}
            for name, run in (found | gone).items():
                self.check_run(run, self.runs[name], ended=name != self.active)

    def check_run(self, run: Any, model: Model, *, ended: bool) -> None:
        rows = {
            row["_step"]: {k: v for k, v in row.items() if k[0] != "_"}
            for row in run.scan_history()
        }
        assert rows == model.rows
        assert list(rows) == sorted(rows)
        assert (run.state, run.config) == (model.state, model.config)
        assert set(run.tags) == model.tags
        if not ended:  # the rest is stored every 10 s
            return
        assert run.last_step == max(rows, default=None)
        counts = {key: stats.count for key, stats in run.keys.items()}
        seen = {key: sum(key in row for row in rows.values()) for key in KEYS}
        assert set(counts) == {key for key, count in seen.items() if count}
        summary = {k: v for k, v in run.summary.items() if k[0] != "_"}
        assert summary == model.summary
        for key, stats in run.keys.items():
            numbers = model.numbers[key]
            assert stats.count == seen[key]
            assert stats.min == min(numbers, default=None)
            assert stats.max == max(numbers, default=None)


class TestRunMachine(RunMachine.TestCase):  # type: ignore[name-defined,misc]
    """The machine, with a process at hand that forks children to be killed."""

    @classmethod
    def setUpClass(cls) -> None:
        """Start the killer."""
        RunMachine.killer = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", KILLER], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **QUIET},
        )  # fmt: skip

    @classmethod
    def tearDownClass(cls) -> None:
        """Let it end."""
        with RunMachine.killer as killer:
            killer.communicate()


# Shrinking runs whole machines again for minutes: a failure shows as it was found.
TestRunMachine.settings = settings(
    max_examples=100, stateful_step_count=30, deadline=None,
    phases=[Phase.generate], database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
