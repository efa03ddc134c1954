"""What a sync did, and what it could not do."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class SyncReport:
    """What a sync with one remote did.

    Attributes:
        remote: The remote's name.
        pushed: Things told of, by kind (``run``, ``version``, ...).
        pulled: Things heard of, by kind.
        rows_pushed: Rows of metrics, logs and system samples that were sent.
        rows_pulled: Rows that came.
        objects_written: Objects that were written at the remote, batches included.
        bytes_written: Their bytes.
        bytes_read: Bytes that were fetched.
        notices: What people should know, a line each.
        failed: What could not be done, a line each; the next sync tries again.
    """

    remote: str
    pushed: dict[str, int] = field(default_factory=dict)
    pulled: dict[str, int] = field(default_factory=dict)
    rows_pushed: int = 0
    rows_pulled: int = 0
    objects_written: int = 0
    bytes_written: int = 0
    bytes_read: int = 0
    notices: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @property
    def partial(self) -> bool:
        """Whether something is left for the next sync, or for people to settle."""
        return bool(self.failed)

    def count(self, counts: dict[str, int], entity: str) -> None:
        """Note one thing more of a kind."""
        counts[entity] = counts.get(entity, 0) + 1
