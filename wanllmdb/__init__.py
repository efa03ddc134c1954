"""wanllmdb: an embedded, local-first experiment tracker.

``import wanllmdb as wandb`` and a training script records its runs in one directory.
`init`, `log` and `finish` record; `Api` reads back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wanllmdb import errors
from wanllmdb._observers import on
from wanllmdb._run import Run
from wanllmdb._session import (
    alert,
    define_metric,
    finish,
    init,
    log,
    log_code,
    log_message,
    login,
    mark_preempting,
    require,
    save,
    setup,
    teardown,
    unwatch,
    watch,
)
from wanllmdb.errors import ConfigError, WanllmdbError, WanllmdbWarning
from wanllmdb.types import AlertLevel, State

if TYPE_CHECKING:
    from wanllmdb._config import Config, Summary
    from wanllmdb._logging import LogHandler
    from wanllmdb._query import Api

    run: Run | None
    config: Config
    summary: Summary

__version__ = "0.1.0"

__all__ = [
    "AlertLevel",
    "Api",
    "ConfigError",
    "LogHandler",
    "Run",
    "State",
    "WanllmdbError",
    "WanllmdbWarning",
    "alert",
    "config",
    "define_metric",
    "errors",
    "finish",
    "init",
    "log",
    "log_code",
    "log_message",
    "login",
    "mark_preempting",
    "on",
    "require",
    "run",
    "save",
    "setup",
    "summary",
    "teardown",
    "unwatch",
    "watch",
]


def __getattr__(name: str) -> Any:
    """Live attributes of the active run, and names that load when first used."""
    from wanllmdb import _session

    if name == "run":
        return _session.active_run()
    if name in ("config", "summary"):
        return _session.active_section(name)
    if name == "Api":
        from wanllmdb._query import Api

        return Api
    if name == "LogHandler":
        from wanllmdb._logging import LogHandler

        return LogHandler
    message = f"module 'wanllmdb' has no attribute {name!r}"
    raise AttributeError(message)


def __dir__() -> list[str]:
    return sorted(__all__)
