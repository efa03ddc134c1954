"""A second init() in a real notebook: a Jupyter kernel runs the cells."""

from __future__ import annotations

import os

import pytest

pytest.importorskip("ipykernel")
jupyter = pytest.importorskip("jupyter_client.manager")


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """Run code in a kernel; return what the cell printed to stdout and stderr.

    One kernel serves all tests, for it takes seconds to start; each test gives its
    own Store.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith("WANLLMDB_")}
    kept |= {"JUPYTER_RUNTIME_DIR": str(tmp_path_factory.mktemp("jupyter"))}
    kept |= {"IPYTHONDIR": str(tmp_path_factory.mktemp("ipython"))}
    kept |= {"WANLLMDB_GIT": "0", "WANLLMDB_SYSTEM_INTERVAL": "0"}
    # A kernel talks to its client by sockets: the one test that asks for them.
    os.environ["ALLOW_TEST_SOCKETS"] = kept["ALLOW_TEST_SOCKETS"] = "1"
    manager, client = jupyter.start_new_kernel(kernel_name="python3", env=kept)

    def run(code):
        said = {"stdout": "", "stderr": "", "error": ""}

        def hear(message):
            content = message["content"]
            if message["msg_type"] == "stream":
                said[content["name"]] += content["text"]
            elif message["msg_type"] == "error":
                said["error"] += content["ename"]

        client.execute_interactive(code, timeout=30, output_hook=hear)
        return said

    yield run
    del os.environ["ALLOW_TEST_SOCKETS"]
    client.stop_channels()
    manager.shutdown_kernel(now=True)


@pytest.fixture
def notebook(cells, store):
    """The kernel, with no run active and the test's own Store."""
    said = cells(
        "import os, wanllmdb as wandb\nwandb.teardown()\n"
        f"os.environ['WANLLMDB_DIR'] = {str(store)!r}"
    )
    assert said["error"] == ""
    return cells


def test_a_second_init_in_a_notebook_finishes_the_first_run(notebook, api, rows):
    """Running a cell again starts a run anew, as people expect of a cell."""
    for value in (1, 2):
        said = notebook(f"run = wandb.init(project='p')\nrun.log({{'a': {value}}})")
        assert said["error"] == ""
    newest, oldest = api.runs("p")
    assert (newest.state, oldest.state) == ("running", "finished")
    notebook("wandb.finish()")
    assert [rows(r, "a") for r in (newest, oldest)] == [[(0, 2)], [(0, 1)]]


def test_return_previous_wins_in_a_notebook_too(notebook):
    """An explicit word beats the notebook's default."""
    code = "a = wandb.init()\nb = wandb.init(reinit='return_previous')\nprint(a is b)"
    assert "True" in notebook(code)["stdout"]


def test_create_new_leaves_the_notebooks_run_alone(notebook, api):
    """The first run goes on beside the second."""
    notebook("a = wandb.init(id='a')\nb = wandb.init(id='b', reinit='create_new')")
    assert [api.run(i).state for i in "ab"] == ["running", "running"]


def test_an_exception_in_a_cell_leaves_the_run_running(notebook, api, rows):
    """A failed cell is no end of a notebook: the next one goes on."""
    said = notebook("run = wandb.init(id='r')\nrun.log({'a': 1})\n1 / 0")
    assert said["error"] == "ZeroDivisionError"
    assert api.run("r").state == "running"
    notebook("run.log({'a': 2})\nwandb.finish()")
    assert rows(api.run("r"), "a") == [(0, 1), (1, 2)]
    assert api.run("r").state == "finished"


def test_what_a_cell_prints_is_recorded_and_still_shown(notebook, api):
    """Each cell's output streams are those of the kernel."""
    notebook("run = wandb.init(id='r', capture_logs=True)")
    assert "from a cell" in notebook("print('from a cell')")["stdout"]
    notebook("wandb.finish()")
    assert "from a cell" in [line.text for line in api.run("r").logs()]


def test_a_forked_child_of_the_kernel_ends_nothing(notebook, api):
    """What a cell forks does not end the notebook's run."""
    notebook(
        "run = wandb.init(id='r')\npid = os.fork()\n"
        "if pid == 0:\n    os._exit(0)\nos.waitpid(pid, 0)"
    )
    assert api.run("r").state == "running"
    notebook("wandb.finish()")
    assert api.run("r").state == "finished"
