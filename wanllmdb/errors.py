"""Every error that wanllmdb raises, grouped by what the caller does next.

::

    WanllmdbError
    ├── NotFoundError (LookupError)        look again, or create it        exit 3
    │   ├── ProjectNotFoundError
    │   ├── RunNotFoundError
    │   ├── MetricNotFoundError
    │   ├── FileNotInRunError
    │   ├── ArtifactNotFoundError
    │   ├── VersionNotFoundError
    │   ├── AliasNotFoundError
    │   ├── EntryNotFoundError
    │   ├── ModelNotFoundError
    │   └── RemoteNotFoundError
    ├── ConflictError                      choose another name, or wait    exit 4
    │   ├── RunExistsError
    │   ├── RunActiveError
    │   ├── AmbiguousNameError
    │   ├── AliasConflictError
    │   ├── StageConflictError
    │   └── VersionInUseError
    ├── InvalidInputError (ValueError)     correct the argument            exit 2
    │   ├── InvalidNameError
    │   ├── InvalidConfigError
    │   ├── InvalidMetricError
    │   ├── InvalidSettingError
    │   ├── FilterError
    │   └── QueryError
    ├── StateError                         call it at another time         exit 6
    │   ├── RunFinishedError
    │   ├── NoActiveRunError
    │   ├── ArtifactStateError
    │   ├── ReadOnlyError
    │   └── StoreClosedError
    ├── StoreError                         mend the Store or its disk      exit 7
    │   ├── StoreLockedError
    │   ├── StoreUnavailableError
    │   ├── DiskFullError
    │   ├── DiskBudgetError
    │   ├── NewerStoreError
    │   └── MigrationError
    ├── IntegrityError                     verify, restore a backup        exit 5
    │   ├── DigestMismatchError
    │   ├── CorruptSegmentError
    │   ├── CorruptPartError
    │   └── MissingBlobError
    ├── RemoteError                        try again, or mend the access   exit 8
    │   ├── RemoteUnreachableError
    │   ├── RemoteDeniedError
    │   ├── RemoteFullError
    │   └── NewerRemoteError
    └── MissingExtraError (ImportError)    pip install the named extra     exit 9

    WanllmdbWarning (UserWarning)          what the run path survived

A leaf module: it imports nothing of the package, so every layer can raise.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, ClassVar

current_op: ContextVar[str | None] = ContextVar("wanllmdb_op", default=None)
"""The id of the operation under way, stamped on every error raised in it."""


class WanllmdbError(Exception):
    """Root of all errors raised on purpose by wanllmdb.

    Args:
        message: One sentence that names the thing that is wrong.
        hint: One sentence that says what to do about it.
        **identity: The things concerned, for programs (``run="demo/x1"``).

    Attributes:
        kind: Stable code for programs; codes are only ever added.
        exit_code: The command line's exit status for this error.
        op_id: The operation it was raised in, as in the debug log, or None.
    """

    kind: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "", **identity: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.identity = identity
        self.op_id = current_op.get()

    def __str__(self) -> str:
        """Render the message, followed by the hint where there is one."""
        return f"{self.message} {self.hint}".rstrip()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with hint and identity, so errors cross process borders whole."""
        facts = (type(self), self.message, self.hint, self.identity, self.op_id)
        return (_rebuild, facts)


def _rebuild(
    cls: type[WanllmdbError],
    message: str,
    hint: str,
    identity: dict[str, Any],
    op_id: str | None,
) -> WanllmdbError:
    error = cls(message, hint=hint, **identity)
    error.op_id = op_id
    return error


class NotFoundError(WanllmdbError, LookupError):
    """Something named does not exist."""

    kind = "not_found"
    exit_code = 3


class ProjectNotFoundError(NotFoundError):
    """No project has that name."""

    kind = "project_not_found"


class RunNotFoundError(NotFoundError):
    """No run has that id, name or id prefix."""

    kind = "run_not_found"


class MetricNotFoundError(NotFoundError):
    """The run never logged that key."""

    kind = "metric_not_found"


class FileNotInRunError(NotFoundError):
    """The run saved no file of that name."""

    kind = "file_not_in_run"


class ArtifactNotFoundError(NotFoundError):
    """No artifact has that name, or none of its versions is left."""

    kind = "artifact_not_found"


class VersionNotFoundError(NotFoundError):
    """The artifact has no such version."""

    kind = "version_not_found"


class AliasNotFoundError(NotFoundError):
    """The artifact has no such alias."""

    kind = "alias_not_found"


class EntryNotFoundError(NotFoundError):
    """The version has no such path."""

    kind = "entry_not_found"


class ModelNotFoundError(NotFoundError):
    """The registry has no model of that name."""

    kind = "model_not_found"


class RemoteNotFoundError(NotFoundError):
    """No remote has that name, or its bucket or directory does not exist."""

    kind = "remote_not_found"


class ConflictError(WanllmdbError):
    """Something else already holds the name or the place."""

    kind = "conflict"
    exit_code = 4


class RunExistsError(ConflictError):
    """The run exists and ``resume="never"`` forbids going on with it."""

    kind = "run_exists"


class RunActiveError(ConflictError):
    """Another live process is writing to the run."""

    kind = "run_active"


class AmbiguousNameError(ConflictError):
    """A name or id prefix fits several runs; the message lists them."""

    kind = "ambiguous_name"


class AliasConflictError(ConflictError):
    """The alias is protected, or names another version than was expected."""

    kind = "alias_conflict"


class StageConflictError(ConflictError):
    """Another version of the model holds the stage, which has one holder."""

    kind = "stage_conflict"


class VersionInUseError(ConflictError):
    """It has aliases, is a model's, is in production, or a live run reads it."""

    kind = "version_in_use"


class InvalidInputError(WanllmdbError, ValueError):
    """An argument cannot be accepted as it is."""

    kind = "invalid_input"
    exit_code = 2


class InvalidNameError(InvalidInputError):
    """A project name, run id or tag breaks the naming rules."""

    kind = "invalid_name"


class InvalidConfigError(InvalidInputError):
    """A config cannot be read as a mapping."""

    kind = "invalid_config"


ConfigError = InvalidConfigError
"""W&B's name of :class:`InvalidConfigError`, so that handlers keep working."""


class InvalidMetricError(InvalidInputError, TypeError):
    """What was logged is no mapping, or in strict mode no loggable value."""

    kind = "invalid_metric"


class InvalidSettingError(InvalidInputError):
    """A setting has a value that it cannot take; the message names its source."""

    kind = "invalid_setting"


class FilterError(InvalidInputError):
    """A run filter or sort order cannot be parsed."""

    kind = "filter"


class QueryError(InvalidInputError):
    """A query cannot be run as it stands."""

    kind = "query"


class StateError(WanllmdbError):
    """The call is right, at the wrong time."""

    kind = "state"
    exit_code = 6


class RunFinishedError(StateError):
    """The run is finished; nothing can be logged to it."""

    kind = "run_finished"


class NoActiveRunError(StateError):
    """A module-level call needs ``init()`` first."""

    kind = "no_active_run"


class ArtifactStateError(StateError):
    """It is a draft and should be committed, or it is committed and cannot change."""

    kind = "artifact_state"


class ReadOnlyError(StateError):
    """The Store can be read but not written."""

    kind = "read_only"


class StoreClosedError(StateError):
    """The Store was closed."""

    kind = "store_closed"


class StoreError(WanllmdbError):
    """The Store or its disk refuses."""

    kind = "store"
    exit_code = 7


class StoreLockedError(StoreError):
    """Another process held the Catalog's write lock for too long."""

    kind = "store_locked"


class StoreUnavailableError(StoreError):
    """The Store's place cannot be used: missing, unwritable or not a Store."""

    kind = "store_unavailable"


class DiskFullError(StoreError):
    """No space is left for what had to be written."""

    kind = "disk_full"


class DiskBudgetError(StoreError):
    """The setting disk_budget leaves no room for files that were to be stored."""

    kind = "disk_budget"


class NewerStoreError(StoreError):
    """The Store was written by a newer wanllmdb."""

    kind = "newer_store"


class MigrationError(StoreError):
    """The Catalog could not be brought to this version."""

    kind = "migration"


class IntegrityError(WanllmdbError):
    """Stored bytes are not what was written."""

    kind = "integrity"
    exit_code = 5


class DigestMismatchError(IntegrityError):
    """Bytes do not match the digest, or the size, that they should have."""

    kind = "digest_mismatch"


class CorruptSegmentError(IntegrityError):
    """A log segment holds bytes that are no frames."""

    kind = "corrupt_segment"


class CorruptPartError(IntegrityError):
    """A sealed part is damaged."""

    kind = "corrupt_part"


class MissingBlobError(IntegrityError):
    """A blob that the Catalog names is not there."""

    kind = "missing_blob"


class RemoteError(WanllmdbError):
    """What lies outside the Store did not give what it was asked for."""

    kind = "remote"
    exit_code = 8


class RemoteUnreachableError(RemoteError):
    """Nothing answers there, or what was asked for is not there."""

    kind = "remote_unreachable"


class RemoteDeniedError(RemoteError):
    """The other side does not let us read it, or write it."""

    kind = "remote_denied"


class RemoteFullError(RemoteError):
    """The remote has no room for what was to be stored."""

    kind = "remote_full"


class NewerRemoteError(RemoteError):
    """The remote was written by a newer wanllmdb."""

    kind = "newer_remote"


class MissingExtraError(WanllmdbError, ImportError):
    """An optional dependency is needed; the message names the pip command."""

    kind = "missing_extra"
    exit_code = 9


class WanllmdbWarning(UserWarning):
    """What the run path survived: training goes on, something needs a look."""
