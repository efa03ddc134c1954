"""What foreign code raises, in our words."""

from __future__ import annotations

import errno
import os

import pytest

from wanllmdb._remotes.failures import translated
from wanllmdb._remotes.port import MissingKeyError
from wanllmdb.errors import (
    RemoteDeniedError,
    RemoteError,
    RemoteFullError,
    RemoteNotFoundError,
    RemoteUnreachableError,
    RunNotFoundError,
)

exceptions = pytest.importorskip("botocore.exceptions")
parsers = pytest.importorskip("botocore.parsers")
s3_errors = pytest.importorskip("s3fs.errors")


def answer(code, status, message="It says so."):
    """What botocore raises of an answer."""
    return exceptions.ClientError(
        {"Error": {"Code": code, "Message": message},
         "ResponseMetadata": {"HTTPStatusCode": status}}, "GetObject",
    )  # fmt: skip


def told(error, key=None):
    """What becomes of an exception."""
    kinds = (RemoteError, RemoteNotFoundError, MissingKeyError)
    with pytest.raises(kinds) as caught, translated("s3://bucket/a", "read 'k'", key):
        raise error
    return caught.value


AGAIN, DENIED, FULL = RemoteUnreachableError, RemoteDeniedError, RemoteFullError
GONE, OTHER = RemoteNotFoundError, RemoteError
ANSWERS = [
    ("AccessDenied", 403, DENIED), ("403", 403, DENIED),
    ("InvalidAccessKeyId", 403, DENIED),
    ("SignatureDoesNotMatch", 403, DENIED),
    ("ExpiredToken", 400, DENIED), ("InvalidToken", 400, DENIED),
    ("TokenRefreshRequired", 400, DENIED),
    ("RequestTimeTooSkewed", 403, DENIED),
    ("Odd", 401, DENIED),
    ("NoSuchBucket", 404, GONE),
    ("InternalError", 500, AGAIN),
    ("SlowDown", 503, AGAIN), ("503", 503, AGAIN),
    ("ServiceUnavailable", 503, AGAIN),
    ("TooManyRequests", 429, AGAIN),
    ("Odd", 502, AGAIN), ("RequestTimeout", 400, AGAIN),
    ("ConditionalRequestConflict", 409, AGAIN),
    ("NoSuchUpload", 404, AGAIN),
    ("QuotaExceeded", 403, FULL), ("XMinioStorageFull", 507, FULL),
    ("PermanentRedirect", 301, OTHER), ("NotImplemented", 501, OTHER),
    ("InvalidArgument", 400, OTHER),
]  # fmt: skip


@pytest.mark.parametrize(("code", "status", "kind"), ANSWERS)
@pytest.mark.parametrize("form", [lambda e: e, s3_errors.translate_boto_error],
                         ids=["botocore", "s3fs"])  # fmt: skip
def test_answers_are_told_by_their_code(code, status, kind, form):
    """Whether botocore raises them, or s3fs in the words of the system."""
    error = told(form(answer(code, status)))
    assert type(error) is kind
    assert "s3://bucket/a" in str(error)
    assert "It says so." in str(error)
    assert error.hint
    assert error.identity == {"remote": "s3://bucket/a"}
    assert error.__cause__ is not None


OTHERS = [
    (exceptions.NoCredentialsError(), DENIED),
    (exceptions.PartialCredentialsError(provider="env", cred_var="x"), DENIED),
    (exceptions.ProfileNotFound(profile="nope"), DENIED),
    (exceptions.TokenRetrievalError(provider="sso", error_msg="gone"), DENIED),
    (exceptions.EndpointConnectionError(endpoint_url="http://h"), AGAIN),
    (exceptions.ConnectTimeoutError(endpoint_url="http://h"), AGAIN),
    (exceptions.ReadTimeoutError(endpoint_url="http://h"), AGAIN),
    (exceptions.ConnectionClosedError(endpoint_url="http://h"), AGAIN),
    (exceptions.IncompleteReadError(actual_bytes=1, expected_bytes=2),
     AGAIN),
    (parsers.ResponseParserError("<html>"), AGAIN),
    (TimeoutError(), AGAIN),
    (ConnectionResetError(errno.ECONNRESET, "reset"), AGAIN),
    (BrokenPipeError(), AGAIN),
    (EOFError("it ends 3 bytes too soon"), AGAIN),
    (PermissionError("no"), DENIED),
    (ValueError("odd"), OTHER),
    (exceptions.SSLError(endpoint_url="h", error="[SSL: CERTIFICATE_VERIFY_FAILED] x"),
     OTHER),
    (exceptions.SSLError(endpoint_url="h", error="EOF occurred"), AGAIN),
    *((OSError(code, os.strerror(code)), kind) for code, kind in (
        (errno.ENOSPC, FULL), (errno.EDQUOT, FULL),
        (errno.EFBIG, FULL), (errno.EROFS, DENIED),
        (errno.EACCES, DENIED), (errno.ENOENT, GONE),
        (errno.EIO, AGAIN), (errno.ESTALE, AGAIN),
        (errno.ENAMETOOLONG, OTHER),
    )),
]  # fmt: skip


@pytest.mark.parametrize(("error", "kind"), OTHERS, ids=lambda x: getattr(
    x, "__name__", f"{type(x).__name__}{getattr(x, 'errno', '') or ''}"))  # fmt: skip
def test_failures_without_an_answer_are_told_by_their_kind(error, kind):
    """Of connections, credentials and disks."""
    assert type(told(error)) is kind


@pytest.mark.parametrize("name", ["ClientPayloadError", "ServerDisconnectedError",
                                  "ClientOSError"])  # fmt: skip
def test_what_aiohttp_raises_is_worth_another_try(name):
    """Bodies that end too soon, connections that break."""
    aiohttp = pytest.importorskip("aiohttp")
    assert type(told(getattr(aiohttp, name)("broken"))) is RemoteUnreachableError


def test_a_missing_object_is_no_missing_bucket():
    """Nor is either of them what a listing calls missing."""
    for missing in (answer("NoSuchKey", 404), answer("404", 404), FileNotFoundError()):
        assert isinstance(told(missing, "k"), MissingKeyError)
    form = s3_errors.translate_boto_error
    assert isinstance(told(form(answer("NoSuchKey", 404)), "k"), MissingKeyError)
    for other in (answer("NoSuchBucket", 404), form(answer("NoSuchBucket", 404))):
        assert isinstance(told(other, "k"), RemoteNotFoundError)
    assert isinstance(told(FileNotFoundError()), RemoteNotFoundError)


def test_expired_credentials_are_to_be_renewed():
    """They are no wrong ones."""
    assert "fresh" in told(answer("ExpiredToken", 400)).hint
    assert "fresh" not in told(answer("AccessDenied", 403)).hint


def test_no_message_holds_a_secret(monkeypatch):
    """Whatever the server repeats of it."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "plain-words-of-mine")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "another-word-of-mine")
    text = (
        "no plain-words-of-mine and another-word-of-mine, secret=s3cr3t9,"
        " AKIAIOSFODNN7EXAMPLE at https://me:pass9word@host/x"
    )
    for error in (
        answer("AccessDenied", 403, text),
        OSError(5, text),
        ValueError(text),
    ):
        said = str(told(error))
        for secret in ("plain-words", "another-word", "s3cr3t9", "AKIAIO", "pass9word"):
            assert secret not in said


def test_messages_are_one_short_line():
    """Also where a server sends a page."""
    said = told(ValueError("<html>\n" + "x" * 5000)).message
    assert "\n" not in said
    assert len(said) < 400


def test_our_own_errors_pass():
    """And so does what no handler should take for a failure."""
    for own in (RunNotFoundError("x"), MissingKeyError("x"), FileExistsError("x")):
        with pytest.raises(type(own)) as caught, translated("u", "do"):
            raise own
        assert caught.value is own
    with pytest.raises(KeyboardInterrupt), translated("u", "do"):
        raise KeyboardInterrupt
