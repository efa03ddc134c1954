"""`config` and `summary`: mappings with attributes, whose changes are stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

from wanllmdb import _values
from wanllmdb.errors import InvalidConfigError
from wanllmdb.types import JSONValue


class Section(MutableMapping[str, Any]):
    """A nested mapping with attribute access that tells its root of each change.

    ``section.lr``, ``section["lr"]`` and ``section.optim.lr = 1`` all work; nested
    mappings come back as sections of their own.
    """

    __slots__ = ("_changed", "_data")

    def __init__(self, data: dict[str, JSONValue], changed: Callable[[str], None]):
        object.__setattr__(self, "_data", data)
        object.__setattr__(self, "_changed", changed)

    def __getitem__(self, key: str) -> Any:
        value = self._data[key]
        if isinstance(value, dict):
            return Section(value, lambda _: self._changed(key))
        return value

    def __setitem__(self, key: str, value: Any) -> None:
        self._store(str(key), value)
        self._changed(str(key))

    def __delitem__(self, key: str) -> None:
        del self._data[key]
        self._changed(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._data)

    def __len__(self) -> int:
        return len(self._data)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError:
            message = f"{type(self).__name__.lower()} has no key {name!r}"
            raise AttributeError(message) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        del self[name]

    def __repr__(self) -> str:
        return repr(self._data)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._data]

    def as_dict(self) -> dict[str, Any]:
        """A plain copy."""
        plain: dict[str, Any] = _copy(self._data)
        return plain

    def _store(self, key: str, value: Any) -> None:
        self._data[key] = _values.config_value(value)


class Config(Section):
    """A run's inputs. Changes are always allowed, and stored at once.

    Args:
        data: The values at the start.
        changed: Called with the key after each change.
        locked: Keys that a sweep set; attempts to change them are ignored.
    """

    __slots__ = ("_locked",)

    def __init__(
        self,
        data: dict[str, JSONValue],
        changed: Callable[[str], None] = lambda _: None,
        locked: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(data, changed)
        object.__setattr__(self, "_locked", locked)

    def _store(self, key: str, value: Any) -> None:
        if key not in self._locked:
            super()._store(key, value)

    def update(  # type: ignore[override]
        self, other: Any = (), allow_val_change: bool = True, **values: Any
    ) -> None:
        """Set several keys at once.

        Args:
            other: A mapping, dataclass, Namespace, or path of a YAML or JSON file.
            allow_val_change: Accepted as W&B has it; changes are always allowed.
            **values: Further keys.
        """
        del allow_val_change
        new = {**read_config(other), **values}
        for key, value in new.items():
            self._store(str(key), value)
        if new:
            self._changed(next(iter(new)))

    def setdefaults(self, defaults: Mapping[str, Any]) -> None:
        """Set those keys that are not set yet."""
        self.update({k: v for k, v in defaults.items() if k not in self})

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key, or a default."""
        return self[key] if key in self._data else default


class Summary(Section):
    """A run's final values: what was logged last, or what the user writes here.

    Args:
        read: Gives the values as they stand now.
        write: Takes what the user sets; None as a value removes nothing.
        remove: Takes the key that the user deletes.
    """

    __slots__ = ("_read", "_remove", "_write")

    def __init__(
        self,
        read: Callable[[], dict[str, JSONValue]],
        write: Callable[[dict[str, JSONValue]], None],
        remove: Callable[[str], None],
    ) -> None:
        object.__setattr__(self, "_read", read)
        object.__setattr__(self, "_write", write)
        object.__setattr__(self, "_remove", remove)

    @property
    def _data(self) -> dict[str, JSONValue]:
        values: dict[str, JSONValue] = self._read()
        return values

    def __getitem__(self, key: str) -> Any:
        data = self._read()
        value = data[key]
        if isinstance(value, dict):
            return Section(value, lambda _: self._write({key: value}))
        return value

    def __setitem__(self, key: str, value: Any) -> None:
        self._write({str(key): _values.config_value(value)})

    def __delitem__(self, key: str) -> None:
        if key not in self._read():
            raise KeyError(key)
        self._remove(key)

    def update(self, other: Any = (), **values: Any) -> None:  # type: ignore[override]
        """Set several keys at once."""
        new = {**dict(other), **values}
        self._write({str(k): _values.config_value(v) for k, v in new.items()})

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key, or a default."""
        return self[key] if key in self._read() else default


def read_config(value: Any) -> dict[str, JSONValue]:
    """A config from what `init(config=)` accepts.

    Raises:
        InvalidConfigError: it is no mapping, or the file cannot be read as one.
    """
    if value is None or (isinstance(value, (tuple, list)) and not value):
        return {}
    if isinstance(value, (str, Path)):
        return _from_file(Path(value))
    if isinstance(value, Section):
        return value.as_dict()
    mapping = _values.as_mapping(value)
    if mapping is None:
        try:
            mapping = dict(value)
        except (TypeError, ValueError):
            raise InvalidConfigError(
                f"A config is a mapping, not {type(value).__name__}.",
                hint="Pass a dict, a dataclass, a Namespace or a YAML file's path.",
            ) from None
    return {str(k): _values.config_value(v) for k, v in mapping.items()}


def _from_file(path: Path) -> dict[str, JSONValue]:
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise InvalidConfigError(
            f"The config file {path} cannot be read: {error.strerror}.",
            hint="Check the path.",
        ) from error
    data: Any
    if path.suffix == ".json":
        import json

        data = json.loads(text)
    else:
        from wanllmdb import _extras

        yaml = _extras.need("yaml", "yaml", "A YAML config")
        data = yaml.safe_load(text)
    if not isinstance(data, dict):
        raise InvalidConfigError(
            f"The config file {path} holds no mapping.", hint="Give it keys."
        )
    # W&B writes {lr: {desc: ..., value: 3}}.
    return {
        str(k): _values.config_value(
            v["value"] if isinstance(v, dict) and set(v) <= {"value", "desc"} else v
        )
        for k, v in data.items()
        if k != "wandb_version"
    }


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _copy(v) for k, v in value.items()}
    return [_copy(v) for v in value] if isinstance(value, list) else value
