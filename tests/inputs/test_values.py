"""Odd values (rows 9, 11-13, 15, 36-38): kept, or kept as text with one warning."""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import fractions
import pathlib
import types
import unicodedata
import uuid

import numpy as np  # noqa: TID253 - the inputs under test
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import wanllmdb
from wanllmdb.errors import InvalidMetricError, RunFinishedError

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
CELLS = st.one_of(st.none(), st.booleans(), st.integers(), TEXT)
# In a list, mappings stay mappings; "~f" is how the log itself writes NaN.
NESTED = st.recursive(
    CELLS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["a", "~f", "~~", "é"]), inner, max_size=2),
    ),
    max_leaves=8,
)


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Broken:
    """A value that cannot even be shown."""

    def __repr__(self):
        message = "no repr"
        raise RuntimeError(message)


def one(api, value, **more):
    """Log one value; give the row that is stored."""
    with wanllmdb.init() as run:
        run.log({"x": value, **more})
    (row,) = api.run(run.path).scan_history()
    return row


def log_all(run, rows):
    """Log rows one after the other."""
    for row in rows:
        run.log(row)


def normal(value):
    """NFC of every text inside a value."""
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, list):
        return [normal(item) for item in value]
    if isinstance(value, dict):
        return {normal(key): normal(item) for key, item in value.items()}
    return value


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(NESTED, max_size=4), TEXT)
def test_lists_and_text_come_back(items, text):
    """Row 9: lists stay lists whatever they hold, text is compared in NFC."""
    with wanllmdb.init() as run:
        run.log({"list": items, "text": text})
    with wanllmdb.Api() as api:
        found = api.run(run.path)
        (row,) = found.scan_history()
        (shown,) = found.history().to_pylist()
        summary = found.summary
    for result in (row, shown, summary):
        assert normal(result["list"]) == normal(items)
        assert result["text"] == normal(text)


@pytest.mark.parametrize("shape", [(0,), (2,), (32,), (2, 3), (4, 8)])
def test_an_array_of_up_to_32_elements_is_a_list(shape, api):
    """Row 9: small arrays come back nested as they were."""
    array = np.arange(float(np.prod(shape))).reshape(shape)
    assert one(api, array)["x"] == array.tolist()


@pytest.mark.parametrize("shape", [(33,), (5, 7), (1000,)])
def test_a_larger_array_is_a_histogram_of_all_its_elements(shape, api):
    """Row 9: every element is counted once, between its least and greatest."""
    array = np.arange(float(np.prod(shape))).reshape(shape)
    stored = one(api, array)["x"]
    assert sum(stored["values"]) == array.size
    assert (stored["bins"][0], stored["bins"][-1]) == (0.0, array.max())
    assert len(stored["bins"]) == len(stored["values"]) + 1


@pytest.mark.parametrize(
    "array",
    [
        np.array([1.7e308, -1.7e308] * 20),
        np.full(40, np.nan),
        np.array([np.inf, 1.0] * 20),
        np.array([0.0, 5e-324] * 20),
        np.full(40, 1e300),
        np.array([10**400] * 40, dtype=object),
    ],
    ids=["widest", "nan", "inf", "subnormal", "constant", "big ints"],
)
@pytest.mark.filterwarnings("default::wanllmdb.WanllmdbWarning")
def test_an_array_of_extreme_numbers_never_stops_training(array, api):
    """Row 9: a histogram, or text with a warning, but no exception."""
    row = one(api, array, beside=1)
    assert row["beside"] == 1
    if isinstance(row["x"], dict):
        big = array.dtype == object
        finite = 0 if big else int(np.isfinite(array).sum())
        assert sum(row["x"]["values"]) == finite


def test_a_list_of_a_thousand_stays_a_list(api):
    """Row 9: only arrays become histograms."""
    assert one(api, list(range(1000)))["x"] == list(range(1000))


@pytest.mark.parametrize("value", ["e" * 900_000, "é" * 400_000, [0] * 400_000])
def test_a_value_below_one_mebibyte_is_kept_whole(value, api):
    """Row 9: 1 MiB is measured in UTF-8, as the user would measure it."""
    assert one(api, value)["x"] == value


@pytest.mark.parametrize("value", ["e" * ((1 << 20) + 1), [0.5] * 400_000])
def test_a_value_beyond_one_mebibyte_is_cut_with_a_warning(value, api):
    """Row 9: its beginning is kept, and the rest of the row."""
    with pytest.warns(wanllmdb.WanllmdbWarning, match="x: a value of"):
        row = one(api, value, beside=1)
    assert row["beside"] == 1
    assert len(row["x"]) < 1000


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (decimal.Decimal("0.1"), 0.1),
        (fractions.Fraction(1, 3), 1 / 3),
        (pathlib.PurePosixPath("/a/b"), "/a/b"),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        ({3}, [3]),
        (frozenset(), []),
        ((1, "a"), [1, "a"]),
        ([np.float32(0.5), np.array([1, 2])], [0.5, [1, 2]]),
        (np.str_("text"), "text"),
        (np.array("text"), "text"),
        (np.array(["text"]), "text"),
        (np.array(["a", "b"]), ["a", "b"]),
    ],
    ids=lambda v: type(v).__name__,
)
def test_what_has_a_plain_form_is_stored_as_it(value, stored, api):
    """Row 11: numbers, paths, enums, sets, tuples and numpy's text, without a word."""
    found = one(api, value)["x"]
    assert (found, type(found)) == (stored, type(stored))


BAD = [
    b"bytes", bytearray(b"bytes"), 1 + 2j, np.complex64(1j), np.bytes_(b"a"),
    datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), datetime.timedelta(1),
    np.datetime64("2026-01-01"), uuid.UUID(int=1), object, len, range(3), Broken(),
    [b"in a list"], {"_type": "table", "data": b"x"}, np.array([1 + 2j, 1j]),
    np.array(["2026-01-01", "2026-01-02"], "datetime64[D]"), np.array([b"a", b"b"]),
    np.array([object(), None]), "half a character: \ud800", "a\0b",
    decimal.Decimal("sNaN"), fractions.Fraction(10**400),
]  # fmt: skip


@pytest.mark.parametrize("value", BAD, ids=lambda value: type(value).__name__)
def test_what_has_no_plain_form_is_kept_as_text_with_one_warning(value, api):
    """Rows 11, 12: two rows warn once, by the key's name, and lose nothing else."""
    run = wanllmdb.init()
    with pytest.warns(wanllmdb.WanllmdbWarning, match="x: ") as caught:
        log_all(run, [{"a": 1, "x": value, "b": 2}] * 2)
    run.finish()
    assert len(caught) == 1
    rows = list(api.run(run.path).scan_history())
    assert [(row["a"], row["b"]) for row in rows] == [(1, 2)] * 2
    assert all(isinstance(row["x"], str) and len(row["x"]) < 300 for row in rows)


def test_every_bad_key_warns_once(api):
    """Rows 11, 12: once per key, however often and at whatever step."""
    run = wanllmdb.init()
    with pytest.warns(wanllmdb.WanllmdbWarning) as caught:
        log_all(run, [{"a": b"1", "b": 1j}, {"b": 2j}, {"a": 3j, "c": b""}] * 3)
    run.finish()
    told = sorted(str(warning.message).split(":")[0] for warning in caught)
    assert told == ["a", "b", "c"]
    assert len(list(api.run(run.path).scan_history())) == 9


def test_values_that_became_text_are_counted(api):
    """Rows 11, 12: the run's record says how many, though only one was warned of."""
    run = wanllmdb.init()
    with pytest.warns(wanllmdb.WanllmdbWarning, match="x: "):
        log_all(run, [{"x": b"1", "a": 1}] * 3)
    run.finish()
    assert api.run(run.path).record.coerced_values == 3


def test_a_warning_points_at_the_line_that_logged():
    """Rows 11, 12: the user sees a line of the training script, not one of ours."""
    run = wanllmdb.init()
    with pytest.warns(wanllmdb.WanllmdbWarning) as caught:
        run.log({"x": b"bytes"})
    assert caught[0].filename == __file__


@pytest.mark.parametrize("value", BAD, ids=lambda value: type(value).__name__)
def test_strict_raises_for_each_of_them_and_goes_on(value, api):
    """Rows 11, 12: strict=True raises by the key, writes nothing, and recovers."""
    run = wanllmdb.init(strict=True)
    with pytest.raises(InvalidMetricError, match="x"):
        run.log({"x": value, "a": 1})
    assert run.step == 0
    run.log({"a": 2})
    run.finish()
    assert [row["a"] for row in api.run(run.path).scan_history()] == [2]


def test_none_is_a_value_that_is_stored(api):
    """Row 13: None comes back as None, and is no gap; config keeps it too."""
    with wanllmdb.init(config={"c": None}) as run:
        log_all(run, [{"x": None, "a": 1}, {"a": 2}, {"x": None}, {"x": 4}])
    found = api.run(run.path)
    rows = list(found.scan_history())
    assert [row.get("x", "absent") for row in rows] == [None, "absent", None, 4]
    assert found.config == {"c": None}


@pytest.mark.parametrize(
    "bad",
    ["x", [1], None, 3, {1}, [("a", 1)], object(), iter({})],
    ids=lambda v: type(v).__name__,
)
@pytest.mark.parametrize("strict", [False, True])
def test_what_is_no_mapping_is_refused_by_its_type(bad, strict, api):
    """Row 15: a TypeError names the type; the run takes rows as before."""
    run = wanllmdb.init(strict=strict)
    with pytest.raises(TypeError, match=type(bad).__name__):
        wanllmdb.log(bad)
    run.log({"a": 1})
    run.finish()
    rows = list(api.run(run.path).scan_history())
    assert [(row["_step"], row["a"]) for row in rows] == [(0, 1)]


@pytest.mark.parametrize(
    "kind",
    [dict, collections.OrderedDict, types.MappingProxyType, collections.UserDict,
     collections.ChainMap, collections.Counter],
)  # fmt: skip
def test_every_kind_of_mapping_is_taken(kind, api):
    """Row 15: a mapping is what acts as one, at the top and inside."""
    with wanllmdb.init() as run:
        run.log(kind({"a": 1, "b": kind({"c": 2})}))
    (row,) = api.run(run.path).scan_history()
    assert (row["a"], row["b.c"]) == (1, 2)


def test_config_and_logged_values_are_those_of_the_call(api):
    """Rows 36, 38: objects that change later change nothing that was stored."""
    config, row, items = {"a": [1], "n": {"b": 1}}, {}, [0]
    with wanllmdb.init(config=config) as run:
        for step in range(3):
            row["x"] = items[0] = step
            row["list"], row["nested"] = items, {"y": items}
            run.log(row)
        config["a"].append(2)
        config["n"]["b"] = 2
        items.append("later")
    found = api.run(run.path)
    rows = list(found.scan_history())
    assert [(r["x"], r["list"], r["nested.y"]) for r in rows] == [
        (step, [step], [step]) for step in range(3)
    ]
    assert found.config == {"a": [1], "n": {"b": 1}}
    assert found.summary["list"] == [2]


def test_what_the_summary_gives_is_a_copy(api):
    """Row 38: changing a list read from the summary does not change the run."""
    with wanllmdb.init() as run:
        run.log({"x": [1, 2]})
        run.summary["x"].append("not logged")
    assert api.run(run.path).summary["x"] == [1, 2]


def test_a_config_changed_after_a_log_is_kept_with_one_warning(api):
    """Row 36: changes are always allowed, recorded as events, and warned of once."""
    with wanllmdb.init(config={"lr": 1}) as run:
        run.log({"x": 1})
        with pytest.warns(wanllmdb.WanllmdbWarning, match="config") as caught:
            run.config.lr = 2
        run.config.update({"lr": 3, "new": None})
    assert len(caught) == 1
    found = api.run(run.path)
    assert found.config == {"lr": 3, "new": None}
    changed = [event for event in found.events if event.kind == "config"]
    assert [event.after["lr"] for event in changed][-2:] == [2, 3]


def test_a_config_of_two_mebibytes_never_fails_init(api):
    """Row 36: beyond 1 MiB it moves to a blob and reads the same."""
    big = {"text": "x" * (2 << 20), "list": list(range(1000)), "lr": 0.1}
    with wanllmdb.init(config=big) as run:
        run.log({"x": 1})
    assert api.run(run.path).config == big


@pytest.mark.parametrize("value", [b"b", 1j, Broken(), object(), "\ud800"], ids=type)
def test_a_config_takes_any_object_as_text(value, api):
    """Row 36: what has no plain form is its repr; the other keys stay."""
    with wanllmdb.init(config={"odd": value, "lr": 0.1, "deep": [{"v": value}]}) as run:
        run.log({"x": 1})
    config = api.run(run.path).config
    assert isinstance(config["odd"], str)
    assert config["lr"] == 0.1


def test_the_last_writer_of_a_summary_key_wins(api):
    """Row 37: in order of time, whether log() or the user wrote it."""
    with wanllmdb.init() as run:
        run.log({"user_last": 1, "log_last": 1, "only_log": 1})
        run.summary.update({"user_last": "mine", "log_last": "mine", "only_user": [1]})
        run.log({"log_last": 2})
    summary = api.run(run.path).summary
    kept = {key: value for key, value in summary.items() if not key.startswith("_")}
    assert kept == {
        "user_last": "mine", "log_last": 2, "only_log": 1, "only_user": [1],
    }  # fmt: skip


def test_a_summary_written_after_finish_is_kept_and_a_log_is_not(api):
    """Rows 27, 37: the user still writes the summary; log() raises with a hint."""
    run = wanllmdb.init()
    run.log({"x": 1})
    run.finish()
    run.finish()
    with pytest.raises(RunFinishedError, match="resume"):
        run.log({"x": 2})
    run.summary["note"] = "late"
    found = api.run(run.path)
    assert (found.summary["x"], found.summary["note"]) == (1, "late")
