"""The disk budget, as commands tell of it."""

from __future__ import annotations

import re

import pytest


def test_du_and_doctor_tell_what_of_the_budget_is_used(two_runs, cli):
    """Where one is set; and du gives programs its rows alone."""
    limited = {"WANLLMDB_DISK_BUDGET": "1GB"}
    said = r"\d{5,} of 1000000000 bytes \(0 %\) of the disk budget are used"
    for command in (["store", "du"], ["doctor"]):
        assert re.search(said, cli(*command, env=limited).stdout)
        assert "budget" not in cli(*command).stdout
    assert "budget" not in cli("store", "du", "--format", "json", env=limited).stdout


def test_put_refuses_what_does_not_fit(two_runs, cli, tmp_path):
    """With the exit code of a Store that refuses."""
    (tmp_path / "x").write_text("x" * 1_000_000)
    limited = {"WANLLMDB_DISK_BUDGET": "1 MB"}
    done = cli("artifact", "put", tmp_path / "x", "p/a", "--type", "t",
               env=limited, ok=False)  # fmt: skip
    assert done.returncode == 7
    assert "cannot be stored" in done.stderr


@pytest.mark.parametrize("value", ["much", "0"])
def test_a_budget_that_is_none_is_an_error_of_the_setting(cli, value):
    """The message names the variable."""
    done = cli("env", env={"WANLLMDB_DISK_BUDGET": value}, ok=False)
    assert done.returncode == 2
    assert "WANLLMDB_DISK_BUDGET" in done.stderr
