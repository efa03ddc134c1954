"""What this process holds, and how its end becomes the end of its runs.

Hooks: the excepthook is chained, `sys.exit` wrapped, and both are quiet in any process
but the one that set them. No signal handler is ours: a signal that kills the process
leaves its runs to recovery.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from wanllmdb import _locks, _stores
from wanllmdb._ends import end_of
from wanllmdb._run import Run
from wanllmdb.types import End, State

CHILD_VARIABLE = "_WANLLMDB_RUN"
"""``project/id`` of the parent's run, for children that spawn starts anew."""


@dataclass(slots=True)
class Process:
    """What one process holds.

    Attributes:
        pid: Whose this is; a forked child finds its parent's here.
        live: Runs that have not ended, oldest first.
        inherited: Those of them that a fork took over.
        active: The run that module-level calls go to.
        hooked: Whether the hooks of exit are set.
        exit_code: What `sys.exit` was called with.
        said: W&B's variables, and Stores, that were spoken of.
        last_ended: The run that ended last, and the exception then on its way.
    """

    pid: int
    live: list[Run] = field(default_factory=list)
    inherited: list[Run] = field(default_factory=list)
    active: Run | None = None
    hooked: bool = False
    exit_code: int = 0
    said: set[str] = field(default_factory=set)
    last_ended: tuple[Run, BaseException | None] | None = None

    @property
    def newest(self) -> Run | None:
        """The newest live run of this process's own."""
        own = [run for run in self.live if run not in self.inherited]
        return own[-1] if own else None


process = Process(os.getpid())


def activate(run: Run, *, replace: bool) -> None:
    """Take over a run that `init` returns, and begin it."""
    _hook()
    process.last_ended = None
    run._teardown.append(_ended)
    run._on_child_stream = _hook_child
    process.live.append(run)
    if replace:
        process.active = run
    _tell_mode()
    if not run.disabled:
        os.environ[CHILD_VARIABLE] = run.path
    run._begin()


def end_all(exit_code: int | None = None) -> None:
    """Finish every live run, and close the Stores."""
    for run in list(process.live):
        run.finish(exit_code)
    _stores.close_all()


def adopt() -> None:
    """After a fork the child owns nothing of the parent's session."""
    if process.pid != os.getpid():
        _after_fork()


def _ended(run: Run, exit_code: int) -> None:
    del exit_code
    process.last_ended = (run, sys.exc_info()[1])
    if run in process.live:
        process.live.remove(run)
    if process.active is run:
        process.active = None
    _tell_mode()
    if os.environ.get(CHILD_VARIABLE) == run.path:
        del os.environ[CHILD_VARIABLE]


def _tell_mode() -> None:
    """Drafts are added before it is known which run logs them: the current one."""
    run = process.active or process.newest
    _stores.follow_mode(disabled=None if run is None else run.disabled)


def _hook() -> None:
    if process.hooked:
        return
    process.hooked = True
    sys.excepthook = _chain_excepthook(sys.excepthook)
    sys.exit = _wrap_exit(sys.exit)
    atexit.register(_at_exit)
    _hook_child()


def _hook_child() -> None:
    """A child of multiprocessing leaves by os._exit, which skips atexit."""
    util = sys.modules.get("multiprocessing.util")
    if util is not None and sys.modules["multiprocessing"].parent_process() is not None:
        util.Finalize(None, _at_child_exit, exitpriority=100)


def _chain_excepthook(earlier: Callable[..., Any]) -> Callable[..., Any]:
    def excepthook(kind: Any, error: BaseException, trace: Any) -> None:
        if process.pid == os.getpid():
            _end_by(error)
        earlier(kind, error, trace)

    return excepthook


def _wrap_exit(earlier: Callable[..., Any]) -> Callable[..., Any]:
    def exit(status: Any = None, /) -> None:
        main = threading.current_thread() is threading.main_thread()
        if main and process.pid == os.getpid():
            process.exit_code = end_of(SystemExit(status)).exit_code
        earlier(status)

    return exit


def _end_by(error: BaseException) -> None:
    end = end_of(error)
    for run in list(process.live):
        run._finish(end)
    _amend(end, lambda on_its_way: on_its_way is error)


def _amend(end: End, concerns: Callable[[BaseException | None], bool]) -> None:
    """Correct a run for which `finally: finish()` ran while an error was on its way."""
    if process.last_ended is not None and concerns(process.last_ended[1]):
        process.last_ended[0]._amend(end)


def _at_exit() -> None:
    if process.pid != os.getpid():
        return
    code = process.exit_code
    end = End(State.FAILED, code) if code else End(State.FINISHED)
    if code:
        _amend(end, lambda on_its_way: isinstance(on_its_way, SystemExit))
    for run in list(process.live):
        run._finish(end)
    end_all()


def _at_child_exit() -> None:
    error = sys.exc_info()[1]
    if error is not None:
        _end_by(error)
    _at_exit()


def _after_fork() -> None:
    _locks.forget_after_fork()
    process.pid = os.getpid()
    process.exit_code = 0
    process.hooked = False
    process.last_ended = None
    process.inherited = list(process.live)
    for run in process.live:
        run._after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)
