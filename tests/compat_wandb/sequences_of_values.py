"""What scripts do with metric definitions, summary, values and config, as data."""

import math
from typing import Any

from playing import (
    Sequence,
    attempt,
    block,
    config,
    finish,
    forget,
    init,
    log,
    metric,
    read,
    sequence,
    summary,
)

NAN, INF = math.nan, math.inf


def logs(key: str, *values: Any) -> list[dict[str, Any]]:
    """Log the values of one key one after the other."""
    return [log({key: value}) for value in values]


# One sequence is one paragraph: a call per line would hide the order being tested.
# fmt: off

METRICS: list[Sequence] = [
    sequence(
        "summary is the last value",
        "Without define_metric the summary holds the last value of each key.",
        init("r"), log({"a": 3, "b": 1}), log({"a": 2}), finish(),
    ),
    *(
        sequence(
            f"summary {word}",
            f"define_metric(summary={word!r}) decides what the summary holds.",
            init("r"), metric("a", summary=word), *logs("a", 2, 7, 1, 4), finish(),
        )
        for word in ("min", "max", "mean", "last", "first", "none", "copy")
    ),
    sequence(
        "summary of several kinds",
        "Several summary words make one dict.",
        init("r"), metric("a", summary="min,max,mean,first,last"),
        *logs("a", 2, 7, 1, 4), finish(),
    ),
    sequence(
        "summary best",
        "summary='best' with a goal keeps the best value.",
        init("r"),
        attempt(metric("a", summary="best", goal="maximize")),
        attempt(metric("b", summary="best", goal="minimize")),
        log({"a": 2, "b": 2}), log({"a": 7, "b": 7}), log({"a": 1, "b": 1}),
        log({"a": 4, "b": 4}), finish(),
        differs="W&B 0.31 has neither best nor goal any more; wanllmdb keeps both",
        ours={
            "seen": [["raises", None], ["raises", None]],
            "runs": [{"summary": {"_step": 3, "a": {"best": 7}, "b": {"best": 1}}}],
        },
    ),
    sequence(
        "summary of an unknown kind",
        "An unknown summary word is refused.",
        init("r"), attempt(metric("a", summary="median")), *logs("a", 1, 2), finish(),
    ),
    sequence(
        "summary max with NaN",
        "What a NaN does to a maximum and a minimum.",
        init("r"), metric("a", summary="min,max"), *logs("a", 2, NAN, 3), finish(),
        differs="In W&B one NaN spoils both for good; wanllmdb leaves NaN out",
        ours={"runs": [{"summary": {"_step": 2, "a": {"max": 3, "min": 2}}}]},
    ),
    sequence(
        "summary max with text and bool",
        "Only numbers enter a maximum.",
        init("r"), metric("a", summary="max"), *logs("a", 2, "x", 1), finish(),
    ),
    sequence(
        "summary of a glob",
        "A definition with a trailing * holds for every key that begins so.",
        init("r"), metric("val/*", summary="max"), log({"val/x": 3, "x": 3}),
        log({"val/x": 1, "val/y": 1, "x": 1}), finish(),
    ),
    sequence(
        "exact definition beats the glob",
        "A definition of the key itself wins over a glob.",
        init("r"), metric("val/*", summary="max"), metric("val/x", summary="min"),
        log({"val/x": 3, "val/y": 3}), log({"val/x": 1, "val/y": 1}), finish(),
    ),
    sequence(
        "glob for everything",
        "define_metric('*') gives every key its step metric.",
        init("r"), metric("epoch"), metric("*", step_metric="epoch"),
        log({"epoch": 1}), log({"a": 1}), log({"a": 2}), finish(),
    ),
    sequence(
        "step metric fills in",
        "Rows that lack the step metric get its last value.",
        init("r"), metric("epoch"), metric("a", step_metric="epoch"),
        log({"epoch": 1, "a": 1}), log({"a": 2}), log({"b": 3}),
        log({"epoch": 2}), log({"a": 4}), finish(),
    ),
    sequence(
        "step metric without a value yet",
        "What rows get for a step metric that was never logged.",
        init("r"), metric("a", step_metric="epoch"), log({"a": 1}),
        log({"epoch": 5}), log({"a": 2}), finish(),
        differs="W&B fills in a 0 that nobody logged; there is no last value to copy",
        ours={"runs": [
            {"history": [{"_step": 0, "a": 1}, {"_step": 1, "epoch": 5},
                         {"_step": 2, "a": 2, "epoch": 5}]},
        ]},
    ),
    sequence(
        "step_sync false",
        "step_sync=False leaves rows as they were logged.",
        init("r"), metric("a", step_metric="epoch", step_sync=False),
        log({"epoch": 1}), log({"a": 2}), finish(),
    ),
    sequence(
        "step metric by glob",
        "A glob definition fills in the step metric as well.",
        init("r"), metric("val/*", step_metric="epoch"), log({"epoch": 3}),
        log({"val/x": 1}), log({"x": 1}), finish(),
    ),
    sequence(
        "step metric in a merged row",
        "The step metric logged later into the same row is the one that stays.",
        init("r"), metric("a", step_metric="epoch"), log({"epoch": 1, "a": 1}),
        log({"a": 2}, commit=False), log({"epoch": 2}), finish(),
    ),
    sequence(
        "define_metric after the first log",
        "A definition counts the values logged before it as well.",
        init("r"), *logs("a", 9, 5), metric("a", summary="max"), *logs("a", 3, 1),
        finish(),
    ),
    sequence(
        "define_metric twice",
        "A second definition adds to the first one.",
        init("r"), metric("a", summary="max"), metric("a", summary="min"),
        *logs("a", 2, 7, 1), finish(),
    ),
    sequence(
        "define_metric twice with overwrite",
        "overwrite=True replaces the first definition.",
        init("r"), metric("a", summary="max"),
        metric("a", summary="min", overwrite=True), *logs("a", 2, 7, 1), finish(),
    ),
    sequence(
        "define_metric of a nested key",
        "A dotted name addresses a key inside a nested dict.",
        init("r"), metric("d.x", summary="max"), log({"d": {"x": 3, "y": 3}}),
        log({"d": {"x": 1, "y": 1}}), finish(),
    ),
    sequence(
        "hidden metric",
        "hidden=True hides a metric from plots, not from history or summary.",
        init("r"), metric("a", hidden=True), *logs("a", 1, 2), finish(),
    ),
    sequence(
        "summary max with merged rows",
        "Values overwritten within an open row never reach the summary.",
        init("r"), metric("a", summary="max"), log({"a": 9}, commit=False),
        log({"a": 1}), log({"a": 2}), finish(),
    ),
]

SUMMARIES: list[Sequence] = [
    sequence(
        "summary set by the user",
        "The user may set summary items that were never logged.",
        init("r"), summary(best=3, note="x"), read("summary", key="best"), finish(),
    ),
    sequence(
        "summary set before the log",
        "A log after the user's value replaces it.",
        init("r"), summary(a=10), log({"a": 1}), read("summary", key="a"), finish(),
    ),
    sequence(
        "summary set after the log",
        "The user's value after a log replaces it.",
        init("r"), log({"a": 1}), summary(a=10), read("summary", key="a"), finish(),
    ),
    sequence(
        "summary set after an open row",
        "The user's value after a log whose row is open still comes last.",
        init("r"), log({"a": 1}, step=0), summary(a=10), log({"b": 1}, step=1),
        finish(),
        differs="W&B applies the open row late; here the last write wins",
        ours={"runs": [{"summary": {"_step": 1, "a": 10, "b": 1}}]},
    ),
    sequence(
        "summary set over an aggregate",
        "A definition outlives a value that the user wrote over it.",
        init("r"), metric("a", summary="max"), log({"a": 5}), summary(a=100),
        read("summary", key="a"), *logs("a", 7, 6), finish(),
        differs="In W&B the user's value ends the definition; here max stays max",
        ours={"runs": [{"summary": {"_step": 2, "a": {"max": 7}}}]},
    ),
    sequence(
        "summary set to a dict",
        "A dict in the summary stays a dict.",
        init("r"), summary(d={"x": 1, "y": {"z": [1, 2]}}), finish(),
    ),
    sequence(
        "summary item deleted",
        "Deleting an item removes it until it is logged again.",
        init("r"), log({"a": 1, "b": 1}), forget("a"), forget("b"), log({"b": 2}),
        finish(),
    ),
    sequence(
        "summary read while logging",
        "The summary shows a row as soon as it is closed.",
        init("r"), log({"a": 1}), read("summary", key="a"), log({"a": 2}),
        read("summary", key="a"), finish(),
    ),
]

VALUES: list[Sequence] = [
    sequence(
        "nested dicts",
        "Nested dicts become dotted keys.",
        init("r"), log({"d": {"x": 1, "e": {"y": 2}}, "a": 0}), log({"d": {"x": 3}}),
        finish(),
    ),
    sequence(
        "nested dicts in an open row",
        "Nested dicts merge key by key in an open row.",
        init("r"), log({"d": {"x": 1}}, commit=False), log({"d": {"y": 2}}), finish(),
    ),
    sequence(
        "dotted key and nested dict",
        "A dotted key and the nested one are the same key; the last wins.",
        init("r"), log({"a.b": 1, "a": {"b": 2}}), finish(),
        differs="W&B's summary keeps both; here they are one key and the last wins",
        ours={"runs": [{"summary": {"_step": 0, "a.b": 2}}]},
    ),
    sequence(
        "lists and tuples",
        "Lists and tuples stay lists.",
        init("r"), log({"l": [1, 2, 3], "t": (1.5, 2), "e": [], "n": [[1], [2]]}),
        log({"s": ["x", "y"], "d": [{"x": 1}]}), finish(),
    ),
    sequence(
        "None",
        "None is a value of its own in the history.",
        init("r"), log({"a": 1, "b": None}), log({"a": None}), finish(),
    ),
    sequence(
        "bool, int, float and text",
        "Bools stay bools, numbers numbers, text text.",
        init("r"), log({"b": True, "i": 3, "f": 0.5, "s": "x", "z": False}),
        log({"f": 2.0, "s": ""}), finish(),
    ),
    sequence(
        "one key with several types",
        "A key may change its type.",
        init("r"), *logs("a", 1, 0.5, True, "x", [1], None, 2), finish(),
    ),
    sequence(
        "NaN and infinities",
        "NaN and infinities come back as they went in.",
        init("r"), log({"n": NAN, "p": INF, "m": -INF}), log({"l": [NAN, 1.0]}),
        finish(),
    ),
    sequence(
        "integers beyond 2^53",
        "Large integers come back exactly.",
        init("r"), log({"a": 2**53 + 1, "b": -(2**53) - 1, "c": 2**31}), finish(),
    ),
    sequence(
        "small and long floats",
        "Floats come back to the last bit.",
        init("r"), log({"a": 0.1, "b": 1e-300, "c": 1 / 3, "d": 1.5e300}), finish(),
    ),
    sequence(
        "odd keys",
        "Keys may hold slashes, spaces and letters of any script.",
        init("r"), log({"a/b": 1, "with space": 2, "größe": 3, "A": 4, "a": 5}),
        finish(),
    ),
    sequence(
        "a complex number",
        "What is no JSON value becomes its text.",
        init("r"), log({"a": 1j}), log({"a": 2}), finish(),
    ),
]

CONFIGS: list[Sequence] = [
    sequence(
        "config at init",
        "init(config=) is kept, nested and typed.",
        init("r", config={"lr": 0.1, "n": {"x": 1, "y": [1, 2]}, "b": True, "o": None,
                          "s": "x", "t": (1, 2)}),
        read("config", key="lr"), finish(),
    ),
    sequence(
        "config update",
        "config.update adds keys after init.",
        init("r", config={"lr": 0.1}), config({"bs": 8, "n": {"x": 1}}),
        read("config", key="bs"), log({"a": 1}), config({"late": 1}), finish(),
    ),
    sequence(
        "config changed with permission",
        "allow_val_change=True lets a value change.",
        init("r", config={"lr": 0.1}), config({"lr": 0.2}, allow_val_change=True),
        read("config", key="lr"), finish(),
    ),
    sequence(
        "config changed without permission",
        "Changing a value needs allow_val_change in W&B.",
        init("r", config={"lr": 0.1, "n": 1}), attempt(config({"lr": 0.2})),
        read("config", key="lr"), finish(),
        differs="W&B refuses the change; wanllmdb records it and warns",
        ours={
            "seen": [["raises", None], ["config", 0.2]],
            "runs": [{"config": {"lr": 0.2, "n": 1}}],
        },
    ),
    sequence(
        "config with the same value",
        "Updating with an equal value is no change.",
        init("r", config={"lr": 0.1}), attempt(config({"lr": 0.1})), finish(),
    ),
    sequence(
        "config of a nested dict replaced",
        "Updating a nested dict replaces it whole.",
        init("r", config={"n": {"x": 1, "y": 2}}),
        config({"n": {"x": 3}}, allow_val_change=True), finish(),
    ),
    sequence(
        "config of two runs",
        "Each run has its own config.",
        block("r", config({"lr": 1}), log({"a": 1})),
        block("s", config({"lr": 2}), log({"a": 2})),
    ),
]
