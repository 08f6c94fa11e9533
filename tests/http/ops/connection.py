"""A TCP connection to a server that sends arbitrary bytes."""

import json
import socket
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from tests.http.running_server import TIMEOUT_SECONDS, RunningServer


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A response: status, headers by lower-case name, and body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        """Return the error of the body."""
        error: dict[str, Any] = json.loads(self.body)["error"]
        return error


class Connection:
    """A connection to a server."""

    def __init__(self, server: RunningServer) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), TIMEOUT_SECONDS)
        self._read = b""

    def __enter__(self) -> "Connection":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, *parts: bytes | str) -> "Connection":
        """Send bytes."""
        for part in parts:
            self.socket.sendall(part.encode() if isinstance(part, str) else part)
        return self

    def read_response(self) -> HttpResponse:
        """Read one response."""
        head = self.read_until(b"\r\n\r\n").decode()
        status_line, *lines = head.splitlines()
        pairs = (line.split(": ", 1) for line in lines if line)
        headers = {name.lower(): value for name, value in pairs}
        return HttpResponse(int(status_line.split(" ")[1]), headers, self._read_exactly(int(headers["content-length"])))

    def read_interim_response(self) -> bytes:
        """Read a response without headers and body, and return its status line."""
        return self.read_until(b"\r\n\r\n")

    def is_closed(self) -> bool:
        """Wait until the server closes the connection, and return whether it sent nothing more."""
        try:
            return self._read == b"" and self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def drain(self) -> int:
        """Read until the server closes the connection, and return the number of bytes."""
        size = len(self._read)
        with suppress(ConnectionResetError):
            while chunk := self.socket.recv(1 << 20):
                size += len(chunk)
        return size

    def read_until(self, delimiter: bytes) -> bytes:
        """Read up to a delimiter, and return what comes before it."""
        while delimiter not in self._read:
            chunk = self.socket.recv(65_536)
            assert chunk, f"closed after {self._read!r}"
            self._read += chunk
        data, _, self._read = self._read.partition(delimiter)
        return data

    def _read_exactly(self, size: int) -> bytes:
        while len(self._read) < size:
            chunk = self.socket.recv(65_536)
            assert chunk, f"closed after {self._read!r}"
            self._read += chunk
        data, self._read = self._read[:size], self._read[size:]
        return data


def post_head(path: str, *headers: str) -> str:
    """Return the header of a POST request."""
    return "".join(f"{line}\r\n" for line in (f"POST {path} HTTP/1.1", "Host: here", *headers, ""))


def get_request(path: str, *headers: str) -> str:
    """Return a GET request."""
    return post_head(path, *headers).replace("POST", "GET", 1)
