"""What log() takes, and what becomes of what it cannot keep."""

from __future__ import annotations

import decimal
import enum
import fractions
import math

import pytest

import wanllmdb
from wanllmdb.errors import InvalidMetricError

np = pytest.importorskip("numpy")


@pytest.fixture
def logged(api):
    """Log one mapping without any warning; return the row as it comes back."""

    def log(data):
        with wanllmdb.init() as run:
            run.log(data)
        (row,) = api.run(run.path).scan_history()
        return {k: v for k, v in row.items() if not k.startswith("_")}

    return log


class Tensor:
    """What torch and jax arrays have in common, without either."""

    def __init__(self, data):
        self._data = np.asarray(data)
        self.shape = self._data.shape
        self.requires_grad = True

    def detach(self):
        """A tensor that may be read."""
        found = Tensor(self._data)
        found.requires_grad = False
        return found

    def tolist(self):
        """Python's own numbers."""
        assert not self.requires_grad
        return self._data.tolist()

    item = tolist


class Color(enum.Enum):
    """A word."""

    RED = "red"


def test_lists_stay_lists_and_tuples_become_lists(logged):
    """Any length, nested, with what JSON holds."""
    data = {"l": [1, 2.5, "x", None, True], "t": (1, (2, 3)), "long": [0.5] * 100}
    assert logged(data) == {**data, "t": [1, [2, 3]]}


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (np.float16(0.5), 0.5), (np.int8(-3), -3), (np.str_("x"), "x"),
        (np.array(True), True), (np.array([[7.5]]), 7.5), (np.array([]), []),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.array(["a", "b"]), ["a", "b"]),
        (Tensor(2.5), 2.5), (Tensor([3]), 3), (Tensor([1, 2]), [1, 2]),
        (decimal.Decimal("0.5"), 0.5), (fractions.Fraction(1, 4), 0.25),
        (Color.RED, "red"),
    ],
)  # fmt: skip
def test_scalars_and_small_arrays_are_numbers_and_lists(value, stored, logged):
    """NumPy's, torch's and jax's scalars, 0-d and 1-element arrays included."""
    (found,) = logged({"v": value}).values()
    assert (found, type(found)) == (stored, type(stored))


@pytest.mark.parametrize("make", [np.array, Tensor])
def test_arrays_up_to_32_stay_lists_and_larger_ones_are_histograms(make, logged):
    """The border is at 32 elements, whatever the shape."""
    row = logged({"a": make(np.arange(32.0)), "b": make(np.zeros((3, 11)))})
    assert row["a"] == list(range(32))
    assert row["b"]["_type"] == "histogram"
    assert sum(row["b"]["values"]) == 33
    assert len(row["b"]["bins"]) == len(row["b"]["values"]) + 1


def test_no_array_library_is_imported_by_us(ok):
    """Numbers and lists need none."""
    code = "run = wandb.init(); run.log({'a': 1, 'b': [1.5], 'c': {'d': True}})\n"
    code += "run.finish(); print(*[m for m in ('numpy', 'torch') if m in sys.modules])"
    assert ok(code).strip() == ""


def test_nested_dicts_flatten_with_dots(logged):
    """Down to the leaves, keys of any kind made text."""
    assert logged({"a": {"b": {"c": 1}, "d": [2]}}) == {"a.b.c": 1, "a.d": [2]}


@pytest.mark.parametrize("data", [{"a.b": 1, "a": {"b": 2}}, {"a": {"b": 1}, "a.b": 2}])
def test_a_literal_dotted_key_collides_with_the_nested_one(data, logged):
    """They are one key: the last wins, and a warning names it."""
    with pytest.warns(wanllmdb.WanllmdbWarning, match=r"a\.b"):
        assert logged(data) == {"a.b": 2}


class Broken:
    """Raises wherever it is touched."""

    def __repr__(self):
        raise RuntimeError

    def __float__(self):
        raise RuntimeError

    def __eq__(self, other):
        raise RuntimeError

    __hash__ = None


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"bytes", "b'bytes'"), (1 + 2j, "(1+2j)"), (object(), "<object object"),
        (np.complex64(1j), "1j"), (Broken(), "Broken"), ([1, object()], "[1, <object"),
        (np.array([object()] * 40), "array("), ("x" * (1 << 20) + "x", "'xxx"),
        (list(range(300_000)), "[0, 1, 2"),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_a_bad_value_becomes_its_capped_text(value, shown, logged):
    """Training goes on, the other values are kept, and one warning says so."""
    with pytest.warns(wanllmdb.WanllmdbWarning, match="bad") as told:
        row = logged({"bad": value, "good": 1})
    assert len(told) == 1
    assert row["good"] == 1
    assert shown in row["bad"]
    assert len(row["bad"]) < 300


def test_a_value_that_contains_itself_is_survived(logged):
    """No recursion without end."""
    knot: dict = {}
    knot["again"] = knot
    knots: list = []
    knots.append(knots)
    with pytest.warns(wanllmdb.WanllmdbWarning):
        assert logged({"d": knot, "l": knots, "good": 1})["good"] == 1


def test_bad_values_warn_once_per_key_and_are_counted(api, rows):
    """Two keys, two warnings, however often; the run says how many there were."""
    run = wanllmdb.init()
    with pytest.warns(wanllmdb.WanllmdbWarning) as told:
        run.log({"a": b"x", "b": b"y"})
    for _ in range(4):
        run.log({"a": b"x", "b": b"y"})
    run.finish()
    assert len(told) == 2
    assert rows(api.run(run.path), "a")[-1] == (4, "b'x'")
    assert api.run(run.path).record.coerced_values == 10


@pytest.mark.parametrize(
    "data", [{"v": b"x"}, {"v": 1j}, {"_step": 1}, {"": 1}, {1: 2}]
)
def test_strict_raises_for_what_cannot_be_kept(data, api, rows):
    """strict=True turns each warning into an error, and writes nothing of the call."""
    run = wanllmdb.init(strict=True)
    with pytest.raises(InvalidMetricError):
        run.log(data)
    run.log({"a": math.nan, "b": [1], "c": {"d": "x"}, "e": None})
    run.finish()
    assert len(rows(api.run(run.path))) == 1


def test_without_strict_nothing_in_a_mapping_raises(ok):
    """Also not where the program turns warnings into errors."""
    ok("""
import warnings
warnings.simplefilter("error")
run = wandb.init()
for bad in (b"x", 1j, object(), lambda: 0, {1: 2}, {"": 1}, "\\ud800", float):
    run.log({"v": bad})
    run.log({bad if isinstance(bad, (str, bytes)) else "w": 1}, step="x")
""")


def test_any_mapping_may_be_logged(logged):
    """Not only dict: what says it is a Mapping."""
    import collections
    import types

    row = logged(types.MappingProxyType({"a": collections.OrderedDict(b=1)}))
    assert row == {"a.b": 1}


def test_a_megabyte_of_text_is_exact(logged):
    """Up to the limit a value is kept whole."""
    text = "x" * ((1 << 20) - 2)
    assert logged({"t": text}) == {"t": text}
