"""The proxy: requests arrive as they were sent, and each fault is what it says."""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest
from proxy import (
    Proxy,
    answer,
    delay,
    list_stale,
    lose_the_reply,
    reset_before_the_server,
    reset_in_the_body,
    shorten,
    truncate,
)

BODY = bytes(range(256)) * 400


class Handler(BaseHTTPRequestHandler):
    """Answers what it was sent, and notes it; of /body, BODY."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.headers["Transfer-Encoding"]:
            sent = b"chunked"
        else:
            sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = [[k, v] for k, v in self.headers.items()]
        self.server.seen.append((self.command, self.path, headers, sent))
        body = BODY if self.path == "/body" else json.dumps(
            [self.command, self.path, headers, len(sent), len(self.server.seen)]
        ).encode()  # fmt: skip
        status = 204 if self.path == "/nothing" else 200
        self.send_response(status)
        self.send_header("x-amz-meta-name", "value")
        if self.path == "/chunked":
            self.send_header("Transfer-Encoding", "chunked")
            body = b"5\r\nfirst\r\n6\r\nsecond\r\n0\r\n\r\n"
        elif status == 200:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and status == 200:
            self.wfile.write(body)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

    def log_message(self, *args):
        pass


class Busy(ThreadingHTTPServer):
    """A server that many may knock at at once."""

    request_queue_size = 128


@pytest.fixture
def server(sockets):
    """A server that answers what it was asked."""
    server = Busy(("127.0.0.1", 0), Handler)
    server.seen = []
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def proxy(server):
    """A proxy before it."""
    with Proxy(f"http://127.0.0.1:{server.server_address[1]}") as proxy:
        yield proxy


@pytest.fixture
def client(proxy):
    """A connection to the proxy, which stays open between requests."""
    with contextlib.closing(connect(proxy)) as client:
        yield client


def connect(proxy, timeout=20):
    at = urlsplit(proxy.url)
    return http.client.HTTPConnection(at.hostname, at.port, timeout=timeout)


def ask(client, method, path, body=None, headers=()):
    client.request(method, path, body, dict(headers))
    response = client.getresponse()
    return response.status, response.read()


def test_a_request_arrives_as_it_was_sent(server, client, proxy):
    """Path, query, headers, Host and body: all that a signature is over."""
    path = "//bucket//a%20b/%2F?prefix=%C3%A9&list-type=2"
    headers = {"Authorization": "AWS4 x", "X-Amz-Date": "now", "Accept": "*/*"}
    assert ask(client, "PUT", path, BODY, headers)[0] == 200
    ((method, seen, got, sent),) = server.seen
    assert (method, seen.lstrip("/"), sent) == ("PUT", path.lstrip("/"), BODY)
    got = {name.lower(): value for name, value in got}
    assert got["host"] == urlsplit(proxy.url).netloc
    assert {
        name.lower(): value for name, value in headers.items()
    }.items() <= got.items()
    assert got["accept-encoding"] == "identity"


def test_one_connection_serves_requests_of_all_kinds(client):
    """Keep-alive: each request gets its own answer, and none another's."""
    ask(client, "GET", "/first")
    held = client.sock
    for method in ("GET", "PUT", "POST", "DELETE", "HEAD") * 3:
        status, body = ask(client, method, "/path", b"x" * 10)
        assert status == 200
        assert method == "HEAD" or json.loads(body)[:2] == [method, "/path"]
    assert ask(client, "GET", "/nothing") == (204, b"")
    assert ask(client, "GET", "/chunked") == (200, b"firstsecond")
    assert ask(client, "GET", "/body") == (200, BODY)
    assert client.sock is held


def test_a_head_tells_the_length_of_what_it_does_not_send(client):
    """As the sizes of objects are asked for."""
    client.request("HEAD", "/body")
    response = client.getresponse()
    assert response.read() == b""
    assert response.headers["Content-Length"] == str(len(BODY))
    assert response.headers["x-amz-meta-name"] == "value"


def test_a_body_of_unknown_length_and_one_that_waits_arrive(server, proxy):
    """Transfer-Encoding: chunked, and Expect: 100-continue, as S3's clients send."""
    at = urlsplit(proxy.url)
    with socket.create_connection((at.hostname, at.port), 20) as raw:
        raw.sendall(b"PUT /one HTTP/1.1\r\nHost: h\r\n"
                    b"Transfer-Encoding: chunked\r\n\r\n"
                    b"3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\n\r\n")  # fmt: skip
        assert raw.recv(100).startswith(b"HTTP/1.1 200")
    with socket.create_connection((at.hostname, at.port), 20) as raw:
        raw.sendall(b"PUT /two HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n"
                    b"Content-Length: 3\r\n\r\n")  # fmt: skip
        assert raw.recv(100).startswith(b"HTTP/1.1 100")
        raw.sendall(b"abc")
        assert raw.recv(100).startswith(b"HTTP/1.1 200")
    assert [(path, sent) for _, path, _, sent in server.seen] == [
        ("/one", b"abcdefg"), ("/two", b"abc")
    ]  # fmt: skip


def test_many_connections_at_once_are_served_and_counted(server, proxy):
    """32 threads with a connection each: no answer is lost, or another's."""

    def many(number):
        with contextlib.closing(connect(proxy)) as client:
            for n in range(10):
                path = f"/{number}/{n}"
                assert json.loads(ask(client, "PUT", path, b"x")[1])[1] == path
                assert ask(client, "GET", "/body")[1] == BODY

    with ThreadPoolExecutor(32) as threads:
        list(threads.map(many, range(32)))
    assert proxy.counts() == {"PUT": 320, "GET": 320}
    assert len(server.seen) == len(proxy.passed) == 640


@pytest.mark.parametrize(("status", "code"), [(500, "InternalError"), (503, "SlowDown"),
                                              (429, "TooManyRequests")])  # fmt: skip
def test_an_error_answers_the_requests_that_were_named(
    server, client, proxy, status, code
):
    """The second and third PUT of packs, nothing else; the server is not asked."""
    rule = proxy.inject(answer(status, code), "PUT", r"^/b/packs/", nth=2, times=2)
    puts = [ask(client, "PUT", f"/b/packs/{n}", BODY) for n in range(4)]
    assert [status for status, _ in puts] == [200, status, status, 200]
    assert f"<Code>{code}</Code>".encode() in puts[1][1]
    assert ask(client, "GET", "/b/packs/1")[0] == 200
    assert ask(client, "PUT", "/b/blobs/1", b"")[0] == 200
    assert [path for _, path, _, _ in server.seen] == [
        "/b/packs/0", "/b/packs/3", "/b/packs/1", "/b/blobs/1"
    ]  # fmt: skip
    assert (rule.met, rule.done) == (4, 2)


def test_credentials_expire_in_the_middle_for_good(client, proxy):
    """403 ExpiredToken from the third request on, until the proxy is healed."""
    proxy.inject(answer(403, "ExpiredToken"), nth=3, times=math.inf)
    seen = [ask(client, "GET", "/")[0] for _ in range(6)]
    assert seen == [200, 200, 403, 403, 403, 403]
    assert ask(client, "HEAD", "/") == (403, b"")
    proxy.heal()
    assert ask(client, "GET", "/")[0] == 200


def test_of_two_rules_the_first_befalls(client, proxy):
    """Both count the request."""
    first = proxy.inject(answer(500, "InternalError"))
    second = proxy.inject(answer(503, "SlowDown"), nth=2)
    assert [ask(client, "GET", "/")[0] for _ in range(3)] == [500, 503, 200]
    assert (first.met, first.done, second.met, second.done) == (3, 1, 3, 1)


def test_a_reset_before_the_server_leaves_nothing_done(server, client, proxy):
    """The client sees a reset; what it asked for did not happen."""
    proxy.inject(reset_before_the_server)
    with pytest.raises(ConnectionResetError):
        ask(client, "PUT", "/key", b"1")
    assert server.seen == []
    client.close()
    assert ask(client, "PUT", "/key", b"1")[0] == 200


def test_a_lost_reply_is_of_work_that_was_done(server, client, proxy):
    """The client cannot tell; the server has done it."""
    proxy.inject(lose_the_reply, "PUT")
    with pytest.raises(http.client.RemoteDisconnected):
        ask(client, "PUT", "/key", b"1")
    assert [(path, sent) for _, path, _, sent in server.seen] == [("/key", b"1")]


def test_a_body_ends_by_a_reset(client, proxy):
    """Less than the body arrives, and then an error of the connection."""
    proxy.inject(reset_in_the_body)
    client.request("GET", "/body")
    response = client.getresponse()
    assert response.headers["Content-Length"] == str(len(BODY))
    with pytest.raises(ConnectionResetError):
        response.read()


def test_a_truncated_body_ends_before_its_announced_length(client, proxy):
    """Half of it arrives, and the connection ends in order."""
    proxy.inject(truncate)
    client.request("GET", "/body")
    with pytest.raises(http.client.IncompleteRead) as caught:
        client.getresponse().read()
    assert caught.value.partial == BODY[: len(BODY) // 2]


def test_a_shortened_body_looks_whole(client, proxy):
    """Only its size and its digest tell; the connection goes on."""
    proxy.inject(shorten)
    assert ask(client, "GET", "/body") == (200, BODY[: len(BODY) // 2])
    assert ask(client, "GET", "/body") == (200, BODY)


def test_a_delay_holds_one_request_up_and_no_other(proxy, client):
    """Others pass meanwhile, and the answer is whole when it comes."""
    proxy.inject(delay(0.5), "GET", "/body")
    began = time.monotonic()
    with ThreadPoolExecutor(1) as thread, contextlib.closing(connect(proxy)) as other:
        late = thread.submit(ask, client, "GET", "/body")
        assert ask(other, "GET", "/")[0] == 200
        assert not late.done()
        assert late.result() == (200, BODY)
    assert time.monotonic() - began >= 0.5


def test_a_stale_listing_is_an_earlier_answer(client, proxy):
    """The first to the same request; one that was never answered is not stale."""
    listing = "/bucket?list-type=2&prefix=a"
    proxy.inject(list_stale, "GET", "list-type=", nth=3)
    answers = [ask(client, "GET", listing)[1] for _ in range(4)]
    assert answers[2] == answers[0]
    assert len(set(answers)) == 3
    proxy.inject(list_stale, "GET", "list-type=")
    assert ask(client, "GET", "/other?list-type=2")[0] == 200


def test_a_server_that_is_gone_is_no_answer(client, proxy, server):
    """The proxy answers nothing of its own."""
    server.shutdown()
    server.server_close()
    with pytest.raises(http.client.RemoteDisconnected):
        ask(client, "GET", "/")


def test_the_proxy_ends_while_clients_hold_connections(server):
    """Neither an idle connection nor a long delay holds it up."""
    began = time.monotonic()
    with Proxy(f"http://127.0.0.1:{server.server_address[1]}") as proxy:
        idle, late = connect(proxy), connect(proxy)
        ask(idle, "GET", "/")
        proxy.inject(delay(60))
        late.request("GET", "/")
        while len(proxy.requests) < 2:
            time.sleep(0.01)
    idle.close()
    late.close()
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("name", [
    pytest.param("rclone", marks=pytest.mark.rclone),
    pytest.param("radosgw", marks=pytest.mark.radosgw),
])  # fmt: skip
def test_signatures_hold_through_the_proxy(request, name):
    """A server that checks them lets the right ones pass, and no others."""
    server = request.getfixturevalue(name)
    bucket = server.bucket()
    keys = [f"{bucket}/a b/é {n}" for n in range(5)]
    with Proxy(server.url) as proxy:
        through = {"client_kwargs": {"endpoint_url": proxy.url}}
        system = server.system(**through)
        for key in keys:  # rclone fails now and then where two make a folder
            system.pipe_file(key, BODY)
        assert system.find(bucket) == keys
        assert system.cat_file(keys[0]) == BODY
        with pytest.raises(PermissionError):
            server.system(secret="wrong", **through).cat_file(keys[0])
    assert proxy.counts()["PUT"] == 5


def test_s3fs_retries_a_slow_down_and_says_what_else_failed(moto):
    """The client of wanllmdb against some faults, with moto behind."""
    bucket = moto.bucket()
    key = f"{bucket}/key"
    with Proxy(moto.url) as proxy:
        system = moto.system(client_kwargs={"endpoint_url": proxy.url})
        rule = proxy.inject(answer(503, "SlowDown"), "PUT")
        system.pipe_file(key, BODY)
        assert rule.done == 1
        assert system.cat_file(key) == BODY
        proxy.inject(lose_the_reply, "PUT", times=math.inf)
        proxy.inject(answer(403, "ExpiredToken"), "GET", times=math.inf)
        with pytest.raises(PermissionError):
            system.cat_file(key)
