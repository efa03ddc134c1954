"""Sound, video, pages, histograms, solids: from arrays, files and open files."""

from __future__ import annotations

import io
import wave

import numpy as np  # noqa: TID253 - what sound is made of
import PIL.Image
import pytest

from wanllmdb import Audio, Histogram, Html, Molecule, Object3D, Video
from wanllmdb._media.base import Place
from wanllmdb.errors import InvalidInputError


def samples(audio):
    """What a WAV file holds, and its rate."""
    with wave.open(io.BytesIO(audio.read())) as file:
        kind = {1: "u1", 2: "<i2", 4: "<i4"}[file.getsampwidth()]
        data = np.frombuffer(file.readframes(file.getnframes()), kind)
        return data.reshape(-1, file.getnchannels()), file.getframerate()


def frames(video):
    """The frames of a GIF, in colors."""
    with PIL.Image.open(io.BytesIO(video.read())) as image:
        found = []
        for at in range(image.n_frames):
            image.seek(at)
            found.append(np.asarray(image.convert("RGB")))
        return found


# Sound


def test_floats_become_sixteen_bits():
    """Between -1 and 1; beyond is cut off, NaN is silence."""
    audio = Audio(np.array([0.0, 1.0, -1.0, 0.5, 7.0, np.nan]), 8000)
    data, rate = samples(audio)
    assert data[:, 0].tolist() == [0, 32767, -32767, 16384, 32767, 0]
    assert (rate, audio.sample_rate, audio.format) == (8000, 8000, "wav")
    assert audio.duration == 6 / 8000


@pytest.mark.parametrize("kind", ["u1", "i2", "i4", ">i2", "i8"])
def test_ints_stay_exact(kind):
    """Of 8, 16 and 32 bits, and wider ones that fit 16."""
    given = np.array([[1, 2], [100, 0]], kind)
    data, _ = samples(Audio(given, 44_100))
    assert (data == given).all()


@pytest.mark.parametrize(("data", "rate"), [
    ([0.0], None), ([0.0], 0), ([0.0], -1), ([], 8000), (np.zeros((2, 2, 2)), 8000),
    (np.array([1 << 40]), 8000), (["a"], 8000), (None, 8000),
])  # fmt: skip
def test_what_is_no_sound_is_refused(data, rate):
    """No rate, no samples, too many axes, ints that no WAV file holds."""
    with pytest.raises(InvalidInputError):
        Audio(data, rate)


def test_a_sound_files_bytes_stay(tmp_path):
    """A WAV file says its own rate; of others it may be said."""
    raw = Audio(np.zeros(400), 8000).read()
    (tmp_path / "x.wav").write_bytes(raw)
    (tmp_path / "x.mp3").write_bytes(b"ID3")
    audio = Audio(tmp_path / "x.wav", caption="silence")
    assert (audio.read(), audio.sample_rate, audio.duration) == (raw, 8000, 0.05)
    assert Audio(io.BytesIO(raw)).read() == raw
    other = Audio(str(tmp_path / "x.mp3"), sample_rate=44_100)
    assert (other.format, other.sample_rate, other.duration) == ("mp3", 44_100, None)


def test_a_broken_wav_file_is_kept_all_the_same(tmp_path):
    """What it says of itself is not needed."""
    (tmp_path / "x.wav").write_bytes(b"RIFF")
    assert Audio(tmp_path / "x.wav").duration is None


# Video


def test_frames_become_a_gif():
    """Each in its place; equal ones may be one frame that stays longer."""
    data = np.zeros((3, 3, 4, 6), np.uint8)
    data[1, 0] = 255
    data[2, 1] = 255
    video = Video(data, fps=10)
    assert (video.width, video.height, video.format) == (6, 4, "gif")
    red, green = [255, 0, 0], [0, 255, 0]
    assert [frame[0, 0].tolist() for frame in frames(video)] == [[0, 0, 0], red, green]


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(("count", "size"), [(1, (6, 4)), (2, (12, 4)), (3, (12, 8)),
                                             (4, (12, 8))])  # fmt: skip
def test_a_batch_is_laid_side_by_side(channels, count, size):
    """As squarely as it can be."""
    video = Video(np.full((count, 2, channels, 4, 6), 9.0))
    wide, high = size
    assert (video.width, video.height) in {(wide, high), (18, 4)}
    assert PIL.Image.open(io.BytesIO(video.read())).size == (video.width, video.height)


@pytest.mark.parametrize("suffix", ["gif", "mp4", "webm", "ogg"])
def test_a_video_files_bytes_stay(suffix, tmp_path):
    """Whatever they are: nothing looks into them."""
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(b"frames")
    assert Video(path).read() == b"frames"
    assert Video(io.BytesIO(b"frames"), format=suffix) == Video(path)


@pytest.mark.parametrize(("data", "how"), [
    (np.zeros((3, 4, 6)), {}), (np.zeros((2, 2, 4, 6)), {}), ("x.avi", {}),
    (np.zeros((2, 3, 4, 6)), {"format": "mp4"}), (io.BytesIO(), {"format": "avi"}),
    (np.zeros((2, 3, 4, 6)), {"fps": 0}), (np.zeros((0, 3, 4, 6)), {}),
    ("https://example.org/x.mp4", {}), (io.StringIO("text"), {"format": "x"}),
])  # fmt: skip
def test_what_is_no_video_is_refused(data, how):
    """Other axes, channels, formats; arrays become GIFs only."""
    with pytest.raises(InvalidInputError):
        Video(data, **how)


# Pages


def test_a_page_may_be_text_a_file_or_open(tmp_path):
    """All three hold the same."""
    (tmp_path / "x.html").write_text("<p>ü</p>", "utf-8")
    pages = [
        Html("<p>ü</p>"), Html(tmp_path / "x.html"), Html(str(tmp_path / "x.html")),
        Html(io.StringIO("<p>ü</p>")), Html(io.BytesIO("<p>ü</p>".encode())),
    ]  # fmt: skip
    assert all(page == pages[0] for page in pages)
    path = str(tmp_path / "x.html")
    assert Html(path, data_is_not_path=True, inject=False).html == path


@pytest.mark.parametrize(("text", "seen"), [
    ("<html><head><title>t</title></head></html>", "<head><base"),
    ("<html><p>x</p></html>", "<html><head><base"),
    ("<p>x</p>", '<base target="_blank"><p>'),
])  # fmt: skip
def test_links_open_elsewhere_and_nothing_is_loaded(text, seen):
    """Unlike with W&B no stylesheet of a server."""
    page = Html(text)
    assert seen in page.html
    assert "http" not in page.html
    assert Html(text, inject=False).html == text


@pytest.mark.parametrize("data", [3, None, "\ud800", io.BytesIO(b"\xff")])
def test_what_is_no_page_is_refused(data):
    """Nor is what is no UTF-8."""
    with pytest.raises(InvalidInputError):
        Html(data)


# Histograms


def test_a_histogram_counts_as_numpy_does():
    """Whatever the shape; what is not finite is left out."""
    data = np.random.default_rng(1).normal(size=(10, 10))
    counts, edges = np.histogram(data, 16)
    made = Histogram(data, num_bins=16)
    assert made.histogram == counts.tolist()
    assert made.bins == pytest.approx(edges.tolist())
    assert sum(Histogram([1, [2, 3], np.nan]).histogram) == 3
    taken = Histogram(np_histogram=(counts, edges))
    assert (taken.histogram, taken.bins) == (counts.tolist(), edges.tolist())


@pytest.mark.parametrize("how", [
    {"sequence": "text"}, {"sequence": None}, {"sequence": [1j]}, {"num_bins": 0},
    {"sequence": [1], "num_bins": 513}, {"np_histogram": ([1], [1])},
    {"np_histogram": ([1],)}, {"np_histogram": ([1] * 600, range(601))},
])  # fmt: skip
def test_what_is_no_histogram_is_refused(how):
    """Too many bins, too few edges, no numbers."""
    with pytest.raises(InvalidInputError):
        Histogram(**how)


# Solids


@pytest.mark.parametrize("columns", [3, 4, 6])
def test_points_are_json(columns):
    """One list for each point."""
    cloud = Object3D(np.arange(2.0 * columns).reshape(2, columns))
    assert cloud.format == "pts.json"
    assert cloud.read().startswith(b"[[0.0,1.0,")


def test_a_scene_has_points_boxes_and_vectors():
    """Arrays or lists."""
    scene = {
        "type": "lidar/beta",
        "points": np.zeros((1, 3)),
        "boxes": [{"label": "a"}],
    }
    text = Object3D(scene).read().decode()
    assert text == (
        '{"type":"lidar/beta","points":[[0.0,0.0,0.0]],"boxes":[{"label":"a"}],'
        '"vectors":[]}'
    )


def test_solids_are_made_as_with_wandb(tmp_path):
    """By the names of its ways."""
    points = np.zeros((1, 3))
    assert Object3D.from_numpy(points) == Object3D(points)
    (tmp_path / "x.stl").write_text("solid")
    assert Object3D.from_file(tmp_path / "x.stl").format == "stl"
    scene = {"type": "lidar/beta", "points": [[0, 0, 0]], "boxes": [], "vectors": []}
    assert Object3D.from_point_cloud([[0, 0, 0]], []) == Object3D(scene)
    with pytest.raises(InvalidInputError, match="no scene"):
        Object3D.from_point_cloud([], [], point_cloud_type="else")


def test_files_of_solids_stay(tmp_path):
    """By path, or open with the type said."""
    (tmp_path / "x.pts.json").write_text("[]")
    (tmp_path / "x.obj").write_text("v 0 0 0")
    assert Object3D(tmp_path / "x.pts.json").format == "pts.json"
    assert Object3D(io.StringIO("v 0 0 0"), file_type="obj") == Object3D(
        str(tmp_path / "x.obj")
    )
    assert Molecule(io.StringIO("ATOM"), file_type="pdb").read() == b"ATOM"


@pytest.mark.parametrize("data", [
    np.zeros((2, 5)), np.zeros(3), "x.txt", {"type": "else"}, io.StringIO("x"),
    {"type": "lidar/beta", "points": 3}, "http://example.org/x.obj", None,
])  # fmt: skip
def test_what_is_no_solid_is_refused(data):
    """The message says which kinds there are."""
    with pytest.raises(InvalidInputError):
        Object3D(data)
    with pytest.raises(InvalidInputError):
        Molecule(data)


# All


def test_values_are_equal_by_what_they_hold(value, each):
    """Each to itself, and to none of another kind."""
    assert value == value._of(value._document(Place()), _Everything(value))
    for other in each.values():
        assert (other == value) is (other is value)
    assert value != "text"


class _Everything:
    """Finds what a value put somewhere."""

    def __init__(self, value):
        from wanllmdb._media.documents import Reader

        place = Place()
        value._document(place)
        self._reader = Reader(place.contents.__getitem__)

    def __getattr__(self, name):
        return getattr(self._reader, name)


def test_values_say_what_they_are(value):
    """Their repr names the class, and is short."""
    assert type(value).__name__ in repr(value)
    assert len(repr(value)) < 100
