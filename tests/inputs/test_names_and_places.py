"""Odd names (rows 21, 22, 30, 31) and odd places of a Store (row 39)."""

from __future__ import annotations

import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import wanllmdb
from wanllmdb.errors import (
    InvalidNameError,
    RunNotFoundError,
    StoreUnavailableError,
    WanllmdbError,
)

NFC, NFD = "\u00e9", "e\u0301"
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
NULL_NAMES = ["half \ud800", "a\0b"]
ODD_NAMES = [
    "../x", "a/b", "/etc/passwd", ".", "..", "~", "-rf", "--help", "CON", "nul.txt",
    "a:b", "x.", "C:\\x", "a%20b", "100%", "a_b", "n" * 300, "\U0001f600" * 80, "a\nb",
    "\u202egnp.exe", "\x1b[31mred", "'; DROP TABLE run;--", '"', " x ", "@", "a@b",
    "lr=0.1/bs=32", "*", "?", "#1", "$HOME",
]  # fmt: skip
# What the rules of ids and projects allow: none of :;,#?/ and none of /\#?%:
ODD_IDS = [".", "..", "~", "-rf", "CON", "nul.txt", "x.", "a@b", "a b", "100%", "a_b",
           "\U0001f600" * 60, "C\\x", "' --"]  # fmt: skip
ODD_PROJECTS = [".", "..", "~", "-rf", "CON", "nul.txt", "x.", "a@b", "a b", "a;b",
                "\U0001f600" * 60, "a,b", "*", "@last", NFC]  # fmt: skip


def script(code: str, **options) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", "import os, sys, wanllmdb\n" + code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


def without(*names, **more):
    """The environment without some variables, and with others."""
    return {k: v for k, v in os.environ.items() if k not in names} | more


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(name=NAMES, notes=NAMES)
def test_any_text_is_a_run_name(name, notes):
    """Rows 21, 30: names and notes are data, and come back in NFC."""
    with wanllmdb.init(name=name, notes=notes) as run:
        pass
    with wanllmdb.Api() as api:
        found = api.run(run.path)
        if name:
            assert found.name == unicodedata.normalize("NFC", name)
        if notes:
            assert found.notes == unicodedata.normalize("NFC", notes)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_an_odd_run_name_is_stored_as_data(name, store, api):
    """Row 30: the name comes back, and no file or directory is called by it."""
    outside = set(store.parent.iterdir())
    with wanllmdb.init(name=name, group=name, job_type=name, tags=[name[:60]]) as run:
        run.log({"x": 1})
    found = api.run(run.path)
    assert (found.name, found.group, found.job_type) == (name, name, name)
    assert found.tags == (name[:60].strip(),)
    assert [path.name for path in (store / "live").iterdir()] == [found.record.uid]
    assert set(store.parent.iterdir()) - outside <= {store}


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_run_is_found_by_its_unique_name(name, api):
    """Row 30: run names are free, and a unique name selects its run."""
    with wanllmdb.init(id="one", name=name):
        pass
    assert api.run(name).id == "one"


@pytest.mark.parametrize("run_id", ODD_IDS)
def test_an_odd_run_id_is_found_by_its_path(run_id, store, api):
    """Row 30: what init accepts, Api.run finds, also to resume it."""
    with wanllmdb.init(project="p", id=run_id) as run:
        run.log({"x": 1})
    with wanllmdb.init(project="p", id=run_id, resume="must") as again:
        again.log({"x": 2})
    assert api.run(run.path).id == api.run(f"p/{run_id}").id == run_id
    assert len(list((store / "live").iterdir())) == 1


@pytest.mark.parametrize("run_id", ["@x", "@last", "@best:loss"])
def test_an_id_that_reads_as_a_selector_is_refused_or_found(run_id, api):
    """Row 30: no run may be made that no path leads to."""
    try:
        wanllmdb.init(project="p", id=run_id).finish()
    except InvalidNameError:
        return
    wanllmdb.init(project="p", id="newest").finish()
    assert api.run(f"p/{run_id}").id == run_id


@pytest.mark.parametrize("project", ODD_PROJECTS)
def test_an_odd_project_is_found_by_the_path_of_its_run(project, api):
    """Row 30: what init accepts as a project, run.path leads to."""
    with wanllmdb.init(project=project, id="r") as run:
        run.log({"x": 1})
    assert api.run(run.path).project == project
    assert [found.id for found in api.runs(project)] == ["r"]


@pytest.mark.parametrize("name", ["a/b", "a\\b", "a#b", "a?b", "a%b", "a:b", "", " "])
def test_a_project_name_that_is_refused_names_the_character(name, store):
    """Row 30: one InvalidNameError, and nothing is recorded."""
    with pytest.raises(InvalidNameError, match="project name"):
        wanllmdb.init(project=name or " ")
    assert not list(store.glob("live/*"))


@pytest.mark.parametrize("run_id", ["a:b", "a;b", "a,b", "a#b", "a?b", "a/b", " "])
def test_a_run_id_that_is_refused_names_the_character(run_id, store):
    """Row 30: the same for ids."""
    with pytest.raises(InvalidNameError, match="run id"):
        wanllmdb.init(id=run_id)
    assert not list(store.glob("live/*"))


@pytest.mark.parametrize("what", ["project", "id", "name", "tags"])
@pytest.mark.parametrize("length", [255, 256])
def test_names_are_limited_to_255_bytes_where_they_are_keys(what, length, api):
    """Row 30: 255 bytes are kept; more is refused, but for the name, which is free."""
    value = "n" * length
    if length > 255 and what != "name":
        with pytest.raises(InvalidNameError, match="255"):
            wanllmdb.init(**{what: value})
        return
    with wanllmdb.init(**{what: value}) as run:
        pass
    assert api.run(run.path).id == run.id


FIELDS = ["project", "id", "name", "tags", "notes", "group", "job_type"]


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("text", NULL_NAMES, ids=["surrogate", "NUL"])
def test_text_with_nul_or_half_a_character_is_refused_everywhere(field, text):
    """Rows 21, 30: an error of ours that says what is wrong, at init."""
    with pytest.raises(InvalidNameError, match=r"NUL|surrogate"):
        wanllmdb.init(**{field: text})


@pytest.mark.parametrize("field", ["name", "notes", "tags"])
@pytest.mark.parametrize("text", NULL_NAMES, ids=["surrogate", "NUL"])
def test_such_text_is_refused_later_too_and_the_run_goes_on(field, text, api):
    """Rows 21, 30: the same for what is set on a run; the former value stays."""
    run = wanllmdb.init(name="before", notes="before", tags=["before"])
    with pytest.raises(InvalidNameError, match=r"NUL|surrogate"):
        setattr(run, field, text)
    run.log({"x": 1})
    run.finish()
    found = api.run(run.path)
    assert (found.name, found.notes, found.tags) == ("before", "before", ("before",))


@pytest.mark.parametrize("text", NULL_NAMES, ids=["surrogate", "NUL"])
@pytest.mark.filterwarnings("default::wanllmdb.WanllmdbWarning")
def test_an_alert_with_such_text_is_not_lost(text, api):
    """Rows 21, 30: an alert is stored, its text escaped if it must be."""
    with wanllmdb.init() as run:
        run.alert("title", text)
    assert [alert.title for alert in api.run(run.path).alerts] == ["title"]


@pytest.mark.parametrize("field", FIELDS)
def test_both_forms_of_a_letter_are_one_name(field, api):
    """Row 22: text is stored in NFC, whichever form was given."""
    with wanllmdb.init(**{field: NFD}) as run:
        pass
    found = api.run(run.path)
    stored = getattr(found, field)
    assert stored == ((NFC,) if field == "tags" else NFC)


def test_a_run_is_found_by_either_form_of_its_names(api):
    """Row 22: selectors, projects and filters are normalised as names are."""
    with wanllmdb.init(project=NFC, id=f"i{NFC}", name=f"n{NFC}", tags=[f"t{NFC}"]):
        pass
    for selector in (f"{NFD}/i{NFD}", f"i{NFD}", f"n{NFD}"):
        assert api.run(selector).id == f"i{NFC}"
    assert len(api.runs(NFD)) == 1
    assert len(api.runs(filters=f"tag:t{NFD}")) == 1
    assert len(api.runs(filters={"display_name": f"n{NFD}"})) == 1


def test_names_that_differ_by_case_are_different_runs(store, api):
    """Row 31: each is found by its own name and id; directories are named by uid."""
    for name in ("Run", "run", "RUN"):
        with wanllmdb.init(id=f"{name}-id", name=name) as run:
            run.log({"x": 1})
    for name in ("Run", "run", "RUN"):
        assert api.run(name).id == f"{name}-id"
        assert api.run(f"{name}-id").name == name
    folders = [path.name for path in (store / "live").iterdir()]
    assert len({folder.casefold() for folder in folders}) == 3


def test_a_prefix_of_an_id_is_told_from_its_other_case(api):
    """Row 31: a prefix that one id begins with is unique, whatever the other case."""
    for run_id in ("Abc", "abd"):
        wanllmdb.init(id=run_id).finish()
    assert (api.run("Ab").id, api.run("ab").id) == ("Abc", "abd")


def test_an_empty_selector_finds_nothing(api):
    """Row 30: an unset variable in `rm "$RUN"` must not mean the only run there is."""
    wanllmdb.init(project="p", id="only").finish()
    for selector in ("", "p/"):
        with pytest.raises(RunNotFoundError):
            api.run(selector)


ODD_DIRS = [
    "with space", "é\U0001f600", "100%25", "a'b\"c", "a?mode=ro", "a#b", "-rf", "a;b",
    "a\\b", "a\nb", "\udcff", ".hidden/deep/er", "a&b=c",
]  # fmt: skip


@pytest.mark.parametrize("name", ODD_DIRS, ids=ascii)
@pytest.mark.parametrize("way", ["argument", "variable", "command line"])
def test_a_store_may_have_any_path(name, way, tmp_path):
    """Row 39: it is written where it says, whichever way it is named."""
    path = tmp_path / "odd" / name
    if way == "argument":
        wanllmdb.init(store=path, id="r").log({"x": 1})
        wanllmdb.finish()
    else:
        env = without(WANLLMDB_DIR=str(path))
        done = script("wanllmdb.init(id='r').log({'x': 1})", env=env)
        assert (done.returncode, done.stderr) == (0, "")
    assert (path / "FORMAT").is_file()
    assert [p.name for p in (tmp_path / "odd").iterdir()] == [name.split("/")[0]]
    if way == "command line":
        command = [sys.executable, "-m", "wanllmdb", "--store", path, "ls", "-q"]
        assert subprocess.check_output(command, timeout=60) == b"r\n"
    with wanllmdb.Api(path) as api:
        assert api.run("r").summary["x"] == 1


def test_a_relative_store_is_fixed_at_init(tmp_path, monkeypatch):
    """Row 39: a later chdir moves neither the run nor its children's Store."""
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with wanllmdb.init(store="s", id="r") as run:
        monkeypatch.chdir(tmp_path / "there")
        run.log({"x": 1})
        child = script("print(wanllmdb.Api().run('r').state)")
    assert child.stdout.strip() == "running", child.stderr
    assert list((tmp_path / "there").iterdir()) == []
    with wanllmdb.Api(tmp_path / "here" / "s") as api:
        assert api.run("r").summary["x"] == 1


BAD_PLACES = [
    "{file}", "{file}/below", "/proc/nothing/here", "/dev/null", "{tmp}/" + "n" * 300,
    "~nobody-of-this-name/x",
]  # fmt: skip


@pytest.mark.parametrize("place", BAD_PLACES)
def test_a_place_that_cannot_be_is_one_clear_error(place, tmp_path):
    """Row 39: the error names the path; nothing is put anywhere else."""
    (tmp_path / "file").write_text("data")
    path = place.format(file=tmp_path / "file", tmp=tmp_path)
    with pytest.raises(StoreUnavailableError) as caught:
        wanllmdb.init(store=path)
    assert path[:40] in str(caught.value)
    assert (tmp_path / "file").read_text() == "data"
    assert not any(p.name == "FORMAT" for p in tmp_path.rglob("*"))


def test_a_path_with_nul_is_one_clear_error():
    """Row 39: as any other place that cannot be."""
    with pytest.raises(WanllmdbError):
        wanllmdb.init(store="a\0b")


@pytest.mark.parametrize("place", BAD_PLACES[:4])
def test_a_variable_that_names_no_place_is_named(place, tmp_path):
    """Row 39: the command line says one line of error, and which variable to set."""
    (tmp_path / "file").write_text("data")
    path = place.format(file=tmp_path / "file", tmp=tmp_path)
    done = script("wanllmdb.init()", env=without(WANLLMDB_DIR=path))
    last = done.stderr.strip().splitlines()[-1]
    assert "StoreUnavailableError" in last
    assert path in last
    assert "WANLLMDB_DIR" in last


@pytest.mark.parametrize("home", [None, "", "/proc/none", "{file}", "relative"])
def test_with_a_store_of_its_own_the_home_is_of_no_matter(home, tmp_path):
    """Row 39: unset, empty, missing, a file: WANLLMDB_DIR is all that is needed."""
    (tmp_path / "file").write_text("data")
    env = without("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")
    if home is not None:
        env["HOME"] = home.format(file=tmp_path / "file")
    done = script("wanllmdb.init(id='r').log({'x': 1})", env=env, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "store" / "FORMAT").is_file()


# Only homes that cannot be: an empty one would lead to the real home of the tester.
@pytest.mark.parametrize("home", ["/proc/none", "{file}"])
def test_a_home_that_cannot_be_is_one_clear_error(home, tmp_path):
    """Row 39: without WANLLMDB_DIR, the error names it, and nothing is elsewhere."""
    (tmp_path / "file").write_text("data")
    env = without("XDG_CONFIG_HOME", "XDG_DATA_HOME", "WANLLMDB_DIR")
    env["HOME"] = home.format(file=tmp_path / "file")
    done = script("wanllmdb.init()", env=env, cwd=tmp_path)
    last = done.stderr.strip().splitlines()[-1]
    assert "StoreUnavailableError" in last
    assert "WANLLMDB_DIR" in last
    assert not any(path.name == "FORMAT" for path in tmp_path.rglob("*"))


GONE = """
os.mkdir("gone"); os.chdir("gone"); os.rmdir("../gone")
run = wanllmdb.init(id="r", {arguments})
run.log({{"x": 1}})
{more}
run.finish()
"""


@pytest.mark.parametrize("captures", ["", "1"], ids=["quiet", "capturing"])
def test_a_deleted_working_directory_is_no_obstacle(captures, tmp_path, api):
    """Row 39: an absolute Store works from nowhere, with everything captured."""
    env = without(*(f"WANLLMDB_{n}" for n in ("GIT", "CONSOLE", "ENVIRONMENT")))
    env = env if captures else dict(os.environ)
    done = script(GONE.format(arguments="", more=""), cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert (api.run("r").state, api.run("r").summary["x"]) == ("finished", 1)


@pytest.mark.parametrize("more", ["run.save('*.txt')", "run.log_code()", "run.dir"])
def test_files_are_looked_for_in_a_deleted_directory_without_harm(more, tmp_path, api):
    """Row 39: nothing is found there; training goes on, and the run is whole."""
    done = script(GONE.format(arguments="", more=more), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (api.run("r").state, api.run("r").summary["x"]) == ("finished", 1)


def test_a_relative_store_in_a_deleted_directory_is_one_clear_error(tmp_path):
    """Row 39: it leads nowhere, and the error says so."""
    done = script(GONE.format(arguments="store='s'", more=""), cwd=tmp_path)
    assert "StoreUnavailableError" in done.stderr.strip().splitlines()[-1]
    assert not (Path(tmp_path) / "s").exists()
