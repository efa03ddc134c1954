"""Frozen records and the words that cross layers."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, NamedTuple, NewType, TypeAlias

JSONValue: TypeAlias = Any
"""A value that JSON can hold: None, bool, int, float, str, list or dict of these."""

Digest = NewType("Digest", str)
"""``sha256:`` and 64 hexadecimal digits."""

Durability = Literal["process", "interval", "sync", "buffered"]
Mode = Literal["local", "offline", "online", "disabled"]

CHILD_WRITERS = ("fork-", "spawn-")
"""What the writers of forked and spawned children are called: their rows show beside
the run's own, and never change its summary."""

ALL_STEPS_SUPERSEDED = -(1 << 63)
"""`keep_step` of an epoch that hides every earlier row."""

INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1


class State(StrEnum):
    """The state of a run."""

    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    KILLED = "killed"
    CRASHED = "crashed"


class Stage(StrEnum):
    """How far a model's version has come."""

    NONE = "none"
    STAGING = "staging"
    PRODUCTION = "production"
    ARCHIVED = "archived"


STAGES = tuple(Stage)
"""The stages; text can be looked for in it, unlike in the class before Python 3.12."""


class AlertLevel(StrEnum):
    """How grave an alert is, with W&B's names."""

    INFO = "INFO"
    WARN = "WARN"
    ERROR = "ERROR"


class Kind(StrEnum):
    """What a log stream holds, as it stands in file names."""

    METRICS = "metrics"
    CONSOLE = "console"
    SYSTEM = "system"
    EDITS = "edits"


class Tags(tuple[str, ...]):
    """Tags in order; a list can be added to them, as W&B's users write it."""

    __slots__ = ()

    def __add__(self, other: Any) -> Tags:
        """These tags and others."""
        more = [other] if isinstance(other, str) else list(other)
        return Tags((*self, *more))


@dataclass(frozen=True, slots=True)
class Location:
    """Where the Store is, and by which rule it was found."""

    path: Path
    reason: str


class RunRef(NamedTuple):
    """How sealed rows name their run: its uid, by which they are sorted, and its id."""

    uid: str
    id: str


class Stat(NamedTuple):
    """By what a file is told to be unchanged; times in nanoseconds since 1970."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, found: os.stat_result) -> Stat:
        """What the system says of a file."""
        return cls._make(stat_numbers(found))


stat_numbers: Callable[[os.stat_result], tuple[int, int, int, int]] = attrgetter(
    "st_size", "st_mtime_ns", "st_ctime_ns", "st_ino"
)
"""The fields of a `Stat`, where there are thousands to look at."""


class PlainLog(NamedTuple):
    """A small log that the Catalog holds, of rows of one shape; and whose it is.

    Attributes:
        pk: Its run's key.
        uid: Its run's uid.
        run_id: Its run's id.
        project: Its run's project.
        token: The stream.
        epoch: The run's epoch that wrote it.
        rows: How many rows.
        crc: CRC-32 of the data.
        data: The segment, byte for byte.
    """

    pk: int
    uid: str
    run_id: str
    project: str
    token: str
    epoch: int
    rows: int
    crc: int
    data: bytes


@dataclass(frozen=True, slots=True)
class StreamIdentity:
    """Who wrote a stream: its name, its run's epoch and the writer's name."""

    token: str
    epoch: int
    writer: str


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes of a segment that are no frames, skipped by the decoder.

    Attributes:
        segment: File name of the segment.
        offset: First byte skipped.
        bytes: How many were skipped.
        rows: Rows known lost besides (their schema definition was in a gap).
        torn: True for an incomplete end, which every killed writer may leave;
            False for damage in the middle.
    """

    segment: str
    offset: int
    bytes: int
    rows: int
    torn: bool

    def __str__(self) -> str:
        """Render for a person: which file, where, how much."""
        what = "torn end" if self.torn else "damaged bytes"
        lost = f", {self.rows} rows without their schema" if self.rows else ""
        return f"{self.segment}: {self.bytes} {what} at offset {self.offset}{lost}"


@dataclass(frozen=True, slots=True)
class End:
    """How a writer, or a run, ended."""

    state: State
    exit_code: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Losses:
    """What of a run could not be kept as it was logged.

    Attributes:
        rows: Rows that a faulty disk refused.
        values: Values of no type that can be stored, kept as text.
    """

    rows: int = 0
    values: int = 0


@dataclass(frozen=True, slots=True)
class Epoch:
    """One attempt of a run; see table `epoch`."""

    number: int
    kind: str
    keep_step: int | None
    first_step: int
    started_us: int
    ended_us: int | None
    reverted_us: int | None


@dataclass(frozen=True, slots=True)
class Parent:
    """What a forked run takes over from the run it was forked from."""

    run_pk: int
    uid: str
    epoch: int
    step: int
    marks: Mapping[str, int]
    """Rows of each stream that existed when the fork was made."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One row of `run` with its project and tags; times in microseconds UTC."""

    pk: int
    uid: str
    project: str
    run_id: str
    name: str
    notes: str | None
    group: str | None
    job_type: str | None
    state: State
    exit_code: int | None
    error: str | None
    epoch: int
    last_step: int | None
    created_us: int
    started_us: int
    ended_us: int | None
    deleted_us: int | None
    host: str
    pid: int
    dropped_rows: int
    coerced_values: int
    damage: str | None
    config_json: str
    config_blob: str | None
    summary_json: str
    summary_blob: str | None
    parent: Parent | None
    tags: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The run's id in its project."""
        return self.run_id

    @property
    def path(self) -> str:
        """``project/id``."""
        return f"{self.project}/{self.run_id}"


@dataclass(frozen=True, slots=True)
class Source:
    """A file to be stored with a run: where it is, its name there, its policy."""

    path: Path
    name: str
    policy: str


@dataclass(frozen=True, slots=True)
class RunFile:
    """One file that a run saved; its bytes are the blob named by `digest`."""

    path: str
    digest: Digest
    size: int
    policy: str
    source: str | None
    mtime_ns: int
    saved_us: int


@dataclass(frozen=True, slots=True)
class Event:
    """One recorded change; see table `event`."""

    at_us: int
    kind: str
    entity: str
    uid: str
    who: str
    host: str
    op_id: str | None
    before: JSONValue
    after: JSONValue
    reason: str | None


@dataclass(frozen=True, slots=True)
class Alert:
    """Something a run asked people to look at."""

    title: str
    text: str
    level: AlertLevel
    raised_us: int
    step: int | None


@dataclass(frozen=True, slots=True)
class NewRun:
    """What a run is created with."""

    uid: str
    project: str
    run_id: str
    name: str
    notes: str | None = None
    group: str | None = None
    job_type: str | None = None
    tags: tuple[str, ...] = ()
    config: Mapping[str, JSONValue] = field(default_factory=dict)
    identity: str = ""
    parent: Parent | None = None


@dataclass(frozen=True, slots=True)
class KeyStats:
    """What the visible values of one key came to.

    Attributes:
        count: Values logged, NaN included.
        nans: How many of them were NaN; these are in none of the numbers below.
        last: The last value in total order.
        last_step: Its step.
        min: Smallest number, None if there was none.
        max: Largest number.
        mean: Mean of the numbers, to double rounding.
    """

    count: int
    nans: int
    last: JSONValue
    last_step: int | None
    min: float | int | None
    max: float | int | None
    mean: float | None


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """One version of an artifact; see table `version`. Times in microseconds UTC.

    Attributes:
        number: ``N`` of ``vN``.
        digest: Of its manifest, and so of its content.
        latest: Whether no version of a higher number is left.
        aliases: As they are shown, in the order of the alphabet.
    """

    pk: int
    uid: str
    artifact_pk: int
    artifact_uid: str
    project: str
    name: str
    type: str
    number: int
    digest: Digest
    files: int
    size: int
    description: str | None
    metadata_json: str
    run_pk: int | None
    created_us: int
    updated_us: int
    ttl_us: int | None
    deleted_us: int | None
    latest: bool
    aliases: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """``project/name:vN``."""
        return f"{self.project}/{self.name}:v{self.number}"


@dataclass(frozen=True, slots=True)
class ArtifactRecord:
    """One artifact that has a version left; see table `artifact`."""

    pk: int
    uid: str
    project: str
    name: str
    type: str
    description: str | None
    versions: int
    size: int
    latest: int
    created_us: int
    updated_us: int


@dataclass(frozen=True, slots=True)
class NewVersion:
    """What is said of a version when it is committed."""

    name: str
    type: str
    digest: Digest
    files: int
    size: int
    description: str | None = None
    metadata_json: str = "{}"
    tags: tuple[str, ...] = ()
    ttl_us: int | None = None


@dataclass(frozen=True, slots=True)
class RemoteRecord:
    """A place to sync with; see table `remote`. There is no secret in it.

    Attributes:
        url: Any fsspec URL.
        endpoint_url: Of a server other than the protocol's own.
        profile: A profile's name, of those that hold the credentials.
        path_style: Whether the bucket stands in the path, not in the host's name.
        single_writer: Whether only one device may write: its exclusive create, on which
            all else rests, failed the probe, or was not tried.
        default: Whether it is meant where none is named.
        uid: The remote's own.
    """

    name: str
    url: str
    endpoint_url: str | None
    profile: str | None
    path_style: bool
    single_writer: bool
    default: bool
    uid: str
    added_us: int


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """One model of the registry; see table `model`.

    Attributes:
        versions: How many it has.
        latest: The highest of their numbers; None where there is none.
        staging: Numbers of the versions in that stage, rising.
        production: Numbers of the versions in that stage, rising.
    """

    pk: int
    uid: str
    name: str
    description: str | None
    single_holder: bool
    created_us: int
    versions: int
    latest: int | None
    staging: tuple[int, ...]
    production: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ModelVersionRecord:
    """One version of a model; see table `model_version`. Times in microseconds UTC.

    Attributes:
        number: ``N`` of ``vN``.
        version_pk: The version of an artifact that it links to.
        artifact: That version, as ``project/name:vN``.
        run: ``project/id`` of the run that made that version.
        label: What it was registered as, where that was a name of its own.
        aliases: Its names, the label among them.
    """

    pk: int
    uid: str
    model_pk: int
    model_uid: str
    model: str
    number: int
    version_pk: int
    version_uid: str
    artifact: str
    run: str | None
    stage: Stage
    description: str | None
    metadata_json: str
    tags: tuple[str, ...]
    created_us: int
    staged_us: int | None
    approved_by: str | None
    approved_us: int | None
    label: str | None
    aliases: tuple[str, ...]

    @property
    def path(self) -> str:
        """``name:vN``."""
        return f"{self.model}:v{self.number}"


@dataclass(frozen=True, slots=True)
class NewModelVersion:
    """What is said of a model's version when it is linked.

    Attributes:
        number: The number that it must get; None: whichever is next.
        label: The name that it is registered under, which never moves.
        aliases: Names that shall be this version's.
        stage: Where it shall be; None: where it is, at first `Stage.NONE`.
    """

    description: str | None = None
    metadata_json: str = "{}"
    tags: tuple[str, ...] = ()
    number: int | None = None
    label: str | None = None
    aliases: tuple[str, ...] = ()
    stage: Stage | None = None


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
