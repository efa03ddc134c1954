"""Whatever bit of a blob or a manifest flips, it is found, named, and never written."""

from __future__ import annotations

import pytest

import wanllmdb
from wanllmdb import _upkeep
from wanllmdb.errors import IntegrityError


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
