"""The active run of a process: init, log, finish, and the hooks of exit and fork."""

from __future__ import annotations

import atexit
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wanllmdb import _config, _ids, _locks, _names, _settings
from wanllmdb._catalog import runs
from wanllmdb._run import Metric, Run, outcome_of
from wanllmdb._store import Store
from wanllmdb.errors import (
    InvalidInputError,
    NoActiveRunError,
    RunActiveError,
    RunExistsError,
    RunNotFoundError,
    StateError,
    StoreUnavailableError,
    WanllmdbWarning,
)
from wanllmdb.types import (
    ALL_STEPS_SUPERSEDED,
    NewRun,
    Parent,
    RunRecord,
    State,
)

_CHILD_VARIABLE = "_WANLLMDB_RUN"
"""Store, project and id of the parent's run, for children that spawn starts anew."""

_SILENT_KEYWORDS = frozenset(
    {"entity", "dir", "force", "anonymous", "allow_val_change"}
)
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
            _warn(f"init({word}=...) does nothing yet.")
    extra = _settings_argument(settings)
    effective = _settings.load(
        project=project, run_id=id, run_name=name, run_group=group, job_type=job_type,
        tags=None if tags is None else _names.tags(tags), notes=notes,
        mode="local" if mode == "shared" else mode,
        resume="auto" if resume is True else (resume or None),
        durability=durability, strict=strict, console=capture_logs, git=git_tracking,
        system_interval=0 if monitor_system is False else monitor_interval,
        **extra["ours"],
    )  # fmt: skip
    previous = _previous(reinit, given)
    if previous is not None:
        return previous
    data = _chosen_config(config, config_include_keys, config_exclude_keys)
    if effective["mode"] == "disabled":
        run = _disabled_run(effective, data)
    else:
        parent = _spawning_parent()
        # Set by `wanllmdb exec`, which owns the run that its command writes.
        joins = os.environ.pop("_WANLLMDB_JOIN", "") != ""
        opened = _open(store, effective)
        if parent is not None:
            run = _child_run(opened, parent, effective)
        else:
            run = _start(
                opened, effective, data, resume_from=resume_from, fork_from=fork_from,
                shared=shared or mode == "shared" or extra["shared"] or joins,
                label="primary" if joins else extra["label"],
            )  # fmt: skip
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
            _print(f"Store {location.path} ({location.reason})")
            for variable in effective.from_wandb:
                _print(f"{variable} is used; WANLLMDB_* would win over it")
        if opened.network:
            _warn(
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


def _start(
    opened: Store,
    effective: _settings.Settings,
    data: dict[str, Any],
    *,
    resume_from: str | None,
    fork_from: str | None,
    shared: bool,
    label: str | None,
) -> Run:
    project = _names.project(effective["project"])
    identity = _identity()
    if resume_from is not None:
        return _rewound(opened, project, resume_from, effective, data)
    parent = None if fork_from is None else _fork_point(opened, project, fork_from)
    run_id = effective["run_id"]
    resume = effective["resume"]
    rank = _rank()
    if rank is not None and run_id is not None:
        shared = True
    record = _existing(opened, project, run_id, resume, identity)
    if record is not None:
        opened.recover(record)
        record = runs.read(opened.catalog.reader, record.pk)
        if shared and opened.is_live(record):
            return _joined(opened, record, effective, label, rank)
        if resume == "never":
            raise RunExistsError(
                f"Run {project}/{record.run_id} exists, and resume='never'.",
                hint="Choose another id, or resume='allow'.",
                run=record.run_id,
            )
        return _continued(opened, record, effective, data, resume)
    if resume == "must":
        raise RunNotFoundError(
            f"There is no run {run_id!r} in project {project!r} to resume.",
            hint="Check the id, or use resume='allow'.",
            run=run_id,
        )
    return _created(opened, project, effective, data, identity, parent, rank, shared)


def _existing(
    opened: Store, project: str, run_id: str | None, resume: str | None, identity: str
) -> RunRecord | None:
    if run_id is not None:
        return runs.find(opened.catalog.reader, project, _names.run_id(run_id))
    if resume != "auto":
        return None
    # auto without an id: the newest dead run of the same host, script, arguments
    # and directory.
    opened.recover_dead(project)
    row = opened.catalog.reader.execute(
        "SELECT run.id FROM run JOIN project ON project.id = run.project_id"
        " WHERE project.name = ? AND identity = ? AND state IN"
        " ('crashed', 'failed', 'killed') AND run.deleted_us IS NULL"
        " ORDER BY started_us DESC, run.id DESC LIMIT 1",
        (project, identity),
    ).fetchone()
    return None if row is None else runs.read(opened.catalog.reader, row[0])


def _created(
    opened: Store,
    project: str,
    effective: _settings.Settings,
    data: dict[str, Any],
    identity: str,
    parent: Parent | None,
    rank: int | None,
    shared: bool,
) -> Run:
    reader = opened.catalog.reader
    group = effective["run_group"]
    if rank is not None and effective["run_id"] is None and group is None:
        group = os.environ.get("TORCHELASTIC_RUN_ID") or os.environ.get("MASTER_PORT")
        _warn(f"Each rank records a run of its own, in group {group!r}; give an id to"
              " record one run of all.")  # fmt: skip
    name = effective["run_name"]
    if name is None:
        name = _names.random_run_name(runs.next_number(reader, project))
    new = NewRun(
        uid=_ids.uid(),
        project=project,
        run_id=_names.run_id(effective["run_id"] or _ids.run_id()),
        name=_names.text(str(name), "run name"),
        notes=effective["notes"],
        group=group,
        job_type=effective["job_type"],
        tags=_names.tags(effective["tags"]),
        config=data,
        identity=identity,
        parent=parent,
    )
    writer = "primary" if not shared or not rank else f"rank-{rank}"
    try:
        stream = opened.create_run(new, writer=writer)
    except RunExistsError:
        # Another process made the run of this id in the meantime.
        record = runs.find(reader, project, new.run_id)
        if record is None:
            raise
        if shared:
            return _joined(opened, record, effective, None, rank)
        raise RunActiveError(
            f"Run {project}/{new.run_id} was just started by another process.",
            hint="Join it with init(id=..., shared=True).",
        ) from None
    record = runs.read(reader, stream.run_pk)
    first = parent.step + 1 if parent else 0
    run = Run(
        opened, record, stream, effective, role="creator", first_step=first, config=data
    )
    _announce(run, effective, "recording")
    return run


def _continued(
    opened: Store,
    record: RunRecord,
    effective: _settings.Settings,
    data: dict[str, Any],
    resume: str | None,
) -> Run:
    overwrite = resume is None
    last = record.last_step
    first = 0 if overwrite or last is None else last + 1
    stream = opened.continue_run(
        record,
        "overwrite" if overwrite else "resume",
        first_step=first,
        keep_step=ALL_STEPS_SUPERSEDED if overwrite else None,
    )
    word = "replacing" if overwrite else "resuming"
    merged = data if overwrite else {**opened.load_json(record, "config"), **data}
    return _reopened(opened, stream.run_pk, stream, effective, merged, first, word,
                     resumed=not overwrite)  # fmt: skip


def _reopened(
    opened: Store,
    pk: int,
    stream: Any,
    effective: _settings.Settings,
    data: dict[str, Any],
    first: int,
    word: str,
    *,
    resumed: bool,
) -> Run:
    opened.save_config(pk, data)
    record = runs.read(opened.catalog.reader, pk)
    with opened.catalog.transaction(durable=False) as connection:
        runs.add_tags(connection, pk, _names.tags(effective["tags"]))
        wanted = {"name": effective["run_name"], "notes": effective["notes"]}
        changes = {k: v for k, v in wanted.items() if v and v != getattr(record, k)}
        if changes:
            runs.update(connection, record, changes)
    record = runs.read(opened.catalog.reader, pk)
    run = Run(
        opened, record, stream, effective, role="creator", first_step=first,
        resumed=resumed, config=data,
    )  # fmt: skip
    _announce(run, effective, f"{word} (from step {first})")
    return run


def _rewound(
    opened: Store,
    project: str,
    target: str,
    effective: _settings.Settings,
    data: dict[str, Any],
) -> Run:
    record, step = _point(opened, project, target)
    stream = opened.continue_run(record, "rewind", first_step=step + 1, keep_step=step)
    merged = {**opened.load_json(record, "config"), **data}
    return _reopened(
        opened, record.pk, stream, effective, merged, step + 1, "rewinding",
        resumed=True,
    )  # fmt: skip


def _fork_point(opened: Store, project: str, target: str) -> Parent:
    from wanllmdb._metrics import decode

    record, step = _point(opened, project, target)
    marks = decode.count_rows(opened.run_dir(record.uid))
    return Parent(record.pk, record.uid, record.epoch, step, marks)


def _point(opened: Store, project: str, target: str) -> tuple[RunRecord, int]:
    """The run and step that ``ID?_step=K`` or ``ID?key=value`` names."""
    name, question, test = target.partition("?")
    key, equals, text = test.partition("=")
    if not question or not equals:
        raise InvalidInputError(
            f"{target!r} names no step.", hint='Write "RUN_ID?_step=K".'
        )
    record = runs.select(opened.catalog.reader, name, project)
    opened.recover(record)
    record = runs.read(opened.catalog.reader, record.pk)
    if key == "_step":
        if not text.lstrip("-").isdigit():
            raise InvalidInputError(
                f"{text!r} is no step.", hint='Write "RUN_ID?_step=K".'
            )
        return record, int(text)
    for row in opened.scan(record, [key]).dicts(record.started_us):
        if key in row and str(row[key]) == text:
            return record, int(row["_step"])
    raise RunNotFoundError(
        f"Run {name!r} never logged {key} = {text}.", hint="Check it with `metric get`."
    )


def _joined(
    opened: Store,
    record: RunRecord,
    effective: _settings.Settings,
    label: str | None,
    rank: int | None,
) -> Run:
    writer = label or (f"rank-{rank}" if rank else f"writer-{_ids.op_id()[:6]}")
    if rank == 0:
        writer = "primary"
    stream = opened.join_run(record, writer[:16])
    data = opened.load_json(record, "config")
    first = 0 if record.last_step is None else record.last_step + 1
    run = Run(
        opened, record, stream, effective, role="joined", first_step=first,
        resumed=False, config=data,
    )  # fmt: skip
    _announce(run, effective, f"joining as {writer}")
    return run


def _child_run(opened: Store, parent: str, effective: _settings.Settings) -> Run:
    project, _, run_id = parent.partition("/")
    record = runs.find(opened.catalog.reader, project, run_id)
    if record is None:
        raise RunNotFoundError(
            f"The parent's run {parent!r} is not in {opened.path}.",
            hint="Guard the training script with if __name__ == '__main__'.",
        )
    return Run(
        opened, record, None, effective, role="child", child_prefix="spawn",
        config=opened.load_json(record, "config"),
    )  # fmt: skip


def _disabled_run(effective: _settings.Settings, data: dict[str, Any]) -> Run:
    now = 0
    record = RunRecord(
        0, "disabled", effective["project"], effective["run_id"] or "disabled",
        effective["run_name"] or "disabled", effective["notes"], effective["run_group"],
        effective["job_type"], State.RUNNING, None, None, 1, None, now, now, None, None,
        "", os.getpid(), 0, None, "{}", None, "{}", None, "{}", None,
        _names.tags(effective["tags"]),
    )  # fmt: skip
    return Run(None, record, None, effective, role="creator", config=data)


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
        _warn(
            f"Run {run.path} is active and is returned; init's arguments"
            f" {', '.join(ignored)} are ignored. Finish it first, or pass reinit."
        )
    return run


# Surroundings


def _rank() -> int | None:
    """This process's rank under torchrun, else None; SLURM_PROCID means nothing."""
    if "TORCHELASTIC_RUN_ID" not in os.environ and "LOCAL_RANK" not in os.environ:
        return None
    text = os.environ.get("RANK", "")
    return int(text) if text.isdigit() else None


def _identity() -> str:
    """What `resume="auto"` compares: host, script, arguments, directory."""
    import hashlib

    try:
        here = str(Path.cwd())
    except OSError:
        here = ""
    facts = "\0".join([os.uname().nodename, here, *sys.argv])
    return hashlib.sha256(facts.encode("utf-8", "surrogateescape")).hexdigest()[:32]


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


def _settings_argument(value: Any) -> dict[str, Any]:
    """What `settings=` holds that means something here."""
    items: dict[str, Any] = {}
    if isinstance(value, Mapping):
        items = dict(value)
    elif value is not None:
        items = {k: v for k, v in vars(value).items() if v is not None}
    return {
        "ours": {k: items[k] for k in ("silent", "environment") if k in items},
        "shared": items.get("mode") == "shared",
        "label": items.get("x_label"),
    }


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


def _announce(run: Run, effective: _settings.Settings, word: str) -> None:
    if not effective["silent"]:
        _print(f"{word} {run.path} ({run.name})")


def _print(text: str) -> None:
    if sys.stderr is not None:
        try:
            sys.stderr.write(f"wanllmdb: {text}\n")
        except (OSError, ValueError):  # closed stream
            pass


def _warn(text: str) -> None:
    try:
        warnings.warn(text, WanllmdbWarning, stacklevel=3)
    except WanllmdbWarning:  # under -W error: never into training
        _print(text)
