"""Odd uses of the command line (rows 21, 30, 40): a status, one line, no traceback."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import pty
import signal
import subprocess
import sys

import pytest

import wanllmdb

CLI = [sys.executable, "-m", "wanllmdb"]
SMILE = "\U0001f600"
BIDI = "\u202e"


def cli(*args, **options):
    """Run the command line in a process of its own; stdin is no terminal."""
    given = {
        "capture_output": True, "text": True, "encoding": "utf-8", "timeout": 60,
        "check": False, "stdin": subprocess.DEVNULL,
    }  # fmt: skip
    return subprocess.run([*CLI, *args], **{**given, **options})


def shell(command, **env):
    """Run a shell command in which $W is the command line."""
    return subprocess.run(
        ["sh", "-c", command],
        env={**os.environ, **env, "W": " ".join(CLI)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def clean(done, status):
    """Assert how a command ended, and that it is no accident."""
    assert "Traceback" not in done.stderr
    assert done.returncode == status, done.stderr
    return done


@pytest.fixture
def odd_run():
    """A finished run whose names, keys and values are all odd."""
    name = f"{SMILE} \x1b[31mred{BIDI}\n"
    with wanllmdb.init(project="p", id="odd", name=name, tags=["é"]) as run:
        run.log({"m": 1, f"k{BIDI}\n": 2.5, "n": math.nan})
        run.log({"m": "text", "n": math.inf})
        run.log({"m": 10**30, "n": -0.0})
    return run


@pytest.fixture
def twins():
    """Two runs of one odd name, whose ids share a prefix."""
    for run_id in ("twin-1", "twin-2"):
        wanllmdb.init(project="p", id=run_id, name=f"twin\x1b[31m{BIDI}").finish()


@pytest.mark.parametrize("name", ["-rf", "--help", "--json", "a b", "$HOME", "*", "'"])
def test_odd_names_are_operands_after_two_dashes(name, api):
    """Row 30: `--` ends the options of every command that takes a run."""
    wanllmdb.init(project="p", id=name, name=name).finish()
    wanllmdb.init(project="p", id="bystander").finish()
    assert name in clean(cli("show", "--", name), 0).stdout
    clean(cli("tag", "--", name, "-t"), 0)
    assert api.run(name).tags == ("-t",)
    clean(cli("rm", "--yes", "--", name), 0)
    clean(cli("restore", "--", name), 0)
    assert {run.id for run in api.runs()} == {name, "bystander"}


@pytest.mark.parametrize("name", ["-rf", "..", "~", "a b", SMILE])
def test_odd_projects_are_arguments(name):
    """Row 30: as the value of -p, and as an operand."""
    wanllmdb.init(project=name, id="r").finish()
    assert clean(cli("ls", f"--project={name}", "-q"), 0).stdout == "r\n"
    assert name in clean(cli("project", "show", "--", name), 0).stdout


@pytest.mark.parametrize(
    ("args", "status", "kind"),
    [
        (["show", "nope"], 3, "run_not_found"),
        (["show", "p/"], 3, "run_not_found"),
        (["show", ""], 3, "run_not_found"),
        (["show", "twin"], 4, "ambiguous_name"),
        (["metric", "get", "twin-1", "nope"], 3, "metric_not_found"),
        (["ls", "-n", "-1"], 2, "invalid_input"),
        (["ls", "-s", "bogus"], 2, "filter"),
        (["ls", "-f", "((("], 2, "filter"),
        (["logs", "twin-1", "--grep", "("], 2, "invalid_input"),
        (["ls", "--format", "parquet"], 2, "invalid_input"),
        (["--store", "/proc/none", "ls"], 7, "store_unavailable"),
        (["show"], 2, None),
        (["ls", "-n", "many"], 2, None),
        (["ls", "--bogus"], 2, None),
        (["lss"], 2, None),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_every_error_has_its_status_and_is_json_where_json_is_asked_for(
    args, status, kind, twins
):
    """Row 40: the status of the kind; stdout stays empty; --json errors parse."""
    done = clean(cli(*args), status)
    assert done.stdout == ""
    assert "Error: " in done.stderr
    if args[:2] == ["ls", "--format"] or args == ["lss"]:
        return
    done = clean(cli(*args, "--json"), status)
    error = json.loads(done.stderr)["error"]
    assert set(error) == {"kind", "message", "hint"}
    assert kind is None or error["kind"] == kind


def test_a_run_called_json_does_not_ask_for_json():
    """Row 40: only the option does."""
    wanllmdb.init(id="r").finish()
    done = clean(cli("show", "my-json"), 3)
    assert done.stderr.startswith("Error: ")


def test_an_ambiguous_name_lists_the_runs_and_no_escape_codes(twins):
    """Rows 21, 40: candidates are listed; what would steer the terminal is escaped."""
    for selector in ("twin", f"twin\x1b[31m{BIDI}"):
        done = clean(cli("show", selector), 4)
        assert "p/twin-1" in done.stderr
        assert "p/twin-2" in done.stderr
        assert "\x1b" not in done.stderr
        assert BIDI not in done.stderr


LISTINGS = [
    ["ls"], ["ls", "-c", f"id,summary.k{BIDI}\n"], ["show", "odd"], ["tail", "odd"],
    ["metric", "ls", "odd"], ["metric", "get", "odd", f"k{BIDI}\n"], ["trash", "ls"],
    ["metric", "stats", "odd", f"k{BIDI}\n"], ["diff", "odd", "odd"], ["project", "ls"],
]  # fmt: skip


@pytest.mark.parametrize("args", LISTINGS, ids=" ".join)
def test_what_people_read_holds_no_control_or_bidi_characters(args, odd_run):
    """Row 21: they are escaped, in cells as in headings."""
    done = clean(cli(*args), 0)
    assert not {"\x1b", BIDI} & set(done.stdout)
    assert not any(line.startswith(" red") for line in done.stdout.splitlines())


def test_a_key_with_a_newline_is_one_column_of_a_table():
    """Row 21: one line of headings, then one line for each row."""
    with wanllmdb.init(id="lines") as run:
        run.log({"first\nsecond": 1})
    done = clean(cli("metric", "get", "lines", "first\nsecond"), 0)
    assert len(done.stdout.splitlines()) == 2


@pytest.mark.parametrize("fmt", ["json", "jsonl", "csv"])
def test_what_programs_read_holds_the_exact_names(fmt, odd_run):
    """Row 21: nothing is escaped or shortened for a program, and it all parses."""
    text = clean(cli("ls", "--format", fmt), 0).stdout
    if fmt == "csv":
        (row,) = csv.DictReader(io.StringIO(text, newline=""))
    else:
        (row,) = json.loads(text if fmt == "json" else f"[{text}]")
    assert row["name"] == f"{SMILE} \x1b[31mred{BIDI}\n"


@pytest.mark.parametrize("fmt", ["table", "json", "jsonl", "csv", "parquet"])
def test_a_key_of_mixed_types_is_written_in_every_format(fmt, odd_run, tmp_path):
    """Row 5: an int, a text and an int beyond 64 bits share a column."""
    target = tmp_path / "out"
    clean(cli("metric", "get", "odd", "m", "--format", fmt, "-o", target), 0)
    if fmt == "parquet":
        import pyarrow.parquet as pq

        assert pq.read_table(target).num_rows == 3
    else:
        assert str(10**30) in target.read_text()


@pytest.mark.parametrize("where", ["no/such/dir/x.csv", "."])
def test_a_file_that_cannot_be_written_is_one_line_of_error(where, odd_run, tmp_path):
    """Row 40: the path is named."""
    done = cli("ls", "--format", "csv", "-o", where, cwd=tmp_path)
    assert "Traceback" not in done.stderr
    assert done.returncode not in (0, 130)
    assert where in done.stderr


LOCALES = [
    {"PYTHONIOENCODING": "latin-1"},
    {"PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
]


@pytest.mark.parametrize("locale", LOCALES, ids=lambda v: " ".join(v.values()))
@pytest.mark.parametrize(
    "args",
    [["ls"], ["show", "odd"], ["ls", "--json"], ["ls", "--format", "csv"]],
    ids=" ".join,
)
def test_a_locale_without_emoji_is_no_reason_to_fail(args, locale, odd_run):
    """Row 40: what it cannot show is escaped, and the status is the usual one."""
    clean(cli(*args, env={**os.environ, **locale}, encoding="latin-1"), 0)


@pytest.mark.parametrize("locale", LOCALES[1:3], ids=lambda v: " ".join(v.values()))
@pytest.mark.parametrize("args", [["show"], ["ls", "-p"], ["tag", "odd"]], ids=" ".join)
def test_an_emoji_as_an_argument_works_or_is_one_clear_error(args, locale, odd_run):
    """Row 40: also where the locale makes half characters of it."""
    done = cli(*args, SMILE, env={**os.environ, **locale}, encoding="latin-1")
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 2, 3)


@pytest.mark.parametrize(
    "args", ["ls --json", "metric get long x", "tail long -n 9999", "--help"]
)
def test_a_reader_that_leaves_early_is_no_error(args):
    """Row 40: `| head -1` of a long listing prints nothing on stderr."""
    with wanllmdb.init(id="long") as run:
        for step in range(5_000):
            run.log({"x": step})
    done = shell(f"{{ $W {args}; echo $? >&2; }} | head -1")
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr.strip() in ("0", "141")


@pytest.mark.parametrize("args", ["ls", "show odd", "--help", "env --json"])
@pytest.mark.parametrize("stream", ["/dev/full", "&-"])
def test_output_that_cannot_be_written_is_no_traceback(args, stream, odd_run):
    """Row 40: a full disk is one line of error; a closed stdout at least no crash."""
    done = shell(f"$W {args} >{stream}")
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    if stream == "/dev/full":
        assert done.returncode not in (0, 120)
        assert "No space left" in done.stderr


def test_without_a_terminal_nothing_is_coloured_or_asked(odd_run, api):
    """Row 40: no escape codes in a pipe; what destroys needs --yes."""
    done = clean(cli("rm", "odd"), 2)
    assert "--yes" in done.stderr
    assert api.run("odd").id == "odd"
    for args in (["status"], ["ls"], ["--help"], ["doctor"]):
        assert "\x1b" not in clean(cli(*args), 0).stdout


@pytest.mark.parametrize("args", [["ls"], ["show", "odd"], ["show", "no"]])
def test_no_color_is_heeded_on_a_terminal(args, odd_run):
    """Row 40: with NO_COLOR a terminal gets no escape codes either."""
    main, other = pty.openpty()
    done = subprocess.run(
        [*CLI, *args], stdin=other, stdout=other, stderr=other, timeout=60,
        check=False, env={**os.environ, "NO_COLOR": "1", "TERM": "xterm-256color"},
    )  # fmt: skip
    os.close(other)
    shown = os.read(main, 1 << 16)
    os.close(main)
    assert done.returncode in (0, 3)
    assert b"\x1b" not in shown


@pytest.mark.parametrize("options", [["-f"], ["-n", "1", "-f"]])
def test_ctrl_c_ends_a_command_with_130(options, api):
    """Row 40: SIGINT to `tail -f` is no traceback, and the run goes on."""
    run = wanllmdb.init(id="r")
    run.log({"x": 1})
    with subprocess.Popen(
        [*CLI, "tail", "r", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert b"x=1" in child.stdout.readline()
        child.send_signal(signal.SIGINT)
        _, error = child.communicate(timeout=60)
    assert (child.returncode, b"Traceback" in error) == (130, False)
    run.log({"x": 2})
    run.finish()
    assert api.run("r").summary["x"] == 2


def test_ctrl_c_of_a_recorded_command_is_passed_on(api):
    """Row 40: `exec` ends as its command did, and the run says killed."""
    code = "import sys, time; print('up', flush=True); time.sleep(60)"
    with subprocess.Popen(
        [*CLI, "exec", "-p", "p", "--", sys.executable, "-c", code],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    ) as child:  # fmt: skip
        assert child.stdout.readline() == b"up\n"
        os.killpg(child.pid, signal.SIGINT)
        _, error = child.communicate(timeout=60)
    assert b"wanllmdb/" not in error
    assert child.returncode in (130, -signal.SIGINT)
    assert api.run("@last").state == "killed"


@pytest.mark.parametrize("rows", [0, 1, 2, 100])
def test_tail_prints_as_many_rows_as_asked(rows, odd_run):
    """Row 40: zero is zero."""
    done = clean(cli("tail", "odd", "-n", str(rows)), 0)
    assert len(done.stdout.splitlines()) == min(rows, 3)


def test_a_negative_number_of_rows_is_refused(odd_run):
    """Row 40: as `ls -n -1` is."""
    clean(cli("tail", "odd", "-n", "-1"), 2)
    clean(cli("metric", "get", "odd", "m", "-n", "-1"), 2)


def test_commands_at_once_do_not_lose_each_other(odd_run, api):
    """Row 40: six writers and two readers, all succeed and all are kept."""
    commands = [["tag", "odd", f"t{n}"] for n in range(6)] + [["ls", "--json"]] * 2
    running = [
        subprocess.Popen([*CLI, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for args in commands
    ]
    ended = [(child.communicate(timeout=60)[1], child.returncode) for child in running]
    assert ended == [(b"", 0)] * 8
    assert set(api.run("odd").tags) == {"é", *(f"t{n}" for n in range(6))}


def test_a_store_without_runs_is_listed_as_empty(store):
    """Row 40: nothing found is no error, and JSON of nothing is an empty list."""
    wanllmdb.init(id="gone").finish()
    clean(cli("rm", "gone", "--yes"), 0)
    assert json.loads(clean(cli("ls", "--json"), 0).stdout) == []
    assert clean(cli("ls"), 0).stdout == ""
    assert json.loads(clean(cli("metric", "ls", "gone", "--json"), 3).stderr)["error"]
