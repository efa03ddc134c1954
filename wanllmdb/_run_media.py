"""Media in a run: their files are stored as the run's, and the row says which."""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Mapping
from typing import Any

from wanllmdb import _values
from wanllmdb._media.base import Document, Media, Place, Value
from wanllmdb._store import Store
from wanllmdb._values import Complain
from wanllmdb._voice import Voice
from wanllmdb.errors import WanllmdbError
from wanllmdb.types import RunRecord

MAX_NAME_BYTES = 120
"""Of a key, as the name of a file: with step and digest a filesystem takes it."""

TABLE = "table"
"""The type of what is also committed as an artifact."""

_SHOWN = 20
"""Hex digits of a digest that a file's name holds."""

_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\\]")


class RunMedia:
    """The media of one run. Files that cannot be stored never raise.

    Args:
        store: Its Store; None where nothing is recorded.
        record: The run.
        voice: Told of what could not be stored.
        complain: Told of each value that could not be kept.
        log_table: Given (key, name of a file, table) of each table that was stored.
    """

    def __init__(
        self,
        store: Store | None,
        record: RunRecord,
        voice: Voice,
        complain: Complain,
        log_table: Callable[[str, str, Value], None],
    ) -> None:
        self._store = store
        self._record = record
        self._voice = voice
        self._complain = complain
        self._log_table = log_table

    def row(self, data: Mapping[Any, Any], step: int) -> dict[str, Any]:
        """A logged mapping as one row of storable values; its media are durable then.

        Args:
            data: What was logged.
            step: Where; it is in the names of the files.
        """
        taken = _Taken(step)
        row = _values.metric_row(data, self._complain, taken.document)
        if taken.contents and (error := self._fault_of(taken)) is not None:
            for key, value in taken.values.items():
                row[key] = self._lost(key, value, error)
        return row

    def summary_value(self, key: str, value: Any) -> Any:
        """The JSON form of media that the user sets; None of all else."""
        taken = _Taken("summary")
        try:
            found = taken.document(key, value)
        except WanllmdbError as error:
            return self._lost(key, value, error)
        if taken.contents and (fault := self._fault_of(taken)) is not None:
            return self._lost(key, value, fault)
        return found

    def _fault_of(self, taken: _Taken) -> Exception | None:
        """Store the files of some media; what went wrong, if something did."""
        if self._store is None:
            return None
        try:
            self._store.data.store_media(self._record.pk, taken.contents)
        except (WanllmdbError, OSError) as error:
            self._voice.survived("store media", error)
            return error
        for key, value in taken.values.items():
            if isinstance(value, Value) and value.TYPE == TABLE:
                self._log_table(key, _safe(key), value)
        return None

    def _lost(self, key: str, value: Any, error: Exception) -> str:
        self._complain(key, f"media that could not be stored ({error})")
        return _values.capped_repr(value)


class _Taken:
    """The media of one row: their files, and what they were.

    Args:
        step: The row's.
    """

    __slots__ = ("_step", "contents", "values")

    def __init__(self, step: int | str) -> None:
        self._step = step
        self.contents: dict[str, Any] = {}
        self.values: dict[str, Any] = {}

    def document(self, key: str, value: Any) -> Document | list[Any] | None:
        """The JSON form of media, or of a list with some; None of all else."""
        value = _wrapped(value)
        several = isinstance(value, (list, tuple))
        if not any(isinstance(one, Value) for one in (value if several else (value,))):
            return None
        place = Place(lambda sha256: self._name(key, sha256))
        made = _of_all(value, place) if several else value._reference(place)
        self.contents |= place.contents
        self.values[key] = value
        return made

    def _name(self, key: str, sha256: str) -> str:
        """Unlike W&B's also for lists by content: ranks log the same key and step."""
        return f"{_safe(key)}_{self._step}_{sha256[:_SHOWN]}"


def _safe(key: str) -> str:
    """A key as the name of a file, which leads nowhere and can be written."""
    parts = [part for part in _UNSAFE.sub("_", key).split("/") if part.strip(".")]
    name = "/".join(parts).encode()[:MAX_NAME_BYTES].decode(errors="ignore")
    return name.rstrip("/") or "_"


def _of_all(values: Any, place: Place) -> Document | list[Any]:
    """The JSON form of a list: one for all, where they are of one kind of file."""
    kind = type(values[0])
    if issubclass(kind, Media) and all(type(value) is kind for value in values):
        return kind._reference_of_all(values, place)
    return [
        value._reference(place) if isinstance(value, Value) else _values.to_json(value)
        for value in values
    ]


def _wrapped(value: Any) -> Any:
    """What W&B takes as it is: a figure is an image, and a DataFrame a table."""
    if isinstance(value, (Value, list, tuple)):
        return value
    home = (
        value.__name__
        if isinstance(value, types.ModuleType)
        else type(value).__module__
    )
    if home.startswith("matplotlib"):
        from wanllmdb._media.image import Image

        return Image(value)
    if hasattr(value, "iloc") and hasattr(value, "columns"):
        from wanllmdb._media.table import Table

        return Table(dataframe=value, allow_mixed_types=True)
    return value
