"""What a remote's packages raise, in our words: the one place that knows both.

Their exceptions are told apart by the code of an answer, by Python's own kinds and by
the names of classes, so that nothing is imported that is not in use.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from wanllmdb import _redact
from wanllmdb._remotes.port import MissingKeyError
from wanllmdb.errors import (
    RemoteDeniedError,
    RemoteError,
    RemoteFullError,
    RemoteNotFoundError,
    RemoteUnreachableError,
    WanllmdbError,
)

_DENIED = frozenset({
    "AccessDenied", "AccountProblem", "AllAccessDisabled",
    "AuthorizationHeaderMalformed", "ExpiredToken", "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidClientTokenId", "InvalidSecurity", "InvalidToken", "NotSignedUp",
    "RequestExpired", "RequestTimeTooSkewed", "SignatureDoesNotMatch",
    "TokenRefreshRequired", "UnauthorizedAccess", "UnrecognizedClientException",
    "401", "403", "407",
})  # fmt: skip
"""Codes of an S3 answer that no repetition changes: who asks may not."""

_EXPIRED = frozenset({
    "ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired",
})  # fmt: skip
_FULL = frozenset({
    "QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "XMinioStorageQuota",
    "XMinioAdminBucketQuotaExceeded", "507",
})  # fmt: skip
_BUSY = frozenset({
    "BandwidthLimitExceeded", "ConditionalRequestConflict", "IncompleteBody",
    "InternalError", "NoSuchUpload", "OperationAborted", "RequestLimitExceeded",
    "RequestTimeout", "RequestTimeoutException", "ServiceUnavailable", "SlowDown",
    "Throttling", "ThrottlingException", "TooManyRequests", "TooManyRequestsException",
    "XAmzContentSHA256Mismatch", "XMinioServerNotInitialized",
    "408", "409", "429", "500", "502", "503", "504",
})  # fmt: skip
_NO_CREDENTIALS = frozenset({
    "CredentialRetrievalError", "NoAuthTokenError", "NoCredentialsError",
    "PartialCredentialsError", "ProfileNotFound", "SSOTokenLoadError",
    "TokenRetrievalError", "UnauthorizedSSOTokenError",
})  # fmt: skip
_BROKEN = frozenset({
    "ClientError", "ClientOSError", "ClientPayloadError", "ConnectTimeoutError",
    "ConnectionClosedError", "ConnectionError", "EndpointConnectionError",
    "FSTimeoutError", "HTTPClientError", "IncompleteRead", "IncompleteReadError",
    "ReadTimeoutError", "ResponseParserError", "ResponseStreamingError",
    "ServerDisconnectedError",
})  # fmt: skip
"""Names of what clients raise where a connection fails or an answer is cut short."""

_FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_BROKEN_DISK = (
    errno.EIO, errno.ESTALE, errno.EBUSY, errno.EAGAIN, errno.ETIMEDOUT,
    errno.ECONNRESET, errno.EPIPE, errno.EHOSTUNREACH, errno.EHOSTDOWN,
    errno.ENETUNREACH, errno.ENETDOWN, errno.ECONNREFUSED, errno.ENOTCONN,
)  # fmt: skip

_ACCESS = (
    "Check the access key and its rights, or name another profile; nothing is retried."
)
_RENEW = "Get fresh credentials and run it again; it goes on where it stopped."
_AGAIN = "Look whether it can be reached, and try again."


@contextmanager
def translated(url: str, doing: str, key: str | None = None) -> Iterator[None]:
    """Say in our words what fails in the foreign code within.

    Args:
        url: The remote, as it is shown.
        doing: What is tried, after "cannot": ``read 'log/a'``.
        key: The object asked for: where it is missing, that is a MissingKeyError.
    """
    try:
        yield
    except (WanllmdbError, MissingKeyError, FileExistsError):
        raise
    except Exception as error:  # each package of fsspec has its own
        if key is not None and _is_missing(error):
            raise MissingKeyError(key) from error
        raise explain(error, url, doing) from error


def explain(error: BaseException, url: str, doing: str) -> WanllmdbError:
    """The error of ours that says what a foreign one means; see `translated`."""
    kind, hint = _kind_of(error)
    return kind(f"Cannot {doing} at {url}: {_reason(error)}.", hint=hint, remote=url)


def code_of(error: BaseException) -> str:
    """The code of the S3 answer that an exception tells of; "" for none."""
    response = _response_of(error)
    return str(response.get("Error", {}).get("Code", "")) if response else ""


def _response_of(error: BaseException | None) -> dict[str, Any] | None:
    """The answer that a client's exception, or one that it was made of, carries."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            return response
        error = error.__cause__
    return None


def _is_missing(error: BaseException) -> bool:
    if _response_of(error) is not None:
        return code_of(error) in ("NoSuchKey", "404")
    return isinstance(error, FileNotFoundError)


def _kind_of(error: BaseException) -> tuple[type[WanllmdbError], str]:
    response = _response_of(error)
    if response is not None:
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return _kind_of_answer(code_of(error), int(status or 0))
    names = {base.__name__ for base in type(error).__mro__}
    if names & _NO_CREDENTIALS:
        return RemoteDeniedError, (
            "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile."
        )
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return RemoteError, "Name its authority's certificate in AWS_CA_BUNDLE."
    if isinstance(error, OSError) and error.errno is not None:
        return _kind_of_errno(error)
    if isinstance(error, PermissionError):
        return RemoteDeniedError, _ACCESS
    if isinstance(error, FileNotFoundError):
        return RemoteNotFoundError, "Create it, or mount its disk; check its spelling."
    if names & _BROKEN or isinstance(error, (TimeoutError, EOFError)):
        return RemoteUnreachableError, _AGAIN
    return RemoteError, "Look at the message of the remote."


def _kind_of_answer(code: str, status: int) -> tuple[type[WanllmdbError], str]:
    if code in _FULL or status == 507:
        return RemoteFullError, "Make room there, or raise its quota."
    if code in _DENIED or status in (401, 403, 407):
        return RemoteDeniedError, _RENEW if code in _EXPIRED else _ACCESS
    if code == "NoSuchBucket":
        return RemoteNotFoundError, "Create the bucket, or check its spelling."
    if code in _BUSY or status in (408, 409, 429) or (status >= 500 and status != 501):
        return RemoteUnreachableError, _AGAIN
    if 300 <= status < 400:
        return RemoteError, "Set AWS_DEFAULT_REGION to the region of the bucket."
    return RemoteError, "Look at the message of the remote."


def _kind_of_errno(error: OSError) -> tuple[type[WanllmdbError], str]:
    if error.errno in _FULL_DISK:
        return RemoteFullError, "Make room there, or raise its quota."
    if error.errno == errno.EROFS:
        return RemoteDeniedError, "Mount it so that it can be written."
    if error.errno in (errno.EACCES, errno.EPERM):
        return RemoteDeniedError, "Look at the modes of its files and directories."
    if error.errno == errno.ENOENT:
        return RemoteNotFoundError, "Create it, or mount its disk; check its spelling."
    if error.errno in _BROKEN_DISK:
        return RemoteUnreachableError, _AGAIN
    return RemoteError, "Look at what is there under that name."


def _reason(error: BaseException) -> str:
    """What a foreign exception says, in short, without secrets."""
    text = str(getattr(error, "strerror", None) or error) or type(error).__name__
    response = _response_of(error)
    if response is not None:
        said = response.get("Error", {})
        text = f"{said.get('Message', '')} ({said.get('Code', 'no code')})".strip()
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        if secret := os.environ.get(name):
            text = text.replace(secret, "***")
    return _redact.redact(" ".join(text.split()))[:300].rstrip(".")
