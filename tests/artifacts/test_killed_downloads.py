"""What a killed download left in its target goes with the next; a live one's stays."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import wanllmdb
from wanllmdb import _targets

TEXTS = {"x": "1", "d/y": "22", "d/e/z": "333"}

DOWNLOAD = """
import sys, time, wanllmdb
from wanllmdb import _downloads
copy = _downloads._copy
def slow(store, version, entry, write):
    write(b"some of it")
    if entry.path == sys.argv[2]:
        print("ready", flush=True)
        time.sleep(60)
    return copy(store, version, entry, lambda piece: None)
_downloads._copy = slow
with wanllmdb.Api() as api:
    api.artifact("p/a").download(sys.argv[1])
"""


@pytest.fixture
def version(log):
    made = log(TEXTS)
    wanllmdb.finish()
    return made


@pytest.fixture
def started(version):
    """Starts a download that stops in the middle of a file, which it writes."""
    running = []

    def start(root, path="x"):
        process = subprocess.Popen(
            [sys.executable, "-c", DOWNLOAD, str(root), path],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        running.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in running:
        process.kill()
        process.wait()
        process.stdout.close()


def drafts(root):
    return sorted(p.relative_to(root).as_posix() for p in Path(root).rglob("*.part"))


def killed(process):
    process.kill()
    process.wait()


@pytest.mark.parametrize("how", ["download", "checkout"])
@pytest.mark.parametrize("path", ["x", "d/y", "d/e/z"])
def test_a_killed_download_s_draft_goes_with_the_next(
    version, started, tmp_path, read, how, path
):
    """In whatever directory of the version it is; while it lives, its draft stays."""
    root = tmp_path / "o"
    process = started(root, path)
    (draft,) = drafts(root)
    getattr(version, how)(root)
    assert drafts(root) == [draft]
    killed(process)
    assert drafts(root) == [draft]
    getattr(version, how)(root)
    assert read(root) == TEXTS


def test_a_live_download_ends_well_beside_others(version, started, tmp_path, read):
    """A draft of one's own process is left, too."""
    root = tmp_path / "o"
    with _targets.opened(root) as target:
        fd, put, drop = target.create("x")
        version.download(root)
        version.checkout(root)
        os.write(fd, b"own")
        os.close(fd)
        assert len(drafts(root)) == 1
        put()
        drop()
    assert read(root) == {**TEXTS, "x": "own"}


def test_threads_write_and_tidy_one_directory_at_once(tmp_path):
    """No file is lacking, and none left over."""
    root = tmp_path / "o"
    failed = []

    def again(name):
        try:
            with _targets.opened(root) as target:
                for turn in range(50):
                    fd, put, drop = target.create(f"{name}-{turn}")
                    target.drop_dead([""])
                    os.close(fd)
                    put()
                    drop()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=again, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert drafts(root) == []
    assert len(list(root.iterdir())) == 200


def test_a_draft_that_is_taken_for_dead_is_made_anew(version, tmp_path, monkeypatch):
    """Another download finds it between its making and its lock."""
    root = tmp_path / "o"
    is_mine, taken = _targets._is_mine, []

    def removed_first(name, directory, fd):
        if not taken:
            taken.append(name)
            os.unlink(name, dir_fd=directory)
        return is_mine(name, directory, fd)

    monkeypatch.setattr(_targets, "_is_mine", removed_first)
    version.download(root)
    assert taken
    assert drafts(root) == []
    assert (root / "x").read_text() == "1"


def test_what_only_looks_like_a_draft_stays(version, tmp_path):
    """Users' files, links and pipes; a download waits for none of them."""
    root = tmp_path / "o"
    root.mkdir()
    names = (".wanllmdb-Case-1.part", "x.part", f".wanllmdb-Case-{'0' * 16}.parts")
    for name in names:
        (root / name).write_text("mine")
    link = root / f".wanllmdb-Case-{'0' * 16}.part"
    link.symlink_to(root / names[0])
    version.download(root)
    assert {*names, link.name} <= {path.name for path in root.iterdir()}
    assert (root / names[0]).read_text() == "mine"
