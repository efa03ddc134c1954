"""A gc gets its turn among those who commit without a pause, and holds nobody up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

import wanllmdb
from wanllmdb import _gc, _locks

COMMITTER = """
import os, sys, wanllmdb
from wanllmdb import Artifact
with wanllmdb.init(project="p", id=f"c{sys.argv[1]}") as run:
    turn = 0
    while not os.path.exists(sys.argv[2]):
        turn += 1
        artifact = Artifact(f"a{sys.argv[1]}", "dataset")
        with artifact.new_file("own") as file:
            file.write(f"{sys.argv[1]} {turn}")
        run.log_artifact(artifact)
        if turn == 1:
            print("ready", flush=True)
print(turn)
"""

HOLDER = """
import sys, time
from pathlib import Path
from wanllmdb import _locks
path, turn = Path(sys.argv[1]), Path(sys.argv[2])
if sys.argv[3] == "share":
    with _locks.shared(path, 1, turn):
        print("ready", flush=True)
        time.sleep(60)
print("ready", flush=True)
_locks.acquire_in_turn(path, turn, 60)
"""


@pytest.fixture
def place(tmp_path):
    """A lock that is shared, and its turn."""
    return tmp_path / "lock", tmp_path / "turn"


@pytest.fixture
def held(place):
    """Starts a process that shares the lock, or waits to own it."""
    started = []

    def start(how):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, *map(str, place), how],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def wait_for(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.slow
def test_a_gc_gets_through_while_processes_commit_without_a_pause(store, tmp_path):
    """Five times over; all of them go on, and nobody fails."""
    stop = tmp_path / "stop"
    with wanllmdb.init(project="p", id="first"):
        pass
    children = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", COMMITTER, str(number), str(stop)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for number in range(4)
    ]  # fmt: skip
    try:
        for child in children:
            assert child.stdout.readline() == "ready\n"
        with wanllmdb.Api() as api:
            for _ in range(5):
                began = time.monotonic()
                _gc.collect(api.store)
                assert time.monotonic() - began < 10
    finally:
        stop.touch()
        said = [child.communicate(timeout=60) for child in children]
    assert [child.returncode for child in children] == [0] * 4, said
    assert all(int(out) > 1 for out, _ in said)


def test_who_waits_to_own_a_lock_keeps_newcomers_out(place, held):
    """Until it has had it: it waits for those alone who shared the lock before."""
    path, turn = place
    sharer = held("share")
    owned = []
    gc = threading.Thread(
        target=lambda: owned.append(_locks.acquire_in_turn(path, turn, 20))
    )
    gc.start()
    wait_for(lambda: _locks.is_held(turn))
    began = time.monotonic()
    threading.Timer(0.3, sharer.kill).start()
    gc.join()
    assert time.monotonic() - began < 5
    assert owned[0] is not None
    assert not _locks.is_held(turn)
    owned[0].release()
    held("share")
    assert _locks.try_acquire(path) is None


def test_who_shares_a_lock_shares_it_again_at_once(place, held):
    """Its next owner waits for it, so it must not wait for that one."""
    path, turn = place
    with _locks.shared(path, 1, turn) as one:
        held("own")
        wait_for(lambda: _locks.is_held(turn))
        began = time.monotonic()
        with _locks.shared(path, 1, turn) as other:
            assert time.monotonic() - began < 0.5
            assert one
            assert other


def test_another_thread_waits_its_turn_but_not_for_ever(place, held, monkeypatch):
    """The thread that shares the lock may wait for it: that ends."""
    path, turn = place
    monkeypatch.setattr(_locks, "TURN_SECONDS", 0.3)
    took = []

    def share():
        began = time.monotonic()
        with _locks.shared(path, 5, turn) as mine:
            took.append((mine, time.monotonic() - began))

    with _locks.shared(path, 1, turn):
        held("own")
        wait_for(lambda: _locks.is_held(turn))
        thread = threading.Thread(target=share)
        thread.start()
        thread.join()
    assert took[0][0]
    assert 0.2 < took[0][1] < 3


def test_newcomers_are_let_in_between_while_somebody_shares_long(place, monkeypatch):
    """A backup may share the lock for an hour: others wait a part of that only."""
    path, turn = place
    monkeypatch.setattr(_locks, "TURN_SECONDS", 0.1)
    monkeypatch.setattr(_locks, "REST_SECONDS", 0.2)
    with _locks.shared(path, 1, turn):
        seen = []
        gc = threading.Thread(
            target=lambda: seen.append(_locks.acquire_in_turn(path, turn, 1))
        )
        gc.start()
        asked = []
        while gc.is_alive():
            asked.append(_locks.is_held(turn))
            time.sleep(0.01)
    assert seen == [None]
    assert asked.count(True) > 5
    assert asked.count(False) > asked.count(True)


def test_a_killed_gc_that_waited_is_waited_for_no_more(place, held):
    """The kernel frees its turn."""
    path, turn = place
    held("share")
    waiting = held("own")
    wait_for(lambda: _locks.is_held(turn))
    waiting.send_signal(signal.SIGKILL)
    waiting.wait()
    began = time.monotonic()
    with _locks.shared(path, 1, turn) as mine:
        assert mine
        assert time.monotonic() - began < 1


def test_a_child_that_is_forked_while_a_lock_is_shared_shares_it_anew(place):
    """It leaves the block of its parent, whose lock stays."""
    path, turn = place
    with _locks.shared(path, 1, turn):
        child = os.fork()
        if not child:
            _locks.forget_after_fork()
            with _locks.shared(path, 1, turn) as mine:
                code = 0 if mine else 3
    if not child:
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    lock = _locks.try_acquire(path)
    assert lock is not None
    lock.release()
