"""A run as the Store holds it: exact history, logs, files, and small edits."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from wanllmdb import _artifacts, _clock, _config, _edits, _lineage, _names, _values
from wanllmdb._artifacts import Artifact
from wanllmdb._catalog import events, runs, values
from wanllmdb._catalog import files as run_files
from wanllmdb._lineage import Lineage
from wanllmdb._results import (
    Result,
    html_table,
    rows_of_writer,
    rows_with_any,
    sampled,
)
from wanllmdb._run_facts import Facts
from wanllmdb._store import Store, operation
from wanllmdb._values import RESERVED
from wanllmdb.errors import (
    FileNotInRunError,
    InvalidInputError,
    MetricNotFoundError,
)
from wanllmdb.types import Alert, Epoch, Event, KeyStats, Kind, RunFile, RunRecord

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


def without_media(
    files: Sequence[SavedFile],
) -> tuple[list[SavedFile], dict[str, list[SavedFile]]]:
    """The other files, and those of media by folder: there may be thousands."""
    others: list[SavedFile] = []
    media: dict[str, list[SavedFile]] = {}
    for file in files:
        parts = file.name.split("/")
        if parts[0] == "media" and len(parts) > 2:
            media.setdefault(f"media/{parts[1]}/", []).append(file)
        else:
            others.append(file)
    return others, media


class StoredRun(Facts):
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
    def state(self) -> str:
        """running, finished, failed, killed or crashed."""
        return str(self._record.state)

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

    def logged_artifacts(self) -> list[Artifact]:
        """The versions that it made, in that order."""
        return _artifacts.of_run(self._store, self._record, "output")

    def used_artifacts(self) -> list[Artifact]:
        """The versions that it read, in that order."""
        return _artifacts.of_run(self._store, self._record, "input")

    def lineage(self, depth: int | None = None) -> Lineage:
        """What it read and made, and so on; runs and versions.

        Args:
            depth: Steps to follow; None: all.
        """
        return _lineage.of_run(self._store, self._record, depth)

    @property
    def created_at(self) -> str:
        """When it was created, ISO 8601 in UTC."""
        return _clock.iso(self._record.created_us) or ""

    @property
    def config(self) -> dict[str, Any]:
        """Its inputs."""
        return self._store.data.load_json(self._record, "config")

    @property
    def summary(self) -> dict[str, Any]:
        """Its final values, or those of at most 10 s ago for a live run."""
        return self._store.data.load_json(self._record, "summary")

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
    def definitions(self) -> dict[str, dict[str, Any]]:
        """What `define_metric` said, by key or glob, in order."""
        return self._store.definitions(self._record)

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
        since: datetime | str | None = None,
        until: datetime | str | None = None,
    ) -> Iterator[LogLine]:
        """The run's log in order of time.

        Args:
            stream: Only ``stdout``, ``stderr`` or ``log``.
            level: Only messages of this level.
            grep: Only lines in which this regular expression is found.
            since: Only lines from this time on: a datetime, in UTC where it names no
                zone; its ISO 8601 form; or "-5m", that long ago (s, m, h, d, w).
            until: Only lines before this time.

        Raises:
            InvalidInputError: `grep` is no regular expression, or a time no time.
        """
        pattern = _compiled(grep)
        begin, end = _moment(since), _moment(until)
        for us, _, writer, row in self._store.logs.records(self._record, Kind.CONSOLE):
            moment = datetime.fromtimestamp(us / 1e6, UTC)
            line = LogLine(
                moment, row["stream"], row.get("level"), str(row["text"]), writer
            )
            if (stream in (None, line.stream)
                    and (level is None or line.level == level.upper())
                    and (pattern is None or pattern.search(line.text))
                    and (begin is None or us >= begin)
                    and (end is None or us < end)):  # fmt: skip
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
            self._record = _edits.change_fields(self._store, self._record, changes)
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

    def _set(self, field: str, value: str | None) -> None:
        changes = {field: value}
        self._record = _edits.change_fields(self._store, self._record, changes)

    def _set_tags(self, tags: tuple[str, ...]) -> None:
        self._record = _edits.set_tags(self._store, self._record, tags)

    def _repr_html_(self) -> str:
        """What a notebook shows: escaped, without script."""
        shown = ("id", "name", "state", "config", "summary")
        return html_table(shown, [{name: getattr(self, name) for name in shown}])

    def __repr__(self) -> str:
        return f"<StoredRun {self.path} {self.name!r} {self.state}>"


def _compiled(pattern: str | None) -> re.Pattern[str] | None:
    try:
        return None if pattern is None else re.compile(pattern)
    except re.error as error:
        raise InvalidInputError(
            f"{pattern!r} is no regular expression: {error}.", hint="Escape it."
        ) from None


def _moment(when: datetime | str | None) -> int | None:
    try:
        return None if when is None else _clock.parse(str(when), _clock.now_us())
    except (ValueError, OverflowError):
        raise InvalidInputError(
            f"{when!r} is no time.", hint="Give 2026-01-31T12:00, or -5m."
        ) from None
