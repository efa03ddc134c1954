"""Places that cannot be used: one clear error, and never another place silently."""

from __future__ import annotations

import os
import stat

import pytest

INIT = """
import os, wanllmdb
try:
    run = wanllmdb.init(id="r"); run.log({"x": 1}); run.finish()
except wanllmdb.WanllmdbError as error:
    print(type(error).__name__, error)
else:
    print("recorded in", os.environ["WANLLMDB_DIR"])
"""


def test_a_directory_that_may_not_be_written_is_one_clear_error(as_nobody, open_dir):
    """The error names the path, the uid and the variable."""
    target = {"WANLLMDB_DIR": str(open_dir / "store")}
    said = as_nobody(INIT, env=target, cwd="/").stdout
    assert said.startswith("StoreUnavailableError")
    for part in (str(open_dir / "store"), "65534", "WANLLMDB_DIR"):
        assert part in said
    assert list(open_dir.iterdir()) == []


def test_an_unwritable_store_argument_is_refused_alike(as_nobody, open_dir):
    """init(store=) never falls back either."""
    code = INIT.replace("init(", f"init(store={str(open_dir / 's')!r}, ")
    said = as_nobody(code, cwd="/", env={"WANLLMDB_DIR": "/tmp/never-taken"}).stdout
    assert said.startswith("StoreUnavailableError")
    assert str(open_dir / "s") in said


def test_an_unwritable_data_directory_is_one_clear_error(as_nobody, open_dir):
    """The default place is no exception: a read-only home says what to set."""
    home = {"HOME": str(open_dir)}
    said = as_nobody(INIT, env=home, unset=("WANLLMDB_DIR",), cwd="/").stdout
    assert said.startswith("StoreUnavailableError")
    assert str(open_dir) in said
    assert "WANLLMDB_DIR" in said


def test_a_store_that_may_not_be_read_is_one_clear_error(as_plain_root, tmp_path):
    """Another user's private directory is no traceback of ours."""
    (tmp_path / "theirs").mkdir(mode=0o700)
    os.chown(tmp_path / "theirs", 65534, 65534)
    said = as_plain_root(INIT, env={"WANLLMDB_DIR": f"{tmp_path}/theirs"}).stdout
    assert said.startswith("StoreUnavailableError")
    assert f"{tmp_path}/theirs" in said


@pytest.mark.parametrize("place", ["store", "store/below"])
def test_a_file_in_the_place_is_one_clear_error(child, tmp_path, place):
    """A path that is, or leads through, a file is refused and the file kept."""
    (tmp_path / "store").write_text("precious")
    said = child(INIT, env={"WANLLMDB_DIR": str(tmp_path / place)}).stdout
    assert said.startswith("StoreUnavailableError")
    assert str(tmp_path / place) in said
    assert (tmp_path / "store").read_text() == "precious"


def test_a_full_directory_of_something_else_is_not_taken_over(child, tmp_path):
    """FORMAT of another program is refused, and nothing is changed."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "FORMAT").write_text("something else 7\n")
    said = child(INIT).stdout
    assert said.startswith("StoreUnavailableError")
    assert [p.name for p in (tmp_path / "store").iterdir()] == ["FORMAT"]


DELETED = "import os; os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')\n"


def test_a_deleted_working_directory_does_not_matter(child, tmp_path, store):
    """With an absolute path, or none, init does not need the directory."""
    assert f"recorded in {store}" in child(DELETED + INIT, cwd=tmp_path).stdout
    done = child(DELETED + INIT, cwd=tmp_path, unset=("WANLLMDB_DIR",))
    assert f"recorded in {tmp_path}/home/" in done.stdout


def test_a_relative_path_from_a_deleted_directory_is_refused(child, tmp_path):
    """It leads nowhere, and the error says so by its name."""
    done = child(DELETED + INIT, cwd=tmp_path, env={"WANLLMDB_DIR": "rel"})
    assert done.stdout.startswith("StoreUnavailableError")
    assert "'rel'" in done.stdout


def test_without_home_the_variable_is_enough(child, store):
    """HOME is needed for nothing where the place is named."""
    done = child(INIT, unset=("HOME", "XDG_CONFIG_HOME"))
    assert f"recorded in {store}" in done.stdout


@pytest.mark.parametrize("value", [None, "~/runs"])
def test_without_home_and_name_no_directory_called_tilde_is_made(
    child, as_nobody, open_dir, value
):
    """A user without HOME and passwd entry gets an error, not a place by accident."""
    del as_nobody  # it skips where there is no setpriv
    open_dir.chmod(0o777)
    env = {} if value is None else {"WANLLMDB_DIR": value}
    done = child(
        INIT, env=env, cwd=open_dir, prefix=["setpriv", "--reuid=54321",
        "--regid=54321", "--clear-groups", "--inh-caps=-all,+dac_read_search",
        "--ambient-caps=-all,+dac_read_search"],
        unset=("HOME", "XDG_CONFIG_HOME", *([] if value else ["WANLLMDB_DIR"])),
    )  # fmt: skip
    assert list(open_dir.iterdir()) == []
    assert done.stdout.startswith("StoreUnavailableError")
    assert "WANLLMDB_DIR" in done.stdout


@pytest.mark.parametrize(
    "name",
    ["with space", "été-\U0001f600", "100%25", "it's \"q\"", "what?#now", "a&b;c",
     "~tilde", "new\nline", ":memory:", "file:x"],
)  # fmt: skip
def test_odd_names_of_directories_are_plain_names(child, cli, tmp_path, name):
    """The path is data: for SQLite's URI, for the shell, for the listing."""
    place = {"WANLLMDB_DIR": str(tmp_path / name)}
    assert f"recorded in {tmp_path / name}" in child(INIT, env=place).stdout
    assert (tmp_path / name / "catalog.db").is_file()
    assert cli("ls", "-q", env=place).stdout == "r\n"


def test_a_name_that_is_not_utf8_works_or_is_one_clear_error(child, tmp_path):
    """Paths are bytes on Linux."""
    place = os.fsencode(tmp_path) + b"/caf\xe9"
    code = INIT.replace("error)", "ascii(error))").replace(
        'os.environ["WANLLMDB_DIR"]', "'it'")  # fmt: skip
    done = child(code, env={"WANLLMDB_DIR": os.fsdecode(place)}, ok=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(("recorded", "StoreUnavailableError"))


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_directories_are_0700_and_files_0600(child, cli, store, tmp_path, umask):
    """Whatever the umask, nobody else reads a Store; sealed files may be 0400."""
    code = """
    import os, wanllmdb
    with wanllmdb.init(config={"big": "x" * 2_000_000}) as run:
        run.log({"x": 1, "text": "y" * 300_000})
        run.log_message("hello")
        open(run.dir + "/own.txt", "w").close()
        run.save(__import__("sys").argv[1])
    wanllmdb.Api().runs()
    """
    (tmp_path / "a.txt").write_text("a")
    child(code, tmp_path / "a.txt", umask=umask)
    cli("doctor", "--fix", umask=umask, ok=False)
    modes = {p: stat.S_IMODE(p.stat().st_mode) for p in [store, *store.rglob("*")]}
    wrong = {
        str(p.relative_to(store)): oct(mode)
        for p, mode in modes.items()
        if mode not in ((0o700,) if p.is_dir() else (0o600, 0o400))
        and p.name != "own.txt"  # the program's own open() made it
    }
    assert wrong == {}


def test_a_nearly_full_disk_is_warned_of_once(with_mounts, tmp_path):
    """The warning names WANLLMDB_DIR, and the run is recorded."""
    (tmp_path / "disk").mkdir()
    disk = f"{tmp_path}/disk"
    code = "import sys\nsys.stderr = sys.stdout\n" + INIT
    mounts = (
        f"mount -t tmpfs -o size=16m none {disk}; "
        f"dd if=/dev/zero of={disk}/x bs=1M count=14 status=none"
    )
    said = with_mounts(mounts, code, env={"WANLLMDB_DIR": f"{disk}/s"}).stdout
    assert said.count("WanllmdbWarning") == 1
    assert "WANLLMDB_DIR" in said
    assert "recorded in" in said
