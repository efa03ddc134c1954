"""Optional dependencies: imported when used, named when missing."""

from __future__ import annotations

import importlib
from types import ModuleType

from wanllmdb.errors import MissingExtraError


def need(module: str, extra: str, purpose: str) -> ModuleType:
    """Import an optional module.

    Args:
        module: Import name, such as ``pandas``.
        extra: The extra of this package that installs it.
        purpose: What it is needed for, as the message's subject.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{purpose} needs the package {module!r}.",
            hint=f'Install it with: pip install "wanllmdb[{extra}]"',
            module=module,
            extra=extra,
        ) from error
