"""Names: ids, projects, run names, tags, and text in general."""

from __future__ import annotations

import re
import unicodedata

import pytest

import wanllmdb
from wanllmdb.errors import InvalidNameError

SPLIT, WHOLE = "e\u0301", "\u00e9"
"""One letter as two code points, and as one (NFC)."""
TEXTS = ["id", "name", "project", "notes", "group", "job_type", "tags"]


def test_ids_are_twelve_characters_of_base32(api):
    """60 random bits, safe in a file name and a URL, beside an internal uid."""
    ids = set()
    for _ in range(20):
        run = wanllmdb.init()
        ids.add(run.id)
        run.finish()
        assert api.run(run.id).record.uid != run.id
    assert len(ids) == 20
    assert all(re.fullmatch("[a-z0-9]{12}", run_id) for run_id in ids)
    assert len(set("".join(ids))) <= 32


@pytest.mark.parametrize("bad", [*":;,#?/", "", "  ", "x" * 256, "\0", "\ud800"])
def test_ids_refuse_what_would_break_a_path_or_query(bad):
    """In init, and with the id in the message."""
    with pytest.raises(InvalidNameError):
        wanllmdb.init(id=f"a{bad}b" if bad in ":;,#?/" and bad else bad)
    assert wanllmdb.run is None


@pytest.mark.parametrize("good", ["Run 1", "grün", "a.b-c_d", "%41", "x" * 255, "*"])
def test_ids_are_otherwise_the_users(good, api):
    """Whatever script, also glob and SQL wildcards."""
    wanllmdb.init(id=good).finish()
    assert api.run(f"uncategorized/{good}").id == good


def test_ids_are_unique_in_their_project(api):
    """Two projects may hold the same id, which then needs its project."""
    for project in ("one", "two"):
        wanllmdb.init(project=project, id="r").finish()
    assert api.run("one/r").record.uid != api.run("two/r").record.uid
    with pytest.raises(wanllmdb.WanllmdbError, match="one/r"):
        api.run("r")


@pytest.mark.parametrize("bad", [*"/\\#?%:", "", "\0"])
def test_projects_refuse_what_would_break_a_path(bad):
    """As W&B's do."""
    with pytest.raises(InvalidNameError):
        wanllmdb.init(project=f"a{bad}b" if bad and bad != "\0" else bad)


def test_run_names_are_free(api):
    """Any text, also twice in one project; it can be set while the run lives."""
    name = "π: 100% of a/b? #1; 'quoted'"
    for _ in range(2):
        wanllmdb.init(name=name).finish()
    assert [run.name for run in api.runs()] == [name, name]
    with wanllmdb.init(id="r") as run:
        assert re.fullmatch("[a-z]+-[a-z]+-3", run.name)
        run.name = "renamed: /"
        assert run.name == "renamed: /"
    assert api.run("r").name == "renamed: /"


def test_one_text_is_one_tag(api):
    """Not one per letter."""
    with wanllmdb.init(id="r", tags="baseline") as run:
        assert run.tags == ("baseline",)
    assert api.run("r").tags == ("baseline",)


@pytest.mark.parametrize("more", [["b", "c"], ("b", "c")])
def test_tags_take_a_list_or_tuple_by_plus(more, api):
    """`run.tags += [...]` as W&B's documentation has it."""
    with wanllmdb.init(id="r", tags=["a"]) as run:
        run.tags += more
        assert list(run.tags) == ["a", "b", "c"]
    assert list(api.run("r").tags) == ["a", "b", "c"]


@pytest.mark.parametrize("more", [["b"], ("b",)])
def test_tags_of_a_stored_run_take_a_list_or_tuple_by_plus(more, api):
    """The same way for runs that ended."""
    wanllmdb.init(id="r", tags=["a"]).finish()
    found = api.run("r")
    found.tags += more
    assert list(api.run("r").tags) == ["a", "b"]


def test_tags_are_a_set(api):
    """Each once; assigning replaces them all."""
    with wanllmdb.init(id="r", tags=["b", "a", "b"]) as run:
        assert sorted(run.tags) == ["a", "b"]
        run.tags = ["z", "a", "z"]
        assert sorted(run.tags) == ["a", "z"]
    assert sorted(api.run("r").tags) == ["a", "z"]


@pytest.mark.parametrize("word", TEXTS)
def test_all_text_is_nfc(word, api):
    """Two spellings of one letter are one text, and are found as one."""
    wanllmdb.init(**{word: SPLIT}).finish()
    (found,) = api.runs()
    value = found.tags[0] if word == "tags" else getattr(found, word)
    assert value == WHOLE


@pytest.mark.parametrize("word", TEXTS)
@pytest.mark.parametrize("bad", ["a\0b", "a\ud800b"])
def test_no_text_holds_a_nul_or_half_a_character(word, bad):
    """Refused by name, before anything is recorded."""
    with pytest.raises(InvalidNameError):
        wanllmdb.init(**{word: bad})
    assert wanllmdb.run is None


def test_texts_set_later_are_checked_like_those_of_init(api):
    """NFC, and neither NUL nor half a character."""
    run = wanllmdb.init(id="r")
    run.name, run.notes, run.tags = SPLIT, SPLIT, [SPLIT]
    assert (run.name, run.notes, run.tags) == (WHOLE, WHOLE, (WHOLE,))
    for bad in ("a\0b", "a\ud800b"):
        for word in ("name", "notes", "tags"):
            with pytest.raises(InvalidNameError):
                setattr(run, word, bad)
    run.finish()
    assert api.run("r").notes == WHOLE


def test_keys_are_nfc_in_every_place(api):
    """Metrics, config and summary know a key by one spelling."""
    with wanllmdb.init(id="r", config={SPLIT: 1}) as run:
        run.log({SPLIT: 1})
        run.log({WHOLE: 2})
        assert run.config[WHOLE] == 1
        run.summary[SPLIT] = 3
        assert run.summary[WHOLE] == 3
    found = api.run("r")
    assert list(found.keys) == [WHOLE]
    assert found.config == {WHOLE: 1}
    assert found.summary[WHOLE] == 3
    assert all(unicodedata.is_normalized("NFC", key) for key in found.summary)


@pytest.mark.parametrize("key", ["_step", "_timestamp", "_runtime"])
def test_reserved_keys_are_left_out_with_a_warning(key, api):
    """What the library itself writes into each row is not the user's to log."""
    with wanllmdb.init(id="r") as run:
        with pytest.warns(wanllmdb.WanllmdbWarning, match=key):
            run.log({key: 123, "a": 1})
        run.log({"_mine": 2})
    first, second = api.run("r").scan_history()
    assert (first["_step"], first["a"]) == (0, 1)
    assert first[key] != 123
    assert second["_mine"] == 2
