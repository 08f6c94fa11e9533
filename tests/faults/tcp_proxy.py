"""A TCP proxy in front of a PostgreSQL server. It simulates failures of the network, a load balancer or a server."""

import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from ..postgres import Server

CANNOT_CONNECT_NOW = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0"


class TcpProxy:
    """Forwards bytes in both directions, or discards them. It acknowledges all packets itself."""

    def __init__(self, server: Server) -> None:
        self._server_socket = f"{server.folder}/.s.PGSQL.5432"
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = [self._listener]
        self._silent: set[int] = set()
        self._upstreams: list[socket.socket] = []
        self._discards_new = False
        self.rejections = 0
        """The number of further connections to reject, as a starting server does."""
        self.on_bytes: Callable[[bytes], None] = lambda _: None
        """Called with the bytes of clients, before they are forwarded."""
        self.on_response: Callable[[bytes], None] = lambda _: None
        """Called with the bytes of the server, before they are forwarded."""
        port = self._listener.getsockname()[1]
        self.url = f"postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=disable&gssencmode=disable"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for open_socket in [*self._sockets, *self._upstreams]:
            open_socket.close()

    def fall_silent(self, *, for_new_connections: bool = True) -> None:
        """Discard all bytes of the current connections from now on, and of new ones if `for_new_connections`."""
        self._silent.update(range(len(self._upstreams)))
        self._discards_new = for_new_connections

    def recover(self) -> None:
        """Serve new connections, and close the silent ones towards the server."""
        self._discards_new = False
        for number, upstream in enumerate(list(self._upstreams)):
            if number in self._silent:
                with suppress(OSError):  # closed already
                    upstream.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):  # the proxy is closed
            while True:
                client, _ = self._listener.accept()
                self._sockets.append(client)
                if self.rejections:
                    self.rejections -= 1
                    _reject(client)
                    continue
                if self._discards_new:
                    self._silent.add(len(self._upstreams))
                upstream = socket.socket(socket.AF_UNIX)
                upstream.connect(self._server_socket)
                for source, target, observe in ((client, upstream, True), (upstream, client, False)):
                    arguments = (len(self._upstreams), source, target, observe)
                    threading.Thread(target=self._pump, args=arguments, daemon=True).start()
                self._upstreams.append(upstream)

    def _pump(self, number: int, source: socket.socket, target: socket.socket, is_client: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                (self.on_bytes if is_client else self.on_response)(data)
                if number not in self._silent:
                    target.sendall(data)
            if number not in self._silent:
                target.shutdown(socket.SHUT_RDWR)


def _reject(client: socket.socket) -> None:
    with suppress(OSError):
        client.recv(65_536)
        client.sendall(b"E" + struct.pack("!I", len(CANNOT_CONNECT_NOW) + 4) + CANNOT_CONNECT_NOW)
        client.close()
