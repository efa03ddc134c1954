"""Settings: which source wins, what a bad value is told, and what the docs say."""

from __future__ import annotations

import json
import re

import pytest

import wanllmdb
from wanllmdb import _settings

LAYERS = ["argument", "variable", "store", "pyproject", "user"]
# How each field is given, and what of a run shows it.
FIELDS = {
    "project": ("project", "run.project"),
    "run_name": ("name", "run.name"),
    "tags": ("tags", "run.tags[0]"),
    "notes": ("notes", "run.notes"),
    "run_group": ("group", "run.group"),
    "job_type": ("job_type", "run.job_type"),
}


@pytest.fixture
def place(tmp_path, store):
    """Write settings into a layer; the working directory has a pyproject.toml."""
    (tmp_path / "work").mkdir()
    files = {
        "store": store / "config.toml",
        "pyproject": tmp_path / "work" / "pyproject.toml",
        "user": tmp_path / "home" / "config" / "wanllmdb" / "config.toml",
    }

    def write(layer, text):
        path = files[layer]
        path.parent.mkdir(parents=True, exist_ok=True)
        table = "[tool.wanllmdb]\n" if layer == "pyproject" else ""
        path.write_text(f"{table}{text}\n")
        return path

    return write


@pytest.mark.parametrize("first", range(len(LAYERS)), ids=LAYERS)
def test_the_first_source_that_speaks_wins(place, child, tmp_path, first):
    """Argument, variable, Store, pyproject, user: each beats all after it."""
    env, arguments = {}, {}
    for layer in LAYERS[first:]:
        values = {name: [layer] if name == "tags" else layer for name in FIELDS}
        if layer == "argument":
            arguments = {FIELDS[name][0]: value for name, value in values.items()}
        elif layer == "variable":
            env = {f"WANLLMDB_{name.upper()}": layer for name in FIELDS}
        else:
            lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
            place(layer, "\n".join(lines))
    shown = ", ".join(show for _, show in FIELDS.values())
    code = f"import wanllmdb; run = wanllmdb.init(**{arguments!r}); print({shown})"
    done = child(code, cwd=tmp_path / "work", env=env)
    assert done.stdout.split() == [LAYERS[first]] * len(FIELDS)


def test_without_any_source_the_default_holds(child, tmp_path):
    """Nothing set: project `uncategorized`, no tags, no notes."""
    code = "import wanllmdb as w; r = w.init(); print(r.project, r.tags, r.notes)"
    assert child(code).stdout.strip() == "uncategorized () None"


@pytest.mark.parametrize("layer", LAYERS[2:])
def test_flags_and_numbers_of_files_are_in_force(place, child, tmp_path,
                                                 layer):  # fmt: skip
    """`strict = true` in a file makes log() raise."""
    place(layer, "strict = true")
    code = """
    import wanllmdb
    try: wanllmdb.init().log({"bad": b"bytes"})
    except wanllmdb.WanllmdbError as error: print(error.kind)
    """
    assert child(code, cwd=tmp_path / "work").stdout.strip() == "invalid_metric"


@pytest.mark.parametrize("layer", ["store", "pyproject", "user"])
def test_the_command_lines_format_comes_from_a_file_too(place, cli, store,
                                                        tmp_path, layer):  # fmt: skip
    """`format = "jsonl"` changes what ls prints."""
    place(layer, 'format = "jsonl"')
    wanllmdb.init(store=store, strict=False).finish()
    (line,) = cli("ls", cwd=tmp_path / "work").stdout.splitlines()
    assert json.loads(line)["state"] == "finished"


BAD = [
    ("mode", "sideways", "one of local, offline"),
    ("resume", "perhaps", "one of allow, must"),
    ("durability", "much", "one of process, interval"),
    ("system_interval", "often", "a number of seconds"),
    ("system_interval", "-1", "a number of seconds"),
    ("console", "maybe", "true or false"),
    ("format", "xml", "one of table, json"),
]


@pytest.mark.parametrize(("field", "value", "fix"), BAD)
def test_a_bad_variable_names_itself_and_the_fix(child, field, value, fix):
    """One clear error: which variable, its value, and what it must be."""
    code = """
    import wanllmdb
    try: wanllmdb.init()
    except wanllmdb.WanllmdbError as error: print(error.kind, error)
    """
    name = f"WANLLMDB_{field.upper()}"
    said = child(code, env={name: value}).stdout
    assert said.startswith("invalid_setting ")
    for part in (name, repr(value), fix):
        assert part in said


@pytest.mark.parametrize("layer", ["store", "pyproject", "user"])
@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('mode = "sideways"', "sideways"),
        ("project = 7", "project"),
        ("tags = 7", "tags"),
        ("strict = [1]", "strict"),
        ('colour = "red"', "colour"),
    ],
)
def test_a_bad_value_in_a_file_names_file_and_fix(place, child, tmp_path,
                                                  layer, text, named):  # fmt: skip
    """The path of the file stands in the error."""
    path = place(layer, text)
    code = """
    import wanllmdb
    try: wanllmdb.init()
    except wanllmdb.WanllmdbError as error: print(error.kind, error)
    """
    said = child(code, cwd=tmp_path / "work").stdout
    assert said.startswith("invalid_setting ")
    assert str(path) in said
    assert named in said


@pytest.mark.parametrize("layer", ["store", "user"])
def test_a_broken_file_of_ours_is_named(place, cli, tmp_path, layer):
    """TOML that does not parse is an error with path and place in it."""
    path = place(layer, "project = = 3")
    done = cli("env", cwd=tmp_path / "work", ok=False)
    assert (done.returncode, str(path) in done.stderr) == (2, True)


def test_somebody_elses_broken_pyproject_is_not_our_business(place, child, tmp_path):
    """Training starts all the same."""
    place("pyproject", "project = = 3")
    child("import wanllmdb; wanllmdb.init().finish()", cwd=tmp_path / "work")


@pytest.mark.parametrize("text", ["[tool]\nwanllmdb = 3", "tool = 1"])
def test_a_pyproject_of_another_shape_is_no_traceback(child, cli, tmp_path, text):
    """What is no table there is an error by name, or nothing."""
    (tmp_path / "pyproject.toml").write_text(text)
    done = cli("env", cwd=tmp_path, ok=False)
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 2)


def test_there_are_at_most_25_variables():
    """More would be a second program."""
    assert 10 < len(_settings.FIELDS) <= 25


def test_the_guides_table_is_the_model(request):
    """Names, defaults and meanings: docs equal code."""
    text = (request.config.rootpath / "docs" / "guide.md").read_text("utf-8")
    section = text.partition("\n## Settings\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(WANLLMDB_\w+)` \| (.*?) \| (.*?) \|$", section, re.M)
    model = [
        (f"WANLLMDB_{name.upper()}", repr(field.default), field.help)
        for name, field in _settings.FIELDS.items()
    ]
    assert rows == model


def test_env_prints_value_and_source_of_each_setting(place, cli, store,
                                                     tmp_path):  # fmt: skip
    """Five sources, five answers; the Store's own place among them."""
    place("store", 'notes = "s"')
    place("pyproject", 'job_type = "p"')
    place("user", 'run_group = "u"')
    done = cli("env", "--json", cwd=tmp_path / "work",
               env={"WANLLMDB_TAGS": "a,b"})  # fmt: skip
    rows = {row["setting"]: row for row in json.loads(done.stdout)}
    assert set(rows) == set(_settings.FIELDS)
    shown = {name: (rows[name]["value"], rows[name]["source"]) for name in rows}
    assert shown["dir"] == (str(store), "WANLLMDB_DIR")
    assert shown["tags"] == (["a", "b"], "WANLLMDB_TAGS")
    assert shown["notes"] == ("s", str(store / "config.toml"))
    assert shown["job_type"] == ("p", str(tmp_path / "work" / "pyproject.toml"))
    assert shown["run_group"][1].startswith(str(tmp_path / "home"))
    assert shown["durability"] == ("process", "default")


def test_a_setting_given_to_init_reaches_the_run(child):
    """settings={...} is an argument like any other."""
    code = """
    import wanllmdb
    wanllmdb.init(settings={"silent": False}).finish()
    """
    assert "recording" in child(code).stderr


def test_wandbs_variables_are_read_where_ours_are_absent(child):
    """And one line says so; ours win."""
    code = "import wanllmdb as w; r = w.init(); print(r.project, r.notes)"
    env = {"WANDB_PROJECT": "theirs", "WANDB_NOTES": "theirs", "WANLLMDB_NOTES": "ours",
           "WANLLMDB_SILENT": "0"}  # fmt: skip
    done = child(code, env=env)
    assert done.stdout.strip() == "theirs ours"
    assert done.stderr.count("WANDB_PROJECT") == 1
    assert "WANDB_NOTES" not in done.stderr


@pytest.mark.parametrize("layer", ["pyproject", "user"])
def test_a_store_named_by_a_file_is_used_or_refused(place, child, tmp_path, layer):
    """`dir` is a setting: a file that sets it is never ignored without a word."""
    path = place(layer, f'dir = "{tmp_path}/by-file"')
    code = "import os, wanllmdb; wanllmdb.init().finish()"
    done = child(code, cwd=tmp_path / "work", unset=("WANLLMDB_DIR",), ok=False)
    refused = done.returncode and str(path) in done.stderr
    assert refused or (tmp_path / "by-file" / "FORMAT").exists()


def test_no_secret_is_asked_for_or_kept():
    """No setting holds a password, token or key."""
    words = "|".join(_settings.FIELDS)
    assert not re.search("key|token|secret|passw", words)
