"""Exit codes and what stands on stderr, for people and for programs."""

from __future__ import annotations

import json
import sys

import pytest

import wanllmdb

# Arguments, exit code, and the error's kind.
ERRORS = [
    (["show", "nope"], 3, "run_not_found"),
    (["tail", "nope"], 3, "run_not_found"),
    (["logs", "p/nope"], 3, "run_not_found"),
    (["diff", "p/a", "nope"], 3, "run_not_found"),
    (["restore", "nope"], 3, "run_not_found"),
    (["rm", "nope", "--yes"], 3, "run_not_found"),
    (["metric", "ls", "nope"], 3, "run_not_found"),
    (["metric", "get", "p/a", "nope"], 3, "metric_not_found"),
    (["metric", "stats", "p/a", "nope"], 3, "metric_not_found"),
    (["plot", "p/a", "nope"], 3, "metric_not_found"),
    (["project", "show", "nope"], 3, "project_not_found"),
    (["project", "rename", "nope", "x"], 3, "project_not_found"),
    (["resume", "nope", "--", "true"], 3, "run_not_found"),
    (["project", "rename", "p", "q"], 4, "conflict"),
    (["show", "same"], 4, "ambiguous_name"),
    (["store", "backup", "{}"], 4, "conflict"),
    (["store", "restore", "{}/copy"], 7, "store_unavailable"),
    (["ls", "-f", "config.lr <<"], 2, "filter"),
    (["ls", "-s", "+nonsense"], 2, "filter"),
    (["ls", "-n", "-1"], 2, "invalid_input"),
    (["logs", "p/a", "--grep", "["], 2, "invalid_input"),
    (["ls", "--format", "parquet"], 2, "invalid_input"),
    (["restore", "p/a", "--epoch", "9"], 2, "invalid_input"),
    (["tag", "p/a", ""], 2, "invalid_name"),
    (["project", "rename", "p", "a/b"], 2, "invalid_name"),
    (["show", "@sideways"], 2, "invalid_input"),
    (["--store", "{}/none", "ls"], 7, "store_unavailable"),
    (["--store", "{}/file", "ls"], 7, "store_unavailable"),
]
NAMES = [" ".join(args) for args, _, _ in ERRORS]


@pytest.fixture
def odd_runs(two_runs, tmp_path):
    """Two runs of one name, and a project `q`."""
    wanllmdb.init(project="q", id="x", name="same").finish()
    wanllmdb.init(project="q", id="y", name="same").finish()
    (tmp_path / "file").write_text("no store")


@pytest.fixture
def main(monkeypatch, capsys):
    """The program's own `main` in this process: its exit code, stdout and stderr."""
    from wanllmdb.cli import main as run

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["wanllmdb", *args])
        with pytest.raises(SystemExit) as end:
            run()
        out, err = capsys.readouterr()
        return end.value.code, out, err

    return call


@pytest.mark.parametrize(("args", "status", "kind"), ERRORS, ids=NAMES)
def test_each_error_has_its_status_and_a_word(odd_runs, main, tmp_path, args, status,
                                              kind):  # fmt: skip
    """Nothing on stdout; one message, no traceback, on stderr."""
    code, out, err = main(*(a.format(tmp_path) for a in args))
    assert (code, out) == (status, "")
    assert err.startswith("Error: ")
    assert 1 <= err.count("\n") <= 4  # a filter's error shows the place
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("args", "status", "kind"),
    [e for e in ERRORS if "parquet" not in e[0]  # with --json it is no error
     and (e[0][0] in ("ls", "show", "diff", "logs", "metric", "tail")
          or e[0][:2] == ["project", "show"] or e[0][-1] == "ls")],
)  # fmt: skip
def test_json_errors_are_one_object(odd_runs, main, tmp_path, args, status, kind):
    """{"error": {"kind", "message", "hint"}} on stderr, and nothing else."""
    code, out, err = main(*(a.format(tmp_path) for a in args), "--json")
    assert (code, out) == (status, "")
    error = json.loads(err)["error"]
    assert set(error) == {"kind", "message", "hint"}
    assert (error["kind"], bool(error["message"])) == (kind, True)


@pytest.mark.parametrize(
    "args",
    [["ls", "--json", "--nope"], ["ls", "--json", "-n", "x"], ["show", "--json"],
     ["metric", "gt", "--json"]],
)  # fmt: skip
def test_usage_errors_are_json_too(main, args):
    """A program that asked for JSON never has to read prose."""
    code, out, err = main(*args)
    assert (code, out) == (2, "")
    assert json.loads(err)["error"]["message"]


def test_a_run_named_json_changes_no_format(two_runs, main):
    """Only --json and --format ask for JSON."""
    code, _, err = main("show", "my-json-run")
    assert (code, err.startswith("Error: ")) == (3, True)


@pytest.mark.parametrize(
    "args",
    [["ls", "--nope"], ["show"], ["ls", "-n", "x"], ["nonsense"], ["metric"],
     ["ls", "--format", "xml"], ["completion", "tcsh"], ["rm", "p/a"]],
)  # fmt: skip
def test_usage_errors_exit_with_2(two_runs, main, args):
    """Click's own errors, with the usage or a hint, and no traceback."""
    code, _, err = main(*args)
    assert code == 2
    assert err
    assert "Traceback" not in err


def test_debug_shows_the_traceback(cli):
    """--debug, and nothing else, lets it through."""
    wanllmdb.init(id="r").finish()
    done = cli("--debug", "show", "nope", ok=False)
    assert "Traceback" in done.stderr
    assert "RunNotFoundError" in done.stderr
    assert done.returncode != 0


def test_a_missing_extra_exits_with_9_and_names_the_pip_command(two_runs, start):
    """The hint can be pasted into a shell."""
    code = "import sys; sys.modules['plotext'] = None\n"
    code += "from wanllmdb.cli import main; main()"
    process = start("plot", "p/a", "loss", code=code)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 9
    assert 'pip install "wanllmdb[plot]"' in err
    assert "Traceback" not in err


def test_a_bad_setting_exits_with_2(two_runs, cli):
    """The error names the variable."""
    done = cli("ls", env={"WANLLMDB_FORMAT": "xml"}, ok=False)
    assert done.returncode == 2
    assert "WANLLMDB_FORMAT" in done.stderr


def test_success_is_0_and_says_nothing_on_stderr(two_runs, main):
    """Data on stdout alone."""
    for args in (["ls"], ["show", "p/a"], ["metric", "get", "p/a", "loss"],
                 ["logs", "p/a"], ["tail", "p/a"], ["project", "ls"], ["env"],
                 ["status"], ["store", "path"], ["version"]):  # fmt: skip
        code, out, err = main(*args)
        assert (code, err) == (0, ""), args
        assert out


@pytest.mark.parametrize(
    ("typed", "meant"),
    [(["shw", "x"], "show"), (["lss"], "ls"), (["metric", "gt", "r", "k"], "get"),
     (["project", "renam", "a", "b"], "rename"), (["trash", "emty"], "empty"),
     (["store", "bakup", "x"], "backup")],
)  # fmt: skip
def test_a_wrong_verb_suggests_the_nearest(main, typed, meant):
    """At the top and inside the groups."""
    code, _, err = main(*typed)
    assert code == 2
    assert f"'{meant}'" in err


def commands(group, path=()):
    """Every command below a group, with the words that lead to it."""
    import click

    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


def test_help_of_every_command_exits_with_0(main):
    """--help and -h, a usage and a sentence."""
    from wanllmdb.cli import cli as group

    found = list(commands(group))
    assert len(found) > 30
    for path in ((), *found):
        for word in ("--help", "-h"):
            code, out, err = main(*path, word)
            assert (code, err) == (0, ""), path
            assert out.startswith("Usage: ")
            assert len(out.splitlines()) > 3
