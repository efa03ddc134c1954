"""Servers that speak S3, one of each per session, and the sockets to reach them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
import servers

MARKERS = ("moto", "rclone", "radosgw")


@pytest.hookimpl(tryfirst=True)  # before -m looks at marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Who asks for a server is marked by its name."""
    for item in items:
        for name in MARKERS:
            if name in getattr(item, "fixturenames", ()):
                item.add_marker(name)


@pytest.fixture(autouse=True)
def _sockets(request: pytest.FixtureRequest) -> None:
    """Who asks for a server asks for sockets."""
    if any(request.node.get_closest_marker(name) for name in MARKERS):
        request.getfixturevalue("sockets")


@pytest.fixture
def sockets() -> Iterator[None]:
    """This test may open internet sockets."""
    with servers.sockets():
        yield


def started(
    kind: type[servers.Server], folders: pytest.TempPathFactory
) -> Iterator[servers.Server]:
    """A server in a folder of its own, from its start to its end."""
    with kind(folders.mktemp(kind.__name__)) as server:
        yield server


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    """moto: in memory, atomic exclusive create; it believes any credentials."""
    yield from started(servers.Moto, tmp_path_factory)


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    """rclone: files in a folder, with authentication and no exclusive create."""
    yield from started(servers.Rclone, tmp_path_factory)


@pytest.fixture(scope="session")
def radosgw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Cluster]:
    """Ceph's radosgw. A test that kills daemons starts them again."""
    yield from started(servers.Cluster, tmp_path_factory)


@pytest.fixture
def sign_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[servers.Server], str]:
    """Put a server's credentials, and no others, where wanllmdb finds them.

    Returns the server's endpoint.
    """

    def signed_in(server: servers.Server) -> str:
        for name in list(os.environ):
            if name.startswith("AWS_"):
                monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        return server.url

    return signed_in


@pytest.fixture
def moto_url(moto: servers.Server, sign_in: Callable[[servers.Server], str]) -> str:
    """The endpoint of moto; credentials for it are in the environment."""
    return sign_in(moto)


@pytest.fixture
def moto_bucket(moto: servers.Server) -> str:
    """The name of an empty bucket of moto."""
    return moto.bucket()
