"""disk_budget: files beyond it are refused before they are copied, and nothing else."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

import wanllmdb
from wanllmdb import _files, _gc, _settings
from wanllmdb.errors import DiskBudgetError, WanllmdbWarning

MB = 1_000_000


@pytest.fixture
def limited(store):
    """A run in a Store that may take two megabytes more than it does."""
    wanllmdb.init(project="p", id="first").finish()
    wanllmdb.teardown()
    budget = _files.size_below(store) + 2 * MB
    return wanllmdb.init(
        project="p", id="r", settings={"disk_budget": f"{budget / 1000:.3f}kB"}
    )


def text(size, letter="x"):
    """So many bytes."""
    return letter * size


def draft():
    """An empty one."""
    return wanllmdb.Artifact("a", "dataset")


def test_bytes_that_do_not_fit_are_refused_before_they_are_copied(limited, made, store):
    """One error that says how many, what is left, and what to do; nothing is left."""
    artifact = draft()
    artifact.add_dir(made({"small": "1"}))
    before = _files.size_below(store)
    with pytest.raises(
        DiskBudgetError, match=r"2 new files of 3000000 bytes"
    ) as caught:
        artifact.add_dir(made({"x": text(2 * MB), "y": text(MB, "y")}))
    assert caught.value.kind == "disk_budget"
    assert "WANLLMDB_DISK_BUDGET" in caught.value.hint
    assert _files.size_below(store) <= before + 20_000  # the debug log
    version = limited.log_artifact(artifact)
    assert list(version.manifest) == ["small"]


@pytest.mark.parametrize("policy", ["mutable", "immutable"])
def test_what_a_draft_took_counts(limited, made, policy):
    """Call by call, however the bytes are kept; a dropped draft gives them back."""
    one, two = made({"one": text(MB + MB // 2)}), made({"two": text(MB, "y")})
    artifact = draft()
    artifact.add_dir(one, policy=policy)
    with pytest.raises(DiskBudgetError):
        artifact.add_file(two / "two", policy=policy)
    with pytest.raises(DiskBudgetError), artifact.new_file("new") as file:
        file.write(text(MB, "z"))
    del artifact
    other = draft()
    other.add_dir(two, policy=policy)
    limited.log_artifact(other)
    with pytest.raises(DiskBudgetError):
        draft().add_dir(one)


def test_a_new_file_counts_once(limited):
    """Though it lies in the Store while it is written."""
    artifact = draft()
    with artifact.new_file("new") as file:
        file.write(text(MB + MB // 2))
    assert limited.log_artifact(artifact).size == MB + MB // 2


def test_bytes_that_are_stored_cost_nothing(limited, made):
    """However often they are added, and however large they are beside what is left."""
    root = made({"x": text(MB + MB // 2), "twin": text(MB + MB // 2)})
    for number in range(3):
        artifact = draft()
        artifact.add_dir(root, skip_cache=True)
        with artifact.new_file("number") as file:
            file.write(str(number))
        artifact.add_dir(root, name="again")
        artifact.add_file(root / "x", "thrice")
        limited.log_artifact(artifact)


def test_metrics_and_edits_are_never_refused(limited, made, api):
    """A Store that is over its budget goes on recording."""
    artifact = draft()
    artifact.add_dir(made({"x": text(2 * MB - 300_000)}))
    limited.log_artifact(artifact)
    for step in range(3000):
        limited.log({f"key{n}": step + n / 3 for n in range(10)})
    limited.config["big"] = text(3 * MB)
    limited.notes = "full"
    limited.finish()
    run = api.run("p/r")
    assert run.config["big"] == text(3 * MB)
    assert len(list(run.scan_history())) == 3000


def test_files_of_a_run_that_do_not_fit_are_warned_of(limited, made, monkeypatch, api):
    """Each by its name, and the others are stored; training goes on."""
    root = made({"a": text(MB), "b": text(MB + MB // 2, "b"), "c": "small"})
    monkeypatch.chdir(root)
    with pytest.warns(
        WanllmdbWarning, match=r"/b of 1500000 bytes cannot be stored: .*budget"
    ):
        limited.save("*", policy="now")
    assert sorted(file.name for file in api.run("p/r").files()) == ["a", "c"]
    limited.save("a", policy="now")  # it is there


def test_what_a_run_leaves_in_its_directory_is_warned_of_at_its_end(limited, api):
    """It is not lost: it stays in the run's directory, and what fits is stored."""
    place = Path(limited.dir)
    (place / "model.bin").write_text(text(2 * MB))
    (place / "notes").write_text(text(MB, "n"))
    with pytest.warns(WanllmdbWarning, match=r"model.bin of 2000000 bytes cannot"):
        limited.finish()
    assert [file.name for file in api.run("p/r").files()] == ["notes"]
    assert (place / "model.bin").stat().st_size == 2 * MB


def test_a_store_without_a_budget_is_not_counted(run, made, monkeypatch):
    """Nor is one with a budget counted for each file."""
    counted = []
    count = _files.size_below
    monkeypatch.setattr(_files, "size_below", lambda p: counted.append(p) or count(p))
    root = made({f"f{n}": str(n) for n in range(20)})
    artifact = draft()
    artifact.add_dir(root)
    run.log_artifact(artifact)
    run.save(str(root / "*"))
    assert counted == []
    run.finish()
    run = wanllmdb.init(project="p", settings={"disk_budget": "1 GiB"})
    artifact = draft()
    artifact.add_dir(root, skip_cache=True)
    artifact.add_dir(root, name="again", skip_cache=True)
    assert len(counted) == 1
    run.save(str(root / "*"), policy="now")
    assert len(counted) == 2


@pytest.mark.parametrize(("given", "size"), [
    ("50GB", 50 * 10**9), ("50 GiB", 50 << 30), ("1.5MB", 1_500_000), ("7", 7),
    ("7b", 7), ("2kb", 2000), ("1tib", 1 << 40), (5000, 5000),
])  # fmt: skip
def test_a_size_is_read_as_people_write_it(given, size):
    """Bytes, or a number and a unit."""
    assert _settings.load(disk_budget=given)["disk_budget"] == size


@pytest.mark.parametrize(
    "given", ["much", "-1", "0", "5 apples", "GB", "", True, "1e9"]
)
def test_what_is_no_size_is_refused(given):
    """The message names the setting."""
    with pytest.raises(wanllmdb.errors.InvalidSettingError, match="disk_budget"):
        wanllmdb.init(settings={"disk_budget": given})


def test_gc_makes_room(limited, made, api, store):
    """As the hint says."""
    artifact = draft()
    artifact.add_dir(made({"x": text(MB + MB // 2)}))
    gone = limited.log_artifact(artifact)
    gone.delete()
    limited.finish()
    api.purge_version(gone._record)
    old = time.time() - 10 * 86_400
    for path in (store / "blobs").rglob("*"):
        os.utime(path, (old, old))
    _gc.collect(api.store)
    for path in (store / "trash" / "blobs").iterdir():
        path.unlink()  # a day later
    limit = str(_files.size_below(store) + 2 * MB)
    with wanllmdb.init(project="p", settings={"disk_budget": limit}) as run:
        artifact = draft()
        artifact.add_dir(made({"y": text(MB + MB // 2, "y")}))
        assert run.log_artifact(artifact).version == "v2"
