"""A connection to a server that sends whatever bytes it is told to."""

import json
import socket
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from tests.server.serving import PATIENCE_SECONDS, Serving


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer: its status, its headers by their names in lower case, and its body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        """The error in it."""
        error: dict[str, Any] = json.loads(self.body)["error"]
        return error


class Connection:
    """One connection to a server."""

    def __init__(self, serving: Serving) -> None:
        self.socket = socket.create_connection(("127.0.0.1", serving.port), PATIENCE_SECONDS)
        self._read = b""

    def __enter__(self) -> "Connection":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, *parts: bytes | str) -> "Connection":
        """Send bytes as they are."""
        for part in parts:
            self.socket.sendall(part.encode() if isinstance(part, str) else part)
        return self

    def answer(self) -> Answered:
        """Read one answer."""
        head = self._until(b"\r\n\r\n").decode()
        status_line, *lines = head.splitlines()
        pairs = (line.split(": ", 1) for line in lines if line)
        headers = {name.lower(): value for name, value in pairs}
        return Answered(int(status_line.split(" ")[1]), headers, self._exactly(int(headers["content-length"])))

    def is_closed(self) -> bool:
        """Read on, and tell whether the server has closed it and said nothing more; wait for that."""
        try:
            return self._read == b"" and self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def rest(self) -> int:
        """Read on until the server closes it; give how many bytes that was."""
        size = len(self._read)
        with suppress(ConnectionResetError):
            while got := self.socket.recv(1 << 20):
                size += len(got)
        return size

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._read:
            got = self.socket.recv(65_536)
            assert got, f"closed after {self._read!r}"
            self._read += got
        found, _, self._read = self._read.partition(mark)
        return found

    def _exactly(self, size: int) -> bytes:
        while len(self._read) < size:
            got = self.socket.recv(65_536)
            assert got, f"closed after {self._read!r}"
            self._read += got
        found, self._read = self._read[:size], self._read[size:]
        return found


def post(path: str, *headers: str) -> str:
    """The header of a POST."""
    return "".join(f"{line}\r\n" for line in (f"POST {path} HTTP/1.1", "Host: here", *headers, ""))


def get(path: str, *headers: str) -> str:
    """A GET."""
    return post(path, *headers).replace("POST", "GET", 1)
