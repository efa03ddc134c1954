"""Whatever bit of a part flips, it is found, and no wrong row is shown after that."""

from __future__ import annotations

import os
import random

import pytest
from click.testing import CliRunner

import wanllmdb
from wanllmdb import _upkeep
from wanllmdb.cli import cli
from wanllmdb.errors import CorruptPartError, IntegrityError, WanllmdbWarning


@pytest.fixture
def sealed(bench):
    """A Store of two runs, `a` and `b`, each with parts of its own."""
    for name in "ab":
        run = bench.begin(id=name)
        for n in range(20):
            run.log({"loss": n / 3, "step_no": n, "flag": n % 2 == 0, "who": name})
        run.log_message(f"hello from {name}")
        run.finish()
    bench.release()
    return bench.sealed()


def told(run):
    return [repr(sorted(row.items())) for row in run.scan_history()]


def test_verify_reports_every_flipped_bit(bench, sealed):
    """Each bit of a small part, one after the other."""
    path = bench.part_of(sealed, "a")
    whole = path.read_bytes()
    with wanllmdb.Api(sealed) as api:
        (part,) = [
            p for p in _upkeep.sealed.parts(api.store.catalog.reader)
            if p.path.endswith(path.name)
        ]  # fmt: skip
        assert _upkeep._part_problem(api.store, part) is None
        path.chmod(0o600)
        with path.open("r+b", buffering=0) as file:
            for bit in range(len(whole) * 8):
                byte = whole[bit // 8]
                os.pwrite(file.fileno(), bytes([byte ^ 1 << bit % 8]), bit // 8)
                assert "has changed" in str(_upkeep._part_problem(api.store, part))
                os.pwrite(file.fileno(), bytes([byte]), bit // 8)


def test_no_flipped_bit_shows_a_wrong_row(bench, sealed):
    """Before `verify` runs, too: it is read right, or CorruptPartError is raised."""
    path = bench.part_of(sealed, "a")
    whole = path.read_bytes()
    wanted = bench.look(sealed)["a"]["rows"]
    dice = random.Random(1)
    bits = {*range(64), *(dice.randrange(len(whole) * 8) for _ in range(400))}
    bits |= {len(whole) * 8 - 1 - n for n in range(64)}
    wrong = []
    with wanllmdb.Api(sealed) as api:
        for bit in sorted(bits):
            path.chmod(0o600)
            path.write_bytes(whole)
            bench.flip(path, bit)
            try:
                rows = [
                    *map(
                        repr,
                        map(sorted, map(dict.items, api.run("p/a").scan_history())),
                    )
                ]
            except CorruptPartError:
                continue
            if rows != wanted:
                wrong.append(bit)
    assert not wrong, f"{len(wrong)} of {len(bits)} bits, as {wrong[:9]}"


def test_a_damaged_part_is_set_aside_and_the_others_stay(bench, sealed):
    """It lies in trash/, and its run raises; the other run is read as ever."""
    wanted = bench.look(sealed)["b"]
    path = bench.part_of(sealed, "a")
    bench.flip(path, path.stat().st_size * 4)
    for words in ("store verify", "store verify", "doctor"):
        done = CliRunner().invoke(cli, ["--store", str(sealed), *words.split()])
        assert isinstance(done.exception, IntegrityError)
        assert path.name in done.output
    assert not path.exists()
    assert (sealed / "trash" / "parts" / path.name).exists()
    with wanllmdb.Api(sealed) as api:
        for read in (api.run("p/a").history, lambda: [*api.run("p/a").scan_history()]):
            with pytest.raises(CorruptPartError, match=path.name):
                read()
        assert [line.text for line in api.run("p/a").logs()] == ["hello from a"]
        assert bench.rows(api.run("p/b"))[7]["loss"] == 7 / 3
        assert repr(sorted(api.run("p/b").summary.items())) == wanted["summary"]
        list(api.store.compact())
        assert [
            *map(repr, map(sorted, map(dict.items, api.run("p/b").scan_history())))
        ] == (wanted["rows"])


def test_sql_leaves_out_what_was_set_aside_and_says_so(bench, sealed):
    """Also what is merged in Python, and the console; the other run's rows stay."""
    with wanllmdb.Api(sealed) as api:
        fork = wanllmdb.init(store=sealed, project="p", id="f", fork_from="a?_step=3")
        fork.log({"loss": 0.5})
        fork.log_message("hello from f")
        fork.finish()
        wanllmdb.teardown()
        for layout in ("wide", "console"):
            path = bench.part_of(sealed, "a", layout)
            bench.flip(path, path.stat().st_size * 4)
        with pytest.raises(IntegrityError):
            CliRunner().invoke(
                cli, ["--store", str(sealed), "store", "verify"],
                catch_exceptions=False, standalone_mode=False,
            )  # fmt: skip
        counted = "SELECT run, count(*) AS n FROM {} GROUP BY run ORDER BY run"
        for view, held in (
            ("metrics", {"b"}), ("history('p')", {"b"}), ("logs", {"b", "f"}),
            ("metrics_all", {"b", "f"}),
        ):  # fmt: skip
            with pytest.warns(WanllmdbWarning, match=r"set aside: rows of p/a\b"):
                found = api.query(counted.format(view)).fetchall()
            assert {run for run, _ in found} <= held, view
            assert "b" in dict(found), view
        with pytest.warns(WanllmdbWarning, match="set aside: rows of p/a, p/f are"):
            table = api.metrics("loss", ["p/a", "p/b", "p/f"]).arrow()
        assert {*table["run"].to_pylist()} == {"b"}
        assert api.query("SELECT count(*) FROM runs").fetchall() == [(3,)]


def test_a_part_that_is_gone_is_reported(bench, sealed):
    """A file that somebody removed raises our error, and `verify` names it."""
    path = bench.part_of(sealed, "a")
    path.unlink()
    with wanllmdb.Api(sealed) as api, pytest.raises(CorruptPartError, match="missing"):
        api.run("p/a").history()
    done = CliRunner().invoke(cli, ["--store", str(sealed), "store", "verify"])
    assert isinstance(done.exception, IntegrityError)
    assert path.name in done.output


def test_a_damaged_part_is_not_merged(bench, sealed):
    """The other projects are; nothing of the damaged one is changed."""
    path = bench.part_of(sealed, "a")
    bench.flip(path, path.stat().st_size * 4)
    lines = bench.compact(sealed)
    assert any("cannot merge" in line for line in lines)
    with wanllmdb.Api(sealed) as api:
        assert len(bench.rows(api.run("p/b"))) == 20
    assert path.exists()


def test_damaged_bytes_in_the_catalog_are_not_merged(bench):
    """An inline log whose bytes changed raises, and stays for whoever can mend it."""
    for name in "ab":
        with wanllmdb.init(project="p", id=name, store=bench.store) as run:
            run.log({"x": 1.5})
            run.summary["note"] = "so that it is not plain"
    wanllmdb.teardown()
    bench.sql(bench.store, "UPDATE inline_log SET data = CAST(data || x'00' AS BLOB)")
    with wanllmdb.Api(bench.store) as api:
        with pytest.raises(CorruptPartError):
            api.run("p/a").history()
        assert any("cannot merge" in line for line in api.store.compact())
    assert bench.sql(bench.store, "SELECT count(*) FROM inline_log") == [(2,)]


def test_a_damaged_segment_is_kept_in_the_trash(bench):
    """What is cut out when it is sealed stays for whoever can mend it."""
    run = bench.begin(id="a")
    for n in range(50):
        run.log({"x": n})
    run.finish()
    bench.release()
    (path,) = (bench.store / "live").glob("*/*.wlog")
    size = len(path.read_bytes().rstrip(b"\0"))
    bench.flip(path, size * 4)
    damaged = path.read_bytes()
    before = bench.look(bench.store)["a"]["rows"]
    for store in (bench.sealed(), bench.sealed(INLINE_BYTES=1 << 20)):
        assert bench.look(store)["a"]["rows"] == before
        (kept,) = (store / "trash").glob("*/*.wlog")
        assert kept.read_bytes() == damaged
