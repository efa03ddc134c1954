"""Where the Store is: the order of the rules, and what each rule passes over."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

INIT = """
import os, wanllmdb
wanllmdb.init(id="r").finish()
print(os.environ["WANLLMDB_DIR"])
"""


@pytest.fixture
def found(child):
    """The Store that a process below a directory uses, no variable being set."""

    def locate(cwd, **options):
        options = {"unset": ("WANLLMDB_DIR",), **options}
        return Path(child(INIT, cwd=cwd, **options).stdout.strip())

    return locate


@pytest.fixture
def marked(cli):
    """Make a Store in a directory's .wanllmdb."""

    def make(directory):
        directory.mkdir(parents=True, exist_ok=True)
        cli("init", directory)
        return directory / ".wanllmdb"

    return make


def test_the_argument_beats_the_variable(child, tmp_path, store):
    """init(store=) is first."""
    code = INIT.replace("init(", f"init(store={str(tmp_path / 'mine')!r}, ")
    assert child(code).stdout.strip() == str(tmp_path / "mine")
    assert not store.exists()


def test_the_variable_beats_the_nearest_store(child, tmp_path, store, marked):
    """WANLLMDB_DIR is second."""
    near = marked(tmp_path / "work")
    assert child(INIT, cwd=tmp_path / "work").stdout.strip() == str(store)
    assert list((near / "live").iterdir()) == []


def test_the_nearest_store_at_or_above_is_taken(tmp_path, found, marked):
    """The walk goes up from the working directory and takes the first."""
    marked(tmp_path / "a")
    inner = marked(tmp_path / "a" / "b")
    (tmp_path / "a" / "b" / "c" / "d").mkdir(parents=True)
    assert found(tmp_path / "a" / "b" / "c" / "d") == inner
    assert found(tmp_path / "a" / "b") == inner


def test_a_directory_without_format_is_passed_over(tmp_path, found, marked):
    """A directory of that name is a Store only if it holds FORMAT."""
    outer = marked(tmp_path / "a")
    (tmp_path / "a" / "b" / ".wanllmdb").mkdir(parents=True)
    assert found(tmp_path / "a" / "b") == outer


@pytest.mark.parametrize("below", ["", "project"])
@pytest.mark.parametrize("spelling", ["home", "home/", "link"])
def test_the_walk_stops_before_home(tmp_path, found, marked, below, spelling):
    """A Store in the home directory is never taken for a project's own."""
    marked(tmp_path / "home")
    (tmp_path / "link").symlink_to("home")
    (tmp_path / "home" / "project").mkdir()
    home = {"HOME": f"{tmp_path}/{spelling}"}
    taken = found(tmp_path / "home" / below, env=home)
    assert taken == Path(home["HOME"]) / ".local" / "share" / "wanllmdb"


def test_the_walk_stops_at_a_mount_border(tmp_path, marked, with_mounts):
    """What lies on another filesystem above is not taken."""
    marked(tmp_path / "a")
    (tmp_path / "a" / "disk").mkdir()
    mounts = f"mount -t tmpfs none {tmp_path}/a/disk; cd {tmp_path}/a/disk"
    done = with_mounts(mounts, INIT, unset=("WANLLMDB_DIR",))
    assert done.stdout.strip() == f"{tmp_path}/home/.local/share/wanllmdb"


def test_a_store_of_another_owner_is_refused(tmp_path, marked, child):
    """Its owner could have put anything there: the error names him."""
    near = marked(tmp_path / "a")
    if os.getuid() != 0:
        pytest.skip("needs root to chown")
    os.chown(near, 65534, 65534)
    done = child(INIT, cwd=tmp_path / "a", ok=False, unset=("WANLLMDB_DIR",))
    assert done.returncode == 1
    assert "StoreUnavailableError" in done.stderr
    assert f"{near} belongs to uid 65534" in done.stderr
    assert "WANLLMDB_DIR" in done.stderr


def test_the_last_resort_is_the_users_data_directory(tmp_path, found):
    """Where no rule fits platformdirs decides, and XDG_DATA_HOME with it."""
    (tmp_path / "a").mkdir()
    assert found(tmp_path / "a") == tmp_path / "home/.local/share/wanllmdb"
    data = {"XDG_DATA_HOME": str(tmp_path / "data")}
    assert found(tmp_path / "a", env=data) == tmp_path / "data" / "wanllmdb"


def test_a_relative_path_is_fixed_at_init(child, tmp_path):
    """chdir() after init moves nothing, for us or for our children."""
    code = """
    import os, subprocess, sys, wanllmdb
    run = wanllmdb.init()
    os.chdir("/")
    run.log({"x": 1}); run.finish()
    wanllmdb.init().finish()
    child = "import wanllmdb; wanllmdb.init().finish()"
    subprocess.run([sys.executable, "-c", child], check=True)
    print(os.environ["WANLLMDB_DIR"], len(wanllmdb.Api().runs()))
    """
    done = child(code, cwd=tmp_path, env={"WANLLMDB_DIR": "rel/../here"})
    path, runs = done.stdout.split()
    assert Path(path).is_absolute()
    assert Path(path).resolve() == tmp_path / "here"
    assert runs == "3"


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ("argument", "argument"),
        ("variable", "WANLLMDB_DIR"),
        ("nearest", ".wanllmdb"),
        ("default", "user data directory"),
    ],
)
def test_the_place_and_its_reason_are_printed_once(child, tmp_path, marked, rule,
                                                   reason):  # fmt: skip
    """A person sees at init where the run goes, and why there."""
    if rule == "nearest":
        marked(tmp_path / "a")
    (tmp_path / "a").mkdir(exist_ok=True)
    code = INIT
    if rule == "argument":
        code = INIT.replace("init(", f"init(store={str(tmp_path / 'mine')!r}, ")
    unset = () if rule == "variable" else ("WANLLMDB_DIR",)
    done = child(code, cwd=tmp_path / "a", unset=(*unset, "WANLLMDB_SILENT"))
    said = [line for line in done.stderr.splitlines() if done.stdout.strip() in line]
    assert len(said) == 1
    assert reason in said[0]
    assert done.stderr.isascii()


def test_wandbs_dir_argument_is_accepted_and_ignored(child, tmp_path, store):
    """init(dir=) makes nothing there, and says nothing."""
    code = INIT.replace("init(", f"init(dir={str(tmp_path / 'theirs')!r}, ")
    done = child(code, env={"WANDB_DIR": str(tmp_path / "env")})
    assert (done.stdout.strip(), done.stderr) == (str(store), "")
    assert not (tmp_path / "theirs").exists()
    assert not (tmp_path / "env").exists()


def test_wanllmdb_init_makes_a_store_that_git_ignores(cli, child, tmp_path):
    """`git status` stays clean, also after a run was recorded below it."""
    repository = tmp_path / "repo"
    (repository / "src").mkdir(parents=True)
    subprocess.run(["git", "init", "-q"], cwd=repository, check=True)
    made = cli("init", cwd=repository, unset=("WANLLMDB_DIR",)).stdout.strip()
    assert made == str(repository / ".wanllmdb")
    child(INIT, cwd=repository / "src", unset=("WANLLMDB_DIR",))
    status = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=all"],
        cwd=repository, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert status.stdout == ""
    assert len(list((repository / ".wanllmdb" / "live").iterdir())) == 1


def test_wanllmdb_init_twice_keeps_what_is_there(cli, marked, tmp_path):
    """Making a Store where one is changes nothing."""
    near = marked(tmp_path / "a")
    before = {p: p.read_bytes() for p in near.rglob("*") if p.name == "FORMAT"}
    marked(tmp_path / "a")
    assert {p: p.read_bytes() for p in before} == before


def test_an_empty_store_says_where_the_others_are(child, cli, tmp_path, store):
    """A per-user list of Stores helps whoever looks in the wrong one."""
    child(INIT)
    cli("init", tmp_path)
    done = cli("ls", cwd=tmp_path, unset=("WANLLMDB_DIR",))
    assert str(store) in done.stderr
