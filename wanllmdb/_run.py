"""The run that is being recorded."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from wanllmdb import _clock, _edits, _observers, _values
from wanllmdb._capture.recorder import Recorder
from wanllmdb._compaction import WAITING_BYTES
from wanllmdb._config import Config, ConfigChange, Summary
from wanllmdb._definitions import Definitions, Metric
from wanllmdb._ends import end_of
from wanllmdb._live_summary import LiveSummary
from wanllmdb._liveness import OpenStream
from wanllmdb._metrics.fold import KEY_LIMIT, Fold
from wanllmdb._metrics.segment import SEGMENT_BYTES
from wanllmdb._metrics.summary import DELETED
from wanllmdb._metrics.writer import StreamWriter, fdatasync
from wanllmdb._run_artifacts import RunArtifacts
from wanllmdb._run_config import ConfigWriter
from wanllmdb._run_files import RunFiles
from wanllmdb._run_media import RunMedia
from wanllmdb._runlog import Sums
from wanllmdb._settings import Settings
from wanllmdb._store import Store
from wanllmdb._ticker import Ticker
from wanllmdb._voice import Voice
from wanllmdb.errors import (
    InvalidInputError,
    InvalidMetricError,
    RunFinishedError,
    StoreLockedError,
    WanllmdbError,
)
from wanllmdb.types import (
    Alert,
    AlertLevel,
    End,
    JSONValue,
    Kind,
    Losses,
    RunRecord,
)

SUMMARY_SECONDS = 10.0
SEAL_SECONDS = 5.0


class Run(RunArtifacts):
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
        may_change: bool = False,
    ) -> None:
        writable = store is not None and not store.read_only
        voice = Voice(
            f"{record.project}/{record.run_id}", silent=settings["silent"],
            debug=store.debug if store is not None and writable else None,
        )  # fmt: skip
        super().__init__(store, record, role, voice)
        self._stream = stream
        self._settings = settings
        self._child_prefix = child_prefix
        self._may_change = may_change
        self._step = self._first_step = first_step
        self.resumed = resumed
        self._lock = threading.RLock()
        self._busy = False
        self._deferred: list[Callable[[], None]] = []
        self._append: Callable[[Mapping[str, Any], int], None] | None = None
        self._finished = False
        self._config_writer = ConfigWriter(voice)
        self._torn = False
        self._lost = self._coerced = 0
        self._saved: object = None
        self._sealed = 0
        self._entered = 0
        self._teardown: list[Callable[[Run, int], None]] = []
        self._on_ended: Callable[[], None] | None = None
        self._on_child_stream: Callable[[], None] = lambda: None
        self._files = RunFiles(store, record, voice)
        self._media = RunMedia(store, record, voice, self._complain, self._log_table)
        self._definitions = Definitions(
            {} if store is None else store.definitions(record)
        )
        self.config = Config(dict(config or {}), self._config_changed, locked)
        self.summary = Summary(
            self._read_summary,
            self._write_summary,
            self._remove_summary,
            self._media.summary_value,
        )
        base = Sums(Fold())
        if store is not None and stream is not None:
            rows_count = resumed or record.parent is not None
            base = store.sums_before(record, stream, summed=rows_count)
        self._live = LiveSummary(base, self._definitions, record.started_us)
        self._recorder: Recorder | None = None
        self._make_tickers()
        self._use_writer(None if stream is None else self._new_writer(stream))

    @property
    def step(self) -> int:
        """The step that the next `log` without one gets."""
        return self._step

    @property
    def starting_step(self) -> int:
        """The step of this attempt's first row."""
        return self._first_step

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
            data: Metric names to values: numbers, bools, text, None, lists, arrays,
                media and lists of them; nested mappings flatten with dots. A value that
                cannot be kept exactly is kept as text, with one warning per key. The
                files of media are durable when it returns.
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
                if self._finished:
                    self._checked(data)
                row = dict(data)
                self._deferred.append(lambda: self.log(row, step, commit))
                return
            self._busy = True
            try:
                if (
                    self._append is not None
                    and step is None
                    and commit is None
                    and type(data) is dict
                ):  # the common call, the shortest way
                    self._append(data, self._step)
                    self._step += 1
                else:
                    self._log(data, step, commit)
            except (InvalidMetricError, RunFinishedError):
                raise
            except Exception as error:  # noqa: BLE001 - a fault of ours, not of training
                self._torn, self._append = True, None
                self._lose_row(error)
            except BaseException:  # Ctrl-C in the middle of a row
                self._torn, self._append = True, None
                self._mend()
                raise
            finally:
                self._busy = False
            if self._deferred:
                self._run_deferred()

    def _log(
        self, data: Mapping[str, Any], step: int | None, commit: bool | None
    ) -> None:
        if self._finished or type(data) is not dict:
            data = self._checked(data)
        if self._torn:  # an interrupt came while the last one was mended
            self._mend()
        at = cursor = self._step
        if step is None:
            if commit is None or commit:
                cursor += 1
        else:
            at = self._given_step(step)
            if at >= cursor:
                cursor = at + 1 if commit else at
        if data:
            if self._definitions.has_axes:
                data = self._definitions.with_axes(self._normalise(data, at))
            if self._writer is None:
                self._open_late()
            if self._writer is not None:
                self._writer.append(data, at)
            else:
                self._append_nowhere(data, at)
        self._step = cursor

    def _lose_row(self, error: Exception) -> None:
        self._lost += 1
        self._voice.survived("log", error)
        self._voice.warn_once("log", f"A row could not be written: {error!r}.")
        self._mend()

    def _mend(self) -> None:
        """A row broke off: go by what of it stands in the log."""
        if self._writer is not None:
            with self._voice.guarded("log"):
                self._writer.interrupted()
                self._torn = False
                self._use_writer(self._writer)

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
            text = _values.capped_repr(step)
            self._complain("step", f"{text} is no step; the cursor's is used")
            return self._step
        if number < self._step:
            self._voice.warn_once(
                "backward step",
                f"Step {number} is behind the run's step {self._step}; its values are"
                " kept there, and further ones without a word.",
            )
        return number

    def _normalise(self, data: Mapping[str, Any], at: int) -> dict[str, Any]:
        return self._media.row(data, at)

    def _complain(self, key: str, text: str) -> None:
        if self._settings["strict"]:
            raise InvalidMetricError(f"{key}: {text}.", hint="strict=True refuses it.")
        self._coerced += 1
        self._voice.warn_once(f"value {key}", f"{key}: {text}.")

    def _append_nowhere(self, data: Mapping[str, Any], at: int) -> None:
        """In mode "disabled": keep the summary true, and nothing else."""
        self._live.add_row(self._normalise(data, at), at)

    def _use_writer(self, writer: StreamWriter | None) -> None:
        """Write to a stream, or to none; the quick way of `log` is open or closed."""
        self._writer = self._live.writer = writer
        quick = writer is not None and not self._definitions.has_axes
        self._append = writer.append if writer is not None and quick else None

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
        axis = step_metric.name if isinstance(step_metric, Metric) else step_metric
        given = {
            "step_metric": axis, "step_sync": step_sync, "hidden": hidden,
            "summary": summary, "goal": goal,
        }  # fmt: skip
        name = _values.config_key(name)
        with self._lock:
            options = self._definitions.define(name, given, overwrite=bool(overwrite))
            if not self._finished:
                self._use_writer(self._writer)
        if self._store is not None and self._role != "child":
            with self._voice.guarded("define_metric"):
                self._store.data.save_definition(self._record, name, options)
        return Metric(name)

    # Config and summary

    def _config_changed(self, change: ConfigChange) -> None:
        if self._store is None or self._role == "child":
            return
        if change.replaced and not (change.allowed or self._may_change):
            self._voice.warn_once(
                "config changed",
                f"config.{change.replaced[0]} was changed; the change is kept, and"
                " noted in the run's events.",
            )
        self._config_writer.save(self._store, self._record.pk, change)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep signal handlers' calls out, too, and then let them have their turn."""
        with self._lock:
            self._busy = True
            try:
                yield
            finally:
                self._busy = False
            self._run_deferred()

    def _run_deferred(self) -> None:
        # A function of its own: CPython 3.13 checks for signals where a loop jumps
        # back, and there leaves a `with` around the loop without ending it.
        while self._deferred:
            self._deferred.pop(0)()

    def _read_summary(self) -> dict[str, JSONValue]:
        with self._lock:
            if self._busy:  # a signal handler inside a log(): as it was before
                return self._live.last
            with self._alone():
                return self._live.read()

    def _write_summary(self, new: dict[str, JSONValue]) -> None:
        if self._role == "child":
            self._voice.warn_once(
                "child summary", "A child process does not change the run's summary."
            )
            return
        with self._lock:
            if self._busy:  # a signal handler inside a log()
                self._deferred.append(lambda: self._write_summary(new))
                return
            with self._alone(), self._voice.guarded("summary"):
                if self._finished and self._store is not None:
                    # W&B's users still write it after the end; it is kept.
                    _edits.change_summary(self._store, self._record.pk, new)
                    self._live.write_after_finish(new)
                else:
                    self._live.write(new)

    def _remove_summary(self, key: str) -> None:
        self._write_summary({key: DELETED})

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
        base = None if base_path is None else os.fspath(base_path)
        pattern = "" if glob_str is None else os.fspath(glob_str)
        return self._files.save(pattern, base, policy) if pattern else []

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
        return self._files.log_code(root or ".", include_fn, exclude_fn)

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
        title, text = _values.clean_text(str(title)), _values.clean_text(str(text))
        alert = Alert(title, text, AlertLevel(word), _clock.now_us(), self._step)
        if self._store is not None:
            with self._voice.guarded("alert"):
                self._store.data.save_alert(self._record.pk, alert)
        self._voice.say(f"{word} {alert.title}" + (f": {alert.text}" if text else ""))
        _observers.notify("alert", alert, self._voice.survived)

    def log_message(self, message: str, level: str = "INFO") -> None:
        """Record one line in the run's log, beside stdout and stderr."""
        if self._recorder is not None and not self._finished:
            with self._voice.guarded("log_message"):
                self._recorder.message(str(message), level.upper())

    def mark_preempting(self) -> None:
        """Accepted as W&B has it: a run that is killed can be resumed anyway."""

    def watch(self, *_: Any, **__: Any) -> None:
        """Accepted as W&B has it; gradients are not recorded yet."""
        self._voice.warn_once("watch", "watch() does nothing yet.")

    def unwatch(self, *_: Any) -> None:
        """Accepted as W&B has it."""

    # Beginning and end

    def _begin(self) -> Run:
        """Start capture and the background thread."""
        if self._store is None or self._stream is None:
            return self
        if self._role != "child":
            self._recorder = Recorder(
                self._store.run_dir(self._record.uid), self._stream.identity,
                self._settings, self._voice.survived,
            )  # fmt: skip
            self._recorder.start(self._background, self._save_environment)
        if self.resumed:
            with self._voice.guarded("save files"):
                self._files.save_again()
        self._start_tickers()
        if self._role == "creator":
            _observers.notify("start", self, self._voice.survived)
        return self

    def _make_tickers(self) -> None:
        # Two threads: what a slow disk or a slow git keeps busy must not hold up the
        # flushing that durability promises.
        self._upkeep = Ticker("wanllmdb-log", self._voice.survived)
        self._background = Ticker("wanllmdb", self._voice.survived)

    def _start_tickers(self) -> None:
        self._upkeep.every(0.5, self._maintain)
        if self._settings["durability"] == "interval":
            self._upkeep.every(5.0, self._sync)
        if self._settings["durability"] == "buffered":
            self._upkeep.every(0.05, self._flush)
        if self._role == "creator":
            self._background.every(SUMMARY_SECONDS, self._save_numbers)
            self._background.every(SEAL_SECONDS, self._compact)
        self._upkeep.start()
        self._background.start()

    def finish(self, exit_code: int | None = None, quiet: bool | None = None) -> None:
        """End the run; durable on return. A second call does nothing.

        Args:
            exit_code: 0 for success, which is the default. A run that finished while
                an exception was on its way becomes failed when that ends the script.
            quiet: Print nothing.
        """
        self._finish(end_of(SystemExit(exit_code)), quiet=quiet)

    def _finish(self, end: End, *, quiet: bool | None = None) -> None:
        with self._lock:
            if self._finished:
                return
            if self._busy:  # called by a signal handler inside a log()
                self._deferred.append(lambda: self._finish(end, quiet=quiet))
                return
            self._finished = True
            self._append = None
        for hook in self._teardown:
            hook(self, end.exit_code)
        if self._store is None:
            return
        self._wind_down(self._store)
        with self._voice.guarded("finish"):
            self._end(self._store, end)
        if self._role == "creator":
            _observers.notify("finish", self, self._voice.survived)
            if not quiet:
                rows = self._writer.rows if self._writer is not None else 0
                self._voice.say(f"finished {self.path} ({self.name}), {rows} rows")
            if self._on_ended is not None:
                with self._voice.guarded("sync"):
                    self._on_ended()

    def _wind_down(self, store: Store) -> None:
        """Stop what runs beside the run, and store what it still holds."""
        self._upkeep.stop(timeout=5.0)
        self._background.stop(timeout=5.0)
        with self._voice.guarded("finish capture"):
            if self._recorder is not None:
                self._recorder.stop()
        with self._voice.guarded("finish files"):
            if self._role != "child":
                self._files.save_again()
            if self._role == "creator":
                store.data.ingest_files(self._record, self._files.not_stored)
        if self._role != "child":
            self._config_writer.save(store, self._record.pk)

    def _amend(self, end: End) -> None:
        """Correct the end of a run that finished while an exception was on its way."""
        if self._store is not None and self._stream is not None:
            with self._voice.guarded("finish"):
                self._store.amend_end(self._stream, end)

    def _end(self, store: Store, end: End) -> None:
        writer, stream = self._writer, self._stream
        sums, dropped = None, self._lost
        if writer is not None:
            with self._lock:
                if writer.certain and self._role == "creator":
                    sums = self._live.sums()
                writer.close()
            dropped += writer.dropped
        if dropped:
            self._voice.say(f"{dropped} rows could not be written; the run says so too")
        if stream is None:
            return
        if self._role == "child":
            store.end_child_stream(stream)
        else:
            store.end_stream(stream, end, Losses(dropped, self._coerced), sums)

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
        self._finish(end_of(error))

    def _save_environment(self, facts: Mapping[str, Any]) -> None:
        assert self._store is not None
        clean: dict[str, JSONValue] = _values.config_value(facts)
        self._store.data.save_environment(self._record.pk, clean)

    # In the background

    def _maintain(self) -> None:
        with self._lock:
            if self._writer is not None and not self._finished:
                self._writer.prepare_next()

    def _sync(self) -> None:
        with self._lock:
            if self._writer is None or self._finished:
                return
            fd = self._writer.duplicate()
        if fd >= 0:  # on its own, so that log() need not wait for the disk
            try:
                fdatasync(fd)
            finally:
                os.close(fd)

    def _flush(self) -> None:
        with self._lock:
            if self._writer is not None and not self._finished:
                self._writer.flush()

    def _compact(self) -> None:
        """Seal what the run has logged so far, once 64 MiB of it wait."""
        writer, store = self._writer, self._store
        if writer is None or store is None or self._finished:
            return
        if writer.segments - self._sealed > WAITING_BYTES // SEGMENT_BYTES:
            self._sealed = writer.segments
            store.compact_run(self._record)

    def _save_numbers(self) -> None:
        if self._store is None or self._writer is None:
            return
        with self._lock:
            version = self._live.version
            if version == self._saved:
                return
            sums = self._live.copy()  # log() goes on
        try:
            self._store.save_numbers(self._record.pk, sums, timeout=0)
            self._saved = version
        except StoreLockedError:  # others are busy writing: in 10 s again
            pass

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
        self._use_writer(None)
        if self._recorder is not None:
            self._recorder.detach()
            self._recorder = None
        self._make_tickers()

    def _open_late(self) -> None:
        """Open a child's own stream, at its first row."""
        if self._store is None or self._role != "child" or self._finished:
            return
        with self._voice.guarded("open a stream"):
            self._stream = self._store.open_child_stream(
                self._record, self._child_prefix
            )
            self._use_writer(self._new_writer(self._stream))
            self._start_tickers()
            self._on_child_stream()

    def _new_writer(self, stream: OpenStream) -> StreamWriter:
        store = self._store
        assert store is not None
        return StreamWriter(
            store.run_dir(stream.uid),
            stream.identity,
            Kind.METRICS,
            durability=self._settings["durability"],
            on_fault=self._disk_fault,
            spill=self._spill,
            normalise=self._normalise,
            on_limit=self._too_many_keys,
        )

    def _spill(self, data: bytes) -> JSONValue:
        """A blob for a large value; where that fails, the value's first characters."""
        assert self._store is not None
        try:
            return self._store.data.spill(self._record.pk, data)
        except (WanllmdbError, OSError) as error:
            self._voice.survived("spill", error)
            self._complain("log", f"a large value could not be stored ({error})")
            return _values.capped_repr(data.decode())

    def _too_many_keys(self) -> None:
        self._voice.warn_once(
            "keys",
            f"More than {KEY_LIMIT} metrics: further ones are stored, and left out of"
            " the summary.",
        )

    def _disk_fault(self, error: OSError) -> None:
        self._voice.warn_once(
            f"disk {error.errno}",
            f"The log of run {self.path} could not be written ({error.strerror})."
            " Training goes on; rows are counted as lost until the disk takes them.",
        )
        self._voice.survived("log", error)
