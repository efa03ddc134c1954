"""Servers that speak S3, one of each per session, and the sockets to reach them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import servers

MARKERS = ("moto", "rclone", "radosgw")


@pytest.hookimpl(tryfirst=True)  # before -m looks at marks, and xdist at groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Who asks for a server is marked by its name; one worker has all of Ceph's."""
    for item in items:
        for name in MARKERS:
            if name in getattr(item, "fixturenames", ()):
                item.add_marker(name)
        if item.get_closest_marker("radosgw"):
            item.add_marker(pytest.mark.xdist_group("radosgw"))


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
    with servers.sockets():
        server = kind(folders.mktemp(kind.__name__)).__enter__()
    try:
        yield server
    finally:
        server.__exit__(None, None, None)


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    """moto: in memory, atomic exclusive create; it believes any credentials."""
    yield from started(servers.Moto, tmp_path_factory)


@pytest.fixture
def moto_url(moto: servers.Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The endpoint of moto; credentials for it are in the environment."""
    give_credentials(moto, monkeypatch)
    return moto.url


@pytest.fixture
def moto_bucket(moto: servers.Server) -> str:
    """The name of an empty bucket of moto."""
    return moto.bucket()


def give_credentials(server: servers.Server, patch: pytest.MonkeyPatch) -> None:
    """Let the environment hold a server's credentials, and no others."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            patch.delenv(name)
    patch.setenv("AWS_ACCESS_KEY_ID", server.key)
    patch.setenv("AWS_SECRET_ACCESS_KEY", server.secret)
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    """rclone: files in a folder, with authentication and no exclusive create."""
    yield from started(servers.Rclone, tmp_path_factory)


@pytest.fixture(scope="session")
def radosgw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Cluster]:
    """Ceph's radosgw. A test that kills daemons starts them again."""
    yield from started(servers.Cluster, tmp_path_factory)
