"""Ranks of torchrun, shared runs, and a second process without leave."""

from __future__ import annotations

import os

import pytest

import wanllmdb
from wanllmdb.errors import RunActiveError

LIVE = """
run = wandb.init(id="r")
run.log({"x": 0})
reach("logged")
wait("end")
run.finish()
"""
NO_SHARE = "RunActiveError"


def writers(run):
    """Writer of each row."""
    return sorted(set(run.history()["_writer"].to_pylist()))


def test_a_rank_joins_the_live_run_of_its_id(start, ok, rank, api, rows):
    """RANK > 0 writes a stream of its own; rank 0 ends the run."""
    first = start(LIVE, **rank(0))
    first.reached("logged")
    ok("r = wandb.init(id='r'); r.log({'x': 1}, step=0); r.finish()", **rank(1))
    assert api.run("r").state == "running"
    first.let("end")
    assert first.end() == 0
    found = api.run("r")
    assert sorted(rows(found, "x")) == [(0, 0), (0, 1)]
    assert writers(found) == ["primary", "rank-1"]
    assert (found.state, len(api.runs()), len(found.epochs)) == ("finished", 1, 1)


def test_a_rank_may_come_first(start, ok, rank, api):
    """Whoever is quickest makes the run; the names of the writers stay right."""
    second = start(LIVE, **rank(1))
    second.reached("logged")
    ok("r = wandb.init(id='r'); r.log({'x': 1}); r.finish()", **rank(0))
    second.let("end")
    assert second.end() == 0
    assert writers(api.run("r")) == ["primary", "rank-1"]
    assert api.run("r").state == "finished"


def test_a_rank_may_come_first_when_a_run_goes_on(start, ok, rank, api, rows):
    """Also after a restart: rank 1's rows are not taken for rank 0's."""
    with wanllmdb.init(id="r") as run:
        run.log({"x": -1})
    code = LIVE.replace('"r")', '"r", resume="allow")')
    second = start(code, **rank(1))
    second.reached("logged")
    ok("r = wandb.init(id='r', resume='allow'); r.log({'x': 1}, step=1); r.finish()",
       **rank(0))  # fmt: skip
    second.let("end")
    assert second.end() == 0
    assert writers(api.run("r")) == ["primary", "rank-1"]
    assert sorted(rows(api.run("r"), "x")) == [(0, -1), (1, 0), (1, 1)]


def test_a_late_rank_replaces_nothing(ok, rank, api, rows):
    """A rank that comes when rank 0 has finished must not supersede its rows."""
    ok("r = wandb.init(id='r'); r.log({'x': 0}); r.finish()", **rank(0))
    ok("r = wandb.init(id='r'); r.log({'x': 1}); r.finish()", **rank(1))
    assert (0, 0) in rows(api.run("r"), "x")


def test_a_rank_keeps_the_config_that_it_gave(start, ok, rank):
    """A script reads its config back, whichever rank it runs as."""
    first = start(LIVE, **rank(0))
    first.reached("logged")
    code = "r = wandb.init(id='r', config={'lr': 1}); print(r.config.lr)"
    assert ok(code, **rank(1)).split() == ["1"]


def test_ranks_without_an_id_are_runs_in_one_group(script, rank, api):
    """Each says once what happens and how to have one run instead."""
    for number in (0, 1):
        done = script("r = wandb.init(); r.log({'x': 1})", **rank(number, "job-7"))
        assert done.returncode == 0
        assert done.stderr.count("WanllmdbWarning: Each rank records") == 1
    found = api.runs()
    assert [run.group for run in found] == ["job-7", "job-7"]
    assert len({run.id for run in found}) == 2


def test_a_group_of_the_users_own_stays(script, rank, api):
    """The group that was asked for is not replaced."""
    script("wandb.init(group='mine')", **rank(0))
    assert api.runs()[0].group == "mine"


@pytest.mark.parametrize(
    "variables",
    [{"SLURM_PROCID": "1"}, {"RANK": "1"}, {"SLURM_PROCID": "1", "RANK": "1"}],
)
def test_without_torchrun_a_rank_means_nothing(variables, script, api):
    """As srun sets SLURM_PROCID for every script, distributed or not."""
    done = script("wandb.init()", **variables)
    assert (done.returncode, done.stderr) == (0, "")
    assert api.runs()[0].group is None
    wanllmdb.init(id="r")
    refused = script("wandb.init(id='r', resume='allow')", **variables)
    assert NO_SHARE in refused.stderr


def test_a_second_live_process_is_refused_by_host_and_pid(script):
    """Whether it would resume, replace or must: one run has one writer."""
    wanllmdb.init(id="r")
    for resume in (None, "allow", "must", "auto"):
        done = script(f"""
try:
    wandb.init(id='r', resume={resume!r})
except wandb.errors.RunActiveError as error:
    print(error)
""")
        assert str(os.getpid()) in done.stdout, done.stderr
        assert os.uname().nodename in done.stdout


def test_the_refused_process_harms_nothing(script, api, rows):
    """The live run's rows, config and epochs are as before."""
    run = wanllmdb.init(id="r", config={"a": 1})
    run.log({"x": 0})
    assert NO_SHARE in script("wandb.init(id='r', config={'b': 2})").stderr
    assert NO_SHARE in script("wandb.init(resume_from='r?_step=0')").stderr
    run.log({"x": 1})
    run.finish()
    found = api.run("r")
    assert rows(found, "x") == [(0, 0), (1, 1)]
    assert (found.config, len(found.epochs)) == ({"a": 1}, 1)


def test_of_processes_that_start_one_id_at_once_one_wins(start, until):
    """The others are told by whom, in the same words as ever."""
    code = """
wait("go")
try:
    run = wandb.init(id="r", resume="allow")
    reach("won")
    wait("end")
except wandb.errors.RunActiveError as error:
    (_folder / "why").write_text(str(error))
    reach("lost")
"""
    children = [start(code) for _ in range(4)]
    for child in children:
        child.let("go")
    until(lambda: all(c.has_reached("won") or c.has_reached("lost") for c in children))
    won = [child for child in children if child.has_reached("won")]
    lost = [child for child in children if child.has_reached("lost")]
    assert (len(won), len(lost)) == (1, 3)
    for child in lost:
        assert str(won[0].pid) in (child.folder / "why").read_text()
    won[0].let("end")


def test_a_shared_run_ends_with_its_last_writer(start, api, until):
    """Finished = its creator finished and no stream is locked."""
    run = wanllmdb.init(id="r", shared=True)
    child = start(LIVE.replace('"r")', '"r", shared=True)'))
    child.reached("logged")
    run.finish()
    assert api.run("r").state == "running"
    child.let("end")
    assert child.end() == 0
    assert api.run("r").state == "finished"
    assert api.run("r").record.exit_code == 0


@pytest.mark.parametrize(("mine", "theirs"), [(0, 3), (5, 0), (4, 2), (0, 0)])
@pytest.mark.parametrize("last", ["creator", "joined"])
def test_the_exit_code_of_a_shared_run_is_the_worst(mine, theirs, last, start, api):
    """In whichever order its writers end."""
    run = wanllmdb.init(id="r", shared=True)
    code = LIVE.replace('"r")', '"r", shared=True)')
    child = start(code.replace("finish()", f"finish({theirs})"))
    child.reached("logged")
    if last == "joined":
        run.finish(mine)
    child.let("end")
    child.end()
    if last == "creator":
        run.finish(mine)
    found = api.run("r").record
    worst = max(mine, theirs)
    assert (found.exit_code, found.state) == (worst, "failed" if worst else "finished")


def test_a_joined_writer_that_is_killed_costs_no_row(start, api, rows):
    """Its lock is free, so the creator's finish ends the run, as failed."""
    run = wanllmdb.init(id="r", shared=True)
    child = start(LIVE.replace('"r")', '"r", shared=True)'))
    child.reached("logged")
    child.signal(9)
    child.end()
    run.finish()
    assert rows(api.run("r"), "x") == [(0, 0)]
    assert api.run("r").state == "failed"


def test_a_shared_run_whose_creator_died_is_crashed(start, ok, api, rows):
    """As soon as nobody writes it any more, and not before."""
    creator = start(LIVE.replace('"r")', '"r", shared=True)'))
    creator.reached("logged")
    run = wanllmdb.init(id="r", shared=True)
    creator.signal(9)
    creator.end()
    assert ok("print(wandb.Api().run('r').state)").strip() == "running"
    run.log({"x": 1}, step=0)
    run.finish()
    assert api.run("r").state == "crashed"
    assert sorted(rows(api.run("r"), "x")) == [(0, 0), (0, 1)]


def test_shared_joins_by_wandbs_own_words(ok, api):
    """mode="shared" and settings with x_label are W&B's spelling of it."""
    run = wanllmdb.init(id="r", mode="shared")
    run.log({"x": 0})
    ok("r = wandb.init(id='r', mode='shared', settings={'x_label': 'node-b'})\n"
       "r.log({'x': 1}); r.finish()")  # fmt: skip
    run.finish()
    assert writers(api.run("r")) == ["node-b", "primary"]


def test_config_and_summary_of_a_joined_writer_are_kept(ok, api):
    """What a joining process sets is there beside what the creator set."""
    run = wanllmdb.init(id="r", shared=True, config={"a": 1})
    code = """
run = wandb.init(id="r", shared=True, config={"b": 2})
assert (run.config.a, run.config.b) == (1, 2)
run.config.c = 3
run.summary["best"] = 9
run.finish()
"""
    ok(code)
    run.finish()
    assert api.run("r").config == {"a": 1, "b": 2, "c": 3}
    assert api.run("r").summary["best"] == 9


def test_the_error_can_be_handled_by_its_type():
    """RunActiveError carries host and pid for programs, too."""
    wanllmdb.init(id="r")
    with pytest.raises(RunActiveError) as caught:
        wanllmdb.init(id="r", reinit="create_new")
    assert str(os.getpid()) in str(caught.value)
