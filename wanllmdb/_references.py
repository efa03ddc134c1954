"""References: URIs of bytes that are kept elsewhere, judged without opening anything.

A reference is an inert string. What it may be is decided here, when it is added and
again when it is opened; where its host's name leads is the opener's to decide.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import NamedTuple, NoReturn
from urllib.parse import unquote_to_bytes

from wanllmdb import _addresses, _redact
from wanllmdb.errors import InvalidInputError

SCHEMES = ("s3", "gs", "az", "https", "file")
MAX_OBJECTS = 10_000
"""Files of a directory, or objects of a prefix, unless more are asked for."""

MAX_BYTES = 4096
DEPTH = 8
"""Times that a path may be percent-encoded over; nobody means more than two."""

SHOWN = 200
"""Characters of a refused URI that an error shows."""

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.:-]*)://([^/?#]*)([^?#]*)(.*)\Z", re.DOTALL)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,221}\Z")
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\Z")
_NUMBER = re.compile(r"[0-9]+\Z|0[xX][0-9A-Fa-f]*\Z")
_PORT = re.compile(r"[0-9]{1,5}\Z")
_PARAMETER = re.compile(r"[?&;#]([^=&;#?]+)=")
_UNSEEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zs", "Zl", "Zp")
"""Unicode categories of what cannot be seen, or separates words."""

_LOCAL_NAMES = ("localhost", "localdomain", "local", "internal", "home.arpa")
_METADATA_NAMES = ("metadata.goog",)


class Reference(NamedTuple):
    """A URI that may be opened, in its parts.

    Attributes:
        uri: As it was given.
        scheme: One of `SCHEMES`.
        host: A host's name or address without brackets, or a bucket; of a file "".
        port: Of a host; None for the usual one.
        path: From the first slash on, as it was written; "" for none.
        query: From the question mark on; "" for none.
    """

    uri: str
    scheme: str
    host: str
    port: int | None
    path: str
    query: str

    @property
    def name(self) -> str:
        """What it is called: the last part of its path, or else its host or bucket."""
        last = self.path.rstrip("/").rpartition("/")[2]
        if self.scheme in ("https", "file"):  # keys of a bucket are taken as written
            last = unquote_to_bytes(last).decode()
        return last or self.host

    @property
    def local(self) -> Path | None:
        """The path of a file; None for what is elsewhere."""
        if self.scheme != "file":
            return None
        return Path(unquote_to_bytes(self.path).decode())


def for_storage(uri: str) -> Reference:
    """The parts of a URI that is to be kept; see `parse`.

    Raises:
        InvalidInputError: it cannot be opened, or holds a credential, which everybody
            could read who reads the artifact.
    """
    reference = parse(uri)
    for found in _PARAMETER.findall(reference.query):
        name = unquote_to_bytes(found).decode("utf-8", "replace")
        if _redact.is_secret_name(name):
            _refuse(
                uri, f"holds a credential, {name[:40]!r}",
                "Give the URI without it; access is configured where it is opened.",
            )  # fmt: skip
    return reference


def parse(uri: str) -> Reference:
    """The parts of a URI.

    Raises:
        InvalidInputError: it has another scheme, a user or password, characters that
            cannot be seen, ``..`` in any spelling, no bucket or host, or a host that is
            spelled as one of this machine or its network.
    """
    if not isinstance(uri, str):
        _refuse(repr(uri), "is no text", "Give it as a string.")
    _check_characters(uri)
    found = _URI.match(uri)
    if found is None or found[1] not in SCHEMES:
        names = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        _refuse(uri, "is no reference", f"Use {names}, in lower case.")
    scheme, authority, path, query = found.groups()
    if "@" in authority:
        _refuse(
            uri, "holds a user or a password",
            "Leave it out; access is configured where it is opened.",
        )  # fmt: skip
    _check_path(uri, path)
    check = {"https": _https, "file": _file}.get(scheme, _bucket)
    host, port = check(uri, authority, path, query)
    return Reference(uri, scheme, host, port, path, query)


def shown(uri: str) -> str:
    """A URI as errors show it: in quotes, without credentials, and not endless."""
    scheme, mark, rest = uri.rpartition("://")
    place, query = (*re.split("[?#]", rest, maxsplit=1), "")[:2]
    if "@" in place:  # wherever: a password may hold a slash
        place = "***@" + place.rpartition("@")[2]
    return repr(f"{scheme}{mark}{place}"[:SHOWN] + ("?***" if query else ""))


def _refuse(uri: str, reason: str, fix: str) -> NoReturn:
    what = shown(uri)
    raise InvalidInputError(f"{what} {reason}.", hint=fix, uri=what)


def _check_characters(uri: str) -> None:
    if not uri or len(uri.encode("utf-8", "replace")) > MAX_BYTES:
        _refuse(uri, f"is empty, or longer than {MAX_BYTES} bytes", "Shorten it.")
    if "\\" in uri or any(unicodedata.category(one) in _UNSEEN for one in uri):
        _refuse(
            uri, "holds a backslash, white space or a control character",
            "Write it with / and percent-encoding.",
        )  # fmt: skip


def _check_path(uri: str, path: str) -> None:
    for text in _readings(uri, path):
        if any(part.partition(";")[0] == ".." for part in text.split("/")):
            _refuse(uri, "leads outside by '..'", "Name the place that it leads to.")
        if "\\" in text or any(unicodedata.category(one) == "Cc" for one in text):
            _refuse(
                uri, "holds a backslash or a control character, percent-encoded",
                "Name a path without them.",
            )  # fmt: skip


def _readings(uri: str, path: str) -> Iterator[str]:
    """What servers may take a path for: decoded again and again, and normalised."""
    for _ in range(DEPTH):
        yield unicodedata.normalize("NFKC", path)
        try:
            decoded = unquote_to_bytes(path).decode()
        except UnicodeDecodeError:  # overlong forms of . and / are among these
            _refuse(uri, "is not UTF-8 when it is decoded", "Encode it as UTF-8.")
        if decoded == path:
            return
        path = decoded
    _refuse(uri, "is percent-encoded too many times over", "Encode it once.")


def _https(uri: str, authority: str, path: str, query: str) -> tuple[str, int | None]:
    del path
    if "#" in query:
        _refuse(uri, "holds a fragment", "Leave out the # and what follows it.")
    host, port = _host_and_port(uri, authority)
    if reason := _fault_of_host(host):
        _refuse(
            uri,
            reason,
            "Name a public host, by its name in ASCII or its plain address.",
        )
    return host, port


def _host_and_port(uri: str, authority: str) -> tuple[str, int | None]:
    if authority.startswith("["):
        host, mark, rest = authority[1:].partition("]")
        if not mark or ":" not in host or (rest and not rest.startswith(":")):
            _refuse(uri, "has a host in broken brackets", "Write it as [address].")
    else:
        host, mark, rest = authority.partition(":")
        rest = mark + rest
    if not rest:
        return host, None
    port = rest[1:]
    if not _PORT.match(port) or not 0 < int(port) < 1 << 16:
        _refuse(uri, "has a port that is none", "Use a number up to 65535.")
    return host, int(port)


def _fault_of_host(host: str) -> str | None:
    """Why a host is refused by its spelling alone; None where it is not."""
    if not host:
        return "has no host"
    if not host.isascii():
        return "has a host that is not ASCII"
    if ":" in host or _NUMBER.match(host.rpartition(".")[2]):
        return _fault_of_address(host)
    labels = host.lower().split(".")
    if len(host) > 253 or not all(map(_LABEL.match, labels)):
        return "has a host that is no name"
    if len(labels) == 1 or _is_below(labels, _LOCAL_NAMES + _METADATA_NAMES):
        return "has a host of this machine or its network"
    return None


def _fault_of_address(host: str) -> str | None:
    # Anything that ends in a number is an address to some resolver: inet_aton takes
    # decimal, hex, octal, and fewer than four parts. ipaddress takes one spelling.
    try:
        address = ip_address(host)
    except ValueError:
        return "has a host that is an address in an unusual spelling"
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return "has a host of this machine or its network"
    return None if _addresses.is_public(host) else "has an address that is not public"


def _is_below(labels: list[str], names: tuple[str, ...]) -> bool:
    return any(labels[-len(n.split(".")) :] == n.split(".") for n in names)


def _file(uri: str, authority: str, path: str, query: str) -> tuple[str, None]:
    if authority:
        _refuse(uri, "names a host", "Use three slashes: file:///path.")
    if query or len(path) < 2:
        _refuse(
            uri, "names no file, or holds a raw ? or #",
            "Use Path(...).absolute().as_uri().",
        )  # fmt: skip
    return "", None


def _bucket(uri: str, authority: str, path: str, query: str) -> tuple[str, None]:
    del path, query
    if not _BUCKET.match(authority) or _addresses.is_address(authority):
        _refuse(uri, "has no bucket", "Use SCHEME://BUCKET/KEY.")
    return authority, None
