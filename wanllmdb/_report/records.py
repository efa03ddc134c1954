"""What else a run left: the end of its console, its alerts, its files."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Sequence

from wanllmdb._markup import ABSENT, escape, folded, shorten, table
from wanllmdb._report.charts import Labelled
from wanllmdb._report.tables import moment
from wanllmdb._stored_run import LogLine, SavedFile, without_media
from wanllmdb.types import Alert

MAX_LINES = 100
"""Lines of the console, the last ones."""

MAX_LINE = 2000
"""Characters of one line of it."""

OPEN_RUNS = 3
"""Runs whose parts are shown unfolded."""

# Escapes of a terminal (ECMA-48): OSC and its like to their end, CSI, two-byte ones.
_ANSI = re.compile(
    r"\x1b[\]P^_X].*?(?:\x07|\x1b\\|\Z)"
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|\x1b[ -/]*[0-~]"
)


def console(runs: Sequence[Labelled]) -> str:
    """The last lines that each run printed or logged."""
    return _of_each(runs, _lines)


def alerts(runs: Sequence[Labelled]) -> str:
    """What each run asked people to look at."""
    return _of_each(runs, _alerts)


def files(runs: Sequence[Labelled]) -> str:
    """The files stored with each run."""
    return _of_each(runs, _files)


def artifacts(runs: Sequence[Labelled]) -> str:
    """The versions that each run made and read."""
    return _of_each(runs, _artifacts)


def _of_each(
    runs: Sequence[Labelled], show: Callable[[Labelled], tuple[int, str]]
) -> str:
    """One part for each run that has something to show."""
    shown = [(one, *show(one)) for one in runs]
    parts = [(one, count, body) for one, count, body in shown if count]
    if len(runs) == 1:
        return parts[0][2] if parts else ""
    return "".join(
        folded(one.title, count, body, is_open=place < OPEN_RUNS)
        for place, (one, count, body) in enumerate(parts)
    )


def _lines(one: Labelled) -> tuple[int, str]:
    # They stream through: a log of millions of lines is never in memory at once.
    last = deque(one.run.logs(), maxlen=MAX_LINES)
    lines = "\n".join(map(_line, last))
    label = escape(f"The last lines of {one.label}")
    return len(last), (
        f'<div class="console" tabindex="0" role="group" aria-label="{label}">'
        f"{lines}</div>"
    )


def _line(line: LogLine) -> str:
    shown = escape(shorten(printed(line.text), MAX_LINE))
    level = f"{line.level} " if line.level else ""
    kind = "stderr" if line.stream == "stderr" else (line.level or "")
    mark = f' class="{kind}"' if kind in ("stderr", "WARN", "ERROR") else ""
    return (
        f'<time datetime="{line.time.isoformat()}">{line.time:%H:%M:%S}</time>'
        f"<bdi{mark}>{escape(level)}{shown}</bdi>"
    )


def printed(text: str) -> str:
    """A line as a terminal would leave it: no escapes, of overwritten text the last."""
    return _ANSI.sub("", text).rstrip("\r").rpartition("\r")[2]


def _alerts(one: Labelled) -> tuple[int, str]:
    found: Sequence[Alert] = one.run.alerts
    rows = [
        (
            f'<span class="state {alert.level}">{alert.level}</span>',
            f"<bdi>{escape(shorten(alert.title))}</bdi>",
            f"<bdi>{escape(shorten(alert.text))}</bdi>",
            ABSENT if alert.step is None else f"{alert.step:,}",
            moment(alert.raised_us),
        )
        for alert in found
    ]
    heads = ("level", "title", "text", "step", "time")
    return len(rows), table(heads, rows, f"Alerts of {one.label}")


def _artifacts(one: Labelled) -> tuple[int, str]:
    made = [("made", version) for version in one.run.logged_artifacts()]
    read = [("read", version) for version in one.run.used_artifacts()]
    rows = [
        (
            what,
            f"<bdi>{escape(shorten(version.qualified_name))}</bdi>",
            f"<bdi>{escape(shorten(version.type))}</bdi>",
            f"<bdi>{escape(shorten(', '.join(version.aliases)))}</bdi>",
            f"{version.file_count:,}",
            f'<span title="{version.size:,} bytes">{size(version.size)}</span>',
            f'<code title="{version.digest}">{version.digest[:19]}…</code>',
        )
        for what, version in [*made, *read]
    ]
    heads = ("", "version", "type", "aliases", "files", "size", "digest")
    return len(rows), table(heads, rows, f"Artifacts of {one.label}")


def _files(one: Labelled) -> tuple[int, str]:
    found: Sequence[SavedFile] = one.run.files()
    others, media = without_media(found)
    rows = [
        (
            f"<bdi>{escape(shorten(file.name))}</bdi>",
            f'<span title="{file.size:,} bytes">{size(file.size)}</span>',
            f'<code title="{escape(file.digest)}">{escape(file.digest[:19])}…</code>',
        )
        for file in others
    ]
    for folder, files in media.items():
        total = sum(file.size for file in files)
        what = f"<bdi>{escape(folder)}</bdi> ({len(files)} files)"
        whole = f'<span title="{total:,} bytes">{size(total)}</span>'
        rows.append((what, whole, ""))
    return len(found), table(("file", "size", "digest"), rows, f"Files of {one.label}")


def size(count: int) -> str:
    """Bytes for people."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:,.3g} TB"
