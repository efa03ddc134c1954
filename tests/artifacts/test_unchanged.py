"""Directories that are as they were are not read again; whatever changed is."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wanllmdb
from wanllmdb import _digest, _gc, _scanning, _staging
from wanllmdb._catalog import stat_cache
from wanllmdb._catalog.stat_cache import Listing
from wanllmdb.types import Digest, Stat

NAMES = ("a", "b.txt", "long name", ".hidden", "é", "e\u0301", "\u212a", "K", " s", "-")
PLACES = ("", "d", "d/e", "\u212a", "K", ".g")
TICK = 0.012
"""Seconds after which a file's times differ for sure; the kernel counts in 4 ms."""

paths = st.tuples(st.sampled_from(PLACES), st.sampled_from(NAMES))
steps = st.one_of(
    st.tuples(st.just("write"), paths, st.sampled_from(["1", "2", "33"])),
    st.tuples(st.just("remove"), paths, st.none()),
    st.tuples(st.just("move"), paths, paths),
    st.tuples(st.just("link"), paths, paths),
    st.tuples(st.just("back"), paths, st.sampled_from(["1", "2"])),
)


@pytest.fixture
def settled(monkeypatch):
    """A stat stands for the bytes at once; who changes a file waits for a tick."""
    monkeypatch.setattr(_staging, "SETTLED_NS", -1)


@pytest.fixture
def opened(monkeypatch):
    """The files that were read, in a list that can be cleared."""
    found: list[str] = []
    enter = _staging._Source.__enter__

    def noted(source):
        found.append(source.path)
        return enter(source)

    monkeypatch.setattr(_staging._Source, "__enter__", noted)
    return found


def change(root: Path, what: str, place: tuple[str, str], more: object) -> None:
    """Do one thing to a directory; what cannot be done is left."""
    path = root / place[0] / place[1]
    try:
        if what == "write":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(str(more))
        elif what == "remove":
            path.unlink()
        elif what == "back":  # other bytes, of the same size and time
            times = path.stat()
            path.write_text(str(more))
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        else:
            assert isinstance(more, tuple)
            goal = root / more[0] / more[1]
            goal.parent.mkdir(parents=True, exist_ok=True)
            (path.rename if what == "move" else goal.symlink_to)(
                goal if what == "move" else path
            )
    except OSError:
        pass


def added(root: Path, **how) -> object:
    """What is in a draft of a directory; or why it cannot be added."""
    draft = wanllmdb.Artifact("a", "t")
    try:
        draft.add_dir(root, **how)
    except wanllmdb.errors.WanllmdbError as error:
        return error.message
    return {path: entry.digest for path, entry in draft.manifest.items()}


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(steps, max_size=4), min_size=1, max_size=4))
def test_a_directory_is_added_as_if_it_was_never_seen(tmp_path_factory, rounds):
    """Whatever is written, moved, linked and removed between two adds."""
    place = tmp_path_factory.mktemp("law")
    root = place / "data"
    for where, name in (("d", "a"), ("d", "b.txt"), ("K", "a"), ("", ".hidden")):
        change(root, "write", (where, name), name)
    before, _staging.SETTLED_NS = _staging.SETTLED_NS, -1
    try:
        with wanllmdb.init(project="p", store=place / "store") as run:
            for changes in [[], *rounds, []]:
                time.sleep(TICK)
                for one in changes:
                    change(root, *one)
                time.sleep(TICK)
                assert added(root) == added(root, skip_cache=True)
                if not isinstance(added(root), str):
                    draft = wanllmdb.Artifact("a", "t")
                    draft.add_dir(root)
                    run.log_artifact(draft)
    finally:
        _staging.SETTLED_NS = before


def test_unchanged_files_are_not_read(log_dir, made, opened, settled):
    """Nor are those of a directory in which others changed."""
    root = log_dir(made({"d/x": "1", "d/y": "2", "e/z": "3"}))
    opened.clear()
    log_dir(root)
    assert opened == []
    time.sleep(TICK)
    (root / "d" / "y").write_text("4")
    log_dir(root)
    assert opened == [str(root / "d" / "y")]


def test_two_directories_of_one_path_are_noticed_beside_unchanged_ones(
    log_dir, made, settled
):
    """In NFC the Kelvin sign is a K, so that two files would have one path."""
    root = log_dir(made({"K/a": "1"}))
    (root / "\u212a").mkdir()
    (root / "\u212a" / "a").write_text("2")
    draft = wanllmdb.Artifact("a", "dataset")
    with pytest.raises(wanllmdb.errors.InvalidInputError, match="'K/a', too"):
        draft.add_dir(root)
    (root / "\u212a" / "a").rename(root / "\u212a" / "b")
    draft.add_dir(root)
    assert set(draft.manifest) == {"K/a", "K/b"}


def test_files_whose_blobs_are_gone_are_read_again(
    log_dir, made, opened, settled, blob
):
    """Also in a directory that is as it was; the version is whole."""
    root = log_dir(made({"d/x": "1", "d/y": "2", "e/z": "3"}))
    blob(_digest.of_bytes(b"2")).unlink()
    opened.clear()
    again = wanllmdb.Artifact("b", "dataset")
    again.add_dir(root)
    assert opened == [str(root / "d" / "y")]
    assert wanllmdb.run.log_artifact(again).verify()  # type: ignore[union-attr]


def test_a_file_by_itself_and_its_directory_are_known_apart(run, made, opened, settled):
    """One file of a directory of thousands costs no look at the others."""
    root = made({"x": "1", "y": "2"})
    time.sleep(TICK)
    for _ in range(2):
        draft = wanllmdb.Artifact("a", "dataset")
        draft.add_file(root / "x")
        run.log_artifact(draft)
    assert opened == [str(root / "x")]


@pytest.mark.parametrize("count", [3, 3000])
def test_blobs_are_found_by_name_or_one_by_one(run, count, tmp_path, store, blob):
    """Few of many, and many of many; those in the trash come back."""
    (tmp_path / "data").mkdir()
    for number in range(3000):
        (tmp_path / "data" / f"{number}").write_text(f"{number}")
    draft = wanllmdb.Artifact("a", "dataset")
    draft.add_dir(tmp_path / "data")
    run.log_artifact(draft)
    digests = [_digest.of_bytes(f"{number}".encode()) for number in range(count)]
    blob(digests[0]).unlink()
    trash = store / "trash" / "blobs"
    trash.mkdir(parents=True, exist_ok=True)
    blob(digests[1]).rename(trash / blob(digests[1]).name)
    blobs = run._store.blobs
    assert blobs.listed(digests) == set(digests[1:])
    assert blobs.listed([Digest("sha256:" + "0" * 64)]) == set()
    assert blob(digests[1]).exists()


def test_gc_forgets_places_that_are_gone(log_dir, made, settled, run):
    """So that the cache does not grow for ever."""
    root = log_dir(made({"d/x": "1", "e/y": "2"}))
    reader = run._store.catalog.reader
    known = stat_cache.below(reader, str(root))
    assert set(known) == {str(root / "d"), str(root / "e")}
    (root / "d" / "x").unlink()
    (root / "d").rmdir()
    _gc.collect(run._store, dry_run=True)
    assert stat_cache.below(reader, str(root)) == known
    _gc.collect(run._store)
    assert set(stat_cache.below(reader, str(root))) == {str(root / "e")}


@pytest.fixture
def log_dir(run):
    """Log a directory that nobody changes."""

    def log_all(root):
        time.sleep(TICK)
        draft = wanllmdb.Artifact("a", "dataset")
        draft.add_dir(root)
        run.log_artifact(draft)
        return root

    return log_all


numbers = st.integers(-(1 << 63), (1 << 63) - 1)
files = st.dictionaries(
    st.text(min_size=1).filter(lambda name: "/" not in name and "\0" not in name),
    st.tuples(st.builds(Stat, numbers, numbers, numbers, numbers),
              st.binary(min_size=32, max_size=32).map(lambda b: f"sha256:{b.hex()}")),
    min_size=1,
)  # fmt: skip


@given(files)
def test_a_listing_gives_back_what_it_was_made_of(found):
    """But for names that are no UTF-8."""
    listing = Listing.of(found)
    kept = {
        name: one for name, one in found.items()
        if name.encode(errors="surrogatepass").decode(errors="replace") == name
    }  # fmt: skip
    if listing is None:
        assert not kept
    else:
        assert listing.files() == kept
        assert listing.sizes() == [kept[name][0].size for name in listing.names]
        assert listing.held() == [kept[name][1] for name in listing.names]


def test_a_number_that_is_too_large_is_not_kept():
    """Inodes of some network filesystems need all 64 bits."""
    one = Stat(1, 1, 1, 1 << 63), Digest("sha256:" + "0" * 64)
    assert Listing.of({"x": one}) is None


def test_a_limit_counts_unchanged_files_too(tmp_path):
    """As references of directories have one."""
    (tmp_path / "x").write_text("1")
    one = Stat.of((tmp_path / "x").stat()), Digest("sha256:" + "0" * 64)
    listing = Listing.of({"x": one})
    assert listing is not None
    known = {str(tmp_path): listing}
    assert len(_scanning.scan(tmp_path, known=known).unchanged) == 1
    with pytest.raises(wanllmdb.errors.InvalidInputError, match="more than 0"):
        _scanning.scan(tmp_path, limit=0, known=known)
