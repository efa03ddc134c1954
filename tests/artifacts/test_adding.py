"""What is added to a draft: files, directories, and what cannot be."""

from __future__ import annotations

import hashlib
import os
import socket
import time
import unicodedata
from pathlib import Path

import pytest

import wanllmdb
from wanllmdb import Artifact, _scanning
from wanllmdb.errors import (
    EntryNotFoundError,
    InvalidInputError,
    InvalidNameError,
)


def entries(artifact):
    return {entry.path: entry.size for entry in artifact.files()}


def draft(name="a", **how):
    return Artifact(name, "dataset", **how)


def test_add_file_takes_the_bytes_at_the_call(run, tmp_path, read):
    """The source may change or vanish right after."""
    source = tmp_path / "data.txt"
    source.write_text("first")
    artifact = draft()
    entry = artifact.add_file(str(source))
    source.write_text("second")
    artifact.add_file(source, name="deep/er.txt")
    source.unlink()
    logged = run.log_artifact(artifact)
    assert read(logged.download(tmp_path / "out")) == {
        "data.txt": "first", "deep/er.txt": "second",
    }  # fmt: skip
    assert entry.digest == f"sha256:{hashlib.sha256(b'first').hexdigest()}"
    assert (entry.path, entry.name, entry.size, entry.ref) == (
        "data.txt", "data.txt", 5, None,
    )  # fmt: skip


def test_add_dir_puts_its_content_at_the_root_or_below_a_name(run, made):
    """Empty files stay, empty directories do not."""
    root = made({"x": "1", "d/y": "22", "d/e/empty": ""})
    (root / "nothing").mkdir()
    artifact = draft()
    artifact.add_dir(root)
    artifact.add_dir(root, name="again/")
    assert entries(artifact) == {
        "x": 1, "d/y": 2, "d/e/empty": 0,
        "again/x": 1, "again/d/y": 2, "again/d/e/empty": 0,
    }  # fmt: skip
    assert (artifact.size, artifact.file_count) == (6, 6)


def test_links_are_followed_to_files_and_directories(made, run):
    """What they lead to is added, wherever it is."""
    outside = made({"o": "out", "sub/p": "side"})
    root = made({"x": "1"})
    (root / "l").symlink_to(outside / "o")
    (root / "twice").symlink_to(root / "l")
    (root / "dir").symlink_to(outside / "sub")
    (root / "same").symlink_to(outside / "sub")
    artifact = draft()
    artifact.add_dir(root)
    assert entries(artifact) == {"x": 1, "l": 3, "twice": 3, "dir/p": 4, "same/p": 4}
    artifact.add_file(root / "twice", name="file")
    assert artifact.get_entry("file").size == 3


def diamonds(root):
    """Two links in each of thirty directories: 2 ** 30 paths to one file."""
    for level in range(30):
        place = root / f"d{level}"
        place.mkdir(parents=True)
        for name in "lr":
            (place / name).symlink_to(root / f"d{level + 1}")
    (root / "d30").mkdir()
    (root / "d30" / "file").write_text("1")


def everyone_to_all(root):
    """Fifteen directories that link to each other: 15! ways through them."""
    for level in range(15):
        place = root / f"d{level}"
        place.mkdir(parents=True)
        (place / "file").write_text("1")
        for other in range(15):
            (place / f"l{other}").symlink_to(root / f"d{other}")


@pytest.mark.parametrize("tangle", [diamonds, everyone_to_all])
def test_links_that_multiply_paths_end_with_one_error(
    tangle, run, tmp_path, monkeypatch
):
    """In bounded time and memory, whatever they lead to; nothing is added."""
    monkeypatch.setattr(_scanning, "REPEATED", 20_000)
    root = tmp_path / "tangle"
    tangle(root)
    artifact = draft()
    began = time.monotonic()
    with pytest.raises(InvalidInputError, match="again and again") as raised:
        artifact.add_dir(root)
    assert time.monotonic() - began < 20
    assert len(str(raised.value)) < 2000
    assert entries(artifact) == {}


def test_a_directory_that_is_linked_to_often_is_added_each_time(run, tmp_path):
    """Each path is content."""
    (tmp_path / "shared").mkdir()
    for n in range(10):
        (tmp_path / "shared" / f"{n}").write_text(str(n))
    root = tmp_path / "root"
    root.mkdir()
    for n in range(50):
        (root / f"l{n}").symlink_to(tmp_path / "shared")
    artifact = draft()
    artifact.add_dir(root)
    assert len(entries(artifact)) == 500


def test_all_that_cannot_be_added_is_named_before_a_byte_is_read(made, run, store):
    """Loops, pipes, sockets, dangling links, impossible names: one error."""
    root = made({"fine": "1", "d/also": "2"})
    (root / "d" / "up").symlink_to(root)
    (root / "self").symlink_to("self")
    (root / "gone").symlink_to("nowhere")
    os.mkfifo(root / "pipe")
    (root / "back\\slash").write_text("")
    (root / os.fsdecode(b"half\xff")).write_text("")
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(str(root / "sock"))
    bound.close()
    artifact = draft()
    with pytest.raises(InvalidInputError) as caught:
        artifact.add_dir(root)
    for name in ("d/up", "self", "gone", "pipe", "slash", "half", "sock"):
        assert name in str(caught.value), name
    for name in ("fine", "also"):
        assert name not in str(caught.value)
    assert caught.value.identity["count"] == 7
    assert len(artifact.files()) == 0
    drafts = [path for path in (store / "tmp").rglob("*") if path.is_file()]
    assert {path.name for path in drafts} == {"lock"}


def test_many_offenders_are_counted(made, run):
    """Twenty are named, the others are a number."""
    root = made({})
    for number in range(25):
        os.mkfifo(root / f"pipe{number}")
    with pytest.raises(InvalidInputError, match="and 5 more"):
        draft().add_dir(root)


@pytest.mark.parametrize("kind", ["fifo", "socket", "directory", "missing", "dangling",
                                  "loop", "device", "long", "nul"])  # fmt: skip
def test_add_file_takes_regular_files_alone(kind, run, tmp_path):
    """Anything else is refused with its name, and nothing waits."""
    path = tmp_path / "odd"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(path))
    elif kind == "directory":
        path.mkdir()
    elif kind == "dangling":
        path.symlink_to("nowhere")
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "device":
        path = "/dev/null"
    elif kind == "long":
        path = tmp_path / ("n" * 300)
    elif kind == "nul":
        path = f"{tmp_path}/a\0b"
    artifact = draft()
    with pytest.raises(InvalidInputError):
        artifact.add_file(path, name="x")
    with pytest.raises(InvalidInputError):
        artifact.add_dir(path if kind != "directory" else tmp_path / "none")
    assert artifact.file_count == 0


def test_names_that_are_no_text_for_others_are_read_all_the_same(run, tmp_path):
    """A file whose own name is not UTF-8 can be added under another one."""
    root = tmp_path / os.fsdecode(b"d\xff")
    root.mkdir()
    (root / "x").write_text("1")
    (root / os.fsdecode(b"\xfe")).write_text("22")
    artifact = draft()
    artifact.add_file(root / os.fsdecode(b"\xfe"), name="y")
    (root / os.fsdecode(b"\xfe")).unlink()
    artifact.add_dir(root)
    assert entries(run.log_artifact(artifact)) == {"x": 1, "y": 2}


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "a\\b", "C:x", "a\0b", "",
                                  ".", "a\nb", "n" * 256, "\ud800"])  # fmt: skip
def test_a_hostile_entry_path_is_refused_at_once(name, run, tmp_path):
    """Before anything is read."""
    (tmp_path / "x").write_text("")
    artifact = draft()
    with pytest.raises(InvalidNameError):
        artifact.add_file(tmp_path / "x", name=name)
    with pytest.raises(InvalidNameError), artifact.new_file(name):
        pass
    if name:
        with pytest.raises(InvalidNameError):
            artifact.add_dir(tmp_path, name=name)


def test_a_path_is_a_file_or_a_directory(run, made):
    """Both are named; nothing of the directory stays."""
    artifact = draft()
    with artifact.new_file("d/x") as file:
        file.write("1")
    with pytest.raises(InvalidNameError, match="'d'"):
        artifact.add_file(made({"d": ""}) / "d")
    with pytest.raises(InvalidNameError, match="'d/x/y' needs 'd/x'"):
        artifact.add_dir(made({"a": "", "d/x/y": ""}))
    assert entries(artifact) == {"d/x": 1}


def test_names_that_become_one_are_told(run, made):
    """NFC and NFD of a name are one path: two files, or a file and a directory."""
    composed, split = "\u00e9", "e\u0301"
    for texts in (
        {composed: "1", split: "2"},
        {"a": "0", composed: "1", f"{split}/x": "2"},
        {"a": "0", split: "1", f"{composed}/x": "2"},
    ):
        artifact = draft()
        with pytest.raises(InvalidInputError, match=composed):
            artifact.add_dir(made(texts))
        assert artifact.file_count == 0
    artifact = draft()
    artifact.add_dir(made({split: "1"}))
    assert [entry.path for entry in artifact.files()] == [composed]
    assert artifact.get_entry(split).path == unicodedata.normalize("NFC", split)


def test_is_tmp_puts_the_name_behind_the_digest(run, made):
    """Passing names of equal files give two paths that tell what they hold."""
    artifact = draft()
    root = made({"x.txt": "1"})
    digest = hashlib.sha256(b"1").hexdigest()[:20]
    assert artifact.add_file(root / "x.txt", is_tmp=True).path == f"{digest}.x.txt"
    entry = artifact.add_file(root / "x.txt", name="media/x.txt", is_tmp=True)
    assert entry.path == f"media/{digest}.x.txt"


def test_other_content_needs_overwrite_or_merge(run, made):
    """The same content never does."""
    one, two = made({"x": "1", "y": "1"}), made({"x": "2", "y": "1"})
    artifact = draft()
    artifact.add_dir(one)
    artifact.add_dir(one)
    with pytest.raises(InvalidInputError, match="'x'"):
        artifact.add_file(two / "x")
    with pytest.raises(InvalidInputError, match="'x'"):
        artifact.add_dir(two)
    first = artifact.get_entry("x").digest
    artifact.add_file(two / "x", overwrite=True)
    assert artifact.get_entry("x").digest != first
    artifact.add_dir(one, merge=True)
    assert artifact.get_entry("x").digest == first


def test_new_file_is_added_when_it_is_closed(run, tmp_path, read):
    """Text and bytes; an error in between adds nothing."""
    artifact = draft()
    with artifact.new_file("t.txt") as file:
        file.write("h\u00e9")
        assert artifact.file_count == 0
    with artifact.new_file("latin", encoding="latin-1") as file:
        file.write("h\u00e9")
    with artifact.new_file("b", mode="wb") as file:
        file.write(bytes(2 << 20))
    with pytest.raises(PermissionError, match="mine"), artifact.new_file("no"):
        raise PermissionError("mine")
    with pytest.raises(InvalidInputError), artifact.new_file("b"):
        pass
    with pytest.raises(InvalidInputError), artifact.new_file("c", mode="a"):
        pass
    with artifact.new_file("t.txt", mode="w") as file:
        file.write("other")
    assert entries(artifact) == {"b": 2 << 20, "latin": 2, "t.txt": 5}


def test_remove_takes_paths_directories_and_entries_out(run, made):
    """What is not there is an error."""
    artifact = draft()
    artifact.add_dir(made({"x": "1", "d/y": "2", "d/e/z": "3", "w": "4"}))
    artifact.remove("d")
    artifact.remove(artifact.get_entry("x"))
    assert entries(artifact) == {"w": 1}
    with pytest.raises(EntryNotFoundError):
        artifact.remove("d/y")
    with artifact.new_file("d") as file:  # is free to be a file now
        file.write("5")


def test_a_file_that_changes_while_it_is_read_is_refused(run, tmp_path, monkeypatch):
    """Small ones and large ones."""
    from wanllmdb import _staging

    small, large = tmp_path / "small", tmp_path / "large"
    small.write_text("1")
    large.write_bytes(bytes(3 << 20))
    read_all, copy_to = _staging._Source.read_all, _staging._Source.copy_to

    def growing(real):
        def called(source, *given):
            found = real(source, *given)
            with Path(source.path).open("ab") as file:
                file.write(b"more")
            return found

        return called

    monkeypatch.setattr(_staging._Source, "read_all", growing(read_all))
    monkeypatch.setattr(_staging._Source, "copy_to", growing(copy_to))
    artifact = draft()
    for path in (small, large):
        with pytest.raises(InvalidInputError, match="changed while"):
            artifact.add_file(path)
    assert artifact.file_count == 0
    monkeypatch.undo()
    artifact.add_file(large)
    assert run.log_artifact(artifact).verify()


def test_a_store_is_never_added(made, tmp_path, monkeypatch):
    """Opening and closing its Catalog here would drop SQLite's locks."""
    root = made({"x": "1", "d/y": "2"})
    run = wanllmdb.init(project="p", store=root / "d" / ".wanllmdb")
    monkeypatch.setenv("WANLLMDB_DIR", str(root / "d" / ".wanllmdb"))
    artifact = draft()
    artifact.add_dir(root)
    assert entries(run.log_artifact(artifact)) == {"x": 1, "d/y": 1}
    catalog = root / "d" / ".wanllmdb" / "catalog.db"
    other = draft()
    with pytest.raises(InvalidInputError, match="Store"):
        other.add_dir(root / "d" / ".wanllmdb")
    with pytest.raises(InvalidInputError, match="Store"):
        other.add_file(catalog)
    (root / "link").symlink_to(catalog)
    with pytest.raises(InvalidInputError, match="Store"):
        other.add_dir(root)
    with pytest.raises(InvalidInputError, match="Store"):
        other.add_file(root / "link")
    run.finish()


def test_an_unchanged_file_is_not_read_again(run, made, monkeypatch):
    """Its stat stands for its bytes once both times are old enough."""
    from wanllmdb import _staging

    root = made({"x": "1", "y": "2"})
    monkeypatch.setattr(_staging, "SETTLED_NS", -1)
    artifact = draft()
    artifact.add_dir(root)
    run.log_artifact(artifact)
    (root / "y").write_text("22")
    opened = []
    real = _staging._Source.__enter__
    monkeypatch.setattr(
        _staging._Source, "__enter__",
        lambda source: opened.append(Path(source.path).name) or real(source),
    )  # fmt: skip
    again = draft()
    again.add_dir(root)
    assert opened == ["y"]
    assert run.log_artifact(again).version == "v2"
    draft().add_dir(root, skip_cache=True)
    assert opened == ["y", "x", "y"]
