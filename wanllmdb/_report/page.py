"""The page: which sections there are, and in which order."""

from __future__ import annotations

from collections.abc import Sequence

from wanllmdb import _clock
from wanllmdb._markup import escape, section
from wanllmdb._report import charts, records, tables
from wanllmdb._report.charts import Labelled
from wanllmdb._report.style import COLORS, css
from wanllmdb._stored_run import StoredRun

# Nothing is loaded and nothing runs, even if some text were taken for markup.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)


def report_html(runs: Sequence[StoredRun], title: str | None = None) -> str:
    """Runs as one HTML page: self-contained, without scripts, for both colour schemes.

    Each value is escaped, so that no name can become markup, and the page forbids
    itself to load or run anything. Metrics are reduced while they are read.

    Args:
        runs: One at least; the same run twice counts once.
        title: Heading; default says what the runs are.
    """
    shown = _labelled(runs)
    heading = escape(title if title is not None else _title(shown))
    now_us = _clock.now_us()
    sections = _sections(shown, now_us)
    links = "".join(f'<a href="#{anchor}">{escape(name)}</a>'
                    for anchor, name, body in sections if body)  # fmt: skip
    body = "".join(section(*parts) for parts in sections)
    stores = dict.fromkeys(str(one.run.store.path) for one in shown)
    places = ", ".join(f"<code>{escape(path)}</code>" for path in stores)
    kind = ' class="one"' if len(shown) == 1 else ""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{heading}</title>
<style>{css()}</style>
</head>
<body>
<header>
<h1><bdi>{heading}</bdi></h1>
<p class="made">Made {tables.moment(now_us)} from the Store at {places}</p>
<nav aria-label="Sections">{links}</nav>
</header>
<main{kind}>
{body}</main>
<footer>Made by wanllmdb. This file needs no network and holds no script.</footer>
</body>
</html>
"""


def _sections(runs: Sequence[Labelled], now_us: int) -> list[tuple[str, str, str]]:
    """Each section as (anchor, title, markup); those without markup are left out."""
    first = "Run" if len(runs) == 1 else "Runs"
    return [
        ("runs", first, tables.runs_table(runs, now_us)),
        ("alerts", "Alerts", records.alerts(runs)),
        ("config", "Config", tables.config_tables(runs)),
        ("summary", "Summary", tables.summary_table(runs)),
        ("metrics", "Metrics", charts.metrics(runs)),
        ("system", "System", charts.system(runs)),
        ("console", "Console", records.console(runs)),
        ("artifacts", "Artifacts", records.artifacts(runs)),
        ("files", "Files", records.files(runs)),
    ]


def _labelled(runs: Sequence[StoredRun]) -> list[Labelled]:
    """The runs with names that tell them apart."""
    distinct = list({run.record.uid: run for run in runs}.values())
    names = [run.name for run in distinct]
    return [
        Labelled(
            run,
            run.name if run.name and names.count(run.name) == 1 else run.path,
            place % COLORS,
        )
        for place, run in enumerate(distinct)
    ]


def _title(runs: Sequence[Labelled]) -> str:
    if len(runs) == 1:
        return runs[0].label
    projects = list(dict.fromkeys(one.run.project for one in runs))
    return f"{len(runs)} runs of {', '.join(projects)}"
