"""Reading a Store: projects, runs, exact histories, logs, files, and small edits."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from wanllmdb import _clock, _config, _edits, _names, _settings, _values
from wanllmdb._catalog import events, projects, runs, values
from wanllmdb._catalog import files as run_files
from wanllmdb._catalog.projects import ProjectRecord
from wanllmdb._recovery import recheck_fence, recover_dead, recover_quietly
from wanllmdb._results import (
    Result,
    concatenated,
    rows_of_writer,
    rows_with_any,
    sampled,
)
from wanllmdb._store import Store, operation
from wanllmdb._values import RESERVED
from wanllmdb.errors import (
    FileNotInRunError,
    InvalidInputError,
    MetricNotFoundError,
    RunNotFoundError,
)
from wanllmdb.types import Alert, Epoch, Event, KeyStats, Kind, RunFile, RunRecord, Tags

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a run's log.

    Attributes:
        time: UTC.
        stream: ``stdout``, ``stderr`` or ``log``.
        level: Of a log message, such as ``INFO``; None for console lines.
        text: Without the newline; ANSI escapes are kept.
        writer: Which process wrote it.
    """

    time: datetime
    stream: str
    level: str | None
    text: str
    writer: str


class SavedFile:
    """A file stored with a run."""

    def __init__(self, store: Store, file: RunFile) -> None:
        self._store = store
        self._file = file

    @property
    def name(self) -> str:
        """Its path in the run."""
        return self._file.path

    @property
    def size(self) -> int:
        """Bytes."""
        return self._file.size

    @property
    def digest(self) -> str:
        """``sha256:`` and hex."""
        return self._file.digest

    def read(self) -> bytes:
        """Its bytes, checked against the digest."""
        return self._store.blobs.get(self._file.digest)

    def download(self, root: str | os.PathLike[str] = ".") -> Path:
        """Write a copy below a directory; return its path."""
        name = PurePosixPath(self._file.path)
        if name.is_absolute() or ".." in name.parts:
            raise InvalidInputError(
                f"{self._file.path!r} leads out of {root}.",
                hint="Use read(), and write it where you want it.",
            )
        target = Path(root) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f".{target.name}.part")
        draft.write_bytes(self.read())
        draft.replace(target)
        return target

    def __repr__(self) -> str:
        return f"<SavedFile {self.name} {self.size} bytes>"


class StoredRun:
    """A run as the Store holds it; a live run is read as it stands now."""

    def __init__(self, store: Store, record: RunRecord) -> None:
        self._store = store
        self._record = record

    @property
    def store(self) -> Store:
        """The Store that holds it."""
        return self._store

    @property
    def record(self) -> RunRecord:
        """The run's row in the Catalog."""
        return self._record

    @property
    def id(self) -> str:
        """Its id in the project."""
        return self._record.run_id

    @property
    def name(self) -> str:
        """Its display name; set it and call `update`."""
        return self._record.name

    @name.setter
    def name(self, value: str) -> None:
        self._change({"name": value})

    @property
    def notes(self) -> str | None:
        """Its notes."""
        return self._record.notes

    @notes.setter
    def notes(self, value: str | None) -> None:
        self._change({"notes": value})

    @property
    def project(self) -> str:
        """Its project's name."""
        return self._record.project

    @property
    def path(self) -> str:
        """``project/id``."""
        return f"{self.project}/{self.id}"

    @property
    def group(self) -> str | None:
        """Its group."""
        return self._record.group

    @property
    def job_type(self) -> str | None:
        """Its kind of job."""
        return self._record.job_type

    @property
    def state(self) -> str:
        """running, finished, failed, killed or crashed."""
        return str(self._record.state)

    @property
    def tags(self) -> Tags:
        """Its tags; assign a list, or use ``run.tags += ["x"]``."""
        return Tags(self._record.tags)

    @tags.setter
    def tags(self, value: Any) -> None:
        self._record = _edits.set_tags(self._store, self._record, _names.tags(value))

    def add_tags(self, tags: Any) -> StoredRun:
        """Add tags; what others add or remove meanwhile stays."""
        new = _names.tags(tags)
        self._record = _edits.change_tags(self._store, self._record, new)
        return self

    def remove_tags(self, tags: Any) -> StoredRun:
        """Remove tags; those it does not have are no matter."""
        gone = _names.tags(tags)
        self._record = _edits.change_tags(self._store, self._record, (), gone)
        return self

    @property
    def created_at(self) -> str:
        """When it was created, ISO 8601 in UTC."""
        return _clock.iso(self._record.created_us) or ""

    @property
    def config(self) -> dict[str, Any]:
        """Its inputs."""
        return self._store.load_json(self._record, "config")

    @property
    def summary(self) -> dict[str, Any]:
        """Its final values, or those of at most 10 s ago for a live run."""
        return self._store.load_json(self._record, "summary")

    @property
    def environment(self) -> dict[str, Any]:
        """What was captured: python, host, packages, git."""
        return runs.environment(self._store.catalog.reader, self._record.pk)

    @property
    def metadata(self) -> dict[str, Any]:
        """W&B's name of `environment`."""
        return self.environment

    @property
    def last_step(self) -> int | None:
        """The greatest visible step, None before the first row."""
        return self._record.last_step

    @property
    def dropped_rows(self) -> int:
        """Rows that a faulty disk refused."""
        return self._record.dropped_rows

    @property
    def keys(self) -> dict[str, KeyStats]:
        """Statistics of every key logged: count, last, min, max, mean."""
        return values.read_keys(self._store.catalog.reader, self._record.pk)

    @property
    def epochs(self) -> list[Epoch]:
        """Its attempts."""
        return runs.epochs(self._store.catalog.reader, self._record.pk)

    @property
    def events(self) -> list[Event]:
        """Everything that was changed about it."""
        return events.read(self._store.catalog.reader, "run", self._record.uid)

    @property
    def alerts(self) -> list[Alert]:
        """Its alerts."""
        return run_files.alerts(self._store.catalog.reader, self._record.pk)

    @operation("read history")
    def history(
        self,
        keys: Sequence[str] | None = None,
        x: str = "_step",
        last: int | None = None,
        samples: int | None = None,
        writers: str = "all",
    ) -> Result:
        """What was logged, exact and whole.

        Args:
            keys: Metrics wanted; default all.
            x: The column to sort by; rows that lack it are left out.
            last: Only the last rows, so many.
            samples: At most about so many rows, among them each metric's minimum and
                maximum in every stretch. Default: every row.
            writers: ``all``, or ``primary`` to leave out ranks and forks.

        Returns:
            Columns `_step` (int64), `_timestamp` and `_runtime` (seconds, float64),
            `_writer`, then one per metric; null where a row lacks it.

        Raises:
            MetricNotFoundError: a key, or `x`, was never logged.
            InvalidInputError: `last`, `samples` or `writers` make no sense.
        """
        if writers not in ("all", "primary"):
            raise InvalidInputError(
                f"There are no writers={writers!r}.", hint="Use all or primary."
            )
        if last is not None and last < 0:
            raise InvalidInputError(f"The last {last} rows?", hint="Give 0 or more.")
        x = _values.config_key(x)
        names = None if keys is None else [_values.config_key(key) for key in keys]
        wanted = None if names is None else list(dict.fromkeys([*names, x]))
        scan = self._store.logs.scan(self._record, wanted)
        table = scan.table(self._record.started_us)
        self._check_keys(table, [*(names or ()), x])
        if writers == "primary":
            table = rows_of_writer(table, "primary")
        if x != "_step":
            table = table.filter(table[x].is_valid()).sort_by(x)
        if names is not None:
            table = rows_with_any(table, names)
            own = [n for n in table.column_names if n in RESERVED]
            shown = [*own, *names] if x in RESERVED else [*own, x, *names]
            table = table.select(list(dict.fromkeys(shown)))
        if last is not None:
            table = table.slice(max(0, table.num_rows - last))
        if samples is not None:
            table = sampled(table, samples)
        return Result(table)

    def _check_keys(self, table: pa.Table, keys: Sequence[str]) -> None:
        for key in keys:
            if key not in table.column_names:
                raise MetricNotFoundError(
                    f"Run {self.path} never logged {key!r}.",
                    hint="`wanllmdb metric ls RUN` shows what it logged.",
                    key=key,
                )

    def scan_history(
        self, keys: Sequence[str] | None = None, **_: Any
    ) -> Iterator[dict[str, Any]]:
        """Each row as a dict of Python's own types; keys it lacks are absent.

        Args:
            keys: Metrics wanted; default all. Rows that lack one are left out.
        """
        names = None if keys is None else [_values.config_key(key) for key in keys]
        scan = self._store.logs.scan(self._record, names)
        for row in scan.dicts(self._record.started_us):
            if names is None or all(k in row for k in names):
                yield row

    @property
    def system(self) -> Result:
        """System metrics: `_timestamp`, `_runtime`, then one column per gauge."""
        import pyarrow as pa

        start = self._record.started_us
        rows = [
            {"_timestamp": us / 1e6, "_runtime": (us - start) / 1e6, **cells}
            for us, _, _, cells in self._store.logs.records(self._record, Kind.SYSTEM)
        ]
        names = list(dict.fromkeys(name for row in rows for name in row))
        return Result(pa.table({n: [row.get(n) for row in rows] for n in names}))

    def logs(
        self,
        *,
        stream: str | None = None,
        level: str | None = None,
        grep: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterator[LogLine]:
        """The run's log in order of time.

        Args:
            stream: Only ``stdout``, ``stderr`` or ``log``.
            level: Only messages of this level.
            grep: Only lines in which this regular expression is found.
            since: Only lines from this time on.
            until: Only lines before this time.

        Raises:
            InvalidInputError: `grep` is no regular expression.
        """
        pattern = _compiled(grep)
        for us, _, writer, row in self._store.logs.records(self._record, Kind.CONSOLE):
            moment = datetime.fromtimestamp(us / 1e6, UTC)
            line = LogLine(
                moment, row["stream"], row.get("level"), str(row["text"]), writer
            )
            if (stream in (None, line.stream)
                    and (level is None or line.level == level.upper())
                    and (pattern is None or pattern.search(line.text))
                    and (since is None or moment >= since)
                    and (until is None or moment < until)):  # fmt: skip
                yield line

    def files(self) -> list[SavedFile]:
        """The files stored with it."""
        found = run_files.read(self._store.catalog.reader, self._record.pk)
        return [SavedFile(self._store, file) for file in found]

    @operation("read file")
    def file(self, name: str) -> SavedFile:
        """One stored file.

        Raises:
            FileNotInRunError: the run has none of that name.
        """
        for file in self.files():
            if file.name == name:
                return file
        raise FileNotInRunError(
            f"Run {self.path} has no file {name!r}.", hint="See .files()."
        )

    def load(self) -> StoredRun:
        """Read the run again."""
        self._record = runs.read(self._store.catalog.reader, self._record.pk)
        return self

    @operation("edit run")
    def update(self, /, **changes: Any) -> StoredRun:
        """Change name, notes, group, job_type, config or summary.

        Args:
            **changes: New values; `config` and `summary` are merged key by key.

        Raises:
            InvalidInputError: a field cannot be changed.
        """
        known = {"name", "notes", "group", "job_type", "config", "summary", "tags"}
        if bad := sorted(set(changes) - known):
            raise InvalidInputError(
                f"A run has no {bad[0]!r} to change.",
                hint=f"Use {', '.join(sorted(known))}.",
            )
        if "config" in changes:
            new = _config.read_config(changes.pop("config"))
            _edits.change_config(self._store, self._record.pk, new)
        if "summary" in changes:
            new = _config.read_config(changes.pop("summary"))
            _edits.change_summary(self._store, self._record.pk, new)
        if "tags" in changes:
            self.tags = changes.pop("tags")
        if changes:
            self._change(changes)
        return self.load()

    def rename(self, name: str) -> StoredRun:
        """Give it another display name."""
        return self.update(name=name)

    def delete(self) -> None:
        """Move it to the trash; `restore` brings it back whole.

        Raises:
            RunActiveError: it is being written.
        """
        self._record = _edits.delete_run(self._store, self._record)

    def restore(self) -> StoredRun:
        """Bring it back from the trash."""
        self._record = _edits.restore_run(self._store, self._record)
        return self

    def restore_epoch(self, number: int) -> StoredRun:
        """Show again what later epochs superseded, and hide these."""
        self._record = _edits.restore_epoch(self._store, self._record, number)
        return self

    def _change(self, changes: Mapping[str, str | None]) -> None:
        self._record = _edits.change_fields(self._store, self._record, changes)

    def __repr__(self) -> str:
        return f"<StoredRun {self.path} {self.name!r} {self.state}>"


class Api:
    """Reads a Store, also while runs are written to it.

    Args:
        store: Its directory; default by the rules in docs/guide.md.

    Raises:
        StoreUnavailableError: there is no Store.
    """

    def __init__(self, store: str | os.PathLike[str] | None = None, **_: Any) -> None:
        self.store = Store(_settings.find_store(store), create=False)

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the Store."""
        self.store.close()

    @operation("list projects")
    def projects(self) -> list[ProjectRecord]:
        """Every project, by name, with the number of its runs."""
        return projects.read_all(self.store.catalog.reader)

    @operation("list runs")
    def runs(
        self,
        /,
        project: str | None = None,
        filters: str | Mapping[str, Any] | None = None,
        order: str | Sequence[str] | None = None,
        limit: int | None = None,
        *,
        offset: int = 0,
        deleted: bool = False,
        **_: Any,
    ) -> list[StoredRun]:
        """Runs, newest first or in the order given.

        Args:
            project: Only this project's; W&B's ``entity/project`` is understood.
            filters: ``config.lr < 0.01 and tag:best``, or W&B's dicts.
            order: ``-created_at`` (default), ``+summary.loss`` and so on.
            limit: At most so many.
            offset: Leave out so many first.
            deleted: Those in the trash instead.

        Raises:
            FilterError: the filter or order cannot be parsed.
        """
        if limit is not None and limit < 0:
            raise InvalidInputError(f"A limit of {limit} runs?", hint="Give 0 or more.")
        name = None if project is None else project.rsplit("/", 1)[-1]
        recover_dead(self.store, name)
        found = runs.find_many(
            self.store.catalog.reader, project=name, condition=filters, order=order,
            limit=limit, offset=offset, deleted=deleted,
        )  # fmt: skip
        return [StoredRun(self.store, record) for record in found]

    @operation("find run")
    def run(self, path: str, *, deleted: bool = False) -> StoredRun:
        """One run.

        Args:
            path: ``[project/]RUN``; RUN is an id, a unique name, a unique id prefix,
                ``@last``, ``@last~2`` or ``@best:KEY``.
            deleted: Look in the trash instead.

        Raises:
            RunNotFoundError: nothing fits.
            AmbiguousNameError: several runs fit.
        """
        record = self._select(path, deleted=deleted)
        recover_quietly(self.store, record)
        recheck_fence(self.store, record)
        return StoredRun(self.store, runs.read(self.store.catalog.reader, record.pk))

    def _select(self, path: str, *, deleted: bool) -> RunRecord:
        reader = self.store.catalog.reader
        # A key after @best: may hold slashes of its own.
        head, _, tail = path.partition("/@")
        if runs.is_special(path):
            head, selector = "", path
        elif tail and runs.is_special(f"@{tail}"):
            selector = f"@{tail}"
        else:
            head, _, selector = path.rpartition("/")
        project = head.rsplit("/", 1)[-1]
        try:
            return runs.select(reader, selector, project or None, deleted=deleted)
        except RunNotFoundError:
            if "/" not in path:
                raise
            # The name of a run may hold slashes.
            found = runs.find_named(reader, path, deleted=deleted)
            if found is None:
                raise
            return found

    @operation("read histories")
    def history(self, project: str, keys: Sequence[str], filters: Any = None) -> Result:
        """One table of the histories of many runs, with a first column `run`."""
        import pyarrow as pa

        tables = []
        for run in self.runs(project, filters):
            try:
                table = run.history(keys).arrow()
            except MetricNotFoundError:
                continue
            names = pa.array([run.id] * table.num_rows, pa.string())
            tables.append(table.add_column(0, "run", names))
        if not tables:
            return Result(pa.table({"run": pa.array([], pa.string())}))
        return Result(concatenated(tables))

    @operation("find project")
    def project(self, name: str) -> ProjectRecord:
        """One project.

        Raises:
            ProjectNotFoundError: none has that name.
        """
        return projects.get(self.store.catalog.reader, name)

    def rename_project(self, old: str, new: str) -> None:
        """Give a project another name.

        Raises:
            ProjectNotFoundError: none has the old name.
            ConflictError: one has the new name.
        """
        _edits.rename_project(self.store, old, new)

    def delete_project(self, name: str) -> None:
        """Move a project and its runs to the trash.

        Raises:
            ProjectNotFoundError: there is none.
            RunActiveError: one of its runs is being written.
        """
        _edits.delete_project(self.store, name)

    def counts(self) -> tuple[int, int, int]:
        """(all runs, those running, those in the trash)."""
        return runs.count(self.store.catalog.reader)

    def purge(self, run: StoredRun) -> None:
        """Remove a run in the trash for good, with its log.

        Raises:
            StateError: it is not in the trash.
            RunActiveError: it is being written.
            ConflictError: a fork of it shows some of its rows.
        """
        _edits.purge_run(self.store, run.record)


def _compiled(pattern: str | None) -> re.Pattern[str] | None:
    try:
        return None if pattern is None else re.compile(pattern)
    except re.error as error:
        raise InvalidInputError(
            f"{pattern!r} is no regular expression: {error}.", hint="Escape it."
        ) from None
