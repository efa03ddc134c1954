"""Threads that add to one draft, and children that inherit one."""

from __future__ import annotations

import os
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor

import pytest

import wanllmdb
from wanllmdb import Artifact, _locks
from wanllmdb.errors import ArtifactStateError, WanllmdbError

MANY = 8


@pytest.fixture
def in_child():
    """Calls a function in a forked child, which must not raise."""

    def called(function):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                function()
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0

    return called


def together(function):
    """Call a function of a number in many threads at once."""
    barrier = threading.Barrier(MANY)

    def called(number):
        barrier.wait()
        return function(number)

    with ThreadPoolExecutor(MANY) as pool:
        return list(pool.map(called, range(MANY)))


def test_threads_add_to_one_draft(run, made, read, tmp_path):
    """All that each added is in the version: own paths, shared ones, equal bytes."""
    roots = [
        made({f"own{n}/{i}": f"{n}/{i}" for i in range(20)}
             | {f"same/{i}": str(i) for i in range(20)} | {f"big{n}": "b" * (2 << 20)})
        for n in range(MANY)
    ]  # fmt: skip
    artifact = Artifact("a", "dataset")

    def add(number):
        artifact.add_dir(roots[number])
        with artifact.new_file(f"new{number}") as file:
            file.write("new")
        artifact.remove(f"own{number}/0")

    together(add)
    logged = run.log_artifact(artifact)
    assert logged.file_count == MANY * 21 + 20
    assert logged.verify()
    found = read(logged.download(tmp_path / "o"))
    assert {
        found[f"own{n}/{i}"] == f"{n}/{i}" for n in range(MANY) for i in range(1, 20)
    }
    again = logged.new_draft()
    for number in range(MANY):
        again.remove(f"own{number}")
    with again.new_file("own0") as file:  # the directories are counted right
        file.write("a file now")


def test_threads_each_make_a_draft(run, store):
    """Also the first ones of a Store."""

    def logged(number):
        artifact = Artifact(f"a{number}", "dataset")
        with artifact.new_file("x") as file:
            file.write("same")
        return run.log_artifact(artifact, aliases=["best"]).name

    assert sorted(together(logged)) == [f"a{n}:v1" for n in range(MANY)]
    assert list((store / "tmp").iterdir()) == []


def test_threads_log_versions_of_one_artifact(run, api):
    """No number is skipped or doubled."""

    def logged(number):
        artifact = Artifact("a", "dataset")
        with artifact.new_file("x") as file:
            file.write(str(number))
        return run.log_artifact(artifact, aliases=["best"]).version

    assert sorted(together(logged)) == [f"v{n + 1}" for n in range(MANY)]
    assert api.artifact("a:best").version == f"v{MANY}"


def test_a_thread_that_adds_while_another_commits_is_told(run, made):
    """What it adds is in the version, or it gets an error."""
    roots = [made({str(n): str(n)}) for n in range(MANY)]
    for _ in range(5):
        artifact = Artifact("a", "dataset")
        with artifact.new_file("first") as file:
            file.write("1")

        def either(number, artifact=artifact):
            if number == 0:
                run.log_artifact(artifact)
                return []
            try:
                artifact.add_dir(roots[number])
            except WanllmdbError:
                return []
            return [str(number)]

        added = [path for paths in together(either) for path in paths]
        held = {entry.path for entry in artifact.files()}
        assert held == {"first", *added}
        assert {e.path for e in run.use_artifact(artifact.name).files()} == held
        assert artifact.verify()
        with pytest.raises(ArtifactStateError):
            artifact.add_dir(roots[1])


def test_a_child_goes_on_with_a_draft_of_its_own(run, made, in_child, api, store, read,
                                                 tmp_path):  # fmt: skip
    """What it adds and logs is not its parent's, and the reverse."""
    root = made({"x": "1", "big": "b" * (2 << 20)})
    artifact = Artifact("a", "dataset")
    artifact.add_dir(root)

    def child():
        with artifact.new_file("child") as file:
            file.write("of the child")
        run.log_artifact(artifact, name="ignored")
        assert artifact.verify()

    in_child(child)
    with artifact.new_file("parent") as file:
        file.write("of the parent")
    with artifact.new_file("child") as file:
        file.write("of the child")
    assert run.log_artifact(artifact).version == "v2"
    assert set(read(api.artifact("a:v1").download(tmp_path / "1"))) == {
        "x", "big", "child",
    }  # fmt: skip
    assert set(read(artifact.download(tmp_path / "2"))) == {
        "x", "big", "child", "parent",
    }  # fmt: skip
    for version in ("v1", "v2"):
        assert api.artifact(f"a:{version}").verify()
    assert os.listdir(store / "tmp") == []


def test_a_child_that_drops_a_draft_leaves_it_to_its_parent(run, made, in_child, store):
    """Whether it touched it or not."""
    artifact = Artifact("a", "dataset")
    artifact.add_dir(made({"x": "1"}))
    in_child(lambda: artifact._staging.discard())

    def touched():
        with artifact.new_file("y") as file:
            file.write("2")
        artifact._staging.discard()

    in_child(touched)
    assert run.log_artifact(artifact).verify()
    assert artifact.file_count == 1
    assert os.listdir(store / "tmp") == []


def test_a_child_logs_what_its_parent_logged_meanwhile(run, made, in_child, api):
    """The bytes are blobs by then."""
    artifact = Artifact("a", "dataset")
    artifact.add_dir(made({"x": "1", "y": "2"}))
    parent = os.getpid()
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.read(read_end, 1)
            assert os.getpid() != parent
            assert run.log_artifact(artifact).version == "v1"
            assert artifact.verify()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    run.log_artifact(artifact)
    os.write(write_end, b"x")
    assert os.waitpid(pid, 0)[1] == 0
    assert len(api.artifacts("dataset", "a")) == 1


def test_a_fork_while_threads_commit_does_not_hang_the_child(run, in_child):
    """Whatever locks those threads hold."""
    stop = threading.Event()
    errors = []

    def commit():
        count = 0
        while not stop.is_set():
            count += 1
            artifact = Artifact("busy", "dataset")
            with artifact.new_file("x") as file:
                file.write(str(count))
            try:
                run.log_artifact(artifact)
            except BaseException as error:
                errors.append(error)

    threads = [threading.Thread(target=commit) for _ in range(2)]
    for thread in threads:
        thread.start()

    def child():
        artifact = Artifact("child", "dataset")
        with artifact.new_file("x") as file:
            file.write(str(os.getpid()))
        run.log_artifact(artifact)

    try:
        for _ in range(10):
            in_child(child)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert errors == []
    assert run.use_artifact("child").version == "v10"


def test_what_a_killed_process_left_is_in_nobody_s_way(run, store):
    """Also where the next one has the same pid, as in a container."""
    (store / "tmp" / f"lock-{os.getpid()}-lock").write_text("")
    artifact = Artifact("a", "dataset")
    with artifact.new_file("x") as file:
        file.write("1")
    run.log_artifact(artifact)


def test_a_lock_is_shared_by_threads_and_forgotten_by_a_child(tmp_path, in_child):
    """Whoever wants it alone has to wait for all."""
    path = tmp_path / "lock"
    with _locks.shared(path, 1) as one, _locks.shared(path, 1) as other:
        assert one
        assert other
        assert _locks.try_acquire(path) is None

        def child():
            assert _locks.try_acquire(path) is None
            with _locks.shared(path, 1) as held:
                assert held

        in_child(child)
        assert _locks.is_held(path)
    alone = _locks.try_acquire(path)
    assert alone is not None
    with alone, _locks.shared(path, 0.05) as held:
        assert not held
    with _locks.shared(path, 0) as held:
        assert held


def test_a_large_file_is_added_while_the_program_ends(store, tmp_path, start_script):
    """No threads can be started any more then."""
    start_script(
        "import atexit, os, wanllmdb\n"
        "def last():\n"
        "    run = wanllmdb.init(project='p')\n"
        "    a = wanllmdb.Artifact('a', 'model')\n"
        "    with a.new_file('x', 'wb') as f:\n"
        "        f.write(bytes(3 << 20))\n"
        "    run.log_artifact(a)\n"
        "    run.finish()\n"
        "atexit.register(last)\n"
    )
    with wanllmdb.Api(store) as api:
        assert api.artifact("a").verify()


ORPHAN = """
import os, sys, traceback, wanllmdb
when = sys.argv[1]
run = wanllmdb.init(project="p", id="r")

def log(text):
    artifact = wanllmdb.Artifact("a", "dataset")
    with artifact.new_file("x") as file:
        file.write(text)
    return run.log_artifact(artifact).version

log("parent")
to_child, to_parent = os.pipe(), os.pipe()
pid = os.fork()
if pid == 0:
    code = 1
    try:
        if when == "before":
            assert log("child") == "v2"
        os.write(to_parent[1], b"x")
        os.read(to_child[0], 1)
        try:
            print(log("late"), flush=True)
        except wanllmdb.errors.StoreClosedError:
            print("refused", flush=True)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)
os.read(to_parent[0], 1)
wanllmdb.teardown()
if len(sys.argv) > 2:  # others open the Store meanwhile, and write to it
    with wanllmdb.init(project="p", id="s") as run:
        print(log("other"), flush=True)
    wanllmdb.teardown()
os.write(to_child[1], b"x")
assert os.waitpid(pid, 0)[1] == 0
"""


@pytest.mark.parametrize(("arguments", "said", "versions"), [
    (["before"], ["v3"], 3), (["before", "other"], ["v3", "v4"], 4),
    (["after"], ["refused"], 1), (["after", "other"], ["v2", "refused"], 2),
])  # fmt: skip
def test_what_a_child_commits_after_its_parent_closed_is_kept_or_refused(
    start_script, api, sql, arguments, said, versions
):
    """SQLite takes the parent's locks for the child's, and removed the WAL under it."""
    assert start_script(ORPHAN, *arguments).split() == said
    found = api.artifacts("dataset", "p/a")
    assert [a.version for a in found] == [f"v{n}" for n in range(versions, 0, -1)]
    assert all(a.verify() for a in found)
    assert sql("PRAGMA integrity_check") == [("ok",)]


def test_a_child_that_outlives_its_parent_s_store_logs_to_its_end(start_script, store):
    """Quietly: its log is its own, and whoever reads the run ends it."""
    start_script(
        "import os, warnings, wanllmdb\n"
        "warnings.simplefilter('error')\n"
        "run = wanllmdb.init(project='p', id='r')\n"
        "read, write = os.pipe()\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    run.log({'x': 1})\n"
        "    os.read(read, 1)\n"
        "    run.log({'x': 2})\n"
        "    run.finish()\n"
        "    os._exit(0)\n"
        "wanllmdb.teardown()\n"
        "os.write(write, b'x')\n"
        "assert os.waitpid(pid, 0)[1] == 0\n"
    )
    with wanllmdb.Api(store) as api:
        assert api.run("p/r").state == "finished"
        assert [row["x"] for row in api.run("p/r").scan_history()] == [1, 2]
