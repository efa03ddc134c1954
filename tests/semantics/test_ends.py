"""How a process ends decides the state of its run."""

from __future__ import annotations

import signal

import pytest

import wanllmdb

BEGIN = "import signal, threading\nrun = wandb.init(id='r')\nrun.log({'x': 1})\n"
LASTLY = "try:\n    {}\nfinally:\n    wandb.finish()\n"
WITHIN = "with run:\n    {}\n"


def ended(api):
    """State and exit code of the run."""
    record = api.run("r").record
    return str(record.state), record.exit_code


@pytest.mark.parametrize(
    ("code", "end"),
    [
        ("run.finish()", ("finished", 0)),
        ("run.finish(exit_code=7)", ("failed", 7)),
        ("run.finish(); raise ValueError", ("finished", 0)),
        ("wandb.teardown(exit_code=2)", ("failed", 2)),
        (LASTLY.format("sys.exit(3)"), ("failed", 3)),
        (LASTLY.format("sys.exit(0)"), ("finished", 0)),
        (LASTLY.format("sys.exit('no')"), ("failed", 1)),
        (LASTLY.format("raise KeyboardInterrupt"), ("killed", 130)),
        ("sys.exit('a message')", ("failed", 1)),
        ("sys.exit()", ("finished", 0)),
        (WITHIN.format("sys.exit(0)"), ("finished", 0)),
        (WITHIN.format("sys.exit(3)"), ("failed", 3)),
        (WITHIN.format("raise SystemExit(3)"), ("failed", 3)),
        (WITHIN.format("raise KeyboardInterrupt"), ("killed", 130)),
        (WITHIN.format("os._exit(0)"), ("crashed", None)),
        ("import argparse; argparse.ArgumentParser().error('x')", ("failed", 2)),
        ("os.abort()", ("crashed", None)),
        ("os.kill(os.getpid(), signal.SIGSEGV)", ("crashed", None)),
        ("os.kill(os.getpid(), signal.SIGTERM)", ("crashed", None)),
        ("os.kill(os.getpid(), signal.SIGHUP)", ("crashed", None)),
        ("os.kill(os.getpid(), signal.SIGKILL)", ("crashed", None)),
        ("os.kill(os.getpid(), signal.SIGINT); time.sleep(9)", ("killed", 130)),
        (WITHIN.format("os.kill(os.getpid(), 2); time.sleep(9)"), ("killed", 130)),
    ],
    ids=lambda value: " ".join(str(value).split()),
)
def test_the_end_of_the_process_is_the_end_of_the_run(code, end, script, api, rows):
    """Finished, failed, killed or crashed; the rows are there in every case."""
    script(BEGIN + code)
    assert ended(api) == end
    assert rows(api.run("r"), "x") == [(0, 1)]


@pytest.mark.parametrize(
    ("code", "code_of_process"),
    [("", 0), ("sys.exit(3)", 3), ("raise ValueError", 1), ("os._exit(4)", 4),
     ("raise KeyboardInterrupt", -2), ("os.kill(os.getpid(), 15)", -15)],
)  # fmt: skip
def test_the_process_ends_as_it_would_without_us(code, code_of_process, script):
    """Exit codes and wait statuses are the script's own."""
    done = script(BEGIN + code)
    assert done.returncode == code_of_process
    assert ("Traceback" in done.stderr) == ("raise" in code)


def test_the_error_that_ended_a_run_is_kept(script, api):
    """Type and text of the exception; the users' traceback is printed as ever."""
    done = script(BEGIN + "raise ValueError('boom')")
    assert api.run("r").record.error == "ValueError: boom"
    assert done.stderr.rstrip().endswith("ValueError: boom")


def test_an_exception_hook_of_the_users_is_called_too(script, api):
    """Ours is chained, whether theirs came first or later."""
    before = "sys.excepthook = lambda kind, *_: print('hooked', kind.__name__)\n"
    after = """
ours = sys.excepthook
def hook(kind, *rest):
    print("hooked", kind.__name__)
    ours(kind, *rest)
sys.excepthook = hook
"""
    for code in (before + BEGIN, BEGIN + after):
        assert "hooked ValueError" in script(code + "raise ValueError").stdout
        assert ended(api) == ("failed", 1)


def test_an_exception_caught_after_finish_in_finally_is_no_failure(ok, api):
    """Only what really ends the script counts."""
    ok(
        BEGIN
        + """
try:
    try:
        raise ValueError
    finally:
        wandb.finish()
except ValueError:
    pass
"""
    )
    assert ended(api) == ("finished", 0)


def test_a_later_exception_does_not_fail_a_run_that_finished(script, api):
    """finish() ran in a handler of another error than the one that ends the script."""
    script(
        BEGIN
        + """
try:
    raise ValueError
except ValueError:
    wandb.finish()
raise KeyError
"""
    )
    assert ended(api) == ("finished", 0)


def test_an_exit_of_a_thread_is_no_end(ok, api):
    """sys.exit in a thread ends that thread."""
    ok(
        BEGIN
        + """
thread = threading.Thread(target=sys.exit, args=(3,))
thread.start()
thread.join()
"""
    )
    assert ended(api) == ("finished", 0)


def test_an_exception_of_a_thread_is_no_end(ok, api):
    """As Python itself sees it: the main thread goes on."""
    ok(
        BEGIN
        + """
def fail():
    raise ValueError
thread = threading.Thread(target=fail)
thread.start()
thread.join()
"""
    )
    assert ended(api) == ("finished", 0)


def test_a_signal_handler_of_the_users_decides(start, api):
    """A script that turns SIGTERM into an exit ends as it says."""
    child = start(
        BEGIN
        + """
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
reach("ready")
wait("never")
"""
    )
    child.reached("ready")
    child.signal(signal.SIGTERM)
    assert child.end() == 143
    assert ended(api) == ("failed", 143)


def test_there_are_no_signal_handlers_of_ours():
    """Every signal is handled as before, during a run and after it."""

    def handlers():
        return {n: signal.getsignal(n) for n in signal.valid_signals()}

    before = handlers()
    run = wanllmdb.init(capture_logs=True, monitor_interval=0.1)
    run.log({"x": 1})
    assert handlers() == before
    assert signal.set_wakeup_fd(-1) == -1
    run.finish()
    assert handlers() == before


def test_ctrl_c_from_outside_kills_the_run(start, api, rows):
    """SIGINT raises KeyboardInterrupt in the script, which ends it."""
    child = start(BEGIN + "reach('ready')\nwait('never')")
    child.reached("ready")
    child.signal(signal.SIGINT)
    child.end()
    assert ended(api) == ("killed", 130)


def test_ctrl_c_that_the_script_catches_is_no_end(start, api):
    """A loop that stops on Ctrl-C and then evaluates has finished."""
    child = start(
        BEGIN
        + """
try:
    reach("ready")
    wait("never")
except KeyboardInterrupt:
    run.log({"x": 2})
"""
    )
    child.reached("ready")
    child.signal(signal.SIGINT)
    assert child.end() == 0
    assert ended(api) == ("finished", 0)


def test_every_run_of_a_process_ends_with_it(script, api):
    """Those of create_new too, in the state of the process."""
    script("a = wandb.init(id='a'); b = wandb.init(id='b', reinit='create_new')\n1/0")
    assert [api.run(i).state for i in "ab"] == ["failed", "failed"]


def test_threads_and_exit_hooks_may_log_to_the_end(ok, api):
    """A thread that is joined at exit and an atexit hook of the user's still log."""
    ok("""
import atexit, threading
run = wandb.init(id="r")
atexit.register(lambda: run.log({"hook": 1}))
def work():
    threading.main_thread().join()
    run.log({"thread": 1})
threading.Thread(target=work).start()
""")
    assert {"hook", "thread"} <= set(api.run("r").keys)
    assert ended(api) == ("finished", 0)


def test_a_daemon_thread_that_logs_does_not_hang_the_exit(start, api):
    """The interpreter leaves within seconds, and the run has its end."""
    child = start(
        BEGIN
        + """
def work():
    while True:
        run.log({"y": 1})
threading.Thread(target=work, daemon=True).start()
while not run.summary.get("y"):
    pass
"""
    )
    child.process.communicate(timeout=20)
    assert child.process.returncode == 0
    assert ended(api) == ("finished", 0)


def test_del_and_collection_of_the_handle_end_nothing(ok, api):
    """A run lives until it is finished, not until its name goes."""
    ok("import gc\nwandb.init(id='r')\ngc.collect()\nwandb.log({'x': 1})")
    assert api.run("r").keys["x"].count == 1
    assert ended(api) == ("finished", 0)
