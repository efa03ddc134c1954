"""The active run of a process: init, log, finish, and the hooks of exit and fork."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wanllmdb import (
    _config,
    _files,
    _first_use,
    _known,
    _layout,
    _names,
    _settings,
    _starting,
    _stores,
    _wandb_settings,
)
from wanllmdb._definitions import Metric
from wanllmdb._process import CHILD_VARIABLE, activate, adopt, end_all, process
from wanllmdb._run import Run
from wanllmdb._store import Store
from wanllmdb._voice import say, warn
from wanllmdb.errors import (
    InvalidInputError,
    NoActiveRunError,
    RunActiveError,
    StateError,
    StoreUnavailableError,
)
from wanllmdb.types import Location

if TYPE_CHECKING:
    from wanllmdb._artifacts import Artifact

_NOT_YET = frozenset({"sync_tensorboard", "tensorboard", "monitor_gym"})


def active_run() -> Run | None:
    """The run that module-level calls go to, or None."""
    return process.active


def active_section(name: str) -> Any:
    """`config` or `summary` of the active run; before `init`, one to be read only."""
    if process.active is not None:
        return getattr(process.active, name)

    def refuse(*_: Any) -> None:
        raise _no_run("init", name)

    if name == "config":
        return _config.Config({}, refuse)
    return _config.Summary(dict, refuse, refuse)


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
    sync: str | None = None,
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
        allow_val_change: True says that config values may change, so no change is
            warned of; changes are kept either way.
        group: Group of runs it belongs to.
        job_type: Kind of job.
        mode: ``local`` (default), ``offline`` (the same), ``online`` (``sync="finish"``
            where a remote is configured), ``disabled``.
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
        sync: ``finish``: push the run to the remote as it ends, for at most a minute;
            what fails is said, and waits for the next sync. ``off`` (default) does not.

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
    adopt()
    for word in sorted(_NOT_YET):
        if given[word]:
            warn(f"init({word}=...) does nothing yet.")
    wandb = _wandb_settings.translate(settings)
    own = {
        "project": project, "run_id": id, "run_name": name, "run_group": group,
        "job_type": job_type, "tags": None if tags is None else _names.tags(tags),
        "notes": notes, "mode": "local" if mode == "shared" else mode,
        "resume": "auto" if resume is True else (resume or None),
        "durability": durability, "strict": strict, "console": capture_logs,
        "sync": sync,
        "git": git_tracking,
        "system_interval": 0 if monitor_system is False else monitor_interval,
    }  # fmt: skip
    # Set by `wanllmdb exec`, which owns the run that its command writes, and records
    # what it prints.
    joins = os.environ.get("_WANLLMDB_JOIN", "") != ""
    if joins:
        own["console"] = False
    given_here = {k: v for k, v in own.items() if v is not None}
    with _explained():
        location = _settings.find_store(store)
        effective = _settings.load(location.path, **{**wandb.ours, **given_here})
    previous = _previous(reinit, given)
    if previous is not None:
        return previous
    for variable in effective.from_wandb if not effective["silent"] else ():
        if variable not in process.said:
            process.said.add(variable)
            say(f"{variable} is used; WANLLMDB_* would win over it")
    if joins:  # a second init() of the command is another run
        os.environ.pop("_WANLLMDB_JOIN")
        os.environ.pop("WANLLMDB_RUN_ID", None)
    request = _starting.Request(
        effective,
        _chosen_config(config, config_include_keys, config_exclude_keys),
        resume_from=resume_from,
        fork_from=fork_from,
        shared=shared or mode == "shared" or wandb.shared or joins,
        label="primary" if joins else wandb.label,
        may_change=bool(allow_val_change),
    )
    run = _run_of(request, location)
    _push_at_end(run, effective)
    activate(run, replace=reinit != "create_new")
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
    run = process.active
    if run is None:
        raise _no_run("log")
    run.log(data, step, commit, sync)


def finish(exit_code: int | None = None, quiet: bool | None = None) -> None:
    """End the active run; without one nothing happens."""
    if process.active is not None:
        process.active.finish(exit_code, quiet)


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


def log_artifact(*args: Any, **kwargs: Any) -> Artifact:
    """Commit an artifact as what the active run made; see `Run.log_artifact`."""
    return _required("log_artifact").log_artifact(*args, **kwargs)


def upsert_artifact(*args: Any, **kwargs: Any) -> Artifact:
    """Add to a version that several processes make; see `Run.upsert_artifact`."""
    return _required("upsert_artifact").upsert_artifact(*args, **kwargs)


def finish_artifact(*args: Any, **kwargs: Any) -> Artifact:
    """Commit what several processes added; see `Run.finish_artifact`."""
    return _required("finish_artifact").finish_artifact(*args, **kwargs)


def use_artifact(*args: Any, **kwargs: Any) -> Artifact:
    """Find a version that the active run reads; see `Run.use_artifact`."""
    return _required("use_artifact").use_artifact(*args, **kwargs)


def log_model(*args: Any, **kwargs: Any) -> Artifact:
    """Commit a model that the active run made; see `Run.log_model`."""
    return _required("log_model").log_model(*args, **kwargs)


def use_model(*args: Any, **kwargs: Any) -> str:
    """Download a model that the active run reads; see `Run.use_model`."""
    return _required("use_model").use_model(*args, **kwargs)


def link_model(*args: Any, **kwargs: Any) -> Artifact:
    """Log a model and link it in the registry; see `Run.link_model`."""
    return _required("link_model").link_model(*args, **kwargs)


def link_artifact(*args: Any, **kwargs: Any) -> Artifact:
    """Link a version in the registry; see `Run.link_artifact`."""
    return _required("link_artifact").link_artifact(*args, **kwargs)


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
    end_all(exit_code)


# Starting


def _run_of(request: _starting.Request, location: Location) -> Run:
    settings = request.settings
    if settings["mode"] == "disabled":
        return _starting.disabled(settings, request.config)
    with _explained():
        store = _open(location, settings)
        with store.operation(f"init in {request.project}"):
            parent = _spawning_parent()
            if parent is not None:
                return _starting.handle_of_parent(store, parent, settings)
            return _starting.start(store, request)


def _push_at_end(run: Run, settings: _settings.Settings) -> None:
    store = run._store
    if store is None or run._role != "creator":
        return
    if settings["sync"] == "off" and settings["mode"] != "online":
        return
    from wanllmdb import _at_end

    if _at_end.wanted(settings, store):
        run._on_ended = partial(_at_end.push, run, store, settings)


@contextmanager
def _explained() -> Iterator[None]:
    """Say what to do where the system refuses what `init` needs."""
    try:
        yield
    except OSError as error:
        path = Path(os.fsdecode(error.filename or "the Store"))
        raise _files.explain_os_error(error, path) from error


def _open(location: Location, settings: _settings.Settings) -> Store:
    store = _stores.opened(location)
    store.budget.follow(settings["disk_budget"])
    _first_use.attach(store, settings)
    if str(location.path) not in process.said:
        process.said.add(str(location.path))
        _known.remember(location.path)
        if not settings["silent"]:
            say(f"Store {location.path} ({location.reason})")
        for concern in _layout.concerns(location):
            warn(concern)
    if store.read_only:
        raise StoreUnavailableError(
            f"The Store at {location.path} is read-only for uid {os.getuid()}.",
            hint="Set WANLLMDB_DIR to a directory that you may write.",
        )
    os.environ["WANLLMDB_DIR"] = str(location.path)  # for child processes
    return store


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
    run = process.newest
    if run is None or reinit == "create_new":
        return None
    finishes = reinit is True or reinit == "finish_previous"
    if reinit in (None, False, "default") and _in_notebook():
        finishes = True
    if finishes:
        for other in list(process.live):
            if other not in process.inherited:
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
    if multiprocessing is None or CHILD_VARIABLE not in os.environ:
        return None
    current = multiprocessing.current_process()
    return (
        os.environ[CHILD_VARIABLE] if getattr(current, "_inheriting", False) else None
    )


def _in_notebook() -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and "IPKernelApp" in getattr(shell, "config", {})


def _chosen_config(config: Any, include: Any, exclude: Any) -> dict[str, Any]:
    data = _config.read_config(config)
    if include:
        data = {k: v for k, v in data.items() if k in include}
    return {k: v for k, v in data.items() if k not in (exclude or ())}


def _required(what: str) -> Run:
    if process.active is None:
        raise _no_run(what)
    return process.active


def _no_run(what: str, name: str | None = None) -> StateError:
    call = f"wanllmdb.{name or what + '()'}"
    return NoActiveRunError(
        f"{call} needs an active run.", hint="Call wanllmdb.init() first."
    )
