"""`wanllmdb sync`, `push` and `pull`, as a person or a script calls them."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

import wanllmdb
from wanllmdb._store import Store
from wanllmdb.types import Location


@pytest.fixture
def hub(cli, tmp_path, two_runs):
    """The remote of a Store with the runs `p/a` and `p/b`, and `p/c` in the trash."""
    (tmp_path / "hub").mkdir()
    cli("remote", "add", "hub", tmp_path / "hub")
    return tmp_path / "hub"


@pytest.fixture
def other(cli, tmp_path, hub):
    """Run a command of another, empty Store with the same remote."""
    place = tmp_path / "other"
    Store(Location(place, "test"), create=True).close()
    cli("--store", place, "remote", "add", "hub", hub)
    return lambda *words, **how: cli("--store", place, *words, **how)


def files(root: Path) -> dict[Path, bytes]:
    """Every file below a directory, but for the debug log."""
    return {
        path: path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and "logs" not in path.parts and "catalog" not in path.name
    }


def test_what_was_done_is_a_line_for_each_class(cli, hub):
    """Data on stdout; a second sync finds nothing."""
    lines = cli("sync").stdout.splitlines()
    assert lines[:2] == ["projects: 1 pushed, 0 pulled", "runs: 3 pushed, 0 pulled"]
    assert any(line.startswith("bytes: ") for line in lines)
    assert cli("sync").stdout == "hub: nothing new\n"


def test_json_is_the_report(cli, hub):
    """For programs."""
    (report,) = json.loads(cli("sync", "--json").stdout)
    assert (report["remote"], report["pushed"]["run"]) == ("hub", 3)
    assert report["failed"] == []


def test_a_dry_run_says_what_waits_and_writes_nothing(cli, hub, other):
    """Neither here nor there."""
    before = files(hub)
    assert "runs: 3 to push" in cli("sync", "--dry-run").stdout
    assert files(hub) == before
    cli("sync")
    rows = json.loads(other("pull", "--dry-run", "--json").stdout)
    assert [(row["count"], row["direction"]) for row in rows] == [(1, "pull")]
    assert other("ls", "-q").stdout == ""


def test_push_tells_of_some_runs_only(cli, hub, other):
    """A run by its id; the others wait."""
    assert "runs: 1 pushed" in cli("push", "p/a").stdout
    other("sync")
    assert other("ls", "-q").stdout.split() == ["a"]
    assert "runs: 2 to push" in cli("push", "--dry-run").stdout


def test_pull_finds_a_run_that_is_not_here_by_its_id(cli, hub, other):
    """As text, against what the remote was told; with the project or without."""
    cli("sync")
    assert "runs: 0 pushed, 1 pulled" in other("pull", "a").stdout
    assert other("ls", "-q").stdout.split() == ["a"]
    other("pull", "p/b")
    assert other("ls", "-q").stdout.split() == ["b", "a"]
    assert other("metric", "get", "p/a", "loss").stdout == cli(
        "metric", "get", "p/a", "loss"
    ).stdout  # fmt: skip


def test_pull_of_what_is_nowhere_is_not_found(cli, hub, other):
    """The message says that both sides were looked at."""
    cli("sync")
    for words in (["nope"], ["-p", "nope"], ["--artifact", "nope"]):
        done = other("pull", *words, ok=False)
        assert (done.returncode, "at hub" in done.stderr) == (3, True), done.stderr


def test_a_project_and_an_artifact_are_pulled_by_name(cli, hub, other, tmp_path):
    """And nothing else comes."""
    (tmp_path / "f.txt").write_text("x")
    cli("artifact", "put", tmp_path / "f.txt", "q/data", "--alias", "best")
    cli("sync")
    other("pull", "--artifact", "q/data")
    assert other("ls", "-q").stdout == ""
    assert "q/data:v1" in other("artifact", "ls").stdout
    assert "best" in other("artifact", "show", "q/data:best").stdout
    other("pull", "-p", "p")
    assert other("ls", "-q").stdout.split() == ["b", "a"]


def test_since_leaves_out_what_is_older(cli, hub):
    """A time as a person writes it."""
    assert "runs: 3 to push" in cli("push", "--since", "-1h", "--dry-run").stdout
    assert "runs" not in cli("push", "--since", "2999-01-01", "--dry-run").stdout
    assert cli("push", "--since", "soon", ok=False).returncode == 2


def test_full_brings_bytes_and_no_artifacts_leaves_them_out(cli, hub, other, tmp_path):
    """Of what is pulled; bytes else come when they are used."""
    (tmp_path / "f.txt").write_text("x")
    cli("artifact", "put", tmp_path / "f.txt", "p/data")
    assert "version" not in cli("push", "--no-artifacts", "--dry-run").stdout
    cli("sync")
    other("pull")
    assert "only at the remote" in other("sync", "--status").stdout
    assert "lie at the remote" in other("doctor").stdout
    other("pull", "--full")
    assert "lie at the remote" not in other("doctor").stdout


def test_status_says_what_is_where(cli, hub):
    """Before and after; no network is asked for it."""
    before = cli("sync", "--status").stdout
    assert "last synced: never" in before
    assert "waiting: 1 projects, 3 runs" in before
    cli("sync")
    (found,) = json.loads(cli("sync", "--status", "--json").stdout)
    assert found["waiting"] == {}
    assert found["rows"] == {"here": 6, "at_remote": 6}
    assert found["last_synced"] is not None


def test_status_says_what_failed(cli, hub):
    """And why, until a sync succeeds."""
    hub.rename(hub.with_name("away"))
    assert cli("sync", ok=False).returncode == 3
    assert "failed: " in cli("sync", "--status").stdout
    hub.with_name("away").rename(hub)
    cli("sync")
    assert "failed: " not in cli("sync", "--status").stdout


def test_verify_compares_both_sides(cli, hub, other):
    """A clean result says so; a flipped row and a lost blob are named, exit 5."""
    cli("sync")
    other("sync")
    assert "hold the same" in other("sync", "--verify").stdout
    api = wanllmdb.Api(hub.parent / "other")
    with api, api.store.catalog.transaction(durable=True) as connection:
        connection.execute("UPDATE sync_document SET digest = 'x' WHERE entity = 'run'")
    done = other("sync", "--verify", ok=False)
    assert (done.returncode, "what is said of it here" in done.stdout) == (5, True)


def test_a_damaged_batch_is_left_and_told_and_the_rest_comes(cli, hub, other):
    """Partial: exit 10, with a line on stderr."""
    cli("push", "p/a")
    (batch,) = (hub / "log").rglob("*.json")
    batch.chmod(0o600)
    batch.write_text("{}")
    cli("push", "p/b")
    done = other("pull", ok=False)
    assert (done.returncode, "Left for the next sync" in done.stderr) == (10, True)


def test_a_url_on_the_line_is_added(cli, two_runs, tmp_path):
    """Under the name of its last part; a dry run adds nothing."""
    (tmp_path / "shared").mkdir()
    done = cli("sync", "--remote", tmp_path / "shared", "--dry-run", ok=False)
    assert (done.returncode, "remote add shared" in done.stderr) == (3, True)
    cli("sync", "--remote", tmp_path / "shared")
    assert "shared" in cli("remote", "ls").stdout


def test_without_a_remote_the_error_says_how_to_add_one(cli, two_runs):
    """Exit 3, like anything that is not there."""
    done = cli("sync", ok=False)
    assert (done.returncode, "remote add NAME URL" in done.stderr) == (3, True)


def test_the_setting_names_the_remote(cli, hub, tmp_path):
    """WANLLMDB_REMOTE beats the default."""
    (tmp_path / "two").mkdir()
    cli("remote", "add", "two", tmp_path / "two")
    cli("sync", env={"WANLLMDB_REMOTE": "two"})
    assert list((tmp_path / "two" / "log").rglob("*.json"))
    assert not (hub / "log").exists()


def test_watch_syncs_until_ctrl_c(cli, hub, start, until):
    """It tells what it did, and ends with 130, quietly."""
    process = start("sync", "--watch")
    assert until(lambda: list(hub.rglob("log/*/*.json")))
    assert until(lambda: "nothing" in cli("sync", "--status").stdout)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "")
    assert "runs: 3 pushed" in out


def test_the_pause_of_watch_adapts(monkeypatch):
    """10 s after something happened, rising to 5 minutes; trouble is told once."""
    from wanllmdb.cli import sync as command
    from wanllmdb.cli.render import Output
    from wanllmdb.errors import RemoteUnreachableError
    from wanllmdb.types import SyncReport

    quiet, busy = SyncReport("hub"), SyncReport("hub", pushed={"run": 1})
    gone = RemoteUnreachableError("Nothing answers.")
    events = iter([quiet] * 6 + [busy, gone, gone, quiet])
    pauses, told = [], []

    def once():
        found = next(events, None)
        if found is None:
            raise KeyboardInterrupt
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(command.time, "sleep", pauses.append)
    monkeypatch.setattr(command, "tell", told.append)
    with pytest.raises(KeyboardInterrupt):
        command._watch(once, Output("table", True, Path(os.devnull)))
    assert pauses == [20, 40, 80, 160, 300, 300, 10, 20, 40, 80]
    assert len(told) == 1
