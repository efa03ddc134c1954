"""W&B's environment variables, and ours over them."""

from __future__ import annotations

import pytest

import wanllmdb

VARIABLES = [
    ("PROJECT", "PROJECT", "p", lambda r: r.project),
    ("NAME", "RUN_NAME", "n", lambda r: r.name),
    ("RUN_ID", "RUN_ID", "i", lambda r: r.id),
    ("RUN_GROUP", "RUN_GROUP", "g", lambda r: r.group),
    ("JOB_TYPE", "JOB_TYPE", "j", lambda r: r.job_type),
    ("NOTES", "NOTES", "text", lambda r: r.notes),
    ("TAGS", "TAGS", "a", lambda r: r.tags and r.tags[0]),
]
IDS = [entry[0] for entry in VARIABLES]


@pytest.mark.parametrize(("theirs", "ours", "value", "read"), VARIABLES, ids=IDS)
def test_wandbs_variable_counts_where_ours_is_absent(
    theirs, ours, value, read, monkeypatch
):
    """WANLLMDB_* wins over WANDB_*, and an argument over both."""
    monkeypatch.setenv(f"WANDB_{theirs}", value)
    with wanllmdb.init() as run:
        assert read(run) == value
    monkeypatch.setenv(f"WANLLMDB_{ours}", "ours")
    with wanllmdb.init() as run:
        assert read(run) == "ours"
    words = {"RUN_NAME": "name", "RUN_ID": "id", "RUN_GROUP": "group"}
    argument = words.get(ours, ours.lower())
    with wanllmdb.init(**{argument: "argument"}) as run:
        assert read(run) == "argument"


def test_tags_are_separated_by_commas(monkeypatch):
    """Blanks around them do not count."""
    monkeypatch.setenv("WANDB_TAGS", "a, b,,c ")
    assert wanllmdb.init().tags == ("a", "b", "c")


@pytest.mark.parametrize(
    ("value", "resumed"),
    [("allow", True), ("must", True), ("auto", True), ("true", True), ("", False)],
)
def test_wandb_resume_is_read(value, resumed, monkeypatch):
    """With the words that W&B has."""
    wanllmdb.init(id="r").finish()
    monkeypatch.setenv("WANDB_RESUME", value)
    assert wanllmdb.init(id="r").resumed is resumed


@pytest.mark.parametrize(
    ("variable", "value", "disabled"),
    [
        ("WANDB_MODE", "disabled", True), ("WANDB_MODE", "offline", False),
        ("WANDB_MODE", "online", False), ("WANDB_MODE", "dryrun", False),
        ("WANDB_MODE", "run", False), ("WANDB_DISABLED", "true", True),
        ("WANDB_DISABLED", "1", True), ("WANDB_DISABLED", "false", False),
        ("WANDB_DISABLED", "0", False), ("WANDB_DISABLED", "", False),
    ],
)  # fmt: skip
def test_wandb_mode_and_disabled_are_read(variable, value, disabled, monkeypatch):
    """As W&B reads them, its old words included."""
    monkeypatch.setenv(variable, value)
    assert wanllmdb.init().disabled is disabled


def test_our_mode_wins_over_wandb_disabled(monkeypatch):
    """WANLLMDB_MODE, or the argument."""
    monkeypatch.setenv("WANDB_DISABLED", "true")
    assert not wanllmdb.init(mode="local").disabled
    wanllmdb.finish()
    monkeypatch.setenv("WANLLMDB_MODE", "local")
    assert not wanllmdb.init().disabled


@pytest.mark.parametrize("variable", ["WANDB_PROJECT", "WANDB_NOTES", "WANDB_TAGS"])
def test_one_line_says_which_variable_of_wandb_is_used(variable, script):
    """Once, also where several runs are started."""
    code = "wandb.init().finish(); wandb.init().finish()"
    done = script(code, **{variable: "x", "WANLLMDB_SILENT": "0"})
    assert sum(variable in line for line in done.stderr.splitlines()) == 1
    ours = variable.replace("WANDB", "WANLLMDB")
    done = script(code, **{variable: "x", ours: "y", "WANLLMDB_SILENT": "0"})
    assert f"{variable} " not in done.stderr


@pytest.mark.parametrize(
    ("variable", "value"), [("WANDB_DISABLED", "true"), ("WANDB_MODE", "disabled")]
)
def test_one_line_says_that_wandbs_variable_disables(variable, value, script):
    """A run that is not recorded at all must say why."""
    env = {variable: value, "WANLLMDB_SILENT": "0"}
    done = script("wandb.init().log({'a': 1})", **env)
    assert sum(variable in line for line in done.stderr.splitlines()) == 1


def test_wandb_silent_silences(script, monkeypatch):
    """Nothing is printed to stderr, the line on variables included."""
    monkeypatch.delenv("WANLLMDB_SILENT")
    code = "run = wandb.init(); run.log({'a': 1}); run.finish()"
    assert script(code, WANDB_SILENT="true", WANDB_PROJECT="p").stderr == ""
    assert script(code, WANDB_SILENT="false").stderr != ""


def test_wandb_dir_is_never_read(monkeypatch, tmp_path, script):
    """W&B's directory is no Store, and nothing is written there."""
    (tmp_path / "theirs").mkdir()
    monkeypatch.delenv("WANLLMDB_DIR")
    done = script("wandb.init(); print(os.environ['WANLLMDB_DIR'])", cwd=tmp_path,
                  WANDB_DIR=str(tmp_path / "theirs"))  # fmt: skip
    assert done.returncode == 0
    assert str(tmp_path / "theirs") not in done.stdout
    assert list((tmp_path / "theirs").iterdir()) == []


def test_other_variables_of_wandb_mean_nothing(script, api):
    """Key, host and entity of a server are no settings of ours."""
    done = script("wandb.init()", WANDB_API_KEY="x", WANDB_BASE_URL="http://x.invalid",
                  WANDB_ENTITY="team", WANDB_START_METHOD="thread")  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert api.runs()[0].state == "finished"
