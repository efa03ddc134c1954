"""upsert_artifact and finish_artifact: several processes make one version."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import wanllmdb
from wanllmdb import _gc, _reach
from wanllmdb._catalog import events
from wanllmdb.errors import (
    ArtifactStateError,
    ConflictError,
    InvalidInputError,
    VersionNotFoundError,
)

RANK = """
import os, sys, time, wanllmdb
def filled(texts, **how):
    artifact = wanllmdb.Artifact("a", "dataset", **how)
    for path, text in texts.items():
        with artifact.new_file(path) as file:
            file.write(text)
    return artifact
rank = int(sys.argv[1])
"""


@pytest.fixture
def filled():
    """Makes a draft of texts."""

    def make(texts, name="a", **how):
        artifact = wanllmdb.Artifact(name, "dataset", **how)
        for path, text in texts.items():
            with artifact.new_file(path) as file:
                file.write(text)
        return artifact

    return make


@pytest.fixture
def group(store):
    """A run of group g."""
    return wanllmdb.init(project="p", id="lead", group="g")


@pytest.fixture
def start():
    """Starts a process that runs code after RANK."""
    started = []

    def begin(code, *arguments):
        command = [sys.executable, "-W", "ignore", "-c", RANK + code]
        process = subprocess.Popen(
            [*command, *map(str, arguments)], text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def ended(process):
    """What a process printed, which ended well."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out


def age(store, seconds):
    """Let everything that is in a Store be older."""
    old = time.time() - seconds
    for path in (store / "blobs").rglob("*"):
        os.utime(path, (old, old))


def test_ranks_of_a_group_make_one_version(group, start, read, filled, tmp_path):
    """Each a run of its own; one of them commits what all added."""
    code = """
with wanllmdb.init(project="p", id=f"r{rank}", group="g") as run:
    said = {"metadata": {"rank": rank, f"m{rank}": 1}, "tags": [f"t{rank}"]}
    draft = filled({f"part{rank}": str(rank), "same": "s"}, **said)
    made = run.upsert_artifact(draft, aliases=[f"n{rank}"])
    assert made.wait() is made and made.is_draft
"""
    for process in [start(code, rank) for rank in range(4)]:
        ended(process)
    version = group.finish_artifact(filled({"lead": "l"}), aliases=["best"])
    assert version.version == "v1"
    assert read(version.download(tmp_path / "out")) == {
        "lead": "l", "same": "s", **{f"part{n}": str(n) for n in range(4)},
    }  # fmt: skip
    assert version.aliases == ["best", "n0", "n1", "n2", "n3"]
    assert version.tags == ["t0", "t1", "t2", "t3"]
    assert version.metadata.keys() == {"rank", "m0", "m1", "m2", "m3"}
    assert version.source_run == "p/lead"
    made = {node.path for node in version.lineage().nodes if node.kind == "run"}
    assert made == {"p/lead", "p/r0", "p/r1", "p/r2", "p/r3"}
    assert version.verify()


def test_ranks_of_one_run_make_one_version(store, start):
    """Without a group the run is what they have in common."""
    code = """
run = wanllmdb.init(project="p", id="r", shared=True)
run.upsert_artifact(filled({f"part{rank}": str(rank)}))
print("added", flush=True)
sys.stdin.readline()
run.finish()
"""
    run = wanllmdb.init(project="p", id="r")
    ranks = [start(code, rank) for rank in range(2)]
    for rank in ranks:
        assert rank.stdout.readline() == "added\n"
    version = run.finish_artifact(wanllmdb.Artifact("a", "dataset"))
    assert sorted(version.manifest) == ["part0", "part1"]
    for rank in ranks:
        rank.stdin.write("\n")
        rank.stdin.flush()
        ended(rank)


@pytest.mark.slow
def test_many_add_and_finish_at_once(store, start, api):
    """Nothing is lost, nothing is there twice, and no draft is left."""
    code = """
sys.stdin.readline()
with wanllmdb.init(project="p", id=f"r{rank}", group="g") as run:
    for turn in range(10):
        run.upsert_artifact(filled({f"{rank}/{turn}": f"{rank} {turn}"}))
        if turn % 3 == 2:
            run.finish_artifact(filled({}))
"""
    ranks = [start(code, rank) for rank in range(4)]
    for rank in ranks:
        rank.stdin.write("\n")
        rank.stdin.flush()
    for rank in ranks:
        ended(rank)
    with wanllmdb.init(project="p", id="lead", group="g") as run:
        run.finish_artifact(wanllmdb.Artifact("a", "dataset"))
    paths = [p for a in api.artifact_versions("dataset", "a") for p in a.manifest]
    assert sorted(paths) == sorted(
        f"{n}/{turn}" for n in range(4) for turn in range(10)
    )


def test_an_adder_that_is_killed_has_added_what_was_acknowledged(
    group, start, filled, sql
):
    """And nothing of what was not."""
    code = """
run = wanllmdb.init(project="p", id="killed", group="g")
run.upsert_artifact(filled({"acknowledged": "1"}))
lost = filled({"lost": "2"})
print("added", flush=True)
time.sleep(60)
"""
    process = start(code, 0)
    assert process.stdout.readline() == "added\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    version = group.finish_artifact(filled({"mine": "3"}))
    assert sorted(version.manifest) == ["acknowledged", "mine"]


def test_other_content_under_a_path_is_refused_when_it_is_added(
    group, start, filled, tmp_path
):
    """The later adder is told, by whom; what was added before stays."""
    code = """
with wanllmdb.init(project="p", id="r", group="g") as run:
    run.upsert_artifact(filled({"x": "theirs", "d/y": "1"}))
"""
    ended(start(code, 0))
    mine = filled({"x": "mine", "z": "3"})
    with pytest.raises(ConflictError, match=r"'x' .* by p/r \(primary\)"):
        group.upsert_artifact(mine)
    with pytest.raises(ConflictError, match="'x'"):
        group.finish_artifact(mine)
    with pytest.raises(wanllmdb.WanllmdbError, match="directory"):
        group.upsert_artifact(filled({"d": "a file"}))
    mine.remove("x")
    version = group.finish_artifact(mine)
    assert sorted(version.manifest) == ["d/y", "x", "z"]
    place = version.get_entry("x").download(tmp_path / "out")
    assert Path(place).read_text() == "theirs"


def test_metadata_that_is_too_large_together_is_refused_when_it_is_added(group, filled):
    """At the end it could not be mended; and what was refused is a draft still."""
    group.upsert_artifact(filled({"x": "1"}, metadata={"one": "1" * 60_000}))
    large = filled({"y": "2"}, metadata={"two": "2" * 60_000})
    with pytest.raises(InvalidInputError, match="120"):
        group.upsert_artifact(large)
    large.metadata = {}
    assert sorted(group.finish_artifact(large).manifest) == ["x", "y"]


def test_another_type_is_refused_when_it_is_added(group, filled):
    """Not at the end, when it is too late to mend it."""
    group.upsert_artifact(filled({"x": "1"}))
    with pytest.raises(ConflictError, match="type 'dataset'"):
        group.upsert_artifact(wanllmdb.Artifact("a", "model"))


def test_what_a_writer_adds_again_takes_the_place_of_what_it_added(
    group, filled, read, tmp_path
):
    """A process that is started again, or a draft that goes on."""
    draft = filled({"x": "1"}, description="first")
    group.upsert_artifact(draft)
    with draft.new_file("x", mode="w") as file:
        file.write("2")
    with draft.new_file("y") as file:
        file.write("3")
    draft.description = "second"
    wanllmdb.upsert_artifact(draft)
    version = wanllmdb.finish_artifact(wanllmdb.Artifact("a", "dataset"))
    assert version.description == "second"
    assert read(version.download(tmp_path / "out")) == {"x": "2", "y": "3"}


def test_finished_twice_it_is_the_same_version(group, start, filled):
    """By the same handle, by another process; what is added then is of the next one."""
    group.upsert_artifact(filled({"x": "1"}))
    first = group.finish_artifact(filled({}))
    assert group.finish_artifact(first).version == "v1"
    code = """
with wanllmdb.init(project="p", id="r", group="g") as run:
    print(run.finish_artifact(filled({}), aliases=["again"]).version)
"""
    assert ended(start(code, 0)) == "v1\n"
    group.upsert_artifact(filled({"y": "2"}))
    second = group.finish_artifact(filled({}))
    assert (second.version, sorted(second.manifest)) == ("v2", ["y"])
    assert group.use_artifact("a:again").version == "v1"


def test_ids_tell_drafts_apart(group, filled):
    """And an id that nothing was added under is an error that names it."""
    group.upsert_artifact(filled({"x": "1"}), distributed_id="one")
    group.upsert_artifact(filled({"x": "2"}), distributed_id="two")
    with pytest.raises(ArtifactStateError, match="'g'"):
        group.finish_artifact(filled({}))
    with pytest.raises(VersionNotFoundError):
        group.use_artifact("a")
    for number, name in enumerate(("two", "one"), 1):
        made = group.finish_artifact(filled({}), distributed_id=name)
        assert made.version == f"v{number}"


def test_paths_are_added_as_log_artifact_takes_them(group, made, filled):
    """A directory, a file, a reference."""
    root = made({"x": "1", "d/y": "2"})
    group.upsert_artifact(str(root), name="a", type="dataset")
    group.upsert_artifact("s3://bucket/key", name="a", type="dataset")
    version = group.finish_artifact(root / "x", name="a", type="dataset")
    assert sorted(version.manifest) == ["d/y", "key", "x"]
    with pytest.raises(ArtifactStateError, match="committed"):
        group.upsert_artifact(version)


def test_a_draft_goes_on_after_it_was_added(group, filled, tmp_path):
    """Logged on its own, in another Store, or as a copy."""
    draft = filled({"x": "1"})
    group.upsert_artifact(draft)
    copy = draft.new_draft()
    assert group.log_artifact(copy, aliases=["alone"]).verify()
    with wanllmdb.init(store=tmp_path / "other", reinit="create_new") as other:
        assert other.log_artifact(draft).verify()


def test_gc_keeps_what_a_joint_draft_needs(group, start, filled, api, store):
    """However old its bytes are; and once it is finished, the version does."""
    draft = filled({"x": "1"})
    group.upsert_artifact(draft)
    del draft
    group.finish()
    age(store, 10 * 86_400)
    _gc.collect(api.store)
    with wanllmdb.init(project="p", id="later", group="g") as run:
        assert run.finish_artifact(filled({})).verify()


def test_a_draft_that_nobody_finishes_is_given_up(group, start, filled, api, store):
    """Not while a run of the group lives; then its bytes go."""
    code = """
with wanllmdb.init(project="p", id="r", group="g") as run:
    run.upsert_artifact(filled({"x": "gone"}))
"""
    ended(start(code, 0))
    done = _gc.collect(api.store, trash=0)
    assert "unfinished drafts given up" not in done.counts  # the lead lives
    group.finish()
    done = _gc.collect(api.store, trash=0)
    assert done.counts["unfinished drafts given up"] == 1
    age(store, 10 * 86_400)
    done = _gc.collect(api.store)
    assert done.counts["blobs moved to the trash"] == 2  # the bytes, the manifest
    with wanllmdb.init(project="p", id="later", group="g") as run:
        with pytest.raises(ArtifactStateError):
            run.finish_artifact(filled({}))
        version = run.finish_artifact(filled({"y": "1"}))
    assert sorted(version.manifest) == ["y"]


def test_who_added_what_is_in_the_events(group, filled, api, sql):
    """And `why` names it while it waits."""
    group.upsert_artifact(filled({"x": "1"}))
    ((uid, digest),) = sql(
        "SELECT uid, after ->> 'manifest' FROM event WHERE entity = 'draft'"
    )
    assert uid.endswith(":g")
    assert _reach.why(api.store, digest) == [
        "a draft of p/lead (primary): the manifest"
    ]
    version = group.finish_artifact(filled({}))
    found = events.read(api.store.catalog.reader, "draft", uid)
    assert [(e.kind, e.after) for e in found[1:]] == [("finish", version.id)]


def test_disabled_runs_add_and_finish_nothing(store, filled):
    """A script that works recorded works disabled."""
    with wanllmdb.init(mode="disabled", group="g") as run:
        draft = run.upsert_artifact(filled({"x": "1"}))
        assert draft.wait() is draft
        assert run.finish_artifact(draft, aliases=["best"]).version == "v0"
    assert not store.exists()
