"""What each server does: the measured facts that the protocol of sync rests on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from servers import Server, need

MOTO, RCLONE, RADOSGW = (
    pytest.param(name, marks=getattr(pytest.mark, name))
    for name in ("moto", "rclone", "radosgw")
)
LARGE = os.urandom(2**20) * 20


def race(server: Server, rounds: int, writers: int = 8) -> dict[str, list[bytes]]:
    """Have many threads create each of some keys; for each, who was told to have won.

    A writer is known by the bytes that it writes.
    """
    bucket = server.bucket()
    keys = [f"{bucket}/{number}" for number in range(rounds)]
    systems = [server.system() for _ in range(writers)]
    bodies = [b"%d" % number for number in range(writers)]
    won = {}
    with ThreadPoolExecutor(writers) as threads:
        for key in keys:
            told = list(threads.map(create, systems, [key] * writers, bodies))
            won[key] = [body for body, told in zip(bodies, told) if told]
    return won


def create(system, key: str, data: bytes) -> bool:
    try:
        system.pipe_file(key, data, mode="create")
    except OSError:  # FileExistsError of moto, EINVAL of radosgw
        return False
    return True


@pytest.mark.parametrize("name", [MOTO, RADOSGW])
def test_each_race_has_one_winner(request, name):
    """Exclusive create by 8 threads: one is told that it won, and its bytes stay."""
    server = request.getfixturevalue(name)
    won = race(server, 30)
    assert [len(winners) for winners in won.values()] == [1] * 30
    there = server.system().cat(list(won))
    assert there == {key: winners[0] for key, winners in won.items()}


def test_moto_believes_any_credentials(moto):
    """Which is why it proves nothing of authentication."""
    moto.system(key="nobody", secret="none").pipe_file(f"{moto.bucket()}/key", b"1")


def test_rclone_tells_every_writer_that_it_won(rclone):
    """The backend whose missing exclusive create must be found out."""
    assert sum(map(len, race(rclone, 10).values())) > 10


def test_rclone_overwrites_what_was_to_be_created(rclone):
    """... even one writer after another."""
    system, key = rclone.system(), f"{rclone.bucket()}/key"
    assert create(system, key, b"first")
    assert create(system, key, b"second")
    assert system.cat_file(key) == b"second"


def test_rclone_keeps_its_objects_over_a_kill(rclone):
    """Its bucket is a folder."""
    system, key = rclone.system(), f"{rclone.bucket()}/key"
    system.pipe_file(key, LARGE)
    rclone.restart()
    assert system.cat_file(key) == LARGE


@pytest.mark.parametrize("wrong", [{"secret": "wrong"}, {"key": "UNKNOWN"}],
                         ids=["secret", "key"])  # fmt: skip
@pytest.mark.parametrize("name", [RCLONE, RADOSGW])
def test_wrong_credentials_are_refused(request, name, wrong):
    """Reading, listing, writing and asking are denied; nothing looks absent."""
    server = request.getfixturevalue(name)
    key = f"{server.bucket()}/key"
    server.system().pipe_file(key, b"1")
    stranger = server.system(**wrong)
    for ask in (stranger.cat_file, stranger.exists, stranger.find,
                lambda key: stranger.pipe_file(key, b"2")):  # fmt: skip
        with pytest.raises(PermissionError):
            ask(key)
    assert server.system().cat_file(key) == b"1"


def test_radosgw_lists_1200_keys_whole_and_in_order(radosgw):
    """A listing is of pages of 1,000 keys."""
    system, bucket = radosgw.system(), radosgw.bucket()
    keys = [f"{bucket}/{number:04}" for number in range(1200)]
    system.pipe({key: key.encode() for key in keys})
    assert system.find(bucket) == keys


@pytest.mark.parametrize("daemons", [["radosgw"], []], ids=["radosgw", "all daemons"])
def test_radosgw_keeps_its_objects_over_a_kill(radosgw, daemons):
    """What a write has returned for is there after SIGKILL, byte for byte."""
    system, bucket = radosgw.system(), radosgw.bucket()
    written = {f"{bucket}/{number}": os.urandom(4096) for number in range(50)}
    written[f"{bucket}/large"] = LARGE
    system.pipe(written)
    radosgw.restart(*daemons)
    assert system.cat(list(written)) == written


@pytest.mark.parametrize("name", [MOTO, RCLONE, RADOSGW])
def test_no_daemon_outlives_a_killed_test_process(request, tmp_path, name):
    """SIGKILL of who started the daemons ends them too."""
    need("setpriv")
    kind = type(request.getfixturevalue(name)).__name__
    script = tmp_path / "script.py"
    script.write_text(
        f"import pathlib, servers, time\n"
        f"folder = pathlib.Path({str(tmp_path / 'server')!r})\n"
        f"folder.mkdir()\n"
        f"with servers.{kind}(folder) as server:\n"
        f"    print(*[d.pid for d in server.daemons.values()], flush=True)\n"
        f"    time.sleep(60)\n"
    )
    started = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )  # fmt: skip
    with started:
        pids = [int(pid) for pid in started.stdout.readline().split()]
        started.send_signal(signal.SIGKILL)
    end = time.monotonic() + 10
    while any(map(runs, pids)) and time.monotonic() < end:
        time.sleep(0.02)
    assert pids
    assert [pid for pid in pids if runs(pid)] == []


@pytest.mark.parametrize("name", [MOTO, RCLONE, RADOSGW])
def test_credentials_come_from_the_environment(request, monkeypatch, sign_in, name):
    """As a user's are: those of the server, whatever was there before."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", "another's")
    monkeypatch.setenv("AWS_PROFILE", "absent")
    server = request.getfixturevalue(name)
    url, key = sign_in(server), f"{server.bucket()}/key"
    system = server.system(key=None, secret=None, client_kwargs={"endpoint_url": url})
    system.pipe_file(key, b"1")
    assert server.system().cat_file(key) == b"1"


def runs(pid: int) -> bool:
    """Whether a process runs; a zombie, which nobody has waited for, does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
