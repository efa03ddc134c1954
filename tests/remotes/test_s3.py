"""S3 through a proxy that does wrong, and what is S3's own."""

from __future__ import annotations

import http.client
import http.server
import io
import os
import subprocess
import sys
import threading
from contextlib import closing

import pytest

from wanllmdb._remotes.address import Address, open_remote
from wanllmdb._remotes.port import MissingKeyError
from wanllmdb._remotes.retrying import Retrying
from wanllmdb._remotes.s3_remote import S3Remote, refuse_old
from wanllmdb.errors import (
    InvalidInputError,
    MissingExtraError,
    RemoteDeniedError,
    RemoteError,
    RemoteNotFoundError,
    RemoteUnreachableError,
)

ERROR = "<?xml version='1.0'?><Error><Code>{}</Code><Message>No.</Message></Error>"
AGAIN = RemoteUnreachableError


class Proxy(http.server.ThreadingHTTPServer):
    """Passes requests on, except where a fault is due.

    Attributes:
        faults: For each request in turn: None; (status, code) to answer with; "reset"
            before it is passed on; "lost" after it was answered; "truncated" bodies.
        only: Faults are for requests of this method and path.
        requests: (method, path, headers) of all of them.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, server):
        self.server = server.removeprefix("http://")
        self.faults, self.only, self.requests = [], ("", ""), []
        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, request, client_address):
        """Connections break here on purpose."""

    def due(self, method, path):
        if method.startswith(self.only[0]) and self.only[1] in path and self.faults:
            return self.faults.pop(0)
        return None


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        """Say nothing."""

    def pass_on(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append((self.command, self.path, dict(self.headers)))
        fault = self.server.due(self.command, self.path)
        if isinstance(fault, tuple):
            self.answer(fault[0], [], ERROR.format(fault[1]).encode())
            return
        if fault == "reset":
            self.hang_up()
            return
        inner = http.client.HTTPConnection(self.server.server, timeout=30)
        with closing(inner):
            inner.request(self.command, self.path, body, dict(self.headers))
            answer = inner.getresponse()
            data = answer.read()
        if fault == "lost":
            self.hang_up()
            return
        self.answer(answer.status, answer.getheaders(), data, fault == "truncated")

    def hang_up(self):
        self.close_connection = True
        self.connection.close()

    def answer(self, status, headers, data, truncated=False):
        self.send_response(status)
        skipped = (
            "connection",
            "content-length",
            "transfer-encoding",
            "date",
            "server",
        )
        for name, value in headers:
            if name.lower() not in skipped:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(data[: len(data) // 2] if truncated else data)
        self.close_connection = truncated

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = pass_on


@pytest.fixture
def proxy(moto_url):
    proxy = Proxy(moto_url)
    serving = threading.Thread(target=proxy.serve_forever, args=(0.02,))
    serving.start()
    yield proxy
    proxy.shutdown()
    serving.join()
    proxy.server_close()


@pytest.fixture
def inner(proxy, moto_bucket):
    """The remote without our retries."""
    remote = S3Remote(
        f"s3://{moto_bucket}/root",
        endpoint_url=f"http://127.0.0.1:{proxy.server_port}",
        path_style=True,
    )
    yield remote
    remote.close()


@pytest.fixture
def remote(inner):
    return Retrying(inner, first_s=0.001, longest_s=0.01, budget_s=30)


FAULTS = {
    "500": (500, "InternalError"), "503": (503, "SlowDown"), "429": (429, "Throttled"),
    "reset": "reset", "lost": "lost", "truncated": "truncated",
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_each_fault_of_the_line_is_survived(remote, proxy, fault):
    """By every verb, more often than the client's own tries; nothing is done wrong."""
    data = os.urandom(9_000_000)
    for turn, call in enumerate((
        lambda: remote.create("made", b"nonce"), lambda: remote.put("small", b"small"),
        lambda: remote.upload("large", io.BytesIO(data), len(data)),
    )):  # fmt: skip
        proxy.faults = [fault] * (4 if turn == 0 else 1)
        assert call() in (True, None)
    proxy.faults = [fault]
    assert remote.create("made", b"other") is False
    proxy.faults = [fault] * 4
    assert remote.get("made") == b"nonce"
    sink = io.BytesIO()
    proxy.faults = [fault, None, fault]
    assert remote.download("large", sink) == len(data)
    assert sink.getvalue() == data
    proxy.faults = [fault]
    keys = [listed.key for listed in remote.iter_keys("")]
    assert keys == ["large", "made", "small"]
    proxy.faults = [fault]
    remote.delete(keys)
    assert list(remote.iter_keys("")) == []


def test_a_create_whose_reply_is_lost_has_won(inner, proxy):
    """The client repeats it, is told 412, and that is its own echo."""
    proxy.only, proxy.faults = ("PUT", "/root/key"), ["lost"]
    assert inner.create("key", b"nonce") is True
    puts = [r for r in proxy.requests if r[0] == "PUT"]
    assert len(puts) == 2
    assert all(r[2]["If-None-Match"] == "*" for r in puts)


def test_a_create_that_was_never_stored_is_no_win(inner, proxy):
    """Nor a loss: it is not known to have failed until it is asked for."""
    proxy.only, proxy.faults = ("PUT", "/root/key"), ["reset"] * 30
    with pytest.raises(AGAIN):
        inner.create("key", b"nonce")
    proxy.faults = []
    assert inner.create("key", b"nonce") is True


@pytest.mark.parametrize(("status", "code"), [
    (403, "AccessDenied"), (403, "InvalidAccessKeyId"), (403, "SignatureDoesNotMatch"),
    (400, "ExpiredToken"), (400, "InvalidToken"),
])  # fmt: skip
def test_denied_is_denied_at_once(remote, proxy, status, code):
    """One request, no storm; in the middle of a sync as at its start."""
    remote.put("key", b"data")
    remote.upload("large", io.BytesIO(bytes(9_000_000)), 9_000_000)
    proxy.requests.clear()
    calls = (
        lambda: remote.get("key"), lambda: remote.put("key", b"x"),
        lambda: remote.download("large", io.BytesIO()), lambda: remote.delete(["key"]),
        lambda: list(remote.iter_keys("")), lambda: remote.abort_stale(0),
    )  # fmt: skip
    for call in calls:
        proxy.faults = [(status, code)]
        with pytest.raises(RemoteDeniedError, match=code):
            call()
    assert len(proxy.requests) == len(calls)
    assert remote.get("key") == b"data"


def test_denied_in_the_middle_of_an_upload_leaves_nothing(remote, proxy):
    """The upload is aborted."""
    proxy.only, proxy.faults = ("PUT", "partNumber=2"), [(400, "ExpiredToken")]
    with pytest.raises(RemoteDeniedError, match="ExpiredToken"):
        remote.upload("large", io.BytesIO(bytes(20_000_000)), 20_000_000)
    assert list(remote.iter_keys("")) == []
    assert remote.abort_stale(0) == 0


def test_an_upload_that_nobody_aborted_is_found_when_it_is_old(remote, inner):
    """Parts cost, and no listing of objects shows them."""
    for key in ("a", "b"):
        inner._call("create_multipart_upload", Key=f"root/{key}")
    inner._call("create_multipart_upload", Key="elsewhere/c")
    century = 100 * 365 * 86400  # moto's uploads are all of 2010
    assert remote.abort_stale(century) == 0
    assert remote.abort_stale(3600) == 2
    assert remote.abort_stale(3600) == 0


def test_a_missing_bucket_is_no_missing_object(moto_url):
    """By every verb that can tell."""
    with closing(
        open_remote(Address("s3://no-such-bucket", endpoint_url=moto_url))
    ) as r:
        for call in (
            lambda: r.get("key"), lambda: r.put("key", b""),
            lambda: r.create("key", b""), lambda: list(r.iter_keys("")),
        ):  # fmt: skip
            with pytest.raises(RemoteNotFoundError, match="no-such-bucket"):
                call()


def test_a_server_that_is_not_there_is_unreachable(moto_url):
    """After the budget, not before."""
    address = Address("s3://bucket", endpoint_url="http://127.0.0.1:1")
    remote = open_remote(address, budget_s=0.01)
    with closing(remote), pytest.raises(AGAIN, match="s3://bucket"):
        remote.get("key")


def test_requests_are_never_anonymous(moto_url, monkeypatch):
    """Without credentials it stops, and says where they come from."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    remote = open_remote(Address("s3://bucket", endpoint_url=moto_url))
    with closing(remote), pytest.raises(RemoteDeniedError, match="AWS_ACCESS_KEY_ID"):
        remote.get("key")


def test_a_profile_that_is_not_there_is_named(moto_url):
    """As botocore says it."""
    address = Address("s3://bucket", endpoint_url=moto_url, profile="nosuch")
    with pytest.raises(RemoteDeniedError, match="nosuch"):
        open_remote(address).get("key")


def test_a_profile_gives_the_credentials(moto_url, moto_bucket, monkeypatch, tmp_path):
    """And no other does."""
    (tmp_path / "creds").write_text(
        "[lab]\naws_access_key_id = mine\naws_secret_access_key = own\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "creds"))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    address = Address(f"s3://{moto_bucket}", endpoint_url=moto_url, profile="lab")
    with closing(open_remote(address)) as remote:
        remote.put("key", b"data")
        assert remote.get("key") == b"data"


def test_markers_of_directories_are_no_objects(remote, inner):
    """A console makes them; a name that is no key is refused."""
    for name in ("root/", "root/d/", "other/key"):
        inner._call("put_object", Key=name, Body=b"")
    remote.put("d/key", b"")
    assert [listed.key for listed in remote.iter_keys("")] == ["d/key"]
    inner._call("put_object", Key="root/d/../x", Body=b"")
    with pytest.raises(RemoteError, match="no key"):
        list(remote.iter_keys(""))


def test_a_key_that_names_a_version_is_a_key(remote):
    """As s3fs would cut it off there."""
    remote.put("a?versionId=1", b"1")
    remote.put("a", b"0")
    assert remote.get("a?versionId=1") == b"1"


FORKED = """
import os, sys
from wanllmdb._remotes.address import Address, open_remote
remote = open_remote(Address(sys.argv[1], endpoint_url=sys.argv[2]))
remote.put("parent", b"before")
child = os.fork()
if not child:
    assert remote.get("parent") == b"before"
    assert remote.create("child", b"child")
    remote.close()
    os._exit(0)
_, status = os.waitpid(child, 0)
assert status == 0, status
assert remote.get("child") == b"child"
remote.put("parent", b"after")
remote.close()
print("both")
"""


def test_a_forked_child_has_its_own_client(moto_url, moto_bucket):
    """The thread that the parent's client lives in is not there in the child."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED,
         f"s3://{moto_bucket}", moto_url],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout == "both\n", done.stderr
    assert done.stderr == ""


def test_a_client_that_would_overwrite_is_refused():
    """S3fs leaves out a condition that botocore does not know."""
    from botocore.model import ServiceModel

    def model(**members):
        put = {"name": "PutObject", "input": {"shape": "In"}}
        shapes = {"In": {"type": "structure", "members": members},
                  "Text": {"type": "string"}}  # fmt: skip
        return ServiceModel({"operations": {"PutObject": put}, "shapes": shapes})

    refuse_old(model(IfNoneMatch={"shape": "Text"}))
    with pytest.raises(MissingExtraError, match="too old"):
        refuse_old(model(Key={"shape": "Text"}))


def test_keys_are_checked_before_a_request(inner, proxy):
    """Nothing is sent for what is no key."""
    inner.put("key", b"")
    proxy.requests.clear()
    with pytest.raises(InvalidInputError):
        inner.get("../key")
    with pytest.raises(MissingKeyError):
        inner.get("key/no")
    assert len(proxy.requests) == 1
