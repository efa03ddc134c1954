"""The run that is being recorded."""

from __future__ import annotations

import glob as globbing
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from wanllmdb import _clock, _names, _observers, _values
from wanllmdb._capture.recorder import Recorder
from wanllmdb._catalog import files as run_files
from wanllmdb._catalog import runs, values
from wanllmdb._config import Config, Summary
from wanllmdb._metrics.fold import Fold
from wanllmdb._metrics.summary import DELETED, options_of, summarise
from wanllmdb._metrics.writer import StreamWriter
from wanllmdb._settings import Settings
from wanllmdb._store import OpenStream, Store
from wanllmdb._ticker import Ticker
from wanllmdb.errors import (
    InvalidInputError,
    InvalidMetricError,
    RunFinishedError,
    StoreLockedError,
    WanllmdbWarning,
)
from wanllmdb.types import Alert, AlertLevel, JSONValue, Kind, RunRecord, State

SUMMARY_SECONDS = 10.0
_POLICIES = ("live", "end", "now")


class Metric:
    """What `define_metric` returns; only its name is of use."""

    def __init__(self, name: str) -> None:
        self.name = name


class Run:
    """One recorded execution, while it is written.

    Made by `wanllmdb.init`. Safe for threads; a forked child that logs writes a
    stream of its own and never ends the run. What `log` was given is in the kernel's
    hands when it returns, so kill -9 loses nothing; after `finish` a power cut loses
    nothing.

    Attributes:
        id: The run's id in its project.
        name: Its display name; may be set.
        project: Its project's name.
        config: Its inputs; see `Config`.
        summary: Its final values; see `Summary`.
        resumed: Whether it goes on with an earlier attempt.
    """

    def __init__(
        self,
        store: Store | None,
        record: RunRecord,
        stream: OpenStream | None,
        settings: Settings,
        *,
        role: str,
        first_step: int = 0,
        resumed: bool = False,
        config: Mapping[str, JSONValue] | None = None,
        locked: frozenset[str] = frozenset(),
        child_prefix: str = "fork",
    ) -> None:
        self._store = store
        self._record = record
        self._stream = stream
        self._settings = settings
        self._role = role
        self._child_prefix = child_prefix
        self._step = first_step
        self.resumed = resumed
        self._lock = threading.RLock()
        self._busy = False
        self._deferred: list[tuple[Any, ...]] = []
        self._finished = False
        self._pid = os.getpid()
        self._warned: set[str] = set()
        self._tags = record.tags
        self._definitions: dict[str, dict[str, JSONValue]] = {}
        self._synced: dict[str, str] = {}
        self._step_values: dict[str, Any] = {}
        self._watched: list[tuple[str, str | None, str]] = []
        self._base = Fold()
        self.config = Config(dict(config or {}), self._config_changed, locked)
        self.summary = Summary(
            self._read_summary, self._write_summary, self._remove_summary
        )
        self._writer: StreamWriter | None = None
        self._recorder: Recorder | None = None
        self._ticker = Ticker("wanllmdb", self._survived)
        self._teardown: list[Callable[[Run, int], None]] = []
        self._saved_at = -1
        self._entered = 0
        self._first_step = first_step
        if store is not None:
            self._definitions = values.read_definitions(store.catalog.reader, record.pk)
            self._refresh_synced()
            if resumed or record.parent is not None:
                self._base, _ = store.fold(record)
        if stream is not None:
            self._writer = self._new_writer(stream)

    # What it is

    @property
    def id(self) -> str:
        """The run's id, unique in its project."""
        return self._record.run_id

    @property
    def name(self) -> str:
        """The display name."""
        return self._record.name

    @name.setter
    def name(self, value: str) -> None:
        self._edit("name", value)

    @property
    def notes(self) -> str | None:
        """Free text about the run."""
        return self._record.notes

    @notes.setter
    def notes(self, value: str | None) -> None:
        self._edit("notes", value)

    @property
    def group(self) -> str | None:
        """The group it belongs to."""
        return self._record.group

    @property
    def job_type(self) -> str | None:
        """The kind of job, such as ``train``."""
        return self._record.job_type

    @property
    def project(self) -> str:
        """The project's name."""
        return self._record.project

    @property
    def entity(self) -> str:
        """Always empty: a Store has no accounts."""
        return ""

    @property
    def path(self) -> str:
        """``project/id``, as the command line takes it."""
        return f"{self._record.project}/{self._record.run_id}"

    @property
    def step(self) -> int:
        """The step that the next `log` without one gets."""
        return self._step

    @property
    def starting_step(self) -> int:
        """The step of this attempt's first row."""
        return self._first_step

    @property
    def dir(self) -> str:
        """A directory whose files are stored with the run when it ends."""
        if self._store is None:
            return str(Path.cwd())
        return str(self._store.run_dir(self._record.uid) / "files")

    @property
    def url(self) -> str | None:
        """The local path of the run's directory; None in mode "disabled"."""
        if self._store is None:
            return None
        return str(self._store.run_dir(self._record.uid))

    @property
    def disabled(self) -> bool:
        """Whether nothing is recorded (``mode="disabled"``)."""
        return self._store is None

    @property
    def offline(self) -> bool:
        """True: nothing leaves the machine unless it is synced."""
        return True

    @property
    def start_time(self) -> float:
        """When the run started, seconds since 1970."""
        return _clock.to_seconds(self._record.started_us)

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags; assign a list, or use ``run.tags += ["x"]``."""
        return self._tags

    @tags.setter
    def tags(self, value: Iterable[str] | str) -> None:
        new = _names.tags(value)
        if self._store is not None and self._role != "child":
            gone = [tag for tag in self._tags if tag not in new]
            with self._store.catalog.transaction(durable=False) as connection:
                runs.remove_tags(connection, self._record.pk, gone)
                runs.add_tags(connection, self._record.pk, new)
        self._tags = new

    def __repr__(self) -> str:
        state = "finished" if self._finished else "running"
        return f"<Run {self.path} {self.name!r} {state} step={self._step}>"

    # Logging

    def log(
        self,
        data: Mapping[str, Any],
        step: int | None = None,
        commit: bool | None = None,
        sync: bool | None = None,
    ) -> None:
        """Record values at a step.

        Args:
            data: Metric names to values: numbers, bools, text, None, lists, arrays;
                nested mappings flatten with dots. A value that cannot be kept exactly
                is kept as text, with one warning per key.
            step: The step, int64. Default: the cursor, which then moves on by 1. A
                step behind the cursor is kept where it says, with one warning.
            commit: False keeps the cursor in place, so the next call adds to the same
                row; True moves it on even where a step is given. Rows are written at
                once either way.
            sync: Accepted as W&B has it; without effect.

        Raises:
            InvalidMetricError: `data` is no mapping, or in strict mode a value cannot
                be kept.
            RunFinishedError: the run is finished.
        """
        with self._lock:
            if self._busy:  # called by a signal handler or __del__ inside a log()
                self._deferred.append((dict(data), step, commit))
                return
            self._busy = True
            try:
                self._log(data, step, commit)
                while self._deferred:
                    self._log(*self._deferred.pop(0))
            finally:
                self._busy = False

    def _log(
        self, data: Mapping[str, Any], step: int | None, commit: bool | None
    ) -> None:
        if self._finished or type(data) is not dict:
            data = self._checked(data)
        at = cursor = self._step
        if step is None:
            if commit is None or commit:
                cursor += 1
        else:
            at = self._given_step(step)
            if at >= cursor:
                cursor = at + 1 if commit else at
        if data:
            if self._synced:
                data = self._with_step_metrics(data)
            if self._writer is None:
                self._open_late()
            if self._writer is not None:
                self._writer.append(data, at)
            else:
                self._append_nowhere(data, at)
        self._step = cursor

    def _checked(self, data: Any) -> dict[str, Any]:
        if self._finished:
            raise RunFinishedError(
                f"Run {self.path} is finished; nothing can be logged to it.",
                hint='Go on with it by init(id="...", resume="must").',
                run=self.id,
            )
        if not isinstance(data, Mapping):
            raise InvalidMetricError(
                f"log() takes a mapping of names to values, not {type(data).__name__}.",
                hint='Write log({"name": value}).',
            )
        return dict(data)

    def _given_step(self, step: Any) -> int:
        number = _values.step_of(step)
        if number is None:
            self._complain("step", f"{step!r} is no step; the cursor's is used")
            return self._step
        if number < self._step:
            self._warn_once(
                "backward step",
                f"Step {number} is behind the run's step {self._step}; its values are"
                " kept there, and further ones without a word.",
            )
        return number

    def _normalise(self, data: Mapping[str, Any]) -> dict[str, Any]:
        return _values.metric_row(data, self._complain)

    def _append_nowhere(self, data: Mapping[str, Any], at: int) -> None:
        """In mode "disabled": keep the summary true, and nothing else."""
        row = self._normalise(data)
        now = _clock.now_us()
        self._base.add_row(row, at, now, (0, now // 1000, "", self._base.rows))

    def define_metric(
        self,
        name: str,
        step_metric: str | Metric | None = None,
        step_sync: bool | None = None,
        hidden: bool | None = None,
        summary: str | None = None,
        goal: str | None = None,
        overwrite: bool | None = None,
    ) -> Metric:
        """Say how a metric is plotted and summed up.

        Args:
            name: A key, or a glob such as ``train/*``.
            step_metric: The key that is its x-axis.
            step_sync: Copy the last value of `step_metric` into rows that lack it;
                default True where a `step_metric` is given.
            hidden: Leave it out of plots made for all metrics.
            summary: Comma-separated words of min, max, mean, last, first, best, none,
                copy; the summary then holds ``{"max": v, ...}`` for the key.
            goal: ``minimize`` or ``maximize``, for ``best``.
            overwrite: Forget earlier options of the name instead of adding to them.

        Raises:
            InvalidInputError: a word is unknown, or ``best`` lacks a goal.
        """
        words = [w.strip() for w in (summary or "").split(",") if w.strip()]
        known = {"min", "max", "mean", "last", "first", "best", "none", "copy"}
        if bad := [w for w in words if w not in known]:
            raise InvalidInputError(
                f"define_metric has no summary {bad[0]!r}.",
                hint=f"Use {', '.join(sorted(known))}.",
            )
        if goal not in (None, "minimize", "maximize"):
            raise InvalidInputError(
                f"define_metric has no goal {goal!r}.", hint="Use minimize or maximize."
            )
        axis = step_metric.name if isinstance(step_metric, Metric) else step_metric
        given = {
            "step_metric": axis, "step_sync": step_sync, "hidden": hidden,
            "summary": ",".join(words) or None, "goal": goal,
        }  # fmt: skip
        options = {} if overwrite else dict(self._definitions.get(name, {}))
        if words and options.get("summary"):
            words = list(dict.fromkeys([*str(options["summary"]).split(","), *words]))
            given["summary"] = ",".join(words)
        options.update({k: v for k, v in given.items() if v is not None})
        if "best" in words and "goal" not in options:
            raise InvalidInputError(
                "summary='best' needs a goal.",
                hint="Add goal='minimize' or 'maximize'.",
            )
        self._definitions[name] = options
        self._refresh_synced()
        if self._store is not None and self._role != "child":
            with self._store.catalog.transaction(durable=False) as connection:
                values.add_definition(connection, self._record.pk, name, options)
        return Metric(name)

    def _refresh_synced(self) -> None:
        self._synced = {
            glob: str(options["step_metric"])
            for glob, options in self._definitions.items()
            if options.get("step_metric") and options.get("step_sync", True)
        }

    def _with_step_metrics(self, data: Mapping[str, Any]) -> dict[str, Any]:
        row = dict(data)
        for axis in self._synced.values():
            if axis in row:
                self._step_values[axis] = row[axis]
        for key in data:
            axis = str(options_of(key, self._definitions).get("step_metric"))
            if axis in self._step_values and axis not in row:
                row[axis] = self._step_values[axis]
        return row

    # Config and summary

    def _config_changed(self, key: str) -> None:
        if self._store is None or self._role == "child":
            return
        if self._writer is not None and self._writer.rows:
            self._warn_once(
                "config changed",
                f"config.{key} changed after values were logged; the change is kept,"
                " and noted in the run's events.",
            )
        with self._guarded("config"):
            self._store.save_config(self._record.pk, self.config.as_dict())

    def _whole_fold(self) -> Fold:
        if self._writer is None:
            return self._base
        self._writer.fold_pending()
        if not self._base.keys and not self._base.written:
            return self._writer.fold
        return self._base.merged(self._writer.fold)

    def _read_summary(self) -> dict[str, JSONValue]:
        with self._lock:
            fold = self._whole_fold()
            return summarise(fold, self._definitions, self._record.started_us)

    def _write_summary(self, new: dict[str, JSONValue]) -> None:
        with self._lock:
            if self._finished:
                self._edit_stored_summary(new)
                return
            if self._writer is None:
                self._open_late()
            if self._writer is not None:
                self._writer.write_summary(new)
            else:
                now = _clock.now_us()
                at = (0, now // 1000, "", self._base.rows - 0.5)
                self._base.write_summary(new, at)

    def _remove_summary(self, key: str) -> None:
        self._write_summary({key: DELETED})

    def _edit_stored_summary(self, new: dict[str, JSONValue]) -> None:
        """After finish, W&B's users still write the summary; it is kept."""
        if self._store is None:
            return
        self._store.edit_summary(self._record.pk, new)
        place = (1 << 31, 0, "", 0.0)
        (self._writer.fold if self._writer else self._base).write_summary(new, place)

    # Files, alerts, messages

    def save(
        self,
        glob_str: str | os.PathLike[str] | None = None,
        base_path: str | os.PathLike[str] | None = None,
        policy: str = "live",
    ) -> list[str]:
        """Store files with the run.

        Args:
            glob_str: A path or glob; directories are taken with all they hold.
            base_path: The part of the paths that is left out of the stored names;
                default the working directory, else the file's directory.
            policy: ``now`` stores them once; ``live`` and ``end`` now, and again at
                the end if they changed. A file that vanished keeps its last copy.

        Returns:
            The files' paths; empty, with a warning, where nothing matched.

        Raises:
            InvalidInputError: the policy is unknown.
        """
        if policy not in _POLICIES:
            raise InvalidInputError(
                f"save() has no policy {policy!r}.", hint="Use live, end or now."
            )
        if glob_str is None:
            return []
        pattern = os.fspath(glob_str)
        base = None if base_path is None else os.fspath(base_path)
        found = self._save_now(pattern, base, policy)
        if not found:
            self._warn_once(f"save {pattern}", f"save({pattern!r}) matched no file.")
        if policy != "now":
            absolute = str(Path(pattern).absolute())
            self._watched.append((absolute, base or str(Path.cwd()), policy))
        return found

    def _save_now(self, pattern: str, base: str | None, policy: str) -> list[str]:
        saved = []
        root = Path(base).absolute() if base else Path.cwd()
        for match in sorted(globbing.glob(pattern, recursive=True)):
            path = Path(match).absolute()
            files = sorted(path.rglob("*")) if path.is_dir() else [path]
            for file in files:
                if not file.is_file():
                    continue
                saved.append(str(file))
                if self._store is None:
                    continue
                inside = file.is_relative_to(root)
                name = file.relative_to(root).as_posix() if inside else file.name
                with self._guarded(f"save {file}"):
                    self._store.store_file(self._record.pk, file, name, policy)
        return saved

    def log_code(
        self,
        root: str | os.PathLike[str] | None = ".",
        name: str | None = None,
        include_fn: Callable[..., bool] = lambda path, *_: path.endswith(".py"),
        exclude_fn: Callable[..., bool] = lambda path, *_: False,
    ) -> list[str]:
        """Store source files with the run, under ``code/``.

        Args:
            root: Directory searched; hidden and environment directories are left out.
            name: Accepted as W&B has it.
            include_fn: Says of a path whether it is source; default ``*.py``.
            exclude_fn: Says of a path whether to leave it out.
        """
        del name
        top = Path(root or ".").absolute()
        saved = []
        for directory, folders, names in os.walk(top):
            folders[:] = sorted(
                f for f in folders
                if not f.startswith(".") and f not in ("__pycache__", "node_modules")
                and not (Path(directory) / f / "pyvenv.cfg").exists()
            )  # fmt: skip
            for file in sorted(names):
                path = Path(directory) / file
                if not _ask(include_fn, path, top) or _ask(exclude_fn, path, top):
                    continue
                saved.append(str(path))
                if self._store is not None:
                    stored = f"code/{path.relative_to(top).as_posix()}"
                    with self._guarded(f"log_code {path}"):
                        self._store.store_file(self._record.pk, path, stored, "now")
        return saved

    def alert(
        self,
        title: str,
        text: str = "",
        level: str | AlertLevel | None = None,
        wait_duration: Any = None,
    ) -> None:
        """Store and print something that people should look at.

        Args:
            title: One line.
            text: More about it.
            level: INFO (default), WARN or ERROR.
            wait_duration: Accepted as W&B has it; every alert is stored.

        Raises:
            InvalidInputError: the level is unknown.
        """
        del wait_duration
        word = str(level or "INFO").upper()
        if word not in AlertLevel.__members__:
            raise InvalidInputError(
                f"There is no alert level {level!r}.", hint="Use INFO, WARN or ERROR."
            )
        alert = Alert(
            str(title), str(text), AlertLevel(word), _clock.now_us(), self._step
        )
        if self._store is not None:
            with (
                self._guarded("alert"),
                self._store.catalog.transaction(durable=True) as connection,
            ):
                run_files.add_alert(connection, self._record.pk, alert)
        self._say(f"{word} {alert.title}" + (f": {alert.text}" if text else ""))
        _observers.notify("alert", alert, self._survived)

    def log_message(self, message: str, level: str = "INFO") -> None:
        """Record one line in the run's log, beside stdout and stderr."""
        if self._recorder is not None:
            with self._guarded("log_message"):
                self._recorder.message(str(message), level.upper())

    def mark_preempting(self) -> None:
        """Accepted as W&B has it: a run that is killed can be resumed anyway."""

    def watch(self, *_: Any, **__: Any) -> None:
        """Accepted as W&B has it; gradients are not recorded yet."""
        self._warn_once("watch", "watch() does nothing yet.")

    def unwatch(self, *_: Any) -> None:
        """Accepted as W&B has it."""

    # Beginning and end

    def _begin(self) -> Run:
        """Start capture and the background thread."""
        if self._store is None or self._stream is None:
            return self
        directory = self._store.run_dir(self._record.uid)
        if self._role != "child":
            self._recorder = Recorder(
                directory, self._stream.identity, self._settings, self._survived
            )
            self._recorder.start(self._ticker, self._save_environment)
        self._ticker.every(0.5, self._maintain)
        if self._settings["durability"] == "interval":
            self._ticker.every(5.0, self._sync)
        if self._settings["durability"] == "buffered":
            self._ticker.every(0.1, self._flush)
        self._ticker.every(SUMMARY_SECONDS, self._save_numbers)
        self._ticker.start()
        if self._role == "creator":
            _observers.notify("start", self, self._survived)
        return self

    def finish(self, exit_code: int | None = None, quiet: bool | None = None) -> None:
        """End the run; durable on return. A second call does nothing.

        Args:
            exit_code: 0 for success; default 0, or 1 while an exception is on its way.
            quiet: Print nothing.
        """
        self._finish(exit_code or 0, None, None, quiet=quiet)

    def _finish(
        self,
        exit_code: int,
        state: State | None,
        error: str | None,
        *,
        quiet: bool | None = None,
    ) -> None:
        with self._lock:
            if self._finished:
                return
            self._finished = True
        for hook in self._teardown:
            hook(self, exit_code)
        if self._store is None:
            return
        self._ticker.stop(timeout=5.0)
        with self._guarded("finish capture"):
            if self._recorder is not None:
                self._recorder.stop()
        with self._guarded("finish files"):
            self._save_again()
        with self._guarded("finish"):
            self._end(
                exit_code,
                state or (State.FAILED if exit_code else State.FINISHED),
                error,
            )
        if self._role == "creator":
            _observers.notify("finish", self, self._survived)
            if not quiet:
                self._say(f"finished {self.path} ({self.name}), {self._rows} rows")

    def _amend(self, state: State, exit_code: int, error: str) -> None:
        """Correct the end of a run that finished while an exception was on its way."""
        if self._store is None or self._role != "creator":
            return
        with (
            self._guarded("finish"),
            self._store.catalog.transaction(durable=True) as connection,
        ):
            runs.set_ended(
                connection, self._record.pk, state, ended_us=_clock.now_us(),
                exit_code=exit_code, error=error,
            )  # fmt: skip

    def _end(self, exit_code: int, state: State, error: str | None) -> None:
        writer, stream, store = self._writer, self._stream, self._store
        assert store is not None
        dropped = 0
        if writer is not None:
            with self._lock:
                writer.close()
            dropped = writer.dropped
        if dropped:
            self._say(f"{dropped} rows could not be written; the run says so too")
        if stream is None:
            return
        if self._role == "child":
            stream.lock.release(unlink=True)
            store.end_if_left(self._record.pk)
        elif self._role == "joined" or self._others_alive(stream):
            store.leave_run(stream, exit_code, dropped)
        else:
            fold = None if writer is None or self._joined else writer.fold
            store.end_run(
                stream, state, exit_code=exit_code, error=error, dropped=dropped,
                fold=fold,
            )  # fmt: skip

    @property
    def _joined(self) -> bool:
        """Whether other streams than this run's own exist."""
        assert self._store is not None
        from wanllmdb._metrics import decode

        directory = self._store.run_dir(self._record.uid)
        own = self._stream.identity.token if self._stream else ""
        return bool(set(decode.list_segments(directory, Kind.METRICS)) - {own})

    def _others_alive(self, stream: OpenStream) -> bool:
        from wanllmdb import _locks

        assert self._store is not None
        directory = self._store.run_dir(self._record.uid)
        return any(
            path != stream.lock.path and _locks.is_held(path)
            for path in directory.glob("*.lock")
        )

    @property
    def _rows(self) -> int:
        return self._writer.rows if self._writer is not None else 0

    def __enter__(self) -> Run:
        self._entered += 1
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._entered -= 1
        if self._entered > 0:  # init() inside a with returned this same run
            return
        state, code = outcome_of(error)
        text = (
            None if code == 0 or error is None else f"{type(error).__name__}: {error}"
        )
        self._finish(code, state, text)

    def _save_again(self) -> None:
        assert self._store is not None
        if self._role == "child":
            return
        for pattern, base, policy in self._watched:
            known = {
                f.source: f.mtime_ns
                for f in run_files.read(self._store.catalog.reader, self._record.pk)
            }
            for match in globbing.glob(pattern, recursive=True):
                path = Path(match)
                if path.is_dir() or known.get(str(path)) != path.stat().st_mtime_ns:
                    self._save_now(match, base, policy)
        if self._role == "creator":
            self._store.ingest_files(self._record)

    def _save_environment(self, facts: Mapping[str, Any]) -> None:
        from wanllmdb import _json

        assert self._store is not None
        with self._store.catalog.transaction(durable=False) as connection:
            connection.execute(
                "UPDATE run SET environment = ? WHERE id = ?",
                (_json.dumps(_values.config_value(facts)), self._record.pk),
            )

    # In the background

    def _maintain(self) -> None:
        with self._lock:
            if self._writer is not None and not self._finished:
                self._writer.prepare_next()

    def _sync(self) -> None:
        with self._lock:
            if self._writer is not None and not self._finished:
                self._writer.sync()

    def _flush(self) -> None:
        with self._lock:
            if self._writer is not None and not self._finished:
                self._writer.flush()

    def _save_numbers(self) -> None:
        if (
            self._role != "creator"
            or self._store is None
            or self._rows == self._saved_at
        ):
            return
        with self._lock:
            fold = self._whole_fold().merged(Fold())  # a copy: log() goes on
            self._saved_at = self._rows
        try:
            self._store.save_numbers(self._record.pk, fold)
        except StoreLockedError:  # others are busy writing: in 10 s again
            self._saved_at = -1

    # Children

    def _after_fork(self) -> None:
        """In a forked child: a handle on the parent's run that ends nothing."""
        self._lock = threading.RLock()
        self._busy = False
        self._deferred.clear()
        self._role = "child"
        self._stream = None
        if self._writer is not None:
            self._writer.abandon_after_fork()
            self._writer = None
        if self._recorder is not None:
            self._recorder.detach()
            self._recorder = None
        self._ticker = Ticker("wanllmdb", self._survived)
        self._pid = os.getpid()

    def _open_late(self) -> None:
        """Open a child's own stream, at its first row."""
        if self._store is None or self._role != "child" or self._finished:
            return
        with self._guarded("open a stream"):
            epoch = self._record.epoch
            self._stream = self._store.open_child_stream(
                self._record.uid, epoch, self._child_prefix
            )
            self._stream.run_pk = self._record.pk
            self._writer = self._new_writer(self._stream)

    def _new_writer(self, stream: OpenStream) -> StreamWriter:
        store = self._store
        assert store is not None
        return StreamWriter(
            store.run_dir(stream.uid),
            stream.identity,
            Kind.METRICS,
            durability=self._settings["durability"],
            on_fault=self._disk_fault,
            spill=lambda data: store.spill(self._record.pk, data),
            normalise=self._normalise,
        )

    # Saying things

    def _edit(self, field: str, value: str | None) -> None:
        if self._store is not None:
            with self._store.catalog.transaction(durable=False) as connection:
                runs.update(connection, self._record, {field: value})
            self._record = runs.read(self._store.catalog.reader, self._record.pk)

    def _disk_fault(self, error: OSError) -> None:
        self._warn_once(
            f"disk {error.errno}",
            f"The log of run {self.path} could not be written ({error.strerror})."
            " Training goes on; rows are counted as lost until the disk takes them.",
        )
        self._survived("log", error)

    def _complain(self, key: str, text: str) -> None:
        if self._settings["strict"]:
            raise InvalidMetricError(f"{key}: {text}.", hint="strict=True refuses it.")
        self._warn_once(f"value {key}", f"{key}: {text}.")

    def _warn_once(self, topic: str, text: str) -> None:
        if topic in self._warned or len(self._warned) > 1000:
            return
        self._warned.add(topic)
        try:
            warnings.warn(text, WanllmdbWarning, stacklevel=4)
        except WanllmdbWarning:  # under -W error: still never into training
            self._say(text)

    def _say(self, text: str) -> None:
        if not self._settings["silent"] and sys.stderr is not None:
            try:
                sys.stderr.write(f"wanllmdb: {text}\n")
            except (OSError, ValueError):  # closed stream
                pass

    def _survived(self, what: str, error: BaseException) -> None:
        if self._store is not None and not self._store.read_only:
            self._store.debug.survived(f"{what} of {self.path}", error)

    def _guarded(self, what: str) -> _Guard:
        return _Guard(self, what)


class _Guard:
    """Keeps the tracker's own faults out of training: noted, warned of, survived."""

    def __init__(self, run: Run, what: str) -> None:
        self._run = run
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        self._run._survived(self._what, error)
        self._run._warn_once(self._what, f"{self._what}: {error}")
        return True


def outcome_of(error: BaseException | None) -> tuple[State, int]:
    """State and exit code of a run that ends while `error` is on its way."""
    if error is None:
        return State.FINISHED, 0
    if isinstance(error, KeyboardInterrupt):
        return State.KILLED, 130
    if isinstance(error, SystemExit):
        code = error.code
        number = 0 if code is None else code if isinstance(code, int) else 1
        return (State.FAILED if number else State.FINISHED), number
    return State.FAILED, 1


def _ask(question: Callable[..., bool], path: Path, root: Path) -> bool:
    try:
        return question(str(path), str(root))
    except TypeError:  # W&B accepts functions of one argument too
        return question(str(path))
