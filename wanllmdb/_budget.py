"""The disk budget: how many bytes a Store may take, where that is set.

Files that are added are refused beyond it, before they are copied. What a run logs, and
what people change, never is.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from wanllmdb import _files, _settings
from wanllmdb.errors import DiskBudgetError

UNKNOWN = -1


class Used(NamedTuple):
    """How many bytes a Store takes, and how many it may take."""

    bytes: int
    limit: int

    def __str__(self) -> str:
        share = 100 * self.bytes // self.limit
        return f"{self.bytes} of {self.limit} bytes ({share} %) of the disk budget"


class Budget:
    """What may be added to one Store.

    Args:
        root: The Store's directory.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._limit: int | None = UNKNOWN

    def follow(self, limit: int | None) -> None:
        """Take the limit of a run's settings: bytes, or None for no limit."""
        self._limit = limit

    def used(self) -> Used | None:
        """What is used of it, counted file by file; None where no budget is set.

        Raises:
            InvalidSettingError: the settings cannot be read.
        """
        if self._limit == UNKNOWN:
            self._limit = _settings.load(self._root)["disk_budget"]
        if self._limit is None:
            return None
        return Used(_files.size_below(self._root), self._limit)

    def room(self) -> Room | None:
        """What can be added now; None where no budget is set."""
        used = self.used()
        return None if used is None else Room(used)


class Room:
    """What can be added.

    Args:
        used: As it was counted when a draft, or a call that stores files, began.
    """

    def __init__(self, used: Used) -> None:
        self._used = used
        self.left = used.limit - used.bytes

    def refusal(self, size: int, left: int, what: str) -> DiskBudgetError:
        """The error for bytes that do not fit.

        Args:
            size: How many they are.
            left: How many would fit.
            what: Whose they are.
        """
        return DiskBudgetError(
            f"{what} of {size} bytes cannot be stored: {self._used} are used, and"
            f" {max(left, 0)} bytes are left.",
            hint="`wanllmdb store gc` and `wanllmdb trash empty` make room; or raise"
            " disk_budget (WANLLMDB_DISK_BUDGET).",
            size=size, left=max(left, 0),
        )  # fmt: skip
