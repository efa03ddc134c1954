"""Text to HTML: whatever a run is called, it can only ever be read.

Every function here takes plain text and gives markup, but where it says so.
"""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

from wanllmdb import _json

MAX_TEXT = 600
"""Characters of one value; longer ones are cut, and say so."""

MAX_ROWS = 2000
"""Rows of one table; a report is read by people."""

ABSENT = '<span class="absent" title="absent">–</span>'

# Controls, characters that turn the direction of text or have no width, surrogates and
# non-characters. The joiners of emoji and of Indic scripts (U+200C, U+200D) stay.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\ufdd0-\ufdef\ufeff\ufff9-\uffff\ud800-\udfff\U000e0000-\U000e0fff]"
)


def escape(text: str) -> str:
    """Text for an element or a quoted attribute; invisible characters are spelt out."""
    return html.escape(_UNSAFE.sub(_spelt, text), quote=True)


def _spelt(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape", "surrogatepass").decode("ascii")


def shorten(text: str, most: int = MAX_TEXT) -> str:
    """Plain text, cut where it is too long to be read."""
    if len(text) <= most:
        return text
    return f"{text[:most]}… ({len(text):,} characters)"


def plain(value: Any) -> str:
    """A value as plain text, exact."""
    if isinstance(value, str):
        return value
    return json.dumps(_json.to_plain(value), ensure_ascii=False, default=str).strip('"')


def number(value: float) -> str:
    """A number as plain text, to six digits."""
    return f"{value:.6g}" if math.isfinite(value) else plain(value)


def exact(value: Any) -> str:
    """A value, whole."""
    return escape(shorten(plain(value)))


def rounded(value: Any) -> str:
    """A value for a glance: floats to six digits, the whole one in the tooltip."""
    if not isinstance(value, float):
        return exact(value)
    short, whole = number(value), plain(value)
    if short == whole:
        return escape(short)
    return f'<span title="{escape(whole)}">{escape(short)}</span>'


def section(anchor: str, title: str, body: str) -> str:
    """A section of the page; `body` is markup."""
    if not body:
        return ""
    return (
        f'<section id="{anchor}" aria-labelledby="{anchor}-title">\n'
        f'<h2 id="{anchor}-title">{escape(title)}</h2>\n{body}\n</section>\n'
    )


def folded(title: str, count: int, body: str, *, is_open: bool = False) -> str:
    """A part that can be folded away; `title` and `body` are markup."""
    state = " open" if is_open else ""
    counted = f' <span class="count">{count:,}</span>'
    return f"<details{state}><summary>{title}{counted}</summary>\n{body}\n</details>\n"


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], caption: str, kind: str = ""
) -> str:
    """A table whose first column names the rows; cells of head and rows are markup."""
    lines = list(rows)
    body = [_row(line) for line in lines[:MAX_ROWS]]
    if left := len(lines) - len(body):
        body.append(f'<tr><td colspan="{len(head)}">… and {left:,} more</td></tr>')
    columns = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    top = f"<thead><tr>{columns}</tr></thead>\n" if any(head) else ""
    return (
        f'<div class="wide" tabindex="0" role="group" aria-label="{escape(caption)}">'
        f'<table class="{kind}">\n<caption>{escape(caption)}</caption>\n{top}<tbody>\n'
        + "\n".join(body)
        + "\n</tbody></table></div>"
    )


def _row(cells: Sequence[str]) -> str:
    first, *rest = cells
    values = "".join(f"<td>{cell}</td>" for cell in rest)
    return f'<tr><th scope="row">{first}</th>{values}</tr>'
