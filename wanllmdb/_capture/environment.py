"""Where a run ran: python, machine, arguments, packages; secrets are left out."""

from __future__ import annotations

import os
import platform
import sys
from functools import cache
from pathlib import Path

from wanllmdb._redact import redact_argv


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
