"""Loaded by every Python that a test starts: an internet socket is refused there.

Promise 4: no socket unless asked for. Local sockets (AF_UNIX), as multiprocessing uses
them, are another matter. A test that asks for sockets sets ALLOW_TEST_SOCKETS.
"""

import os
import sys

EVENTS = {
    "socket.connect": 1, "socket.bind": 1, "socket.sendto": 1, "socket.sendmsg": 1,
    "socket.getaddrinfo": 0, "socket.gethostbyname": 0, "socket.gethostbyaddr": 0,
}  # fmt: skip
"""Which argument of each audit event is the address."""


def refuse(event, arguments):
    """Raise where something leaves, or listens to, the machine."""
    if event in EVENTS and not os.environ.get("ALLOW_TEST_SOCKETS"):
        address = arguments[EVENTS[event]]
        if address is not None and (EVENTS[event] == 0 or isinstance(address, tuple)):
            message = f"{event} to {address!r} in a test that asks for no socket"
            raise PermissionError(message)


sys.addaudithook(refuse)
