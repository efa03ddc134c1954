"""Reading a Store: its projects and its runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wanllmdb import (
    _artifacts,
    _edits,
    _files,
    _first_use,
    _projects,
    _ranking,
    _reductions,
    _relations,
    _settings,
    _sql,
    _values,
    _versions,
)
from wanllmdb._artifacts import Artifact
from wanllmdb._catalog import artifacts, projects, runs, values
from wanllmdb._catalog.projects import ProjectRecord
from wanllmdb._recovery import recheck_fence, recover_dead, recover_quietly
from wanllmdb._results import Result, concatenated, html_table
from wanllmdb._store import Store, operation
from wanllmdb._stored_run import StoredRun
from wanllmdb.errors import (
    InvalidInputError,
    MetricNotFoundError,
    NotFoundError,
    RunNotFoundError,
)
from wanllmdb.types import RunRecord, VersionRecord

SHOWN_RUNS = 50
"""Runs of a list that a notebook shows."""

DEFAULT_BUCKETS = 200
"""Buckets of bands, where none are asked for."""

RunChoice = str | StoredRun | Sequence[str | StoredRun] | None


class RunList(list[StoredRun]):
    """Runs; a notebook shows them as a table."""

    def _repr_html_(self) -> str:
        rows = [
            {
                "run": run.id, "name": run.name, "project": run.project,
                "state": run.state, "created": run.created_at, "last step":
                run.last_step, "tags": ", ".join(run.tags),
            }
            for run in self[:SHOWN_RUNS]
        ]  # fmt: skip
        columns = ["run", "name", "project", "state", "created", "last step", "tags"]
        return html_table(columns, rows, len(self))


class Api:
    """Reads a Store, also while runs are written to it.

    Args:
        store: Its directory; default by the rules in docs/guide.md.

    Raises:
        StoreUnavailableError: there is no Store.
    """

    def __init__(self, store: str | os.PathLike[str] | None = None, **_: Any) -> None:
        self.store = Store(_settings.find_store(store), create=False)
        _first_use.attach(self.store)

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
        return RunList(StoredRun(self.store, record) for record in found)

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

    @operation("read metrics")
    def metrics(
        self,
        keys: str | Sequence[str],
        runs: RunChoice = None,
        *,
        project: str | None = None,
        x: str = "step",
        buckets: int | None = None,
        how: str = "minmax",
        smooth: float = 0.0,
        by: str | None = None,
    ) -> Result:
        """Numbers of metrics over one or many runs, whole or reduced.

        Args:
            keys: The metrics.
            runs: Runs, or what selects them; default all that logged one of the keys.
            project: Only this project's.
            x: ``step``, ``time`` (seconds since 1970), ``relative`` (seconds since
                the run's start), or a metric logged in the same rows.
            buckets: Reduce to at most so many stretches of x, the same for all runs;
                default every value.
            how: What a bucket says: ``minmax`` (min, max, mean), ``mean`` or ``last``.
            smooth: Add a column `smooth`, an average that follows the values; the
                weight of what was before, 0 (none) to less than 1.
            by: Bands over the runs of a group instead of runs: ``group``, ``name``,
                ``state``, ``job_type``, ``project``, ``config.KEY`` or
                ``summary.KEY``. Each run counts once in each bucket.

        Returns:
            Without buckets: run, project, key, x, value. With: run, project, key, x
            (where the bucket begins), count, nans and what `how` says. With `by`:
            group, key, x, runs, mean, min, max, std.

        Raises:
            MetricNotFoundError: no run logged any of the keys, or `x`.
            InvalidInputError: an argument makes no sense.
        """
        names = [keys] if isinstance(keys, str) else [*keys]
        names = [_values.config_key(name) for name in names]
        _reductions.check(x, buckets, how, smooth)
        chosen = self._chosen(runs, project, names)
        if x not in _reductions.AXES:
            x = _values.config_key(x)
            self._check_logged(chosen, [x])
        pks = [run.record.pk for run in chosen]
        with _reductions.Reducer(self.store, names, pks, x) as reducer:
            if by is not None:
                groups = {(run.project, run.id): _group_of(run, by) for run in chosen}
                return Result(reducer.bands(buckets or DEFAULT_BUCKETS, groups))
            if buckets is None:
                table = reducer.values()
            else:
                table = reducer.buckets(buckets, how)
        if smooth:
            column = "value" if "value" in table.column_names else "mean"
            table = _reductions.smoothed(table, smooth, column)
        return Result(table)

    @operation("read statistics")
    def statistics(
        self,
        keys: str | Sequence[str],
        runs: RunChoice = None,
        *,
        project: str | None = None,
    ) -> Result:
        """Of each run and metric: count, nans, mean, std, min, p05, median, p95, max.

        Raises:
            MetricNotFoundError: no run logged any of the keys.
        """
        names = [keys] if isinstance(keys, str) else [*keys]
        names = [_values.config_key(name) for name in names]
        pks = [run.record.pk for run in self._chosen(runs, project, names)]
        with _reductions.Reducer(self.store, names, pks, "step") as reducer:
            return Result(reducer.statistics())

    def _chosen(
        self, given: RunChoice, project: str | None, keys: Sequence[str]
    ) -> list[StoredRun]:
        if given is None:
            reader = self.store.catalog.reader
            live = runs.find_many(reader, project=project, condition="state = running")
            pks = {*values.runs_with(reader, keys, project), *(r.pk for r in live)}
            found = [StoredRun(self.store, runs.read(reader, pk)) for pk in sorted(pks)]
        else:
            one = [given] if isinstance(given, (str, StoredRun)) else given
            found = [r if isinstance(r, StoredRun) else self.run(r) for r in one]
        self._check_logged(found, keys)
        return found

    def _check_logged(self, found: Sequence[StoredRun], keys: Sequence[str]) -> None:
        if not any(_has_logged(run, keys) for run in found):
            who = f"Run {found[0].path} never" if len(found) == 1 else "No run"
            raise MetricNotFoundError(
                f"{who} logged {', '.join(map(repr, keys))}.",
                hint="`wanllmdb metric ls RUN` shows what a run logged.",
                key=keys[0] if keys else "",
            )

    @operation("read artifact")
    def artifact(self, name: str, type: str | None = None) -> Artifact:
        """One version of an artifact.

        Args:
            name: ``[project/]name[:alias|:vN|:@digest]``; without a suffix the newest.
                Without a project: the only one that has such an artifact.
            type: Refuse another type than this.

        Raises:
            ArtifactNotFoundError: there is none of that name.
            VersionNotFoundError: it has no such version.
            AmbiguousNameError: several projects have one of that name.
            InvalidInputError: it is of another type.
        """
        return _artifacts.find(self.store, name, None, type)

    @operation("list artifacts")
    def artifacts(
        self,
        /,
        type_name: str | None = None,
        name: str | None = None,
        *,
        project: str | None = None,
        **_: Any,
    ) -> list[Artifact]:
        """The versions of an artifact, newest first; or the newest of each artifact.

        Args:
            type_name: Only of this type.
            name: ``[project/]name``; None for all artifacts, by project and name.
            project: Only this project's, where no name is given.

        Raises:
            ArtifactNotFoundError: there is none of that name.
        """
        if name is None:
            return _artifacts.newest(self.store, project, type_name)
        found = _artifacts.versions(self.store, name, project)
        return [a for a in found if type_name in (None, a.type)]

    def artifact_versions(
        self, type_name: str | None, name: str, **_: Any
    ) -> list[Artifact]:
        """The versions of an artifact, newest first; as `artifacts`."""
        return self.artifacts(type_name, name)

    def artifact_exists(self, name: str, type: str | None = None) -> bool:
        """Whether there is such a version; the name is as in `artifact`."""
        try:
            return self.artifact(name, type) is not None
        except (NotFoundError, InvalidInputError):
            return False

    @operation("list trash")
    def trashed_versions(self) -> list[VersionRecord]:
        """The artifacts' versions in the trash, the last one first."""
        return artifacts.trash(self.store.catalog.reader)

    def restore_version(self, path: str) -> Artifact:
        """Bring a version back from the trash, with the aliases that it had.

        Args:
            path: ``[project/]name:vN``.

        Raises:
            VersionNotFoundError: it is not in the trash.
            AliasConflictError: one of its aliases names another version by now.
        """
        return _artifacts.restored(self.store, path)

    def purge_version(self, version: VersionRecord) -> None:
        """Remove a version that is in the trash for good.

        Raises:
            VersionInUseError: a model links to it.
            StateError: it is not in the trash.
        """
        _versions.purge(self.store, version)

    @operation("rank runs")
    def leaderboard(
        self,
        key: str,
        how: str = "best",
        *,
        project: str | None = None,
        goal: str | None = None,
        limit: int | None = None,
    ) -> Result:
        """Runs by what one metric came to, the best first; no rows are read.

        Args:
            key: The metric.
            how: What counts: ``best`` (min or max, by the goal), ``last``, ``min``,
                ``max`` or ``mean``.
            project: Only this project's runs.
            goal: ``minimize`` or ``maximize``; default what `define_metric` said of
                the key in the newest run that says it, else ``minimize``.
            limit: At most so many.

        Returns:
            rank, run, project, name, state, value, step (of the last value), count.

        Raises:
            InvalidInputError: `how` or `goal` is unknown.
        """
        import pyarrow as pa

        rows = _ranking.ranked(
            self.store, _values.config_key(key), how, project, goal, limit
        )
        return Result(pa.Table.from_pylist(rows, _ranking.schema()))

    @operation("compare runs")
    def diff(
        self, runs: Sequence[str | StoredRun], *, same: bool = False
    ) -> list[dict[str, Any]]:
        """Where config and summary of runs differ.

        Args:
            runs: Two or more.
            same: Include what is equal.

        Returns:
            One dict per key: `key` (``config.lr``), then each run's value by its id,
            or by its path where ids are equal, or one is ``key``; None where a run
            lacks it.
        """
        found = [r if isinstance(r, StoredRun) else self.run(r) for r in runs]
        ids = [run.id for run in found]
        names = ids if len({*ids, "key"}) > len(ids) else [run.path for run in found]
        rows = []
        for scope in ("config", "summary"):
            held = [dict(_flat(getattr(run, scope))) for run in found]
            for key in dict.fromkeys(key for item in held for key in item):
                cells = [item.get(key) for item in held]
                equal = len({repr(cell) for cell in cells}) == 1
                if key.startswith("_") or (equal and not same):
                    continue
                row = dict(zip(names, cells, strict=True))
                rows.append({"key": f"{scope}.{key}", **row})
        return rows

    @operation("query")
    def query(
        self,
        sql: str,
        params: Mapping[str, Any] | Sequence[Any] | None = None,
        *,
        project: str | Sequence[str] | None = None,
        external: bool = False,
    ) -> Result:
        """The rows of a SQL query over the Store; docs/sql.md has the tables.

        The query is locked in: it is one SELECT that reads the Store and nothing else,
        neither files nor the network nor variables of this program.

        Args:
            sql: One SELECT.
            params: Values for ``?`` (a sequence) or ``$name`` (a mapping).
            project: See only this project, or these.
            external: Lift the lock: files, extensions, the network, any statement.

        Raises:
            QueryError: it is no single SELECT, it is wrong, or it needs `external`.
            CorruptPartError: a sealed part that it reads is damaged.
        """
        recover_dead(self.store)
        some = [project] if isinstance(project, str) else project
        for name in some or ():
            projects.get(self.store.catalog.reader, name)
        table = _sql.run_query(
            self.store, sql, params, projects=some, external=external
        )
        return Result(table)

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
        _projects.rename(self.store, old, new)

    def delete_project(self, name: str, *, delete_artifacts: bool = False) -> None:
        """Move a project, its runs and its artifacts to the trash.

        Args:
            name: The project's name.
            delete_artifacts: Also where it has artifacts.

        Raises:
            ProjectNotFoundError: there is none.
            RunActiveError: one of its runs is being written.
            ConflictError: it has artifacts, and `delete_artifacts` is not given.
            VersionInUseError: a model links to a version of it, or a run of another
                project reads one. They are named, and nothing was moved.
        """
        _projects.delete(self.store, name, delete_artifacts=delete_artifacts)

    @operation("list versions")
    def project_versions(self, name: str) -> list[VersionRecord]:
        """The versions of a project's artifacts, by name and number."""
        return artifacts.of_project(self.store.catalog.reader, name)

    def restore_project(self, name: str) -> None:
        """Bring a project back with all that went to the trash with it.

        Raises:
            ProjectNotFoundError: there is none of that name, in the trash or not.
            StateError: nothing that went with it is in the trash.
            AliasConflictError: an alias of a version names another one by now.
        """
        _projects.restore(self.store, name)

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


def _has_logged(run: StoredRun, keys: Sequence[str]) -> bool:
    """Whether a run logged one of the keys; of a live run only its log is sure."""
    if any(key in run.keys for key in keys):
        return True
    if run.state != "running":
        return False
    return bool(run.store.logs.scan(run.record, keys).keys)


def _flat(value: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [*_relations.flattened(value)]


def _group_of(run: StoredRun, by: str) -> str:
    """The value that a run is grouped by, as text."""
    scope, _, key = by.partition(".")
    if scope in ("config", "summary") and key:
        held = dict(_flat(getattr(run, scope)))
        return str(held.get(key))
    if by not in ("group", "name", "state", "job_type", "project"):
        raise InvalidInputError(
            f"Runs cannot be grouped by {by!r}.",
            hint="Use group, name, state, job_type, project, config.KEY, summary.KEY.",
        )
    return str(getattr(run, by))


def query(
    sql: str,
    params: Mapping[str, Any] | Sequence[Any] | None = None,
    store: str | os.PathLike[str] | None = None,
    external: bool = False,
) -> Result:
    """The rows of a SQL query over a Store; see `Api.query`.

    Args:
        sql: One SELECT; docs/sql.md has the tables.
        params: Values for ``?`` (a sequence) or ``$name`` (a mapping).
        store: The Store's directory; default by the rules in docs/guide.md.
        external: Lift the lock: files, extensions, the network, any statement.

    Raises:
        StoreUnavailableError: there is no Store.
        QueryError: it is no single SELECT, it is wrong, or it needs `external`.
    """
    with Api(store) as api:
        return api.query(sql, params, external=external)
