"""Every remote does what the contract says."""

from __future__ import annotations

import os

import pytest

from wanllmdb._remotes.address import Address, open_remote
from wanllmdb.testing import RemoteContract


class TestFiles(RemoteContract):
    @pytest.fixture
    def remote(self, tmp_path):
        return open_remote(Address(f"{tmp_path}/remote"))


class TestMemory(RemoteContract):
    @pytest.fixture
    def remote(self):
        return open_remote(Address(f"memory://{os.urandom(6).hex()}/root"))


class TestS3(RemoteContract):
    @pytest.fixture
    def remote(self, moto_url, moto_bucket):
        address = Address(
            f"s3://{moto_bucket}/pre fix/ü", endpoint_url=moto_url, path_style=True
        )
        remote = open_remote(address)
        yield remote
        remote.close()


class TestS3WithoutPrefix(TestS3):
    @pytest.fixture
    def remote(self, moto_url, moto_bucket):
        remote = open_remote(Address(f"s3://{moto_bucket}", endpoint_url=moto_url))
        yield remote
        remote.close()
