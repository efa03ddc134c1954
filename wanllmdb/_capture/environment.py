"""Where a run ran: python, machine, arguments, packages; secrets are left out."""

from __future__ import annotations

import os
import platform
import re
import sys
from functools import cache
from pathlib import Path

_NAME = r"(?:[\w-]*(?:password|passwd|secret|api[_-]?key|access[_-]?key|auth))"
_TOKEN_NAME = r"(?:[\w-]*token)"  # noqa: S105 - a pattern
_SECRET_OPTION = re.compile(rf"(?i)^-{{0,2}}(?:{_NAME}|{_TOKEN_NAME})$")
_PATTERNS = (
    re.compile(rf"(?i)\b((?:{_NAME}|{_TOKEN_NAME})\s*[=:]\s*)[^\s&]+"),
    re.compile(r"(?i)\b(authorization:\s*\w+\s+|bearer\s+)\S+"),
    re.compile(r"(://)[^/@\s]+(?=@)"),
    re.compile(r"()\b(?:AKIA[0-9A-Z]{12,}|hf_\w{16,}|gh[pousr]_\w{20,}|glpat-\S{16,})"),
    re.compile(r"()\bsk-[\w-]{16,}"),
)


def environment_facts() -> dict[str, object]:
    """Facts about the process and its machine; no environment variables."""
    facts: dict[str, object] = {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "executable": sys.executable,
        "os": platform.platform(),
        "host": platform.node(),
        "pid": os.getpid(),
        "cpu_count": os.cpu_count(),
        "program": sys.argv[0] if sys.argv else "",
        "argv": redact_argv(sys.argv),
    }
    try:
        facts["cwd"] = str(Path.cwd())
    except OSError:  # the directory was removed
        facts["cwd"] = None
    return facts


@cache
def installed_packages() -> dict[str, str]:
    """Installed distributions and their versions, by lower-case name."""
    from importlib import metadata

    found = {}
    for distribution in metadata.distributions():
        try:
            found[distribution.name.lower()] = distribution.version
        except Exception:  # noqa: BLE001 - broken metadata of some package
            continue
    return dict(sorted(found.items()))


def redact(text: str) -> str:
    """Text with what looks like a secret replaced by ``***``."""
    for pattern in _PATTERNS:
        text = pattern.sub(lambda match: match[1] + "***", text)
    return text


def redact_argv(arguments: list[str]) -> list[str]:
    """Arguments with the values of secret-looking options replaced."""
    clean = []
    hide = False
    for argument in arguments:
        clean.append("***" if hide else redact(argument))
        hide = not hide and bool(_SECRET_OPTION.match(argument))
    return clean
