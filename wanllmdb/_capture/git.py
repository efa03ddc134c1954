"""What git knows of the working tree, asked by subprocess; nothing it runs is ours."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from wanllmdb._redact import without_credentials

TIMEOUT_SECONDS = 10.0
DIFF_LIMIT_BYTES = 1 << 20

_SAFE = (
    "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null",
    "-c", "core.pager=cat",
)  # fmt: skip


def git_facts(directory: Path) -> dict[str, str | bool] | None:
    """Commit, branch, remote, root and dirtiness; None outside a work tree.

    Credentials in the remote's URL are left out.
    """
    root = _ask(directory, "rev-parse", "--show-toplevel")
    if root is None:
        return None
    facts: dict[str, str | bool] = {"root": root.strip()}
    answers = {
        "commit": _ask(directory, "rev-parse", "--verify", "HEAD"),
        "branch": _ask(directory, "symbolic-ref", "--short", "-q", "HEAD"),
        "remote": _ask(directory, "remote", "get-url", "origin"),
    }
    for name, answer in answers.items():
        if answer and answer.strip():
            facts[name] = without_credentials(answer.strip())
    status = _ask(directory, "status", "--porcelain", "--untracked-files=no")
    if status is not None:
        facts["dirty"] = bool(status.strip())
    return facts


def git_diff(
    directory: Path, limit_bytes: int = DIFF_LIMIT_BYTES
) -> tuple[str, bool] | None:
    """The diff of tracked files against HEAD.

    Returns:
        The text, cut on a line's end at `limit_bytes`, and whether it was cut.
    """
    command = _command(directory, "diff", "--no-ext-diff", "--no-textconv", "HEAD")
    try:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, env=_environment(),
        )  # fmt: skip
    except OSError:
        return None
    with child:
        assert child.stdout is not None
        data = child.stdout.read(limit_bytes + 1)
        child.kill()
    cut = len(data) > limit_bytes
    if cut:
        data = data[: data.rfind(b"\n", 0, limit_bytes) + 1]
    if not cut and child.returncode not in (0, -9):
        return None
    return data.decode("utf-8", "replace"), cut


def _ask(directory: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            _command(directory, *arguments), check=False, capture_output=True,
            stdin=subprocess.DEVNULL, timeout=TIMEOUT_SECONDS, env=_environment(),
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if done.returncode else done.stdout.decode("utf-8", "replace")


def _command(directory: Path, *arguments: str) -> list[str]:
    return ["git", "-C", str(directory), *_SAFE, *arguments]


def _environment() -> dict[str, str]:
    return {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0"}
