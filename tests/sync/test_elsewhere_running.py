"""A run that another laptop writes is running here, too, and its own to end."""

from __future__ import annotations

import pytest

from wanllmdb import _upkeep
from wanllmdb._catalog import remotes, runs
from wanllmdb._recovery import recover_dead
from wanllmdb.errors import WanllmdbWarning


@pytest.fixture
def run(a, b):
    """A run that laptop `a` writes, and `b` has pulled."""
    run = a.begin(id="r1")
    run.log({"x": 1})
    run.log({"x": 2})
    a.sync()
    b.sync()
    yield run
    run.finish()


def test_readers_do_not_take_it_for_dead(run, b):
    """Neither a listing, nor a look at it, nor doctor --fix ends it."""
    with b.api() as api:
        assert [run.state for run in api.runs()] == ["running"]
        assert api.run("p/r1").state == "running"
        assert recover_dead(api.store) == []
        assert _upkeep.dead_runs(api.store) == []


def test_its_own_end_is_taken_over(run, a, b):
    """What its laptop says of it wins."""
    run.log({"x": 3})
    run.finish()
    a.sync()
    b.sync()
    with b.api() as api:
        found = api.run("p/r1")
        assert (found.state, len(list(found.scan_history()))) == ("finished", 3)


def test_a_dead_run_of_this_stores_former_device_is_recovered(run, a):
    """A Store that got a new device ends what it began as the old one."""
    with a.opened() as store:
        with store.catalog.transaction(durable=True) as connection:
            remotes.renew_device(connection)
        reader = store.catalog.reader
        assert runs.is_ours(reader, runs.find(reader, "p", "r1"))
        assert len(remotes.devices(reader)) == 2


@pytest.mark.parametrize("resume", ["allow", "must"])
def test_it_can_be_gone_on_with_after_one_warning(run, b, resume):
    """The warning names the host and the time; the rows follow the others'."""
    host = run._record.host
    with pytest.warns(WanllmdbWarning, match=f"running on {host}, as was last heard"):
        again = b.begin(id="r1", resume=resume)
    again.log({"x": 7})
    again.finish()
    with b.api() as api:
        found = api.run("p/r1")
        rows = [(row["_step"], row["x"]) for row in found.scan_history()]
        assert (found.state, rows) == ("finished", [(0, 1), (1, 2), (2, 7)])


def test_ls_says_where_it_runs(run, b):
    """People see the host; programs see the state as it is."""
    from click.testing import CliRunner

    from wanllmdb.cli import cli

    seen = CliRunner().invoke(cli, ["--store", str(b.store), "ls"]).stdout
    assert f"running on {run._record.host}" in seen
    plain = CliRunner().invoke(cli, ["--store", str(b.store), "ls", "--json"]).stdout
    assert '"state": "running"' in plain
