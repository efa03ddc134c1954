"""A proxy before an S3 server, to try what happens when the network or it fails.

Requests reach the server as they were sent, `Host` included, so that their signatures
hold; what is broken is said per request:

    with Proxy(server.url) as proxy:
        proxy.inject(answer(503, "SlowDown"), "PUT", r"/packs/", nth=3, times=2)
        proxy.inject(lose_the_reply, "PUT", r"/batches/")

Bodies are held in memory.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import socket
import socketserver
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

Fault = Callable[["Exchange"], None]
"""What is done instead of passing a request and its answer on."""

SECONDS = 60.0
"""How long the server may take for an answer, and a client for its next request."""

FRAMING = {"connection", "content-length", "expect", "keep-alive", "transfer-encoding"}
"""Headers that belong to one connection, of the two that the proxy has."""


BODILESS = {204, 304}
"""Answers that HTTP knows to have no body."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the server; `length` is what it says of the body's, for a HEAD."""

    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes
    length: str | None = None


@dataclass(slots=True)
class Rule:
    """A fault, and the requests that it befalls.

    Attributes:
        met: How many requests matched so far.
        done: How many of them the fault befell.
    """

    fault: Fault
    method: re.Pattern[str]
    path: re.Pattern[str]
    nth: int
    times: float
    met: int = 0
    done: int = 0

    def befalls(self, method: str, path: str) -> bool:
        """Count a request; whether the fault befalls it."""
        if not (self.method.fullmatch(method) and self.path.search(path)):
            return False
        self.met += 1
        return self.nth <= self.met < self.nth + self.times


class Proxy:
    """Passes requests on to a server, and breaks those that a rule names.

    Threads: each connection has one of its own; rules may change at any time.

    Attributes:
        url: The endpoint that clients use.
        requests: Method and path, with the query, of each request in order of arrival.
        passed: The same of those that the server was asked.
    """

    def __init__(self, url: str) -> None:
        self.server = urlsplit(url)
        self.requests: list[tuple[str, str]] = []
        self.passed: list[tuple[str, str]] = []
        self.rules: list[Rule] = []
        self.listings: dict[str, Answer] = {}
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._listener = Listener(self)
        self._thread = threading.Thread(
            target=self._listener.serve_forever, args=(0.05,), name="proxy"
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.closing.set()
        self._listener.shutdown()
        self._listener.end_connections()
        self._listener.server_close()
        self._thread.join()
        if self._listener.errors:
            raise self._listener.errors[0]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.server_address[1]}"

    def inject(
        self,
        fault: Fault,
        method: str = ".*",
        path: str = "",
        *,
        nth: int = 1,
        times: float = 1,
    ) -> Rule:
        """Have a fault befall requests to come.

        Args:
            fault: One of this module's, or a function of an Exchange.
            method: Regular expression of the whole method.
            path: Regular expression found anywhere in the path and its query.
            nth: The first of the matching requests that it befalls, from 1.
            times: How many it befalls in a row; `math.inf` for all from then on.

        Of several rules that match a request, the one injected first befalls it; all
        of them count it.
        """
        rule = Rule(fault, re.compile(method), re.compile(path), nth, times)
        with self._lock:
            self.rules.append(rule)
        return rule

    def heal(self) -> None:
        """Take all rules back."""
        with self._lock:
            self.rules.clear()

    def counts(self) -> Counter[str]:
        """How many requests of each method have arrived."""
        return Counter(method for method, _ in self.requests)

    def fault_of(self, method: str, path: str) -> Fault:
        """Count a request, and find what is done with it."""
        with self._lock:
            self.requests.append((method, path))
            hit = [rule for rule in self.rules if rule.befalls(method, path)]
            if not hit:
                return pass_on
            hit[0].done += 1
            return hit[0].fault


class Listener(socketserver.ThreadingTCPServer):
    """Accepts connections; closing it waits for the thread of each."""

    request_queue_size = 128

    def __init__(self, proxy: Proxy) -> None:
        super().__init__(("127.0.0.1", 0), Exchange)
        self.proxy = proxy
        self.errors: list[BaseException] = []
        self.open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.open.discard(request)
        super().shutdown_request(request)

    def end_connections(self) -> None:
        """Those between two requests would wait for the next one."""
        for connection in list(self.open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients go away as they like; all else is a defect of the proxy."""
        error = sys.exception()
        if error is not None and not isinstance(error, ConnectionError | TimeoutError):
            self.errors.append(error)


class Exchange(BaseHTTPRequestHandler):
    """A connection of a client's; for a fault, the request that it has sent."""

    protocol_version = "HTTP/1.1"
    timeout = SECONDS
    disable_nagle_algorithm = True  # an answer may be of two writes
    server: Listener

    @property
    def proxy(self) -> Proxy:
        return self.server.proxy

    def one_request(self) -> None:
        # http.server takes leading slashes of self.path together; a key may have them.
        self.target = self.requestline.split()[1]
        self.sent = self._body()
        self.proxy.fault_of(self.command, self.target)(self)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = one_request

    def ask(self) -> Answer:
        """Pass the request on to the server, and read its whole answer.

        Raises:
            ConnectionError: The server is not there, or broke off.
        """
        self.proxy.passed.append((self.command, self.target))
        at = self.proxy.server
        server = http.client.HTTPConnection(at.hostname or "", at.port, timeout=SECONDS)
        with contextlib.closing(server):
            server.putrequest(self.command, self.target, True, True)
            for name, value in self.headers.items():
                if name.lower() not in FRAMING:
                    server.putheader(name, value)
            if self.sent or self.command in ("PUT", "POST"):
                server.putheader("Content-Length", str(len(self.sent)))
            server.endheaders(self.sent or None)
            try:
                return self._answer(server.getresponse())
            except http.client.HTTPException as error:
                raise ConnectionAbortedError("the server broke off") from error

    def send(self, answer: Answer, length: int | None = None) -> None:
        """Send an answer; `length` is what is said of the body's, by default the truth.

        The body that is sent is the answer's, whatever is said.
        """
        self.log_request(answer.status)
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.headers:
            self.send_header(name, value)
        if self.command == "HEAD" or answer.status in BODILESS:
            if answer.length is not None:
                self.send_header("Content-Length", answer.length)
            self.end_headers()
        else:
            said = len(answer.body) if length is None else length
            self.send_header("Content-Length", str(said))
            self.end_headers()
            self.wfile.write(answer.body)

    def hang_up(self) -> None:
        """End the connection in order: the client reads to its end."""
        self.close_connection = True

    def reset(self) -> None:
        """End the connection by a reset (TCP RST)."""
        self.close_connection = True
        at_once = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        os.close(self.connection.detach())  # close() waits for rfile's and wfile's

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: proxy.requests has them."""

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            return b"".join(iter(self._chunk, b""))
        return self._exactly(int(self.headers.get("Content-Length", 0)))

    def _chunk(self) -> bytes:
        data = self._exactly(int(self.rfile.readline().split(b";")[0], 16))
        self.rfile.readline()
        return data

    def _exactly(self, count: int) -> bytes:
        data = self.rfile.read(count)
        if len(data) < count:
            raise ConnectionAbortedError("the client broke off in its body")
        return data

    def _answer(self, response: http.client.HTTPResponse) -> Answer:
        body, headers = response.read(), response.getheaders()
        kept = [(name, value) for name, value in headers if name.lower() not in FRAMING]
        length = response.headers["Content-Length"]
        answer = Answer(response.status, response.reason, kept, body, length)
        if response.status == 200 and "list-type=" in self.target:
            self.proxy.listings.setdefault(self.target, answer)
        return answer


def pass_on(exchange: Exchange) -> None:
    """No fault. The connection ends without an answer where the server's does."""
    exchange.send(exchange.ask())


def answer(status: int, code: str) -> Fault:
    """Answer by an error of S3, without asking the server.

    Those to try: 500 InternalError, 503 SlowDown, 429 TooManyRequests and 403
    ExpiredToken.
    """

    def fault(exchange: Exchange) -> None:
        body = f"<Error><Code>{code}</Code><Message>injected</Message></Error>"
        headers = [("Content-Type", "application/xml")]
        exchange.send(Answer(status, code, headers, body.encode()))

    return fault


def delay(seconds: float) -> Fault:
    """Pass the request on after some seconds."""

    def fault(exchange: Exchange) -> None:
        exchange.proxy.closing.wait(seconds)
        pass_on(exchange)

    return fault


def reset_before_the_server(exchange: Exchange) -> None:
    """Reset the connection; the server was not asked."""
    exchange.reset()


def lose_the_reply(exchange: Exchange) -> None:
    """The server does what it is asked, and the connection ends without an answer."""
    exchange.ask()
    exchange.hang_up()


def reset_in_the_body(exchange: Exchange) -> None:
    """Reset the connection when half of the answer's body was sent."""
    whole = exchange.ask()
    exchange.send(halved(whole), len(whole.body))
    time.sleep(0.05)  # a reset throws away what the client has not read by then
    exchange.reset()


def truncate(exchange: Exchange) -> None:
    """End the connection in order when half of the announced body was sent."""
    whole = exchange.ask()
    exchange.send(halved(whole), len(whole.body))
    exchange.hang_up()


def shorten(exchange: Exchange) -> None:
    """Answer by half of the body, and announce that half: HTTP cannot see it."""
    exchange.send(halved(exchange.ask()))


def list_stale(exchange: Exchange) -> None:
    """Answer a listing by the first answer that the proxy saw to the same request."""
    exchange.send(exchange.proxy.listings.get(exchange.target) or exchange.ask())


def halved(whole: Answer) -> Answer:
    """The answer with the first half of its body."""
    body = whole.body[: len(whole.body) // 2]
    return Answer(whole.status, whole.reason, whole.headers, body, whole.length)
