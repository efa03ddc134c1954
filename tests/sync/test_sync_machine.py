"""Three laptops and a remote, in any order of work, syncs and kills: they converge."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from caring import collected
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from laptops import DAY, Killed, Laptop, check_equal, kept_out, killing

import wanllmdb
from wanllmdb._rowsets import streams_of
from wanllmdb._sync import claims
from wanllmdb.errors import WanllmdbError
from wanllmdb.types import Kind

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("WANLLMDB_TEST_SYNCS", "25"))
LAPTOPS = st.integers(0, 2)
IDS = st.sampled_from(["r0", "r1"])
ALIASES = st.sampled_from(["x", "y"])
PICKS = st.integers(0, 9)


class SyncMachine(RuleBasedStateMachine):
    """Every row holds a number of its own, so that none can be lost unseen."""

    @initialize()
    def begin(self) -> None:
        self.place = Path(tempfile.mkdtemp(dir=_memory()))
        (self.place / "remote").mkdir()
        self.patches = [
            mock.patch.object(claims, "ABANDONED_US", 0),
            mock.patch("wanllmdb._sync.peer.probe", return_value=True),
        ]
        for patch in self.patches:
            patch.start()
        self.laptops = [
            Laptop(self.place / name, r=str(self.place / "remote")) for name in "abc"
        ]
        self.live: dict[int, wanllmdb.Run] = {}
        self.logged: dict[int, str] = {}
        self.contents: set[str] = set()
        self.purged: set[str] = set()
        for laptop in self.laptops:
            laptop.run(f"own-{laptop.store.name}", 0)

    def log_to(self, run: Any, rows: int) -> None:
        for _ in range(rows):
            number = len(self.logged)
            self.logged[number] = run._record.uid
            run.log({"number": number})

    # Runs

    @rule(at=LAPTOPS, id=IDS, rows=st.integers(0, 3), again=st.booleans(),
          stays=st.booleans(), tag=st.sampled_from(["s", "t"]))  # fmt: skip
    def run(self, at, id, rows, again, stays, tag):
        """A run, new or gone on with or begun anew; it may stay open."""
        live = self.live.get(at)
        if live is not None:
            return
        how = {"resume": "allow"} if again else {}
        run = self.laptops[at].begin(id=id, tags=[tag], config={"c": rows}, **how)
        self.log_to(run, rows)
        if stays:
            self.live[at] = run
        else:
            run.finish()

    @precondition(lambda self: self.live)
    @rule(pick=PICKS, rows=st.integers(1, 3), ends=st.booleans())
    def go_on(self, pick, rows, ends):
        """A run that is open logs more."""
        at = sorted(self.live)[pick % len(self.live)]
        self.log_to(self.live[at], rows)
        if ends:
            self.live.pop(at).finish()

    def of_a_run(
        self, at: int, pick: int, do: Callable[[Any, Any], Any], **how: Any
    ) -> None:
        """Do something to a run that is not open; refusals are none of ours."""
        busy = {run._record.uid for run in self.live.values()}
        with self.laptops[at].api() as api:
            found = [r for r in api.runs(**how) if r.record.uid not in busy]
            if found:
                with suppress(WanllmdbError):
                    do(api, found[pick % len(found)])

    @rule(at=LAPTOPS, pick=PICKS, value=st.integers(0, 3),
          field=st.sampled_from(["name", "notes", "group", "config"]))  # fmt: skip
    def edit(self, at, pick, value, field):
        """A field of a run is changed."""
        new: Any = {"c": value} if field == "config" else f"{field} {value}"
        self.of_a_run(at, pick, lambda api, run: run.update(**{field: new}))

    @rule(
        at=LAPTOPS, pick=PICKS, tag=st.sampled_from(["s", "t", "u"]), on=st.booleans()
    )
    def tag(self, at, pick, tag, on):
        """A tag comes or goes."""
        self.of_a_run(
            at, pick,
            lambda api, run: run.add_tags([tag]) if on else run.remove_tags([tag]),
        )  # fmt: skip

    @rule(at=LAPTOPS, pick=PICKS)
    def delete(self, at, pick):
        """A run goes to the trash."""
        self.of_a_run(at, pick, lambda api, run: run.delete())

    @rule(at=LAPTOPS, pick=PICKS, good=st.booleans())
    def out_of_the_trash(self, at, pick, good):
        """A run comes back, or goes for good."""

        def purge(api: Any, run: Any) -> None:
            api.purge(run)
            self.purged.add(run.record.uid)

        if good:
            self.of_a_run(at, pick, lambda api, run: run.restore(), deleted=True)
        else:
            self.of_a_run(at, pick, purge, deleted=True)

    # Versions

    @rule(at=LAPTOPS, content=st.sampled_from(["one", "two", "three"]),
          alias=st.none() | ALIASES)  # fmt: skip
    def commit(self, at, content, alias):
        """A version, of content that another laptop may have committed, too."""
        laptop = self.laptops[at]
        laptop.commit(
            content, aliases=[alias] if alias else [],
            id=f"own-{laptop.store.name}", resume="allow",
        )  # fmt: skip
        self.contents.add(content)

    def of_a_version(self, at: int, pick: int, do: Callable[[Any], Any]) -> None:
        with self.laptops[at].api() as api:
            if not api.artifact_exists("p/data"):
                return
            found = list(api.artifact_versions("dataset", "p/data"))
            with suppress(WanllmdbError):
                do(found[pick % len(found)])

    @rule(at=LAPTOPS, pick=PICKS, alias=ALIASES, on=st.booleans())
    def alias(self, at, pick, alias, on):
        """An alias is moved or removed."""
        self.of_a_version(
            at, pick,
            lambda each: each.add_alias(alias) if on else each.remove_alias(alias),
        )  # fmt: skip

    @rule(at=LAPTOPS, pick=PICKS, value=st.integers(0, 3))
    def describe(self, at, pick, value):
        """Metadata of a version change."""

        def do(version: Any) -> None:
            version.metadata = {"m": value}
            version.save()

        self.of_a_version(at, pick, do)

    @rule(at=LAPTOPS, pick=PICKS, good=st.booleans())
    def trash(self, at, pick, good):
        """A version goes to the trash, with its aliases, or comes out of it."""
        if not good:
            self.of_a_version(at, pick, lambda each: each.delete(delete_aliases=True))
            return
        with self.laptops[at].api() as api:
            for version in api.trashed_versions():
                with suppress(WanllmdbError):
                    api.restore_version(f"p/data:v{version.number}")

    @rule(at=LAPTOPS, pick=PICKS)
    def link(self, at, pick):
        """A model gets a version."""
        laptop = self.laptops[at]
        self.of_a_version(
            at, pick, lambda each: wanllmdb.ModelRegistry(laptop.store).link(each, "m")
        )

    @rule(at=LAPTOPS, number=st.integers(1, 3),
          stage=st.sampled_from(["staging", "production", "archived"]))  # fmt: skip
    def stage(self, at, number, stage):
        """A model's version moves on."""
        if (self.laptops[at].store / "FORMAT").exists():
            try:
                registry = wanllmdb.ModelRegistry(self.laptops[at].store)
                registry.transition_stage("m", number, stage)
            except WanllmdbError:
                pass

    # Syncs

    @rule(at=LAPTOPS, direction=st.sampled_from(["both", "both", "push", "pull"]))
    def sync(self, at, direction):
        """A laptop syncs."""
        self.laptops[at].sync(direction=direction)

    @rule(at=LAPTOPS, call=st.integers(2, 14), after=st.booleans())
    def killed_sync(self, at, call, after):
        """A sync is cut off at some call, before or after that took effect."""
        with killing(call, after=after):
            try:
                self.laptops[at].sync()
            except Killed:
                pass

    @rule(at=LAPTOPS)
    def gc(self, at):
        """What nothing needs is condemned; what was condemned before, is deleted."""
        self.laptops[at].sync(direction="pull")  # so that there is a remote
        collected(self.laptops[at], dry_run=False, grace_days=0)

    @rule(at=LAPTOPS, ahead=st.sampled_from([60_000_000, 500_000_000, 3 * DAY]))
    def clock(self, at, ahead):
        """A clock is wrong for a while."""
        self.laptops[at].shift_clock(ahead)

    def teardown(self) -> None:
        """All get quiet, and hold the same; nothing is lost, nothing told twice."""
        try:
            for run in self.live.values():
                run.finish()
            self.check()
        finally:
            for patch in self.patches:
                patch.stop()
            wanllmdb.teardown()
            shutil.rmtree(self.place)

    def check(self) -> None:
        for _ in range(4):
            for laptop in self.laptops:
                laptop.sync()
        for laptop in self.laptops:
            report = laptop.sync()
            assert not report.failed, report
            assert not report.objects_written, report
            assert not report.pulled, report
        check_equal(*self.laptops, without=kept_out(*self.laptops), views=False)
        for laptop in self.laptops:
            self.check_rows(laptop)
            with laptop.opened() as store:
                found = store.catalog.reader.execute(
                    "SELECT count(DISTINCT digest) FROM version"
                ).fetchone()[0]
            assert found == len(self.contents)
            told = [line for line in laptop.notices if line.startswith("Two laptops")]
            assert len(told) == len(set(told)), told
            self.check_aliases(laptop)

    def check_rows(self, laptop: Laptop) -> None:
        wanted = {n for n, uid in self.logged.items() if uid not in self.purged}
        with laptop.api() as api:
            found = [
                number for deleted in (False, True)
                for run in api.runs(deleted=deleted) for number in _numbers(run)
            ]  # fmt: skip
        assert len(found) == len(set(found)), sorted(found)
        assert wanted <= set(found), wanted - set(found)

    def check_aliases(self, laptop: Laptop) -> None:
        """Each alias has one holder at the remote, and it is the one here."""
        with laptop.opened() as store:
            reader = store.catalog.reader
            known = reader.execute(
                "SELECT artifact, alias_key, target FROM sync_alias"
                " WHERE target IS NOT NULL"
            ).fetchall()
            here = reader.execute(
                "SELECT artifact.uid, alias_key, version.uid FROM alias"
                " JOIN version ON version.id = version_id"
                " JOIN artifact ON artifact.id = alias.artifact_id"
                " WHERE alias_key NOT LIKE '%@%'"
            ).fetchall()
        assert sorted(map(tuple, known)) == sorted(map(tuple, here))


def _numbers(run: Any) -> list[int]:
    """What the rows of a run hold, those of superseded attempts, too."""
    sets = run.store.logs.read(
        lambda view: [
            list(items)
            for kind, _, items in streams_of(view, run.store.logs, run.record)
            if kind == Kind.METRICS
        ]
    )
    return [
        int(value) for items in sets for stretch in items for block in stretch.blocks
        for cells in block.cells if cells.key == "number" for value in cells.values
    ]  # fmt: skip


def _memory() -> str | None:
    """Where a flush costs nothing: a sync does many, and none is tested here."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


class TestSyncMachine(SyncMachine.TestCase):  # type: ignore[name-defined]
    settings = settings(
        derandomize=EXAMPLES == 25, max_examples=EXAMPLES, stateful_step_count=25,
        deadline=None, suppress_health_check=list(HealthCheck), print_blob=True,
    )  # fmt: skip
