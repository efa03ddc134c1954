"""Forked, spawned and pooled children of a process that records a run."""

from __future__ import annotations

import pytest

POOL = """
import multiprocessing
run = None
def work(item):
    if {logs}:
        wandb.run.log({{"item": item}})
    return item * 2
if __name__ == "__main__":
    context = multiprocessing.get_context("{method}")
    run = wandb.init(id="r")
    run.log({{"x": 1}})
    with context.Pool(2) as pool:
        assert pool.map(work, range(4), 1) == [0, 2, 4, 6]
        pool.close()
        pool.join()
    run.log({{"x": 2}})
    run.finish()
"""
UNGUARDED = """
import multiprocessing
run = wandb.init(id="r", config={{"lr": 1}})
def work(queue):
    run.log({{"child": 1}})
    wandb.log({{"child": 2}})
    queue.put([run.id, run.config.lr, wandb.run is run])
if __name__ == "__main__":
    context = multiprocessing.get_context("{method}")
    run.log({{"x": 1}})
    queue = context.Queue()
    child = context.Process(target=work, args=(queue,))
    child.start()
    assert queue.get(timeout=30) == ["r", 1, True]
    child.join(30)
    assert child.exitcode == 0
    run.log({{"x": 2}})
"""


def forked(child, after=""):
    """Code: a run of one row, forked; the child does something and leaves."""
    body = "\n".join(f"    {line}" for line in child.splitlines())
    return f"""
run = wandb.init(id="r", config={{"a": 1}})
run.log({{"x": 1}})
run.log({{"x": 2}})
pid = os.fork()
if pid == 0:
{body}
    os._exit(0)
assert os.waitpid(pid, 0)[1] >= 0
{after}
run.log({{"x": 3}})
run.finish()
"""


def test_a_forks_automatic_steps_go_on_from_the_parents(ok, api, rows):
    """The child's cursor is the parent's at the fork, and moves on its own."""
    ok(forked("run.log({'y': 1})\nrun.log({'y': 2})\nassert run.step == 4"))
    found = rows(api.run("r"), "x", "y")
    assert [(step, x) for step, x, _ in found if x] == [(0, 1), (1, 2), (2, 3)]
    assert [(step, y) for step, _, y in found if y] == [(2, 1), (3, 2)]


def test_a_forks_rows_bear_its_name(ok, api):
    """history(writers="primary") shows the parent's alone."""
    ok(forked("run.log({'x': 9})"))
    writers = set(api.run("r").history()["_writer"].to_pylist())
    assert "primary" in writers
    assert len(writers) == 2
    assert api.run("r").history(writers="primary")["x"].to_pylist() == [1, 2, 3]


@pytest.mark.parametrize(
    "end",
    [
        "run.finish()", "run.finish(exit_code=3)", "sys.exit(3)", "raise ValueError",
        "os._exit(3)", "os.kill(os.getpid(), 9)", "run.log({'x': 9}); sys.exit(3)",
        "wandb.teardown()", "run.log({'x': 9}); run.finish(2)",
        "raise KeyboardInterrupt",
    ],
)  # fmt: skip
def test_nothing_that_a_fork_does_ends_the_run(end, ok, api):
    """However the child leaves, the run is the parent's and goes on."""
    check = "assert wandb.Api().run('r').state == 'running'"
    ok(forked(end, check))
    assert (api.run("r").state, api.run("r").record.exit_code) == ("finished", 0)


def test_a_fork_that_runs_to_its_end_ends_nothing(ok, api):
    """Also one that leaves through the interpreter's own exit and atexit."""
    ok("""
run = wandb.init(id="r")
pid = os.fork()
if pid == 0:
    run.log({"y": 1})
else:
    os.waitpid(pid, 0)
    assert wandb.Api().run("r").state == "running"
    run.log({"x": 1})
""")
    assert api.run("r").state == "finished"
    assert {"x", "y"} <= set(api.run("r").keys)


def test_a_fork_never_changes_the_config(ok, api):
    """The parent's config is what the parent says it is."""
    ok(forked("run.config.a = 2\nrun.config.b = 3"))
    assert api.run("r").config == {"a": 1}


def test_a_fork_never_sets_the_summary(ok, api):
    """What the child writes into the summary is the child's."""
    ok(forked("run.summary['best'] = 5\nrun.summary['x'] = 77"))
    assert "best" not in api.run("r").summary
    assert api.run("r").summary["x"] == 3


def test_a_forks_rows_never_change_the_summary(ok, api):
    """A worker's values are in the history, not among the run's final values."""
    code = forked("run.log({'x': 77, 'y': 1}, step=50)").replace(
        'run.log({"x": 3})', ""
    )
    ok(code)
    assert api.run("r").summary["x"] == 2
    assert "y" not in api.run("r").summary


def test_a_fork_does_not_capture_what_it_prints(ok, api):
    """Console lines of the child are not the run's, and nothing is written twice."""
    ok(forked("print('from the child', flush=True)", "print('from the parent')"),
       WANLLMDB_CONSOLE="1")  # fmt: skip
    # On stderr Python 3.12 warns of a fork beside threads.
    printed = [line.text for line in api.run("r").logs(stream="stdout")]
    assert printed == ["from the parent"]


def test_a_fork_may_record_a_run_of_its_own(ok, api, rows):
    """create_new in the child is a run that the child ends."""
    own = "with wandb.init(id='own', reinit='create_new') as own:\n"
    ok(forked(own + "    own.log({'z': 1})"))
    assert rows(api.run("own"), "z") == [(0, 1)]
    assert [api.run(i).state for i in ("own", "r")] == ["finished", "finished"]


def test_a_child_that_outlives_its_parent_keeps_its_rows(start, api, until):
    """The run has ended as the parent ended it once nobody writes it any more."""
    child = start("""
run = wandb.init(id="r")
run.log({"x": 1})
if os.fork() == 0:
    run.log({"y": 1})
    reach("forked")
    wait("go on")
    run.log({"y": 2})
    reach("done")
    os._exit(0)
wait("forked")
run.finish()
os._exit(0)
""")
    child.reached("forked")
    child.process.wait(30)
    child.let("go on")
    until(lambda: child.has_reached("done"))
    until(lambda: api.run("r").state == "finished")
    assert api.run("r").keys["y"].count == 2


def test_forks_while_threads_log_never_deadlock(ok, api):
    """A lock held by another thread at the fork is not the child's."""
    ok("""
import threading
run = wandb.init(id="r")
stop = threading.Event()
def work(name):
    while not stop.is_set():
        run.log({name: 1})
threads = [threading.Thread(target=work, args=(n,)) for n in "ab"]
for thread in threads:
    thread.start()
children = []
for number in range(10):
    pid = os.fork()
    if pid == 0:
        run.log({"child": number})
        os._exit(0)
    children.append(pid)
for pid in children:
    assert os.waitpid(pid, 0)[1] == 0
stop.set()
for thread in threads:
    thread.join()
""")
    assert api.run("r").keys["child"].count == 10
    assert api.run("r").state == "finished"


@pytest.mark.parametrize(
    ("method", "logs"),
    [("fork", False), ("fork", True), ("forkserver", False), ("spawn", False)],
)
def test_a_pool_of_workers_may_log_or_not(method, logs, script, api):
    """As a DataLoader's workers: rows of those that log, no trace of the others."""
    done = script(POOL.format(method=method, logs=logs), file="train.py")
    assert (done.returncode, done.stderr) == (0, "")
    found = api.run("r")
    assert [r["x"] for r in found.scan_history() if "x" in r] == [1, 2]
    items = sorted(r["item"] for r in found.scan_history() if "item" in r)
    assert items == (list(range(4)) if logs else [])
    assert logs or set(found.history()["_writer"].to_pylist()) == {"primary"}
    assert (found.state, len(api.runs())) == ("finished", 1)


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_an_unguarded_init_is_the_parents_run_in_a_child(method, script, api):
    """A child that imports the script again gets a handle on the parent's run."""
    done = script(UNGUARDED.format(method=method), file="train.py")
    assert (done.returncode, done.stderr) == (0, "")
    (found,) = api.runs()
    assert [r["x"] for r in found.scan_history() if "x" in r] == [1, 2]
    assert sorted(r["child"] for r in found.scan_history() if "child" in r) == [1, 2]
    assert (found.state, found.record.exit_code) == ("finished", 0)
    assert (found.config, len(found.epochs)) == ({"lr": 1}, 1)


def test_a_spawned_child_that_fails_does_not_fail_the_run(script, api):
    """The handle ends nothing, whatever becomes of the child."""
    code = UNGUARDED.format(method="spawn")
    code = code.replace("    queue.put(", "    raise ValueError\n    queue.put(")
    code = code.replace('    assert queue.get(timeout=30) == ["r", 1, True]\n', "")
    code = code.replace("child.exitcode == 0", "child.exitcode == 1")
    done = script(code, file="train.py")
    assert done.returncode == 0, done.stderr
    assert (api.run("r").state, api.run("r").record.exit_code) == ("finished", 0)


def test_a_guarded_worker_that_calls_init_records_its_own_run(script, api, rows):
    """Hyperparameter searches start one run per spawned process."""
    done = script(
        """
import multiprocessing
def work(number):
    with wandb.init(id=f"w{number}") as run:
        run.log({"n": number})
if __name__ == "__main__":
    run = wandb.init(id="main")
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=work, args=(n,)) for n in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    run.finish()
""",
        file="train.py",
    )
    assert done.returncode == 0, done.stderr
    assert [rows(api.run(f"w{n}"), "n") for n in range(2)] == [[(0, 0)], [(0, 1)]]
    assert {run.state for run in api.runs()} == {"finished"}


def test_a_forked_worker_that_calls_init_records_its_own_run(script, api, rows):
    """As with W&B, whose active run is the process's own."""
    done = script(forked("own = wandb.init(id='own')\nown.log({'z': 1})\nown.finish()"))
    assert done.returncode == 0, done.stderr
    assert rows(api.run("own"), "z") == [(0, 1)]
    assert api.run("own").state == api.run("r").state == "finished"
