"""The Store's diary: operations and what was survived, never in anyone's way."""

from __future__ import annotations

import re

import pytest

import wanllmdb
from wanllmdb import errors

# An observer that raises is survived, and survived failures go to the diary.
NOISE = """
import sys, wanllmdb
text = sys.argv[1]
def fail(subject): raise ValueError(text * int(sys.argv[2]))
wanllmdb.on("alert", fail)
run = wanllmdb.init(id="r")
for _ in range(int(sys.argv[3])): run.alert("look")
run.finish()
print("fine")
"""
LINE = re.compile(r"^(\S+Z|\S+\+00:00) (\d+) (\S+) (.*)$")


def test_a_survived_failure_is_a_line_with_time_pid_and_traceback(child, diary):
    """Whoever looks for a lost alert finds why."""
    child(NOISE, "because", 1, 1)
    lines = diary().splitlines()
    (at,) = [n for n, line in enumerate(lines) if "ValueError('because')" in line
             and "survived" in line]  # fmt: skip
    first, rest = lines[at], lines[at:]
    assert LINE.match(first), first
    assert any("fail" in line and "line" in line for line in rest)


def test_the_diary_rotates_at_5_mb_and_keeps_3_files(child, store):
    """However much goes wrong, it takes 15 MB and a bit."""
    child(NOISE, "0123456789", 20_000, 100)
    sizes = {p.name: p.stat().st_size for p in (store / "logs").iterdir()}
    assert len(sizes) == 3
    assert all(size < 6_000_000 for size in sizes.values())
    assert sum(sizes.values()) > 10_000_000


def test_rotation_loses_the_oldest_lines_only(child, diary):
    """The last line written is there, in the newest file."""
    child(NOISE, "0123456789", 20_000, 60)
    child(NOISE, "the-very-last", 1, 1)
    assert "the-very-last" in diary()[-5000:]


@pytest.mark.parametrize(
    "text",
    [
        "password=SECRET1 ", "PASSWORD: 'SECRET1'", '{"api_key": "SECRET1"}',
        "https://user:SECRET1@host/x", "token=SECRET1", "Authorization: Bearer SECRET1",
        "AWS_SECRET_ACCESS_KEY=SECRET1", "WANDB_API_KEY=SECRET1", "--token SECRET1",
        "Authorization: Basic SECRET1", "postgresql://u:SECRET1@h:5432/db",
    ],
)  # fmt: skip
def test_no_secret_gets_into_the_diary(child, diary, text):
    """Passwords, tokens and keys are starred out, wherever they stand."""
    child(NOISE, text, 1, 1)
    assert "ValueError" in diary()
    assert "SECRET1" not in diary()


def test_a_full_disk_never_makes_the_diary_raise(with_mounts, tmp_path, monkeypatch):
    """The diary itself fills the disk; the run goes on without it."""
    (tmp_path / "disk").mkdir()
    disk = f"{tmp_path}/disk"
    monkeypatch.setenv("WANLLMDB_DIR", f"{disk}/s")
    mounts = f"mount -t tmpfs -o size=8m none {disk}"
    said = with_mounts(mounts, NOISE, "0123456789", 20_000, 100)
    assert said.stdout == "fine\n"
    assert "Traceback" not in said.stderr


@pytest.mark.parametrize("block", ["logs", "logs/debug.log"])
def test_a_diary_that_cannot_be_written_is_done_without(child, store, block):
    """Something else in its place harms nothing."""
    child("import wanllmdb; wanllmdb.init().finish()")
    target = store / block
    if block == "logs" and target.exists():
        for path in target.iterdir():
            path.unlink()
        target.rmdir()
    if block == "logs":
        target.write_text("a file")
    else:
        target.unlink(missing_ok=True)
        target.mkdir(parents=True)
    done = child(NOISE, "because", 1, 1)
    assert (done.stdout, done.stderr) == ("fine\n", "")


def test_logging_metrics_writes_no_line(store, diary):
    """The hot path leaves the diary alone."""
    run = wanllmdb.init()
    before = diary()
    for value in range(1000):
        run.log({"x": value})
    assert diary() == before


def test_every_command_leaves_a_line_with_its_operation(cli, diary):
    """What was done to a Store can be told afterwards."""
    wanllmdb.init(project="p", id="r").finish()
    cli("rename", "p/r", "second")
    cli("rm", "p/r", "--yes")
    lines = [LINE.match(line) for line in diary().splitlines()]
    named = {m[3] for m in lines if m and m[3] != "-" and re.search("ren|rm|del", m[4])}
    assert len(named) >= 2


@pytest.mark.parametrize(
    "call",
    [
        lambda api: api.run("nope"),
        lambda api: api.runs(filters="config.lr <<"),
        lambda api: wanllmdb.init(id="r", resume="never"),
        lambda api: wanllmdb.init(id="missing", resume="must"),
        lambda api: api.run("r").restore_epoch(7),
    ],
    ids=["get", "list", "init", "resume", "edit"],
)
def test_an_errors_op_id_is_the_one_in_the_diary(api, diary, call):
    """From a message to its line in one search."""
    wanllmdb.init(id="r").finish()
    with pytest.raises(errors.WanllmdbError) as caught:
        call(api)
    op = caught.value.op_id
    assert op
    lines = [LINE.match(line) for line in diary().splitlines()]
    assert [m[4] for m in lines if m and m[3] == op and "failed" in m[4]]


def test_two_operations_have_two_ids(api):
    """An id names one call, not a process."""
    wanllmdb.init(id="r").finish()
    ids = set()
    for name in ("a", "b"):
        with pytest.raises(errors.RunNotFoundError) as caught:
            api.run(name)
        ids.add(caught.value.op_id)
    assert len(ids) == 2


def test_the_recovery_of_a_dead_run_is_on_record(child, api, diary):
    """Who set it crashed, and when."""
    child("import os, wanllmdb; wanllmdb.init(id='r').log({'x': 1}); os._exit(1)",
          ok=False)  # fmt: skip
    assert api.run("r").state == "crashed"
    (line,) = [m for m in map(LINE.match, diary().splitlines()) if "recover" in m[4]]
    (event,) = [e for e in api.run("r").events if e.kind == "crash"]
    assert event.op_id == line[3]
