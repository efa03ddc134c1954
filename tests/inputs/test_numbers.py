"""Odd numbers (rows 1-8 and 10): each comes back with its type and its bits."""

from __future__ import annotations

import json
import math
import struct
import subprocess
import sys

import numpy as np  # noqa: TID253 - the inputs under test
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import wanllmdb

TOO_BIG = 10**5000  # more digits than Python's int turns into text by default


def exact(value):
    """A value equal only to itself: its type, and a float's eight bytes."""
    if type(value) is float:
        return "float", "nan" if math.isnan(value) else struct.pack("<d", value).hex()
    if isinstance(value, list):
        return "list", [exact(item) for item in value]
    return type(value).__name__, value


def logged(api, *rows):
    """Log rows in a run of their own; give the stored run."""
    with wanllmdb.init() as run:
        for row in rows:
            run.log(row)
    return api.run(run.path)


def log_all(run, rows):
    """Log rows one after the other."""
    for row in rows:
        run.log(row)


def values(run, key="x"):
    """What `scan_history` gives for one key, in order."""
    return [exact(row[key]) for row in run.scan_history() if key in row]


FLOATS = [
    math.nan, math.inf, -math.inf, -0.0, 0.0, 5e-324, -5e-324, 2.2250738585072014e-308,
    sys.float_info.max, -sys.float_info.max, 1e308 * 10, 0.1, 1 / 3,
]  # fmt: skip
INTS = [
    2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63), 2**63, -(2**63) - 1, 2**64 + 1,
    10**400, -(10**400),
]  # fmt: skip


def short(value):
    """A test's id: a number's first characters."""
    return str(value)[:24]


@pytest.mark.parametrize("value", FLOATS + INTS, ids=short)
def test_a_number_comes_back_bit_for_bit_by_every_way_of_reading(value, api):
    """Rows 1-5: scan, table and summary all hold the very number."""
    run = logged(api, {"x": value, "beside": 1})
    assert values(run) == [exact(value)]
    (row,) = run.history().to_pylist()
    (chosen,) = run.history(["x"]).to_pylist()
    wanted = exact(value)
    assert exact(row["x"]) == exact(chosen["x"]) == wanted
    assert exact(run.summary["x"]) == wanted
    assert (row["beside"], run.summary["beside"]) == (1, 1)


@pytest.mark.parametrize(
    "value", [math.nan, -0.0, 2**63, 10**400, True, [1, 2.5]], ids=short
)
def test_the_statistics_of_a_key_hold_its_last_value_exactly(value, api):
    """Rows 1-6: `keys[...].last` is the value, as it is for the 257th key."""
    wide = {f"k{number}": 0 for number in range(300)}
    run = logged(api, {"x": value, **wide, "y": value})
    assert exact(run.keys["y"].last) == exact(value)
    assert exact(run.keys["x"].last) == exact(value)


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 10**400], ids=short)
def test_the_extremes_of_big_ints_are_exact(value, api):
    """Row 5: min and max beyond 64 bits are the ints that were logged."""
    stats = logged(api, {"x": value}, {"x": value}).keys["x"]
    assert (exact(stats.min), exact(stats.max)) == (exact(value), exact(value))


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.one_of(st.floats(), st.integers(), st.booleans()), min_size=1))
def test_any_column_of_numbers_comes_back(numbers):
    """Rows 1-6: floats, ints and bools of one key keep order, type and bits."""
    with wanllmdb.init() as run:
        for number in numbers:
            run.log({"x": number})
    with wanllmdb.Api() as api:
        found = api.run(run.path)
        assert values(found) == [exact(number) for number in numbers]
        assert exact(found.summary["x"]) == exact(numbers[-1])


def test_nan_is_a_value_and_not_a_gap(api):
    """Row 1: a NaN is counted and returned, a missing value is absent."""
    run = logged(api, {"x": math.nan, "y": 1}, {"y": 2}, {"x": 3.0, "y": 3})
    assert values(run) == [exact(math.nan), exact(3.0)]
    column = run.history()["x"]
    assert column.null_count == 1
    assert math.isnan(column[0].as_py())
    assert (run.keys["x"].count, run.keys["x"].nans) == (2, 1)
    assert (run.keys["x"].min, run.keys["x"].mean) == (3.0, 3.0)


@pytest.mark.parametrize("command", [["metric", "get", "r", "x"], ["show", "r"]])
def test_json_of_the_command_line_is_valid_with_nan_and_infinities(command):
    """Row 1: strict JSON on stdout, where non-finite floats are named."""
    with wanllmdb.init(id="r", config={"c": math.nan}) as run:
        for value in (math.inf, -math.inf, math.nan):
            run.log({"x": value})

    def refuse(word):
        raise AssertionError(word)

    done = subprocess.run(
        [sys.executable, "-m", "wanllmdb", *command, "--json"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    json.loads(done.stdout, parse_constant=refuse)
    assert '"NaN"' in done.stdout


def test_infinities_are_the_extremes(api):
    """Row 2: min and max take infinities in, and sorting puts them at the ends."""
    run = logged(api, *({"x": v} for v in (1.0, math.inf, -5.0, -math.inf)))
    stats = run.keys["x"]
    assert (stats.min, stats.max, stats.nans) == (-math.inf, math.inf, 0)
    ordered = [row["x"] for row in run.history(x="x").to_pylist()]
    assert ordered == [-math.inf, -5.0, 1.0, math.inf]


def test_a_mean_of_great_floats_is_their_mean(api):
    """Row 3: the mean is right to double rounding, as KeyStats says."""
    assert logged(api, {"x": 1e308}, {"x": 1e308}).keys["x"].mean == 1e308


def test_extremes_of_ints_beyond_float_precision_are_exact(api):
    """Row 4: min and max of ints are not rounded to floats."""
    low, high = 2**53 + 1, 2**53 + 3
    stats = logged(api, {"x": low}, {"x": 2**53 + 2}, {"x": high}).keys["x"]
    assert (exact(stats.min), exact(stats.max)) == (exact(low), exact(high))


@pytest.mark.parametrize("big", [2**63, 2**70, 10**400], ids=short)
@pytest.mark.parametrize("other", [1.5, math.inf, math.nan, -0.0])
def test_a_big_int_and_a_float_may_share_a_key(big, other, api):
    """Row 5: neither log() nor finish() trips over an int too large for a float."""
    run = logged(api, {"x": big}, {"x": other}, {"x": big}, {"x": other})
    assert values(run) == [exact(big), exact(other)] * 2
    assert run.state == "finished"
    assert run.keys["x"].count == 4


def test_an_int_of_five_thousand_digits_costs_only_itself(api):
    """Row 5: what Python itself will not write as text is warned of, once."""
    run = wanllmdb.init()
    with pytest.warns(wanllmdb.WanllmdbWarning, match="x: ") as caught:
        log_all(run, [{"x": TOO_BIG, "beside": 1}, {"x": TOO_BIG, "beside": 2}])
    run.finish()
    assert len(caught) == 1
    found = api.run(run.path)
    assert values(found, "beside") == [exact(1), exact(2)]
    assert len(values(found)) == 2


def test_an_int_of_five_thousand_digits_may_be_in_a_config(api):
    """Row 5: init() never fails for a value of the config."""
    with wanllmdb.init(config={"seed": TOO_BIG, "beside": 1}) as run:
        run.log({"x": 1})
    assert api.run(run.path).config["beside"] == 1


@pytest.mark.parametrize("value", [True, False, np.bool_(True), np.array(False)])
def test_a_bool_stays_a_bool_and_is_found_either_way(value, api):
    """Row 6: type bool comes back; filters find it as a bool and as a number."""
    run = logged(api, {"x": value})
    assert values(run) == [("bool", bool(value))]
    assert run.history(["x"]).to_pylist()[0]["x"] is bool(value)
    assert run.summary["x"] is bool(value)
    word = str(bool(value)).lower()
    for test in (f"summary.x = {word}", f"summary.x = {int(value)}"):
        assert [found.id for found in api.runs(filters=test)] == [run.id]


NUMPY_INTS = [
    kind(bound)
    for kind in (np.int8, np.int16, np.int32, np.int64,
                 np.uint8, np.uint16, np.uint32, np.uint64)
    for bound in (np.iinfo(kind).min, np.iinfo(kind).max)
]  # fmt: skip
NUMPY_FLOATS = [
    kind(value)
    for kind in (np.float16, np.float32, np.float64)
    for value in (0.1, -0.0, math.nan, math.inf, np.finfo(kind).max,
                  np.finfo(kind).smallest_subnormal)
]  # fmt: skip


@pytest.mark.parametrize("value", NUMPY_INTS + NUMPY_FLOATS, ids=repr)
def test_a_numpy_scalar_is_the_same_number(value, api):
    """Row 7: Python's own int or float of the same value, never bytes."""
    run = logged(api, {"x": value}, {"x": value})
    assert values(run) == [exact(value.item())] * 2
    assert exact(run.summary["x"]) == exact(value.item())


def test_numpy_scalars_keep_their_numbers_in_config_and_summary(api):
    """Row 7: the same holds where the user writes config and summary."""
    numbers = {"f": np.float32(0.1), "i": np.int64(2**53 + 1), "b": np.bool_(True)}
    with wanllmdb.init(config=numbers) as run:
        run.summary.update(numbers)
    found = api.run(run.path)
    for key, value in numbers.items():
        assert exact(found.config[key]) == exact(value.item())
        assert exact(found.summary[key]) == exact(value.item())


@pytest.mark.parametrize("value", [2.5, 7, True, math.nan, 2**64 - 1])
@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1)])
def test_an_array_of_one_element_is_a_scalar(value, shape, api):
    """Row 8: whatever its shape, one element is the element itself."""
    run = logged(api, {"x": np.full(shape, value)})
    assert values(run) == [exact(value)]


class Tensor:
    """What torch and jax values have in common, and nothing more."""

    def __init__(self, listed, shape=(), *, grad=False):
        self._listed = listed
        self._grad = grad
        self.shape = shape

    def detach(self):
        return Tensor(self._listed, self.shape)

    def tolist(self):
        if self._grad:
            message = "detach first"
            raise RuntimeError(message)
        return self._listed


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize(
    ("listed", "shape"), [(0.1, ()), ([[3]], (1, 1)), ([1.5, math.nan], (2,))]
)
def test_a_tensor_is_known_by_what_it_can_do(listed, shape, grad, api):
    """Row 10: shape and tolist are enough; a gradient is left behind."""
    run = logged(api, {"x": Tensor(listed, shape, grad=grad)})
    scalar = listed[0][0] if shape == (1, 1) else listed
    assert values(run) == [exact(scalar)]


class Unreadable(Tensor):
    """A jax tracer or a torch meta tensor: it has a shape, and no values."""

    def detach(self):
        return self

    def tolist(self):
        message = "abstract tracer value"
        raise RuntimeError(message)


@pytest.mark.parametrize("shape", [(), (3,)])
def test_a_tensor_that_cannot_be_read_costs_only_itself(shape, api):
    """Row 10: log() raises only for a non-mapping; the value's text is kept."""
    run = wanllmdb.init()
    rows = [{"x": Unreadable(0, shape), "beside": step} for step in range(2)]
    with pytest.warns(wanllmdb.WanllmdbWarning, match="x: ") as caught:
        log_all(run, rows)
    run.finish()
    assert len(caught) == 1
    assert values(api.run(run.path), "beside") == [exact(0), exact(1)]


def test_a_tensor_that_cannot_be_read_may_be_in_a_config(api):
    """Row 10: config falls back to the repr, and init() goes on."""
    with wanllmdb.init(config={"x": Unreadable(0, ()), "beside": 1}) as run:
        run.log({"y": 1})
    assert api.run(run.path).config["beside"] == 1


@pytest.mark.frameworks
@pytest.mark.parametrize("name", ["float32", "float64", "bfloat16", "int64", "bool"])
def test_a_real_torch_scalar_is_its_number(name, api):
    """Row 10: a detached scalar of every dtype, with its own library."""
    torch = pytest.importorskip("torch")
    value = torch.tensor(1.5).to(getattr(torch, name))
    value.requires_grad_(value.is_floating_point())
    run = logged(api, {"x": value, "y": value.reshape(1)})
    assert values(run) == values(run, "y") == [exact(value.detach().item())]


@pytest.mark.frameworks
@pytest.mark.parametrize("name", ["float32", "bfloat16", "int32", "bool"])
def test_a_real_jax_scalar_is_its_number(name, api):
    """Row 10: the same for jax, which has no detach."""
    jnp = pytest.importorskip("jax.numpy")
    run = logged(api, {"x": jnp.asarray(1.5).astype(name)})
    assert values(run) == [exact(jnp.asarray(1.5).astype(name).item())]


def test_neither_torch_nor_jax_is_imported():
    """Row 10: recognising a tensor imports nothing."""
    code = """
import sys, wanllmdb
class T:
    shape = ()
    def tolist(self): return 1.5
wanllmdb.init().log({"x": T()})
print([m for m in ("torch", "jax", "numpy") if m in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
        check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "[]"
