"""Reading a Store: its projects and its runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wanllmdb import _edits, _files, _settings
from wanllmdb._catalog import projects, runs
from wanllmdb._catalog.projects import ProjectRecord
from wanllmdb._recovery import recheck_fence, recover_dead, recover_quietly
from wanllmdb._results import (
    Result,
    concatenated,
)
from wanllmdb._store import Store, operation
from wanllmdb._stored_run import StoredRun
from wanllmdb.errors import (
    InvalidInputError,
    MetricNotFoundError,
    RunNotFoundError,
)
from wanllmdb.types import RunRecord

if TYPE_CHECKING:
    pass


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

    @operation("write report")
    def report(
        self,
        runs: str | StoredRun | Sequence[str | StoredRun],
        path: str | os.PathLike[str] | None = None,
        title: str | None = None,
    ) -> str | Path:
        """Runs as one HTML page: self-contained, without scripts, readable offline.

        Args:
            runs: One or several, as `run` takes them.
            path: Write the page there, whole or not at all, over what is there.
            title: Its heading; default says what the runs are.

        Returns:
            The page's text, or the path that was written.

        Raises:
            RunNotFoundError: there is no such run.
            InvalidInputError: no run was given, or the path cannot be written.
        """
        from wanllmdb._report import report_html

        given = [runs] if isinstance(runs, (str, StoredRun)) else list(runs)
        if not given:
            raise InvalidInputError("A report of no runs?", hint="Give one at least.")
        found = [self.run(run) if isinstance(run, str) else run for run in given]
        text = report_html(found, title)
        if path is None:
            return text
        target, data = Path(path), text.encode("utf-8", "backslashreplace")
        _files.save(target, lambda draft: draft.write_bytes(data))
        return target

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
