"""What scripts do at the end of a run and when they come back to it, as data."""

from playing import (
    Sequence,
    attempt,
    block,
    finish,
    init,
    lastly,
    leave,
    log,
    read,
    sequence,
    throw,
)

# One sequence is one paragraph: a call per line would hide the order being tested.
# fmt: off

ENDS: list[Sequence] = [
    sequence(
        "with block",
        "A with-block finishes its run and leaves no active run behind.",
        block("r", log({"a": 1}), log({"a": 2}, on="r"), read("active")),
        read("active"),
    ),
    sequence(
        "log after the with block",
        "Logging after the block raises, through the handle and the module alike.",
        block("r", log({"a": 1})), attempt(log({"a": 2}, on="r")),
        attempt(log({"a": 3})),
    ),
    sequence(
        "nested with",
        "A with-block inside another one returns the same run.",
        block("r", log({"a": 1}), block("s", log({"a": 2})), attempt(log({"a": 3})),
              read("same", a="r", b="s")),
        differs="W&B finishes the run at the inner exit; wanllmdb at the outermost",
        ours={
            "seen": [["raises", None], ["same", True]],
            "runs": [{"history": [{"_step": 0, "a": 1}, {"_step": 1, "a": 2},
                                  {"_step": 2, "a": 3}],
                      "summary": {"_step": 2, "a": 3}}],
        },
    ),
    sequence(
        "with around an active run",
        "A with-block around the run of an earlier init() finishes it.",
        init("r"), log({"a": 1}), block("s", log({"a": 2})),
        attempt(log({"a": 3}, on="r")),
    ),
    sequence(
        "nested with create_new",
        "A create_new block inside another one is a run of its own.",
        block("r", log({"a": 1}),
              block("s", log({"b": 1}, on="s"), reinit="create_new"),
              log({"a": 2}), read("step")),
    ),
    sequence(
        "finish inside the with block",
        "finish() inside the block wins; the end of the block adds nothing.",
        block("r", log({"a": 1}), finish(exit_code=4)),
    ),
    sequence(
        "finish twice",
        "A second finish() does nothing.",
        init("r"), log({"a": 1}), finish("r"), finish("r"), attempt(finish()),
    ),
    sequence(
        "log after finish",
        "Logging to a finished run raises.",
        init("r"), log({"a": 1}), finish(), attempt(log({"a": 2}, on="r")),
        attempt(log({"a": 3})),
    ),
    sequence(
        "log before init",
        "The module's log() needs a run.",
        attempt(log({"a": 1})), init("r"), log({"a": 2}), finish(),
    ),
    sequence(
        "log of no mapping",
        "log() raises for what is no mapping and leaves the step alone.",
        init("r"), attempt(log([1, 2])), read("step"), log({"a": 1}), finish(),
    ),
    sequence(
        "run left open",
        "A script that just ends has finished its run.",
        init("r"), log({"a": 1}),
    ),
    sequence(
        "two runs left open",
        "A script that just ends has finished all its runs.",
        init("r"), init("s", reinit="create_new"), log({"a": 1}),
        log({"b": 1}, on="s"),
    ),
    sequence(
        "finish with an exit code",
        "finish(exit_code=3) makes the run a failed one.",
        init("r"), log({"a": 1}), finish(exit_code=3),
    ),
    sequence(
        "exception in the with block",
        "An exception that leaves the block makes the run a failed one.",
        attempt(block("r", log({"a": 1}), throw("ValueError"))), read("active"),
    ),
    sequence(
        "sys.exit(3) in the with block",
        "A non-zero sys.exit in the block makes the run a failed one.",
        block("r", log({"a": 1}), leave(3)),
    ),
    sequence(
        "sys.exit(0) in the with block",
        "sys.exit(0) in the block ends the run.",
        block("r", log({"a": 1}), leave(0)),
        differs="W&B takes any exception for a failure; SystemExit(0) is none here",
        ours={"runs": [{"exit_code": 0}]},
    ),
    sequence(
        "Ctrl-C in the with block",
        "A KeyboardInterrupt that leaves the block ends the run.",
        block("r", log({"a": 1}), throw("KeyboardInterrupt")),
        differs="W&B records a failure; wanllmdb tells killed runs from failed ones",
        ours={"runs": [{"exit_code": 255}]},
    ),
    sequence(
        "exception ends the script",
        "An uncaught exception makes the run a failed one.",
        init("r"), log({"a": 1}), throw("ValueError"),
    ),
    sequence(
        "sys.exit(3) ends the script",
        "A non-zero sys.exit makes the run a failed one.",
        init("r"), log({"a": 1}), leave(3),
    ),
    sequence(
        "sys.exit(0) ends the script",
        "sys.exit(0) makes the run a finished one.",
        init("r"), log({"a": 1}), leave(0),
    ),
    sequence(
        "Ctrl-C ends the script",
        "An uncaught KeyboardInterrupt ends the run.",
        init("r"), log({"a": 1}), throw("KeyboardInterrupt"),
    ),
    sequence(
        "exception with finish in finally",
        "finish() in `finally` runs before the exception ends the script.",
        init("r"), lastly([log({"a": 1}), throw("ValueError")], [finish()]),
        differs="W&B records success; wanllmdb sees the exception that follows",
        ours={"runs": [{"exit_code": 1}]},
    ),
    sequence(
        "exception caught by the script",
        "An exception that the script handles does not touch the run.",
        init("r"), attempt(throw("ValueError")), log({"a": 1}),
    ),
]

RESUME: list[Sequence] = [
    sequence(
        "same id again",
        "init() with the id of a finished run starts it anew.",
        init("r", id="one"), log({"a": 1}), log({"a": 2}), log({"b": 3}), finish(),
        init("s", id="one"), read("step"), log({"a": 4}), finish(),
        differs="W&B makes two runs offline; here the new epoch supersedes the old one",
        ours={"runs": [
            {"history": [{"_step": 0, "a": 4}], "summary": {"_step": 0, "a": 4}},
        ]},
    ),
    sequence(
        "same id in two projects",
        "Ids are unique within a project only.",
        init("r", id="one", project="first"), log({"a": 1}), finish(),
        init("s", id="one", project="second"), log({"b": 2}), finish(),
    ),
    sequence(
        "resume allow",
        "resume='allow' continues a run behind its last step.",
        init("r", id="one"), log({"a": 1}), log({"a": 2}), finish(),
        init("s", id="one", resume="allow"), read("step"), log({"b": 3}),
        read("step"), finish(),
        differs="W&B ignores resume while offline; wanllmdb does it offline as well",
        ours={
            "seen": [["step", 2], ["step", 3]],
            "runs": [{"history": [{"_step": 0, "a": 1}, {"_step": 1, "a": 2},
                                  {"_step": 2, "b": 3}],
                      "summary": {"_step": 2, "a": 2, "b": 3}}],
        },
    ),
    sequence(
        "resume allow without a run",
        "resume='allow' with an unknown id starts a run.",
        init("r", id="one", resume="allow"), read("step"), log({"a": 1}), finish(),
    ),
    sequence(
        "resume must",
        "resume='must' continues a run behind its last step.",
        init("r", id="one"), log({"a": 1}, step=7), finish(),
        init("s", id="one", resume="must"), read("step"), log({"a": 2}), finish(),
        differs="W&B ignores resume while offline; wanllmdb does it offline as well",
        ours={
            "seen": [["step", 8]],
            "runs": [{"history": [{"_step": 7, "a": 1}, {"_step": 8, "a": 2}],
                      "summary": {"_step": 8, "a": 2}}],
        },
    ),
    sequence(
        "resume must without a run",
        "resume='must' needs a run that exists.",
        attempt(init("r", id="one", resume="must")),
        differs="W&B ignores resume while offline; wanllmdb does it offline as well",
        ours={"seen": [["raises", "RunNotFoundError"]], "runs": []},
    ),
    sequence(
        "resume never",
        "resume='never' refuses an id that exists.",
        init("r", id="one"), log({"a": 1}), finish(),
        attempt(init("s", id="one", resume="never")),
        differs="W&B ignores resume while offline; wanllmdb does it offline as well",
        ours={"seen": [["raises", "RunExistsError"]], "runs": [{}]},
    ),
    sequence(
        "resume never without a run",
        "resume='never' with an unknown id starts a run.",
        init("r", id="one", resume="never"), log({"a": 1}), finish(),
    ),
    sequence(
        "resume must while a run is active",
        "resume='must' never hands out another active run.",
        init("r", id="one"), log({"a": 1}), attempt(init("s", id="two", resume="must")),
        finish(),
    ),
    sequence(
        "resume of a failed run",
        "A run that failed is finished after a resume that went well.",
        init("r", id="one"), log({"a": 1}), finish(exit_code=1),
        init("s", id="one", resume="allow"), log({"a": 2}), finish(),
        differs="W&B ignores resume while offline; wanllmdb does it offline as well",
        ours={"runs": [
            {"history": [{"_step": 0, "a": 1}, {"_step": 1, "a": 2}],
             "summary": {"_step": 1, "a": 2}, "exit_code": 0},
        ]},
    ),
    sequence(
        "resume with overlapping steps",
        "Rows logged again after a resume replace the earlier ones, key by key.",
        init("r", id="one"), log({"a": 1, "b": 1}, step=0),
        log({"a": 2, "b": 2}, step=1), log({"a": 3, "b": 3}, step=2), finish(),
        init("s", id="one", resume="allow"), log({"a": 9}, step=1),
        read("step"), log({"a": 4}, step=3), finish(),
        differs="W&B ignores resume offline; here the later epoch wins key by key",
        ours={
            "seen": [["step", 3]],
            "runs": [{"history": [{"_step": 0, "a": 1, "b": 1},
                                  {"_step": 1, "a": 9, "b": 2},
                                  {"_step": 2, "a": 3, "b": 3}, {"_step": 3, "a": 4}],
                      "summary": {"_step": 3, "a": 4, "b": 3}}],
        },
    ),
    sequence(
        "resume twice",
        "Each resume goes on behind the one before.",
        init("r", id="one"), log({"a": 1}), finish(),
        init("s", id="one", resume="allow"), log({"a": 2}), finish(),
        init("t", id="one", resume="allow"), read("step"), log({"a": 3}), finish(),
        differs="W&B ignores resume while offline; wanllmdb does it offline as well",
        ours={
            "seen": [["step", 2]],
            "runs": [{"history": [{"_step": 0, "a": 1}, {"_step": 1, "a": 2},
                                  {"_step": 2, "a": 3}],
                      "summary": {"_step": 2, "a": 3}}],
        },
    ),
    sequence(
        "rewind with resume_from",
        "resume_from goes on behind the step that it names.",
        init("r", id="one"), log({"a": 1}), log({"a": 2}), log({"a": 3}), finish(),
        init("s", resume_from="one?_step=0"), read("step"), log({"a": 9}), finish(),
        differs="W&B only counts on while offline; wanllmdb rewinds the run itself",
        ours={
            "seen": [["step", 1]],
            "runs": [{"history": [{"_step": 0, "a": 1}, {"_step": 1, "a": 9}],
                      "summary": {"_step": 1, "a": 9}}],
        },
    ),
    sequence(
        "fork with fork_from",
        "fork_from starts a run from another one's past.",
        init("r", id="one"), log({"a": 1}), log({"a": 2}), finish(),
        init("s", id="two", fork_from="one?_step=0"), read("step"), log({"a": 9}),
        finish(),
        differs="W&B leaves the parent's rows to its server; wanllmdb shows them",
        ours={
            "seen": [["step", 1]],
            "runs": [{}, {"history": [{"_step": 0, "a": 1}, {"_step": 1, "a": 9}]}],
        },
    ),
]
