"""Drafts and versions, as users of W&B make and log them."""

from __future__ import annotations

import hashlib
import os
import socket
import unicodedata
from pathlib import Path

import pytest

import wanllmdb
from wanllmdb import Artifact
from wanllmdb.errors import (
    ArtifactStateError,
    ConflictError,
    EntryNotFoundError,
    InvalidInputError,
    InvalidNameError,
    MissingBlobError,
)


def entries(artifact):
    return {entry.path: entry.size for entry in artifact.files()}


def draft(name="a", **how):
    return Artifact(name, "dataset", **how)


# Adding


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


# Committing


def test_a_version_says_what_it_is(run, made):
    """The attributes W&B has, before and after."""
    artifact = draft(description="d", metadata={"n": 1, "deep": {"x": [1, None]}},
                     tags=["t"])  # fmt: skip
    assert (artifact.is_draft, artifact.state, artifact.name) == (True, "PENDING", "a")
    for what in ("version", "project", "source_run"):
        with pytest.raises(ArtifactStateError):
            getattr(artifact, what)
    for call in (artifact.wait, artifact.download, artifact.save, artifact.delete,
                 artifact.verify, artifact.checkout):  # fmt: skip
        with pytest.raises(ArtifactStateError):
            call()
    artifact.add_dir(made({"x": "1"}))
    before = artifact.digest
    logged = run.log_artifact(artifact, aliases=["best"], tags=["u"])
    assert logged is artifact
    assert logged.wait() is logged
    assert (logged.is_draft, logged.state, logged.name, logged.version) == (
        False, "COMMITTED", "a:v1", "v1",
    )  # fmt: skip
    assert (logged.qualified_name, logged.project) == ("p/a:v1", "p")
    assert (logged.digest, logged.size, logged.file_count) == (before, 1, 1)
    assert (logged.description, logged.metadata) == (
        "d",
        {"n": 1, "deep": {"x": [1, None]}},
    )
    assert (logged.tags, logged.aliases) == (["t", "u"], ["best"])
    assert (logged.source_run, logged.logged_by()) == ("p/r", "p/r")
    assert logged.created_at == logged.updated_at
    assert [a.name for a in run.logged_artifacts()] == ["a:v1"]
    for change in (
        lambda: logged.add_file("x"),
        lambda: logged.add_dir("."),
        lambda: logged.remove("x"),
        lambda: logged.new_file("y").__enter__(),
    ):
        with pytest.raises(ArtifactStateError):
            change()


def test_identical_content_gives_no_new_version(log, run, api):
    """Aliases, metadata, tags and edges are recorded all the same."""
    log("A")
    wanllmdb.finish()
    other = wanllmdb.init(project="p", id="s")
    artifact = draft(metadata={"m": 1}, tags=["t"])
    with artifact.new_file("x") as file:
        file.write("A")
    logged = other.log_artifact(artifact, aliases=["best", "latest", "v1"])
    assert (logged.version, logged.source_run) == ("v1", "p/r")
    found = api.artifact("p/a")
    assert (found.version, found.aliases, found.metadata, found.tags) == (
        "v1", ["best"], {"m": 1}, ["t"],
    )  # fmt: skip
    assert [a.name for a in other.logged_artifacts()] == ["a:v1"]


def test_older_content_gives_a_new_number(log, api, read, tmp_path):
    """Log A, B, A: `latest` gives A's bytes."""
    assert [log(text).version for text in "ABAA"] == ["v1", "v2", "v3", "v3"]
    assert read(api.artifact("a").download(tmp_path / "out")) == {"x": "A"}
    assert api.artifact("a:v1").digest == api.artifact("a:v3").digest
    found = api.artifact(f"a:@{api.artifact('a:v1').digest[7:15]}")
    assert found.version == "v3"


def test_content_is_stored_once(log, store):
    """Whatever its path and its artifact."""
    log({"x": "same", "y": "same", "d/z": "same"})
    log({"w": "same"}, name="b")
    blobs = [p for p in (store / "blobs").rglob("*") if p.is_file()]
    assert len(blobs) == 3  # two manifests


def test_an_artifact_keeps_its_type(log, run):
    """Another type is refused, and the draft can still be logged."""
    log("A")
    artifact = Artifact("a", "model")
    with artifact.new_file("x") as file:
        file.write("B")
    with pytest.raises(ConflictError, match="'dataset'"):
        run.log_artifact(artifact)
    assert artifact.is_draft
    again = artifact.new_draft()
    again._type = "dataset"
    assert run.log_artifact(again).version == "v2"


@pytest.mark.parametrize(
    "name", ["", "a b", "a/b", "a:b", "\u00e9", "n" * 129, 5, None]
)
def test_a_name_or_a_type_that_is_none_is_refused(name):
    """In the constructor."""
    with pytest.raises(InvalidNameError):
        Artifact(name, "dataset")


def test_metadata_may_have_100_000_bytes(run, api):
    """One more is refused, naming the largest key; then nothing was committed."""
    full = draft(metadata={"k": "x" * (100_000 - len('{"k":""}'))})
    assert run.log_artifact(full).version == "v1"
    assert api.artifact("a").metadata == full.metadata
    more = draft(metadata={"small": 1, "big": "x" * 99_979})
    more.metadata["big"] += "xx"
    with pytest.raises(InvalidInputError, match="'big'") as caught:
        run.log_artifact(more)
    assert caught.value.identity["key"] == "big"
    full.metadata = {"k": "x" * 100_000}
    with pytest.raises(InvalidInputError, match="'k'"):
        full.save()
    assert len(api.artifacts("dataset", "a")) == 1


def test_metadata_comes_back_as_it_was(run, api):
    """Whatever JSON holds, and what it does not."""
    metadata = {
        "nan": float("nan"),
        "big": 2**70,
        "~f": 1,
        "t": (1, 2),
        "e": "\U0001f600",
    }
    run.log_artifact(draft(metadata=metadata))
    found = api.artifact("a").metadata
    assert repr(found) == repr({**metadata, "t": [1, 2]})


def test_an_empty_artifact_is_a_version(run, api, tmp_path):
    """Of no entries."""
    logged = run.log_artifact(draft())
    assert (logged.version, logged.size, logged.file_count) == ("v1", 0, 0)
    assert os.listdir(logged.download(tmp_path / "out")) == []


def test_a_path_becomes_an_artifact(run, made, tmp_path):
    """A file or a directory, named after run and file where no name is given."""
    root = made({"x": "1", "d/y": "2"})
    logged = run.log_artifact(root / "x")
    assert (logged.name, logged.type) == ("run-r-x:v1", "unspecified")
    logged = run.log_artifact(str(root), name="tree", type="dataset", aliases="best")
    assert (logged.name, logged.aliases) == ("tree:v1", ["best"])
    assert entries(logged) == {"x": 1, "d/y": 1}
    odd = tmp_path / "h\u00e9 & co"
    odd.write_text("1")
    assert run.log_artifact(odd).name == "run-r-h----co:v1"
    with pytest.raises(InvalidInputError):
        run.log_artifact(tmp_path / "none")


def test_a_version_that_is_logged_again_gets_what_is_given(log, run):
    """Edges, aliases and tags."""
    first = log("A")
    wanllmdb.finish()
    other = wanllmdb.init(project="p", id="s")
    other.log_artifact(first, aliases=["best"], tags=["t"])
    assert (first.aliases, first.tags) == (["best"], ["t"])
    assert [a.name for a in other.logged_artifacts()] == ["a:v1"]


def test_a_draft_goes_to_the_store_of_the_run(made, tmp_path, run):
    """Wherever its bytes were put before."""
    artifact = draft()
    artifact.add_dir(made({"x": "1", "big": "b" * (3 << 20)}))
    run.log_artifact(artifact.new_draft())
    again = draft()
    again.add_dir(made({"x": "1", "y": "2"}))  # x is in the first Store already
    wanllmdb.finish()
    with wanllmdb.init(project="p", store=tmp_path / "other") as other:
        assert other.log_artifact(again).verify()
    with wanllmdb.Api(tmp_path / "other") as api:
        assert api.artifact("a").verify()
        assert entries(api.artifact("a")) == {"x": 1, "y": 1}


def test_a_version_of_another_store_is_logged_as_a_draft(log, tmp_path, read):
    """As the error says that refuses the version itself."""
    first = log({"x": "1", "d/y": "2"})
    wanllmdb.finish()
    with wanllmdb.init(project="p", store=tmp_path / "other") as other:
        for call in (other.log_artifact, other.use_artifact):
            with pytest.raises(InvalidInputError, match="another Store"):
                call(first)
        copied = first.new_draft()
        copied.remove("x")
        assert other.log_artifact(copied).verify()
    with wanllmdb.Api(tmp_path / "other") as api:
        assert read(api.artifact("a").download(tmp_path / "o")) == {"d/y": "2"}


def test_bytes_that_are_gone_before_the_commit_are_named(log, run, blob, api):
    """A draft of a version relies on the Store's blobs."""
    copied = log({"x": "1", "d/y": "2"}).new_draft()
    with copied.new_file("z") as file:
        file.write("3")
    blob(copied.get_entry("d/y").digest).unlink()
    with pytest.raises(MissingBlobError, match="'d/y'"):
        run.log_artifact(copied)
    assert copied.is_draft
    assert len(api.artifacts("dataset", "a")) == 1
    with copied.new_file("d/y", mode="w") as file:
        file.write("2")
    assert run.log_artifact(copied).verify()


def test_a_draft_that_is_dropped_leaves_nothing(run, store, made):
    """Nor does one that was committed."""
    root = made({"x": "1", "y": "y" * (2 << 20)})
    for _ in range(3):
        artifact = draft()
        artifact.add_dir(root)
        with pytest.raises(KeyError), artifact.new_file("z"):
            raise KeyError
        del artifact
    logged = draft()
    logged.add_dir(root)
    run.log_artifact(logged)
    assert list((store / "tmp").iterdir()) == []


def test_a_draft_that_another_run_of_the_process_logs(made, store):
    """Runs may end, and the module may be torn down, between add and log."""
    artifact = draft()
    artifact.add_dir(made({"x": "1"}))
    wanllmdb.init(project="p").finish()
    wanllmdb.teardown()
    with wanllmdb.init(project="p") as run:
        artifact.add_dir(made({"y": "1"}))
        assert entries(run.log_artifact(artifact)) == {"x": 1, "y": 1}


def test_mode_disabled_keeps_nothing(store):
    """Artifacts still behave: what is logged comes back as a draft."""
    with wanllmdb.init(mode="disabled") as run:
        artifact = draft(metadata={"a": 1})
        assert run.log_artifact(artifact, aliases=["best"]) is artifact
        with pytest.raises(ArtifactStateError):
            run.use_artifact("a:latest")
    assert not store.exists()
