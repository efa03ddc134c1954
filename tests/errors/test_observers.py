"""wanllmdb.on(): observers hear what happens, and cannot harm it."""

from __future__ import annotations

import pytest

import wanllmdb
from wanllmdb.errors import InvalidInputError

HEAR = """
import os, sys, wanllmdb
def hear(name):
    return lambda subject: print(name, getattr(subject, "id", None)
                                 or getattr(subject, "title", None), flush=True)
for name in ("start", "finish", "crash", "alert"): wanllmdb.on(name, hear(name))
"""


def heard(child, code):
    """What observers print while some code runs."""
    return child(HEAR + code).stdout.splitlines()


def test_start_alert_and_finish_are_heard_in_order(child):
    """Each with its run, or alert."""
    code = "run = wanllmdb.init(id='r'); run.alert('hot'); run.finish(); run.finish()"
    assert heard(child, code) == ["start r", "alert hot", "finish r"]


def test_finish_is_heard_when_the_script_just_ends(child):
    """Nobody has to call finish()."""
    assert heard(child, "wanllmdb.init(id='r')") == ["start r", "finish r"]


def test_a_crash_is_heard_by_whoever_recovers_the_run(child):
    """The dead cannot tell: the reader that finds it does."""
    child("import os, wanllmdb; wanllmdb.init(id='r').log({'x': 1}); os._exit(1)",
          ok=False)  # fmt: skip
    assert heard(child, "wanllmdb.Api().runs(); wanllmdb.Api().runs()") == ["crash r"]


def test_a_crash_is_heard_at_resume(child):
    """init() that goes on with a dead run recovers it first."""
    child("import os, wanllmdb; wanllmdb.init(id='r').log({'x': 1}); os._exit(1)",
          ok=False)  # fmt: skip
    said = heard(child, "wanllmdb.init(id='r', resume='must').finish()")
    assert said == ["crash r", "start r", "finish r"]


def test_several_events_in_one_call(child):
    """Names are separated by |; the observer comes back."""
    code = """
import wanllmdb
kept = lambda subject: print(type(subject).__name__)
assert wanllmdb.on("start|finish", kept) is kept
wanllmdb.init().finish()
"""
    assert child(code).stdout.split() == ["Run", "Run"]


def test_an_unknown_event_is_refused_by_name():
    """A typo is not an observer that never hears."""
    with pytest.raises(InvalidInputError, match="'finnish'"):
        wanllmdb.on("start|finnish", print)


def test_a_refused_observer_hears_nothing(child):
    """Of several names one wrong: none is taken."""
    code = """
import wanllmdb
try: wanllmdb.on("start|finnish", lambda subject: print("heard"))
except ValueError: pass
wanllmdb.init().finish()
"""
    assert child(code).stdout == ""


def test_an_observer_that_raises_stops_neither_the_next_nor_the_run(child, api, diary):
    """Its failure goes to the debug log, and nowhere else."""
    code = """
import wanllmdb
def fail(subject): raise RuntimeError("broken observer")
wanllmdb.on("start|finish|alert", fail)
wanllmdb.on("start|finish|alert", lambda s: print("second"))
run = wanllmdb.init(id="r"); run.alert("a"); run.log({"x": 1}); run.finish()
"""
    done = child(code)
    assert (done.stdout.split(), done.stderr) == (["second"] * 3, "")
    found = api.run("r")
    assert (found.state, found.summary["x"]) == ("finished", 1)
    assert diary().count("survived observer") == 3


def test_an_observer_may_use_the_run_it_hears_of(child, api):
    """At start it can log and edit; at finish it can read."""
    code = """
import wanllmdb
wanllmdb.on("start", lambda run: (run.log({"x": 1}), run.config.update(a=1)))
wanllmdb.on("finish", lambda run: print(wanllmdb.Api().run(run.path).state))
wanllmdb.init(id="r").finish()
"""
    assert child(code).stdout == "finished\n"
    assert (api.run("r").summary["x"], api.run("r").config) == (1, {"a": 1})


def test_an_observer_that_observes_and_one_that_alerts_do_not_loop(child):
    """Registering from inside an observer counts from the next event on."""
    code = """
import wanllmdb
def more(subject):
    wanllmdb.on("alert", lambda s: print("late", s.title))
wanllmdb.on("alert", more)
with wanllmdb.init() as run: run.alert("one"); run.alert("two")
"""
    assert child(code).stdout.splitlines() == ["late two"]


def test_a_forked_child_ends_without_telling_the_observers(child):
    """Finish is heard once, in the process that made the run."""
    code = """
run = wanllmdb.init(id="r")
if os.fork() == 0:
    run.log({"x": 1}); sys.exit(0)
os.wait(); run.finish()
"""
    assert heard(child, code) == ["start r", "finish r"]
