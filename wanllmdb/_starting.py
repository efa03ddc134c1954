"""Where a run comes from: made, gone on with, rewound, forked, or joined.

Each way ends with an open stream of this process's own, and the `Run` that writes it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from wanllmdb import _clock, _edits, _ids, _names
from wanllmdb._catalog import registers, runs
from wanllmdb._liveness import OpenStream, being_written
from wanllmdb._recovery import recover, recover_dead
from wanllmdb._run import Run
from wanllmdb._settings import Settings
from wanllmdb._store import Store
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
        may_change: Whether changes of the config go without a warning.
    """

    settings: Settings
    config: Mapping[str, JSONValue]
    resume_from: str | None = None
    fork_from: str | None = None
    shared: bool = False
    label: str | None = None
    may_change: bool = False

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
    if shared and (store.liveness.is_live(record) or _is_late(store, record, rank)):
        return _joined(store, record, request, rank)
    if settings["resume"] == "never":
        raise RunExistsError(
            f"Run {request.project}/{record.run_id} exists, and resume='never'.",
            hint="Choose another id, or resume='allow'.",
            run=record.run_id,
        )
    try:
        return _continued(store, record, request, _writer_name(request, rank, shared))
    except RunActiveError:
        if not shared:
            raise
        # Another rank was quicker to go on with it.
        record = runs.read(store.catalog.reader, record.pk)
        return _joined(store, record, request, rank)


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
    config = store.data.load_json(record, "config")
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
        summary_blob=None, parent=None,
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
        notes=_text(settings["notes"], "notes"),
        group=_text(_group(settings, rank), "group"),
        job_type=_text(settings["job_type"], "job type"),
        tags=_names.tags(settings["tags"]),
        config=request.config,
        identity=_identity(),
        parent=parent,
    )
    try:
        writer = _writer_name(request, rank, shared)
        stream = store.create_run(new, writer=writer, job=_job())
    except RunExistsError:
        # Another process made the run of this id in the meantime.
        record = runs.find(reader, request.project, new.run_id)
        if record is None:
            raise
        if shared:
            return _joined(store, record, request, rank)
        raise being_written(record) from None
    first = parent.step + 1 if parent else 0
    return _opened(store, stream, request, "recording", first, request.config)


def _is_elsewhere(store: Store, record: RunRecord) -> bool:
    """Whether another Store began a run's last attempt, and has not ended it."""
    running = record.state is State.RUNNING
    return running and not runs.is_ours(store.catalog.reader, record)


def _warn_of_elsewhere(store: Store, record: RunRecord) -> None:
    if not _is_elsewhere(store, record):
        return
    stamps = registers.stamps(store.catalog.reader, "run", record.uid)
    heard = stamps.get("record")
    at = _clock.iso(record.started_us if heard is None else heard.hlc)
    warn(
        f"Run {record.path} is running on {record.host}, as was last heard at {at}; it"
        " is gone on with here. If it still runs there, one of the two becomes a run of"
        " its own."
    )


def _continued(store: Store, record: RunRecord, request: Request, writer: str) -> Run:
    _warn_of_elsewhere(store, record)
    overwrite = request.settings["resume"] is None
    last = record.last_step
    if _is_elsewhere(store, record):  # its sums are made when it ends
        last = store.logs.sums(record).last_step
    first = 0 if overwrite or last is None else last + 1
    stream = store.continue_run(
        record,
        "overwrite" if overwrite else "resume",
        first_step=first,
        keep_step=ALL_STEPS_SUPERSEDED if overwrite else None,
        writer=writer,
        job=_job(),
    )
    word = "replacing" if overwrite else "resuming"
    return _reopened(store, stream, request, word, first, resumed=not overwrite)


def _rewound(store: Store, request: Request, target: str) -> Run:
    record, step = _point(store, request.project, target)
    _warn_of_elsewhere(store, record)
    stream = store.continue_run(record, "rewind", first_step=step + 1, keep_step=step)
    return _reopened(store, stream, request, "rewinding", step + 1, resumed=True)


def _reopened(
    store: Store,
    stream: OpenStream,
    request: Request,
    word: str,
    first: int,
    *,
    resumed: bool,
) -> Run:
    """A run's next epoch; one that does not resume forgets the earlier config."""
    record = runs.read(store.catalog.reader, stream.run_pk)
    if not resumed:
        known = store.data.load_json(record, "config")
        removed = [key for key in known if key not in request.config]
        _edits.change_config(store, record.pk, {}, removed, durable=False)
    config = _apply(store, record, request)
    word = f"{word} (from step {first})"
    return _opened(store, stream, request, word, first, config, resumed=resumed)


def _apply(store: Store, record: RunRecord, request: Request) -> dict[str, JSONValue]:
    """What `init` names anew is added to what a run is; returns its config."""
    settings = request.settings
    wanted = {
        "name": settings["run_name"], "notes": settings["notes"],
        "group": settings["run_group"], "job_type": settings["job_type"],
    }  # fmt: skip
    changes = {k: v for k, v in wanted.items() if v and v != getattr(record, k)}
    if changes:
        _edits.change_fields(store, record, changes)
    tags = [tag for tag in _names.tags(settings["tags"]) if tag not in record.tags]
    if tags:
        _edits.change_tags(store, record, tags)
    return _edits.change_config(store, record.pk, request.config, durable=False)


def _joined(store: Store, record: RunRecord, request: Request, rank: int | None) -> Run:
    writer = _writer_name(request, rank, shared=True)
    if rank is None and request.label is None:
        writer = f"writer-{_ids.op_id()[:6]}"
    stream = store.join_run(record, writer)
    first = 0 if record.last_step is None else record.last_step + 1
    config = _apply(store, record, request)
    word = f"joining as {stream.identity.writer}"
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
        resumed=resumed, config=config, may_change=request.may_change,
    )  # fmt: skip
    if not request.settings["silent"]:
        say(f"{word} {run.path} ({run.name})")
    return run


def _writer_name(request: Request, rank: int | None, shared: bool) -> str:
    if request.label is not None:
        return _names.writer(request.label)
    return f"rank-{rank}" if shared and rank else "primary"


def _group(settings: Settings, rank: int | None) -> str | None:
    group: str | None = settings["run_group"]
    if rank is None or settings["run_id"] is not None or group is not None:
        return group
    group = os.environ.get("TORCHELASTIC_RUN_ID") or os.environ.get("MASTER_PORT")
    warn(
        f"Each rank records a run of its own, in group {group!r}; give an id to record"
        " one run of all."
    )
    return group


def _text(value: str | None, what: str) -> str | None:
    return None if value is None else _names.text(value, what)


def _fork_point(store: Store, project: str, target: str) -> Parent:
    record, step = _point(store, project, target)
    marks = store.logs.row_counts(record)
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
        if key in row and _same(row[key], text):
            return record, int(row["_step"])
    raise RunNotFoundError(
        f"Run {name!r} never logged {key} = {text}.", hint="Check it with `metric get`."
    )


def _same(value: JSONValue, text: str) -> bool:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return value == float(text)
        except ValueError:
            return False
    return str(value) == text


# Ranks and scripts


def _rank() -> int | None:
    """This process's rank under torchrun, else None; SLURM_PROCID means nothing."""
    if "TORCHELASTIC_RUN_ID" not in os.environ and "LOCAL_RANK" not in os.environ:
        return None
    text = os.environ.get("RANK", "")
    return int(text) if text.isdigit() else None


def _job() -> str | None:
    """What the ranks of one torchrun launch have in common, or None outside one."""
    run = os.environ.get("TORCHELASTIC_RUN_ID")
    if run is None:
        return None
    names = ("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RESTART_COUNT")
    facts = [run, *(os.environ.get(name, "") for name in names)]
    if os.environ.get("LOCAL_WORLD_SIZE") == os.environ.get("WORLD_SIZE"):
        # On one node the launcher is every rank's parent; its id tells a launch from
        # the next one of the same default name.
        facts.append(str(os.getppid()))
    return ":".join(facts)


def _is_late(store: Store, record: RunRecord, rank: int | None) -> bool:
    """Whether a further rank comes when the others have finished their part."""
    job = _job()
    return bool(rank) and job is not None and runs.job_of(
        store.catalog.reader, record
    ) == job  # fmt: skip


def _identity() -> str:
    """What `resume="auto"` compares: host, script, arguments, directory, rank."""
    import hashlib

    try:
        here = str(Path.cwd())
        script = str(Path(sys.argv[0]).resolve()) if sys.argv and sys.argv[0] else ""
    except OSError:
        here = script = ""
    facts = [os.uname().nodename, here, script, *sys.argv[1:], str(_rank() or "")]
    text = "\0".join(facts)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]
