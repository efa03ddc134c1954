"""`remote verify`: whether a remote holds what its batches say."""

from __future__ import annotations

import json
import os

import pytest
from caring import LARGE, command, one, spoil, verified
from laptops import Laptop


@pytest.fixture
def full(a: Laptop) -> Laptop:
    """A laptop that synced runs, a packed and a large version, and an alias."""
    a.run("r1", 50)
    a.commit("small", "small", ["prod"])
    a.commit(LARGE, "large")
    a.sync()
    return a


def test_what_was_synced_is_whole(full):
    assert verified(full).problems == []
    done = verified(full, level=2)
    assert done.problems == []
    assert done.read == done.objects > 1


def test_a_lost_object_is_named_with_what_it_belongs_to(full, remote):
    one(remote, "blobs/*/*").unlink()
    (problem,) = verified(full).problems
    assert problem.key.startswith("blobs/")
    assert problem.problem == "is missing"
    assert problem.of == "artifact large:v1"


def test_an_object_of_another_size_is_wrong(full, remote):
    path = one(remote, "blobs/*/*")
    path.chmod(0o600)
    path.write_bytes(b"short")
    (problem,) = verified(full).problems
    assert "has 5 bytes instead of" in problem.problem


def test_flipped_bits_are_found_by_the_second_level_alone(full, remote):
    spoil(one(remote, "blobs/*/*"))
    assert verified(full).problems == []
    assert "is damaged" in verified(full, level=2).problems[0].problem


def test_rows_are_named_by_their_runs(full, remote):
    for pack in remote.glob("packs/*/*"):
        pack.unlink()
    assert any("run r1" in each.of for each in verified(full).problems)


def test_what_is_whole_here_is_uploaded_again(full, remote):
    for path in [*remote.glob("blobs/*/*"), *remote.glob("packs/*/*")]:
        spoil(path)
    done = verified(full, level=2, mend=True)
    healed = {each.key for each in done.problems if each.healed}
    assert any(key.startswith("blobs/") for key in healed)
    left = {each.key for each in verified(full, level=2).problems}
    assert left == {each.key for each in done.problems} - healed


def test_a_laptop_that_pulled_heals_the_rows_that_another_pushed(full, b, remote):
    full.run("r2", 2000)
    full.sync()
    b.sync(full=True)
    for path in remote.glob("packs/*/*"):
        spoil(path)
    for path in remote.glob("parts/*/*"):
        spoil(path)
    assert all(each.healed for each in verified(b, level=2, mend=True).problems)
    assert verified(b, level=2).problems == []


def test_a_missing_and_an_unreadable_batch_are_named_and_the_others_read(full, remote):
    for n in range(3):
        full.run(f"more{n}")
        full.sync()
    batches = sorted(remote.glob("log/*/*.json"))
    batches[1].unlink()
    batches[2].write_text("{")
    problems = verified(full).problems
    assert f"log/{full.device}/{batches[1].name}" in {each.key for each in problems}
    assert any("is missing, and later ones" in each.problem for each in problems)
    assert any("is none of ours" in each.problem for each in problems)


def test_a_version_without_a_claim_is_wrong(full, remote):
    sorted(remote.glob("versions/*/*.json"))[0].unlink()
    assert any("no claim" in each.problem for each in verified(full).problems)


def test_a_claim_that_names_another_version_is_wrong(full, remote):
    path = sorted(remote.glob("versions/*/*.json"))[0]
    path.chmod(0o600)
    path.write_text(json.dumps({"uid": "f" * 32}))
    assert any("no claim" in each.problem for each in verified(full).problems)


def test_an_alias_claim_that_no_batch_tells_of_is_wrong_once_it_is_old(full, remote):
    held = one(remote, "aliases/*/*/*.json")
    later = held.with_name("00000002.json")
    later.write_text(held.read_text())
    assert verified(full).problems == []
    os.utime(later, (1e9, 1e9))
    (problem,) = verified(full).problems
    assert problem.of == "artifact small:prod"


def test_the_command_says_what_is_there(full):
    done = command(full, "remote", "verify", "--level", "2", "--sample", "50%")
    assert done.returncode == 0
    assert "of them read" in done.stdout


def test_the_command_exits_5_and_names_what_is_wrong(full, remote):
    one(remote, "blobs/*/*").unlink()
    done = command(full, "remote", "verify", "r", "--json")
    assert done.returncode == 5
    (row,) = json.loads(done.stdout)
    assert row["problem"] == "is missing"
    assert command(full, "remote", "verify", "--heal").returncode == 0
    assert command(full, "remote", "verify").returncode == 0


def test_a_sample_without_level_two_is_a_mistake(full):
    done = command(full, "remote", "verify", "--sample", "3")
    assert done.returncode == 2


def test_a_share_of_none_is_no_sample(full):
    for wrong in ("many", "101%", "-1", "5 %"):
        done = command(full, "remote", "verify", "--level", "2", f"--sample={wrong}")
        assert done.returncode == 2
