"""A connection that breaks: what is asked arrives, and its answer is lost."""

import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit


class LossyProxy:
    """Forwards to a server. Where an answer comes while `losses` is above 0, the connection is dropped instead."""

    def __init__(self, server_url: str) -> None:
        self.losses = 0
        self.lost = 0
        address = urlsplit(server_url)
        self._server = (address.hostname or "", address.port or 0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def run(self) -> None:
        """Take connections until the proxy is closed."""
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                self._open |= {client, server}
                threading.Thread(target=self._carry, args=(client, server, False)).start()
                threading.Thread(target=self._carry, args=(server, client, True)).start()

    def close(self) -> None:
        """Break all connections and take no more."""
        _end(self._listener)
        for one in list(self._open):
            _end(one)

    def _carry(self, source: socket.socket, target: socket.socket, brings_answers: bool) -> None:
        with suppress(OSError):
            while part := source.recv(65_536):
                if brings_answers and self.losses > 0:
                    self.losses -= 1
                    self.lost += 1
                    break
                target.sendall(part)
        _end(source)
        _end(target)


@contextmanager
def lossy(server_url: str) -> Generator[LossyProxy]:
    """A connection to a server that can be told to break."""
    proxy = LossyProxy(server_url)
    thread = threading.Thread(target=proxy.run)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.close()
        thread.join()


def _end(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
