"""Odd keys (rows 16-22): data that comes back, or refused by name."""

from __future__ import annotations

import enum
import subprocess
import sys
import time
import unicodedata

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import wanllmdb
from wanllmdb.errors import InvalidMetricError

RESERVED = ["_step", "_timestamp", "_runtime", "_writer"]
KEYS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
NFC, NFD = "\u00e9", "e\u0301"


class Split(enum.StrEnum):
    TRAIN = "train"


def log_all(run, rows):
    """Log rows one after the other."""
    for row in rows:
        run.log(row)


def cells(row):
    """A row without the columns of the row itself."""
    return {key: value for key, value in row.items() if key not in RESERVED}


def rows_of(api, run):
    """All stored rows, without the columns of the rows themselves."""
    return [cells(row) for row in api.run(run.path).scan_history()]


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(KEYS, min_size=1, max_size=6))
def test_any_text_is_a_key(keys):
    """Rows 20-22: whatever is no blank, reserved word or duplicate round-trips."""
    normal = [unicodedata.normalize("NFC", key) for key in keys]
    assume(len(set(normal)) == len(keys))
    assume(all(key.strip() and key not in RESERVED for key in normal))
    with wanllmdb.init() as run:
        run.log({key: number for number, key in enumerate(keys)})
    wanted = {key: number for number, key in enumerate(normal)}
    with wanllmdb.Api() as api:
        found = api.run(run.path)
        (row,) = found.scan_history()
        (shown,) = found.history().to_pylist()
        assert cells(row) == cells(shown) == wanted
        assert {key: stats.last for key, stats in found.keys.items()} == wanted
        assert {key: found.summary[key] for key in wanted} == wanted


@pytest.mark.parametrize("key", [1, None, (1, "a"), 1.5, True, b"b"], ids=repr)
def test_a_key_that_is_no_text_becomes_text_with_one_warning(key, api):
    """Row 16: it is str() of the key; the values and the rest of the row are kept."""
    run = wanllmdb.init()
    with pytest.warns(wanllmdb.WanllmdbWarning, match="key of type") as caught:
        log_all(run, [{key: 1, "beside": 3}] * 2)
    run.finish()
    assert len(caught) == 1
    assert rows_of(api, run) == [{str(key): 1, "beside": 3}] * 2


def test_a_warning_of_a_nested_key_gives_its_whole_name(api):
    """Row 16: `n.1` is another key than `1`, and has a warning of its own."""
    run = wanllmdb.init()
    with pytest.warns(wanllmdb.WanllmdbWarning, match="key of type") as caught:
        log_all(run, [{1: 1, "n": {1: 2}}] * 2)
    run.finish()
    assert rows_of(api, run) == [{"1": 1, "n.1": 2}] * 2
    told = [str(warning.message).split(":")[0] for warning in caught]
    assert told == ["1", "n.1"]


def test_a_str_enum_is_a_key_like_its_text(api):
    """Row 16: a subclass of str is text, without a word."""
    with wanllmdb.init() as run:
        run.log({Split.TRAIN: 1, "n": {Split.TRAIN: 2}})
    assert rows_of(api, run) == [{"train": 1, "n.train": 2}]


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ({1: "int", "1": "text"}, {"1": "text"}),
        ({"a": {"b": 1}, "a.b": 2}, {"a.b": 2}),
        ({"a.b": 2, "a": {"b": 1}}, {"a.b": 1}),
        ({NFC: 1, NFD: 2}, {NFC: 2}),
    ],
)
def test_two_keys_that_come_to_the_same_warn_and_the_last_wins(row, wanted, api):
    """Rows 16, 17, 22: one value is kept, and the user is told which key it is."""
    (name,) = wanted
    run = wanllmdb.init()
    with pytest.warns(wanllmdb.WanllmdbWarning, match=f"^{name}: "):
        run.log({**row, "beside": 0})
    run.finish()
    assert rows_of(api, run) == [{**wanted, "beside": 0}]


def test_two_keys_that_come_to_the_same_raise_in_strict_mode(api):
    """Row 17: strict=True raises, writes nothing, and goes on."""
    run = wanllmdb.init(strict=True)
    with pytest.raises(InvalidMetricError, match="given twice"):
        run.log({"a": {"b": 1}, "a.b": 2})
    run.log({"a": {"b": 1}, "a/b": 2, "c": {}})
    run.finish()
    assert rows_of(api, run) == [{"a.b": 1, "a/b": 2}]


def test_nested_mappings_flatten_by_one_rule(api):
    """Row 17: dots join at every depth; slashes are part of a key."""
    with wanllmdb.init() as run:
        run.log({"a": {"b": {"c": 1}, "d/e": 2}, "a/b": 3, "empty": {}})
    assert rows_of(api, run) == [{"a.b.c": 1, "a.d/e": 2, "a/b": 3}]


def test_the_step_metric_is_copied_into_nested_rows_too(api):
    """Row 17: define_metric speaks of the flattened keys, as history shows them."""
    with wanllmdb.init() as run:
        run.define_metric("train.loss", step_metric="epoch")
        run.log({"epoch": 1})
        run.log({"train": {"loss": 2}})
    assert rows_of(api, run)[1] == {"train.loss": 2, "epoch": 1}


def test_a_key_that_is_no_text_may_meet_a_glob(api):
    """Row 16: define_metric("*") does not make such a key an error."""
    run = wanllmdb.init()
    run.define_metric("*", step_metric="epoch")
    with pytest.warns(wanllmdb.WanllmdbWarning, match="key of type int"):
        log_all(run, [{"epoch": 1}, {7: 2}])
    run.finish()
    assert rows_of(api, run)[1] == {"7": 2, "epoch": 1}


def deep(levels):
    """A mapping nested so many levels deep."""
    value = {"end": 1}
    for _ in range(levels):
        value = {"d": value}
    return value


def test_a_hundred_levels_come_back(api):
    """Row 18: what fits is kept, under its long name."""
    with wanllmdb.init() as run:
        run.log(deep(100))
    assert rows_of(api, run) == [{"d." * 100 + "end": 1}]


def circle():
    """A mapping that holds itself."""
    value = {"a": 1}
    value["self"] = value
    return value


@pytest.mark.parametrize("make", [circle, lambda: deep(10_000)], ids=["circle", "deep"])
def test_what_is_nested_without_end_is_left_out_with_one_warning(make, api):
    """Row 18: no RecursionError; the rest of the row is kept."""
    run = wanllmdb.init()
    with pytest.warns(wanllmdb.WanllmdbWarning, match="deeper|itself") as caught:
        log_all(run, [{"beside": 1, "x": make()}] * 2)
    run.finish()
    assert len(caught) == 1
    assert [row["beside"] for row in rows_of(api, run)] == [1, 1]


@pytest.mark.parametrize("make", [circle, lambda: deep(10_000)], ids=["circle", "deep"])
def test_a_config_nested_without_end_never_fails_init(make, api):
    """Row 18: what is too deep is its repr; other keys are kept."""
    with wanllmdb.init(config={"x": make(), "lr": 0.1}) as run:
        run.log({"a": 1})
    assert api.run(run.path).config["lr"] == 0.1


@pytest.mark.parametrize("where", ["run.log({'x': d})", "run.config.update({'x': d})"])
def test_a_mapping_that_holds_itself_twice_takes_no_time(where):
    """Row 18: two circles must not be followed 2^100 times."""
    code = f"""
import warnings, wanllmdb
warnings.simplefilter("ignore")
run = wanllmdb.init()
d = {{}}
d["me"] = d["self"] = d
{where}
run.log({{"after": 1}})
"""
    done = subprocess.run([sys.executable, "-c", code], timeout=5, check=False)
    assert done.returncode == 0


def test_ten_thousand_keys_in_one_call_are_quick(api):
    """Row 19: less than a second of processor time, and all of them are there."""
    row = {f"key/{number}": number for number in range(10_000)}
    with wanllmdb.init() as run:
        before = time.process_time()
        run.log(row)
        assert time.process_time() - before < 1
    found = api.run(run.path)
    assert [cells(r) for r in found.scan_history()] == [row]
    assert found.keys["key/9999"].last == 9999


def test_keys_beyond_the_limit_of_sums_are_kept_and_warned_of(api):
    """Row 19: every row is stored; one warning says that no more keys are summed."""
    rows = [{f"{n}/{k}": k for k in range(25_001)} for n in range(4)]
    run = wanllmdb.init()
    with pytest.warns(wanllmdb.WanllmdbWarning) as caught:
        log_all(run, [*rows, *rows[-1:]])
    run.finish()
    assert len(caught) == 1
    found = api.run(run.path)
    assert next(iter(found.scan_history(["3/25000"])))["3/25000"] == 25_000


BAD_KEYS = ["", " ", "\n\t", "a\0b", "\ud800", "k" * 10_000, *RESERVED]


@pytest.mark.parametrize("key", BAD_KEYS, ids=lambda key: ascii(key[:8]))
def test_a_bad_key_is_left_out_with_one_warning(key, api):
    """Rows 20, 21: blank, NUL, half a character, over-long, reserved."""
    run = wanllmdb.init()
    with pytest.warns(wanllmdb.WanllmdbWarning, match="left out") as caught:
        log_all(run, [{"a": 1, key: 2, "b": 3}] * 2)
    run.finish()
    assert len(caught) == 1
    assert rows_of(api, run) == [{"a": 1, "b": 3}] * 2


@pytest.mark.parametrize("key", BAD_KEYS, ids=lambda key: ascii(key[:8]))
def test_a_bad_key_raises_in_strict_mode(key):
    """Rows 20, 21: the same keys, refused aloud."""
    run = wanllmdb.init(strict=True)
    with pytest.raises(InvalidMetricError):
        run.log({key: 2})


def test_a_row_of_bad_keys_only_moves_the_step_and_writes_nothing(api):
    """Row 20: as an empty row does."""
    run = wanllmdb.init()
    with pytest.warns(wanllmdb.WanllmdbWarning, match="left out"):
        run.log({"": 1})
    assert run.step == 1
    run.finish()
    assert rows_of(api, run) == []


ODD_KEYS = [
    "a\nb", "\ttab", " padded ", "a'b\"c`d", "x');--", "100%_done", "back\\slash",
    "\U0001f600", "\u202eltr", "\x1b[31mred", "~f", "#", "k" * 255, "@best",
    "a.b", "select", "Loss", "loss", "LOSS", "0", "-rf", "$ref", "a,b", "=1+1", "run",
]  # fmt: skip


def test_odd_keys_come_back_one_by_one(api):
    """Rows 20, 21: each is read by its own name, from the rows that hold it."""
    with wanllmdb.init() as run:
        log_all(run, [{key: number} for number, key in enumerate(ODD_KEYS)])
    found = api.run(run.path)
    assert set(found.keys) == set(ODD_KEYS)
    for number, key in enumerate(ODD_KEYS):
        rows = found.history([key]).to_pylist()
        assert [(row["_step"], row[key]) for row in rows] == [(number, number)]


def test_a_key_with_an_underscore_is_read_from_the_rows_that_hold_it(api):
    """Row 20: only the reserved names are the table's own."""
    with wanllmdb.init() as run:
        log_all(run, [{"a": 1}, {"_mine": 2}, {"a": 3}])
    rows = api.run(run.path).history(["_mine"]).to_pylist()
    assert [(row["_step"], row["_mine"]) for row in rows] == [(1, 2)]


@pytest.mark.parametrize("key", [*ODD_KEYS, "_mine"])
def test_odd_keys_are_summary_and_config_keys_too(key, api):
    """Row 21: the same names in config and summary, exactly."""
    with wanllmdb.init(config={key: "c"}) as run:
        run.summary[key] = "s"
    found = api.run(run.path)
    assert (found.config, found.summary) == ({key: "c"}, {key: "s"})


def test_both_forms_of_a_letter_are_one_key(api):
    """Row 22: NFC and NFD are written to, and read as, the same metric."""
    with wanllmdb.init() as run:
        log_all(run, [{NFC: 1}, {NFD: 2}])
        assert run.summary[NFD] == run.summary[NFC] == 2
    found = api.run(run.path)
    assert [row[NFC] for row in found.scan_history()] == [1, 2]
    assert list(found.keys) == [NFC]
    assert [row[NFC] for row in found.history([NFD]).to_pylist()] == [1, 2]
    assert len(list(found.scan_history([NFD]))) == 2


def test_both_forms_of_a_letter_are_one_key_of_config(api):
    """Row 22: at the top as in nested mappings, at init and later."""
    with wanllmdb.init(config={NFD: 1, "n": {NFD: 1}}) as run:
        assert run.config[NFC] == run.config[NFD] == 1
        run.config[NFC] = 2
        run.config[NFD] = 3
    assert api.run(run.path).config == {NFC: 3, "n": {NFC: 1}}


def test_both_forms_of_a_letter_are_one_key_of_the_summary(api):
    """Row 22: what the user writes meets what was logged."""
    with wanllmdb.init() as run:
        run.log({NFC: 1})
        run.summary[NFD] = 2
    summary = api.run(run.path).summary
    assert {k: v for k, v in summary.items() if k not in RESERVED} == {NFC: 2}


def test_a_definition_finds_a_key_in_either_form(api):
    """Row 22: define_metric by the other form holds for the key."""
    with wanllmdb.init() as run:
        run.define_metric(NFD, summary="max")
        log_all(run, [{NFC: 2}, {NFC: 1}])
    assert api.run(run.path).summary[NFC] == {"max": 2}
