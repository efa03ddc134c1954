"""What is removed when, and what is not: fences, times of grace, files, purges."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import wanllmdb
from wanllmdb import _clock, _ids, _recovery, _upkeep
from wanllmdb._catalog import runs
from wanllmdb._catalog import sealed as catalog
from wanllmdb.cli import cli
from wanllmdb.types import Kind

LIVING = """
import os, sys, wanllmdb
run = wanllmdb.init(project="p", id="r", store=sys.argv[1])
for step in range(int(sys.argv[2])):
    run.log({"x": step, "y": step / 3})
print(os.path.dirname(run.dir), flush=True)
for line in sys.stdin:
    for step in range(run.step, run.step + int(line)):
        run.log({"x": step, "y": step / 3})
    print("logged", flush=True)
"""
"""A writer that logs so many rows, and then more for each line that it reads."""

DAY, MINUTE = 86_400, 60


@pytest.fixture
def later(monkeypatch):
    """Sets the clock of this process ahead by so many seconds."""
    begun = _clock.now_us()

    def set_ahead(seconds):
        monkeypatch.setattr(_clock, "now_us", lambda: begun + int(seconds * 1e6))

    return set_ahead


@pytest.fixture
def living(bench):
    """A writer whose lock seems free, as on a network disk that does not lock."""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", LIVING, str(bench.store), "10"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ,
    )  # fmt: skip
    assert process.stdout is not None
    process.directory = Path(process.stdout.readline().strip())
    for path in process.directory.glob("*.lock"):
        path.unlink()

    def log(rows):
        process.stdin.write(f"{rows}\n")
        process.stdin.flush()
        assert process.stdout.readline() == "logged\n"

    process.log = log
    yield process
    process.kill()
    process.communicate()


def steps(store):
    with wanllmdb.Api(store) as api:
        return [row["x"] for row in api.run("p/r").scan_history()]


def recover(store):
    with wanllmdb.Api(store) as api:
        _recovery.recover_dead(api.store)


@pytest.mark.parametrize("size", [0, 1 << 20], ids=["sealed", "inlined"])
def test_rows_after_the_fence_show_once(bench, living, size):
    """Called crashed and compacted while its writer lives, a run goes on."""
    for rows in (10, 13, 20):
        recover(bench.store)
        bench.compact(bench.store, INLINE_BYTES=size)
        assert steps(bench.store) == list(range(rows))
        with wanllmdb.Api(bench.store) as api:
            assert api.run("p/r").state == "crashed"
        if rows < 20:
            with wanllmdb.Api(bench.store) as api:
                record = api.run("p/r").record
                living.log({10: 3, 13: 7}[rows])
                assert _recovery.recheck_fence(api.store, record)
                assert runs.read(api.store.catalog.reader, record.pk).state == "running"
            assert steps(bench.store) == list(range({10: 13, 13: 20}[rows]))
    bench.check_sound(bench.store)


def test_the_log_of_a_dead_writer_stays_for_a_day(bench, living, later):
    """What grows within it is never lost; after it the directory goes."""
    recover(bench.store)
    bench.compact(bench.store, INLINE_BYTES=0)
    later(DAY - MINUTE)
    bench.compact(bench.store)
    assert list(living.directory.glob("*.wlog"))
    living.log(5)
    assert steps(bench.store) == list(range(15))
    later(DAY + MINUTE)
    bench.compact(bench.store, INLINE_BYTES=0)  # what grew is sealed; a new day begins
    assert list(living.directory.glob("*.wlog"))
    assert steps(bench.store) == list(range(15))
    later(2 * DAY + 2 * MINUTE)
    bench.compact(bench.store)
    assert not living.directory.exists()
    assert steps(bench.store) == list(range(15))


@pytest.mark.parametrize("size", [0, 1 << 20], ids=["sealed", "inlined"])
def test_the_log_of_a_finished_run_stays_for_a_minute(bench, later, size):
    """Readers that listed it a moment ago still find it."""
    with wanllmdb.init(project="p", id="r", store=bench.store) as run:
        run.log({"x": 0})
        directory = Path(run.dir).parent
        bench.release()
    bench.compact(bench.store, INLINE_BYTES=size)
    later(MINUTE - 5)
    bench.compact(bench.store)
    assert list(directory.glob("*.wlog"))
    later(MINUTE + 5)
    bench.compact(bench.store)
    assert not directory.exists()
    assert steps(bench.store) == [0]


def test_files_that_are_not_stored_are_never_removed(bench, later):
    """A file that came, or changed, after the end stays with its directory."""
    for name in "rs":
        with wanllmdb.init(project="p", id=name, store=bench.store) as run:
            run.log({"x": 0})
            directory = Path(run.dir)
            (directory / "kept.txt").write_text("first")
        if name == "r":
            (directory / "kept.txt").write_text("changed")
            left = directory
    later(2 * DAY)
    bench.compact(bench.store)
    assert (left / "kept.txt").read_text() == "changed"
    assert not directory.exists()


def test_parts_that_were_merged_away_stay_for_a_minute(bench, later):
    """`store compact` removes them at the first turn after that, and only then."""
    for name in "rs":
        run = bench.begin(id=name)
        run.log({"x": 1})
        run.finish()
    bench.release()
    bench.compact(bench.store, INLINE_BYTES=0, MERGED_BYTES=0)
    old = set(bench.store.glob("parts/*/*"))
    bench.compact(bench.store)
    assert len(set(bench.store.glob("parts/*/*"))) == len(old) + 1 == 3
    later(MINUTE - 5)
    bench.compact(bench.store)
    assert set(bench.store.glob("parts/*/*")) > old
    later(MINUTE + 5)
    assert "removed" in bench.compact(bench.store)[0]
    (left,) = set(bench.store.glob("parts/*/*"))
    assert left not in old


def test_compaction_comes_to_rest(bench):
    """Nothing new: `store compact` does nothing, however often it is asked."""
    for name in "rs":
        run = bench.begin(id=name)
        run.log({"x": 1, "list": [1, 2], "text": "t"})
        run.log_message("hello")
        run.finish()
    bench.release()
    bench.compact(bench.store, INLINE_BYTES=0)
    for _ in range(3):
        before = set(bench.store.glob("parts/*/*"))
        assert bench.compact(bench.store) == []
        assert set(bench.store.glob("parts/*/*")) == before


def test_a_purged_run_goes_with_the_next_merge(bench):
    """Its rows are in no file then; a part that was its alone goes at once."""
    for name in "rst":
        run = bench.begin(id=name)
        run.log({"x": 1.0, "secret": f"of {name}"})
        run.finish()
    bench.release()
    bench.compact(bench.store, INLINE_BYTES=0)
    with wanllmdb.Api(bench.store) as api:
        api.run("p/s").delete()
        api.purge(api.run("p/s", deleted=True))
    with wanllmdb.init(project="p", id="u", store=bench.store) as run:
        run.log({"x": 2.0})
    bench.let_time_pass(bench.store)
    bench.compact(bench.store, GROWTH=1 << 30)
    bench.let_time_pass(bench.store)
    bench.compact(bench.store)
    import pyarrow.parquet as pq

    held = [pq.read_table(path) for path in bench.store.glob("parts/*/*")]
    assert {t for table in held for t in table["_run"].to_pylist()} == {"r", "t", "u"}
    with wanllmdb.Api(bench.store) as api:
        for name in "rtu":
            api.run(f"p/{name}").delete()
            api.purge(api.run(f"p/{name}", deleted=True))
    bench.let_time_pass(bench.store)
    bench.compact(bench.store)
    assert not list(bench.store.glob("parts/*/*"))
    assert bench.sql(bench.store, "SELECT count(*) FROM part_run") == [(0,)]


def test_a_run_in_the_trash_survives_merges(bench):
    """Restored, it is what it was."""
    for name in "rs":
        run = bench.begin(id=name)
        run.log({"x": 1.5, "text": "t"})
        run.finish()
    wanted = bench.look(bench.store)
    bench.release()
    with wanllmdb.Api(bench.store) as api:
        api.run("p/r").delete()
    for _ in range(2):
        bench.compact(bench.store, INLINE_BYTES=0, GROWTH=1 << 30)
        bench.let_time_pass(bench.store)
        with wanllmdb.init(project="p", store=bench.store) as run:
            run.log({"x": 2})
    with wanllmdb.Api(bench.store) as api:
        api.run("p/r", deleted=True).restore()
    found = bench.look(bench.store)
    assert {name: found[name] for name in "rs"} == wanted


@pytest.mark.parametrize("size", [0, 1 << 20], ids=["sealed", "inlined"])
def test_a_purge_during_a_merge_is_harmless(bench, size, monkeypatch):
    """Purged after its rows were read, a run is not in the Catalog again."""
    from wanllmdb import _merging

    for name in "rst":
        run = bench.begin(id=name)
        run.log({"x": 1.5})
        run.finish()
    wanted = bench.look(bench.store)
    bench.release()
    bench.compact(bench.store, INLINE_BYTES=size, MERGED_BYTES=0)
    bench.sql(bench.store, "UPDATE part SET merged = 0")
    with wanllmdb.Api(bench.store) as api:
        put = _merging._put

        def purge_first(*args):
            if api.runs(deleted=True):
                api.purge(api.run("p/s", deleted=True))
            put(*args)

        api.run("p/s").delete()
        monkeypatch.setattr(_merging, "_put", purge_first)
        list(api.store.compact())
        list(api.store.compact())
    found = bench.look(bench.store)
    assert found == {name: wanted[name] for name in "rt"}
    bench.check_sound(bench.store)
    assert not bench.sql(bench.store, "PRAGMA foreign_key_check")


@pytest.mark.parametrize("size", [0, 1 << 20], ids=["sealed", "inlined"])
def test_a_run_that_goes_on_during_a_merge_keeps_every_row(bench, size, monkeypatch):
    """Resumed and ended after it was read, it runs again when the merge is done."""
    from wanllmdb import _compaction, _merging

    monkeypatch.setattr(_compaction, "INLINE_BYTES", size)
    monkeypatch.setattr(_compaction, "LEFT_BYTES", 0)

    def go_on(name):
        run = wanllmdb.init(project="p", id=name, resume="allow", store=bench.store)
        run.log({"x": run.step})
        return run

    for name in "rst":
        go_on(name).finish()
    put, live = _merging._put, []

    def go_on_first(*args):
        monkeypatch.setattr(_merging, "_put", put)
        go_on("s").finish()
        live.append(go_on("s"))
        put(*args)

    monkeypatch.setattr(_merging, "_put", go_on_first)
    with wanllmdb.Api(bench.store) as api:
        list(api.store.compact())
        for turn in range(2):
            assert [row["x"] for row in api.run("p/s").scan_history()] == [0, 1, 2]
            live[0].finish()
            assert turn or list(api.store.compact())
    bench.check_sound(bench.store)


@pytest.mark.parametrize("size", [0, 1 << 20], ids=["sealed", "inlined"])
def test_a_new_run_with_the_number_of_a_purged_one_keeps_its_rows(
    bench, size, monkeypatch
):
    """SQLite gives the greatest number again; who merges the old run sees that."""
    from wanllmdb import _compaction, _merging

    monkeypatch.setattr(_compaction, "INLINE_BYTES", size)
    monkeypatch.setattr(_compaction, "LEFT_BYTES", 0)

    def record(name, value):
        with wanllmdb.init(project="p", id=name, store=bench.store) as run:
            run.log({"x": value})
        return run

    for name in "rst":
        record(name, 1.5)
    put = _merging._put

    def replace_first(*args):
        monkeypatch.setattr(_merging, "_put", put)
        old = api.run("p/t").record.pk
        api.run("p/t").delete()
        api.purge(api.run("p/t", deleted=True))
        record("u", 2.5)
        assert api.run("p/u").record.pk == old
        put(*args)

    with wanllmdb.Api(bench.store) as api:
        monkeypatch.setattr(_merging, "_put", replace_first)
        for _ in range(2):
            list(api.store.compact())
        assert [row["x"] for row in api.run("p/u").scan_history()] == [2.5]
        assert [row["x"] for row in api.run("p/r").scan_history()] == [1.5]
    bench.check_sound(bench.store)


def test_what_a_run_takes_is_told_before_and_after(bench):
    """`store du` by kind, project and run: bytes move from live logs to parts."""

    def used(by):
        done = CliRunner().invoke(
            cli, ["--store", str(bench.store), "store", "du", "--by", by, "--format",
                  "json"],
        )  # fmt: skip
        assert done.exit_code == 0, done.output
        return {row[by]: row["bytes"] for row in json.loads(done.stdout)}

    for name, rows in (("r", 2000), ("s", 20)):
        run = bench.begin(id=name)
        for n in range(rows):
            run.log({"x": n / 7})
        run.finish()
    bench.release()
    live = used("kind")
    assert live["live logs"] > 50_000
    bench.compact(bench.store, INLINE_BYTES=0)
    bench.let_time_pass(bench.store)
    bench.compact(bench.store)
    sealed = used("kind")
    assert sealed["live logs"] == 0
    size = sum(path.stat().st_size for path in bench.store.glob("parts/*/*"))
    assert sealed["parts"] == size
    by_run = used("run")
    assert by_run["p/r"] > by_run["p/s"] > 0
    assert abs(sum(by_run.values()) - size) <= 2
    assert used("project") == {"p": sum(by_run.values())}
    assert sum(sealed.values()) >= sum(
        p.stat().st_size for p in bench.store.rglob("*.parquet")
    )
    done = CliRunner().invoke(cli, ["--store", str(bench.store), "doctor"])
    assert f"parts: 1 wide, 1 of them merged, 2020 rows, {size} bytes" in done.output


def test_a_sweep_waits_for_a_backup(bench, later):
    """What a backup may be copying stays until it is done."""
    with wanllmdb.init(project="p", id="r", store=bench.store) as run:
        run.log({"x": 0})
        directory = Path(run.dir).parent
    later(DAY)
    with wanllmdb.Api(bench.store) as api, _upkeep._kept(api.store):
        assert api.store.sweeper.sweep() == 0
        assert directory.exists()
    with wanllmdb.Api(bench.store) as api:
        assert api.store.sweeper.sweep() == 1
    assert not directory.exists()


def test_a_replaced_part_is_no_draft(bench):
    """The next compaction of the same run leaves it to the sweep."""
    for name in "rs":
        run = bench.begin(id=name)
        run.log({"x": 1})
        run.finish()
    bench.release()
    bench.compact(bench.store, INLINE_BYTES=0, MERGED_BYTES=0)
    bench.compact(bench.store)
    old = set(bench.store.glob("parts/*/*"))
    with wanllmdb.init(project="p", id="r", resume="must", store=bench.store) as run:
        run.log({"x": 2})
        bench.compact(bench.store)
    bench.compact(bench.store, INLINE_BYTES=0, MERGED_BYTES=0)
    assert set(bench.store.glob("parts/*/*")) >= old


def test_a_log_that_was_sealed_before_a_kill_is_given_up_later(bench):
    """Killed between the last transaction and the note, it is noted the next time."""
    run = bench.begin(id="r")
    run.log({"x": 1})
    run.finish()
    bench.release()
    bench.compact(bench.store, INLINE_BYTES=0)
    bench.sql(bench.store, "DELETE FROM retired")
    bench.compact(bench.store)
    (place,) = bench.sql(bench.store, "SELECT path, kind FROM retired")
    assert place == (f"live/{next((bench.store / 'live').iterdir()).name}", "log")


def test_what_cannot_be_removed_now_is_removed_later(bench):
    """While another compactor holds the run's lock its directory stays on the list."""
    with wanllmdb.init(project="p", id="r", store=bench.store) as run:
        run.log({"x": 0})
        directory = Path(run.dir).parent
    bench.let_time_pass(bench.store)
    with wanllmdb.Api(bench.store) as api:
        with api.store.sweeper.alone(directory.name):
            assert api.store.sweeper.sweep() == 0
        assert directory.exists()
    bench.let_time_pass(bench.store)
    assert bench.compact(bench.store) == ["removed 1 files that nothing names any more"]
    assert not directory.exists()


def test_an_edit_that_is_being_written_is_not_cut_off(bench):
    """A watermark says how far was read, not how far the file went after that."""
    from wanllmdb._metrics.writer import StreamWriter
    from wanllmdb.types import StreamIdentity

    run = bench.begin(id="r")
    run.log({"x": 0})
    run.finish()
    bench.release()
    with wanllmdb.Api(bench.store) as api:
        record = api.run("p/r").record
        identity = StreamIdentity(_ids.stream_token(), 1, "edit")
        directory = api.store.run_dir(record.uid)
        writer = StreamWriter(directory, identity, Kind.EDITS)
        writer.write_summary({"a": 1})
        list(api.store.compact())
        writer.write_summary({"b": 2})
        writer.close()
        for _ in range(2):
            written = api.store.logs.sums(record).own.written
            assert {key: value for key, (_, value) in written.items()} == {
                "a": 1, "b": 2,
            }  # fmt: skip
            list(api.store.compact())
        assert catalog.read(api.store.catalog.reader, record.pk).marks
