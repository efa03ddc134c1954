"""Processes that commit versions of one artifact, and move its aliases, at once."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections import Counter

import pytest

import wanllmdb
from wanllmdb._catalog import aliases

pytestmark = pytest.mark.slow
MOVES = int(os.environ.get("WANLLMDB_TEST_MOVES", "50"))
"""Moves of the alias by each process; raise it to 200 for a night's work."""
PROCESSES, VERSIONS = 4, 30

BEGIN = """
import json, os, random, sys, wanllmdb
from wanllmdb import Artifact, _versions
number = int(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
"""

COMMIT = (
    BEGIN
    + """
versions, same = int(sys.argv[2]), sys.argv[3] == "same"
done = []
with wanllmdb.init(project="p", id=f"c{number}") as run:
    for turn in range(versions):
        artifact = Artifact("a", "dataset")
        with artifact.new_file("own") as file:
            file.write(f"{number} {turn}")
        with artifact.new_file("shared") as file:
            file.write(str(turn))
        if same:
            artifact.remove("own")
        logged = run.log_artifact(artifact, aliases=["best", f"c{number}"])
        done.append([int(logged.version[1:]), f"{number} {turn}"])
print(json.dumps(done))
"""
)

MOVE = (
    BEGIN
    + """
dice = random.Random(number)
done = 0
with wanllmdb.Api() as api:
    versions = [a._record for a in api.artifacts("dataset", "p/a")][-4:]
    while done < int(sys.argv[2]):
        what = dice.random()
        version = dice.choice(versions)
        if what < 0.8:
            _versions.move_alias(api.store, version, "prod")
        elif what < 0.9:
            try:
                _versions.undo_alias(api.store, version, "prod")
            except wanllmdb.errors.StateError:  # all of it is undone
                continue
        else:
            held = api.artifact("p/a:prod") if api.artifact_exists("p/a:prod") else None
            try:
                _versions.move_alias(
                    api.store, version, "PROD",
                    expected=0 if held is None else int(held.version[1:]),
                )
            except wanllmdb.errors.AliasConflictError:  # another one was quicker
                continue
        done += 1
print(json.dumps(done))
"""
)

WATCH = (
    BEGIN
    + """
import sqlite3
seen = 0
with wanllmdb.Api() as api:
    while not os.path.exists(sys.argv[2]):
        rows = api.store.catalog.reader.execute(
            "SELECT count(*), count(DISTINCT version_id) FROM alias"
            " WHERE alias_key = 'prod'"
        ).fetchall()
        assert tuple(rows[0]) in ((0, 0), (1, 1)), rows
        seen += 1
print(json.dumps(seen))
"""
)


class Crowd:
    """Processes that start together, each with what it printed last."""

    def __init__(self) -> None:
        self.running: list[subprocess.Popen[str]] = []

    def start(self, code: str, *arguments: object) -> None:
        command = [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.running.append(process)

    def go(self) -> None:
        for process in self.running:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", process.communicate()[1]
        for process in self.running:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()

    def end(self, index: int) -> object:
        out, err = self.running[index].communicate(timeout=120)
        assert self.running[index].returncode == 0, err
        return json.loads(out.splitlines()[-1])


@pytest.fixture
def crowd():
    """A crowd that does not outlive its test."""
    made = Crowd()
    yield made
    for process in made.running:
        process.kill()
        process.communicate()


@pytest.fixture
def prepared(store):
    """A Store that is there, so that all start together."""
    with wanllmdb.init(project="p", id="first"):
        pass
    wanllmdb.teardown()
    return store


def check_store(store, sql):
    assert sql("PRAGMA foreign_key_check") == []
    assert sql("PRAGMA integrity_check") == [("ok",)]
    assert list((store / "tmp").iterdir()) == []


def test_no_number_is_skipped_or_doubled(crowd, prepared, sql, api, tmp_path):
    """Each version holds what its committer put into it."""
    for number in range(PROCESSES):
        crowd.start(COMMIT, number, VERSIONS, "own")
    crowd.go()
    done = [pair for number in range(PROCESSES) for pair in crowd.end(number)]
    total = PROCESSES * VERSIONS
    assert sorted(number for number, _ in done) == list(range(1, total + 1))
    versions = api.artifacts("dataset", "p/a")
    assert [a.version for a in versions] == [f"v{n}" for n in range(total, 0, -1)]
    held = dict(done)
    for version in versions:
        number = int(version.version[1:])
        (path,) = [version.get_entry("own").download(tmp_path / f"v{number}")]
        with open(path) as file:
            assert file.read() == held[number]
        assert version.verify()
    assert api.artifact("p/a:best").version == f"v{total}"
    for number in range(PROCESSES):
        last = max(n for n, text in done if text.startswith(f"{number} "))
        assert api.artifact(f"p/a:c{number}").version == f"v{last}"
    record = versions[0]._record
    moves = aliases.history(api.store.catalog.reader, record, "best")
    assert [event.after for event in moves] == list(range(1, total + 1))
    assert [event.before for event in moves] == [None, *range(1, total)]
    check_store(prepared, sql)


def test_equal_content_is_one_version_while_it_is_the_newest(crowd, prepared, sql, api):
    """Of two that commit the same at once, one finds the other's."""
    for number in range(PROCESSES):
        crowd.start(COMMIT, number, VERSIONS, "same")
    crowd.go()
    done = [pair for number in range(PROCESSES) for pair in crowd.end(number)]
    versions = api.artifacts("dataset", "p/a")
    numbers = [int(a.version[1:]) for a in versions]
    assert numbers == list(range(max(numbers), 0, -1))
    assert set(numbers) == {number for number, _ in done}
    digests = [a.digest for a in versions]
    assert all(one != other for one, other in itertools.pairwise(digests))
    assert all(a.verify() for a in versions[:5])
    check_store(prepared, sql)


def test_an_alias_has_one_holder_at_every_moment(crowd, prepared, sql, api, tmp_path,
                                                 log):  # fmt: skip
    """Its history is whole: each move begins where the one before it ended."""
    first = [log(f"before {n}") for n in range(4)]
    wanllmdb.finish()
    stop = tmp_path / "stop"
    for number in range(PROCESSES):
        crowd.start(MOVE, number, MOVES)
    for number in range(2):
        crowd.start(COMMIT, number, VERSIONS, "own")
    crowd.start(WATCH, 0, stop)
    crowd.go()
    said = [crowd.end(number) for number in range(PROCESSES + 2)]
    stop.touch()
    assert crowd.end(PROCESSES + 2) > 10
    assert said[:PROCESSES] == [MOVES] * PROCESSES
    history = [
        event
        for event in aliases.history(api.store.catalog.reader, first[0]._record, "prod")
        if event.kind == "alias"
    ]
    assert MOVES <= len(history) <= PROCESSES * MOVES  # some named it already
    for one, other in itertools.pairwise(history):
        assert other.before == one.after
    assert [event.at_us for event in history] == sorted(e.at_us for e in history)
    held = sql("SELECT number FROM alias JOIN version ON version.id = version_id"
               " WHERE alias_key = 'prod'")  # fmt: skip
    assert [number for (number,) in held] == [n for n in [history[-1].after] if n]
    counts = Counter(a.name for a in api.artifacts("dataset", "p/a"))
    assert counts == {f"a:v{n}": 1 for n in range(1, 4 + 2 * VERSIONS + 1)}
    check_store(prepared, sql)
