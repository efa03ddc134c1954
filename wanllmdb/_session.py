"""The active run of a process: init, log, finish, and the hooks of exit and fork."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wanllmdb import _config, _locks, _names, _settings, _starting
from wanllmdb._definitions import Metric
from wanllmdb._run import Run, outcome_of
from wanllmdb._store import Store
from wanllmdb._voice import say, warn
from wanllmdb.errors import (
    InvalidInputError,
    NoActiveRunError,
    RunActiveError,
    StateError,
    StoreUnavailableError,
)
from wanllmdb.types import State

_CHILD_VARIABLE = "_WANLLMDB_RUN"
"""Store, project and id of the parent's run, for children that spawn starts anew."""

_NOT_YET = frozenset({"sync_tensorboard", "tensorboard", "monitor_gym"})


@dataclass(slots=True)
class _Process:
    """What this process holds: its Stores, its live runs, and the active one."""

    pid: int
    stores: dict[Path, Store]
    live: list[Run]
    active: Run | None = None
    hooked: bool = False
    exit_code: int = 0
    finishing_error: int = 0
    last_ended: Run | None = None


_process = _Process(os.getpid(), {}, [])


def active_run() -> Run | None:
    """The run that module-level calls go to, or None."""
    return _process.active


def active_section(name: str) -> Any:
    """`config` or `summary` of the active run; an empty one before `init`."""
    if _process.active is not None:
        return getattr(_process.active, name)
    if name == "config":
        return _config.Config({})
    return _config.Summary(dict, lambda _: None, lambda _: None)


def init(
    project: str | None = None,
    name: str | None = None,
    config: Any = None,
    *,
    entity: str | None = None,
    dir: str | os.PathLike[str] | None = None,
    id: str | None = None,
    notes: str | None = None,
    tags: Any = None,
    config_exclude_keys: Any = None,
    config_include_keys: Any = None,
    allow_val_change: bool | None = None,
    group: str | None = None,
    job_type: str | None = None,
    mode: str | None = None,
    force: bool | None = None,
    reinit: bool | str | None = None,
    resume: bool | str | None = None,
    resume_from: str | None = None,
    fork_from: str | None = None,
    save_code: bool | None = None,
    tensorboard: bool | None = None,
    sync_tensorboard: bool | None = None,
    monitor_gym: bool | None = None,
    settings: Any = None,
    anonymous: str | None = None,
    monitor_system: bool | None = None,
    monitor_interval: float | None = None,
    git_tracking: bool | None = None,
    capture_logs: bool | None = None,
    store: str | os.PathLike[str] | None = None,
    shared: bool = False,
    strict: bool | None = None,
    durability: str | None = None,
) -> Run:
    """Start a run, go on with one, or join one.

    Args:
        project: Its project; default ``uncategorized``.
        name: Display name; default two words and a number.
        config: Inputs: mapping, dataclass, Namespace, or path of a YAML or JSON file.
        entity: Accepted as W&B has it; a Store has no accounts.
        dir: Accepted as W&B has it, without effect: see `store`.
        id: The run's id; default 12 random characters.
        notes: Free text.
        tags: A list of tags, or one tag.
        config_exclude_keys: Keys of `config` that are left out.
        config_include_keys: The only keys of `config` that are kept.
        allow_val_change: Accepted as W&B has it; changes are always allowed.
        group: Group of runs it belongs to.
        job_type: Kind of job.
        mode: ``local`` (default), ``offline`` (the same), ``online``, ``disabled``.
        force: Accepted as W&B has it.
        reinit: What an active run becomes: ``finish_previous`` or True finishes it,
            ``create_new`` leaves it alone, ``return_previous`` returns it. Default: a
            script gets the active run, a notebook finishes it.
        resume: ``allow``, ``must``, ``never``, or ``auto`` (True).
        resume_from: ``ID?_step=K``: go on after step K; later rows are superseded.
        fork_from: ``ID?_step=K``: a new run that takes over the rows up to step K.
        save_code: Store the source files with the run.
        tensorboard: Not implemented; warns.
        sync_tensorboard: Not implemented; warns.
        monitor_gym: Not implemented; warns.
        settings: A mapping of setting names to values, or W&B's Settings.
        anonymous: Accepted as W&B has it.
        monitor_system: Record system metrics; default True.
        monitor_interval: Seconds between system samples; default 15.
        git_tracking: Record git; default True.
        capture_logs: Record stdout and stderr; default True.
        store: The Store's directory; default by the rules in docs/guide.md.
        shared: Join the run of `id` if a live process writes it.
        strict: Raise for values that cannot be logged, instead of a warning.
        durability: ``process`` (kill -9 loses nothing), ``interval`` (fdatasync every
            5 s), ``sync`` (every call), ``buffered`` (up to 100 ms, for network disks).

    Returns:
        The run, which is now the active one (except with ``create_new``).

    Raises:
        RunActiveError: another process writes to the run, and `shared` is not set.
        RunExistsError: ``resume="never"``, and the run exists.
        RunNotFoundError: ``resume="must"``, and it does not exist.
        StoreUnavailableError: the Store cannot be used.
    """
    given = dict(locals())
    if sys.platform == "win32":
        raise StoreUnavailableError(
            "wanllmdb records runs on Linux and macOS only.",
            hint="Use WSL until Windows is tested.",
        )
    _adopt_process()
    for word in sorted(_NOT_YET):
        if given[word]:
            warn(f"init({word}=...) does nothing yet.")
    wandb = _from_wandb_settings(settings)
    own = {
        "project": project, "run_id": id, "run_name": name, "run_group": group,
        "job_type": job_type, "tags": None if tags is None else _names.tags(tags),
        "notes": notes, "mode": "local" if mode == "shared" else mode,
        "resume": "auto" if resume is True else (resume or None),
        "durability": durability, "strict": strict, "console": capture_logs,
        "git": git_tracking,
        "system_interval": 0 if monitor_system is False else monitor_interval,
    }  # fmt: skip
    given_here = {k: v for k, v in own.items() if v is not None}
    effective = _settings.load(
        _settings.find_store(store).path, **{**wandb.ours, **given_here}
    )
    previous = _previous(reinit, given)
    if previous is not None:
        return previous
    data = _chosen_config(config, config_include_keys, config_exclude_keys)
    if effective["mode"] == "disabled":
        run = _starting.disabled(effective, data)
    else:
        parent = _spawning_parent()
        # Set by `wanllmdb exec`, which owns the run that its command writes.
        joins = os.environ.pop("_WANLLMDB_JOIN", "") != ""
        opened = _open(store, effective)
        if parent is not None:
            run = _starting.handle_of_parent(opened, parent, effective)
        else:
            request = _starting.Request(
                effective, data, resume_from=resume_from, fork_from=fork_from,
                shared=shared or mode == "shared" or wandb.shared or joins,
                label="primary" if joins else wandb.label,
            )  # fmt: skip
            run = _starting.start(opened, request)
    _activate(run, replace=reinit != "create_new")
    if save_code:
        run.log_code(Path(sys.argv[0] or ".").parent)
    return run


def log(
    data: Mapping[str, Any],
    step: int | None = None,
    commit: bool | None = None,
    sync: bool | None = None,
) -> None:
    """Record values in the active run; see `Run.log`."""
    run = _process.active
    if run is None:
        raise _no_run("log")
    run.log(data, step, commit, sync)


def finish(exit_code: int | None = None, quiet: bool | None = None) -> None:
    """End the active run; without one nothing happens."""
    if _process.active is not None:
        _process.active.finish(exit_code, quiet)


def define_metric(name: str, step_metric: Any = None, **options: Any) -> Metric:
    """Say how a metric of the active run is summed up; see `Run.define_metric`."""
    return _required("define_metric").define_metric(name, step_metric, **options)


def save(
    glob_str: Any = None, base_path: Any = None, policy: str = "live"
) -> list[str]:
    """Store files with the active run; see `Run.save`."""
    return _required("save").save(glob_str, base_path, policy)


def log_code(*args: Any, **kwargs: Any) -> list[str]:
    """Store source files with the active run; see `Run.log_code`."""
    return _required("log_code").log_code(*args, **kwargs)


def alert(
    title: str, text: str = "", level: Any = None, wait_duration: Any = None
) -> None:
    """Store and print an alert of the active run; see `Run.alert`."""
    _required("alert").alert(title, text, level, wait_duration)


def log_message(message: str, level: str = "INFO") -> None:
    """Record one line in the active run's log; see `Run.log_message`."""
    _required("log_message").log_message(message, level)


def mark_preempting() -> None:
    """Accepted as W&B has it; see `Run.mark_preempting`."""
    _required("mark_preempting").mark_preempting()


def watch(*args: Any, **kwargs: Any) -> None:
    """Accepted as W&B has it; see `Run.watch`."""
    _required("watch").watch(*args, **kwargs)


def unwatch(*args: Any) -> None:
    """Accepted as W&B has it; see `Run.unwatch`."""
    _required("unwatch").unwatch(*args)


def login(*_: Any, **__: Any) -> bool:
    """Accepted as W&B has it: there is nothing to log in to."""
    return True


def setup(*_: Any, **__: Any) -> None:
    """Accepted as W&B has it."""


def require(*_: Any, **__: Any) -> None:
    """Accepted as W&B has it."""


def teardown(exit_code: int | None = None) -> None:
    """End every run of this process and close its Stores."""
    for run in list(_process.live):
        run.finish(exit_code)
    for opened in list(_process.stores.values()):
        opened.close()
    _process.stores.clear()


# Starting


def _open(where: Any, effective: _settings.Settings) -> Store:
    location = _settings.find_store(where)
    opened = _process.stores.get(location.path)
    if opened is None:
        opened = _process.stores[location.path] = Store(location, create=True)
        if not effective["silent"]:
            say(f"Store {location.path} ({location.reason})")
            for variable in effective.from_wandb:
                say(f"{variable} is used; WANLLMDB_* would win over it")
        if opened.network:
            warn(
                f"{location.path} is on a network filesystem: SQLite's rollback journal"
                " is used, and durability='buffered' is quicker there."
            )
    if opened.read_only:
        raise StoreUnavailableError(
            f"The Store at {location.path} is read-only for uid {os.getuid()}.",
            hint="Set WANLLMDB_DIR to a directory that you may write.",
        )
    os.environ["WANLLMDB_DIR"] = str(location.path)  # for child processes
    return opened


def _activate(run: Run, *, replace: bool) -> None:
    _hook_process()
    run._teardown.append(_ended)
    _process.live.append(run)
    if replace:
        _process.active = run
    if not run.disabled:
        os.environ[_CHILD_VARIABLE] = run.path
    run._begin()


def _ended(run: Run, exit_code: int) -> None:
    del exit_code
    _process.last_ended = run
    _process.finishing_error = id(sys.exc_info()[1])
    if run in _process.live:
        _process.live.remove(run)
    if _process.active is run:
        _process.active = None
    if os.environ.get(_CHILD_VARIABLE) == run.path:
        del os.environ[_CHILD_VARIABLE]


def _previous(reinit: bool | str | None, given: Mapping[str, Any]) -> Run | None:
    """The run that `init` returns instead of a new one, after dealing with it."""
    known = (None, True, False, "default", "finish_previous", "create_new",
             "return_previous")  # fmt: skip
    if reinit not in known:
        raise InvalidInputError(
            f"init() has no reinit={reinit!r}.",
            hint="Use finish_previous, create_new or return_previous.",
        )
    # W&B's rule: the newest live run, also one that create_new made.
    run = _process.live[-1] if _process.live else None
    if run is None or reinit == "create_new":
        return None
    finishes = reinit is True or reinit == "finish_previous"
    if reinit in (None, False, "default") and _in_notebook():
        finishes = True
    if finishes:
        for other in list(_process.live):
            other.finish()
        return None
    if given["resume"] == "must" and given["id"] not in (None, run.id):
        raise RunActiveError(
            f"Run {run.path} is active in this process.",
            hint="Finish it first, or pass reinit.",
        )
    ignored = sorted(
        key for key, value in given.items()
        if value is not None and value is not False and key != "reinit"
    )  # fmt: skip
    if ignored and reinit != "return_previous":
        warn(
            f"Run {run.path} is active and is returned; init's arguments"
            f" {', '.join(ignored)} are ignored. Finish it first, or pass reinit."
        )
    return run


# Surroundings


def _spawning_parent() -> str | None:
    """``project/id`` of the parent's run while a spawned child imports its main."""
    multiprocessing = sys.modules.get("multiprocessing.process")
    if multiprocessing is None or _CHILD_VARIABLE not in os.environ:
        return None
    current = multiprocessing.current_process()
    return (
        os.environ[_CHILD_VARIABLE] if getattr(current, "_inheriting", False) else None
    )


def _in_notebook() -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and "IPKernelApp" in getattr(shell, "config", {})


@dataclass(frozen=True, slots=True)
class _WandbSettings:
    """What W&B's `settings=` says that means something here."""

    ours: Mapping[str, Any]
    shared: bool
    label: str | None


_WANDB_SETTINGS = {
    "silent": "silent", "mode": "mode", "project": "project", "run_id": "run_id",
    "run_name": "run_name", "run_group": "run_group", "run_job_type": "job_type",
    "run_notes": "notes", "run_tags": "tags", "resume": "resume",
    "x_stats_sampling_interval": "system_interval",
}  # fmt: skip
"""W&B's names of settings, and ours; settings of our own names are taken too."""


_WANDB_CONSOLES = ("auto", "off", "redirect", "wrap", "wrap_emu", "wrap_raw")


def _from_wandb_settings(value: Any) -> _WandbSettings:
    items: dict[str, Any] = {}
    if isinstance(value, Mapping):
        items = dict(value)
    elif value is not None:
        items = {k: v for k, v in vars(value).items() if v is not None}
    names = {**_WANDB_SETTINGS, **{name: name for name in _settings.FIELDS}}
    ours = {names[k]: v for k, v in items.items() if k in names and v is not None}
    shared = ours.get("mode") == "shared"
    if shared:
        del ours["mode"]
    if items.get("console") in _WANDB_CONSOLES:
        ours["console"] = items["console"] != "off"
    if items.get("disable_git"):
        ours["git"] = False
    if items.get("x_disable_stats"):
        ours["system_interval"] = 0
    return _WandbSettings(ours, shared, items.get("x_label"))


def _chosen_config(config: Any, include: Any, exclude: Any) -> dict[str, Any]:
    data = _config.read_config(config)
    if include:
        data = {k: v for k, v in data.items() if k in include}
    return {k: v for k, v in data.items() if k not in (exclude or ())}


# Hooks


def _hook_process() -> None:
    if _process.hooked:
        return
    _process.hooked = True
    sys.excepthook = _chain_excepthook(sys.excepthook)
    sys.exit = _wrap_exit(sys.exit)
    atexit.register(_at_exit)
    util = sys.modules.get("multiprocessing.util")
    if util is not None and sys.modules["multiprocessing"].parent_process() is not None:
        # A multiprocessing child leaves by os._exit, which skips atexit.
        util.Finalize(None, _at_child_exit, exitpriority=100)


def _chain_excepthook(earlier: Callable[..., Any]) -> Callable[..., Any]:
    def excepthook(kind: Any, error: BaseException, trace: Any) -> None:
        if _process.pid == os.getpid():
            _end_all(error)
        earlier(kind, error, trace)

    return excepthook


def _wrap_exit(earlier: Callable[..., Any]) -> Callable[..., Any]:
    def exit(status: Any = None, /) -> None:
        if _process.pid == os.getpid():
            _process.exit_code = outcome_of(SystemExit(status))[1]
        earlier(status)

    return exit


def _end_all(error: BaseException) -> None:
    state, code = outcome_of(error)
    text = f"{type(error).__name__}: {error}"
    for run in list(_process.live):
        run._finish(code, state, text)
    ended = _process.last_ended
    if ended is not None and _process.finishing_error == id(error):
        # `finally: finish()` ran while this exception was on its way out.
        ended._amend(state, code, text)


def _at_exit() -> None:
    if _process.pid != os.getpid():
        return
    code = _process.exit_code
    for run in list(_process.live):
        run._finish(code, State.FAILED if code else None, None)
    teardown()


def _at_child_exit() -> None:
    error = sys.exc_info()[1]
    if error is not None:
        _end_all(error)
    _at_exit()


def _adopt_process() -> None:
    """After a fork the child owns nothing of the parent's session."""
    if _process.pid != os.getpid():
        _after_fork()


def _after_fork() -> None:
    _locks.forget_after_fork()
    _process.pid = os.getpid()
    _process.exit_code = 0
    _process.hooked = False
    for run in _process.live:
        run._after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)


def _required(what: str) -> Run:
    if _process.active is None:
        raise _no_run(what)
    return _process.active


def _no_run(what: str) -> StateError:
    return NoActiveRunError(
        f"wanllmdb.{what}() needs an active run.", hint="Call wanllmdb.init() first."
    )
