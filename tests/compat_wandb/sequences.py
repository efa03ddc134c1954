"""What scripts do with steps, commits and reinit, as data.

The sequences are played twice: `record.py` plays them through the real W&B package
and keeps what it recorded; `test_same_as_wandb.py` plays them through wanllmdb.
Nothing here imports either of them. `sequences_of_*.py` hold the rest.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from playing import (
    Sequence,
    Stage,
    attempt,
    block,
    finish,
    init,
    log,
    play,
    read,
    sequence,
)
from sequences_of_ends import ENDS, RESUME
from sequences_of_values import CONFIGS, METRICS, SUMMARIES, VALUES

__all__ = ["SEQUENCES", "perform", "play"]

# One sequence is one paragraph: a call per line would hide the order being tested.
# fmt: off

STEPS: list[Sequence] = [
    sequence(
        "auto steps count from zero",
        "Each log without a step makes a row and moves the step by one.",
        init("r"), read("step"), log({"a": 1}), read("step"), log({"a": 2}),
        log({"b": 3}), read("step"), finish(),
    ),
    sequence(
        "explicit steps with a gap",
        "Explicit steps stand as given and may leave gaps.",
        init("r"), log({"a": 1}, step=0), read("step"), log({"a": 2}, step=1),
        log({"a": 3}, step=50), read("step"), finish(),
    ),
    sequence(
        "first step is large",
        "A run may begin at any step.",
        init("r"), log({"a": 1}, step=1000), log({"a": 2}), finish(),
    ),
    sequence(
        "step then no step",
        "A log without a step joins the row that an explicit step left open.",
        init("r"), log({"a": 1}, step=5), read("step"), log({"b": 2}), read("step"),
        log({"c": 3}), finish(),
    ),
    sequence(
        "step with commit then no step",
        "An explicit step with commit=True closes its row.",
        init("r"), log({"a": 1}, step=5, commit=True), read("step"), log({"b": 2}),
        read("step"), finish(),
    ),
    sequence(
        "step without commit then no step",
        "An explicit step with commit=False stays open for the next log.",
        init("r"), log({"a": 1}, step=5, commit=False), log({"b": 2}), log({"c": 3}),
        read("step"), finish(),
    ),
    sequence(
        "same step twice merges",
        "Two logs at one step make one row; per key the last wins.",
        init("r"), log({"a": 1, "b": 1}, step=3), log({"b": 2, "c": 2}, step=3),
        read("step"), log({"a": 9}, step=4), finish(),
    ),
    sequence(
        "same step as the automatic one",
        "An explicit step equal to the next automatic one takes it.",
        init("r"), log({"a": 0}), log({"a": 1}, step=1), log({"b": 1}, step=1),
        log({"a": 2}, step=2), finish(),
    ),
    sequence(
        "two kinds of steps mixed",
        "Explicit and automatic steps share one cursor.",
        init("r"), log({"a": 0}), log({"a": 1}, step=4), log({"b": 1}), log({"a": 2}),
        log({"a": 3}, step=9), log({"a": 4}, step=10, commit=True), log({"a": 5}),
        read("step"), finish(),
    ),
    sequence(
        "backward step",
        "A log at an earlier step leaves the cursor alone.",
        init("r"), log({"a": 1}, step=5), log({"a": 2}, step=3), read("step"),
        log({"a": 3}, step=6), finish(),
        differs="W&B drops backward steps; wanllmdb stores them where they say",
        ours={"runs": [
            {"history": [{"_step": 3, "a": 2}, {"_step": 5, "a": 1},
                         {"_step": 6, "a": 3}]},
        ]},
    ),
    sequence(
        "backward step after automatic ones",
        "A log at a step that automatic ones passed goes to that step.",
        init("r"), log({"a": 0}), log({"a": 1}), log({"a": 2}), log({"b": 7}, step=1),
        read("step"), log({"a": 3}), finish(),
        differs="W&B drops backward steps; wanllmdb stores them where they say",
        ours={"runs": [
            {"history": [{"_step": 0, "a": 0}, {"_step": 1, "a": 1, "b": 7},
                         {"_step": 2, "a": 2}, {"_step": 3, "a": 3}],
             "summary": {"_step": 3, "a": 3, "b": 7}},
        ]},
    ),
    sequence(
        "same step after its commit",
        "A second log at a committed step is a backward step.",
        init("r"), log({"a": 1}, step=3, commit=True), log({"b": 2}, step=3),
        read("step"), log({"a": 4}), finish(),
        differs="W&B drops backward steps; wanllmdb stores them where they say",
        ours={"runs": [
            {"history": [{"_step": 3, "a": 1, "b": 2}, {"_step": 4, "a": 4}],
             "summary": {"_step": 4, "a": 4, "b": 2}},
        ]},
    ),
    sequence(
        "backward step with commit",
        "commit=True on a backward log does not close the open row.",
        init("r"), log({"a": 1}, step=5), log({"b": 2}, step=3, commit=True),
        read("step"), log({"c": 3}), finish(),
        differs="W&B drops backward steps; wanllmdb stores them where they say",
        ours={"runs": [
            {"history": [{"_step": 3, "b": 2}, {"_step": 5, "a": 1, "c": 3}],
             "summary": {"_step": 5, "a": 1, "b": 2, "c": 3}},
        ]},
    ),
    sequence(
        "empty log moves the step",
        "log({}) counts as a step.",
        init("r"), log({"a": 1}), log({}), read("step"), log({"a": 2}), finish(),
        differs="W&B writes a row that holds only its step; wanllmdb writes none",
        ours={"runs": [{"history": [{"_step": 0, "a": 1}, {"_step": 2, "a": 2}]}]},
    ),
    sequence(
        "empty log with a step",
        "log({}, step=s) moves to s and leaves it open.",
        init("r"), log({}, step=4), read("step"), log({"a": 1}), read("step"), finish(),
    ),
    sequence(
        "empty log with a step and commit",
        "log({}, step=s, commit=True) moves behind s.",
        init("r"), log({}, step=4, commit=True), read("step"), log({"a": 1}), finish(),
        differs="W&B writes a row that holds only its step; wanllmdb writes none",
        ours={"runs": [{"history": [{"_step": 5, "a": 1}]}]},
    ),
    sequence(
        "empty log closes an open row",
        "log({}) after commit=False ends that row.",
        init("r"), log({"a": 1}, commit=False), log({}), read("step"), log({"a": 2}),
        finish(),
    ),
    sequence(
        "a key named _step",
        "_step in the data is reserved and does not set the step.",
        init("r"), log({"_step": 7, "a": 1}), read("step"), finish(),
    ),
]

COMMITS: list[Sequence] = [
    sequence(
        "commit false then commit",
        "commit=False keeps the row open for the next log.",
        init("r"), log({"a": 1}, commit=False), read("step"), log({"b": 2}),
        read("step"), log({"a": 3}), finish(),
    ),
    sequence(
        "commit false merges several calls",
        "Any number of commit=False calls share a row; the last value wins.",
        init("r"), log({"a": 1}, commit=False), log({"b": 2}, commit=False),
        log({"a": 3, "c": 3}, commit=False), log({"d": 4}, commit=True), log({"a": 5}),
        finish(),
    ),
    sequence(
        "commit true is the default",
        "commit=True without a step behaves like no commit argument.",
        init("r"), log({"a": 1}, commit=True), log({"a": 2}, commit=None), read("step"),
        finish(),
    ),
    sequence(
        "commit false then a later step",
        "An explicit later step closes the open row first.",
        init("r"), log({"a": 1}, commit=False), log({"b": 2}, step=4), read("step"),
        finish(),
    ),
    sequence(
        "commit false with the open step",
        "commit=False and the explicit current step address the same row.",
        init("r"), log({"a": 1}, commit=False), log({"b": 2}, step=0),
        log({"c": 3}, step=0, commit=True), read("step"), finish(),
    ),
    sequence(
        "commit false only, then finish",
        "A row that was never committed is kept by finish().",
        init("r"), log({"a": 1}), log({"a": 2}, commit=False), finish(),
    ),
    sequence(
        "commit false only, then the script ends",
        "A row that was never committed is kept at the end of the script.",
        init("r"), log({"a": 1}, commit=False), log({"b": 2}, commit=False),
    ),
    sequence(
        "open step, then finish",
        "An explicit step that is still open is kept by finish().",
        init("r"), log({"a": 1}, step=2), finish(),
    ),
    sequence(
        "open row at the end of a block",
        "The end of a with-block keeps the open row.",
        block("r", log({"a": 1}, step=2), log({"b": 2}, commit=False)),
    ),
    sequence(
        "open row when reinit finishes the run",
        "reinit keeps the open row of the run that it finishes.",
        init("r"), log({"a": 1}, commit=False), init("s", reinit=True), log({"b": 2}),
        finish(),
    ),
]

REINIT: list[Sequence] = [
    sequence(
        "second init in a script",
        "init() while a run is active returns that run.",
        init("r"), log({"a": 1}), init("s"), read("same", a="r", b="s"), log({"a": 2}),
        finish(),
    ),
    sequence(
        "second init with other arguments",
        "Arguments of an init() that returns the active run are ignored.",
        init("r", config={"lr": 1}),
        init("s", id="another", config={"lr": 2, "new": 3}), read("same", a="r", b="s"),
        log({"a": 1}), finish(),
    ),
    sequence(
        "second init with the same id",
        "init() with the id of the active run returns it.",
        init("r", id="mine"), log({"a": 1}), init("s", id="mine"),
        read("same", a="r", b="s"), log({"a": 2}), finish(),
    ),
    sequence(
        "reinit true",
        "reinit=True finishes the active run and starts another.",
        init("r"), log({"a": 1}), init("s", reinit=True), read("same", a="r", b="s"),
        read("active"), log({"a": 2}), finish(),
    ),
    sequence(
        "reinit false",
        "reinit=False returns the active run.",
        init("r"), init("s", reinit=False), read("same", a="r", b="s"), log({"a": 1}),
        finish(),
    ),
    sequence(
        "reinit finish_previous",
        "finish_previous closes the earlier handle.",
        init("r"), log({"a": 1}), init("s", reinit="finish_previous"),
        attempt(log({"a": 9}, on="r")), log({"a": 2}), finish(),
    ),
    sequence(
        "reinit return_previous",
        "return_previous hands out the active run.",
        init("r"), log({"a": 1}), init("s", reinit="return_previous"),
        read("same", a="r", b="s"), log({"a": 2}, on="s"), finish("r"), read("active"),
    ),
    sequence(
        "reinit create_new interleaved",
        "create_new runs are written side by side, each with its own steps.",
        init("r"), init("s", reinit="create_new"), read("same", a="r", b="s"),
        read("active"), log({"a": 1}, on="r"), log({"b": 1}, on="s"),
        log({"b": 2}, on="s"), log({"a": 2}), read("step", on="r"),
        read("step", on="s"), log({"b": 3}, on="s", step=9), log({"a": 3}, on="r"),
        finish("s"), log({"a": 4}), finish(),
    ),
    sequence(
        "reinit create_new alone",
        "create_new never becomes the module's run.",
        init("r", reinit="create_new"), read("active"), attempt(log({"a": 9})),
        log({"a": 1}, on="r"), finish("r"),
    ),
    sequence(
        "plain init after create_new",
        "A plain init() returns the newest active run, however it was made.",
        init("r"), init("s", reinit="create_new"), init("t"),
        read("same", a="s", b="t"), log({"a": 1}, on="t"), log({"b": 1}), finish("s"),
        finish("r"),
    ),
    sequence(
        "finish_previous after create_new",
        "finish_previous finishes every active run.",
        init("r"), init("s", reinit="create_new"), log({"a": 1}, on="r"),
        log({"b": 1}, on="s"), init("t", reinit="finish_previous"),
        attempt(log({"a": 2}, on="r")), attempt(log({"b": 2}, on="s")), log({"c": 1}),
        finish(),
    ),
    sequence(
        "finish then init",
        "After finish() the next init() starts a run from step zero.",
        init("r"), log({"a": 1}), finish(), read("active"), init("s"),
        read("same", a="r", b="s"), log({"a": 2}), finish(),
    ),
]
# fmt: on

SEQUENCES: list[Sequence] = [
    *STEPS,
    *COMMITS,
    *REINIT,
    *ENDS,
    *RESUME,
    *METRICS,
    *SUMMARIES,
    *VALUES,
    *CONFIGS,
]


def perform(module: Any, name: str, init_defaults: Mapping[str, Any], to: str) -> None:
    """Play one sequence as a whole script, leaving what was seen in the file `to`.

    The file is written even when the sequence ends its process by an exception.
    """
    stage = Stage(module, init_defaults)
    try:
        stage.play(next(s for s in SEQUENCES if s["name"] == name)["ops"])
    finally:
        Path(to).write_text(json.dumps(stage.live()))
