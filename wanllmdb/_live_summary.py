"""The summary of a run while it is written: its rows so far, and what the user set."""

from __future__ import annotations

from collections.abc import Mapping

from wanllmdb import _clock
from wanllmdb._definitions import Definitions
from wanllmdb._metrics.fold import Fold
from wanllmdb._metrics.summary import summarise
from wanllmdb._metrics.writer import StreamWriter
from wanllmdb._runlog import Sums
from wanllmdb.types import JSONValue

AFTER_FINISH = (1 << 31, 0, "", 0.0)
"""Place, in total order, of what is written after the end."""


class LiveSummary:
    """Sums up what stood in the log when the run began, and what is written since.

    Not thread-safe: the run's lock guards it.

    Args:
        base: What the log came to before.
        definitions: What `define_metric` said.
        started_us: When the run started.

    Attributes:
        writer: Writes the run's rows; None where it has none, or nothing is recorded.
        last: The summary as it was last read.
    """

    def __init__(self, base: Sums, definitions: Definitions, started_us: int) -> None:
        self.writer: StreamWriter | None = None
        self._base = base
        self._definitions = definitions
        self._started_us = started_us
        self._read_at: tuple[int, int, int] | None = None
        self.last: dict[str, JSONValue] = {}

    @property
    def version(self) -> tuple[int, int, int]:
        """Changes with whatever the summary depends on."""
        fold = self._newest
        rows = fold.rows if self.writer is None else self.writer.rows
        return rows, fold.writes, self._definitions.version

    def read(self) -> dict[str, JSONValue]:
        """The summary as it stands; not to be changed."""
        now = self.version
        if self._read_at != now:
            own, options = self.sums().own, self._definitions.options
            self.last = summarise(own, options, self._started_us)
            self._read_at = now
        return self.last

    def write(self, values: Mapping[str, JSONValue]) -> None:
        """Take over what the user sets, in order with the rows."""
        if self.writer is not None:
            self.writer.write_summary(values)
            return
        fold = self._base.own
        at = (0, _clock.now_us() // 1000, "", fold.rows - 0.5)
        fold.write_summary(values, at)

    def write_after_finish(self, values: Mapping[str, JSONValue]) -> None:
        """Take over what the user sets when the run has ended."""
        self._newest.write_summary(values, AFTER_FINISH)

    def add_row(self, row: Mapping[str, JSONValue], step: int) -> None:
        """Count in a row that is recorded nowhere (mode "disabled")."""
        now, fold = _clock.now_us(), self._base.own
        fold.add_row(row, step, now, (0, now // 1000, "", fold.rows))

    def sums(self) -> Sums:
        """What the run comes to so far; not to be changed."""
        base = self._base
        if self.writer is None:
            return base
        self.writer.fold_pending()
        own = self.writer.fold
        if base.own.keys or base.own.written:
            own = base.own.merged(own)
        return Sums(own, base.children, base.damage, base.streams)

    def copy(self) -> Sums:
        """The same, as a copy that stays as it is while rows are written."""
        sums = self.sums()
        return Sums(sums.own.merged(Fold()), sums.children, sums.damage, sums.streams)

    @property
    def _newest(self) -> Fold:
        return self._base.own if self.writer is None else self.writer.fold
