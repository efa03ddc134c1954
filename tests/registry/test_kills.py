"""Whatever is killed, a model's version is there whole, or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

import wanllmdb

CHILD = """
import os, signal, sys
import wanllmdb
from wanllmdb._catalog import events, models

place, name, turn = sys.argv[1].split(".")[0], sys.argv[1].split(".")[1], sys.argv[2]
module = {"events": events, "models": models}[place]
real, left = getattr(module, name), [int(turn)]

def killed(*args, **kwargs):
    if armed:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
    return real(*args, **kwargs)

armed = False
setattr(module, name, killed)
registry = wanllmdb.ModelRegistry()
run = wanllmdb.init(project="p", id="child")
open("model", "w").write("new")
armed = True
registry.log_model(run, "model", "churn", "2.0")
registry.transition_stage("churn", "2.0", "production", archive_existing=True)
print("through", flush=True)
"""


@pytest.mark.parametrize("place", ["events.record", "events.touch_fields", "models.add",
                                   "models.set_stage", "models.read"])  # fmt: skip
@pytest.mark.parametrize("turn", [0, 1, 2, 3])
def test_a_kill_leaves_each_change_whole_or_undone(
    logged, stages, tmp_path, place, turn
):
    """One version in production at every moment; doing it again ends it."""
    registry = logged(1, single_holder=True)
    registry.transition_stage("churn", 1, "production")
    wanllmdb.teardown()
    done = subprocess.run(
        [sys.executable, "-c", CHILD, place, str(turn)], cwd=tmp_path, text=True,
        capture_output=True, timeout=60, check=False, env=os.environ.copy(),
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL or done.stdout == "through\n", done.stderr
    assert stages(registry) in (
        ["production"], ["production", "none"], ["archived", "production"]
    )  # fmt: skip
    moved = [c for c in registry.history("churn") if c["kind"] == "stage"]
    assert len(moved) == (3 if stages(registry)[0] == "archived" else 1)
    with wanllmdb.init(project="p") as run:
        (tmp_path / "model").write_text("new")
        registry.log_model(run, tmp_path / "model", "churn", "2.0")
        registry.transition_stage("churn", "2.0", "production", archive_existing=True)
    assert stages(registry) == ["archived", "production"]
    assert registry.get_model_version("churn", "2.0")["version"] == "v2"
