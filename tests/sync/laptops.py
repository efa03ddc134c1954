"""Laptops: Stores that sync by one remote, and what must be equal in all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import wanllmdb
from wanllmdb import _clock, _sync
from wanllmdb._catalog import documents, remotes
from wanllmdb._catalog.connection import Database
from wanllmdb._remotes.address import Address, open_remote
from wanllmdb._remotes.port import Remote
from wanllmdb._store import Store
from wanllmdb._sync.peer import add_remote
from wanllmdb.types import Location, SyncReport

HOUR = 3_600_000_000
DAY = 24 * HOUR


TABLES = {
    "runs": "* EXCLUDE (config, summary)", "metrics": "*", "metrics_all": "*",
    "artifacts": "*", "aliases": "* EXCLUDE (moved_at)", "lineage": "*",
    "models": "*", "logs": "*", "system": "*",
}  # fmt: skip
"""SQL views, and what of them must be the same."""


class Laptop:
    """A Store, and the remotes that it syncs with.

    Args:
        store: Its directory; made at the first use.
        remotes: Where its remotes are, by name; the first is meant by default.
    """

    def __init__(self, store: Path, **remotes: str) -> None:
        self.store = store
        self.remotes = remotes
        self.notices: list[str] = []

    @contextmanager
    def opened(self) -> Iterator[Store]:
        with Store(Location(self.store, "a test")) as store:
            yield store

    @contextmanager
    def api(self) -> Iterator[wanllmdb.Api]:
        with self.opened(), wanllmdb.Api(self.store) as api:
            yield api

    @contextmanager
    def written(self) -> Iterator[Any]:
        """A transaction of the Catalog."""
        with self.opened() as store, store.catalog.transaction(durable=True) as found:
            yield found

    def sync(self, remote: str | None = None, **how: Any) -> SyncReport:
        name = remote or next(iter(self.remotes))
        with self.opened() as store:
            known = {each.name: each for each in remotes.listed(store.catalog.reader)}
            if name not in known:
                known[name] = add_remote(store, name, Address(self.remotes[name]))
            report = _sync.sync(store, known[name], **how)
        self.notices += report.notices
        return report

    def push(self, **how: Any) -> SyncReport:
        return self.sync(direction="push", **how)

    def pull(self, **how: Any) -> SyncReport:
        return self.sync(direction="pull", **how)

    # What people do

    def begin(self, **how: Any) -> wanllmdb.Run:
        how = {"project": "p", "reinit": "create_new", **how}
        return wanllmdb.init(store=self.store, **how)

    def run(self, id: str, rows: int | list[dict[str, Any]] = 2, **how: Any) -> None:
        """A run from its beginning to its end."""
        run = self.begin(id=id, **how)
        if isinstance(rows, int):
            rows = [{"loss": 1 / (n + 1), "n": n} for n in range(rows)]
        for row in rows:
            run.log(row)
        run.finish()

    def commit(
        self, content: str, name: str = "data", aliases: Any = (), **how: Any
    ) -> str:
        """Commit a version; its number, as ``v3``."""
        run = self.begin(**how)
        draft = wanllmdb.Artifact(name, type="dataset")
        with draft.new_file("data.txt") as file:
            file.write(content)
        done = run.log_artifact(draft, aliases=list(aliases))
        run.finish()
        return done.version

    def move(self, alias: str, version: str, name: str = "data", p: str = "p") -> None:
        with self.api() as api:
            api.artifact(f"{p}/{name}:{version}").add_alias(alias)

    def update(self, run: str, **changes: Any) -> None:
        with self.api() as api:
            api.run(run).update(**changes)

    def delete(self, run: str) -> None:
        with self.api() as api:
            api.run(run).delete()

    def purge(self, run: str) -> None:
        self.delete(run)
        with self.api() as api:
            api.purge(api.run(run, deleted=True))

    def shift_clock(self, us: int) -> None:
        """Let its clock run ahead, or have been set back since."""
        with self.written() as connection:
            connection.execute(
                "UPDATE meta SET value = ? WHERE key = 'hlc'",
                (str(_clock.now_us() + us),),
            )

    # What is looked at

    @property
    def device(self) -> str:
        with self.opened() as store:
            return remotes.device(store.catalog.reader)

    @property
    def mark(self) -> str:
        """What stands behind the @ in names of what this laptop lost."""
        return f"@{self.device[-6:]}"

    @property
    def conflicts(self) -> list[remotes.Conflict]:
        with self.opened() as store:
            return remotes.conflicts(store.catalog.reader)

    @property
    def runs(self) -> dict[str, Any]:
        """The rows of every run that is not in the trash, by project and id."""
        with self.api() as api:
            return {run.path: plain_rows(run) for run in api.runs(limit=None)}

    @property
    def versions(self) -> dict[str, str]:
        """What the versions hold, by name and number."""
        with self.opened() as store:
            rows = store.catalog.reader.execute(
                "SELECT artifact.name || ':v' || number, digest FROM version"
                " JOIN artifact ON artifact.id = artifact_id WHERE deleted_us IS NULL"
            )
            return dict(map(tuple, rows))

    @property
    def aliases(self) -> dict[str, str]:
        """The version that each alias names, by artifact and alias."""
        with self.opened() as store:
            return aliases_of(store)

    def contents(self, **how: Any) -> dict[str, Any]:
        """All that must be the same on every laptop."""
        with self.api() as api:
            return contents(api, **how)


class Killed(BaseException):
    """Stands for the end of the process: nothing catches it."""


class Countdown:
    """Kills at the n-th thing that a sync does: a call of a remote, or a transaction.

    Args:
        left: Which, from 1 on.
        after: Whether that still takes effect.
    """

    def __init__(self, left: int, *, after: bool) -> None:
        self.left = left
        self.after = after

    @contextmanager
    def around(self) -> Iterator[None]:
        self.left -= 1
        last = self.left == 0
        if last and not self.after:
            raise Killed
        try:
            yield
        finally:
            if last:
                raise Killed


class Killing:
    """A Remote with a countdown."""

    VERBS = ("get", "download", "put", "upload", "create", "iter_keys", "delete")

    def __init__(self, remote: Remote, countdown: Countdown) -> None:
        self._remote = remote
        self._countdown = countdown

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._remote, name)
        return partial(self._call, found) if name in self.VERBS else found

    def _call(self, verb: Callable[..., Any], *args: Any) -> Any:
        with self._countdown.around():
            return verb(*args)


@contextmanager
def killing(point: int, *, after: bool = False) -> Iterator[None]:
    """Let a sync die at the n-th thing that it does."""
    countdown = Countdown(point, after=after)
    real = Database.transaction

    def opened(address: Address) -> Any:
        return Killing(open_remote(address), countdown)

    @contextmanager
    def transaction(self: Database, **how: Any) -> Iterator[Any]:
        with countdown.around(), real(self, **how) as connection:
            yield connection

    with (
        mock.patch("wanllmdb._sync.peer.open_remote", opened),
        mock.patch.object(Database, "transaction", transaction),
    ):
        yield


def plain_rows(run: Any) -> list[dict[str, Any]]:
    """A run's history, without what the Store adds."""
    return [
        {k: v for k, v in row.items() if not k.startswith("_")}
        for row in run.scan_history()
    ]


def aliases_of(store: Store) -> dict[str, str]:
    rows = store.catalog.reader.execute(
        "SELECT artifact.name || ':' || alias, 'v' || number FROM alias"
        " JOIN version ON version.id = version_id"
        " JOIN artifact ON artifact.id = alias.artifact_id"
    )
    return dict(map(tuple, rows))


def contents(
    api: wanllmdb.Api, without: Set[str] = frozenset(), *, views: bool = True
) -> dict[str, Any]:
    """All that must be the same on every laptop, by what it is of.

    Kept aliases (``alias@device``) are of one laptop; so are the events of what a
    merge did.

    Args:
        api: The laptop's.
        without: Uids of runs that one laptop removed for good: elsewhere they are in
            the trash, or were gone on with.
        views: Look at what SQL shows, too.
    """
    store = api.store
    found: dict[str, Any] = {
        f"document {entity} {uid}": document
        for entity, uid, document in _documents(store)
        if uid not in without
    }
    found["aliases"] = {
        name: version for name, version in aliases_of(store).items() if "@" not in name
    }
    for run in [*api.runs(limit=None), *api.runs(limit=None, deleted=True)]:
        if run.record.uid in without:
            continue
        found |= {f"run {run.path} {name}": value for name, value in _said(run)}
    for table, columns in TABLES.items() if views else ():
        rows = api.query(f"SELECT {columns} FROM {table}").fetchall()
        found[f"sql {table}"] = sorted(
            repr(row) for row in rows if "@" not in repr(row)
        )
    return found


def _said(run: Any) -> Iterator[tuple[str, Any]]:
    for name in (
        "name", "notes", "group", "job_type", "state", "config", "summary", "keys",
        "definitions", "last_step", "environment", "epochs", "alerts",
    ):  # fmt: skip
        yield name, _plain(getattr(run, name))
    yield "tags", sorted(run.tags)
    yield "history", [_plain(row) for row in run.scan_history()]
    yield "logs", [repr(line) for line in run.logs()]
    yield "system", [repr(row) for row in run.system.fetchall()]
    yield "files", sorted((each.name, each.size, each.digest) for each in run.files())
    yield "made", sorted(each.name for each in run.logged_artifacts())
    yield "used", sorted(each.name for each in run.used_artifacts())


def _plain(value: Any) -> str:
    """A text by which values can be compared: NaN is NaN, and order is none."""
    if isinstance(value, dict):
        return repr(sorted((key, _plain(item)) for key, item in value.items()))
    return repr(value)


def _documents(store: Store) -> Iterator[tuple[str, str, str]]:
    reader = documents.Reader(store.catalog.reader, store.data, "", lambda uid: {})
    for entity in documents.ENTITIES:
        table = "model" if entity == "model_aliases" else entity
        rows = store.catalog.reader.execute(f"SELECT uid FROM {table} ORDER BY uid")
        for (uid,) in rows.fetchall():
            document = documents.read(reader, entity, uid)
            if document is not None:
                yield entity, uid, documents.text_of(document)


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """The first things that two laptops differ in."""
    names = [n for n in sorted({*one, *other}) if one.get(n) != other.get(n)]
    return "\n".join(
        f"{name}:\n  {_shown(one, other, name)}\n  {_shown(other, one, name)}"
        for name in names[:5]
    )


def _shown(one: Mapping[str, Any], other: Mapping[str, Any], name: str) -> str:
    text, beside = str(one.get(name, "-")), str(other.get(name, "-"))
    pairs = enumerate(zip(text, beside, strict=False))
    first = next((place for place, (x, y) in pairs if x != y), 0)
    return text[max(0, first - 200) : first + 300]


def kept_out(*laptops: Laptop) -> set[str]:
    """Uids of what some laptop removed for good."""
    found = set()
    for laptop in laptops:
        with laptop.opened() as store:
            rows = store.catalog.reader.execute("SELECT uid FROM gone")
            found |= {row[0] for row in rows}
    return found


def check_equal(*laptops: Laptop, **how: Any) -> None:
    """Every laptop holds the same."""
    first, *others = [laptop.contents(**how) for laptop in laptops]
    for other in others:
        assert first == other, differences(first, other)


def quieten(*laptops: Laptop, rounds: int = 3) -> list[SyncReport]:
    """Everybody syncs until nobody has anything to tell; the reports of all that."""
    reports = [each.sync() for _ in range(rounds) for each in laptops]
    for laptop in laptops:
        last = laptop.sync()
        assert last.objects_written == 0, (laptop.store, last)
        assert not last.pulled, (laptop.store, last)
    return reports
