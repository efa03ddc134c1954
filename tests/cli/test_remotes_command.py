"""`wanllmdb remote`: naming places to sync with."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import wanllmdb


@pytest.fixture
def hub(tmp_path, two_runs):
    """A directory beside a Store that has something in it."""
    (tmp_path / "hub").mkdir()
    return tmp_path / "hub"


def test_add_says_what_it_found_and_the_first_is_the_default(cli, hub):
    """One line: name, URL, and how many may write."""
    done = cli("remote", "add", "hub", hub)
    assert done.stdout == f"hub file://{hub} many writers\n"
    (row,) = json.loads(cli("remote", "ls", "--json").stdout)
    assert (row["name"], row["default"], row["single_writer"]) == ("hub", True, False)
    assert row["last_synced"] is None


def test_a_relative_directory_becomes_absolute(cli, hub):
    """What is stored does not depend on where a command is run."""
    cli("remote", "add", "hub", "./hub", cwd=hub.parent)
    (row,) = json.loads(cli("remote", "ls", "--json").stdout)
    assert row["url"] == f"file://{hub}"


def test_a_directory_within_the_store_is_refused(cli, hub, store):
    """Each would take the other's files for its own."""
    done = cli("remote", "add", "hub", store / "remote", ok=False)
    assert (done.returncode, "within the Store" in done.stderr) == (2, True)
    assert not (store / "remote").exists()


def test_a_single_writer_is_told_what_that_means(cli, hub):
    """The message names who may push and who may pull."""
    done = cli("remote", "add", "hub", hub, "--single-writer")
    assert done.stdout.endswith("single writer\n")
    assert "one device may push there, any number may pull" in done.stderr


def test_a_name_is_given_once(cli, hub, tmp_path):
    """The error says how to go on, and nothing is made at the second place."""
    cli("remote", "add", "hub", hub)
    (tmp_path / "other").mkdir()
    done = cli("remote", "add", "hub", tmp_path / "other", ok=False)
    assert (done.returncode, "remote rm hub" in done.stderr) == (4, True)
    assert list((tmp_path / "other").iterdir()) == []


def test_test_tries_it_again(cli, hub):
    """What it is good for is said in words."""
    cli("remote", "add", "hub", hub, "--single-writer")
    assert "creates exclusively" in cli("remote", "test", "hub").stdout
    (row,) = json.loads(cli("remote", "ls", "--json").stdout)
    assert row["single_writer"] is False


def test_a_place_that_is_gone_fails_the_test(cli, hub):
    """The error names it."""
    cli("remote", "add", "hub", hub)
    hub.rename(hub.with_name("away"))
    done = cli("remote", "test", "hub", ok=False)
    assert (done.returncode, str(hub) in done.stderr) == (3, True)


def test_default_and_rm(cli, hub, tmp_path):
    """Of several, the chosen one; without one, none."""
    (tmp_path / "two").mkdir()
    cli("remote", "add", "one", hub)
    cli("remote", "add", "two", tmp_path / "two")
    assert cli("remote", "default", "two").stdout == "two\n"
    rows = json.loads(cli("remote", "ls", "--json").stdout)
    assert {row["name"]: row["default"] for row in rows} == {"one": False, "two": True}
    cli("remote", "rm", "two")
    assert (tmp_path / "two" / "wanllmdb.json").exists()
    assert cli("remote", "rm", "two", ok=False).returncode == 3


def test_credentials_in_a_url_are_refused(cli, hub):
    """They are not stored, and not shown."""
    url = "s3://key:secret@bucket/x"
    done = cli("remote", "add", "hub", url, ok=False)
    assert done.returncode == 2
    assert "secret@" not in done.stderr


def test_nothing_but_add_and_test_reaches_for_the_network(cli, two_runs):
    """A remote of S3 that is named in the Catalog is listed without a socket."""
    from wanllmdb._catalog import remotes
    from wanllmdb.types import RemoteRecord

    api = wanllmdb.Api()
    with api, api.store.catalog.transaction(durable=True) as connection:
        remotes.add(
                connection,
                RemoteRecord("s3", "s3://bucket/x", "http://127.0.0.1:9", None, True,
                             False, True, "0" * 32, 0),
            )  # fmt: skip
    assert "s3://bucket/x" in cli("remote", "ls").stdout
    assert "waiting: 1 projects, 3 runs" in cli("sync", "--status").stdout
    code = "import wanllmdb as w\nwith w.init() as run: run.log({'a': 1})"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_names_of_remotes_are_completed(cli, hub):
    """TAB offers what the Store knows."""
    cli("remote", "add", "hub", hub)
    words = {
        "_WANLLMDB_COMPLETE": "bash_complete", "COMP_WORDS": "wanllmdb remote test h",
        "COMP_CWORD": "3",
    }  # fmt: skip
    assert "hub" in cli(env=words, ok=False).stdout
