"""wanllmdb: an embedded, local-first experiment tracker.

``import wanllmdb as wandb`` and a training script records its runs in one directory.
`init`, `log` and `finish` record; `Api` reads back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wanllmdb import errors
    from wanllmdb._artifacts import Artifact
    from wanllmdb._config import Config, Summary
    from wanllmdb._logging import LogHandler
    from wanllmdb._media.audio import Audio
    from wanllmdb._media.histogram import Histogram
    from wanllmdb._media.html import Html
    from wanllmdb._media.image import Classes, Image
    from wanllmdb._media.solid import Molecule, Object3D
    from wanllmdb._media.table import Table
    from wanllmdb._media.video import Video
    from wanllmdb._observers import on
    from wanllmdb._query import Api, query
    from wanllmdb._registry import ModelRegistry
    from wanllmdb._run import Run
    from wanllmdb._session import (
        alert,
        define_metric,
        finish,
        finish_artifact,
        init,
        link_artifact,
        link_model,
        log,
        log_artifact,
        log_code,
        log_message,
        log_model,
        login,
        mark_preempting,
        require,
        save,
        setup,
        teardown,
        unwatch,
        upsert_artifact,
        use_artifact,
        use_model,
        watch,
    )
    from wanllmdb._wandb_settings import Settings
    from wanllmdb.errors import ConfigError, WanllmdbError, WanllmdbWarning
    from wanllmdb.types import AlertLevel, State

    run: Run | None
    config: Config
    summary: Summary

__version__ = "0.1.0"

__all__ = [
    "AlertLevel",
    "Api",
    "Artifact",
    "Audio",
    "Classes",
    "ConfigError",
    "Histogram",
    "Html",
    "Image",
    "LogHandler",
    "ModelRegistry",
    "Molecule",
    "Object3D",
    "Run",
    "Settings",
    "State",
    "Table",
    "Video",
    "WanllmdbError",
    "WanllmdbWarning",
    "alert",
    "config",
    "define_metric",
    "errors",
    "finish",
    "finish_artifact",
    "init",
    "link_artifact",
    "link_model",
    "log",
    "log_artifact",
    "log_code",
    "log_message",
    "log_model",
    "login",
    "mark_preempting",
    "on",
    "query",
    "require",
    "run",
    "save",
    "setup",
    "summary",
    "teardown",
    "unwatch",
    "upsert_artifact",
    "use_artifact",
    "use_model",
    "watch",
]


_HOMES = {
    "Settings": "_wandb_settings", "Artifact": "_artifacts",
    "ModelRegistry": "_registry",
    "Api": "_query", "query": "_query",
    "Audio": "_media.audio", "Classes": "_media.image", "Image": "_media.image",
    "Histogram": "_media.histogram", "Html": "_media.html", "Table": "_media.table",
    "Molecule": "_media.solid", "Object3D": "_media.solid", "Video": "_media.video",
    "LogHandler": "_logging", "Run": "_run", "on": "_observers",
    "AlertLevel": "types", "State": "types", "ConfigError": "errors",
    "WanllmdbError": "errors", "WanllmdbWarning": "errors",
}  # fmt: skip
"""Where a name lives, if not in `_session`. Each loads when it is first used, so that
``import wanllmdb`` costs next to nothing."""


def __getattr__(name: str) -> Any:
    """Live attributes of the active run, and names that load when first used."""
    from importlib import import_module

    if name in ("run", "config", "summary"):  # never kept: they change with the run
        session = import_module("wanllmdb._session")
        return session.active_run() if name == "run" else session.active_section(name)
    if name == "errors":
        return import_module("wanllmdb.errors")
    if name not in __all__:
        message = f"module 'wanllmdb' has no attribute {name!r}"
        raise AttributeError(message)
    home = import_module(f"wanllmdb.{_HOMES.get(name, '_session')}")
    value = globals()[name] = getattr(home, name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
