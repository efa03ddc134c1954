"""Damaged files in the trash: seen, saved as far as they can be read, and removed."""

from __future__ import annotations

import json
import random

import pytest
from click.testing import CliRunner

import wanllmdb
from wanllmdb import _trash, _upkeep
from wanllmdb._metrics import parts
from wanllmdb.cli import cli
from wanllmdb.errors import CorruptPartError, ReadOnlyError

ROWS = 40


@pytest.fixture
def sealed(bench, monkeypatch):
    """A Store of the runs `a` and `b`, whose parts have row groups of ten rows."""
    monkeypatch.setattr(parts, "ROW_GROUP", 10)
    for name in "ab":
        run = bench.begin(id=name)
        for n in range(ROWS):
            run.log({"loss": n / 3, "N": n, "flag": n % 2 == 0, "who": f"{name}{n}"})
        run.log_message(f"hello from {name}")
        run.finish()
    bench.release()
    return bench.sealed()


def page(path, column, group):
    """A bit in the middle of a column's page."""
    import pyarrow.parquet as pq

    chunk = pq.read_metadata(path).row_group(group).column(column)
    return (chunk.data_page_offset + chunk.total_compressed_size) * 8 - 12


def index_of(path, name):
    import pyarrow.parquet as pq

    return pq.read_schema(path).names.index(name)


def asked(store, *words):
    return CliRunner().invoke(cli, ["--store", str(store), *words])


def verified(store):
    assert asked(store, "store", "verify").exit_code != 0


def rows(bench, store, run):
    with wanllmdb.Api(store) as api:
        return bench.rows(api.run(f"p/{run}"))


def damage(store, run):
    (shown,) = json.loads(asked(store, "show", f"p/{run}", "--json").stdout)
    return shown["damage"]


def test_the_trash_shows_what_was_set_aside(bench, sealed):
    """What it is, whose it is, and its size."""
    path = bench.part_of(sealed, "a")
    bench.flip(path, page(path, 0, 1))
    verified(sealed)
    (row,) = json.loads(asked(sealed, "trash", "ls", "--json").stdout)
    assert row["damaged"] == "part"
    assert row["of"] == "p/a"
    assert row["path"] == f"trash/parts/{path.name}"
    assert row["size"] == (sealed / row["path"]).stat().st_size
    assert row["deleted"]


def test_rows_of_whole_row_groups_are_kept(bench, sealed):
    """Where it is not known whose row it is, the row group is lost; the run says so."""
    before, other = rows(bench, sealed, "a"), rows(bench, sealed, "b")
    path = bench.part_of(sealed, "a")
    bench.flip(path, page(path, index_of(path, "_step"), 1))
    verified(sealed)
    with pytest.raises(CorruptPartError):
        rows(bench, sealed, "a")
    done = asked(sealed, "trash", "empty", "--yes")
    assert done.exit_code == 0
    assert "30 of its 40 rows are kept" in done.stdout
    assert rows(bench, sealed, "a") == before[:10] + before[20:]
    assert rows(bench, sealed, "b") == other
    assert not list((sealed / "trash").rglob("*.parquet"))
    assert "cost 10 of 40 rows" in damage(sealed, "a")
    assert damage(sealed, "b") is None
    assert asked(sealed, "store", "verify").exit_code == 0
    assert "cost 10 of 40 rows" in asked(sealed, "doctor").output
    with wanllmdb.Api(sealed) as api:
        counted = api.query("SELECT count(*) FROM metrics_all WHERE key = 'loss'")
        assert counted.fetchall() == [(30 + ROWS,)]


def test_a_column_that_cannot_be_read_costs_its_own_values_only(bench, sealed):
    """The rows keep the values of the other keys."""
    before = rows(bench, sealed, "a")
    path = bench.part_of(sealed, "a")
    bench.flip(path, page(path, index_of(path, "loss"), 2))
    verified(sealed)
    done = asked(sealed, "trash", "empty", "--yes")
    assert "40 of its 40 rows are kept" in done.stdout
    lacking = [{k: v for k, v in row.items() if k != "loss"} for row in before]
    assert rows(bench, sealed, "a") == before[:20] + lacking[20:30] + before[30:]
    assert damage(sealed, "a").endswith("a sealed part cost values of loss")


def test_a_part_that_describes_nothing_any_more_is_lost(bench, sealed):
    """Its runs are read without it, and say so."""
    path = bench.part_of(sealed, "a")
    bench.flip(path, path.stat().st_size * 8 - 100)
    verified(sealed)
    assert asked(sealed, "trash", "empty", "--yes").exit_code == 0
    assert rows(bench, sealed, "a") == []
    assert "cost 40 of 40 rows" in damage(sealed, "a")
    with wanllmdb.Api(sealed) as api:
        assert [line.text for line in api.run("p/a").logs()] == ["hello from a"]
    assert asked(sealed, "store", "verify").exit_code == 0


def test_a_part_that_was_only_misread_comes_back(bench, sealed):
    """Its bytes are what was sealed: nothing is lost."""
    before = rows(bench, sealed, "a")
    path = bench.part_of(sealed, "a")
    bench.flip(path, 4000)
    verified(sealed)
    bench.flip(sealed / "trash" / "parts" / path.name, 4000)
    assert "whole" in asked(sealed, "trash", "empty", "--yes").stdout
    assert rows(bench, sealed, "a") == before
    assert damage(sealed, "a") is None
    bench.check_sound(sealed)


def test_whatever_is_damaged_no_wrong_row_is_kept(bench, sealed):
    """Each row that is kept has values of the row it was, and no others."""
    wanted = {row["N"]: row for row in rows(bench, sealed, "a")}
    dice = random.Random(5)
    kept = 0
    for _ in range(12):
        store = bench.copy(sealed)
        path = bench.part_of(store, "a")
        size = path.stat().st_size * 8
        bench.flip(
            path, *(dice.randrange(size * 3 // 4) for _ in range(dice.randrange(1, 4)))
        )
        verified(store)
        assert asked(store, "trash", "empty", "--yes").exit_code == 0
        for row in rows(bench, store, "a"):
            if "N" in row:
                kept += 1
                assert row.items() <= wanted[row["N"]].items()
    assert kept > 100


def test_the_parts_that_are_left_are_merged_as_ever(bench, sealed):
    """What took the place of a damaged part is a part like any other."""
    path = bench.part_of(sealed, "a")
    bench.flip(path, page(path, index_of(path, "_step"), 0))
    verified(sealed)
    asked(sealed, "trash", "empty", "--yes")
    wanted = rows(bench, sealed, "a"), rows(bench, sealed, "b")
    assert any("merged" in line for line in bench.compact(sealed))
    assert (rows(bench, sealed, "a"), rows(bench, sealed, "b")) == wanted
    assert asked(sealed, "store", "verify").exit_code == 0


def test_a_dry_run_of_emptying_the_trash_changes_nothing(bench, sealed):
    """It names the file."""
    path = bench.part_of(sealed, "a")
    bench.flip(path, 4000)
    verified(sealed)
    said = asked(sealed, "trash", "empty", "--dry-run").stdout
    assert said == f"trash/parts/{path.name}\n"
    assert (sealed / "trash" / "parts" / path.name).exists()


def test_gc_removes_damaged_files_when_their_time_is_over(bench, sealed):
    """A month after they were set aside; `--trash` says another time."""
    path = bench.part_of(sealed, "a")
    bench.flip(path, page(path, index_of(path, "_step"), 1))
    verified(sealed)
    asked(sealed, "store", "gc")
    assert (sealed / "trash" / "parts" / path.name).exists()
    for words in (["--dry-run"], []):
        said = asked(sealed, "store", "gc", "--trash", "0", "--json", *words)
        found = {row["what"]: row["count"] for row in json.loads(said.stdout)}
        assert found["damaged files removed"] == 1
    assert not (sealed / "trash" / "parts" / path.name).exists()
    assert len(rows(bench, sealed, "a")) == 30


def test_a_damaged_segment_is_shown_and_removed(bench):
    """What of it can be read was sealed; `doctor` goes on to say what was lost."""
    run = bench.begin(id="a")
    for n in range(50):
        run.log({"x": n})
    run.finish()
    bench.release()
    (path,) = (bench.store / "live").glob("*/*.wlog")
    bench.flip(path, len(path.read_bytes().rstrip(b"\0")) * 4)
    store = bench.sealed()
    before = rows(bench, store, "a")
    (row,) = json.loads(asked(store, "trash", "ls", "--json").stdout)
    assert (row["damaged"], row["of"]) == ("log", "p/a")
    assert asked(store, "trash", "empty", "--yes").exit_code == 0
    assert not (store / row["path"]).parent.exists()
    assert json.loads(asked(store, "trash", "ls", "--json").stdout) == []
    assert rows(bench, store, "a") == before
    assert "49 of 50 values of 'x'" in asked(store, "doctor").output


def test_what_a_killed_emptying_left_is_finished_by_the_next(
    bench, sealed, monkeypatch
):
    """Killed between the transaction and the removal, and before the transaction."""
    path = bench.part_of(sealed, "a")
    bench.flip(path, page(path, index_of(path, "_step"), 1))
    verified(sealed)

    class Killed(BaseException):
        pass

    def discard(what, name, before=lambda *_: None):
        def killed(*given, **_):
            before(*given)
            raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(what, name, killed)
            _trash.discard(api.store, aside)

    with wanllmdb.Api(sealed) as api:
        (aside,) = _trash.listed(api.store)
        with pytest.raises(Killed):
            discard(_trash.events, "record")
        assert (sealed / "trash" / "parts" / path.name).exists()
        with pytest.raises(Killed):
            discard(_trash, "_replaced", _trash._replaced)
        assert aside.path.exists()
        assert len(bench.rows(api.run("p/a"))) == 30
        (left,) = _trash.listed(api.store)
        assert left.of == ()
        assert _trash.discard(api.store, left) is None
        list(api.store.compact())
    bench.check_parts(sealed)
    assert asked(sealed, "store", "verify").exit_code == 0


def test_a_store_that_can_only_be_read_shows_its_trash(bench, sealed):
    """And refuses to empty it."""
    path = bench.part_of(sealed, "a")
    bench.flip(path, 4000)
    verified(sealed)
    with wanllmdb.Api(sealed) as api:
        api.store.read_only = True
        (aside,) = _trash.listed(api.store)
        with pytest.raises(ReadOnlyError):
            _trash.discard(api.store, aside)
        assert aside.path.exists()


def test_of_two_that_empty_the_trash_both_succeed(bench, sealed):
    """One finds the file gone."""
    path = bench.part_of(sealed, "a")
    bench.flip(path, 4000)
    verified(sealed)
    with wanllmdb.Api(sealed) as api:
        (aside,) = _trash.listed(api.store)
        _trash.discard(api.store, aside)
        assert _trash.discard(api.store, aside) is None


def test_a_part_that_verify_was_killed_over_is_set_aside_by_the_next(bench, sealed):
    """It was marked, and not moved yet."""
    path = bench.part_of(sealed, "a")
    bench.flip(path, 4000)
    bench.sql(sealed, "UPDATE part SET quarantined_us = 1 WHERE name = ?", path.name)
    with wanllmdb.Api(sealed) as api:
        assert any("set aside" in line for line in list(_upkeep.verify(api.store)))
    assert not path.exists()
    assert (sealed / "trash" / "parts" / path.name).exists()
