"""Play a sequence of W&B calls, given as data, through any module with W&B's API.

The functions below build the operations (plain dicts); `Stage` carries them out and
notes what a script could see: steps, identity of runs, types of errors.
"""

import builtins
import math
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

Op = dict[str, Any]
Sequence = dict[str, Any]


def sequence(
    name: str,
    about: str,
    *ops: Op,
    differs: str | None = None,
    ours: dict[str, Any] | None = None,
) -> Sequence:
    """Name a list of operations; `about` is the one sentence that it checks.

    Where DESIGN section 11 makes wanllmdb deviate, `differs` is the reason and `ours`
    replaces W&B's record: `seen` as a whole, `runs` by one dict per run, laid over the
    recorded one.
    """
    made: Sequence = {"name": name, "about": about, "ops": list(ops)}
    return made if differs is None else made | {"differs": differs, "ours": ours}


def init(name: str, **kwargs: Any) -> Op:
    """Start a run and keep its handle under `name`."""
    return {"do": "init", "as": name, "kwargs": kwargs}


def block(name: str, *ops: Op, **kwargs: Any) -> Op:
    """Run the ops inside `with init(...) as name`."""
    return {"do": "block", "as": name, "ops": ops, "kwargs": kwargs}


def log(data: Any, on: str | None = None, **kwargs: Any) -> Op:
    """Log through the handle `on`, or through the module."""
    return {"do": "log", "data": data, "on": on, "kwargs": kwargs}


def finish(on: str | None = None, **kwargs: Any) -> Op:
    """Finish the run `on`, or the module's run."""
    return {"do": "finish", "on": on, "kwargs": kwargs}


def metric(name: str, **kwargs: Any) -> Op:
    """Call define_metric on the module."""
    return {"do": "metric", "name": name, "kwargs": kwargs}


def config(update: dict[str, Any], **kwargs: Any) -> Op:
    """Update the config of the module's run."""
    return {"do": "config", "update": update, "kwargs": kwargs}


def summary(**values: Any) -> Op:
    """Set items of the summary, one by one."""
    return {"do": "summary", "set": values}


def forget(key: str) -> Op:
    """Delete one item of the summary."""
    return {"do": "forget", "key": key}


def read(what: str, on: str | None = None, **kwargs: Any) -> Op:
    """Note what the library shows now: step, same, active, summary or config."""
    return {"do": "read", "what": what, "on": on, **kwargs}


def attempt(*ops: Op) -> Op:
    """Run the ops, catch whatever they raise and note its type's name."""
    return {"do": "attempt", "ops": ops}


def lastly(ops: list[Op], then: list[Op]) -> Op:
    """Run the ops as `try:` and the others as `finally:`."""
    return {"do": "lastly", "ops": ops, "then": then}


def throw(error: str) -> Op:
    """Raise a builtin exception, as a bug in the script would."""
    return {"do": "throw", "error": error}


def leave(code: int) -> Op:
    """Call sys.exit, through its attribute because W&B replaces that."""
    return {"do": "leave", "code": code}


class Stage:
    """A library under observation: plays ops through it and notes what it shows."""

    def __init__(self, module: Any, init_defaults: Mapping[str, Any]) -> None:
        self.module = module
        self.init_defaults = init_defaults
        self.runs: dict[str, Any] = {}
        self.paths: list[str] = []
        self.seen: list[list[Any]] = []

    def live(self) -> dict[str, Any]:
        """Return project/id of the runs in order of first sight, and the notes."""
        return {"paths": self.paths, "seen": plain(self.seen)}

    def play(self, ops: Any) -> None:
        """Carry out the ops in order."""
        for op in ops:
            getattr(self, f"_{op['do']}")(op)

    def _on(self, op: Op) -> Any:
        return self.module if op["on"] is None else self.runs[op["on"]]

    def _init(self, op: Op) -> Any:
        run = self.module.init(**{**self.init_defaults, **op["kwargs"]})
        self.runs[op["as"]] = run
        path = f"{run.project}/{run.id}"
        if path not in self.paths:
            self.paths.append(path)
        return run

    def _block(self, op: Op) -> None:
        with self._init(op):
            self.play(op["ops"])

    def _log(self, op: Op) -> None:
        self._on(op).log(op["data"], **op["kwargs"])

    def _finish(self, op: Op) -> None:
        self._on(op).finish(**op["kwargs"])

    def _metric(self, op: Op) -> None:
        self.module.define_metric(op["name"], **op["kwargs"])

    def _config(self, op: Op) -> None:
        self.module.config.update(op["update"], **op["kwargs"])

    def _summary(self, op: Op) -> None:
        for key, value in op["set"].items():
            self.module.summary[key] = value

    def _forget(self, op: Op) -> None:
        del self.module.summary[op["key"]]

    def _read(self, op: Op) -> None:
        what, on = op["what"], op["on"]
        if what == "step":
            value = self.module.run.step if on is None else self.runs[on].step
        elif what == "same":
            value = self.runs[op["a"]] is self.runs[op["b"]]
        elif what == "active":
            names = [k for k, v in self.runs.items() if v is self.module.run]
            value = names[0] if names else None
        else:
            value = getattr(self.module.run, what)[op["key"]]
        self.seen.append([what, value])

    def _attempt(self, op: Op) -> None:
        try:
            self.play(op["ops"])
        except BaseException as error:
            self.seen.append(["raises", type(error).__name__])
        else:
            self.seen.append(["raises", None])

    def _lastly(self, op: Op) -> None:
        try:
            self.play(op["ops"])
        finally:
            self.play(op["then"])

    def _throw(self, op: Op) -> None:
        raise getattr(builtins, op["error"])("the script's own")

    def _leave(self, op: Op) -> None:
        sys.exit(op["code"])


def play(module: Any, ops: Any, init_defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Play the ops through a module with W&B's API; return what was seen live."""
    stage = Stage(module, init_defaults)
    stage.play(ops)
    return stage.live()


def plain(value: Any) -> Any:
    """Spell a value as strict JSON can hold it, integral floats as W&B writes them."""
    if isinstance(value, Mapping) or hasattr(value, "keys"):
        return {str(k): plain(value[k]) for k in sorted(value.keys())}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)  # W&B's core, written in Go, prints 2.0 as 2
    with suppress(AttributeError):
        return value.item()
    return value
