"""Every change is an event in its own transaction, and stamps the fields it touched."""

from __future__ import annotations

import getpass
import os
import sqlite3
import time

import pytest

import wanllmdb


@pytest.fixture
def run(api):
    """A finished run, as the Api reads it."""
    with wanllmdb.init(project="p", id="r", name="first", config={"lr": 1}) as made:
        made.log({"loss": 3.0})
        made.log({"loss": 2.0})
    wanllmdb.teardown()
    return api.run("p/r")


def again(**how):
    """Another attempt of the run."""
    with wanllmdb.init(project="p", **how) as made:
        made.log({"loss": 1.0})
    wanllmdb.teardown()


def set_tags(run):
    run.tags = ["best"]


# What is done; the event's kind, from and to (None: not looked at).
CHANGES = {
    "rename": (lambda r: r.update(name="second"), "set name", "first", "second"),
    "notes": (lambda r: r.update(notes="why"), "set notes", None, "why"),
    "group": (lambda r: r.update(group="g"), "set group", None, "g"),
    "job type": (lambda r: r.update(job_type="t"), "set job_type", None, "t"),
    "tags": (set_tags, "tags", [], ["best"]),
    "config": (lambda r: r.update(config={"lr": 2}), "config", {"lr": 1}, {"lr": 2}),
    "summary": (lambda r: r.update(summary={"loss": 0}), "summary", {"loss": 2.0},
                {"loss": 0}),
    "delete": (lambda r: r.delete(), "delete", None, None),
    "restore": (lambda r: (r.delete(), r.restore()), "restore", None, None),
    "resume": (lambda _: again(id="r", resume="must"), "resume", None, 2),
    "rewind": (lambda _: again(resume_from="r?_step=0"), "rewind", 0, 2),
    "replace": (lambda _: again(id="r"), "overwrite", None, 2),
    "revert": (lambda r: (again(id="r"), r.load().restore_epoch(1)), "revert", None, 1),
}  # fmt: skip
RECORDED = pytest.mark.parametrize("name", CHANGES)


@RECORDED
def test_each_change_is_an_event(run, name):
    """Who, host, when, what it was and what it became."""
    change, kind, before, after = CHANGES[name]
    start = time.time_ns() // 1000
    change(run)
    event = [e for e in run.load().events if e.kind == kind][-1]
    assert (event.who, event.host) == (getpass.getuser(), os.uname().nodename)
    assert start <= event.at_us <= time.time_ns() // 1000
    assert (event.before, event.after) == (before or event.before,
                                           after or event.after)  # fmt: skip


@pytest.mark.parametrize(
    "name", [n for n in CHANGES if n not in ("resume", "rewind", "replace", "revert")]
)
def test_a_change_whose_event_cannot_be_stored_is_not_made(run, store, sql, name):
    """Event and change are one transaction."""
    rows = (
        "SELECT name, notes, run_group, job_type, config, summary, deleted_us,"
        " epoch, (SELECT group_concat(tag) FROM run_tag) FROM run"
    )
    before = sql(rows)
    connection = sqlite3.connect(store / "catalog.db")
    connection.execute(
        "CREATE TRIGGER refuse BEFORE INSERT ON event BEGIN"
        " SELECT RAISE(ABORT, 'no events today'); END"
    )
    connection.commit()
    connection.close()
    change = CHANGES[name][0]
    with pytest.raises((sqlite3.Error, wanllmdb.WanllmdbError)):
        change(run)
    assert sql(rows) == before


FIELDS = {
    "rename": "name", "notes": "notes", "group": "group", "job type": "job_type",
    "config": "config.lr", "summary": "summary.loss", "delete": "deleted",
    "restore": "deleted",
}  # fmt: skip


@pytest.mark.parametrize("name", FIELDS)
def test_each_synced_field_is_stamped(run, sql, name):
    """field_rev holds the clock and the device of the last change."""
    CHANGES[name][0](run)
    query = "SELECT hlc, device FROM field_rev WHERE entity = 'run' AND field = ?"
    ((hlc, device),) = sql(query, FIELDS[name])
    assert hlc > 0
    assert [(device,)] == sql("SELECT value FROM meta WHERE key = 'device'")


def test_changed_tags_are_stamped(run, sql):
    """Tags sync as a set: their change has a clock too."""
    set_tags(run)
    stamped = [row[0] for row in sql("SELECT field FROM field_rev")]
    assert any(field.startswith("tags") for field in stamped)


def test_the_fields_of_a_new_run_are_stamped(run, sql):
    """What init set is known to sync: name, and config per key."""
    stamped = {row[0] for row in sql("SELECT field FROM field_rev")}
    assert {"name", "config.lr"} <= stamped


def test_the_clock_of_fields_only_goes_forward(run, sql, store):
    """Each change is later than the one before, also if the wall clock is not."""
    seen = []
    for index in range(5):
        run.update(name=f"n{index}")
        seen += sql("SELECT hlc FROM field_rev WHERE field = 'name'")[0]
    ahead = seen[-1] + 3_600_000_000
    connection = sqlite3.connect(store / "catalog.db")
    connection.execute("UPDATE meta SET value = ? WHERE key = 'hlc'", (str(ahead),))
    connection.commit()
    connection.close()
    for index in range(3):
        run.update(name=f"m{index}")
        seen += sql("SELECT hlc FROM field_rev WHERE field = 'name'")[0]
    assert seen == sorted(set(seen))
    assert seen[5:] == [ahead + 1, ahead + 2, ahead + 3]


def test_changes_made_while_a_run_is_live_are_events_too(api):
    """name, notes, tags and config set on the handle of init()."""
    live = wanllmdb.init(id="r", name="first")
    live.name = "second"
    live.notes = "why"
    live.tags = ["a"]
    live.config["late"] = 1
    live.finish()
    kinds = [event.kind for event in api.run("r").events]
    assert {"create", "set name", "set notes", "tags", "config"} <= set(kinds)


def test_a_crash_and_a_purge_are_events(child, api, sql):
    """What nobody typed is on record as well."""
    child("import os, wanllmdb; wanllmdb.init(id='r').log({'x': 1}); os._exit(1)",
          ok=False)  # fmt: skip
    assert api.run("r").state == "crashed"
    assert "crash" in [event.kind for event in api.run("r").events]
    api.run("r").delete()
    (gone,) = api.runs(deleted=True)
    api.purge(gone)
    assert ("purge",) in sql("SELECT kind FROM event")


def test_projects_have_events(run, cli, sql):
    """Rename and delete of a project, and of each run that goes with it."""
    cli("project", "rename", "p", "q")
    cli("project", "rm", "q", "--yes")
    found = sql("SELECT kind, before, after FROM event WHERE entity = 'project'")
    ((trashed_us,),) = sql("SELECT deleted_us FROM project")
    assert found == [("rename", '"p"', '"q"'), ("delete", '"q"', str(trashed_us))]
    assert "delete" in [e[0] for e in sql("SELECT kind FROM event WHERE entity='run'")]


def test_events_carry_the_operation_that_made_them(run, sql):
    """The same id stands in the debug log."""
    run.update(name="second")
    ((op_id,),) = sql("SELECT op_id FROM event WHERE kind = 'set name'")
    assert op_id
