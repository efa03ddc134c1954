"""Logged media: the row says which files, and the run has them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np  # noqa: TID253 - what images are made of
import pandas as pd  # noqa: TID253 - what tables are made of
import pytest

import wanllmdb
from wanllmdb import Audio, Histogram, Html, Image, Object3D, Table, Video, _gc
from wanllmdb.errors import InvalidMetricError, WanllmdbWarning


def paths_in(document):
    """Every path that a row's value names, at any depth."""
    if isinstance(document, dict):
        found = [document["path"]] if "path" in document else []
        found += document.get("filenames", [])
        return found + [p for item in document.values() for p in paths_in(item)]
    if isinstance(document, list):
        return [path for item in document for path in paths_in(item)]
    return []


def stored(path="p/r"):
    """The files of a run, by path."""
    with wanllmdb.Api() as api:
        return {file.name: file.read() for file in api.run(path).files()}


def test_the_row_names_files_that_the_run_has(run, value, rows):
    """Also the summary, as the row; their digests are right."""
    run.log({"it": value, "loss": 0.5})
    assert run.step == 1
    (row,) = rows()
    assert row["loss"] == 0.5
    assert run.summary["it"] == row["it"]
    files = stored()
    assert set(paths_in(row["it"])) <= set(files)
    if "sha256" in row["it"]:
        assert row["it"]["path"] in files
        assert len(files[row["it"]["path"]]) == row["it"]["size"]


def test_an_image_has_wandbs_fields(run, each, rows):
    """The path has the key, the step, and the start of the digest."""
    image = each["Image"]
    run.log({"eval/cat": image}, step=7)
    (row,) = rows()
    found = row["eval/cat"]
    assert found["path"] == f"media/images/eval/cat_7_{image.sha256[:20]}.png"
    expected = {
        "_type": "image-file", "sha256": image.sha256, "size": image.size,
        "format": "png", "width": 7, "height": 5, "caption": "a cat", "grouping": 3,
    }  # fmt: skip
    assert found | expected == found
    assert stored()[found["path"]] == image.read()
    boxes = json.loads(stored()[found["boxes"]["found"]["path"]])
    assert boxes["box_data"][0]["class_id"] == 1


def test_lists_have_wandbs_form(run, pixels, rows):
    """Each kind its own; all files are there, however many."""
    images = [Image(pixels + n, caption="x" * n) for n in range(150)]
    run.log({
        "images": images,
        "audio": [Audio(np.zeros(8), 8, caption="a"), Audio(np.zeros(16), 8)],
        "videos": [Video(np.zeros((2, 1, 2, 2)))],
        "html": (Html("a"), Html("b")),
        "solids": [Object3D(np.zeros((1, 3)))],
        "mixed": [Html("a"), images[0], Histogram([1]), 3],
        "tables": [Table(["a"], [[1]])],
    })  # fmt: skip
    (row,) = rows()
    files = stored()
    assert row["images"]["_type"] == "images/separated"
    assert (row["images"]["count"], row["images"]["captions"][2]) == (150, "xx")
    assert [files[p] for p in row["images"]["filenames"]] == [i.read() for i in images]
    assert row["audio"] | {"audio": None} == {
        "_type": "audio", "count": 2, "audio": None, "sampleRates": [8, 8],
        "durations": [1.0, 2.0], "captions": ["a", ""],
    }  # fmt: skip
    assert (row["videos"]["_type"], row["videos"]["count"]) == ("videos", 1)
    assert [one["_type"] for one in row["html"]["html"]] == ["html-file"] * 2
    assert row["solids"]["_type"] == "object3D"
    kinds = [one if one == 3 else one["_type"] for one in row["mixed"]]
    assert kinds == ["html-file", "image-file", "histogram", 3]
    assert row["tables"][0]["_type"] == "table-file"
    assert all(path in files for path in paths_in(row))


def test_a_logged_table_has_its_cells_and_their_files(run, pixels, rows):
    """As JSON with the columns and the data, as W&B's file has it."""
    table = Table(["n", "image"], [[2**60, Image(pixels)], [None, None]])
    run.log({"table": table})
    table.add_data(3, None)
    run.log({"table": table})
    files = stored()
    assert [row["table"]["nrows"] for row in rows()] == [2, 3]
    first = json.loads(files[rows()[0]["table"]["path"]])
    assert first["columns"] == ["n", "image"]
    assert first["data"][0][0] == 2**60
    assert files[first["data"][0][1]["path"]] == Image(pixels).read()


def test_a_logged_table_is_an_artifact_too(run, pixels, store):
    """By W&B's name: `get` gives it back, each time that it was logged."""
    table = Table(["n", "image"], [[1, Image(pixels)]])
    run.log({"eval/my table": table})
    table.add_data(2, None)
    run.log({"eval/my table": table})
    run.finish()
    with wanllmdb.Api() as api:
        name = "p/run-r-evalmytable"
        assert len(api.artifact(f"{name}:v1").get("eval/my table")) == 1
        assert api.artifact(f"{name}:latest").get("eval/my table") == table
        logged = api.run("p/r").logged_artifacts()
    assert [artifact.type for artifact in logged] == ["run_table"] * 2
    sizes = [path.stat().st_size for path in store.glob("blobs/*/*/*")]
    assert sizes.count(Image(pixels).size) == 1


def test_frames_and_figures_are_taken_as_they_are(run, rows):
    """A DataFrame is logged as a table, as with W&B."""
    run.log({"frame": pd.DataFrame({"a": [1, 2], "b": ["x", None]})})
    (row,) = rows()
    document = json.loads(stored()[row["frame"]["path"]])
    assert document["data"] == [[1, "x"], [2, None]]


def test_a_histogram_is_in_the_row(run, rows):
    """In the form that large arrays have."""
    run.log({"h": Histogram([1, 2, 3], num_bins=2), "array": np.arange(100)})
    (row,) = rows()
    assert row["h"] == {"_type": "histogram", "values": [1, 2], "bins": [1.0, 2.0, 3.0]}
    assert set(row["array"]) == set(row["h"])
    assert stored() == {}


def test_the_summary_may_be_set_to_media(run, pixels):
    """Its file has no step, but the word."""
    run.summary["best"] = Image(pixels)
    run.summary.update({"page": Html("x"), "n": 1})
    path = run.summary["best"]["path"]
    assert path.startswith("media/images/best_summary_")
    run.finish()
    assert stored()[path] == Image(pixels).read()
    with wanllmdb.Api() as api:
        assert api.run("p/r").summary["best"]["path"] == path


def test_media_never_move_the_cursor(run, pixels):
    """A row of them is a row as any other; `commit=False` keeps its step."""
    run.log({"image": Image(pixels)}, commit=False)
    assert run.step == 0
    run.log({"loss": 1.0})
    assert run.step == 1


def test_odd_keys_make_safe_names(run, pixels, rows):
    """No name leads out of the run's files, and each can be written."""
    keys = ["../../x", "/x", "a/../b", "a\\b", "line\nfeed", "é" * 300, "...", "a//b"]
    for key in keys:
        run.log({key: Image(pixels)})
    files = stored()
    assert len(files) == len(keys)
    with wanllmdb.Api() as api:
        for file in api.run("p/r").files():
            assert file.download(run.dir).exists()
    assert [list(row) for row in rows()] == [[key] for key in keys]


def test_nested_media_flatten(run, pixels, rows):
    """A mapping of images is several keys."""
    run.log({"val": {"a": Image(pixels), "b": {"c": Html("x")}}})
    (row,) = rows()
    assert list(row) == ["val.a", "val.b.c"]


def test_the_step_of_a_metric_axis_is_kept(run, pixels, rows):
    """Rows that define_metric completes are stored once."""
    run.define_metric("epoch")
    run.define_metric("image", step_metric="epoch")
    run.log({"epoch": 3})
    run.log({"image": Image(pixels)}, step=5)
    last = rows()[-1]
    assert last["epoch"] == 3
    assert list(stored()) == [last["image"]["path"]]
    assert "image_5_" in last["image"]["path"]


def test_disabled_keeps_the_summary_and_no_file(pixels, store):
    """Nothing is created."""
    run = wanllmdb.init(mode="disabled")
    run.log({"image": Image(pixels), "table": Table(["a"], [[1]])})
    assert run.summary["image"]["_type"] == "image-file"
    run.finish()
    assert not store.exists()


def test_a_value_that_cannot_be_written_is_text(run, rows):
    """One warning, as for any other value; with strict=True an error."""
    table = Table(["a"], [[1]])
    table.data.append([object()])
    with pytest.warns(WanllmdbWarning, match="table"):
        run.log({"table": table, "loss": 1.0})
    assert rows() == [{"table": repr(table), "loss": 1.0}]
    run.finish()
    strict = wanllmdb.init(project="p", id="strict", strict=True)
    with pytest.raises(InvalidMetricError):
        strict.log({"table": table})


def test_gc_keeps_the_files_as_long_as_the_run(run, each, rows, monkeypatch):
    """In the trash, too; a purged run's go, but for what an artifact has."""
    each.pop("Table")
    run.log(each)
    run.finish()
    store = run._store
    past = time.time() - 10 * 86_400

    def collected():
        for path in store.path.rglob("blobs/*/*/*"):
            os.utime(path, (past, past))
        return _gc.collect(store, grace=60.0).counts.get("blobs moved to the trash", 0)

    before = stored()
    assert collected() == 0
    with wanllmdb.Api() as api:
        stored_run = api.run("p/r")
        stored_run.delete()
        assert collected() == 0
        stored_run.restore()
        assert stored() == before
        stored_run.delete()
        api.purge(stored_run)
    assert collected() >= len(set(before.values()))
    assert not list(store.path.rglob("blobs/*/*/*"))


def test_verify_finds_a_logged_image_that_changed(run, pixels, store):
    """Its blob is checked as every other."""
    run.log({"image": Image(pixels)})
    run.finish()
    (blob,) = [p for p in store.glob("blobs/*/*/*") if p.name == Image(pixels).sha256]
    blob.chmod(0o600)
    blob.write_bytes(b"x")
    done = subprocess.run(
        [sys.executable, "-m", "wanllmdb", "--store", str(store), "store", "verify"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 5, done
    assert "media/images/image_0_" in done.stdout + done.stderr


def test_people_see_folders_and_programs_each_file(run, pixels, tmp_path):
    """There may be thousands: `show` and reports count them."""
    (tmp_path / "notes.txt").write_text("kept")
    run.save(tmp_path / "notes.txt", base_path=tmp_path)
    run.log({"image": Image(pixels), "images": [Image(pixels + n) for n in range(3)]})
    run.finish()

    def show(*how):
        command = [sys.executable, "-m", "wanllmdb", "show", "p/r", *how]
        return subprocess.run(command, capture_output=True, text=True, check=True)

    assert "files: notes.txt  media/images/ (4 files)" in show().stdout
    (found,) = json.loads(show("--format", "json").stdout)
    assert len(found["files"]) == 5
    with wanllmdb.Api() as api:
        api.report(["p/r"], tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "<bdi>media/images/</bdi> (4 files)" in text
    assert "media/images/image_0_" in text  # of the summary
    assert Image(pixels).sha256 not in text


CHILD = """
import sys
import numpy as np
import wanllmdb as w
run = w.init(project="p", id="r")
for n in range(10_000):
    run.log({"n": n, "image": w.Image(np.full((4, 4), n % 256, "u1"), caption=str(n))})
    print(n, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("after", [0, 1, 7, 20])
def test_killed_at_any_moment_every_row_has_its_files(after, store, rows):
    """And every row that was acknowledged is there: bytes come first."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD], stdout=subprocess.PIPE, text=True
    )
    for _ in range(after + 1):
        last = int(child.stdout.readline())
    time.sleep(0.0017 * after)
    child.send_signal(signal.SIGKILL)
    last = int(([last, *child.stdout.read().split()])[-1])
    child.wait()
    child.stdout.close()
    found, files = rows(), stored()
    assert [row["n"] for row in found] == list(range(len(found)))
    assert len(found) > last
    for row in found:
        assert row["image"]["caption"] == str(row["n"])
        assert len(files[row["image"]["path"]]) == row["image"]["size"]


def test_a_full_disk_never_raises(store, rows):
    """The value's text is kept, the rest of the row, and what follows."""
    code = """
import os, resource, warnings
import numpy as np
import wanllmdb as w
warnings.simplefilter("ignore")
run = w.init(project="p", id="r")
noise = np.random.default_rng(1).integers(0, 256, (400, 400, 3)).astype("u1")
run.log({"loss": 0.5})
limit = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))
run.log({"loss": 0.25, "image": w.Image(noise)})
resource.setrlimit(resource.RLIMIT_FSIZE, limit)
run.log({"loss": 0.125, "image": w.Image(noise)})
run.finish()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lost, kept = rows()[1:]
    assert lost["loss"] == 0.25
    assert lost["image"].startswith("<Image")
    assert list(stored()) == [kept["image"]["path"]]
    assert not list(store.glob("tmp/blob-*"))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_logs_images_of_its_own(run, pixels, rows):
    """In a stream of its own, under the same run; the summary stays the parent's."""
    run.log({"image": Image(pixels)})
    pid = os.fork()
    if not pid:
        try:
            run.log({"image": Image(pixels[::-1])})
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    assert run.summary["image"]["sha256"] == Image(pixels).sha256
    run.finish()
    files = stored()
    found = {files[row["image"]["path"]] for row in rows()}
    assert found == {Image(pixels).read(), Image(pixels[::-1]).read()}


def test_two_writers_of_one_key_and_step_keep_both(run, pixels):
    """Unlike with a name by place in a list: the digest is in the name."""
    for data in (pixels, pixels[::-1]):
        run.log({"images": [Image(data)]}, step=3)
    assert len(stored()) == 2


def test_recording_media_loads_only_what_they_need():
    """Files by path, pages and text tables need the standard library alone."""
    code = """
import sys, pathlib
import wanllmdb as w
pathlib.Path("x.mp4").write_bytes(b"x")
with w.init() as run:
    run.log({"v": w.Video("x.mp4"), "p": w.Html("x"), "t": w.Table(["a"], [[1]]),
             "h": w.Histogram([1, 2])})
print(*[m for m in ("numpy", "PIL", "pandas", "pyarrow", "duckdb") if m in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        cwd=os.environ["HOME"],
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
