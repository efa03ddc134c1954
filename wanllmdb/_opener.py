"""The one place where a reference is opened, and only where somebody asks for it.

A host is connected to by an address that was looked at: its name is resolved once, all
its addresses must be public, and the connection goes to one of these very addresses, so
that no second answer of a name server counts. Each redirect is judged like the first
URI. Proxies of the environment are not asked. The certificate must be the name's.
"""

from __future__ import annotations

import errno
import http.client
import os
import socket
import ssl
import stat
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urldefrag, urljoin, urlsplit

from wanllmdb import _addresses, _redact, _references
from wanllmdb._references import Reference, shown
from wanllmdb.errors import (
    DigestMismatchError,
    InvalidInputError,
    MissingExtraError,
    RemoteDeniedError,
    RemoteError,
    RemoteUnreachableError,
    WanllmdbError,
)

CHUNK = 1 << 20
REDIRECTS = 3
CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0
"""How long a host may be silent; how long all of it takes is not limited."""

PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs"}
"""What fsspec opens each kind of bucket with; the extra has the name of the scheme."""

BLOCK = 8 << 20
"""Bytes of an object that are asked for at once; s3fs would hold 50 MiB."""

_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_AMAZON = (".amazonaws.com", ".amazonaws.com.cn")

_MOVED = (301, 302, 303, 307, 308)
_DENIED = (401, 403, 407)
_GOES_ON = "Look whether it can be reached, and try again."


def _resolve(host: str, port: int) -> Sequence[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _connect(address: str, port: int, seconds: float) -> socket.socket:
    return socket.create_connection((address, port), seconds)


@dataclass(frozen=True, slots=True)
class Network:
    """How the network is reached; tests have their own.

    Attributes:
        resolve: All addresses of a host's name, for a port.
        connect: A connection to an address and a port, within some seconds.
        trust: What certificates are checked against.
    """

    resolve: Callable[[str, int], Sequence[str]] = _resolve
    connect: Callable[[str, int, float], socket.socket] = _connect
    trust: Callable[[], ssl.SSLContext] = ssl.create_default_context


NETWORK = Network()


def fetch(
    uri: str,
    write: Callable[[bytes], object],
    *,
    max_bytes: int | None = None,
    network: Network | None = None,
    local: bool = True,
) -> int:
    """Hand over the bytes that a reference points at; how many there are.

    Args:
        uri: The reference.
        write: Called with each piece, in order.
        max_bytes: Stop where there are more.
        network: How the network is reached.
        local: Whether files of this machine may be read; not for what others refer to.

    Raises:
        InvalidInputError: it is no reference, leads to an address that is not public,
            or names what is no regular file. No such address is connected to. Or it is
            a file, and may not be.
        DigestMismatchError: there are more bytes than `max_bytes`.
        RemoteUnreachableError: nothing answers, or nothing is there.
        RemoteDeniedError: it must not be read.
        MissingExtraError: the package for its scheme is not installed.
    """
    reference = _references.parse(uri)
    if reference.scheme == "file" and not local:
        raise InvalidInputError(
            f"{shown(uri)} is a file of this machine, and comes from another one.",
            hint="Look at it yourself, and copy what you want.", uri=shown(uri),
        )  # fmt: skip
    done = 0
    with closing(_pieces(reference, network or NETWORK)) as pieces:
        for piece in pieces:
            done += len(piece)
            if max_bytes is not None and done > max_bytes:
                raise DigestMismatchError(
                    f"{shown(uri)} has more than the {max_bytes} bytes it should have.",
                    hint="It has changed since it was added.", uri=shown(uri),
                )  # fmt: skip
            write(piece)
    return done


def _pieces(reference: Reference, network: Network) -> Generator[bytes, None, None]:
    if reference.scheme == "file":
        return _read_file(reference)
    if reference.scheme == "https":
        return _read_https(reference, network)
    return _read_object(reference, network)


def _read_file(reference: Reference) -> Generator[bytes, None, None]:
    assert reference.local is not None
    # Not to wait for the other end, should it be a pipe.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    with _translated(reference):
        fd = os.open(reference.local, flags)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise InvalidInputError(
                f"{shown(reference.uri)} is no regular file.", hint="Name a file."
            )
        yield from _read_all(reference, lambda size: os.read(fd, size))
    finally:
        os.close(fd)


@dataclass(frozen=True, slots=True)
class Object:
    """An object below a prefix.

    Attributes:
        path: Its key, without the prefix.
        size: Bytes, as the listing says.
    """

    path: str
    size: int
    _reference: Reference
    _system: Any
    _key: str

    def fetch(self, write: Callable[[bytes], object]) -> int:
        """Hand over its bytes; how many there are.

        Raises:
            RemoteUnreachableError: nothing answers, or nothing is there.
            RemoteDeniedError: it must not be read.
        """
        done = 0
        with _translated(self._reference):
            file = self._system.open(self._key, "rb")
        with file:
            for piece in _read_all(self._reference, file.read):
                done += len(piece)
                write(piece)
        return done


def objects(
    uri: str, limit: int = _references.MAX_OBJECTS, *, network: Network | None = None
) -> list[Object] | None:
    """The objects below a prefix of a bucket; None for what is no prefix.

    Args:
        uri: The reference; a prefix ends in a slash, or has no object of its name.
        limit: How many there may be.
        network: How the network is reached.

    Raises:
        InvalidInputError: there are more.
        RemoteUnreachableError: nothing answers, or nothing is there.
        RemoteDeniedError: it must not be read.
        MissingExtraError: the package for its scheme is not installed.
    """
    reference = _references.parse(uri)
    if reference.scheme not in PACKAGES:
        return None
    system = _system(reference, network or NETWORK)
    with _translated(reference):
        marked = not reference.path.strip("/") or reference.path.endswith("/")
        if not marked and system.info(uri)["type"] == "file":
            return None
        root = f"{reference.host}/{reference.path.strip('/')}".rstrip("/") + "/"
        found = [
            Object(key[len(root) :], size, reference, system, key)
            for key, size in _listed(reference.scheme, system, root, limit)
            if key.startswith(root) and not key.endswith("/")  # those mark directories
        ]
        if not found:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    if len(found) > limit:
        raise InvalidInputError(
            f"There are more than {limit} objects below {shown(uri)}.",
            hint="Refer to parts of it.", limit=limit,
        )  # fmt: skip
    return sorted(found, key=lambda one: one.path)


def _listed(
    scheme: str, system: Any, root: str, limit: int
) -> Iterator[tuple[str, int]]:
    """(key with its bucket, size) of objects below a prefix; few beyond a limit."""
    if scheme == "s3":  # which asks for no more pages than that
        for key, told in system.find(root, detail=True, max_items=limit + 1).items():
            if told["type"] == "file":
                yield key, told["size"]
        return
    count = 0
    for _, _, files in system.walk(root, detail=True):
        for told in files.values():
            yield told["name"], told["size"]
            count += 1
            if count > limit:
                return


def is_missing(error: RemoteError) -> bool:
    """Whether the host answered, and nothing is there."""
    gone = isinstance(error.__cause__, FileNotFoundError)
    return gone or error.identity.get("status") in (404, 410)


def _read_object(
    reference: Reference, network: Network
) -> Generator[bytes, None, None]:
    system = _system(reference, network)
    with _translated(reference):
        if system.info(reference.uri)["type"] != "file":  # it would open, as empty
            raise InvalidInputError(
                f"{shown(reference.uri)} is no object, but a directory of objects.",
                hint="Refer to each of them.",
            )
        file = system.open(reference.uri, "rb")
    with file:
        yield from _read_all(reference, file.read)


def _system(reference: Reference, network: Network) -> Any:
    """The filesystem of the very scheme: `fsspec.open` would take chains of them.

    Credentials and endpoints are those of the environment, or of the profile there.
    """
    scheme, package = reference.scheme, PACKAGES[reference.scheme]
    options: dict[str, Any] = {"use_listings_cache": False}
    if scheme == "s3":
        options["default_block_size"] = BLOCK
    with _translated(reference):
        try:
            import fsspec

            system = fsspec.filesystem(scheme, **options)
        except ImportError as error:
            raise MissingExtraError(
                f"Opening {shown(reference.uri)} needs the package {package!r}.",
                hint=f'Install it with: pip install "wanllmdb[{scheme}]"',
                module=package, extra=scheme,
            ) from error  # fmt: skip
        if scheme == "s3":
            _check_endpoint(reference, system.connect().meta.endpoint_url, network)
    return system


def _check_endpoint(reference: Reference, endpoint: str, network: Network) -> None:
    """Refuse Amazon's own name where it leads inside, unless the user has set it.

    Any other name can only be the user's: a reference has none.
    """
    place = urlsplit(endpoint)
    host = place.hostname or ""
    if host.endswith(_AMAZON) and not any(map(os.environ.get, _ENDPOINTS)):
        _refuse_closed(reference, network.resolve(host, place.port or 443))


def _read_all(
    reference: Reference, read: Callable[[int], bytes]
) -> Generator[bytes, None, None]:
    while True:
        with _translated(reference):
            piece = read(CHUNK)
        if not piece:
            return
        yield piece


def _read_https(reference: Reference, network: Network) -> Generator[bytes, None, None]:
    for _ in range(REDIRECTS + 1):
        with closing(_Connection(reference, network)) as connection:
            with _translated(reference):
                response = connection.ask()
            with response:
                if response.status not in _MOVED:
                    yield from _read_body(reference, response)
                    return
                reference = _target_of(reference, response)
    raise RemoteError(
        f"{shown(reference.uri)} is behind more than {REDIRECTS} redirects.",
        hint="Refer to where it is.", uri=shown(reference.uri),
    )  # fmt: skip


class _Connection(http.client.HTTPSConnection):
    """A connection to a checked address of a host, and to no proxy."""

    def __init__(self, reference: Reference, network: Network) -> None:
        self._trust = network.trust()
        super().__init__(
            reference.host, reference.port or 443,
            timeout=CONNECT_SECONDS, context=self._trust,
        )  # fmt: skip
        self._reference = reference
        self._network = network

    def connect(self) -> None:
        """Connect to an address that was looked at; the name is not resolved again."""
        raw = self._reach()
        try:
            # A body without a length ends where TLS says so, not where it breaks.
            self.sock = self._trust.wrap_socket(
                raw, server_hostname=self.host, suppress_ragged_eofs=False
            )
        except BaseException:
            raw.close()
            raise
        self.sock.settimeout(READ_SECONDS)

    def _reach(self) -> socket.socket:
        refused: OSError | None = None
        for address in _checked(self._reference, self.port, self._network):
            try:
                return self._network.connect(address, self.port, CONNECT_SECONDS)
            except OSError as error:
                refused = error
        raise refused or OSError("its name has no address")

    def ask(self) -> http.client.HTTPResponse:
        """Ask for the reference; the answer's beginning."""
        path = quote(self._reference.path or "/", safe="/%:@!$&'()*+,;=~-._[]")
        query = quote(self._reference.query, safe="/%:@!$&'()*+,;=~-._[]?")
        headers = {"User-Agent": "wanllmdb", "Accept-Encoding": "identity"}
        self.request("GET", path + query, headers=headers)
        return self.getresponse()


def _checked(reference: Reference, port: int, network: Network) -> Sequence[str]:
    """The addresses of a host, of which every one is public."""
    if _addresses.is_address(reference.host):
        found: Sequence[str] = [reference.host]
    else:
        found = network.resolve(reference.host, port)
    _refuse_closed(reference, found)
    return found


def _refuse_closed(reference: Reference, found: Sequence[str]) -> None:
    for address in found:
        if not _addresses.is_public(address):
            raise InvalidInputError(
                f"{shown(reference.uri)} leads to {address}, which is not public.",
                hint="Only what everybody can reach is opened; give a file:// of it.",
                uri=shown(reference.uri), address=address,
            )  # fmt: skip


def _target_of(reference: Reference, response: http.client.HTTPResponse) -> Reference:
    """Where a redirect leads, by the same rules as the first URI."""
    place = response.getheader("Location") or ""
    try:
        place = urldefrag(urljoin(reference.uri, place)).url
    except ValueError:  # brackets that hold no address: left to the rules
        pass
    target = _references.parse(place)
    if target.scheme != "https":
        raise InvalidInputError(
            f"{shown(reference.uri)} leads to another scheme: {shown(target.uri)}.",
            hint="Refer to where it is.", uri=shown(reference.uri),
        )  # fmt: skip
    return target


def _read_body(
    reference: Reference, response: http.client.HTTPResponse
) -> Generator[bytes, None, None]:
    what = shown(reference.uri)
    if response.status != http.client.OK:
        denied = response.status in _DENIED
        kind = RemoteDeniedError if denied else RemoteUnreachableError
        raise kind(
            f"{what} answered {response.status} {response.reason[:80]!r}.",
            hint="Access is not configured for it." if denied else _GOES_ON,
            uri=what, status=response.status,
        )  # fmt: skip
    if response.getheader("Content-Encoding", "identity") != "identity":
        raise RemoteError(
            f"{what} was sent compressed, though its own bytes were asked for.",
            hint="Refer to another copy.", uri=what,
        )  # fmt: skip
    yield from _read_all(reference, response.read)
    if response.length:  # http.client says nothing of an end that comes too soon
        raise RemoteUnreachableError(
            f"{what} ended {response.length} bytes too soon.", hint=_GOES_ON, uri=what
        )


@contextmanager
def _translated(reference: Reference) -> Iterator[None]:
    """Say what failed outside in our words; what fails inside passes."""
    what = shown(reference.uri)
    try:
        yield
    except WanllmdbError:
        raise
    except PermissionError as error:
        raise RemoteDeniedError(
            f"{what} must not be read: {_reason(error)}.",
            hint="Look at its mode, or at the access that is configured.", uri=what,
        ) from error  # fmt: skip
    except Exception as error:  # each package of fsspec has its own
        raise RemoteUnreachableError(
            f"{what} cannot be read: {_reason(error)}.", hint=_GOES_ON, uri=what
        ) from error


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):  # not all packages have words for it
        return error.strerror or "Nothing is there"
    text = str(getattr(error, "strerror", None) or error)[:200]
    return _redact.redact(text) or type(error).__name__
