"""Values in artifacts: they come back equal, as ordinary files that are kept once."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np  # noqa: TID253 - what images are made of
import pytest

import wanllmdb
from wanllmdb import Artifact, Html, Image, Table, _gc
from wanllmdb._media import documents
from wanllmdb.errors import (
    ArtifactStateError,
    DigestMismatchError,
    IntegrityError,
    InvalidInputError,
)


def test_a_value_comes_back_equal_from_a_version_and_from_a_draft(run, value):
    """By its name, and by the path of its document."""
    draft = Artifact("a", "dataset")
    entry = draft.add(value, "it")
    assert entry.path == f"it.{value.TYPE}.json"
    assert draft.get("it") == value
    version = run.log_artifact(draft)
    assert version.get("it") == value
    assert version.get(entry.path) == value
    assert version.new_draft().get("it") == value
    with wanllmdb.Api() as api:
        assert api.artifact("p/a").get("it") == value
    assert version.get("else") is None


def test_a_value_got_from_a_draft_stays_when_it_is_committed(run, pixels):
    """Its bytes are read when they are used, wherever they are by then."""
    draft = Artifact("a", "dataset")
    draft.add(Image(pixels), "it")
    got = draft.get("it")
    run.log_artifact(draft)
    assert (np.asarray(got.image) == pixels).all()


def test_it_is_all_files(run, each, tmp_path):
    """Downloaded, verified, listed as any other; only under media/ and by its name."""
    draft = Artifact("a", "dataset")
    for name, value in each.items():
        draft.add(value, f"all/{name}")
    version = run.log_artifact(draft)
    root = Path(version.download(tmp_path / "copy"))
    assert version.verify()
    assert version.verify(root)
    kinds = {path.split("/")[0] for path in version.manifest}
    assert kinds == {"all", "media"}
    document = json.loads((root / "all" / "Image.image-file.json").read_text())
    assert (root / document["path"]).read_bytes() == each["Image"].read()
    assert document["caption"] == "a cat"


def test_the_same_bytes_are_kept_once(run, pixels, store):
    """In two tables, in two versions, in the run's own files."""
    image = Image(pixels)
    run.log({"image": image})
    for count in (1, 2):
        draft = Artifact("a", "dataset")
        draft.add(Table(["i"], [[image]] * count), "one")
        draft.add(Table(["i"], [[image]]), "two")
        run.log_artifact(draft)
    sizes = [path.stat().st_size for path in store.glob("blobs/*/*/*")]
    assert sizes.count(image.size) == 1


def test_content_that_has_not_changed_gives_no_new_version(run, each):
    """Documents are canonical: nothing of a time or of chance is in them."""
    for _ in range(2):
        draft = Artifact("a", "dataset")
        for name, value in each.items():
            draft.add(value, name)
        assert run.log_artifact(draft).version == "v1"


def test_a_name_holds_one_value(run, pixels):
    """Another of the same kind needs `overwrite`; the same again is no matter."""
    draft = Artifact("a", "dataset")
    draft.add(Html("one"), "page")
    draft.add(Html("one"), "page")
    with pytest.raises(InvalidInputError, match="page"):
        draft.add(Html("two"), "page")
    draft.add(Html("two"), "page", overwrite=True)
    assert draft.get("page") == Html("two")


@pytest.mark.parametrize("wrong", ["text", 3, {"a": 1}, np.zeros(3), None])
def test_only_values_are_added(wrong):
    """The message says what to do with others."""
    with pytest.raises(InvalidInputError, match="add_file"):
        Artifact("a", "dataset").add(wrong, "it")


@pytest.mark.parametrize("name", ["../x", "/x", "a\\b", "", "x" * 300])
def test_names_are_paths_of_the_artifact(name, pixels):
    """As those of files are."""
    with pytest.raises(InvalidInputError):
        Artifact("a", "dataset").add(Image(pixels), name)


def test_a_version_never_changes(run, pixels):
    """It is refused as adding a file is."""
    draft = Artifact("a", "dataset")
    draft.add(Image(pixels), "it")
    version = run.log_artifact(draft)
    with pytest.raises(ArtifactStateError):
        version.add(Image(pixels), "else")


def test_a_large_video_is_streamed(run, tmp_path):
    """What does not fit the memory's share is copied piece by piece."""
    path = tmp_path / "x.mp4"
    path.write_bytes(os.urandom(1 << 20) * 9)
    draft = Artifact("a", "dataset")
    draft.add(wanllmdb.Video(path), "it")
    raw = path.read_bytes()
    path.unlink()
    assert run.log_artifact(draft).get("it").read() == raw


def test_bytes_that_changed_are_not_given_out(run, pixels, store):
    """They are read when they are used, and compared then."""
    draft = Artifact("a", "dataset")
    draft.add(Image(pixels), "it")
    got = run.log_artifact(draft).get("it")
    (blob,) = [p for p in store.glob("blobs/*/*/*") if p.name == got.sha256]
    blob.chmod(0o600)
    blob.write_bytes(b"x" * got.size)
    with pytest.raises(DigestMismatchError):
        got.read()


def test_gc_leaves_what_a_draft_and_a_version_hold(run, each, store):
    """Also what a draft only shares with a run that goes."""
    draft = Artifact("a", "dataset")
    for name, value in each.items():
        draft.add(value, name)
    past = time.time() - 10 * 86_400
    for committed in (False, True):
        artifact = run.log_artifact(draft) if committed else draft
        for path in store.rglob("blobs/*/*/*"):
            os.utime(path, (past, past))
        _gc.collect(run._store, grace=60.0)
        for name, value in each.items():
            assert artifact.get(name) == value
    assert artifact.verify()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_reads_and_adds(run, pixels):
    """The parent's draft stays the parent's."""
    draft = Artifact("a", "dataset")
    draft.add(Image(pixels), "it")
    pid = os.fork()
    if not pid:
        try:
            draft.add(Html("child"), "page")
            os._exit(0 if draft.get("it").width == 7 else 1)
        finally:
            os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0
    assert draft.get("page") is None
    assert run.log_artifact(draft).get("it") == Image(pixels)


# Documents from anywhere


IMAGE = {"_type": "image-file", "path": "x.png", "width": 1, "height": 1}
TABLE = {"_type": "table", "columns": ["a"], "data": [[1]]}
HOSTILE = [
    "", "{", "[]", "null", "3", '"text"', '{"_type": "image-file"', "\0", "[" * 100_000,
    '{"~b": {"digest": "sha256:x", "size": 1}}', '{"~f": "nan"}',
    *map(json.dumps, [
        {}, {"_type": None}, {"_type": ["table"]}, {"_type": "joined-table"},
        {"_type": "os.system"}, {**TABLE, "_type": "image-file"},
        {**IMAGE, "path": None}, {**IMAGE, "path": ["x"]}, {**IMAGE, "path": "../x"},
        {**IMAGE, "path": "/etc/passwd"}, {**IMAGE, "path": "none.png"},
        {**IMAGE, "path": "away"}, {**IMAGE, "sha256": "0" * 64},
        {**IMAGE, "sha256": 3}, {**IMAGE, "width": "1"}, {**IMAGE, "width": None},
        {**IMAGE, "caption": 3},
        {**IMAGE, "classes": [3]}, {**IMAGE, "classes": {"path": "x.png"}},
        {**IMAGE, "boxes": {"a": {"path": "x.png"}}}, {**IMAGE, "boxes": [1]},
        {**IMAGE, "masks": {"a": 3}}, {**IMAGE, "masks": {"a": {"path": "none"}}},
        {"_type": "audio-file", "path": "x.png", "duration": "long"},
        {"_type": "video-file", "path": "x.png", "width": 1.5},
        {"_type": "histogram", "values": [1], "bins": [1]},
        {"_type": "histogram", "values": "x", "bins": None}, {"_type": "histogram"},
        {**TABLE, "columns": "a"}, {**TABLE, "columns": ["a", "a"]},
        {**TABLE, "columns": [["a"]]}, {**TABLE, "data": {"a": 1}},
        {**TABLE, "data": [{"a": 1}]}, {**TABLE, "data": [[1, 2]]},
        {**TABLE, "data": [1]}, {**TABLE, "nrows": 2}, {**TABLE, "kinds": ["text"]},
        {**TABLE, "kinds": [[1]]},
        {**TABLE, "kinds": []}, {**TABLE, "optional": [True, True]},
        {**TABLE, "data": [[{"_type": "else"}]]}, {**TABLE, "data": [[TABLE]]},
        {**TABLE, "data": [[{**IMAGE, "path": "../../x"}]]},
        {**TABLE, "data": [[{"_type": "mapping"}]]},
        {**TABLE, "data": [[{"_type": "mapping", "value": [1]}]]},
        {**TABLE, "data": [[{"_type": "datetime", "value": "soon"}]]},
        {**TABLE, "data": [[{"_type": "date", "value": 3}]]},
        *({**TABLE, "data": [[{"_type": "ndarray", **array}]]} for array in (
            {}, {"dtype": "O", "shape": [1], "base64": "AAAAAAAAAAA="},
            {"dtype": "f8", "shape": [1 << 40], "base64": "AAAAAAAAAAA="},
            {"dtype": "f8", "shape": [-1, 0], "base64": ""},
            {"dtype": "f8", "shape": "x", "base64": "AAAAAAAAAAA="},
            {"dtype": "no", "shape": [1], "base64": ""},
            {"dtype": [["a", "O"]], "shape": [1], "base64": "AAAAAAAAAAA="},
            {"dtype": "f8", "shape": [1], "base64": "%%"},
        )),
    ]),
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:60].replace("\0", "0"))
@pytest.mark.parametrize("kind", ["table", "image-file"])
def test_what_is_no_document_is_refused_by_name(text, kind, pixels, tmp_path):
    """With one error, whatever is in it; nothing outside the artifact is looked at."""
    (tmp_path / "away").write_text("secret")
    draft = Artifact("a", "dataset")
    draft.add_reference((tmp_path / "away").as_uri())
    with draft.new_file("x.png", "wb") as file:
        file.write(Image(pixels).read())
    with draft.new_file(f"it.{kind}.json") as file:
        file.write(text)
    with pytest.raises(IntegrityError, match=f"it.{kind}.json"):
        draft.get("it")


def test_a_huge_document_is_not_read(monkeypatch):
    """It would not fit the memory."""
    draft = Artifact("a", "dataset")
    draft.add(Table(["a"], [[1]]), "it")
    monkeypatch.setattr(documents, "MAX_BYTES", 10)
    with pytest.raises(IntegrityError, match="bytes of 10"):
        draft.get("it")


def test_a_document_that_is_elsewhere_is_not_fetched(tmp_path):
    """References are inert: get() opens none."""
    (tmp_path / "it.table.json").write_text(json.dumps(TABLE))
    draft = Artifact("a", "dataset")
    draft.add_reference((tmp_path / "it.table.json").as_uri())
    with pytest.raises(IntegrityError, match="is a reference"):
        draft.get("it")


def test_a_table_of_wandbs_own_form_is_read(pixels):
    """As its files have it: bare NaN, column types of its own, no kinds."""
    draft = Artifact("a", "dataset")
    image = Image(pixels)
    with draft.new_file("media/images/0123/x.png", "wb") as file:
        file.write(image.read())
    cell = {"_type": "image-file", "path": "media/images/0123/x.png", "format": "png",
            "width": 7, "height": 5, "sha256": image.sha256}  # fmt: skip
    document = {"_type": "table", "columns": ["n", "i"], "ncols": 2, "nrows": 1,
                "column_types": {"wb_type": "typedDict", "params": {"type_map": {}}},
                "log_mode": "IMMUTABLE", "data": [[float("nan"), cell]]}  # fmt: skip
    with draft.new_file("it.table.json") as file:
        json.dump(document, file)
    (row,) = draft.get("it").data
    assert str(row[0]) == "nan"
    assert row[1].read() == image.read()
