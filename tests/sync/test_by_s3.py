"""What users touch, by a bucket: sockets are opened when a sync is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

import wanllmdb
from wanllmdb.cli import cli

pytestmark = pytest.mark.moto


def invoke(laptop, *words):
    """Run a command of a laptop in this process; its stdout."""
    done = CliRunner().invoke(
        cli, ["--store", str(laptop.store), *map(str, words)], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    return done.stdout


def test_two_laptops_meet_at_a_bucket(a, b, moto_url, moto_bucket, tmp_path):
    """Named by commands, pushed as a run ends, pulled, and read when it is used."""
    for laptop in (a, b):
        with laptop.opened():
            pass
        said = invoke(laptop, "remote", "add", "hub", f"s3://{moto_bucket}/x",
                      "--endpoint-url", moto_url, "--path-style")  # fmt: skip
        assert said == f"hub s3://{moto_bucket}/x many writers\n"
    a.commit("one", aliases=["best"])
    assert "versions: 1 pushed" in invoke(a, "sync")
    run = b.begin()
    found = run.use_artifact("data:best")
    assert Path(found.download(tmp_path / "out"), "data.txt").read_text() == "one"
    run.finish()
    wanllmdb.teardown()
    assert "runs: 1 pushed" in invoke(b, "sync")
    assert "hold the same" in invoke(b, "sync", "--verify")
