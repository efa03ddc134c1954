"""Settings: one table of fields, and where each effective value came from.

Argument > ``WANLLMDB_*`` > ``<store>/config.toml`` > ``[tool.wanllmdb]`` in the
nearest pyproject.toml > the user's config.toml > default. W&B's variables are read
where ours are absent.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wanllmdb.errors import InvalidSettingError, StoreUnavailableError
from wanllmdb.types import Location

PREFIX = "WANLLMDB_"
FORMAT_FILE = "FORMAT"
STORE_DIR = ".wanllmdb"


def _text(value: Any) -> str:
    if not isinstance(value, str):
        message = "text"
        raise TypeError(message)
    return value


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    words = {"1": True, "true": True, "yes": True, "on": True}
    words |= {"0": False, "false": False, "no": False, "off": False, "": False}
    try:
        return words[str(value).strip().lower()]
    except KeyError:
        message = "true or false"
        raise TypeError(message) from None


def _seconds(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if not 0 <= number < float("inf"):
        message = "a number of seconds, 0 or more"
        raise TypeError(message)
    return number


_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmgtp])(i?))?b?\Z", re.IGNORECASE)


def _size(value: Any) -> int:
    match = _SIZE.match(str(value).strip())
    if match is None or isinstance(value, bool):
        message = "a number of bytes, or a size such as 50GB or 50GiB"
        raise TypeError(message)
    number, unit, binary = match.groups()
    power = "kmgtp".index(unit.lower()) + 1 if unit else 0
    size = int(float(number) * (1024 if binary else 1000) ** power)
    if not size:
        message = "at least one byte"
        raise TypeError(message)
    return size


def _tag_list(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(tag.strip() for tag in value.split(",") if tag.strip())
    return tuple(str(tag) for tag in value)


def _one_of(*words: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if value not in words:
            message = f"one of {', '.join(words)}"
            raise TypeError(message)
        return str(value)

    return parse


_MODES = ("local", "offline", "online", "disabled")
_RESUME = ("allow", "must", "never", "auto")
_LEVELS = ("process", "interval", "sync", "buffered")


@dataclass(frozen=True, slots=True)
class Field:
    """One setting: how its value is read, its default, and what it does."""

    parse: Callable[[Any], Any]
    default: Any
    help: str


FIELDS: dict[str, Field] = {
    "dir": Field(_text, None, "the Store's directory"),
    "project": Field(_text, "uncategorized", "project of new runs"),
    "run_id": Field(_text, None, "id of the run to start or go on with"),
    "run_name": Field(_text, None, "name of a new run; default two random words"),
    "run_group": Field(_text, None, "group of a new run"),
    "job_type": Field(_text, None, "job type of a new run"),
    "tags": Field(_tag_list, (), "tags of a new run, separated by commas"),
    "notes": Field(_text, None, "notes of a new run"),
    "mode": Field(_one_of(*_MODES), "local", "local, offline, online or disabled"),
    "resume": Field(_one_of(*_RESUME), None, "allow, must, never or auto"),
    "durability": Field(
        _one_of(*_LEVELS), "process", "process, interval, sync or buffered"
    ),
    "console": Field(_flag, True, "record stdout and stderr"),
    "system_interval": Field(
        _seconds, 15.0, "seconds between system samples, 0 for none"
    ),
    "git": Field(_flag, True, "record commit, branch, remote and diff"),
    "environment": Field(_flag, True, "record python, host, packages and arguments"),
    "silent": Field(_flag, False, "print nothing to stderr"),
    "strict": Field(_flag, False, "raise for values that cannot be logged"),
    "disk_budget": Field(
        _size, None, "bytes that the Store may take, such as 50GB; default no limit"
    ),
    "remote": Field(
        _text, None, "what to sync with: a remote's name, or a URL; default the default"
    ),
    "fetch": Field(
        _flag, True, "fetch bytes that lie at a remote when they are first used"
    ),
    "sync": Field(
        _one_of("off", "finish"), "off", "finish: push a run to the remote as it ends"
    ),
    "format": Field(
        _one_of("table", "json", "jsonl", "csv", "parquet"), "table",
        "output format of the command line",
    ),
}  # fmt: skip
"""Every setting; its variable is ``WANLLMDB_`` and the name in upper case."""

_WANDB = {
    "mode": "WANDB_MODE", "project": "WANDB_PROJECT", "run_name": "WANDB_NAME",
    "run_id": "WANDB_RUN_ID", "run_group": "WANDB_RUN_GROUP", "tags": "WANDB_TAGS",
    "job_type": "WANDB_JOB_TYPE", "notes": "WANDB_NOTES", "resume": "WANDB_RESUME",
    "silent": "WANDB_SILENT",
}  # fmt: skip
_WANDB_WORDS = {
    ("mode", "dryrun"): "offline", ("mode", "shared"): "local",
    ("mode", "run"): "online", ("resume", "true"): "auto",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Settings:
    """Effective settings.

    Attributes:
        values: Every field's value.
        sources: Where each came from, for people.
    """

    values: Mapping[str, Any]
    sources: Mapping[str, str]

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    @property
    def from_wandb(self) -> list[str]:
        """W&B's variables that were used."""
        return sorted(s for s in self.sources.values() if s.startswith("WANDB_"))


def load(store: Path | None = None, **arguments: Any) -> Settings:
    """Settings in force.

    Args:
        store: The Store whose config.toml counts, if known yet.
        **arguments: Values given by the caller; None means not given.

    Raises:
        InvalidSettingError: a value cannot be taken; the message names its source.
    """
    layers = [(f"argument {n}", n, v) for n, v in arguments.items() if v is not None]
    layers += list(_from_environment())
    if store is not None:
        layers += _from_toml(store / "config.toml", "")
    layers += _from_toml(_nearest("pyproject.toml"), "tool.wanllmdb")
    layers += _from_toml(user_config(), "")
    values = {name: field.default for name, field in FIELDS.items()}
    sources = dict.fromkeys(FIELDS, "default")
    for source, name, raw in reversed(layers):
        values[name], sources[name] = _parsed(source, name, raw), source
    return Settings(values, sources)


def find_store(explicit: str | os.PathLike[str] | None = None) -> Location:
    """Where the Store is, and why there; it need not exist yet.

    Raises:
        StoreUnavailableError: the nearest Store belongs to another user.
    """
    if explicit is not None:
        return Location(_absolute(explicit), "argument")
    if variable := os.environ.get("WANLLMDB_DIR"):
        return Location(_absolute(variable, "WANLLMDB_DIR"), "WANLLMDB_DIR")
    if nearest := _nearest_store():
        return Location(nearest, f"nearest {STORE_DIR}")
    import platformdirs

    try:
        home = platformdirs.user_data_dir("wanllmdb", appauthor=False)
    except RuntimeError as error:  # neither HOME nor an entry in passwd
        raise StoreUnavailableError(
            f"This user has no home for a Store: {error}.",
            hint="Set WANLLMDB_DIR to a directory that you may write.",
        ) from error
    return Location(_absolute(home), "user data directory")


def _absolute(path: str | os.PathLike[str], source: str = "store") -> Path:
    try:
        if "\0" in os.fspath(path):
            message = "it holds a NUL character"
            raise RuntimeError(message)
        return Path(path).expanduser().absolute()
    except (FileNotFoundError, RuntimeError) as error:  # no cwd, or no home
        raise StoreUnavailableError(
            f"{source} is {os.fspath(path)!r}, which leads nowhere: {error}.",
            hint="Give an absolute path, or set WANLLMDB_DIR to one.",
        ) from error


def _nearest_store() -> Path | None:
    """The nearest Store at or above the working directory.

    The walk stops before $HOME and at mount borders, so that neither a home-wide nor
    a foreign directory is taken by accident.
    """
    try:
        here = Path.cwd()
        device = here.stat().st_dev
        # Resolved, as the working directory is.
        home = Path(os.environ.get("HOME") or "/nonexistent").resolve()
        for directory in (here, *here.parents):
            if directory == home or directory.stat().st_dev != device:
                return None
            store = directory / STORE_DIR
            if (store / FORMAT_FILE).is_file():
                if store.stat().st_uid != os.getuid():
                    raise StoreUnavailableError(
                        f"{store} belongs to uid {store.stat().st_uid}.",
                        hint="Set WANLLMDB_DIR to a Store of your own.",
                    )
                return store
    except OSError:  # deleted working directory, unreadable parent
        return None
    return None


def _from_environment() -> list[tuple[str, str, Any]]:
    found: list[tuple[str, str, Any]] = []
    for name in FIELDS:
        variable = PREFIX + name.upper()
        theirs = _WANDB.get(name, "")
        if os.environ.get(variable, "") != "":
            found.append((variable, name, os.environ[variable]))
        elif os.environ.get(theirs, "") != "":
            raw = os.environ[theirs]
            raw = _WANDB_WORDS.get((name, raw.lower()), raw)
            found.append((theirs, name, raw))
    disabled = os.environ.get("WANDB_DISABLED", "").lower()
    if disabled in ("1", "true", "yes", "on") and not any(
        n == "mode" for _, n, _ in found
    ):
        found.append(("WANDB_DISABLED", "mode", "disabled"))
    return found


def _from_toml(path: Path | None, table: str) -> list[tuple[str, str, Any]]:
    if path is None:
        return []
    try:
        data = path.read_bytes()
    except OSError:
        return []
    import tomllib

    try:
        values: Any = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        if table:  # a broken pyproject.toml is not ours to complain about
            return []
        raise InvalidSettingError(
            f"{path} is no valid TOML: {error}.", hint="Mend or remove the file."
        ) from error
    for part in filter(None, table.split(".")):
        values = values.get(part, {})
        if not isinstance(values, dict):
            raise InvalidSettingError(
                f"{path} sets {table} to {values!r}, which is no table.",
                hint=f"Write [{table}], and settings below it.",
            )
    for name in values:
        if name == "dir":
            raise InvalidSettingError(
                f"{path} sets 'dir', which only WANLLMDB_DIR and --store can.",
                hint="Take it out; `wanllmdb status` says where the Store is.",
            )
        if name not in FIELDS:
            raise InvalidSettingError(
                f"{path} sets {name!r}, which is no setting.",
                hint="`wanllmdb env` lists the settings.",
            )
    return [(str(path), name, value) for name, value in values.items()]


def _parsed(source: str, name: str, raw: Any) -> Any:
    try:
        return FIELDS[name].parse(raw)
    except TypeError as error:
        raise InvalidSettingError(
            f"{source} sets {name} to {raw!r}; it must be {error}.",
            hint=f"Correct or unset it ({FIELDS[name].help}).",
            setting=name,
        ) from None


def _nearest(name: str) -> Path | None:
    try:
        here = Path.cwd()
    except OSError:
        return None
    return next((d / name for d in (here, *here.parents) if (d / name).is_file()), None)


def user_config() -> Path | None:
    """The user's config.toml, or None for a user without a home."""
    base = os.environ.get("XDG_CONFIG_HOME") or os.environ.get("HOME")
    if not base or not Path(base).is_absolute():
        return None
    import platformdirs

    directory = platformdirs.user_config_dir("wanllmdb", appauthor=False)
    return Path(directory) / "config.toml"
