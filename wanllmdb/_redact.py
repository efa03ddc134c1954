"""Taking out what looks like a secret, from arguments, URLs and text."""

from __future__ import annotations

import re

_NAME = (
    r"[\w-]*(?:passw(?:or)?d|pwd|secret|api[_-]?key|access[_-]?key|private[_-]?key"
    r"|credential)[\w-]*|[\w-]*(?:token|auth|authorization)(?![\w-])"
)
_OPTION = re.compile(rf"(?i)-{{0,2}}(?:{_NAME})\Z")
_PARAMETER = re.compile(rf"(?i)(?:{_NAME}|(?:[\w-]*-)?(?:signature|sig)|session)\Z")
_ASSIGNED = re.compile(rf"(?i)(-{{1,2}}(?:{_NAME})=).*", re.DOTALL)
_PATTERNS = (
    # name=value, name: "value", and an authorization header's scheme before it
    re.compile(
        rf"(?i)(\b(?:{_NAME})[\"']?\s*[=:]\s*[\"']?(?:(?:bearer|basic|token)\s+)?)"
        r"[^\s\"'&,]+"
    ),
    re.compile(rf"(?i)(--?(?:{_NAME})\s+)[^\s-]\S*"),
    re.compile(r"(?i)\b((?:bearer|basic)\s+)[\w.~+/=-]{6,}"),
    # user:password@ of a URL, or before a host as scp writes it
    re.compile(r"(://)[^/\s]+(?=@)"),
    re.compile(r"(?<![\w/])([\w.+-]+:)[^\s@/:]+(?=@)"),
    re.compile(r"()\b(?:AKIA[0-9A-Z]{12,}|hf_\w{16,}|gh[pousr]_\w{20,}|glpat-\S{16,})"),
    re.compile(r"()\bsk-[\w-]{16,}"),
)


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
        whole = _ASSIGNED.match(argument)
        if hide:
            clean.append("***")
        else:
            clean.append(f"{whole[1]}***" if whole else redact(argument))
        hide = not hide and _OPTION.match(argument) is not None
    return clean


def is_secret_name(name: str) -> bool:
    """Whether a parameter of a URL looks like one whose value is a secret."""
    return _PARAMETER.match(name) is not None


def without_credentials(url: str) -> str:
    """A URL, or scp-like address, without password and query."""
    if "://" in url:
        scheme, _, rest = url.partition("://")
        host, slash, path = rest.partition("/")
        return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}".split("?")[0]
    user, at, host = url.partition("@")
    return f"{user.partition(':')[0]}@{host}" if at and ":" in user else url
