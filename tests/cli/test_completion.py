"""Completion: verbs, options, and what the Store holds."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.fixture
def complete(cli):
    """What the shell offers for the last word of a line."""

    def offer(line, **env):
        protocol = {
            "_WANLLMDB_COMPLETE": "bash_complete",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(line.split(" ")) - 1),
        }
        done = cli(env={**protocol, **env}, ok=False)
        assert "Traceback" not in done.stderr
        offered = [entry.partition(",")[2] for entry in done.stdout.splitlines()]
        return [word for word in offered if word]

    return offer


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("wanllmdb sh", {"show"}),
        ("wanllmdb metric ", {"ls", "get", "stats", "rank"}),
        ("wanllmdb show p/", {"p/a", "p/b"}),
        ("wanllmdb show p/a", {"p/a"}),
        ("wanllmdb diff p/a p/", {"p/a", "p/b"}),
        ("wanllmdb tag p/", {"p/a", "p/b"}),
        ("wanllmdb rm p/a p/", {"p/a", "p/b"}),
        ("wanllmdb plot p/", {"p/a", "p/b"}),
        ("wanllmdb report p/a p/", {"p/a", "p/b"}),
        ("wanllmdb metric get p/", {"p/a", "p/b"}),
        ("wanllmdb metric get p/a lo", {"loss"}),
        ("wanllmdb metric stats p/a ", {"loss", "acc"}),
        ("wanllmdb ls -p ", {"p"}),
        ("wanllmdb project show ", {"p"}),
        ("wanllmdb project rm ", {"p"}),
        ("wanllmdb restore p/", {"p/c"}),
        ("wanllmdb trash restore p/", {"p/c"}),
        ("wanllmdb ls --format j", {"json", "jsonl"}),
        ("wanllmdb ls --li", {"--limit"}),
    ],
)
def test_the_words_that_fit_are_offered(two_runs, complete, line, offered):
    """Ids come from the Store, trashed ones only where they are meant."""
    assert set(complete(line)) == offered


def test_the_store_that_the_line_names_is_asked(two_runs, complete, store, tmp_path):
    """--store counts for completion too."""
    line = f"wanllmdb --store {store} show p/"
    assert set(complete(line, WANLLMDB_DIR=str(tmp_path / "none"))) == {"p/a", "p/b"}


@pytest.mark.parametrize("line", ["wanllmdb show ", "wanllmdb metric get p/a "])
def test_without_a_store_nothing_is_offered_or_made(complete, tmp_path, line):
    """Pressing TAB is no reason to create a Store, or to complain."""
    assert complete(line) == []
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_is_printed(cli, shell):
    """It calls us back by the variable that we read."""
    script = cli("completion", shell).stdout
    assert "_WANLLMDB_COMPLETE" in script
    assert f"{shell}_complete" in script


def test_bash_can_read_its_script(cli, tmp_path):
    """`eval "$(wanllmdb completion bash)"` works in a real bash."""
    (tmp_path / "script").write_text(cli("completion", "bash").stdout)
    done = subprocess.run(
        ["bash", "-c", f"source {tmp_path}/script && complete -p wanllmdb"],
        capture_output=True, text=True, timeout=30, check=False,
        env={**os.environ, "PATH": f"{os.path.dirname(sys.executable)}:"
             f"{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "wanllmdb" in done.stdout
