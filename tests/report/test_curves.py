"""Curves and axes: every number a double can be, in any order."""

from __future__ import annotations

import math
import re
import sys

import numpy as np  # noqa: TID253 - what curves are made of
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wanllmdb
from wanllmdb._report.curves import BUCKETS, curves, reduced
from wanllmdb._report.svg import Series, chart, smoothed
from wanllmdb._report.ticks import position_axis, value_axis

HUGE = sys.float_info.max
ANY = st.floats(allow_nan=True, allow_infinity=True)
FINITE = st.floats(allow_nan=False, allow_infinity=False)


def curve_of(values, x=None, buckets=BUCKETS):
    places = np.arange(len(values)) if x is None else x
    return reduced(np.array(places, float), np.array(values, float), buckets)


def drawn(values):
    return chart("m", [Series("run", 0, curve_of(values))], "step", whole=True)


@pytest.fixture
def logged(api):
    """The curve of a metric of which these values were logged, at these steps."""

    def read(values, steps=None):
        with wanllmdb.init(project="p", id="r") as run:
            for place, value in enumerate(values):
                run.log({"m": value}, step=None if steps is None else steps[place])
        return curves(api.run("p/r"), ["m"])["m"]

    return read


@settings(deadline=None)
@given(st.lists(ANY, max_size=60), st.integers(1, 20))
def test_a_curve_holds_every_finite_value_between_its_bounds(values, buckets):
    """Low and high are the values' own extremes; the mean lies between them."""
    curve = curve_of(values, buckets=buckets)
    finite = [value for value in values if math.isfinite(value)]
    assert len(curve.x) <= buckets + 1
    assert curve.left_out == len(values) - len(finite)
    if finite:
        assert np.nanmin(curve.low) == min(finite)
        assert np.nanmax(curve.high) == max(finite)
        assert curve.last == finite[-1]
    there = ~np.isnan(curve.mean)
    assert (curve.low <= curve.mean)[there].all()
    assert (curve.mean <= curve.high)[there].all()


@settings(deadline=None)
@given(st.lists(ANY, min_size=1, max_size=40))
def test_every_series_can_be_drawn(values):
    """No coordinate is ever NaN, infinite or out of the picture."""
    picture = drawn(values).partition("</title>")[2]
    for numbers in re.findall(r' (?:d|x|y)="([^"]*)"', picture):
        for number in re.findall(r"[-+\w.]*\d[-+\w.]*", numbers):
            assert "n" not in number
    for line in re.findall(r'class="line r0" d="M(\d+) (\d+)l', picture):
        assert 0 <= int(line[0]) <= 4000
        assert 0 <= int(line[1]) <= 2100


@settings(deadline=None)
@given(FINITE, FINITE)
def test_ticks_are_in_order_and_on_the_axis(one, other):
    """There are few of them, each with a label of its own."""
    low, high = min(one, other), max(one, other)
    for axis in (value_axis(low, high), position_axis(low, high, whole=False)):
        ticks = axis.ticks(5)
        places = [place for place, _ in ticks]
        assert places == sorted(places)
        assert len(ticks) <= 8
        assert len({label for _, label in ticks}) == len(ticks)
        assert all(-1e-6 <= place <= 1 + 1e-6 for place in places)


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0, 1, "0.0 0.2 0.4 0.6 0.8 1.0"),
        (0, 98304, "0 20k 40k 60k 80k 100k"),
        (1234, 1236, "1234.0 1234.5 1235.0 1235.5 1236.0"),
        (1e-5, 1, "1e−5 1e−4 1e−3 1e−2 1e−1 1e0"),
        (1e-300, 1e300, "1e−323 1e−214 1e−105 1e4 1e113 1e222"),
        (0.001, 100, "0.001 0.01 0.1 1 10 100"),
        (-2.5e9, 2.5e9, "−2G −1G 0 1G 2G"),
    ],
)
def test_axes_bear_good_numbers(low, high, labels):
    """Those that people would write, in one style along an axis."""
    found = [label for _, label in value_axis(low, high).ticks(6)]
    assert found == labels.split()


@pytest.mark.parametrize(
    ("low", "high", "is_log"),
    [(1e-3, 1, True), (1e-2, 1, False), (0, 1e9, False), (-1, 1e9, False),
     (5e-324, HUGE, True)],
)  # fmt: skip
def test_the_axis_is_logarithmic_where_it_shows_more(low, high, is_log):
    """All values positive, over three decades or more."""
    assert value_axis(low, high).is_log is is_log


def test_steps_are_marked_by_whole_numbers():
    """There is no step 0.5."""
    assert [t for _, t in position_axis(0, 1, whole=True).ticks(5)] == ["0", "1"]
    assert [t for _, t in position_axis(7, 7, whole=True).ticks(5)] == ["7"]


def test_large_steps_keep_the_digits_that_differ():
    """A label names its own place, not one near it."""
    start = 10**15
    ticks = position_axis(start, start + 40, whole=True).ticks(5)
    assert [text for _, text in ticks][:2] == ["1e15", "1.00000000000001e15"]
    tiny = [text for _, text in value_axis(1e-9, 5e-9).ticks(5)]
    assert tiny == ["1e−9", "2e−9", "3e−9", "4e−9", "5e−9"]


def test_gaps_are_gaps(logged):
    """NaN between numbers parts the line; the rest is drawn."""
    curve = logged([1, 2, math.nan, math.inf, 3, 4])
    assert curve.left_out == 2
    picture = chart("m", [Series("run", 0, curve)], "step", whole=True)
    line = re.search(r'class="line r0" d="([^"]*)"', picture)[1]
    assert line.count("M") == 2


def test_one_point_is_a_dot():
    """It can be seen, and so can one between two gaps."""
    for values in ([3.5], [1, 2, math.nan, 3, math.nan, 4, 5]):
        dots = re.findall(r'class="dot r0" d="([^"]*)"', drawn(values))
        assert len(dots) == 1


def test_nothing_finite_is_said_in_words():
    """A chart without a number has no axes."""
    for values in ([], [math.nan], [math.inf, -math.inf]):
        assert "nothing finite to draw" in drawn(values)


def test_steps_that_go_backwards_are_put_in_order():
    """Steps always ascend, whichever writer was first."""
    curve = curve_of([3, 1, 2], x=[30, 10, 20])
    assert curve.x.tolist() == [10, 20, 30]
    assert curve.mean.tolist() == [1, 2, 3]


def test_values_at_one_step_are_one_stretch():
    """Of several writers the least, the mean and the greatest are shown."""
    curve = curve_of([1, 3, 5], x=[0, 0, 1])
    assert curve.low.tolist() == [1, 5]
    assert curve.mean.tolist() == [2, 5]
    assert curve.high.tolist() == [3, 5]


def test_numbers_among_others_are_drawn(logged):
    """Ints beyond floats, booleans and text in one metric: what is a number counts."""
    curve = logged([1, 2**60, "text", 2.5, [1, 2], 10**400])
    assert curve.mean[~np.isnan(curve.mean)].tolist() == [1, 2.0**60, 2.5]
    assert curve.left_out == 3


def test_a_huge_step_costs_nothing(logged):
    """Stretches without values are not there at all."""
    assert logged([1, 2], steps=[0, 10**12]).x.tolist() == [0, 1e12]


def test_text_and_lists_have_no_chart(page):
    """Nothing of them can be drawn."""
    with wanllmdb.init(project="p", id="r") as run:
        run.log({"text": "a", "list": [1, 2], "flag": True})
    assert len(page("p/r").charts()) == 1


def test_a_smooth_line_does_not_lag():
    """A straight line stays one, and a step is met half-way where it is."""
    ramp = np.arange(400.0)
    assert np.abs(smoothed(ramp) - ramp)[20:-20].max() < 0.01
    stair = np.repeat([0.0, 1.0], 200)
    assert abs(smoothed(stair)[199:201].mean() - 0.5) < 1e-6
