"""Which IP addresses are public: those that a reference may lead to, and no others.

Python's `is_global` is not asked: it changes with the version, and 3.11 passes NAT64
and the metadata services' 192.0.0.192. What is not known here to be public is not.

Source: IANA's special-purpose registries for IPv4 and IPv6; RFC 6052 (NAT64), RFC 3056
(6to4), RFC 4380 (Teredo).
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
)

_CLOSED_4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this host
            "10.0.0.0/8",
            "100.64.0.0/10",  # behind a carrier; Alibaba's metadata
            "127.0.0.0/8",
            "168.63.129.16/32",  # Azure's host, from inside
            "169.254.0.0/16",  # link-local; metadata
            "172.16.0.0/12",
            "192.0.0.0/24",  # protocol assignments; Oracle's metadata
            "192.0.2.0/24",  # documentation
            "192.88.99.0/24",  # 6to4 relays
            "192.168.0.0/16",
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved; broadcast
        ),
    )
)
_OPEN_6 = IPv6Network("2000::/3")
"""Global unicast. Outside it: loopback, private, link-local, multicast, local NAT64."""

_CLOSED_6 = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # protocol assignments
            "2001:db8::/32",  # documentation
            "3fff::/20",  # documentation
        ),
    )
)
_MAPPED = IPv6Network("::ffff:0:0/96")
_NAT64 = IPv6Network("64:ff9b::/96")
_6TO4 = IPv6Network("2002::/16")
_TEREDO = IPv6Network("2001::/32")


def is_address(text: str) -> bool:
    """Whether a text is an address in its plain spelling, not a name."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def is_public(text: str) -> bool:
    """Whether an address is public, and each IPv4 address that is wrapped in it.

    Args:
        text: As `getaddrinfo` gives it; what is no address is not public.
    """
    try:
        address = ip_address(text)
    except ValueError:
        return False
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _CLOSED_4)
    if inside := list(_wrapped(address)):
        return all(is_public(str(one)) for one in inside)
    return address in _OPEN_6 and not any(address in net for net in _CLOSED_6)


def _wrapped(address: IPv6Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses that packets to an IPv6 address end up at, or pass."""
    bits = int(address)
    if address in _MAPPED or address in _NAT64:
        yield IPv4Address(bits & 0xFFFFFFFF)
    elif address in _6TO4:
        yield IPv4Address(bits >> 80 & 0xFFFFFFFF)
    elif address in _TEREDO:
        yield IPv4Address(bits >> 64 & 0xFFFFFFFF)  # the server
        yield IPv4Address(~bits & 0xFFFFFFFF)  # the client, as it is seen outside
