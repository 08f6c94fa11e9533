"""Ten thousand malformed requests: each gets an error in the documented form, and the server continues."""

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

from .invalid_requests import InvalidRequests
from .sdk.meter_events import create_meter, record_event, total
from .sdk.server_fixture import SdkServer, sdk_server

REQUESTS, CONNECTIONS, SECONDS = 10_000, 4, 40
TIMEOUT_SECONDS, SHORT_TIMEOUT_SECONDS = 10, 0.05


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SdkServer]:
    """A server."""
    with sdk_server(tmp_path_factory.mktemp("fuzz")) as running:
        yield running


def test_malformed_requests_are_harmless(server: SdkServer) -> None:
    """No server error, no other form of response, nothing recorded; and the server still responds."""
    client = server.client()
    meter_id = create_meter(client, "tokens")
    record_event(client, "tokens", "12.5")
    started_at = monotonic()
    with ThreadPoolExecutor(CONNECTIONS) as together:
        senders = [together.submit(_send_invalid, server, seed) for seed in range(CONNECTIONS)]
        statuses = sum((sender.result() for sender in senders), Counter[int]())
    assert monotonic() - started_at < SECONDS
    assert statuses.total() > REQUESTS * 0.8  # the others are incomplete and get no response
    assert [status for status in statuses if status >= 500] == []
    assert statuses[400] > statuses.total() / 2
    assert str(total(client, meter_id)) == "12.5"
    assert "tokens" in [meter.event_name for meter in client.v1.billing.meters.list({"limit": 100})]


def _send_invalid(server: SdkServer, seed: int) -> "Counter[int]":
    """Return the statuses of the responses, each of which is checked."""
    statuses: Counter[int] = Counter()
    malformed = InvalidRequests(seed, server.admin_key)
    with RawConnection(server.url) as wire:
        for _ in range(REQUESTS // CONNECTIONS):
            request, is_whole = malformed.request()
            status = wire.status_of(request, is_whole=is_whole)
            assert status or not is_whole, request[:300]
            statuses[status] += 1
    del statuses[0]
    return statuses


class RawConnection:
    """A connection to a server, reopened after the server closes it."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._address = (address.hostname or "", address.port or 0)
        self._connection: socket.socket | None = None

    def __enter__(self) -> "RawConnection":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def status_of(self, request: bytes, *, is_whole: bool) -> int:
        """Return the status of the checked response; 0 for none, if the request is incomplete."""
        if self._connection is None:
            self._connection = socket.create_connection(self._address, TIMEOUT_SECONDS)
        self._connection.settimeout(TIMEOUT_SECONDS if is_whole else SHORT_TIMEOUT_SECONDS)
        try:
            with suppress(ConnectionError):  # rejected before it is sent completely: there may be a response
                self._connection.sendall(request)
            response = HTTPResponse(self._connection, method="HEAD" if request.startswith(b"HEAD") else "GET")
            response.begin()
            body = response.read()
        except (OSError, HTTPException):
            self._close()
            return 0
        if not is_whole or response.will_close:
            self._close()
        _check_response(response, body, request)
        return response.status

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _check_response(response: HTTPResponse, body: bytes, request: bytes) -> None:
    assert response.getheader("content-type") == "application/json", (request[:300], response.status, body[:300])
    if response.status >= 400 and not request.startswith(b"HEAD"):
        error = json.loads(body)["error"]
        assert error["message"], request[:300]
        assert error["type"] in {"invalid_request_error", "idempotency_error", "rate_limit_error", "api_error"}
        assert "Traceback" not in error["message"]
