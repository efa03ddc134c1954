"""A `logging.Handler` that records messages in the active run."""

from __future__ import annotations

import logging

from wanllmdb import _session


class LogHandler(logging.Handler):
    """Sends log records to the active run's log; without a run they are dropped.

    Example::

        logging.getLogger().addHandler(wanllmdb.LogHandler())
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Record one message with its level."""
        run = _session.active_run()
        if run is None:
            return
        try:
            run.log_message(self.format(record), record.levelname)
        except Exception:  # noqa: BLE001 - logging's own rule for handlers
            self.handleError(record)
