"""`settings=` of `init`: W&B's names for what is set here under our own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from wanllmdb import _settings


class Settings(SimpleNamespace):
    """W&B's class of settings: takes any keyword, for ``init(settings=...)``.

    What means something here: ``silent, mode, project, run_id, run_name, run_group,
    run_job_type, run_notes, run_tags, resume, console, disable_git, x_disable_stats,
    x_stats_sampling_interval, x_label``, and the names of our own settings.
    """


@dataclass(frozen=True, slots=True)
class Translated:
    """What W&B's settings say that means something here.

    Attributes:
        ours: Values by the names of our settings.
        shared: Whether the run may be joined (``mode="shared"``).
        label: The writer's name in a shared run.
    """

    ours: Mapping[str, Any]
    shared: bool
    label: str | None


_NAMES = {
    "run_job_type": "job_type", "run_notes": "notes", "run_tags": "tags",
    "x_stats_sampling_interval": "system_interval",
}  # fmt: skip
_CONSOLES = ("auto", "off", "redirect", "wrap", "wrap_emu", "wrap_raw")


def translate(value: Any) -> Translated:
    """Read a mapping, a `Settings`, or W&B's own object; unknown names mean nothing."""
    items: dict[str, Any] = {}
    if isinstance(value, Mapping):
        items = dict(value)
    elif value is not None:
        items = dict(vars(value))
    items = {name: item for name, item in items.items() if item is not None}
    consoles = items.pop("console", None) if items.get("console") in _CONSOLES else None
    ours = {
        _NAMES.get(name, name): item
        for name, item in items.items()
        if _NAMES.get(name, name) in _settings.FIELDS
    }
    shared = ours.get("mode") == "shared"
    if shared:
        del ours["mode"]
    if consoles is not None:
        ours["console"] = consoles != "off"
    if items.get("disable_git"):
        ours["git"] = False
    if items.get("x_disable_stats"):
        ours["system_interval"] = 0
    return Translated(ours, shared, items.get("x_label"))
