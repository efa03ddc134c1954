"""Runs against the plain-Python model, while their logs are inlined, sealed, merged."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

import wanllmdb
from wanllmdb import _compaction, _merging, _recovery

PATH = Path(__file__).parents[1] / "properties" / "test_run_machine.py"
spec = importlib.util.spec_from_file_location("run_machine", PATH)
assert spec is not None
assert spec.loader is not None
machine: Any = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = machine  # its dataclasses ask for it
spec.loader.exec_module(machine)

INLINE, MERGED, GROWTH = (
    _compaction.INLINE_BYTES, _merging.MERGED_BYTES, _merging.GROWTH
)  # fmt: skip


class CompactingMachine(machine.RunMachine):  # type: ignore[misc]
    """The same runs; whatever compaction does, the model does not notice."""

    def teardown(self) -> None:
        super().teardown()
        _compaction.INLINE_BYTES, _merging.GROWTH = INLINE, GROWTH

    @precondition(lambda self: self.runs)
    @rule(size=st.sampled_from([0, 600, INLINE]))
    def inline_up_to(self, size):
        """Small logs go into the Catalog, or into parts of their own."""
        _compaction.INLINE_BYTES = size

    @precondition(lambda self: self.runs)
    @rule(size=st.sampled_from([0, MERGED]), growth=st.sampled_from([GROWTH, 1 << 30]))
    def compact(self, size, growth):
        """What `store compact` does; what was given up goes at the next turn."""
        _merging.MERGED_BYTES, _merging.GROWTH = size, growth
        with wanllmdb.Api(self.store) as api:
            _recovery.recover_dead(api.store)
            list(api.store.compact())
            with api.store.catalog.transaction(durable=False) as connection:
                connection.execute("UPDATE retired SET due_us = 1")
        _merging.MERGED_BYTES = MERGED

    @precondition(lambda self: self.active is None and self.ended())
    @rule(data=st.data())
    def sums_are_stored(self, data):
        """What the sealed log comes to is what was stored when the run ended."""
        name = data.draw(st.sampled_from(self.ended()))
        with wanllmdb.Api(self.store) as api:
            run = api.run(f"uncategorized/{name}")
            sums = api.store.logs.sums(run.record)
            assert repr(sorted(sums.stats().items())) == repr(sorted(run.keys.items()))
            numbers = api.store.numbers(run.record, sums)
            assert {k: v for k, v in numbers.summary.value.items() if k[0] != "_"} == {
                k: v for k, v in run.summary.items() if k[0] != "_"
            }


class TestCompactingMachine(CompactingMachine.TestCase):  # type: ignore[name-defined,misc]
    """The machine, with a process at hand that forks children to be killed."""

    @classmethod
    def setUpClass(cls) -> None:
        """Start the killer."""
        machine.TestRunMachine.setUpClass()

    @classmethod
    def tearDownClass(cls) -> None:
        """Let it end."""
        machine.TestRunMachine.tearDownClass()


# Shrinking runs whole machines again for minutes: a failure shows as it was found.
TestCompactingMachine.settings = settings(
    max_examples=int(os.environ.get("WANLLMDB_TEST_EXAMPLES", "15")),
    stateful_step_count=40, deadline=None, phases=[Phase.generate], database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
