"""Whether exclusive create is exclusive: found out by racing."""

from __future__ import annotations

import os
import time

import pytest

from wanllmdb._remotes.fsspec_remote import MemoryRemote
from wanllmdb._remotes.port import MissingKeyError
from wanllmdb._remotes.probe import probe
from wanllmdb.errors import RemoteDeniedError


class Ignores(MemoryRemote):
    """A server that does not know the condition: everybody wins."""

    def create(self, key, data):
        self.put(key, data)
        return True


class LooksFirst(MemoryRemote):
    """A server that looks, and then writes: right one by one, wrong in a race."""

    def create(self, key, data):
        try:
            return self.get(key) == data
        except MissingKeyError:
            time.sleep(0.01)
            self.put(key, data)
            return True


class KeepsTheLoser(MemoryRemote):
    """A server that answers rightly, and stores the wrong one."""

    def create(self, key, data):
        won = super().create(key, data)
        if not won:
            self.put(key, data)
        return won


class TellsNobody(MemoryRemote):
    """A server whose conditions always fail."""

    def create(self, key, data):
        super().create(key, data)
        return False


def fresh(kind):
    return kind(f"memory://{os.urandom(6).hex()}")


def test_an_exclusive_create_passes():
    """And nothing of the probe is left."""
    remote = fresh(MemoryRemote)
    remote.put("mine", b"")
    assert probe(remote) is True
    assert [listed.key for listed in remote.iter_keys("")] == ["mine"]


@pytest.mark.parametrize("kind", [Ignores, LooksFirst, KeepsTheLoser, TellsNobody])
def test_any_other_create_fails(kind):
    """Also one that passes a check of one after another."""
    remote = fresh(kind)
    assert probe(remote) is False
    assert list(remote.iter_keys("")) == []


def test_looking_first_passes_one_after_another():
    """Which is why the probe races."""
    remote = fresh(LooksFirst)
    assert remote.create("key", b"1") is True
    assert remote.create("key", b"2") is False


def test_what_cannot_be_probed_is_no_answer():
    """It raises what the remote raises."""

    class Denied(MemoryRemote):
        def create(self, key, data):
            raise RemoteDeniedError("no")

    with pytest.raises(RemoteDeniedError):
        probe(fresh(Denied))
