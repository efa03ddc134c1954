"""Versions as files: right or not there, and nothing outside the directory."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

import wanllmdb
from wanllmdb import _staging, _targets
from wanllmdb.errors import (
    DigestMismatchError,
    EntryNotFoundError,
    IntegrityError,
    InvalidInputError,
    MissingBlobError,
)

TEXTS = {"x": "1", "d/y": "22", "d/e/z": "333", "dx": "4"}


@pytest.fixture
def version(log):
    """A version of four files."""
    return log(TEXTS)


def spoil(path: Path, data: bytes | None = None) -> None:
    """Flip a bit of a file, or set its bytes, with its times as they were."""
    before = path.stat()
    found = bytearray(path.read_bytes())
    found[-1] ^= 1
    path.chmod(0o600)
    path.write_bytes(bytes(found) if data is None else data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_download_is_a_private_writable_copy(version, tmp_path, read, monkeypatch):
    """Below ./artifacts/NAME-vN, or where it is asked for."""
    monkeypatch.chdir(tmp_path)
    assert version.download() == "artifacts/a-v1"
    assert read("artifacts/a-v1") == TEXTS
    place = Path(version.download(tmp_path / "deep" / "er"))
    (place / "x").write_text("changed")
    assert stat.S_IMODE((place / "d" / "y").stat().st_mode) & 0o600 == 0o600
    assert version.verify()
    assert {p.name for p in place.rglob("*")} == {"x", "d", "y", "e", "z", "dx"}


def test_what_is_right_stays_and_what_is_not_is_written(version, tmp_path, read):
    """Also where the wrong bytes are as many; others' files stay."""
    place = Path(version.download(tmp_path / "o"))
    before = {name: (place / name).stat() for name in TEXTS}
    (place / "x").write_text("2")
    (place / "d" / "y").unlink()
    (place / "more").write_text("mine")
    version.download(place)
    after = {name: (place / name).stat() for name in TEXTS}
    assert read(place) == {**TEXTS, "more": "mine"}
    for name in ("dx", "d/e/z"):
        assert before[name] == after[name]
    assert before["x"].st_ino != after["x"].st_ino


def test_a_file_of_the_right_size_and_times_is_known_by_its_ctime(
    version, tmp_path, read, monkeypatch
):
    """What was hashed before is trusted only as long as nothing changed."""
    monkeypatch.setattr(_staging, "SETTLED_NS", -1)
    place = Path(version.download(tmp_path / "o"))
    version.download(place)
    spoil(place / "x", b"2")
    version.download(place)
    assert read(place) == TEXTS


@pytest.mark.parametrize(("prefix", "names"), [
    ("d", {"d/y", "d/e/z"}), ("d/", {"d/y", "d/e/z"}), ("x", {"x"}),
    ("./d//e", {"d/e/z"}),
])  # fmt: skip
def test_a_part_can_be_downloaded(version, tmp_path, read, prefix, names):
    """A path, or what is below it."""
    found = read(version.download(tmp_path / "o", path_prefix=prefix))
    assert found == {name: TEXTS[name] for name in names}


def test_a_part_that_is_not_there_is_an_error(version, tmp_path):
    """Also for single entries."""
    for prefix in ("dd", "d/y/z", "x/"[:1] + "0"):
        with pytest.raises(EntryNotFoundError):
            version.download(tmp_path / "o", path_prefix=prefix)
    with pytest.raises(EntryNotFoundError):
        version.get_entry("none")
    assert not (tmp_path / "o").exists()


def test_single_entries_are_downloaded(version, tmp_path, monkeypatch, log):
    """By entry, by path, and the only one."""
    monkeypatch.chdir(tmp_path)
    path = version.get_entry("d/y").download(root="o")
    assert (path, Path(path).read_text()) == ("o/d/y", "22")
    held = version.get_path("d/e/z")
    assert held.read_text() == "333"
    assert held.download(root="p") == "p/d/e/z"
    assert Path(log("one").file(root="q")).read_text() == "one"
    with pytest.raises(InvalidInputError, match="4 files"):
        version.file()


def test_damaged_bytes_are_never_written(version, tmp_path, read, blob, store):
    """Nor do they replace what is there; the error names artifact and path."""
    digest = version.get_entry("d/y").digest
    place = Path(version.download(tmp_path / "o"))
    (place / "d" / "y").write_text("mine")
    spoil(blob(digest))
    for root in (place, tmp_path / "new"):
        with pytest.raises(IntegrityError, match=r"p/a:v1.*'d/y'"):
            version.download(root)
    assert read(place)["d/y"] == "mine"
    assert "d/y" not in read(tmp_path / "new")
    with pytest.raises(IntegrityError, match=r"p/a:v1.*'d/y' is missing"):
        version.verify()
    with pytest.raises(MissingBlobError, match=r"p/a:v1.*'d/y'"):
        version.download(tmp_path / "new")
    with pytest.raises(IntegrityError, match=r"'d/y' is missing"):
        version.verify()
    assert not list(tmp_path.rglob("*.part"))


def test_a_damaged_manifest_is_refused(version, tmp_path, blob, api):
    """Nothing is written by it."""
    whole = blob(version.digest).read_bytes()
    for what in ("download", "verify", "files", "checkout"):
        spoil(blob(version.digest))
        with pytest.raises(DigestMismatchError, match="manifest of p/a:v1"):
            getattr(api.artifact("a"), what)()
        blob(version.digest).write_bytes(whole)  # where it was; it is set aside
    blob(version.digest).unlink()
    with pytest.raises(MissingBlobError, match="manifest of p/a:v1"):
        api.artifact("a").download(tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_verify_reads_every_byte_of_a_directory(version, tmp_path):
    """All that is wrong is named."""
    place = Path(version.download(tmp_path / "o"))
    assert version.verify(place)
    spoil(place / "x")
    (place / "d" / "y").unlink()
    with pytest.raises(IntegrityError, match=r"'d/y' is missing.*'x' have changed"):
        version.verify(place)


def test_a_disk_that_cannot_be_read_is_a_problem_with_a_name(version, monkeypatch):
    """Not an error without one."""

    def fails(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("hashlib.file_digest", fails)
    with pytest.raises(IntegrityError, match=r"'x'.*Input/output error"):
        version.verify()


# Links, files and directories in the way


def test_a_link_in_the_target_is_never_followed(version, tmp_path, read):
    """One to a directory is refused, one to a file is replaced."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "y").write_text("theirs")
    place = tmp_path / "o"
    place.mkdir()
    (place / "d").symlink_to(outside)
    with pytest.raises(InvalidInputError, match="'d/"):
        version.download(place)
    (place / "d").unlink()
    for aim in (outside / "y", outside / "new", outside):
        (place / "x").unlink(missing_ok=True)
        (place / "x").symlink_to(aim)
        version.download(place)
        assert not (place / "x").is_symlink()
    assert read(place) == TEXTS
    assert read(outside) == {"y": "theirs"}


def test_a_right_file_behind_a_link_does_not_count(version, tmp_path, read):
    """The target shall hold the file itself."""
    first = Path(version.download(tmp_path / "first"))
    place = tmp_path / "o"
    place.mkdir()
    (place / "x").symlink_to(first / "x")
    version.download(place)
    assert not (place / "x").is_symlink()


def test_what_is_in_the_way_is_named(version, tmp_path):
    """A file where a directory must be, and the reverse."""
    place = tmp_path / "o"
    (place / "x").mkdir(parents=True)
    with pytest.raises(InvalidInputError, match="'x'"):
        version.download(place)
    (place / "x").rmdir()
    place = tmp_path / "p"
    place.mkdir()
    (place / "d").write_text("")
    with pytest.raises(InvalidInputError, match="'d/"):
        version.download(place)
    with pytest.raises(InvalidInputError, match="another directory"):
        version.download(place / "d")
    os.mkfifo(place / "dx")
    (place / "d").unlink()
    version.download(place)
    assert (place / "dx").read_text() == "4"


@pytest.mark.parametrize("name", ["n" * 255, "\u00e9" * 127, "\U0001f600" * 63,
                                  "/".join(["\u00e9" * 100] * 5)])  # fmt: skip
def test_the_longest_names_can_be_downloaded(log, tmp_path, read, name):
    """A draft's name beside it is never longer."""
    assert read(log({name: "1"}).download(tmp_path / "o")) == {name: "1"}


def test_names_that_differ_by_case_need_a_target_that_tells_them(
    log, tmp_path, read, monkeypatch
):
    """Refused on one that does not, before anything is written."""
    both = log({"Data/x": "1", "data/X": "2"})
    assert read(both.download(tmp_path / "o")) == {"Data/x": "1", "data/X": "2"}
    monkeypatch.setattr(_targets, "_ignores_case", lambda target: True)
    with pytest.raises(InvalidInputError, match="'Data/x' and 'data/X'"):
        both.download(tmp_path / "p")
    assert list((tmp_path / "p").iterdir()) == []


def test_a_target_whose_name_is_no_text_is_one(version, tmp_path, read, monkeypatch):
    """It is downloaded to, and known again."""
    monkeypatch.setattr(_staging, "SETTLED_NS", -1)
    place = tmp_path / os.fsdecode(b"o\xff")
    for _ in range(3):
        assert read(version.download(place)) == TEXTS


# Checkout


def test_checkout_removes_what_is_not_in_the_version(version, log, tmp_path, read):
    """Links, files, directories; what they lead to stays."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("1")
    place = Path(version.checkout(tmp_path / "o"))
    (place / "more" / "deep").mkdir(parents=True)
    (place / "more" / "file").write_text("1")
    (place / "link").symlink_to(outside)
    (place / "d" / "l").symlink_to(outside / "kept")
    (place / "dx").write_text("changed")
    version.checkout(place)
    assert read(place) == TEXTS
    assert {p.name for p in place.iterdir()} == {"x", "d", "dx"}
    assert read(outside) == {"kept": "1"}


def test_checkout_turns_files_into_directories_and_back(version, log, tmp_path, read):
    """What is in the way is no part of the version."""
    other = {"x/deep": "1", "d": "2"}
    second = log(other)
    place = tmp_path / "o"
    for _ in range(2):
        assert read(second.checkout(place)) == other
        assert read(version.checkout(place)) == TEXTS
    (place / "d" / "y").unlink()
    (place / "d" / "e" / "z").unlink()
    (place / "d" / "e").rmdir()
    (place / "d").rmdir()
    (place / "d").symlink_to(tmp_path)
    assert read(version.checkout(place)) == TEXTS


def test_checkout_and_download_spare_the_store_and_the_home(
    version, store, tmp_path, monkeypatch
):
    """Nothing is removed or written there."""
    before = sorted(store.rglob("*"))
    for root in (store, store / "blobs", store / "tmp" / "new", store.parent, "/"):
        with pytest.raises(InvalidInputError):
            version.checkout(root)
    for root in (store, store / "blobs"):
        with pytest.raises(InvalidInputError):
            version.download(root)
    home = tmp_path / "users" / "me"
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    for root in (home, home.parent):
        with pytest.raises(InvalidInputError):
            version.checkout(root)
    assert sorted(store.rglob("*")) == before


def test_a_run_s_own_directory_can_be_downloaded_to(version, run, read):
    """It lies in the Store, and is the run's."""
    place = Path(run.dir) / "data"
    assert read(version.download(place)) == TEXTS
    assert read(version.checkout(place)) == TEXTS


def test_a_store_that_can_only_be_read_gives_its_versions(
    version, store, tmp_path, read
):
    """Nothing is noted there."""
    wanllmdb.teardown()
    with wanllmdb.Api(store) as api:
        api.store.read_only = api.store.catalog.read_only = True
        found = api.artifact("a")
        for _ in range(2):
            assert read(found.download(tmp_path / "o")) == TEXTS
        assert found.verify()
