"""Whether exclusive create is exclusive at a remote: found out by racing."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

from wanllmdb._remotes.port import Remote

THREADS = 8
ROUNDS = 10


def probe(remote: Remote) -> bool:
    """Race many creates for one key, and again; whether each had one winner.

    A check of one create after another is no proof: there are servers that pass it and
    fail this. Passing is evidence, not proof. Where it fails, the remote is safe for a
    single writer only. What it writes, below ``probe/``, is removed again.

    Args:
        remote: The remote, which must be writable.

    Returns:
        Whether every key had exactly one winner, and holds the winner's bytes.
    """
    nonce = os.urandom(8).hex()
    keys = [f"probe/{nonce}/{number}" for number in range(ROUNDS)]
    try:
        with ThreadPoolExecutor(THREADS) as pool:
            return all(_is_won_once(remote, key, pool) for key in keys)
    finally:
        remote.delete(keys)


def _is_won_once(remote: Remote, key: str, pool: ThreadPoolExecutor) -> bool:
    start = threading.Barrier(THREADS)

    def race(data: bytes) -> bool:
        start.wait()
        return remote.create(key, data)

    racers = [f"{number} {os.urandom(8).hex()}".encode() for number in range(THREADS)]
    won = list(pool.map(race, racers))
    winners = [data for data, has_won in zip(racers, won) if has_won]
    return len(winners) == 1 and remote.get(key) == winners[0]
