"""What never happens: an open() of the Catalog's files, and a socket."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

# Runs all that a Store can do, with an audit hook that notes events of one kind.
WATCH = """
import sys
seen = []
def hook(event, args):
    if event.startswith(sys.argv[1]): seen.append((event, str(args)))
sys.addaudithook(hook)
import contextlib, io, os, warnings
warnings.simplefilter("ignore")
import wanllmdb
from wanllmdb.cli import cli
def call(*args):
    with contextlib.redirect_stdout(io.StringIO()):
        cli.main(list(args), standalone_mode=False)
with wanllmdb.init(project="p", id="r", config={"a": 1}) as run:
    run.log({"x": 1, "long": "y" * 300_000}); run.alert("t"); run.log_message("m")
    open(run.dir + "/f", "w").close()
api = wanllmdb.Api()
stored = api.run("p/r")
stored.history().to_pylist(); list(stored.logs()); stored.files(); stored.events
stored.update(name="n", config={"b": 2}); stored.delete(); stored.restore()
copy = os.environ["WANLLMDB_DIR"] + "-copy"
call("demo", "--steps", "20")
for words in ("ls", "show p/r", "metric get p/r x", "metric stats p/r x", "tail p/r",
              "logs p/r", "status", "env", "doctor --fix", "project ls", "diff p/r p/r",
              "plot p/r x", f"report p/r -o {copy}.html", "rm p/r --yes", "trash ls",
              "restore p/r", "store migrate", f"store backup {copy}",
              f"--store {copy}2 store restore {copy}", f"--store {copy}2 ls"):
    call(*words.split())
wanllmdb.init(id="next", resume="auto").finish()
wanllmdb.teardown(); api.close()
for event, args in seen: print(event, args)
print("done")
"""
# All of strace's "network" but sendfile, by which Python copies files.
CALLS = "trace=socket,socketpair,connect,bind,listen,accept,accept4,sendto,sendmsg"
CAPTURING = {
    "WANLLMDB_CONSOLE": "1", "WANLLMDB_SYSTEM_INTERVAL": "0.1", "WANLLMDB_GIT": "1",
    "WANLLMDB_ENVIRONMENT": "1",
}  # fmt: skip


def catalog_opens(child, store, code):
    """Which of the Catalog's files a watched child opened by itself."""
    said = child(code, "open").stdout.splitlines()
    assert said[-1] == "done"
    assert len(said) > 20
    return [line for line in said if f"'{store}/catalog.db" in line]


def test_python_never_opens_the_catalogs_files(child, store):
    """Closing any descriptor of them would drop SQLite's locks: commits are lost."""
    child("import wanllmdb; wanllmdb.init(id='first').finish()")
    assert catalog_opens(child, store, WATCH) == []


def test_not_even_where_its_creator_was_killed(child, store):
    """An empty Catalog is filled through SQLite alone: a thread may hold it open."""
    child("import wanllmdb; wanllmdb.init().finish()")
    for path in store.glob("catalog.db*"):
        path.unlink()
    (store / "catalog.db").touch(0o600)
    brief = WATCH.partition("api =")[0] + "print(*seen, 'done', sep='\\n')"
    assert catalog_opens(child, store, brief) == []


def test_no_socket_is_made(child):
    """Recording, reading and every command: no socket, no name looked up."""
    said = child(WATCH, "socket", env=CAPTURING).stdout.splitlines()
    assert said == ["done"]


def test_the_kernel_sees_no_socket_either(tmp_path):
    """Libraries in C included; libc alone may ask nscd, by AF_UNIX, for a user."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    trace = tmp_path / "trace"
    strace = ["strace", "-f", "-qq", "-o", trace, "-e", CALLS]
    done = subprocess.run(
        [*strace, sys.executable, "-c", WATCH, "socket"], capture_output=True,
        text=True, timeout=100, check=False,
    )  # fmt: skip
    if "ptrace" in done.stderr:
        pytest.skip("needs the right to ptrace")
    assert done.returncode == 0, done.stderr
    calls = [line for line in trace.read_text().splitlines() if "(" in line]
    # getpwuid() in getpass.getuser() tries /var/run/nscd/socket: libc's nss.
    wrong = [c for c in calls if "AF_UNIX" not in c and "--- SIG" not in c]
    assert wrong == []
    assert all("nscd" in c or "sss" in c for c in calls if "connect(" in c)


@pytest.mark.parametrize("how", ["import wanllmdb", "from wanllmdb import cli"])
def test_importing_loads_no_network_library(child, how):
    """`socket` itself is not even imported."""
    code = f"{how}\nimport sys; print(*sorted({{'socket', 'ssl', 'http', 'urllib3',"
    code += " 'requests', 'asyncio'} & set(sys.modules)))"
    assert child(code).stdout.split() == []
