"""save(), run.dir and log_code()."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import wanllmdb
from wanllmdb.errors import InvalidInputError

CRASH = "\nos._exit(1)"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory of one's own."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def kept(api):
    """Files of a run as {name: text}."""
    return lambda run: {f.name: f.read().decode() for f in api.run(run).files()}


@pytest.mark.parametrize("policy", ["live", "end", "now"])
def test_a_file_is_captured_at_the_call(policy, here, kept, script):
    """A kill -9 right after save() costs nothing."""
    code = f"""
run = wandb.init(id="r")
pathlib.Path("a.txt").write_text("first")
run.save("a.txt", policy={policy!r})
os.unlink("a.txt")
os.kill(os.getpid(), 9)
"""
    script(code, cwd=here)
    assert kept("r") == {"a.txt": "first"}


@pytest.mark.parametrize(
    ("policy", "text"), [("live", "second!"), ("end", "second!"), ("now", "first")]
)
def test_a_changed_file_is_captured_again_at_finish(policy, text, here, kept):
    """Except where the policy says once."""
    with wanllmdb.init(id="r") as run:
        (here / "a.txt").write_text("first")
        assert run.save("a.txt", policy=policy) == [str(here / "a.txt")]
        (here / "a.txt").write_text("second!")
    assert kept("r") == {"a.txt": text}


@pytest.mark.parametrize(
    ("policy", "text"), [("live", "second!"), ("end", "second!"), ("now", "first")]
)
def test_a_changed_file_is_captured_again_at_resume(policy, text, here, kept, script):
    """A checkpoint written between save() and kill -9 is found when the run goes on."""
    code = f"""
run = wandb.init(id="r")
pathlib.Path("a.txt").write_text("first")
run.save("a.txt", policy={policy!r})
pathlib.Path("a.txt").write_text("second!")
os.kill(os.getpid(), 9)
"""
    script(code, cwd=here)
    wanllmdb.init(id="r", resume="must")
    assert kept("r") == {"a.txt": text}


def test_a_file_changed_after_the_resume_is_captured_at_finish(here, kept):
    """What was watched before is watched on."""
    with wanllmdb.init(id="r") as run:
        (here / "a.txt").write_text("first")
        run.save("a.txt")
    with wanllmdb.init(id="r", resume="must"):
        (here / "a.txt").write_text("second!")
    assert kept("r") == {"a.txt": "second!"}


def test_a_vanished_file_keeps_its_last_copy(here, kept):
    """Scratch space may be gone at the end."""
    with wanllmdb.init(id="r") as run:
        (here / "a.txt").write_text("first")
        run.save("a.txt", policy="live")
        (here / "a.txt").unlink()
    assert kept("r") == {"a.txt": "first"}


def test_a_glob_takes_files_that_come_later(here, kept):
    """`save("*.ckpt")` before training watches what training writes."""
    with wanllmdb.init(id="r") as run:
        (here / "a.ckpt").write_text("1")
        assert run.save("*.ckpt", policy="end") == [str(here / "a.ckpt")]
        (here / "b.ckpt").write_text("2")
        (here / "c.txt").write_text("3")
    assert kept("r") == {"a.ckpt": "1", "b.ckpt": "2"}


def test_a_directory_is_taken_with_all_it_holds(here, kept):
    """Recursively, and again at finish."""
    (here / "out" / "deep").mkdir(parents=True)
    (here / "out" / "a").write_text("1")
    (here / "out" / "deep" / "b").write_text("2")
    with wanllmdb.init(id="r") as run:
        assert len(run.save("out")) == 2
        (here / "out" / "deep" / "c").write_text("3")
    assert kept("r") == {"out/a": "1", "out/deep/b": "2", "out/deep/c": "3"}


def test_a_recursive_glob_keeps_the_folders(here, kept):
    """`**` as in glob."""
    (here / "x" / "y").mkdir(parents=True)
    (here / "x" / "y" / "m.pt").write_text("1")
    with wanllmdb.init(id="r") as run:
        run.save("**/*.pt")
    assert kept("r") == {"x/y/m.pt": "1"}


def test_base_path_is_left_out_of_the_names(here, kept, tmp_path):
    """Outside the working directory a file goes by its name, or below base_path."""
    (tmp_path / "far" / "deep").mkdir(parents=True)
    (tmp_path / "far" / "deep" / "a").write_text("1")
    with wanllmdb.init(id="r") as run:
        run.save(tmp_path / "far" / "deep" / "a")
        run.save(str(tmp_path / "far" / "*" / "a"), base_path=tmp_path / "far")
    assert kept("r") == {"a": "1", "deep/a": "1"}


def test_no_match_warns_and_returns_an_empty_list(here):
    """A typing error in a path is told, and does not stop training."""
    with wanllmdb.init() as run:
        with pytest.warns(wanllmdb.WanllmdbWarning, match=r"nope\.txt"):
            assert run.save("nope.txt") == []
        with pytest.raises(InvalidInputError, match="sometimes"):
            run.save("nope.txt", policy="sometimes")


def test_a_dangling_link_does_not_cost_the_other_files(here, kept):
    """Nor a pipe: what is no file is left out, the rest and run.dir are kept."""
    (here / "a").write_text("1")
    (here / "b").symlink_to("nowhere")
    os.mkfifo(here / "c")
    with wanllmdb.init(id="r") as run:
        (Path(run.dir) / "model").write_text("2")
        assert run.save("*", policy="end") == [str(here / "a")]
    assert kept("r") == {"a": "1", "model": "2"}


def test_run_dir_is_a_real_directory_ingested_at_finish(kept):
    """Whatever library writes there, in folders too."""
    with wanllmdb.init(id="r") as run:
        folder = Path(run.dir)
        assert folder.is_dir()
        (folder / "sub").mkdir()
        (folder / "sub" / "model.pt").write_text("weights")
    assert kept("r") == {"sub/model.pt": "weights"}


def test_run_dir_is_ingested_at_recovery(script, kept, api):
    """After kill -9 the files in it are there with the rows."""
    script("""
run = wandb.init(id="r")
(pathlib.Path(run.dir) / "model.pt").write_text("weights")
os.kill(os.getpid(), 9)
""")
    assert api.run("r").state == "crashed"
    assert kept("r") == {"model.pt": "weights"}


def test_run_dir_is_the_same_after_a_resume(script, kept):
    """A checkpoint left there is found again."""
    script("run = wandb.init(id='r')\n"
           "(pathlib.Path(run.dir) / 'a').write_text('1')" + CRASH)  # fmt: skip
    with wanllmdb.init(id="r", resume="must") as run:
        assert (Path(run.dir) / "a").read_text() == "1"
        (Path(run.dir) / "a").write_text("2, longer")
    assert kept("r") == {"a": "2, longer"}


def test_log_code_takes_python_files_under_code(here, kept):
    """Hidden, cache and environment directories are left out."""
    for name in ("a.py", "pkg/b.py", "note.txt", ".git/c.py", "__pycache__/d.py",
                 "venv/e.py", "node_modules/f.py"):  # fmt: skip
        (here / name).parent.mkdir(exist_ok=True)
        (here / name).write_text(name)
    (here / "venv" / "pyvenv.cfg").touch()
    with wanllmdb.init(id="r") as run:
        assert len(run.log_code()) == 2
    assert kept("r") == {"code/a.py": "a.py", "code/pkg/b.py": "pkg/b.py"}


def test_log_code_asks_the_users_functions(here, kept):
    """include_fn and exclude_fn take a path, or a path and the root."""
    for name in ("a.py", "b.txt", "c.txt"):
        (here / name).write_text(name)
    with wanllmdb.init(id="r") as run:
        run.log_code(here, include_fn=lambda path: path.endswith(".txt"),
                     exclude_fn=lambda path, root: path == f"{root}/c.txt")  # fmt: skip
    assert kept("r") == {"code/b.txt": "b.txt"}


def test_save_code_stores_the_scripts_directory(script, kept):
    """init(save_code=True) is log_code of where the script lies."""
    script("wandb.init(id='r', save_code=True)", file="proj/train.py")
    assert list(kept("r")) == ["code/train.py"]


def test_a_catalog_is_never_saved(tmp_path, monkeypatch):
    """Nor opened: closing it would drop the locks that SQLite has on it."""
    root = tmp_path / "project"
    root.mkdir()
    (root / "x.txt").write_text("1")
    (root / "catalog.db").write_text("somebody's")
    with wanllmdb.init(project="p", store=root / "store") as run:
        (root / "link").symlink_to(root / "store" / "catalog.db")
        run.save(str(root), base_path=str(root))
        run.log_code(str(root), include_fn=lambda path, root: "catalog" in path)
    with wanllmdb.Api(root / "store") as api:
        found = {file.name for file in api.run(run.path).files()}
    assert {"x.txt", "catalog.db", "code/catalog.db"} <= found
    assert not {f"{head}store/catalog.db{tail}" for head in ("", "code/")
                for tail in ("", "-wal", "-shm")} & found  # fmt: skip
    assert "link" not in found
