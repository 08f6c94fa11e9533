"""Wait until something is the case, by polling with a deadline."""

import socket
import time
from collections.abc import Callable
from pathlib import Path

TIMEOUT_SECONDS = 60
POLL_SECONDS = 0.02


def wait_until(condition: Callable[[], object], message: Callable[[], str] = lambda: "the time is over") -> None:
    """Wait until a condition is true. After a minute, fail with the message."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, message()
        time.sleep(POLL_SECONDS)


def wait_until_read(client: socket.socket) -> None:
    """Wait until a server on this machine has accepted a connection and read everything that the client sent."""
    wait_until(lambda: _unread_bytes(client) == 0)


def _unread_bytes(client: socket.socket) -> int | None:
    """Return the number of bytes in the receive queue of the server's end, or None if it is not accepted yet."""
    ends = f"{client.getpeername()[1]:04X}", f"{client.getsockname()[1]:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, queues, _, _, _, _, inode, *_ = line.split()
        if (local.partition(":")[2], remote.partition(":")[2]) == ends and inode != "0":
            return int(queues.partition(":")[2], 16)
    return None
