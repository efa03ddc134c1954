"""A live run's changes of config, on their way to the Store."""

from __future__ import annotations

import threading
from typing import Any

from wanllmdb import _edits
from wanllmdb._config import ConfigChange
from wanllmdb._store import Store
from wanllmdb._voice import Voice

_REMOVED = object()


class ConfigWriter:
    """Stores changed keys at once; what fails is tried again with the next ones.

    Safe for threads; a signal handler's change goes in with the one it interrupted.

    Args:
        voice: Told of what fails.
    """

    def __init__(self, voice: Voice) -> None:
        self._voice = voice
        self._lock = threading.RLock()
        self._saving = False
        self._unsaved: dict[str, Any] = {}

    def save(
        self, store: Store, run_pk: int, change: ConfigChange | None = None
    ) -> None:
        """Store a change, and what could not be stored before; not yet durable."""
        with self._lock:
            if change is not None:
                removed = dict.fromkeys(change.before, _REMOVED)
                self._unsaved.update({**removed, **change.after})
            if self._saving:  # by a signal handler: _save_all takes it along
                return
            try:
                self._saving = True
                with self._voice.guarded("config"):
                    self._save_all(store, run_pk)
            finally:
                self._saving = False

    def _save_all(self, store: Store, run_pk: int) -> None:
        while self._unsaved:  # not within `try`: see Run._run_deferred
            self._save(store, run_pk, dict(self._unsaved))

    def _save(self, store: Store, run_pk: int, keys: dict[str, Any]) -> None:
        new = {key: value for key, value in keys.items() if value is not _REMOVED}
        removed = [key for key in keys if key not in new]
        _edits.change_config(store, run_pk, new, removed, durable=False)
        for key, value in keys.items():
            newer = self._unsaved.pop(key)
            if newer is not value:
                self._unsaved.setdefault(key, newer)
