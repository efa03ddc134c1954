"""Where a run comes from: made, gone on with, rewound, forked, or joined.

Each way ends with an open stream of this process's own, and the `Run` that writes it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from wanllmdb import _clock, _ids, _names
from wanllmdb._catalog import runs
from wanllmdb._recovery import recover, recover_dead
from wanllmdb._run import Run
from wanllmdb._settings import Settings
from wanllmdb._store import OpenStream, Store
from wanllmdb._voice import say, warn
from wanllmdb.errors import (
    InvalidInputError,
    RunActiveError,
    RunExistsError,
    RunNotFoundError,
)
from wanllmdb.types import (
    ALL_STEPS_SUPERSEDED,
    JSONValue,
    NewRun,
    Parent,
    RunRecord,
    State,
)

MAX_WRITER_BYTES = 16
"""Room for a writer's name in the header of its segments."""

RECOVERY_SECONDS = 120.0
"""How long to wait for another process that recovers the run that is gone on with."""


@dataclass(frozen=True, slots=True)
class Request:
    """What `init` was asked for.

    Attributes:
        settings: Effective settings.
        config: The run's inputs.
        resume_from: Run and step to go back to.
        fork_from: Run and step whose rows a new run takes over.
        shared: Join the run if a living process writes it.
        label: The writer's name in a shared run; None for one of its own.
    """

    settings: Settings
    config: Mapping[str, JSONValue]
    resume_from: str | None = None
    fork_from: str | None = None
    shared: bool = False
    label: str | None = None

    @property
    def project(self) -> str:
        """The project's name, checked."""
        return _names.project(self.settings["project"])


def start(store: Store, request: Request) -> Run:
    """The run that `init` returns.

    Raises:
        RunActiveError: a living process writes to the run, and it is not shared.
        RunExistsError: ``resume="never"``, and the run exists.
        RunNotFoundError: there is none to resume, rewind or fork.
    """
    settings = request.settings
    if request.resume_from is not None:
        return _rewound(store, request, request.resume_from)
    rank = _rank()
    shared = request.shared or (rank is not None and settings["run_id"] is not None)
    record = _existing(store, request)
    if record is None:
        if settings["resume"] == "must":
            raise RunNotFoundError(
                f"There is no run {settings['run_id']!r} in project"
                f" {request.project!r} to resume.",
                hint="Check the id, or use resume='allow'.",
                run=settings["run_id"],
            )
        return _created(store, request, rank, shared=shared)
    record = _settled(store, record)
    if shared and store.is_live(record):
        return _joined(store, record, request, rank)
    if settings["resume"] == "never":
        raise RunExistsError(
            f"Run {request.project}/{record.run_id} exists, and resume='never'.",
            hint="Choose another id, or resume='allow'.",
            run=record.run_id,
        )
    return _continued(store, record, request)


def handle_of_parent(store: Store, path: str, settings: Settings) -> Run:
    """In a spawned child: a handle on the run ``project/id`` of its parent.

    Raises:
        RunNotFoundError: the Store does not hold it.
    """
    project, _, run_id = path.partition("/")
    record = runs.find(store.catalog.reader, project, run_id)
    if record is None:
        raise RunNotFoundError(
            f"The parent's run {path!r} is not in {store.path}.",
            hint="Guard the training script with if __name__ == '__main__'.",
        )
    config = store.load_json(record, "config")
    return Run(
        store, record, None, settings, role="child", child_prefix="spawn", config=config
    )


def disabled(settings: Settings, config: Mapping[str, JSONValue]) -> Run:
    """A run that records nothing: config and summary behave, files are not kept."""
    record = RunRecord(
        pk=0, uid="disabled", project=settings["project"],
        run_id=settings["run_id"] or "disabled",
        name=settings["run_name"] or "disabled", notes=settings["notes"],
        group=settings["run_group"], job_type=settings["job_type"],
        state=State.RUNNING, exit_code=None, error=None, epoch=1, last_step=None,
        created_us=_clock.now_us(), started_us=_clock.now_us(), ended_us=None,
        deleted_us=None, host="", pid=os.getpid(), dropped_rows=0, coerced_values=0,
        damage=None, config_json="{}", config_blob=None, summary_json="{}",
        summary_blob=None, environment_json="{}", parent=None,
        tags=_names.tags(settings["tags"]),
    )  # fmt: skip
    return Run(None, record, None, settings, role="creator", config=config)


def _existing(store: Store, request: Request) -> RunRecord | None:
    """The run that is gone on with, or None for a new one."""
    reader, run_id = store.catalog.reader, request.settings["run_id"]
    if run_id is not None:
        return runs.find(reader, request.project, _names.run_id(run_id))
    if request.settings["resume"] != "auto":
        return None
    recover_dead(store, request.project)
    return runs.find_newest_dead(reader, request.project, _identity())


def _settled(store: Store, record: RunRecord) -> RunRecord:
    """A run as it is after its recovery, if it needed one."""
    recover(store, record, RECOVERY_SECONDS)
    return runs.read(store.catalog.reader, record.pk)


def _created(store: Store, request: Request, rank: int | None, *, shared: bool) -> Run:
    settings, reader = request.settings, store.catalog.reader
    parent = None
    if request.fork_from is not None:
        parent = _fork_point(store, request.project, request.fork_from)
    name = settings["run_name"]
    if name is None:
        name = _names.random_run_name(runs.next_number(reader, request.project))
    new = NewRun(
        uid=_ids.uid(),
        project=request.project,
        run_id=_names.run_id(settings["run_id"] or _ids.run_id()),
        name=_names.text(str(name), "run name"),
        notes=settings["notes"],
        group=_group(settings, rank),
        job_type=settings["job_type"],
        tags=_names.tags(settings["tags"]),
        config=request.config,
        identity=_identity(),
        parent=parent,
    )
    try:
        stream = store.create_run(new, writer=_writer_name(request, rank, shared))
    except RunExistsError:
        # Another process made the run of this id in the meantime.
        record = runs.find(reader, request.project, new.run_id)
        if record is None:
            raise
        if shared:
            return _joined(store, record, request, rank)
        raise RunActiveError(
            f"Run {request.project}/{new.run_id} was just started by pid {record.pid}"
            f" on {record.host}.",
            hint="Join it with init(id=..., shared=True).",
            run=new.run_id, pid=record.pid, host=record.host,
        ) from None  # fmt: skip
    first = parent.step + 1 if parent else 0
    return _opened(store, stream, request, "recording", first, request.config)


def _continued(store: Store, record: RunRecord, request: Request) -> Run:
    overwrite = request.settings["resume"] is None
    last = record.last_step
    first = 0 if overwrite or last is None else last + 1
    stream = store.continue_run(
        record,
        "overwrite" if overwrite else "resume",
        first_step=first,
        keep_step=ALL_STEPS_SUPERSEDED if overwrite else None,
    )
    if overwrite:
        return _reopened(store, stream, request, "replacing", first, request.config)
    config = {**store.load_json(record, "config"), **request.config}
    return _reopened(store, stream, request, "resuming", first, config, resumed=True)


def _rewound(store: Store, request: Request, target: str) -> Run:
    record, step = _point(store, request.project, target)
    stream = store.continue_run(record, "rewind", first_step=step + 1, keep_step=step)
    config = {**store.load_json(record, "config"), **request.config}
    return _reopened(
        store, stream, request, "rewinding", step + 1, config, resumed=True
    )


def _reopened(
    store: Store,
    stream: OpenStream,
    request: Request,
    word: str,
    first: int,
    config: Mapping[str, JSONValue],
    *,
    resumed: bool = False,
) -> Run:
    """A run's next epoch: what `init` names anew replaces what it was."""
    settings = request.settings
    store.save_config(stream.run_pk, config)
    record = runs.read(store.catalog.reader, stream.run_pk)
    wanted = {
        "name": settings["run_name"], "notes": settings["notes"],
        "group": settings["run_group"], "job_type": settings["job_type"],
    }  # fmt: skip
    changes = {k: v for k, v in wanted.items() if v and v != getattr(record, k)}
    if changes:
        record = store.edit(record, changes)
    tags = [*record.tags, *_names.tags(settings["tags"])]
    if len(tags) > len(record.tags):
        store.save_tags(record, tuple(dict.fromkeys(tags)))
    word = f"{word} (from step {first})"
    return _opened(store, stream, request, word, first, config, resumed=resumed)


def _joined(store: Store, record: RunRecord, request: Request, rank: int | None) -> Run:
    writer = request.label or _writer_name(request, rank, shared=True)
    if rank is None and request.label is None:
        writer = f"writer-{_ids.op_id()[:6]}"
    stream = store.join_run(record, writer[:MAX_WRITER_BYTES])
    first = 0 if record.last_step is None else record.last_step + 1
    config = store.load_json(record, "config")
    word = f"joining as {writer}"
    return _opened(store, stream, request, word, first, config, role="joined")


def _opened(
    store: Store,
    stream: OpenStream,
    request: Request,
    word: str,
    first: int,
    config: Mapping[str, JSONValue],
    *,
    role: str = "creator",
    resumed: bool = False,
) -> Run:
    record = runs.read(store.catalog.reader, stream.run_pk)
    run = Run(
        store, record, stream, request.settings, role=role, first_step=first,
        resumed=resumed, config=config,
    )  # fmt: skip
    if not request.settings["silent"]:
        say(f"{word} {run.path} ({run.name})")
    return run


def _writer_name(request: Request, rank: int | None, shared: bool) -> str:
    if shared and rank:
        return f"rank-{rank}"
    return request.label or "primary"


def _group(settings: Settings, rank: int | None) -> str | None:
    group: str | None = settings["run_group"]
    if rank is None or settings["run_id"] is not None or group is not None:
        return group
    group = os.environ.get("TORCHELASTIC_RUN_ID") or os.environ.get("MASTER_PORT")
    warn(
        f"Each rank records a run of its own, in group {group!r}; give an id to record"
        " one run of all.",
        stacklevel=6,
    )
    return group


def _fork_point(store: Store, project: str, target: str) -> Parent:
    from wanllmdb._metrics import decode

    record, step = _point(store, project, target)
    marks = decode.count_rows(store.run_dir(record.uid))
    return Parent(record.pk, record.uid, record.epoch, step, marks)


def _point(store: Store, project: str, target: str) -> tuple[RunRecord, int]:
    """The run and step that ``ID?_step=K`` or ``ID?key=value`` names."""
    name, question, test = target.partition("?")
    key, equals, text = test.partition("=")
    if not question or not equals:
        raise InvalidInputError(
            f"{target!r} names no step.", hint='Write "RUN_ID?_step=K".'
        )
    record = _settled(store, runs.select(store.catalog.reader, name, project))
    if key == "_step":
        if not text.lstrip("-").isdigit():
            raise InvalidInputError(
                f"{text!r} is no step.", hint='Write "RUN_ID?_step=K".'
            )
        return record, int(text)
    for row in store.logs.scan(record, [key]).dicts(record.started_us):
        if key in row and str(row[key]) == text:
            return record, int(row["_step"])
    raise RunNotFoundError(
        f"Run {name!r} never logged {key} = {text}.", hint="Check it with `metric get`."
    )


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
