"""What two laptops did without knowing of each other: the rule, and what is told."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from laptops import DAY, Killed, Laptop, aliases_of, check_equal, killing, quieten

import wanllmdb
from wanllmdb._catalog import artifacts
from wanllmdb._catalog.documents import aliases
from wanllmdb._sync import claims


def knowing(*laptops: Laptop) -> None:
    """Laptops that know the same."""
    quieten(*laptops, rounds=2)


def told(laptops: list[Laptop], words: str) -> list[str]:
    """The notices that say so, of all laptops."""
    return [line for each in laptops for line in each.notices if words in line]


# Fields


@pytest.mark.parametrize("skew", [0, 3 * DAY, -3 * DAY])
def test_the_later_edit_of_a_field_wins_by_the_clock(
    a: Laptop, b: Laptop, skew: int
) -> None:
    """Each field on its own, whatever the order of syncs; a laptop that has seen the
    other's edit wins over it, though its clock be days behind.
    """
    a.run("r", config={"x": 1, "y": 1})
    knowing(a, b)
    a.shift_clock(max(skew, 0))
    b.shift_clock(max(-skew, 0))
    a.update("p/r", name="of a", notes="of a", config={"x": 2})
    b.update("p/r", name="of b", config={"y": 3})
    quieten(a, b)
    check_equal(a, b)
    with a.api() as api:
        run = api.run("p/r")
        assert run.name == ("of a" if skew > 0 else "of b")
        assert run.notes == "of a"
        assert run.config == {"x": 2, "y": 3}


def test_what_was_seen_is_overruled_whatever_the_clocks_say(
    a: Laptop, b: Laptop
) -> None:
    """An edit that was made with knowledge of another one is the later one."""
    a.run("r")
    knowing(a, b)
    a.shift_clock(9 * 60 * 1_000_000)  # less is taken over
    a.update("p/r", name="of a")
    a.sync()
    b.sync()
    b.update("p/r", name="of b")
    quieten(b, a)
    check_equal(a, b)
    with a.api() as api:
        assert api.run("p/r").name == "of b"


def test_a_clock_that_is_days_ahead_is_told_of_and_not_taken_over(
    a: Laptop, b: Laptop
) -> None:
    """It is a notice where the batch arrives, and its own laptop's problem."""
    a.shift_clock(3 * DAY)
    a.run("r")
    a.sync()
    b.sync()
    assert len(told([b], "ahead by more than ten minutes")) == 1
    b.run("s")
    with b.written() as connection:
        (stamp,) = connection.execute(
            "SELECT max(hlc) FROM field_rev WHERE uid = (SELECT uid FROM run"
            " WHERE run_id = 's')"
        ).fetchone()
        (own,) = connection.execute(
            "SELECT started_us FROM run WHERE run_id = 's'"
        ).fetchone()
    assert stamp < own + DAY


def test_what_a_clock_far_ahead_said_can_be_overruled(a: Laptop, b: Laptop) -> None:
    """Its stamp is not taken over, but whoever saw the field changes it later."""
    a.run("r")
    knowing(a, b)
    a.shift_clock(3 * DAY)
    a.update("p/r", name="of a")
    a.sync()
    b.sync()
    b.update("p/r", name="of b")
    quieten(b, a)
    check_equal(a, b)
    with a.api() as api:
        assert api.run("p/r").name == "of b"


def test_an_added_tag_wins_over_a_removal_that_had_not_seen_it(
    a: Laptop, b: Laptop
) -> None:
    """Tags are an add-wins set."""
    a.run("r", tags=["x", "y"])
    knowing(a, b)
    with a.api() as api:
        api.run("p/r").remove_tags(["x", "y"])
    with b.api() as api:
        api.run("p/r").remove_tags(["x"])
        api.run("p/r").add_tags(["x", "z"])
    quieten(a, b)
    check_equal(a, b)
    with a.api() as api:
        assert sorted(api.run("p/r").tags) == ["x", "z"]


# Removal


def test_work_that_is_later_than_a_removal_brings_a_run_back(
    a: Laptop, b: Laptop
) -> None:
    """And it is told, once."""
    a.run("r")
    knowing(a, b)
    a.delete("p/r")
    run = b.begin(id="r", resume="must")
    run.log({"n": 7})
    run.finish()
    quieten(a, b)
    check_equal(a, b)
    assert len(a.runs["p/r"]) == 3
    assert len(told([a, b], "out of the trash")) == 1


def test_a_removal_that_is_later_than_the_work_stays(a: Laptop, b: Laptop) -> None:
    """Who removes a run, having seen nothing of later work, sees it gone elsewhere."""
    a.run("r")
    knowing(a, b)
    a.delete("p/r")
    quieten(a, b)
    check_equal(a, b)
    assert b.runs == {}
    with b.api() as api:
        api.run("p/r", deleted=True).restore()
    quieten(a, b)
    check_equal(a, b)
    assert list(a.runs) == ["p/r"]


def test_what_one_laptop_purged_goes_to_the_trash_elsewhere(
    a: Laptop, b: Laptop
) -> None:
    """It does not come back to where it was purged, and the rows elsewhere are kept."""
    a.run("r")
    a.run("s")
    knowing(a, b)
    a.purge("p/r")
    quieten(a, b)
    assert list(a.runs) == list(b.runs) == ["p/s"]
    with b.api() as api:
        assert [run.id for run in api.runs(deleted=True)] == ["r"]


# Names


def test_a_project_that_takes_the_name_of_another_shows_beside_it(
    a: Laptop, b: Laptop
) -> None:
    """Two projects of one name: the one that had it first keeps it."""
    a.run("r", project="p")
    b.run("s", project="q")
    quieten(a, b)
    with a.api() as api:
        api.rename_project("p", "z")
    with b.api() as api:
        api.rename_project("q", "z")
    quieten(a, b)
    check_equal(a, b)
    names = sorted(path.split("/")[0] for path in a.runs)
    assert names[0] == "z"
    assert names[1].startswith("z@")
    assert [len(told([each], "have a project")) for each in (a, b)] == [1, 1]


def test_two_runs_of_one_id_are_two_runs(a: Laptop, b: Laptop) -> None:
    """The later one shows as ``id@`` and the end of its uid, with all its rows."""
    a.run("r", 3)
    b.run("r", 5)
    quieten(a, b)
    check_equal(a, b)
    counts = {path: len(rows) for path, rows in a.runs.items()}
    assert counts.pop("p/r") == 3
    ((path, count),) = counts.items()
    assert path.startswith("p/r@")
    assert count == 5
    assert told([a, b], "Two laptops made a run")


@pytest.mark.parametrize("first", ["a", "b"])
def test_one_run_extended_by_two_laptops_becomes_a_run_and_its_fork(
    a: Laptop, b: Laptop, first: str
) -> None:
    """The attempt that began first stays; the other is a fork that shows the rows it
    went on from, and its own.
    """
    a.run("r", 3)
    knowing(a, b)
    for laptop, value in ((a, 100), (b, 200)):
        run = laptop.begin(id="r", resume="must")
        run.log({"n": value})
        run.finish()
    quieten(*((a, b) if first == "a" else (b, a)))
    check_equal(a, b)
    rows = {path: [row["n"] for row in found] for path, found in a.runs.items()}
    assert rows == {"p/r": [0, 1, 2, 100], f"p/r{b.mark}": [0, 1, 2, 200]}
    assert told([a, b], "Two laptops went on")
    for laptop in (b, a):  # both can be gone on with
        for run_id in ("r", f"r{b.mark}"):
            run = laptop.begin(id=run_id, resume="must")
            assert run.step == (4 if laptop is b else 5)
            run.log({"n": 1000})
            run.finish()
        quieten(a, b)
        check_equal(a, b)


@pytest.mark.parametrize("order", ["abc", "cba", "bca", "cab"])
def test_one_run_extended_by_three_laptops_becomes_three(
    a: Laptop, b: Laptop, c: Laptop, order: str
) -> None:
    """Whatever the order in which they meet."""
    a.run("r", 2)
    knowing(a, b, c)
    laptops = {"a": a, "b": b, "c": c}
    for laptop, value in ((a, 100), (b, 200), (c, 300)):
        run = laptop.begin(id="r", resume="must")
        run.log({"n": value})
        run.finish()
    quieten(*(laptops[name] for name in order))
    check_equal(a, b, c)
    rows = {path: [row["n"] for row in found] for path, found in a.runs.items()}
    assert rows == {
        "p/r": [0, 1, 100], f"p/r{b.mark}": [0, 1, 200], f"p/r{c.mark}": [0, 1, 300],
    }  # fmt: skip


# Versions and aliases


def test_a_number_that_another_laptop_took_is_made_room_for(
    a: Laptop, b: Laptop
) -> None:
    """Unpushed versions move up in the order of their commits, with all that names
    them, and each is told.
    """
    a.commit("base")
    knowing(a, b)
    a.commit("of a", aliases=["mine"])
    b.commit("of b", aliases=["first"])
    b.commit("of b again", aliases=["second"])
    wanllmdb.ModelRegistry(b.store).link("p/data:v2", "m")
    a.sync()
    report = b.sync()
    quieten(a, b)
    check_equal(a, b)
    assert a.aliases == {"data:mine": "v2", "data:first": "v3", "data:second": "v4"}
    lines = [line for line in report.notices if "now" in line]
    assert len(lines) == 2
    assert "data:v2 is data:v3" in lines[0]
    with b.api() as api:
        version = api.artifact("p/data:first")
        assert version.get_entry("data.txt").download() is not None
    held = wanllmdb.ModelRegistry(a.store).get_latest_version("m")
    assert "v3" in str(held)


def test_numbers_stand_in_whatever_order_they_are_told(a: Laptop, b: Laptop) -> None:
    """A version that was pulled is not moved to make room for the next one pulled."""
    a.commit("one")
    a.commit("two")
    with a.api() as api:  # it is told of after the second one then
        version = api.artifact("p/data:v1")
        version.metadata = {"m": 1}
        version.save()
    b.commit("three")
    quieten(a, b)
    check_equal(a, b)


def test_the_same_content_under_one_number_is_one_version(a: Laptop, b: Laptop) -> None:
    """Two laptops that committed the same have one version, with both lineages."""
    a.commit("same", id="ra", aliases=["x"])
    b.commit("same", id="rb", aliases=["y"])
    quieten(a, b)
    check_equal(a, b)
    assert list(a.versions) == ["data:v1"]
    assert a.aliases == {"data:x": "v1", "data:y": "v1"}
    with a.api() as api:
        runs = [api.run(f"p/{name}").logged_artifacts() for name in ("ra", "rb")]
        assert [len(found) for found in runs] == [1, 1]


def test_an_alias_is_undone_to_the_right_version_after_a_shift(
    a: Laptop, b: Laptop
) -> None:
    """Its history has the numbers that versions have now."""
    a.commit("base", aliases=["base"])
    knowing(a, b)
    a.commit("of a")
    b.commit("of b", aliases=["prod"])
    b.commit("of b again", aliases=["prod"])
    a.sync()
    b.sync()
    assert b.aliases["data:prod"] == "v4"
    with b.api() as api:
        api.artifact("p/data:v4").undo_alias("prod")
    assert b.aliases["data:prod"] == "v3"
    quieten(a, b)
    check_equal(a, b)


@pytest.mark.parametrize("take", ["mine", "theirs"])
def test_one_alias_moved_on_two_laptops_is_settled_by_its_people(
    a: Laptop, b: Laptop, take: str
) -> None:
    """One move is at the remote, the other is kept as ``alias@device`` and told once;
    `resolve` decides.
    """
    for text in ("one", "two", "three"):
        a.commit(text)
    a.move("prod", "v1")
    knowing(a, b)
    a.move("prod", "v2")
    b.move("prod", "v3")
    a.sync()
    b.sync()
    assert b.aliases == {"data:prod": "v2", f"data:prod{b.mark}": "v3"}
    assert len(told([b], "moved alias")) == 1
    assert [each.kind for each in b.conflicts] == ["alias"]
    quieten(a, b)
    check_equal(a, b)
    assert len(told([a, b], "moved alias")) == 1
    with b.opened() as store, store.catalog.transaction(durable=True) as connection:
        (key,) = connection.execute("SELECT id FROM artifact").fetchone()
        number = aliases.resolve(connection, key, "prod", take)
        assert number == (3 if take == "mine" else 2)
        assert artifacts.uid(connection, key)
    quieten(b, a)
    check_equal(a, b)
    assert a.aliases == b.aliases == {"data:prod": f"v{number}"}
    assert b.conflicts == []


def test_aliases_come_and_go(a: Laptop, b: Laptop) -> None:
    """A removal is a generation too; a name that was removed can be given again."""
    a.commit("one", aliases=["x", "y"])
    knowing(a, b)
    with b.api() as api:
        api.artifact("p/data:v1").remove_alias("x")
    quieten(b, a)
    assert a.aliases == b.aliases == {"data:y": "v1"}
    a.move("X", "v1")
    quieten(b, a)
    assert b.aliases == {"data:y": "v1", "data:X": "v1"}
    check_equal(a, b)


def test_a_stage_of_one_holder_has_one_holder_everywhere(a: Laptop, b: Laptop) -> None:
    """Who was put there last, holds it; the other version is archived."""
    a.commit("one")
    a.commit("two")
    registry = wanllmdb.ModelRegistry(a.store)
    registry.link("p/data:v1", "m")
    registry.link("p/data:v2", "m")
    registry.set_single_holder("m")
    knowing(a, b)
    wanllmdb.ModelRegistry(a.store).transition_stage("m", 1, "production")
    wanllmdb.ModelRegistry(b.store).transition_stage("m", 2, "production")
    quieten(a, b)
    check_equal(a, b)
    held = wanllmdb.ModelRegistry(a.store).get_model_versions("m")
    assert {each["version"]: each["stage"] for each in held} == {
        "v1": "archived", "v2": "production",
    }  # fmt: skip


# Copies


def test_a_copied_store_is_another_device(a: Laptop, b: Laptop, laptop: Any) -> None:
    """It goes on from what it is, and both push from then on."""
    a.run("r")
    a.sync()
    shutil.copytree(a.store, b.store)
    a.run("s")
    b.run("t")
    quieten(a, b)
    check_equal(a, b)
    assert a.device != b.device
    assert sorted(a.runs) == ["p/r", "p/s", "p/t"]


def test_a_store_put_back_to_what_it_was_goes_on(a: Laptop, b: Laptop) -> None:
    """What it had pushed since comes back to it, and nothing is told twice."""
    a.run("r")
    a.commit("one", aliases=["x"])
    a.sync()
    kept = a.store.with_name("kept")
    shutil.copytree(a.store, kept)
    a.run("s")
    a.commit("two", aliases=["x"])
    a.sync()
    b.sync()
    wanllmdb.teardown()
    for path in a.store.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(kept, a.store, dirs_exist_ok=True)
    a.run("u")
    a.commit("three", aliases=["y"])
    quieten(a, b)
    check_equal(a, b)
    assert {"p/r", "p/s", "p/u"} <= set(b.runs)
    assert len(a.versions) == 3
    assert a.aliases == {"data:x": "v2", "data:y": "v3"}


def test_kept_aliases_stay_on_their_laptop(a: Laptop, b: Laptop) -> None:
    """``alias@device`` is nobody else's business."""
    a.commit("one", aliases=["x"])
    b.commit("two", aliases=["x"])
    quieten(a, b)
    check_equal(a, b)
    with a.opened() as store:
        assert not any("@" in name for name in aliases_of(store))


def test_a_claim_that_no_batch_ever_told_of_does_not_stand_in_the_way(
    a: Laptop, b: Laptop, remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its push died, its laptop thought better of it, and used the batch's number."""
    a.commit("one")
    a.commit("two")
    knowing(a, b)
    a.move("x", "v1")
    point = 0
    while not list(remote.glob("aliases/*/x/*.json")):
        point += 1
        with suppress(Killed), killing(point, after=True):
            a.sync()
    with a.api() as api:
        api.artifact("p/data:v1").remove_alias("x")
    a.run("s")
    a.sync()
    b.move("x", "v2")
    monkeypatch.setattr(claims, "ABANDONED_US", 0)
    quieten(b, a)
    check_equal(a, b)
    assert a.aliases == {"data:x": "v2"}
