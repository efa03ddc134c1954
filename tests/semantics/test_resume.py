"""init(id=) of a run that exists, resume="auto", and overlap after a resume."""

from __future__ import annotations

import sys

import pytest

import wanllmdb
from wanllmdb.errors import RunExistsError

CRASH = """
run = wandb.init(resume="auto")
run.log({"x": run.step})
print(run.id, run.resumed, run.step)
if sys.argv[1:] != ["well"]:
    sys.stdout.flush()
    os._exit(1)
"""
"""Prints its id, whether it resumed, and its step; then dies without a finish."""


def seen(done):
    """(id, resumed, step) that a CRASH script printed."""
    run_id, resumed, step = done.stdout.split()
    return run_id, resumed == "True", int(step)


def test_the_same_id_again_says_in_one_line_that_it_replaces(script, api):
    """resume=None: the earlier rows are superseded, and that is printed."""
    wanllmdb.init(id="r").finish()
    done = script("wandb.init(id='r')", WANLLMDB_SILENT="0")
    told = [line for line in done.stderr.splitlines() if "replacing" in line]
    assert len(told) == 1
    assert "/r " in told[0]


def test_a_run_begun_anew_has_its_own_config_and_summary(api):
    """What the superseded attempt said is not mixed in, but its rows are kept."""
    with wanllmdb.init(id="r", config={"old": 1}) as run:
        run.log({"a": 1})
    with wanllmdb.init(id="r", config={"new": 2}) as run:
        assert "a" not in run.summary
        run.log({"b": 2})
    found = api.run("r")
    assert found.config == {"new": 2}
    assert "a" not in found.summary
    assert [epoch.number for epoch in found.epochs] == [1, 2]


def test_a_run_begun_anew_forgets_the_definitions_of_its_metrics(api):
    """define_metric of the superseded attempt does not shape the new summary."""
    with wanllmdb.init(id="r") as run:
        run.define_metric("a", summary="max")
    with wanllmdb.init(id="r") as run:
        run.log({"a": 1})
    assert api.run("r").summary["a"] == 1


def test_resume_keeps_the_definitions_of_metrics(api):
    """A run that goes on need not define its metrics again."""
    with wanllmdb.init(id="r") as run:
        run.define_metric("a", summary="max")
        run.log({"a": 5})
    with wanllmdb.init(id="r", resume="must") as run:
        run.log({"a": 1})
    assert api.run("r").summary["a"] == {"max": 5}


def test_resume_keeps_name_tags_and_summary(api):
    """Unless they are given anew."""
    with wanllmdb.init(id="r", name="one", tags=["a"], notes="n") as run:
        run.summary["best"] = 3
    with wanllmdb.init(id="r", resume="must", tags=["b"]) as run:
        assert (run.name, run.notes, run.tags) == ("one", "n", ("a", "b"))
        assert run.summary["best"] == 3
    assert api.run("r").summary["best"] == 3


def test_never_refuses_a_crashed_run_too(ok, api, script):
    """Whatever became of it, the run exists."""
    script("wandb.init(id='r'); os._exit(1)")
    with pytest.raises(RunExistsError):
        wanllmdb.init(id="r", resume="never")


@pytest.mark.parametrize("resume", ["allow", "must", "auto", True])
def test_a_crashed_run_goes_on_under_its_id(resume, script, api, rows):
    """allow, must, and auto with an id continue a run that was killed."""
    script("wandb.init(id='r').log({'x': 0}); os._exit(1)")
    with wanllmdb.init(id="r", resume=resume) as run:
        assert (run.resumed, run.step) == (True, 1)
        run.log({"x": 1})
    assert rows(api.run("r"), "x") == [(0, 0), (1, 1)]
    assert api.run("r").state == "finished"


def test_auto_with_an_unknown_id_starts_that_run(api):
    """As allow where an id is given, also beside dead runs."""
    with wanllmdb.init(id="r", resume="auto") as run:
        assert (run.id, run.resumed) == ("r", False)


def test_auto_goes_on_with_the_dead_run_of_the_same_script(script):
    """Started again as before, a script that died finds its run."""
    first = seen(script(CRASH, file="train.py"))
    second = seen(script(CRASH, file="train.py"))
    assert (first[1:], second) == ((False, 1), (first[0], True, 2))


def test_auto_takes_the_newest_dead_run(script, api):
    """Of two dead runs of the same script the later one goes on."""
    code = CRASH.replace('resume="auto"', "resume=os.environ.get('R')")
    old = seen(script(code, file="train.py"))[0]
    new = seen(script(code, file="train.py"))[0]
    assert seen(script(code, file="train.py", R="auto"))[0] == new != old


def test_auto_finds_nothing_after_a_good_end(script):
    """A finished run is not dead."""
    first = seen(script(CRASH, "well", file="train.py"))
    second = seen(script(CRASH, "well", file="train.py"))
    assert second[0] != first[0]
    assert not second[1]


@pytest.mark.parametrize(
    "how", ["sys.exit(3)", "raise ValueError", "os.kill(os.getpid(), 15)"]
)
def test_auto_goes_on_whatever_the_death_was(how, script):
    """Failed and killed runs are dead as crashed ones are."""
    code = CRASH.replace("os._exit(1)", how)
    first = seen(script(code, file="train.py"))
    assert seen(script(code, file="train.py"))[:2] == (first[0], True)


@pytest.mark.parametrize("other", ["arguments", "script", "directory", "project"])
def test_auto_leaves_other_runs_alone(other, script, tmp_path):
    """Other arguments, script, directory or project: another run."""
    first = seen(script(CRASH, "--lr=1", file="train.py", cwd=tmp_path))
    arguments = ["--lr=2" if other == "arguments" else "--lr=1"]
    file = "other.py" if other == "script" else "train.py"
    cwd = tmp_path / "home" if other == "directory" else tmp_path
    project = {"WANLLMDB_PROJECT": "elsewhere"} if other == "project" else {}
    second = seen(script(CRASH, *arguments, file=file, cwd=cwd, **project))
    assert second[0] != first[0]
    assert not second[1]


def test_auto_leaves_the_runs_of_other_hosts_alone(start, script, tmp_path):
    """A Store on a shared disk holds the dead runs of other machines."""
    path = tmp_path / "train.py"
    first = seen(script(CRASH, file="train.py"))
    shell = f"hostname elsewhere && exec {sys.executable} {path}"
    child = start("", command=["unshare", "--uts", "sh", "-c", shell])
    said, error = child.process.communicate(timeout=30)
    if "not permitted" in error or not said:
        pytest.skip(f"no UTS namespace here: {error}")
    assert said.split()[0] != first[0]


def test_auto_knows_a_script_by_whatever_path_it_was_started(script, start, tmp_path):
    """`python train.py`, `python ./train.py`, its whole path: the same script."""
    first = seen(script(CRASH, file="train.py", cwd=tmp_path))
    again = start("", command=[sys.executable, "./train.py"], cwd=tmp_path)
    again.stdout = again.process.communicate(timeout=30)[0]
    assert seen(again)[:2] == (first[0], True)


def test_auto_leaves_a_live_run_alone(start, script, tmp_path):
    """The same script started twice at once makes two runs."""
    pause = "if 'WAIT' in os.environ:\n    sys.stdout.flush(); time.sleep(60)\n"
    code = CRASH.replace("if sys.argv", pause + "if sys.argv")
    path = tmp_path / "train.py"
    path.write_text("import os, sys, time, wanllmdb as wandb\n" + code)
    child = start("", command=[sys.executable, str(path)], WAIT="1")
    live = child.process.stdout.readline().split()
    second = seen(script(code, file="train.py"))
    assert second[0] != live[0]
    assert not second[1]


def test_auto_leaves_the_trash_alone(script, api):
    """A deleted run is not brought back by a new start."""
    first = seen(script(CRASH, file="train.py"))
    api.run(first[0]).delete()
    assert seen(script(CRASH, file="train.py"))[0] != first[0]


def test_auto_gives_each_rank_its_own_run_back(start, rank):
    """After a restart by torchrun no rank goes on with another one's run."""
    code = """
import warnings; warnings.simplefilter("ignore")
wait("begin")
run = wandb.init(resume="auto")
run.log({"x": run.step})
(_folder / "id").write_text(run.id)
reach("logged")
wait("die")
os._exit(1)
"""
    attempts = []
    for _ in range(2):
        ranks = [start(code, **rank(number)) for number in (0, 1)]
        for child in ranks:
            child.let("begin")
            child.reached("logged")
        for child in ranks:
            child.let("die")
            child.end()
        attempts.append([(child.folder / "id").read_text() for child in ranks])
    assert attempts[0][0] != attempts[0][1]
    assert attempts[1] == attempts[0]


def test_after_a_resume_the_later_epoch_wins_per_key_and_step(api, script, rows):
    """Resumed from a checkpoint, a script logs some steps again."""
    script("""
run = wandb.init(id='r')
for step in range(6):
    run.log({'x': step, 'y': step}, step=step)
os._exit(1)
""")
    run = wanllmdb.init(id="r", resume="must")
    with pytest.warns(wanllmdb.WanllmdbWarning, match="behind"):
        run.log({"x": 400}, step=4)
    run.log({"x": 500}, step=5)
    run.log({"x": 600}, step=6)
    run.finish()
    assert rows(api.run("r"), "x", "y")[4:] == [
        (4, 400, 4), (5, 500, 5), (6, 600, None),
    ]  # fmt: skip


def test_statistics_leave_out_what_an_overlap_superseded(api):
    """Count, mean and extremes are those of the rows that show."""
    with wanllmdb.init(id="r") as run:
        for value in (1, 2, 99):
            run.log({"x": value})
    run = wanllmdb.init(id="r", resume="must")
    with pytest.warns(wanllmdb.WanllmdbWarning, match="behind"):
        run.log({"x": 3}, step=2)
    run.finish()
    stats = api.run("r").keys["x"]
    assert (stats.count, stats.max, stats.mean, stats.last) == (3, 3, 2.0, 3)


def test_what_an_overlap_superseded_can_be_restored(api, rows):
    """Nothing is lost by logging a step again."""
    for resume, value in ((None, 1), ("must", 2)):
        with wanllmdb.init(id="r", resume=resume) as run:
            if value == 1:
                run.log({"x": 1}, step=0)
            else:
                with pytest.warns(wanllmdb.WanllmdbWarning, match="behind"):
                    run.log({"x": 2}, step=0)
    assert rows(api.run("r"), "x") == [(0, 2)]
    api.run("r").restore_epoch(1)
    assert rows(api.run("r"), "x") == [(0, 1)]
