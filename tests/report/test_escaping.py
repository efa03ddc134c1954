"""Whatever things are called, a report only ever shows it."""

from __future__ import annotations

import re

import pytest

import wanllmdb

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '" onload="alert(1)" x="',
    "' onfocus='alert(1)' autofocus='",
    "</title></style><svg onload=alert(1)>",
    "<!--<a href='javascript:alert(1)'>",
    "]]><iframe src=//evil.example>",
    "&lt;script&gt;&#60;b&#62;",
    "a\u202egnp.exe\u2066b\u200bc\x1b[31md\x07\x85\u2028e",
]
CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069]"
)
ALLOWED = set(
    """html head meta title style body header h1 h2 p time code nav a main section div
    table caption thead tbody tr th td span bdi details summary ul li b figure
    figcaption svg path g text footer""".split()  # noqa: SIM905 - words read better than quotes
)


@pytest.fixture
def hostile(request):
    """A run of which everything that can be named is named with one hostile text."""
    text = request.param
    with wanllmdb.init(
        project="p", id="r", name=text, notes=text, tags=[text], group=text,
        job_type=text, config={text: text, "nested": {text: [text]}},
    ) as run:  # fmt: skip
        for step in range(3):
            run.log({text: step, f"a/{text}": step, f"{text}/b": step, "s": text})
        run.define_metric(f"a/{text}", step_metric=text)
        run.summary[text] = text
        run.alert(text, text)
        run.log_message(text)
    return text


each_hostile = pytest.mark.parametrize("hostile", HOSTILE, indirect=True)


@each_hostile
def test_no_name_becomes_markup(hostile, page):
    """Only the elements of the report's own are there, each closed, no handler."""
    found = page("p/r")
    assert found.open == []
    assert {name for name, _ in found.elements} <= ALLOWED
    for _, attributes in found.elements:
        assert not [name for name in attributes if name.startswith("on")]
        assert attributes.keys().isdisjoint({"src", "srcset", "action", "data"})


@each_hostile
def test_every_name_is_shown_as_it_is(hostile, page):
    """Text comes back from the parser whole; what is invisible is spelt out."""
    found = page("p/r")
    shown = CONTROLS.sub(lambda c: c[0].encode("unicode_escape").decode(), hostile)
    assert found.text.count(shown) > 10
    assert CONTROLS.search(found.source) is None


@each_hostile
def test_titles_are_escaped_too(hostile, page):
    """The heading that is given is text as any other."""
    assert len(page("p/r", title=hostile).elements) == len(page("p/r").elements)


def test_emoji_and_other_scripts_stay(page):
    """Joiners of emoji, and letters of every script, are not spelt out."""
    name = "日本 \U0001f469\u200d\U0001f4bb नमस्ते שלום"
    with wanllmdb.init(project="p", id="r", name=name):
        pass
    assert name in page("p/r").text


def test_escapes_of_a_terminal_are_left_out(page):
    """Colours go, and of a line that was written over the last text stays."""
    with wanllmdb.init(project="p", id="r") as run:
        run.log_message("10%\r\x1b[32m100%\x1b[0m \x1b]8;;http://x\x07link\x1b]8;;\x07")
    assert "INFO 100% link" in page("p/r").text


def test_nothing_is_loaded_from_anywhere(trained, page):
    """No address but a namespace's name, no style that loads, and a policy."""
    found = page("p/a", "p/b")
    outside = found.source.replace("http://www.w3.org/2000/svg", "")
    assert "http:" not in outside
    assert "https:" not in outside
    assert "url(" not in outside
    assert "@import" not in outside
    assert {link["href"][0] for link in found.all("a")} == {"#"}
    policy = found.elements[3][1]
    assert policy["http-equiv"] == "Content-Security-Policy"
    assert policy["content"].startswith("default-src 'none'; style-src 'unsafe-inline'")
