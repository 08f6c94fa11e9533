"""A proxy that forwards requests and drops responses."""

import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit


class LossyProxy:
    """Forwards to a server. While `losses` is above 0, it drops the connection instead of a response."""

    def __init__(self, server_url: str) -> None:
        self.losses = 0
        self.lost = 0
        address = urlsplit(server_url)
        self._server = (address.hostname or "", address.port or 0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def run(self) -> None:
        """Accept connections until the proxy is closed."""
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                self._open |= {client, server}
                threading.Thread(target=self._forward, args=(client, server, False)).start()
                threading.Thread(target=self._forward, args=(server, client, True)).start()

    def close(self) -> None:
        """Close all connections and accept no more."""
        _shut_down(self._listener)
        for connection in list(self._open):
            _shut_down(connection)

    def _forward(self, source: socket.socket, target: socket.socket, is_response: bool) -> None:
        with suppress(OSError):
            while part := source.recv(65_536):
                if is_response and self.losses > 0:
                    self.losses -= 1
                    self.lost += 1
                    break
                target.sendall(part)
        _shut_down(source)
        _shut_down(target)


@contextmanager
def lossy_proxy(server_url: str) -> Generator[LossyProxy]:
    """Run a proxy in front of a server."""
    proxy = LossyProxy(server_url)
    thread = threading.Thread(target=proxy.run)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.close()
        thread.join()


def _shut_down(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
