"""Runs to report on, and the page as a browser's parser would see it."""

from __future__ import annotations

import math
from html.parser import HTMLParser

import pytest

import wanllmdb

VOID = {"meta", "link", "br", "hr", "img", "input", "path"}


class Page(HTMLParser):
    """A page's elements: their names, attributes, text, and whether they close."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.source = text
        self.elements = []
        self.texts = []
        self.open = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self):
        return "".join(self.texts)

    def all(self, tag, **attrs):
        """Attributes of the elements of a name that have these ones."""
        wanted = {"class" if k == "kind" else k: v for k, v in attrs.items()}
        return [found for name, found in self.elements
                if name == tag and wanted.items() <= found.items()]  # fmt: skip

    def charts(self):
        """Attributes of the pictures that are charts."""
        return self.all("svg", role="img")


@pytest.fixture
def page(api):
    """The parsed report on runs."""

    def read(*runs, **options):
        return Page(api.report(list(runs), **options))

    return read


@pytest.fixture
def trained():
    """Three runs, `p/a` to `p/c`, as a training leaves them."""
    for place, name in enumerate("abc"):
        with wanllmdb.init(
            project="p", id=name, name=f"run {name}", notes="one\ntwo", tags=["t"],
            config={"lr": 0.1 / (place + 1), "net": {"depth": 3, "width": place}},
        ) as run:  # fmt: skip
            for step in range(300):
                loss = math.exp(-step / 20) + 1e-4 * (place + 1)
                run.log({"train/loss": loss, "val/acc": 1 - loss, "lr": 0.1})
            run.log_message(f"hello from {name}")
            run.alert("high", "loss is high", level="WARN")
