"""Ten thousand malformed requests: each is refused in one form, and the server goes on as if nothing had been."""

import json
import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPException, HTTPResponse
from time import monotonic
from urllib.parse import urlsplit

import pytest

from .malformed import Malformed
from .sdk.place import Place, place
from .sdk.usage import create_meter, report, total

REQUESTS, CONNECTIONS, SECONDS = 10_000, 4, 40
PATIENCE_SECONDS, IMPATIENCE_SECONDS = 10, 0.05


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A server."""
    with place(tmp_path_factory.mktemp("fuzz")) as served:
        yield served


def test_malformed_requests_harm_nobody(server: Place) -> None:
    """No error of the server's, no answer in another form, nothing counted; and it still answers."""
    client = server.client()
    meter_id = create_meter(client, "tokens")
    report(client, "tokens", "12.5")
    began = monotonic()
    with ThreadPoolExecutor(CONNECTIONS) as together:
        senders = [together.submit(_sent, server, seed) for seed in range(CONNECTIONS)]
        found = sum((sender.result() for sender in senders), Counter[int]())
    assert monotonic() - began < SECONDS
    assert found.total() > REQUESTS * 0.8  # the others are cut off in the middle, and nobody answers them
    assert [status for status in found if status >= 500] == []
    assert found[400] > found.total() / 2
    assert str(total(client, meter_id)) == "12.5"
    assert "tokens" in [meter.event_name for meter in client.v1.billing.meters.list({"limit": 100})]


def _sent(server: Place, seed: int) -> "Counter[int]":
    """The statuses of what was answered, each looked at."""
    found: Counter[int] = Counter()
    malformed = Malformed(seed, server.admin_key)
    with Wire(server.url) as wire:
        for _ in range(REQUESTS // CONNECTIONS):
            request, is_whole = malformed.request()
            status = wire.answered(request, is_whole=is_whole)
            assert status or not is_whole, request[:300]
            found[status] += 1
    del found[0]
    return found


class Wire:
    """A connection to a server, begun anew where the server has ended it."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._address = (address.hostname or "", address.port or 0)
        self._connection: socket.socket | None = None

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def answered(self, request: bytes, *, is_whole: bool) -> int:
        """The status of the answer, which is as answers are; 0 for none, where a request isn't whole."""
        if self._connection is None:
            self._connection = socket.create_connection(self._address, PATIENCE_SECONDS)
        self._connection.settimeout(PATIENCE_SECONDS if is_whole else IMPATIENCE_SECONDS)
        try:
            with suppress(ConnectionError):  # refused before all of it is sent: there is an answer all the same
                self._connection.sendall(request)
            answer = HTTPResponse(self._connection, method="HEAD" if request.startswith(b"HEAD") else "GET")
            answer.begin()
            body = answer.read()
        except (OSError, HTTPException):
            self._end()
            return 0
        if not is_whole or answer.will_close:
            self._end()
        _check(answer, body, request)
        return answer.status

    def _end(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _check(answer: HTTPResponse, body: bytes, request: bytes) -> None:
    assert answer.getheader("content-type") == "application/json", (request[:300], answer.status, body[:300])
    if answer.status >= 400 and not request.startswith(b"HEAD"):
        error = json.loads(body)["error"]
        assert error["message"], request[:300]
        assert error["type"] in {"invalid_request_error", "idempotency_error", "rate_limit_error", "api_error"}
        assert "Traceback" not in error["message"]
