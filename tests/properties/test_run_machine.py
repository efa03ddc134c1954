"""Runs against a plain-Python model: any order of log, resume, rewind, fork, crash."""

from __future__ import annotations

import shutil
import tempfile

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

import wanllmdb
from wanllmdb import _session

NAMES = ["r0", "r1", "r2"]
VALUES = (
    st.integers(-5, 5)
    | st.floats(allow_nan=False)
    | st.booleans()
    | st.text(max_size=3)
)


class RunMachine(RuleBasedStateMachine):
    """Each run of the model is {step: {key: value}}, a cursor, and a state."""

    def __init__(self) -> None:
        super().__init__()
        self.store = tempfile.mkdtemp()
        self.rows: dict[str, dict[int, dict[str, object]]] = {}
        self.state: dict[str, str] = {}
        self.deleted: set[str] = set()
        self.active: str | None = None
        self.cursor = 0

    def teardown(self) -> None:
        """End the run, and check everything once more."""
        if self.active:
            self.finish()
        self.check()
        wanllmdb.teardown()
        shutil.rmtree(self.store)

    def begin(self, name, **how) -> None:
        self.run = wanllmdb.init(id=name, store=self.store, **how)
        self.active, self.state[name] = name, "running"
        assert self.run.step == self.cursor

    def ended(self) -> list[str]:
        return [n for n in self.rows if n != self.active and n not in self.deleted]

    @precondition(lambda self: self.active is None)
    @rule(name=st.sampled_from(NAMES))
    def start(self, name):
        """A new run, or a new epoch that supersedes the old rows."""
        if name not in self.deleted:
            self.cursor, self.rows[name] = 0, {}
            self.begin(name)

    @precondition(lambda self: self.active)
    @rule(key=st.sampled_from("ab"), value=VALUES, step=st.none() | st.integers(0, 9))
    def log(self, key, value, step):
        """The cursor's rule, and the last value of a cell wins."""
        self.run.log({key: value}, step=step)
        at = self.cursor if step is None else step
        self.rows[self.active].setdefault(at, {})[key] = value
        self.cursor = self.cursor + 1 if step is None else max(self.cursor, step)

    @precondition(lambda self: self.active)
    @rule()
    def finish(self):
        """A clean end."""
        self.run.finish()
        self.state[self.active], self.active = "finished", None

    @precondition(lambda self: self.active)
    @rule()
    def crash(self):
        """What kill -9 leaves: a free lock, and a log without an end."""
        self.run._ticker.stop(5)
        self.run._writer.abandon_after_fork()
        self.run._stream.lock.release()
        self.run._finished = True
        _session._ended(self.run, 0)
        self.state[self.active], self.active = "crashed", None

    @precondition(lambda self: self.active is None and self.ended())
    @rule(data=st.data())
    def resume(self, data):
        """Goes on after the greatest step."""
        name = data.draw(st.sampled_from(self.ended()))
        self.cursor = max(self.rows[name], default=-1) + 1
        self.begin(name, resume="must")

    @precondition(lambda self: self.active is None and self.ended())
    @rule(data=st.data(), step=st.integers(0, 9))
    def rewind(self, data, step):
        """Later rows are superseded."""
        name = data.draw(st.sampled_from(self.ended()))
        self.rows[name] = {s: r for s, r in self.rows[name].items() if s <= step}
        self.cursor = step + 1
        self.run = wanllmdb.init(resume_from=f"{name}?_step={step}", store=self.store)
        self.active, self.state[name] = name, "running"
        assert self.run.step == self.cursor

    @precondition(lambda self: self.active is None and self.ended())
    @rule(data=st.data(), step=st.integers(0, 9))
    def fork(self, data, step):
        """A new run with the rows so far."""
        parent = data.draw(st.sampled_from(self.ended()))
        child = f"f{len(self.rows)}"
        self.rows[child] = {
            s: dict(r) for s, r in self.rows[parent].items() if s <= step
        }
        self.cursor = step + 1
        self.begin(child, fork_from=f"{parent}?_step={step}")

    @precondition(lambda self: self.ended())
    @rule(data=st.data())
    def delete(self, data):
        """To the trash."""
        name = data.draw(st.sampled_from(self.ended()))
        with wanllmdb.Api(self.store) as api:
            api.run(f"uncategorized/{name}").delete()
        self.deleted.add(name)

    @precondition(lambda self: self.deleted)
    @rule(data=st.data())
    def restore(self, data):
        """And back."""
        name = data.draw(st.sampled_from(sorted(self.deleted)))
        with wanllmdb.Api(self.store) as api:
            api.run(f"uncategorized/{name}", deleted=True).restore()
        self.deleted.discard(name)

    @precondition(lambda self: self.rows)
    @rule()
    def check(self):
        """The Store holds what the model holds."""
        with wanllmdb.Api(self.store) as api:
            found = {run.id: run for run in api.runs("uncategorized")}
            assert set(found) == set(self.rows) - self.deleted
            for name, run in found.items():
                rows = {
                    row["_step"]: {k: v for k, v in row.items() if k[0] != "_"}
                    for row in run.scan_history()
                }
                assert rows == self.rows[name]
                assert run.state == self.state[name]
                counts = {key: stats.count for key, stats in run.keys.items()}
                if name != self.active:
                    seen = {k: sum(k in r for r in rows.values()) for k in "ab"}
                    assert set(counts) == {k for k, n in seen.items() if n}


TestRunMachine = RunMachine.TestCase
TestRunMachine.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
