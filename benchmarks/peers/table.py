"""The results as a Markdown page: medians of the rounds, and remarks on them."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from adapters import load

if TYPE_CHECKING:
    from run import Sizes

Answer = dict[str, Any]
Results = dict[str, dict[str, list[Answer]]]  # by system, by work, a round each
Medians = dict[str, float]
Write = Callable[[Medians], str]

NOTES = """\
- Each figure is the median of the rounds; in a round every system does the same work,
  one after the other. Nothing is a best-of. A call is one `log()` of 10 random floats.
  The machine is shared: trust CPU times and ratios more than p99 and seconds.
- `~`: the system did not get through the work in the time it was given. What reading
  and listing cost is scaled up from the part that it did; all else is of the part.
- `none`: it has no such function. `*`: it has no local reader; a parser of ours read
  its files, which is a floor and not the cost of an interface.
- Every worker runs without a network, in an environment with nothing but its system,
  with telemetry, system monitors, console and git capture off where there is a switch.
- "CPU per call" is the calling process's, with `finish()`, divided by the calls; the
  W&B helper process that writes the file is not in it. "Memory" is the resident memory
  of the worker and all its helpers, the most that was seen, looked at each 50 ms.
- MLflow logs with `log_metrics(synchronous=True)`, its way to have metrics stored when
  the call returns. TensorBoardX has one call per float: ten of them are one call here;
  it keeps 32 bits of each float, the others 64. Aim shows a fresh process nothing until
  an index was made; that is not counted as reading.
- "Lost on kill -9": the worker reports each call after it has returned, is killed in
  the middle, and what it had reported is looked for afterwards. This is a test of a
  killed process, not of a power cut.
- The lists filter by a config value, sort by a summary value and take the first 50; the
  answers are checked. Trackio's is SQL through its `query` command's function. The
  Stores for lists and for one metric are made once; the lists of MLflow, Trackio and
  wanllmdb by their storage layers, because 10,000 runs one by one take too long.
- "8 writers" compares the calls per second until all `finish()` returned with those of
  one writer on the same Store. On a new Store they start at the same time.
"""


def document(
    results: Results, sizes: Sizes, *, command: str, versions: dict[str, str],
    machine: str, minutes: float,
) -> str:  # fmt: skip
    """The whole page."""
    rounds = max(
        len(answers) for works in results.values() for answers in works.values()
    )
    head = f"""\
# Beside other trackers

Measured {datetime.now(UTC):%Y-%m-%d} on {machine}.
Rounds: {rounds}, minutes: {minutes:.0f}. To repeat it, in a checkout:

```sh
{command}
```

Versions: {"; ".join(versions.values())}.
"""
    return "\n".join([head, _table(results, sizes), NOTES + _remarks(results)])


def _table(results: Results, sizes: Sizes) -> str:
    """A column for each system, a row for each figure."""
    titles = [load(system).TITLE for system in results]
    lines = [f"| work | {' | '.join(titles)} |", f"|---{'|---:' * len(titles)}|"]
    for title, work, write in _figures(sizes):
        cells = [
            _cell(
                answers[work], write, "*" if hasattr(load(system), "OWN_READER") else ""
            )
            for system, answers in results.items()
            if work in answers
        ]
        if cells:
            lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _own_reader(system: str) -> str:
    return "*" if hasattr(load(system), "OWN_READER") else ""


def _figures(sizes: Sizes) -> list[tuple[str, str, Write]]:
    """What each row is called, whose answer it takes, and how it is written."""
    long = f"{sizes.long_calls:,} calls"
    metric = f"one metric of {sizes.history_runs:,} x {sizes.history_steps:,} steps"
    listing = f"best {sizes.listed} of {sizes.runs:,} runs"
    many = f"{sizes.writers} writers"
    return [
        ("one call, p50, us", "log", _value("p50")),
        ("one call, p99, us", "log", _value("p99")),
        ("CPU per call with finish, us", "log", _value("cpu")),
        (f"points/s until stored, {sizes.log_calls:,} calls", "log", _value("rate")),
        ("import + init + first log, CPU s", "start", _value("cpu")),
        ("import + init + first log, s", "start", _value("wall")),
        (f"memory over {long}, MiB", "long", _value("memory")),
        ("bytes per point on disk", "long", _value("bytes")),
        ("lost on kill -9, at full speed", "kill", _lost("burst")),
        ("lost on kill -9, at 100 calls/s", "kill", _lost("paced")),
        (f"reading {sizes.long_calls * 10:,} points, CPU s", "long", _read("read")),
        (f"{metric}, CPU s", "metric", _read("cpu")),
        (f"{metric}, s", "metric", _read("wall")),
        (f"{listing}, CPU s", "list", _value("cpu")),
        (f"{listing}, s", "list", _value("wall")),
        (f"{many}: throughput, of one's", "writers", _value("ratio")),
        (f"{many}: points/s", "writers", _value("rate")),
        (f"{many}: failed calls, dead writers", "writers",
         lambda of: f"{of['errors']:.0f}, {of['dead']:.0f}"),
        (f"{many}: slowest call, ms", "writers", _value("slowest")),
        (f"{many} on a new Store: dead writers", "writers",
         lambda of: f"{of['new_dead']:.0f}"),
    ]  # fmt: skip


def _value(name: str) -> Write:
    return lambda of: ("~" if of.get("share", 1) < 1 else "") + _number(of[name])


def _read(name: str) -> Write:
    return lambda of: _value(name)(of) + "{own}"


def _lost(name: str) -> Write:
    return lambda of: f"{of[f'{name}_lost']:,.0f} of {of[f'{name}_acked']:,.0f}"


def _cell(answers: list[Answer], write: Write, own: str) -> str:
    """One figure of one system: the median of the rounds that came to an end."""
    whole = [answer for answer in answers if "failed" not in answer]
    if not whole:
        return "failed"
    if "none" in whole[0]:
        return "none"
    medians = {
        name: statistics.median(answer[name] for answer in whole) for name in whole[0]
    }
    return write(medians).replace("{own}", own)


def _number(value: float) -> str:
    """Three digits that matter, two of small ones."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 0.1 else f"{value:.2g}"


def _remarks(results: Results) -> str:
    """What a figure alone does not tell."""
    lines = [
        f"- {load(system).TITLE}, {work}: {'; '.join(remarks)}.\n"
        for system, works in results.items()
        for work, answers in works.items()
        if (remarks := _remarks_on(answers))
    ]
    return "".join(lines)


def _remarks_on(answers: list[Answer]) -> list[str]:
    """Parts, failures, points that were lost, an index that others do not need."""
    remarks = []
    shares = [answer["share"] for answer in answers if "share" in answer]
    if shares and min(shares) < 1:
        remarks.append(f"did {statistics.median(shares):.1%} of the work")
    failures = [answer["failed"] for answer in answers if "failed" in answer]
    if failures:
        remarks.append(f"failed in {len(failures)} of {len(answers)} rounds,"
                       f" `{failures[0][:100]}`")  # fmt: skip
    missing = max((answer.get("missing", 0) for answer in answers), default=0)
    if missing:
        remarks.append(f"{missing:,} points were not found again")
    indexes = [answer["index"] for answer in answers if answer.get("index", 0) > 0.1]
    if indexes:
        seconds = _number(statistics.median(indexes))
        remarks.append(f"its index was made in {seconds} s")
    return remarks
