"""Tables of runs: what they are, what went in, what came out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wanllmdb import _clock
from wanllmdb._markup import (
    ABSENT,
    escape,
    exact,
    folded,
    rounded,
    shorten,
    table,
)
from wanllmdb._report.charts import Labelled

MAIN_VALUES = 4
"""Numbers of the summary that stand in the table of runs."""

_FIRST = 3
"""Facts that stand before them: run, id and state, which every run has."""

_Flat = dict[str, Any]
_Cell = Callable[[Any], str]


def runs_table(runs: Sequence[Labelled], now_us: int) -> str:
    """What the runs are; one run is a list of facts, several are a table."""
    facts = [_facts(one, now_us) for one in runs]
    names = [name for name in facts[0] if any(fact[name] for fact in facts)]
    if len(runs) == 1:
        rows = [(escape(name), facts[0][name]) for name in names]
        return table(("", ""), rows, "The run", "facts")
    summaries = [flat(one.run.summary) for one in runs]
    main = _main_values(summaries)
    lines = [
        [
            *(fact[name] or ABSENT for name in names[:_FIRST]),
            *_cells(summary, main, rounded),
            *(fact[name] or ABSENT for name in names[_FIRST:]),
        ]
        for fact, summary in zip(facts, summaries)
    ]
    results = [f"<bdi>{escape(shorten(key))}</bdi>" for key in main]
    heads = [*names[:_FIRST], *results, *names[_FIRST:]]
    return table(heads, lines, "The runs", "runs")


def _facts(one: Labelled, now_us: int) -> dict[str, str]:
    """What is known of a run, as markup; "" where nothing is."""
    run, record = one.run, one.run.record
    return {
        "run": one.title,
        "id": f"<code>{escape(run.path)}</code>",
        "state": f'<span class="state {record.state}">{record.state}</span>',
        "last step": "" if run.last_step is None else f"{run.last_step:,}",
        "duration": _duration(record.started_us, record.ended_us, now_us),
        "started": moment(record.started_us),
        "tags": "".join(f'<bdi class="tag">{escape(tag)}</bdi>' for tag in run.tags),
        "notes": _text(run.notes),
        "group": _text(run.group),
        "job type": _text(run.job_type),
        "host": _text(record.host),
        "error": _text(record.error),
        "exit code": str(record.exit_code or ""),
        "lost": _text(_losses(one)),
    }


def _text(text: str | None) -> str:
    return f'<bdi class="text">{exact(text)}</bdi>' if text else ""


def _losses(one: Labelled) -> str:
    record = one.run.record
    found = (
        record.dropped_rows and f"{record.dropped_rows:,} rows refused by the disk",
        record.coerced_values and f"{record.coerced_values:,} values kept as text",
        record.damage,
    )
    return ", ".join(part for part in found if part)


def moment(us: int) -> str:
    """A time, to the second; markup."""
    text = _clock.iso(us) or ""
    return f'<time datetime="{text}">{text[:10]} {text[11:19]} UTC</time>'


def _duration(started_us: int, ended_us: int | None, now_us: int) -> str:
    seconds = max(0, (ended_us or now_us) - started_us) / 1e6
    if seconds < 60:
        text = f"{seconds:.1f} s"
    elif seconds < 3600:
        text = f"{seconds // 60:.0f} min {seconds % 60:02.0f} s"
    elif seconds < 86_400:
        text = f"{seconds // 3600:.0f} h {seconds % 3600 // 60:02.0f} min"
    else:
        text = f"{seconds // 86_400:.0f} d {seconds % 86_400 // 3600:.0f} h"
    return text if ended_us else f"{text} so far"


def _main_values(summaries: Sequence[_Flat]) -> list[str]:
    """The first numbers that most runs have."""
    counts: dict[str, int] = {}
    for summary in summaries:
        for key, value in summary.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                counts[key] = counts.get(key, 0) + 1
    return sorted(counts, key=lambda key: -counts[key])[:MAIN_VALUES]


def config_tables(runs: Sequence[Labelled]) -> str:
    """What went in; of several runs what differs first, the same folded away."""
    configs = [flat(one.run.config) for one in runs]
    names = list(dict.fromkeys(key for config in configs for key in config))
    if not names:
        return ""
    if len(runs) == 1:
        return _values(runs, configs, names, "Config", exact)
    differing = [key for key in names if _differs(configs, key)]
    same = [key for key in names if key not in set(differing)]
    parts = '<p class="note">All runs have the same config.</p>'
    if differing:
        parts = _values(runs, configs, differing, "Config that differs", exact)
    if same:
        shared = _values(runs[:1], configs, same, "Config of all runs", exact, "all")
        parts += folded("the same in all runs", len(same), shared)
    return parts


def _differs(configs: Sequence[_Flat], key: str) -> bool:
    if any(key not in config for config in configs):
        return True
    first, *others = [config[key] for config in configs]
    # NaN is the same as NaN, and 1 as 1.0.
    return any(one != first and repr(one) != repr(first) for one in others)


def summary_table(runs: Sequence[Labelled]) -> str:
    """What came out."""
    summaries = [flat(one.run.summary) for one in runs]
    names = sorted(dict.fromkeys(key for summary in summaries for key in summary))
    return _values(runs, summaries, names, "Summary", rounded) if names else ""


def _values(
    runs: Sequence[Labelled], columns: Sequence[_Flat], names: Sequence[str],
    caption: str, cell: _Cell, head: str | None = None,
) -> str:  # fmt: skip
    heads = [escape(head)] if head else [one.title for one in runs]
    shown = columns[: len(heads)]
    rows = [
        [
            f"<bdi>{escape(shorten(key))}</bdi>",
            *(_cells(values, [key], cell)[0] for values in shown),
        ]
        for key in names
    ]
    return table(["", *heads], rows, caption, "values")


def _cells(values: _Flat, names: Sequence[str], cell: _Cell) -> list[str]:
    return [f"<bdi>{cell(values[key])}</bdi>" if key in values else ABSENT
            for key in names]  # fmt: skip


def flat(values: Mapping[str, Any], prefix: str = "") -> _Flat:
    """Nested mappings by dotted keys; keys of our own (`_step`) are left out."""
    found: _Flat = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value.get("_type") is not None:
            found[f"{prefix}{key}"] = value.get("path", value["_type"])  # media
        elif isinstance(value, Mapping) and value:
            found.update(flat(value, f"{prefix}{key}."))
        elif prefix or not key.startswith("_"):
            found[f"{prefix}{key}"] = value
    return found
