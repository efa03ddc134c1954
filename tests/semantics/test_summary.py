"""summary and define_metric."""

from __future__ import annotations

import math

import pytest

import wanllmdb
from wanllmdb.errors import InvalidInputError


@pytest.fixture
def summed(api):
    """The stored summary of a run after some calls, without what starts with _."""

    def record(*calls):
        with wanllmdb.init() as run:
            for call in calls:
                call(run)
        found = api.run(run.path).summary
        return {k: v for k, v in found.items() if not k.startswith("_")}

    return record


def define(name, **options):
    """A call of define_metric."""
    return lambda run: run.define_metric(name, **options)


def log(*values, key="a"):
    """Calls of log with these values of one key."""
    return lambda run: [run.log({key: value}) for value in values]


def put(**values):
    """A call of summary.update."""
    return lambda run: run.summary.update(values)


def test_the_last_write_wins_whoever_wrote(summed):
    """log, summary, log, summary: in the order of time."""
    assert summed(put(a=1), log(2)) == {"a": 2}
    assert summed(log(2), put(a=1)) == {"a": 1}
    assert summed(put(a=1), log(2), put(a=3), log(4)) == {"a": 4}


def test_the_order_of_time_survives_a_crash(script, api):
    """Recovery comes to the same summary as finish()."""
    script("""
run = wandb.init(id="r")
run.log({"a": 1, "b": 1, "c": 1})
run.summary["a"] = 10
run.summary["b"] = 10
run.log({"b": 2})
del run.summary["c"]
os._exit(1)
""")
    found = api.run("r").summary
    assert (found["a"], found["b"], "c" in found) == (10, 2, False)


def test_a_summary_reads_as_it_stands(api):
    """By item, attribute, get and update; nested values are live as well."""
    with wanllmdb.init() as run:
        run.log({"a": 1})
        assert run.summary.a == run.summary["a"] == run.summary.get("a") == 1
        run.summary.best = {"epoch": 1, "deep": {"er": 2}}
        run.summary.best.epoch = 5
        run.summary["best"]["deep"]["er"] = 6
        assert run.summary.get("nope") is None
        assert "nope" not in run.summary
    assert api.run(run.path).summary["best"] == {"epoch": 5, "deep": {"er": 6}}


def test_a_summary_written_after_finish_is_kept(api):
    """W&B's users evaluate after the end, too."""
    with wanllmdb.init(id="r") as run:
        run.log({"a": 1})
    run.summary["late"] = 2
    assert api.run("r").summary["late"] == 2


@pytest.mark.parametrize(
    ("word", "value"),
    [("min", 1), ("max", 9), ("mean", 4.5), ("last", 5), ("first", 3)],
)
def test_each_word_of_summary_gives_a_dict_of_it(word, value, summed):
    """summary="max" gives {"max": v}."""
    assert summed(define("a", summary=word), log(3, 9, 1, 5)) == {"a": {word: value}}


def test_words_are_joined_by_commas(summed):
    """Spaces do not matter."""
    found = summed(define("a", summary="min, max,mean"), log(3, 9, 1, 5))
    assert found == {"a": {"min": 1, "max": 9, "mean": 4.5}}


@pytest.mark.parametrize(("goal", "value"), [("minimize", 1), ("maximize", 9)])
def test_best_is_the_extreme_of_its_goal(goal, value, summed):
    """Best needs a goal, and keeps to it."""
    found = summed(define("a", summary="best", goal=goal), log(3, 9, 1, 5))
    assert found == {"a": {"best": value}}


def test_best_without_a_goal_and_unknown_words_are_refused():
    """With the words that there are."""
    run = wanllmdb.init()
    with pytest.raises(InvalidInputError, match="goal"):
        run.define_metric("a", summary="best")
    with pytest.raises(InvalidInputError, match="median"):
        run.define_metric("a", summary="median")
    with pytest.raises(InvalidInputError, match="upwards"):
        run.define_metric("a", goal="upwards")


def test_none_leaves_a_key_out_and_copy_is_the_last_value(summed):
    """The key is in the history all the same."""
    assert summed(define("a", summary="none"), log(1, 2)) == {}
    assert summed(define("a", summary="copy"), log(1, 2)) == {"a": 2}


def test_nan_is_in_no_extreme(summed):
    """One NaN does not spoil a run's best value."""
    found = summed(define("a", summary="min,max,mean"), log(2, math.nan, 4))
    assert found == {"a": {"min": 2, "max": 4, "mean": 3}}


def test_a_glob_defines_every_key_that_fits_the_exact_name_wins(summed):
    """Also keys that appear later."""
    found = summed(
        define("val/*", summary="max"), define("val/loss", summary="min"),
        *[log(1, 3, 2, key=k) for k in ("val/acc", "val/loss", "train/acc")],
    )  # fmt: skip
    assert found == {"val/acc": {"max": 3}, "val/loss": {"min": 1}, "train/acc": 2}


def test_overwrite_forgets_the_earlier_options(summed):
    """Without it, definitions add up."""
    twice = [define("a", summary="max"), define("a", summary="min")]
    assert summed(*twice, log(1, 3, 2)) == {"a": {"max": 3, "min": 1}}
    once = [define("a", summary="max"), define("a", summary="min", overwrite=True)]
    assert summed(*once, log(1, 3, 2)) == {"a": {"min": 1}}


def test_step_metric_is_copied_into_rows_that_lack_it(api, rows):
    """step_sync is on where a step_metric is given, and off where it is refused."""
    with wanllmdb.init() as run:
        epoch = run.define_metric("epoch")
        run.define_metric("val/*", step_metric=epoch)
        run.define_metric("raw", step_metric="epoch", step_sync=False)
        run.log({"val/a": 0})
        run.log({"epoch": 1})
        run.log({"val/a": 1})
        run.log({"raw": 1})
        run.log({"val/a": 2, "epoch": 5})
        run.log({"val/a": 3, "raw": 3})
    assert epoch.name == "epoch"
    assert [e for _, e in rows(api.run(run.path), "epoch")] == [None, 1, 1, None, 5, 5]


def test_definitions_are_stored_for_those_who_plot(api):
    """hidden, goal and step_metric reach whoever reads the Store."""
    with wanllmdb.init(id="r") as run:
        run.define_metric("a", step_metric="e", hidden=True, goal="minimize")
        run.log({"a": 1})
    found = api.run("r").definitions
    assert found["a"] == {"step_metric": "e", "hidden": True, "goal": "minimize"}


def test_a_definition_holds_after_a_crash(script, api):
    """Recovery sums up as the script had asked."""
    script("run = wandb.init(id='r'); run.define_metric('a', summary='max')\n"
           "run.log({'a': 5}); run.log({'a': 1}); os._exit(1)")  # fmt: skip
    assert api.run("r").summary["a"] == {"max": 5}


def test_the_summary_of_a_resumed_run_spans_its_attempts(api):
    """Both max and mean are those of all visible rows."""
    for resume, values in ((None, (9, 1)), ("must", (2,))):
        with wanllmdb.init(id="r", resume=resume) as run:
            run.define_metric("a", summary="max,mean,first,last")
            log(*values)(run)
    assert api.run("r").summary["a"] == {"max": 9, "mean": 4, "first": 9, "last": 2}


def test_the_summary_of_a_rewound_run_forgets_what_is_hidden(api):
    """A superseded best is no best, and what the user wrote then is gone too."""
    with wanllmdb.init(id="r") as run:
        run.define_metric("a", summary="max")
        log(1, 2, 99)(run)
    with wanllmdb.init(resume_from="r?_step=1") as run:
        assert run.summary["a"]["max"] == 2
        run.log({"a": 3})
    assert api.run("r").summary["a"] == {"max": 3}
