"""Whatever bit of a blob or a manifest flips, it is found, named, and never written."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

import wanllmdb
from wanllmdb import _trash, _upkeep
from wanllmdb.cli import cli
from wanllmdb.errors import IntegrityError, MissingBlobError


@pytest.fixture
def version():
    """A version of two small files."""
    with wanllmdb.init(project="p", id="r") as run:
        draft = wanllmdb.Artifact("ds", "dataset")
        for name, text in (("a.txt", "first"), ("d/b.txt", "second")):
            with draft.new_file(name) as file:
                file.write(text)
        yield run.log_artifact(draft)


def flipped(path):
    """Flip each bit of a file, one after the other; it is whole at the end."""
    whole = path.read_bytes()
    path.chmod(0o600)
    for bit in range(len(whole) * 8):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        yield bit
    path.write_bytes(whole)


def test_each_flipped_bit_of_a_blob_is_named_and_refused(version, tmp_path):
    """By artifact and path; the other file is written all the same."""
    blobs = version._place().blobs
    entry = version.get_entry("d/b.txt")
    for bit in flipped(blobs.path_of(entry.digest)):
        found = list(_upkeep.blob_problems(version._place()))
        assert len(found) == 1, bit
        assert found[0].startswith("p/ds:v1: the bytes of 'd/b.txt' have changed")
        with pytest.raises(IntegrityError, match=r"p/ds:v1: the bytes of 'd/b\.txt'"):
            version.download(tmp_path / "out")
        assert not (tmp_path / "out" / "d" / "b.txt").exists()
    assert (tmp_path / "out" / "a.txt").read_text() == "first"
    assert version.verify()
    version.download(tmp_path / "out")
    assert version.verify(tmp_path / "out")


def test_each_flipped_bit_of_a_manifest_is_found(version, tmp_path):
    """No entry of it is believed."""
    store = version._place()
    for bit in flipped(store.blobs.path_of(version.digest)):
        found = list(_upkeep.blob_problems(store))
        assert any("p/ds:v1: the manifest" in line for line in found), bit
        with wanllmdb.Api() as api, pytest.raises(IntegrityError, match="p/ds:v1"):
            api.artifact("p/ds").download(tmp_path / "out")
        assert not (tmp_path / "out").exists()
    assert list(_upkeep.blob_problems(store)) == []


def test_logging_the_files_again_mends_a_missing_blob(version, tmp_path):
    """The same content is the same version, and whole again."""
    place = version._place().blobs.path_of(version.get_entry("a.txt").digest)
    place.unlink()
    with pytest.raises(IntegrityError, match="missing"):
        version.verify()
    files = tmp_path / "files"
    (files / "d").mkdir(parents=True)
    (files / "a.txt").write_text("first")
    (files / "d" / "b.txt").write_text("second")
    with wanllmdb.init(project="p", id="again") as run:
        again = run.log_artifact(files, name="ds", type="dataset")
    assert again.version == "v1"
    assert again.verify()


def test_logging_a_file_again_mends_a_blob_that_was_cut_short(version, tmp_path):
    """Its size tells; the good bytes take its place."""
    place = version._place().blobs.path_of(version.get_entry("a.txt").digest)
    place.chmod(0o600)
    place.write_bytes(b"fir")
    path = tmp_path / "first.txt"
    path.write_text("first")
    with wanllmdb.init(project="p", id="again") as run:
        made = run.log_artifact(path, name="other", type="dataset")
    assert made.verify()
    assert version.verify()


@pytest.fixture
def files(tmp_path):
    """The files that the version was made of."""
    root = tmp_path / "files"
    (root / "d").mkdir(parents=True)
    (root / "a.txt").write_text("first")
    (root / "d" / "b.txt").write_text("second")
    return root


def flip_one(path):
    """Change one bit in place: no name, size or place tells it."""
    path.chmod(0o600)
    with path.open("r+b") as file:
        byte = file.read(1)[0]
        file.seek(0)
        file.write(bytes([byte ^ 1]))


def invoked(*words):
    return CliRunner().invoke(cli, list(words))


def test_a_flipped_bit_is_mended_by_adding_the_file_again(version, files, tmp_path):
    """Once `verify` has found it: by another artifact, with no word of the first."""
    place = version._place().blobs.path_of(version.get_entry("d/b.txt").digest)
    flip_one(place)
    told = invoked("store", "verify")
    assert told.exit_code != 0
    assert "p/ds:v1: the bytes of 'd/b.txt' have changed" in told.output
    with pytest.raises(MissingBlobError, match=r"p/ds:v1: .*'d/b\.txt'") as raised:
        version.download(tmp_path / "out")
    assert "Add the same file" in raised.value.hint
    with wanllmdb.init(project="p", id="again") as run:
        run.log_artifact(files / "d" / "b.txt", name="other", type="dataset")
    assert invoked("store", "verify").exit_code == 0
    version.download(tmp_path / "out")
    assert (tmp_path / "out" / "d" / "b.txt").read_text() == "second"


@pytest.mark.parametrize("how", ["download", "verify"])
def test_who_finds_a_flipped_bit_makes_room_for_the_whole_bytes(
    version, files, tmp_path, how
):
    """The error says what to do; done, all is well."""
    flip_one(version._place().blobs.path_of(version.get_entry("a.txt").digest))
    with pytest.raises(IntegrityError, match=r"'a\.txt' have changed") as raised:
        version.download(tmp_path / "out") if how == "download" else version.verify()
    assert "Add the same file" in raised.value.hint
    with wanllmdb.init(project="p", id="again") as run:
        assert run.log_artifact(files, name="ds", type="dataset").version == "v1"
    assert version.verify()
    version.download(tmp_path / "out")
    assert version.verify(tmp_path / "out")


@pytest.mark.parametrize("found_by", ["verify", "use"])
def test_logging_the_same_again_mends_a_manifest(version, files, found_by):
    """Its bytes follow from the content."""
    flip_one(version._place().blobs.path_of(version.digest))
    if found_by == "verify":
        assert "p/ds:v1: the manifest" in invoked("store", "verify").output
    else:
        with wanllmdb.Api() as api, pytest.raises(IntegrityError) as raised:
            api.artifact("p/ds").files()
        assert "Log the same content again" in raised.value.hint
    with wanllmdb.init(project="p", id="again") as run:
        assert run.log_artifact(files, name="ds", type="dataset").version == "v1"
    assert invoked("store", "verify").exit_code == 0


def test_a_damaged_blob_lies_in_the_trash_until_it_is_emptied(version):
    """It is shown there, and never taken for the content that it was."""
    digest = version.get_entry("a.txt").digest
    place = version._place().blobs.path_of(digest)
    flip_one(place)
    damaged = place.read_bytes()
    invoked("store", "verify")
    (row,) = json.loads(invoked("trash", "ls", "--json").stdout)
    assert (row["damaged"], row["size"]) == ("blob", 5)
    aside = version._place().path / row["path"]
    assert aside.read_bytes() == damaged
    assert version._place().blobs.put_bytes(b"first") == digest
    assert place.read_bytes() == b"first"
    assert invoked("trash", "empty", "--yes").exit_code == 0
    assert not aside.exists()
    assert version.verify()


def test_a_blob_that_was_only_misread_comes_back(version):
    """Its bytes are right after all."""
    store = version._place()
    digest = version.get_entry("a.txt").digest
    assert not store.blobs.set_aside(digest)
    flip_one(store.blobs.path_of(digest))
    assert store.blobs.set_aside(digest)
    (aside,) = _trash.listed(store)
    flip_one(aside.path)
    assert "whole" in _trash.discard(store, aside)
    assert version.verify()
    assert _trash.listed(store) == []


def test_bytes_that_are_stored_meanwhile_are_not_set_aside(version, monkeypatch):
    """Somebody mends the blob between the look and the move."""
    store = version._place()
    place = store.blobs.path_of(version.get_entry("a.txt").digest)
    flip_one(place)
    rename = type(place).rename

    def mended_first(path, goal):
        monkeypatch.undo()
        place.unlink()
        place.write_text("first")
        return rename(path, goal)

    monkeypatch.setattr(type(place), "rename", mended_first)
    assert not store.blobs.set_aside(version.get_entry("a.txt").digest)
    assert version.verify()
