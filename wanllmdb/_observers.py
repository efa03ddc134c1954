"""Callbacks on what happens to runs, isolated from each other and from the run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wanllmdb.errors import InvalidInputError

EVENTS = ("start", "finish", "crash", "alert", "artifact", "sync")
_observers: dict[str, list[Callable[..., Any]]] = {name: [] for name in EVENTS}


def on(events: str, observer: Callable[..., Any]) -> Callable[..., Any]:
    """Call `observer(subject)` whenever something happens in this process.

    Args:
        events: ``start``, ``finish``, ``crash``, ``alert``, ``artifact`` or ``sync``;
            several are separated by ``|``.
        observer: Called with the run, the alert, the version, what a sync did, or the
            record of the run that was found crashed; what it raises is noted in the
            debug log and goes nowhere else.

    Returns:
        The observer, so that this can be used as a decorator's last step.

    Raises:
        InvalidInputError: an event has no such name.
    """
    names = events.split("|")
    if bad := [name for name in names if name not in EVENTS]:
        raise InvalidInputError(
            f"There is no event {bad[0]!r}.", hint=f"Use one of {', '.join(EVENTS)}."
        )
    for name in names:
        _observers[name].append(observer)
    return observer


def notify(
    event: str, subject: Any, on_error: Callable[[str, BaseException], None]
) -> None:
    """Call every observer of an event."""
    for observer in list(_observers[event]):
        try:
            observer(subject)
        except Exception as error:  # noqa: BLE001 - observers are isolated
            on_error(f"observer of {event}", error)
