"""The opener: what it reads, and that it connects to nothing that it should not."""

from __future__ import annotations

import contextlib
import http.server
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import pytest

from wanllmdb import _opener, _references
from wanllmdb._opener import Network, fetch
from wanllmdb.errors import (
    DigestMismatchError,
    InvalidInputError,
    MissingExtraError,
    RemoteDeniedError,
    RemoteError,
    RemoteUnreachableError,
)

TABLE = Path(__file__).with_name("hostile_uris.txt").read_text("utf-8").splitlines()
HOSTILE = [line for line in TABLE if not line.startswith("#")]
PUBLIC = "93.184.215.14"
OTHER = "2606:2800:21f:cb07:6820:80da:af6b:8b2c"
METADATA = "169.254.169.254"


class Recorder:
    """A network of which every question and every connection is noted.

    Args:
        answers: What the names lead to: a list of addresses, or a list of such lists
            for one question after the other.
        port: Of the server that stands for all public addresses; None for no server.
        certificate: What is trusted.
    """

    def __init__(self, answers=None, port=None, certificate=None):
        self.answers = answers or {}
        self.port, self.certificate = port, certificate
        self.asked, self.connected = [], []
        self.dead = set()

    def resolve(self, host, port):
        self.asked.append((host, port))
        found = self.answers.get(host, [PUBLIC])
        if found and isinstance(found[0], list):
            return found.pop(0) if len(found) > 1 else found[0]
        return found

    def connect(self, address, port, seconds):
        self.connected.append((address, port))
        assert seconds == _opener.CONNECT_SECONDS
        if self.port is None or address in self.dead:
            raise ConnectionRefusedError(111, "Connection refused")
        return socket.create_connection(("127.0.0.1", self.port), seconds)

    def trust(self):
        return ssl.create_default_context(cafile=self.certificate)

    @property
    def network(self):
        return Network(self.resolve, self.connect, self.trust)


def fetched(uri, recorder, **options):
    """The bytes of a reference."""
    pieces = []
    size = fetch(uri, pieces.append, network=recorder.network, **options)
    data = b"".join(pieces)
    assert size == len(data)
    return data


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A self-signed certificate of two names and a public address; (file, key)."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    place = tmp_path_factory.mktemp("tls")
    names = f"DNS:data.example,DNS:cdn.example,IP:{PUBLIC}"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
         "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
         "/CN=data.example", "-addext", f"subjectAltName={names}",
         "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=place, check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return place / "cert.pem", place / "key.pem"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.seen.append((self.headers["Host"], self.path, self.headers))
        status, headers, body = self.server.pages.get(self.path, (404, {}, b""))
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *args):
        """Say nothing."""


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        """Say nothing: clients are meant to go away."""


@pytest.fixture
def site(certificate, monkeypatch):
    """A TLS server that stands for every public address, and its recorder."""
    monkeypatch.setenv("ALLOW_TEST_SOCKETS", "1")
    server = _Server(("127.0.0.1", 0), _Handler)
    server.pages, server.seen = {}, []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    server.recorder = Recorder(None, server.server_address[1], certificate[0])
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


# Where it does not go


@pytest.mark.parametrize("line", HOSTILE)
def test_hostile_uris_are_connected_to_by_nobody(line):
    """None of the 35; only a name is looked up, and its address is the end."""
    uri, _, behind = line.partition(" @ ")
    recorder = Recorder({uri.split("/")[2]: [behind]} if behind else {})
    with pytest.raises(InvalidInputError):
        fetched(uri, recorder)
    assert recorder.connected == []
    assert len(recorder.asked) == bool(behind)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "100.100.100.200", METADATA, "172.16.0.1",
        "192.0.0.192", "192.168.0.1", "168.63.129.16", "0.0.0.0", "255.255.255.255",
        "::1", "::", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "::ffff:127.0.0.1",
        "::ffff:a9fe:a9fe", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:a9fe:a9fe::",
        "2001:0:808:808::5601:5601", "ff02::1", "not-an-address",
    ],
)  # fmt: skip
@pytest.mark.parametrize("public", [[], [PUBLIC], [OTHER, PUBLIC]])
def test_one_address_that_is_not_public_is_enough(address, public):
    """All that a name leads to are looked at before the first connection."""
    recorder = Recorder({"data.example": [*public, address]})
    with pytest.raises(InvalidInputError, match="not public"):
        fetched("https://data.example/x", recorder)
    assert recorder.connected == []


@pytest.mark.parametrize(
    "target",
    [
        f"https://{METADATA}/latest/meta-data/", f"//{METADATA}/x",
        f"http://{METADATA}/", "http://data.example/x", "file:///etc/passwd",
        "s3://bucket/x", "gopher://cdn.example/x", "https://[::1]/", "https://[::1/",
        "https://localhost/x", "https://127.1/", "https://a:b@cdn.example/x",
        "https://cdn.example/%2e%2e/x", "https://rebound.example/x",
        "https://2852039166/", "javascript:alert(1)",
    ],
)  # fmt: skip
def test_a_redirect_is_judged_like_the_first_uri(site, target):
    """Scheme, host, path and addresses: there is the one connection, to the first."""
    site.pages["/x"] = (302, {"Location": target}, b"gone there")
    site.recorder.answers["rebound.example"] = [METADATA]
    with pytest.raises(InvalidInputError):
        fetched("https://data.example/x", site.recorder)
    assert site.recorder.connected == [(PUBLIC, 443)]
    assert [path for _, path, _ in site.seen] == ["/x"]


@pytest.mark.parametrize("status", [301, 303, 307, 308])
def test_each_kind_of_redirect_is_judged(site, status):
    """Whatever it says of how to ask again."""
    target = f"https://{METADATA}/latest/meta-data/"
    site.pages["/x"] = (status, {"Location": target}, b"gone there")
    with pytest.raises(InvalidInputError, match="not public"):
        fetched("https://data.example/x", site.recorder)
    assert site.recorder.connected == [(PUBLIC, 443)]


def test_a_name_that_changes_its_mind_is_not_asked_again(site):
    """Rebinding: what was checked is what is connected to."""
    site.pages["/x"] = (200, {}, b"bytes")
    site.recorder.answers["data.example"] = [[PUBLIC], ["127.0.0.1"]]
    assert fetched("https://data.example/x", site.recorder) == b"bytes"
    assert site.recorder.asked == [("data.example", 443)]
    assert site.recorder.connected == [(PUBLIC, 443)]


def test_a_redirect_to_the_same_name_is_checked_anew(site):
    """Rebinding between two hops is seen, too."""
    site.pages["/x"] = (302, {"Location": "/y"}, b"")
    site.pages["/y"] = (200, {}, b"secret")
    site.recorder.answers["data.example"] = [[PUBLIC], [METADATA]]
    with pytest.raises(InvalidInputError, match="not public"):
        fetched("https://data.example/x", site.recorder)
    assert site.recorder.connected == [(PUBLIC, 443)]


def test_no_proxy_of_the_environment_is_asked(site, monkeypatch):
    """A proxy would resolve the name by itself."""
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    site.pages["/x"] = (200, {}, b"bytes")
    assert fetched("https://data.example/x", site.recorder) == b"bytes"
    assert site.recorder.connected == [(PUBLIC, 443)]


def test_the_real_network_is_refused_like_the_tests_own():
    """By default, too: this very machine is not connected to."""
    assert Network() == _opener.NETWORK
    with pytest.raises(RemoteDeniedError, match="asks for no socket"):
        fetch("https://data.example/x", lambda piece: None)


def test_the_resolver_gives_each_address_once(monkeypatch):
    """All that getaddrinfo has, in its order; a failure is one of the reference."""
    found = [
        (socket.AF_INET6, 1, 6, "", (OTHER, 443, 0, 0)),
        (socket.AF_INET, 1, 6, "", (PUBLIC, 443)),
        (socket.AF_INET, 2, 17, "", (PUBLIC, 443)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: found)
    assert _opener._resolve("data.example", 443) == [OTHER, PUBLIC]

    def fail(*args, **options):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(RemoteUnreachableError, match="not known"):
        fetch("https://data.example/x", lambda piece: None)


# What it reads


def test_bytes_are_handed_over(site):
    """By the checked address, under the name that was asked for."""
    data = os.urandom(3 << 20)
    site.pages["/a%20b/%C3%A9?rev=1"] = (200, {}, data)
    assert fetched("https://data.example:8443/a%20b/é?rev=1", site.recorder) == data
    assert site.recorder.connected == [(PUBLIC, 8443)]
    ((host, _, headers),) = site.seen
    assert host == "data.example:8443"
    assert headers["Accept-Encoding"] == "identity"
    assert "Authorization" not in headers
    assert "Cookie" not in headers


def test_an_empty_path_is_the_root(site):
    """And an address is connected to without a question."""
    site.pages["/"] = (200, {}, b"root")
    assert fetched(f"https://{PUBLIC}", site.recorder) == b"root"
    assert site.recorder.asked == []


def test_chunks_are_put_together(site):
    """A body without a length, whose end is marked."""
    body = b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    headers = {"Transfer-Encoding": "chunked", "Content-Length": None}
    site.pages["/x"] = (200, headers, body)
    assert fetched("https://data.example/x", site.recorder) == b"abcde"
    site.pages["/x"] = (200, headers, body[:12])
    with pytest.raises(RemoteUnreachableError):
        fetched("https://data.example/x", site.recorder)


def test_redirects_are_followed(site):
    """Three of them, to another host too, which may have signed its URI."""
    signed = "/z?X-Amz-Signature=s&token=t"
    site.pages["/w"] = (301, {"Location": "x"}, b"")
    site.pages["/x"] = (307, {"Location": "https://cdn.example/y#part"}, b"")
    site.pages["/y"] = (302, {"Location": signed}, b"")
    site.pages[signed] = (200, {}, b"bytes")
    site.recorder.answers["cdn.example"] = [OTHER]
    assert fetched("https://data.example/w", site.recorder) == b"bytes"
    assert [host for host, _, _ in site.seen] == 2 * ["data.example"] + 2 * [
        "cdn.example"
    ]
    assert [a for a, _ in site.recorder.connected] == [PUBLIC, PUBLIC, OTHER, OTHER]


@pytest.mark.parametrize("location", ["/x", "", "https://", "https:///x", None])
def test_more_than_three_redirects_are_too_many(site, location):
    """A circle ends, one without a target too."""
    headers = {} if location is None else {"Location": location}
    site.pages["/x"] = (302, headers, b"")
    with pytest.raises(RemoteError, match="more than 3 redirects"):
        fetched("https://data.example/x", site.recorder)
    assert len(site.seen) == 4


def test_the_next_address_is_tried(site):
    """Where one does not answer; where none does, the last reason is said."""
    site.pages["/x"] = (200, {}, b"bytes")
    site.recorder.answers["data.example"] = [OTHER, PUBLIC]
    site.recorder.dead = {OTHER}
    assert fetched("https://data.example/x", site.recorder) == b"bytes"
    site.recorder.dead = {OTHER, PUBLIC}
    with pytest.raises(RemoteUnreachableError, match="Connection refused"):
        fetched("https://data.example/x", site.recorder)
    site.recorder.answers["data.example"] = []
    with pytest.raises(RemoteUnreachableError, match="no address"):
        fetched("https://data.example/x", site.recorder)


def test_the_certificate_must_be_the_names(site):
    """One of another name, or of nobody that is trusted: nothing is asked."""
    with pytest.raises(RemoteUnreachableError, match="certificate is not valid"):
        fetched("https://other.example/x", site.recorder)
    site.recorder.certificate = None
    with pytest.raises(RemoteUnreachableError, match="self-signed"):
        fetched("https://data.example/x", site.recorder)
    assert site.seen == []


@pytest.mark.parametrize("status", [401, 403, 404, 410, 418, 429, 500, 503, 204, 206])
def test_other_answers_are_errors(site, status):
    """Which say whether access is missing, or the bytes are."""
    site.pages["/x"] = (status, {}, b"" if status == 204 else b"a page of words")
    kind = RemoteDeniedError if status in (401, 403) else RemoteUnreachableError
    with pytest.raises(kind, match=str(status)) as caught:
        fetched("https://data.example/x", site.recorder)
    assert caught.value.identity["status"] == status
    assert caught.value.exit_code == 8


@pytest.fixture
def said_end(site, monkeypatch):
    """The server ends its connections as TLS has it, not by going away."""

    def finish(request):
        with contextlib.suppress(OSError):
            request.settimeout(5)
            request.unwrap().close()
        request.close()

    monkeypatch.setattr(site, "shutdown_request", finish)


def test_an_end_that_comes_too_soon_is_seen(site, said_end):
    """A server that gives less than it promised has no short file."""
    site.pages["/x"] = (200, {"Content-Length": "10"}, b"short")
    with pytest.raises(RemoteUnreachableError, match="5 bytes too soon"):
        fetched("https://data.example/x", site.recorder)


def test_a_broken_connection_is_no_end(site):
    """With a length or without: only what TLS ends has ended."""
    for length in ("10", None):
        headers = {"Content-Length": length, "Connection": "close"}
        site.pages["/x"] = (200, headers, b"short")
        with pytest.raises(RemoteUnreachableError, match="EOF"):
            fetched("https://data.example/x", site.recorder)


def test_a_body_without_a_length_ends_where_tls_ends(site, said_end):
    """As old servers send what they make on the way."""
    site.pages["/x"] = (200, {"Content-Length": None, "Connection": "close"}, b"bytes")
    assert fetched("https://data.example/x", site.recorder) == b"bytes"


def test_compressed_bytes_are_others(site):
    """They were asked for as they are."""
    site.pages["/x"] = (200, {"Content-Encoding": "gzip"}, b"\x1f\x8b")
    with pytest.raises(RemoteError, match="compressed"):
        fetched("https://data.example/x", site.recorder)


def test_silence_ends(site, monkeypatch):
    """A host that says no more is left."""
    monkeypatch.setattr(_opener, "READ_SECONDS", 0.2)
    done = threading.Event()
    monkeypatch.setattr(_Handler, "do_GET", lambda self: done.wait(30))
    started = time.monotonic()
    with pytest.raises(RemoteUnreachableError, match="timed out"):
        fetched("https://data.example/x", site.recorder)
    assert time.monotonic() - started < _opener.CONNECT_SECONDS
    done.set()


def test_no_more_bytes_are_taken_than_asked_for(site):
    """Whatever the server has, or says that it has."""
    site.pages["/x"] = (200, {}, bytes(5 << 20))
    taken = []
    with pytest.raises(DigestMismatchError, match="more than the 100 bytes"):
        fetch("https://data.example/x", taken.append, max_bytes=100,
              network=site.recorder.network)  # fmt: skip
    assert sum(map(len, taken)) <= 100
    assert len(fetched("https://data.example/x", site.recorder, max_bytes=5 << 20))


def test_what_fails_where_it_is_written_passes(tmp_path):
    """A full disk is no failure of the reference."""
    (tmp_path / "x").write_bytes(b"bytes")

    def full(piece):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        fetch((tmp_path / "x").as_uri(), full)


# Files and buckets


def test_a_regular_file_is_read(tmp_path):
    """By its decoded path, through a link as well."""
    (tmp_path / "a b%é").write_bytes(b"bytes" * 1000)
    (tmp_path / "link").symlink_to(tmp_path / "a b%é")
    for name in ("a b%é", "link"):
        assert fetched((tmp_path / name).as_uri(), Recorder()) == b"bytes" * 1000


@pytest.mark.parametrize("kind", ["pipe", "directory", "device"])
def test_nothing_but_a_regular_file_is_read(tmp_path, kind):
    """Nobody waits for a pipe, and no device is read for ever."""
    path = Path("/dev/zero") if kind == "device" else tmp_path / "x"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    with pytest.raises(InvalidInputError, match="no regular file"):
        fetched(path.as_uri(), Recorder())


def test_a_file_that_is_not_there_is_unreachable(tmp_path):
    """Which may be mended: a disk that is not mounted."""
    with pytest.raises(RemoteUnreachableError, match="No such file"):
        fetched((tmp_path / "x").as_uri(), Recorder())


@pytest.mark.parametrize(
    ("scheme", "package"), [("s3", "s3fs"), ("gs", "gcsfs"), ("az", "adlfs")]
)
@pytest.mark.parametrize("lacks", ["fsspec", "package"])
def test_a_missing_package_is_named(monkeypatch, scheme, package, lacks):
    """With the command that installs it, whether fsspec is there or not."""

    def filesystem(protocol, **_):
        raise ImportError(f"Please install {package}")

    fake = types.SimpleNamespace(filesystem=filesystem)
    monkeypatch.setitem(sys.modules, "fsspec", None if lacks == "fsspec" else fake)
    with pytest.raises(MissingExtraError, match=rf"wanllmdb\[{scheme}\]"):
        fetched(f"{scheme}://bucket/x", Recorder())


@pytest.fixture
def bucket(monkeypatch, tmp_path):
    """An fsspec whose buckets are directories."""

    class Filesystem:
        def __init__(self, protocol, **options):
            self.protocol = protocol
            made.append((protocol, options))

        def connect(self):
            meta = types.SimpleNamespace(endpoint_url=endpoint[0])
            return types.SimpleNamespace(meta=meta)

        def walk(self, path, detail):
            assert detail
            for place in [tmp_path / path, *(tmp_path / path).rglob("*")]:
                if place.is_dir():
                    files = [p for p in place.iterdir() if p.is_file()]
                    yield str(place), {}, {p.name: told(p) for p in files}

        def find(self, path, detail, max_items):
            assert detail
            found = [told(p) for p in (tmp_path / path).rglob("*") if p.is_file()]
            return {one["name"]: one for one in found[:max_items]}

        def info(self, path):
            place = tmp_path / path.removeprefix(f"{self.protocol}://")
            return {"type": "directory" if place.is_dir() else "file"}

        def open(self, path, mode):
            assert mode == "rb"
            place = path.removeprefix(f"{self.protocol}://")
            if place.startswith("gone"):
                raise FileNotFoundError(place)
            if place.startswith("denied"):
                raise PermissionError("Forbidden")
            if place.startswith("broken"):
                raise RuntimeError("EndpointConnectionError")
            return (tmp_path / place).open("rb")

    made, endpoint = [], ["https://s3.amazonaws.com"]

    def told(path):
        name = path.relative_to(tmp_path).as_posix()
        return {"name": name, "size": path.stat().st_size, "type": "file"}

    for name in _opener._ENDPOINTS:
        monkeypatch.delenv(name, raising=False)
    fake = types.SimpleNamespace(filesystem=Filesystem)
    monkeypatch.setitem(sys.modules, "fsspec", fake)
    return types.SimpleNamespace(place=tmp_path, made=made, endpoint=endpoint)


@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
def test_buckets_are_read_by_fsspec(bucket, scheme):
    """By the filesystem of the scheme alone; its failures are said in our words."""
    (bucket.place / "b").mkdir()
    (bucket.place / "b" / "x").write_bytes(b"bytes")
    assert fetched(f"{scheme}://b/x", Recorder()) == b"bytes"
    wanted = {"use_listings_cache": False}
    if scheme == "s3":
        wanted["default_block_size"] = 8 << 20
    assert bucket.made == [(scheme, wanted)]
    with pytest.raises(RemoteUnreachableError, match="No such file"):
        fetched(f"{scheme}://b/y", Recorder())
    with pytest.raises(RemoteUnreachableError, match="Nothing is there"):
        fetched(f"{scheme}://gone/y", Recorder())
    with pytest.raises(RemoteDeniedError, match="Forbidden"):
        fetched(f"{scheme}://denied/x", Recorder())
    with pytest.raises(RemoteUnreachableError, match="EndpointConnectionError"):
        fetched(f"{scheme}://broken/x", Recorder())


def test_a_prefix_of_a_bucket_is_no_empty_object(bucket):
    """As which s3fs opens one."""
    (bucket.place / "b" / "prefix").mkdir(parents=True)
    for uri in ("s3://b/prefix", "s3://b/prefix/", "s3://b"):
        with pytest.raises(InvalidInputError, match="directory of objects"):
            fetched(uri, Recorder())


def test_chains_of_schemes_are_not_fsspecs_to_follow(bucket):
    """`::` in a key stays in it."""
    (bucket.place / "b" / "x::file:" / "etc").mkdir(parents=True)
    (bucket.place / "b" / "x::file:" / "etc" / "passwd").write_bytes(b"key")
    assert fetched("s3://b/x::file:/etc/passwd", Recorder()) == b"key"


@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
def test_the_objects_below_a_prefix_are_listed(bucket, scheme):
    """By their keys below it; a bound ends it, and nothing is an error."""
    for name in ("a", "d/b", "d/e/c"):
        path = bucket.place / "b" / "p" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (bucket.place / "b" / "empty").mkdir()
    for uri in (f"{scheme}://b/p/", f"{scheme}://b/p"):
        found = _opener.objects(uri, network=Recorder().network)
        assert [(one.path, one.size) for one in found] == [
            ("a", 1), ("d/b", 3), ("d/e/c", 5)
        ]  # fmt: skip
    assert _opener.objects(f"{scheme}://b/p/a", network=Recorder().network) is None
    with pytest.raises(InvalidInputError, match="more than 2 objects"):
        _opener.objects(f"{scheme}://b/p/", 2, network=Recorder().network)
    with pytest.raises(RemoteUnreachableError, match="No such file") as raised:
        _opener.objects(f"{scheme}://b/empty/", network=Recorder().network)
    assert _opener.is_missing(raised.value)


def test_amazons_own_name_must_lead_outside(bucket, monkeypatch):
    """Unless the user has set the endpoint, which may be anything."""
    (bucket.place / "b").mkdir()
    (bucket.place / "b" / "x").write_bytes(b"bytes")
    inside = Recorder({"s3.amazonaws.com": [METADATA]})
    with pytest.raises(InvalidInputError, match=METADATA):
        fetched("s3://b/x", inside)
    with pytest.raises(InvalidInputError, match=METADATA):
        _opener.objects("s3://b/", network=inside.network)
    assert fetched("s3://b/x", Recorder({"s3.amazonaws.com": [PUBLIC]})) == b"bytes"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://s3.amazonaws.com")
    assert fetched("s3://b/x", inside) == b"bytes"
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    bucket.endpoint[0] = "http://127.0.0.1:9000"  # of a profile
    assert fetched("s3://b/x", Recorder()) == b"bytes"


def test_files_of_this_machine_can_be_refused(tmp_path):
    """For references that come from elsewhere."""
    (tmp_path / "x").write_bytes(b"mine")
    uri = (tmp_path / "x").as_uri()
    assert fetched(uri, Recorder()) == b"mine"
    with pytest.raises(InvalidInputError, match="comes from another one"):
        fetched(uri, Recorder(), local=False)


def test_the_opener_is_loaded_by_those_who_fetch():
    """Importing, and referring, load neither it nor ssl nor http."""
    code = """
import sys, wanllmdb
artifact = wanllmdb.Artifact("a", "t")
artifact.add_reference("s3://bucket/x", size=1)
print(*{"wanllmdb._opener", "ssl", "http.client", "fsspec"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          timeout=60, check=True)  # fmt: skip
    assert done.stdout.split() == []


def test_a_reference_is_parsed_before_anything_else():
    """What is no text is refused like any other."""
    for uri in (None, 7, b"s3://b/x", Path("/x")):
        with pytest.raises(InvalidInputError):
            fetch(uri, lambda piece: None)
        with pytest.raises(InvalidInputError):
            _references.for_storage(uri)
