"""What people and programs are told when a command fails, and its status."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import click

from wanllmdb.cli import render
from wanllmdb.errors import InvalidInputError, WanllmdbError

INTERRUPTED = 130
_RUN_OTHERS = ("exec", "resume")


def prepare_streams() -> None:
    """Make stdout and stderr take any text, and closed descriptors harmless."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            # The next file opened would get this number, and whatever is printed to
            # it would be written into that file.
            os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")


def told(error: BaseException, arguments: Sequence[str]) -> int:
    """Say what went wrong; return the status to exit with."""
    status = _told(error, _own_words(arguments))
    try:
        render.flush()
    except (OSError, ValueError):
        _discard(sys.stdout)
    return status


def _told(error: BaseException, words: Sequence[str]) -> int:
    if isinstance(error, BrokenPipeError):
        # The reader of our output has gone, as `head` does: that is no failure.
        _discard(sys.stdout)
        _discard(sys.stderr)
        return 0
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return INTERRUPTED
    if "--debug" in words:
        _print_traceback(error)
    if isinstance(error, click.ClickException):
        _tell_usage(error, as_json=_asks_for_json(words))
        return error.exit_code
    known = _known(error)
    _tell(known, as_json=_asks_for_json(words))
    return known.exit_code


def _known(error: BaseException) -> WanllmdbError:
    """The error as one of ours."""
    if isinstance(error, WanllmdbError):
        return error
    if isinstance(error, OSError) and error.filename is None:
        return WanllmdbError(
            f"The output cannot be written: {error.strerror}.",
            hint="Free some space, or write elsewhere.",
        )
    if isinstance(error, OSError):
        return WanllmdbError(
            f"{os.fspath(error.filename)!r}: {error.strerror}.", hint="Check the path."
        )
    if isinstance(error, UnicodeEncodeError):
        return InvalidInputError(
            f"{error.object!a} is not UTF-8.", hint="Check the arguments."
        )
    return WanllmdbError(
        f"wanllmdb failed: {type(error).__name__}: {error}",
        hint="This is a bug; `wanllmdb --debug ...` shows where.",
    )


def _tell(error: WanllmdbError, *, as_json: bool) -> None:
    if as_json:
        _tell_json(error.kind, error.message, error.hint)
        return
    # A filter's error marks the place below it.
    keep = "\n" if error.kind == "filter" else ""
    render.tell(f"Error: {error.message}", keep)
    if error.hint:
        render.tell(error.hint)
    if error.op_id is not None and error.kind in ("error", "store", "integrity"):
        render.tell(f"Operation {error.op_id} in the Store's logs/debug.log.")


def _tell_usage(error: click.ClickException, *, as_json: bool) -> None:
    context = getattr(error, "ctx", None)
    message = error.format_message()
    command = context.command_path if context is not None else "wanllmdb"
    if as_json:
        hint = f"See `{command} --help`."
        _tell_json("usage", message, hint)
        return
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        render.tell(message, keep="\n")
        return
    if context is not None:
        render.tell(context.get_usage(), keep="\n")
        render.tell(f"Try '{command} --help' for help.\n", keep="\n")
    render.tell(f"Error: {message}", keep="\n\t")  # click lists choices below it


def _tell_json(kind: str, message: str, hint: str) -> None:
    error = {"kind": kind, "message": message, "hint": hint}
    render.tell(json.dumps({"error": error}))


def _print_traceback(error: BaseException) -> None:
    with suppress(OSError, ValueError):
        traceback.print_exception(error)


def _own_words(arguments: Sequence[str]) -> list[str]:
    """The words that are ours: not operands after ``--``, not another command's."""
    own: list[str] = []
    for word in arguments:
        if word == "--" or (own and own[-1] in _RUN_OTHERS):
            break
        own.append(word)
    return own


def _asks_for_json(words: Sequence[str]) -> bool:
    given = " ".join(words).replace("--format ", "--format=").split(" ")
    return any(w in ("--json", "--format=json", "--format=jsonl") for w in given)


def _discard(stream: Any) -> None:
    """Let what is still buffered go nowhere, or the interpreter's exit complains."""
    with suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
