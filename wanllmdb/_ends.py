"""How a run ends, from what ends the script."""

from __future__ import annotations

from wanllmdb import _values
from wanllmdb.types import End, State


def end_of(error: BaseException | None) -> End:
    """How a run ends while `error` is on its way."""
    if error is None:
        return End(State.FINISHED)
    text = _values.error_text(error)
    if isinstance(error, KeyboardInterrupt):
        return End(State.KILLED, 130, text)
    if isinstance(error, SystemExit):
        code = error.code
        number = 0 if code is None else code if isinstance(code, int) else 1
        if not number:
            return End(State.FINISHED)
        return End(State.FAILED, number, None if isinstance(code, int) else text)
    return End(State.FAILED, 1, text)
