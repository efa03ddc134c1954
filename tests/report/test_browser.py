"""The report in a real browser: both colour schemes, paper, and a policy that holds."""

from __future__ import annotations

import shutil
import struct
import zlib

import pytest

import wanllmdb

SIZES = """
Array.from(document.querySelectorAll("figure > svg :is(.line, .band, .dot)"),
           path => path.getBoundingClientRect().width)
"""


@pytest.fixture(scope="module")
def chromium():
    """The system's browser; skips where it, or what drives it, is absent."""
    # Not for the whole module: a module that skips is no failure under CI.
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    command = shutil.which("chromium") or shutil.which("chromium-browser")
    if command is None:
        pytest.skip("needs chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=command, args=["--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium, api, tmp_path):
    """Open the report on some runs; what the browser complains of is an error."""
    pages, troubles = [], []

    def show(*runs, scheme="light"):
        path = api.report(list(runs), tmp_path / "report.html")
        page = chromium.new_page(color_scheme=scheme)
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("dialog", lambda dialog: troubles.append(dialog.message))
        page.on("request", lambda request: troubles.append(request.url)
                if request.url != path.as_uri() else None)  # fmt: skip
        page.goto(path.as_uri())
        pages.append(page)
        return page

    yield show
    for page in pages:
        page.close()
    assert troubles == []


def first_pixel(png: bytes) -> tuple[int, ...]:
    """Red, green and blue of the corner of a picture."""
    chunks, at = b"", 8
    while at < len(png):
        (size,) = struct.unpack(">I", png[at : at + 4])
        if png[at + 4 : at + 8] == b"IDAT":
            chunks += png[at + 8 : at + 8 + size]
        at += 12 + size
    return tuple(zlib.decompress(chunks)[1:4])  # after the row's filter, none matters


def test_both_colour_schemes_are_readable(trained, opened):
    """The background is light or dark, as the reader likes it."""
    light = opened("p/a", "p/b", scheme="light").screenshot()
    dark = opened("p/a", "p/b", scheme="dark").screenshot()
    assert min(first_pixel(light)) > 220
    assert max(first_pixel(dark)) < 40


def test_every_curve_is_seen(trained, opened):
    """Each path of a chart has a width, and nothing leaves the page sideways."""
    page = opened("p/a", "p/b", "p/c")
    sizes = page.evaluate(SIZES)
    assert len(sizes) == 3 * 3 * 2
    assert min(sizes) > 100
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width == page.viewport_size["width"]


def test_paper_shows_what_was_folded(trained, opened):
    """In print every part is unfolded."""
    page = opened("p/a", "p/b")
    folded = page.get_by_text("net.depth")
    assert not folded.is_visible()
    page.emulate_media(media="print")
    assert folded.is_visible()


@pytest.mark.parametrize("text", ["<img src=x onerror=alert(1)>", "</script><script>"])
def test_a_hostile_name_does_nothing(opened, text):
    """It is shown; no picture, no script, no request comes of it."""
    with wanllmdb.init(project="p", id="r", name=text, config={text: text}) as run:
        run.log({text: 1})
    page = opened("p/r")
    assert page.locator("img, script, iframe, object").count() == 0
    assert page.locator("h1").inner_text() == text


def test_the_policy_forbids_scripts(trained, chromium, api, tmp_path):
    """Even one that stood in the page would not run."""
    path = tmp_path / "report.html"
    script = "<script>document.title = 1</script></body>"
    path.write_text(api.report("p/a").replace("</body>", script), "utf-8")
    page = chromium.new_page()
    page.goto(path.as_uri())
    assert page.title() == "run a"
    page.close()
