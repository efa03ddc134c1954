"""Identifiers: short for people, wide enough never to meet again."""

from __future__ import annotations

import os
import time

_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"


def run_id() -> str:
    """12 base32 characters, 60 random bits."""
    bits = _random_bits(60)
    return "".join(_BASE32[(bits >> shift) & 31] for shift in range(0, 60, 5))


def stream_token() -> str:
    """10 random hex digits; never the pid, which a fork or a reboot repeats."""
    return os.urandom(5).hex()


def uid() -> str:
    """A UUIDv7 in hex: 48 bits of milliseconds, then random (RFC 9562, 5.7)."""
    value = (time.time_ns() // 1_000_000) << 80 | _random_bits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return f"{value:032x}"


def op_id() -> str:
    """8 hex digits naming one operation in errors and in the debug log."""
    return os.urandom(4).hex()


def _random_bits(count: int) -> int:
    # What `secrets` does, without the 7 ms that importing it costs.
    return int.from_bytes(os.urandom((count + 7) // 8)) >> -count % 8
