"""Where a remote is: a URL without secrets, and how it is reached."""

from __future__ import annotations

import os
import re
import unicodedata
import warnings
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote, urlsplit

from wanllmdb import _redact
from wanllmdb._references import shown
from wanllmdb._remotes import port
from wanllmdb._remotes.retrying import BUDGET_S, Retrying
from wanllmdb.errors import InvalidInputError, RemoteDeniedError, WanllmdbWarning

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*\Z")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,221}\Z")
_PARAMETER = re.compile(r"[?&;#]([^=&;#?]+)=")
_SIGNED = re.compile(r"(?i)(x-amz-|x-goog-|aws_?access|google_?access)")
_KEY_ID = re.compile(r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{12,}")

_SPELLINGS = {"s3a": "s3", "s3n": "s3"}
_NO_STORES = ("http", "https")
_CHAINS = "::"

_DEFAULT_PAIRS = frozenset({
    ("minioadmin", "minioadmin"), ("minio", "minio123"), ("admin", "password"),
    ("admin", "admin"), ("root", "root"), ("root", "password"), ("test", "test"),
    ("rustfsadmin", "rustfsadmin"), ("user", "password"), ("guest", "guest"),
})  # fmt: skip
"""Credentials that servers come with, and that everybody tries first."""

_warned: set[str] = set()
"""Endpoints whose default credentials this process has warned of."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a remote is; it holds no secret, and may be stored and shown.

    Credentials come from the environment, from the profile, or from where the package
    of the scheme looks for them, whenever the remote is opened.

    Attributes:
        url: The root: ``s3://BUCKET/PREFIX``, a directory (absolute, as a path or as
            ``file://``; a relative one is taken from the working directory),
            ``memory://NAME``, or one of another scheme of fsspec. Normalised.
        endpoint_url: The server of an S3 bucket; None: the environment's, or Amazon's.
        profile: Name of a profile of the AWS configuration.
        path_style: Whether the bucket's name is in the path, not in the host.

    Raises:
        InvalidInputError: it is no such URL, holds a credential, or has an option of
            S3 without being S3.
    """

    url: str
    endpoint_url: str | None = None
    profile: str | None = None
    path_style: bool = False

    def __post_init__(self) -> None:
        """Normalise and check; no other Address can be made."""
        object.__setattr__(self, "url", _normal(self.url))
        if self.endpoint_url is not None:
            object.__setattr__(
                self, "endpoint_url", _checked_endpoint(self.endpoint_url)
            )
        if self.scheme != "s3" and (
            self.endpoint_url is not None or self.profile is not None or self.path_style
        ):
            _refuse(
                self.url, "has no endpoint, profile or path style",
                "These are options of s3:// alone.",
            )  # fmt: skip
        if self.profile is not None and not _is_seen(self.profile):
            _refuse(
                self.url, "has a profile without a name", "Name one of ~/.aws/config."
            )

    @property
    def scheme(self) -> str:
        """The scheme of its URL."""
        return self.url.partition("://")[0]

    @property
    def directory(self) -> Path | None:
        """The directory that it is; None where it is none."""
        return Path(self.url.partition("://")[2]) if self.scheme == "file" else None


def open_remote(address: Address, budget_s: float = BUDGET_S) -> port.Remote:
    """A remote that tries again what may succeed; nothing is connected to yet.

    Args:
        address: Where it is.
        budget_s: Seconds that one call goes on trying, without any progress.

    Raises:
        RemoteDeniedError: its credentials are those that servers come with, and it is
            not on this machine; there, a WanllmdbWarning says so once.
    """
    return Retrying(_open(address), budget_s=budget_s)


def _open(address: Address) -> port.Remote:
    from wanllmdb._remotes import file_remote, fsspec_remote, s3_remote

    if address.directory is not None:
        return file_remote.FileRemote(address.directory)
    if address.scheme == "memory":
        return fsspec_remote.MemoryRemote(address.url)
    if address.scheme == "s3":
        refuse_default_credentials(address)
        return s3_remote.S3Remote(
            address.url,
            endpoint_url=address.endpoint_url,
            profile=address.profile,
            path_style=address.path_style,
        )
    return fsspec_remote.FsspecRemote(address.url)


def refuse_nested(address: Address, store: Path) -> None:
    """Refuse a remote within a Store, and a Store within a remote.

    Each would take the other for its own files.

    Args:
        address: The remote.
        store: The Store's directory.

    Raises:
        InvalidInputError: one is within the other.
    """
    if address.directory is None:
        return
    theirs, ours = (
        Path(os.path.realpath(address.directory)),
        Path(os.path.realpath(store)),
    )
    if theirs == ours or ours in theirs.parents:
        _refuse(address.url, f"is within the Store {store}", "Use another directory.")
    if theirs in ours.parents:
        _refuse(
            address.url, f"holds the Store {store}", "Use a directory beside the Store."
        )


def refuse_default_credentials(address: Address) -> None:
    """Refuse the credentials that servers come with, unless the server is our own.

    Looks at the environment and at the profile, and connects to nothing.

    Raises:
        RemoteDeniedError: they are such, and the endpoint is not on this machine.
    """
    names = ("aws_access_key_id", "aws_secret_access_key")
    profile = _profile(address.profile or os.environ.get("AWS_PROFILE"))
    pair = tuple(
        (None if address.profile else os.environ.get(name.upper())) or profile.get(name)
        for name in names
    )
    if pair not in _DEFAULT_PAIRS:
        return
    endpoint = (
        address.endpoint_url
        or os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL")
        or profile.get("endpoint_url")
        or ""
    )
    message = f"{address.url} is opened with the default credentials of a server"
    if not _is_loopback(urlsplit(endpoint).hostname or ""):
        raise RemoteDeniedError(
            f"{message}, which anybody can guess.",
            hint="Set others at the server and here.", remote=address.url,
        )  # fmt: skip
    if endpoint not in _warned:
        _warned.add(endpoint)
        warnings.warn(
            f"{message}; that is accepted on this machine only.",
            WanllmdbWarning,
            stacklevel=3,
        )


def _profile(name: str | None) -> dict[str, Any]:
    """What a profile of the AWS configuration holds; nothing where there is none."""
    try:
        import botocore.session
    except ImportError:  # opening the remote will say so
        return {}
    profiles = botocore.session.Session().full_config.get("profiles", {})
    return dict(profiles.get(name or "default", {}))


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _normal(url: str) -> str:
    if not _is_seen(url):
        _refuse(url, "is empty, or holds what cannot be seen", "Write it out.")
    scheme, mark, rest = url.partition(":")
    if not mark or "/" in scheme or not _SCHEME.match(scheme.lower()):
        return _normal_file(url, url)
    scheme = scheme.lower()
    if scheme == "file":
        return _normal_file(url, rest)
    if not rest.startswith("//"):
        if Path(url).exists():
            return _normal_file(url, url)
        _refuse(url, "is no URL", f"Write {scheme}://..., or ./{shown(url)[1:-1]}.")
    return _normal_url(url, _SPELLINGS.get(scheme, scheme), rest[2:])


def _normal_file(url: str, rest: str) -> str:
    if rest.startswith("//"):
        rest = rest[2:]
        if not rest.startswith("/"):
            _refuse(url, "names a host", "Use three slashes: file:///path.")
    if not rest:
        _refuse(url, "names no directory", "Use file:///path.")
    # Links stay as they are named: where they lead may change.
    path = os.path.abspath(Path(rest).expanduser())  # noqa: PTH100
    if path == "/":
        _refuse(url, "is the root of the filesystem", "Use a directory of its own.")
    return f"file://{path}"


def _normal_url(url: str, scheme: str, rest: str) -> str:
    _refuse_secrets(url, scheme, rest)
    if scheme in _NO_STORES:
        _refuse(
            url, "cannot be written by its scheme",
            "Name the bucket, s3://BUCKET/PREFIX, and the server as its endpoint_url.",
        )  # fmt: skip
    if _CHAINS in url:
        _refuse(url, "is a chain of filesystems", "Name one.")
    parts = rest.rstrip("/").split("/")
    if not parts[0] or (scheme == "s3" and not _BUCKET.match(parts[0])):
        _refuse(url, "has no bucket", f"Write {scheme}://BUCKET/PREFIX.")
    if parts[1:]:
        try:
            port.check_key("/".join(parts[1:]))
        except InvalidInputError as error:
            _refuse(url, f"has a path that cannot be one: {error.message}", error.hint)
    return f"{scheme}://{'/'.join(parts)}"


def _refuse_secrets(url: str, scheme: str, rest: str) -> None:
    fix = (
        "Leave it out; credentials come from the environment, or from a profile that is"
        " named."
    )
    # A password may hold a slash; a container@account of Azure is no user.
    if re.search(":.*@", rest) or (scheme == "s3" and "@" in rest.partition("/")[0]):
        _refuse(url, "holds a user or a password", fix)
    for found in _PARAMETER.findall(rest):
        name = unquote(found)
        if _redact.is_secret_name(name) or _SIGNED.match(name):
            _refuse(url, f"holds a credential, {name[:40]!r}", fix)
    if _KEY_ID.search(rest):
        _refuse(url, "holds an access key", fix, hide=True)
    if "?" in rest or "#" in rest:
        _refuse(url, "has parameters", "A remote takes none in its URL.")


def _checked_endpoint(url: str) -> str:
    if not _is_seen(url):
        _refuse(url, "is no endpoint", "Write http://HOST:PORT or https://HOST.")
    _refuse_secrets(url, "s3", url.partition("://")[2])
    try:
        place = urlsplit(url)
        valid = place.scheme in ("http", "https") and place.hostname and place.port != 0
    except ValueError:
        valid = False
    if not valid:
        _refuse(url, "is no endpoint", "Write http://HOST:PORT or https://HOST.")
    return url.rstrip("/")


def _is_seen(text: str) -> bool:
    hidden = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return bool(text.strip()) and not any(
        unicodedata.category(one) in hidden for one in text
    )


def _refuse(url: str, reason: str, fix: str, *, hide: bool = False) -> NoReturn:
    what = "The URL" if hide else shown(_KEY_ID.sub("***", url))
    raise InvalidInputError(f"{what} {reason}.", hint=fix)
