"""Resolves the hosts of webhook endpoints in threads of its own, so that a slow name server delays nothing else."""

import asyncio
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress

MAX_LOOKUPS = 32


class HostResolver:
    """Resolves hosts as the operating system does, which may take half a minute and can't be stopped.

    A host is looked up once at a time, and MAX_LOOKUPS hosts at once. The deadline of a delivery ends its wait for the
    lookup, which continues. The threads are daemons, for which neither the event loop nor the process waits at its end,
    as it would for those of an executor.
    """

    def __init__(self, max_lookups: int = MAX_LOOKUPS) -> None:
        self._slots = asyncio.Semaphore(max_lookups)
        self._lookups: dict[tuple[str, int], asyncio.Task[Sequence[str]]] = {}

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Return the addresses of a host, in the order in which they should be tried. Raises OSError."""
        lookup = self._lookups.get((host, port))
        if lookup is None:
            lookup = self._lookups[host, port] = asyncio.create_task(self._look_up(host, port))
            lookup.add_done_callback(lambda done: self._forget((host, port), done))
        return await asyncio.shield(lookup)

    async def _look_up(self, host: str, port: int) -> Sequence[str]:
        async with self._slots:
            loop = asyncio.get_running_loop()
            addresses: asyncio.Future[Sequence[str]] = loop.create_future()
            threading.Thread(
                target=_resolve, args=(host, port, loop, addresses), name="tallybook-resolve", daemon=True
            ).start()
            return await addresses

    def _forget(self, key: tuple[str, int], lookup: "asyncio.Task[Sequence[str]]") -> None:
        del self._lookups[key]
        if not lookup.cancelled():
            lookup.exception()  # so that asyncio doesn't log it if no delivery waits for it any more


def _resolve(host: str, port: int, loop: asyncio.AbstractEventLoop, addresses: "asyncio.Future[Sequence[str]]") -> None:
    """Resolve a host in the current thread, and set the result in the event loop unless that has ended."""
    result: Sequence[str] | Exception
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        result = list(dict.fromkeys(str(info[4][0]) for info in infos))
    except (OSError, UnicodeError) as error:  # UnicodeError: the name is no host name
        result = error
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(_set_result, addresses, result)


def _set_result(addresses: "asyncio.Future[Sequence[str]]", result: Sequence[str] | Exception) -> None:
    if addresses.cancelled():
        return
    if isinstance(result, Exception):
        addresses.set_exception(result)
    else:
        addresses.set_result(result)
