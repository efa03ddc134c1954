"""An S3 server of the session's own, and buckets in it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

import pytest

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "moto-key-id", "AWS_SECRET_ACCESS_KEY": "moto-secret-9d2f",
    "AWS_DEFAULT_REGION": "us-east-1",
}  # fmt: skip


@pytest.fixture(scope="session")
def _moto_server():
    """The URL of a server that keeps its buckets in memory, and checks no secret."""
    pytest.importorskip("moto")
    pytest.importorskip("s3fs")
    with pytest.MonkeyPatch.context() as patch:  # and no longer: others ask for none
        patch.setenv("ALLOW_TEST_SOCKETS", "1")
        port = free_port()
        server = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1",
             "-p", str(port)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            wait_for(port, server)
        except BaseException:
            server.kill()
            raise
    yield f"http://127.0.0.1:{port}"
    server.kill()
    server.wait()


@pytest.fixture
def moto_url(_moto_server, monkeypatch):
    """The server's URL; credentials for it are in the environment."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ALLOW_TEST_SOCKETS", "1")
    return _moto_server


@pytest.fixture
def moto_bucket(moto_url):
    """The name of an empty bucket."""
    import s3fs

    name = f"bucket-{os.urandom(6).hex()}"
    fs = s3fs.S3FileSystem(endpoint_url=moto_url, skip_instance_cache=True)
    fs.mkdir(name)
    fs.close_session(fs.loop, fs._s3creator)
    return name


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def wait_for(port, server):
    """Until the server takes connections."""
    end = time.monotonic() + 60
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert time.monotonic() < end
            assert server.poll() is None
            time.sleep(0.05)
