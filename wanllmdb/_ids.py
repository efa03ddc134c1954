"""Identifiers: short for people, wide enough never to meet again."""

from __future__ import annotations

import secrets
import time

_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"


def run_id() -> str:
    """12 base32 characters, 60 random bits."""
    bits = secrets.randbits(60)
    return "".join(_BASE32[(bits >> shift) & 31] for shift in range(0, 60, 5))


def stream_token() -> str:
    """10 random hex digits; never the pid, which a fork or a reboot repeats."""
    return secrets.token_hex(5)


def uid() -> str:
    """A UUIDv7 in hex: 48 bits of milliseconds, then random (RFC 9562, 5.7)."""
    value = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return f"{value:032x}"


def op_id() -> str:
    """8 hex digits naming one operation in errors and in the debug log."""
    return secrets.token_hex(4)
