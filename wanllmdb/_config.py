"""`config` and `summary`: mappings with attributes, whose changes are stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wanllmdb import _values
from wanllmdb.errors import InvalidConfigError
from wanllmdb.types import JSONValue

Mutation = Callable[[], None]


class Section(MutableMapping[str, Any]):
    """A nested mapping with attribute access whose changes are stored.

    ``section.lr``, ``section["lr"]`` and ``section.optim.lr = 1`` all work; nested
    mappings come back as sections of their own, lists as copies.

    Args:
        data: The values.
        mutate: Carries out a change and stores what came of it.
    """

    __slots__ = ("_data", "_mutate")

    def __init__(
        self, data: dict[str, JSONValue], mutate: Callable[[Mutation], None]
    ) -> None:
        object.__setattr__(self, "_data", data)
        object.__setattr__(self, "_mutate", mutate)

    def __getitem__(self, key: str) -> Any:
        value = self._data[_values.config_key(key)]
        return Section(value, self._mutate) if isinstance(value, dict) else _copy(value)

    def __setitem__(self, key: str, value: Any) -> None:
        name, stored = _values.config_key(key), _values.config_value(value)
        self._mutate(lambda: self._data.__setitem__(name, stored))

    def __delitem__(self, key: str) -> None:
        name = _values.config_key(key)
        if name not in self._data:
            raise KeyError(key)
        self._mutate(lambda: self._data.__delitem__(name))

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and _values.config_key(key) in self._data

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


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """What was changed in a config, by top-level key.

    Attributes:
        before: The values of the keys concerned that existed.
        after: Their values now; keys that were removed are absent.
        allowed: Whether the caller said that values may change.
    """

    before: Mapping[str, JSONValue] = field(default_factory=dict)
    after: Mapping[str, JSONValue] = field(default_factory=dict)
    allowed: bool = False

    @property
    def replaced(self) -> list[str]:
        """Keys whose value is another one than before."""
        return [
            key for key, value in self.before.items()
            if key in self.after and _is_replaced(value, self.after[key])
        ]  # fmt: skip


def _is_replaced(before: JSONValue, after: JSONValue) -> bool:
    """Whether a value is another one; what was added to a mapping is no change."""
    if isinstance(before, dict) and isinstance(after, dict):
        return any(
            key not in after or _is_replaced(value, after[key])
            for key, value in before.items()
        )
    return repr(before) != repr(after)  # NaN is equal to NaN, 1 is not 1.0


class Config(Section):
    """A run's inputs. Changes are always allowed, and stored at once.

    Args:
        data: The values at the start.
        told: Called after each change.
        locked: Keys that a sweep set; attempts to change them are ignored.
    """

    __slots__ = ("_locked", "_told")

    def __init__(
        self,
        data: dict[str, JSONValue],
        told: Callable[[ConfigChange], None] = lambda _: None,
        locked: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(data, lambda mutation: mutation())
        object.__setattr__(self, "_told", told)
        object.__setattr__(self, "_locked", locked)

    def __getitem__(self, key: str) -> Any:
        name = _values.config_key(key)
        value = self._data[name]
        if not isinstance(value, dict):
            return _copy(value)
        return Section(value, lambda mutation: self._change([name], mutation))

    def __setitem__(self, key: str, value: Any) -> None:
        self._set({key: value}, allowed=False)

    def __delitem__(self, key: str) -> None:
        name = _values.config_key(key)
        if name not in self._data:
            raise KeyError(key)
        self._change([name], lambda: self._data.__delitem__(name))

    def update(  # type: ignore[override]
        self, other: Any = (), allow_val_change: bool | None = None, **values: Any
    ) -> None:
        """Set several keys at once.

        Args:
            other: A mapping, dataclass, Namespace, or path of a YAML or JSON file.
            allow_val_change: True says that values may change, so nothing is warned
                of; changes are kept either way.
            **values: Further keys.
        """
        new = {**read_config(other), **values}
        self._set(new, allowed=bool(allow_val_change))

    def setdefaults(self, defaults: Mapping[str, Any]) -> None:
        """Set those keys that are not set yet."""
        self.update({k: v for k, v in defaults.items() if k not in self})

    def _set(self, values: Mapping[Any, Any], *, allowed: bool) -> None:
        new = {_values.config_key(k): _values.config_value(v)
               for k, v in values.items()}  # fmt: skip
        new = {k: v for k, v in new.items() if k not in self._locked}
        if new:
            self._change([*new], lambda: self._data.update(new), allowed=allowed)

    def _change(
        self, keys: list[str], mutation: Mutation, *, allowed: bool = False
    ) -> None:
        if not self._locked.isdisjoint(keys):
            return
        before = {key: _copy(self._data[key]) for key in keys if key in self._data}
        mutation()
        after = {key: _copy(self._data[key]) for key in keys if key in self._data}
        self._told(ConfigChange(before, after, allowed))


class Summary(Section):
    """A run's final values: what was logged last, or what the user writes here.

    Args:
        read: Gives the values as they stand now.
        write: Takes what the user sets; None as a value removes nothing.
        remove: Takes the key that the user deletes.
        foreign: Gives the JSON form of media.
    """

    __slots__ = ("_foreign", "_read", "_remove", "_write")

    def __init__(
        self,
        read: Callable[[], dict[str, JSONValue]],
        write: Callable[[dict[str, JSONValue]], None],
        remove: Callable[[str], None],
        foreign: _values.Foreign = lambda key, value: None,
    ) -> None:
        object.__setattr__(self, "_foreign", foreign)
        object.__setattr__(self, "_read", read)
        object.__setattr__(self, "_write", write)
        object.__setattr__(self, "_remove", remove)

    @property
    def _data(self) -> dict[str, JSONValue]:
        values: dict[str, JSONValue] = self._read()
        return values

    def __getitem__(self, key: str) -> Any:
        name = _values.config_key(key)
        value = _copy(self._read()[name])
        if not isinstance(value, dict):
            return value

        def write_back(mutation: Mutation) -> None:
            mutation()
            self._write({name: value})

        return Section(value, write_back)

    def __setitem__(self, key: str, value: Any) -> None:
        self.update({key: value})

    def __delitem__(self, key: str) -> None:
        if key not in self:
            raise KeyError(key)
        self._remove(_values.config_key(key))

    def update(self, other: Any = (), **values: Any) -> None:  # type: ignore[override]
        """Set several keys at once."""
        new = {**dict(other), **values}
        if new:
            stored = {}
            for raw, value in new.items():
                key = _values.config_key(raw)
                found = self._foreign(key, value)
                stored[key] = _values.config_value(value) if found is None else found
            self._write(stored)


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
    return {_values.config_key(k): _values.config_value(v) for k, v in mapping.items()}


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
        _values.config_key(k): _values.config_value(
            v["value"] if isinstance(v, dict) and set(v) <= {"value", "desc"} else v
        )
        for k, v in data.items()
        if k != "wandb_version"
    }


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _copy(v) for k, v in value.items()}
    return [_copy(v) for v in value] if isinstance(value, list) else value
