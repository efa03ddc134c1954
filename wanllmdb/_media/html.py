"""Pages."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from wanllmdb._media.base import Document, Media, Place, is_path, read_all
from wanllmdb._media.content import Content
from wanllmdb.errors import InvalidInputError

_HEAD = '<base target="_blank">'
"""Links leave the frame that the page is shown in. Nothing is loaded from elsewhere."""


class Html(Media):
    """A page.

    Its bytes are taken at the call.

    Args:
        data: The text of the page, the path of a file, or an open one.
        inject: Have links open in another window than the page's own; otherwise the
            page stays as it is.
        data_is_not_path: Take `data` for the text, even where there is such a file.

    Raises:
        InvalidInputError: it is none of these, or not UTF-8.
    """

    TYPE = "html-file"
    FOLDER = "html"

    def __init__(
        self, data: Any, inject: bool = True, data_is_not_path: bool = False
    ) -> None:
        self._caption = None
        self._extension = ".html"
        text = _text(data, may_be_path=not data_is_not_path)
        self._content = Content.of((_injected(text) if inject else text).encode())

    @property
    def html(self) -> str:
        """The text of the page."""
        return self.read().decode()

    @classmethod
    def _reference_of_all(cls, items: Sequence[Html], place: Place) -> Document:
        found = [item._reference(place) for item in items]
        return {"_type": "html", "count": len(found), "html": found}


def _text(data: Any, *, may_be_path: bool) -> str:
    if may_be_path and is_path(data):
        if not isinstance(data, str) or os.path.isfile(data):  # noqa: PTH113 - any text
            data = Content.of_file(data).read()
    elif hasattr(data, "read"):
        data = read_all(data, "Html")
    try:
        if isinstance(data, str):
            data.encode()
            return data
        if isinstance(data, bytes):
            return data.decode()
    except UnicodeError as error:
        raise InvalidInputError(
            f"This page is no UTF-8 ({error}).", hint="Encode it anew."
        ) from None
    raise InvalidInputError(
        f"A page is text, not a {type(data).__name__}.",
        hint="Give its text, the path of a file, or an open one.",
    )


def _injected(text: str) -> str:
    for tag, before, after in (("<head>", "", ""), ("<html>", "<head>", "</head>")):
        if tag in text:
            return text.replace(tag, f"{tag}{before}{_HEAD}{after}", 1)
    return _HEAD + text
