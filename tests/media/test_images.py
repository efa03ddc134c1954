"""Images: from arrays, files, libraries; and the layers over them."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys

import numpy as np  # noqa: TID253 - what images are made of
import PIL.Image
import pytest

from wanllmdb import Audio, Classes, Histogram, Image, Table, Video
from wanllmdb.errors import InvalidInputError

WITHOUT_PILLOW = """
import sys
sys.modules["PIL"] = sys.modules["PIL.Image"] = None
import numpy as np
import wanllmdb as w
"""


def shown(image):
    """An image's pixels."""
    return np.asarray(image.image)


def alone(code, **variables):
    """What a fresh interpreter that lacks Pillow prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_PILLOW + code],
        env={**os.environ, **variables}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_ints_of_eight_bits_come_back_exactly(pixels):
    """Brightness is kept, by channel; sizes are width and height."""
    image = Image(pixels)
    assert (shown(image) == pixels).all()
    assert (image.width, image.height, image.format) == (7, 5, "png")


@pytest.mark.parametrize(("shape", "mode"), [
    ((5, 7), "L"), ((5, 7, 1), "L"), ((1, 5, 7), "L"), ((5, 7, 3), "RGB"),
    ((5, 7, 4), "RGBA"), ((1, 5, 7, 3), "RGB"),
])  # fmt: skip
def test_the_channels_say_the_mode(shape, mode):
    """Sides of one element are taken out, as W&B does."""
    data = np.full(shape, 200, np.uint8)
    image = Image(data).image
    assert (image.mode, image.size) == (mode, (7, 5))


@pytest.mark.parametrize(("low", "high", "seen"), [
    (0.0, 1.0, [0, 255]), (-1.0, 1.0, [0, 255]), (0.0, 200.0, [0, 200]),
    (-5.0, 300.0, [0, 255]), (False, True, [0, 255]), (0, 1, [0, 255]),
    (0.0, float("nan"), [0, 0]),
])  # fmt: skip
def test_ranges_become_brightness_as_with_wandb(low, high, seen):
    """0 to 1 and -1 to 1 are the whole range; the rest is cut off; NaN is dark."""
    assert shown(Image(np.array([[low, high]]))).tolist() == [seen]


def test_without_normalising_values_stay():
    """What fits 8 bits is taken as it is, also 0 and 1."""
    data = np.array([[0, 1, 255]])
    assert shown(Image(data, normalize=False)).tolist() == [[0, 1, 255]]
    assert shown(Image(data / 1.0, normalize=False)).tolist() == [[0, 1, 255]]


def test_an_array_is_taken_at_the_call(pixels):
    """Changed afterwards, it changes nothing."""
    image, before = Image(pixels), pixels.copy()
    pixels[:] = 0
    assert (shown(image) == before).all()


def test_a_mode_names_the_channels(pixels):
    """What PNG cannot hold is converted; a mode that does not fit is refused."""
    assert shown(Image(pixels, mode="HSV")).shape == (5, 7, 3)
    with pytest.raises(InvalidInputError, match="mode 'RGBA'"):
        Image(pixels, mode="RGBA")


@pytest.mark.parametrize(
    "shape", [(5, 7, 2), (5, 7, 5), (2, 5, 7, 3), (0, 7), (7,), ()]
)
def test_other_shapes_are_refused(shape):
    """The message names the shape."""
    with pytest.raises(InvalidInputError, match="array of shape"):
        Image(np.zeros(shape))


@pytest.mark.parametrize("value", [None, object(), [["a"]], np.array([None]), 1j])
def test_what_is_no_image_is_refused(value):
    """Nor are text, objects and complex numbers numbers."""
    with pytest.raises(InvalidInputError):
        Image(value)


def test_a_tensor_has_its_channels_first(pixels):
    """Whatever device it is on, and whether it needs gradients."""

    class Tensor:
        """What torch's tensors do, as far as an image goes."""

        dtype = "torch.float32"
        shape = (3, 5, 7)

        def __init__(self, data):
            self.data = data

        def detach(self):
            return self

        cpu = permute = detach

        def numpy(self):
            return self.data

    assert (shown(Image(Tensor(pixels.transpose(2, 0, 1)))) == pixels).all()


@pytest.mark.frameworks
def test_torchs_tensors_are_taken(pixels):
    """Real tensors, of floats with gradients, and of brain floats."""
    torch = pytest.importorskip("torch")
    data = torch.tensor(pixels.transpose(2, 0, 1) / 255.0, requires_grad=True)
    assert abs(shown(Image(data)).astype(int) - pixels).max() <= 1
    assert Image(torch.zeros(3, 4, 4, dtype=torch.bfloat16)).width == 4
    assert Image(torch.zeros(4, 5)).width == 5
    table = Table(["a"], [[data], [torch.zeros(2, dtype=torch.bfloat16)]])
    assert table.data[0][0].shape == (3, 5, 7)
    assert Table(["a"], [[torch.tensor(3)]]).data == [[3]]
    assert sum(Histogram(data).histogram) == 105
    assert Audio(torch.zeros(100), 8000).duration == 0.0125
    assert Video(torch.zeros(2, 3, 4, 4)).width == 4


@pytest.mark.frameworks
def test_jaxs_arrays_are_taken(pixels):
    """They have their channels last, as NumPy's; of brain floats, too."""
    jnp = pytest.importorskip("jax.numpy")
    assert (shown(Image(jnp.asarray(pixels))) == pixels).all()
    small = jnp.zeros((4, 5), "bfloat16")
    assert Image(small).width == 5
    assert Table(["a"], [[small]]).data[0][0].dtype == np.float32


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "F", "LA"])
@pytest.mark.parametrize("file_type", ["png", "jpg", "bmp"])
def test_pillows_images_are_taken(mode, file_type):
    """What the file cannot hold is converted."""
    image = Image(PIL.Image.new(mode, (4, 3)), file_type=file_type)
    assert (image.width, image.height, image.format) == (4, 3, file_type)


def test_a_figure_draws_itself(pixels):
    """Matplotlib's figures have savefig, and their axes a figure."""

    class Figure:
        def savefig(self, file, format):
            PIL.Image.fromarray(pixels).save(file, format)

    class Axes:
        figure = Figure()

    assert (shown(Image(Figure())) == pixels).all()
    assert Image(Axes()) == Image(Figure())


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"])
def test_a_files_bytes_stay_as_they_are(kind, tmp_path, pixels):
    """Also when the file is removed at once."""
    path = tmp_path / f"x.{kind.lower()}"
    PIL.Image.fromarray(pixels).save(path, kind)
    raw = path.read_bytes()
    image = Image(path)
    path.unlink()
    assert image.read() == raw
    assert (image.width, image.height) == (7, 5)
    assert image.format == kind.lower()
    assert Image(io.BytesIO(raw)).read() == raw


def test_png_and_jpeg_by_path_need_no_library(tmp_path, pixels):
    """Arrays do, and the message names the command that installs it."""
    PIL.Image.fromarray(pixels).save(tmp_path / "x.png")
    PIL.Image.fromarray(pixels).save(tmp_path / "x.jpg", progressive=True)
    code = """
for name in ("x.png", "x.jpg"):
    image = w.Image(name)
    print(image.format, image.width, image.height)
try:
    w.Image(np.zeros((2, 2)))
except w.errors.MissingExtraError as error:
    print(error)
"""
    told = alone(f"import os; os.chdir({str(tmp_path)!r})" + code)
    assert told.startswith("png 7 5\njpg 7 5\n")
    assert 'pip install "wanllmdb[media]"' in told


@pytest.mark.parametrize(
    "data", [b"", b"no image", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"]
)
def test_a_file_that_is_no_image_is_refused(data, tmp_path):
    """Cut short ones, too."""
    path = tmp_path / "x.png"
    path.write_bytes(data)
    with pytest.raises(InvalidInputError, match="no image"):
        Image(path)


def test_what_cannot_be_read_is_named(tmp_path):
    """A missing file, a directory, a pipe, a name that is none, a URL."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "none.png", tmp_path, tmp_path / "pipe", "a\0b"):
        with pytest.raises(InvalidInputError):
            Image(path)
    with pytest.raises(InvalidInputError, match="add_reference"):
        Image("s3://bucket/x.png")


def test_an_image_of_an_image_keeps_what_is_not_said_anew(each):
    """But for boxes and masks, as with W&B."""
    image = each["Image"]
    copy = Image(image, caption="another")
    assert copy.caption == "another"
    assert copy.read() == image.read()
    assert copy != image
    assert Image(copy) == copy


def test_classes_may_be_an_object(pixels):
    """Both ways say the same."""
    names = [{"id": 1, "name": "cat"}]
    assert Image(pixels, classes=Classes(names)) == Image(pixels, classes=names)


@pytest.mark.parametrize("wrong", [
    {"boxes": []}, {"boxes": {"a": {}}}, {"boxes": {"a": {"box_data": [{}]}}},
    {"masks": 3}, {"masks": {"a": {}}}, {"classes": [{"id": "x", "name": "y"}]},
    {"masks": {"a": {"mask_data": np.zeros((2, 2))}}},
    {"masks": {"a": {"mask_data": np.full((2, 2), 256)}}},
    {"masks": {"a": {"mask_data": np.zeros((2, 2), int), "class_labels": [1]}}},
    {"file_type": "tiff"}, {"grouping": "a"},
])  # fmt: skip
def test_layers_that_make_no_sense_are_refused(wrong, pixels):
    """The message says what would."""
    with pytest.raises(InvalidInputError):
        Image(pixels, **wrong)


def test_a_mask_may_be_a_file(tmp_path, pixels):
    """Its bytes stay as they are."""
    PIL.Image.fromarray(pixels[:, :, 0]).save(tmp_path / "m.png")
    image = Image(pixels, masks={"a": {"path": tmp_path / "m.png"}})
    assert image != Image(pixels)


def test_an_image_goes_to_another_process(each):
    """Data loaders make them in workers."""
    image = each["Image"]
    assert pickle.loads(pickle.dumps(image)) == image


def test_a_large_file_is_not_held_in_memory(tmp_path):
    """It is copied: removed, rewritten, it is as it was."""
    from wanllmdb._media.content import MEMORY_BYTES, Content

    path = tmp_path / "large"
    raw = os.urandom(1 << 20) * ((MEMORY_BYTES >> 20) + 1)
    path.write_bytes(raw)
    content = Content.of_file(path)
    path.write_bytes(b"changed")
    assert content.read() == raw
    assert pickle.loads(pickle.dumps(content)).digest == content.digest


def test_boxes_are_json(each):
    """Of W&B's form, class ids and scores as they were given."""
    from wanllmdb._media.base import Place

    place = Place()
    document = each["Image"]._document(place)
    boxes = json.loads(place.contents[document["boxes"]["found"]["path"]].read())
    assert boxes["box_data"][0]["class_id"] == 1
    assert boxes["class_labels"] == {"1": "cat"}
