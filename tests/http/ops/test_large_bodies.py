"""Large bodies: those of unauthenticated callers are not parsed, and others do not block other requests."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlencode

import httpx2
import psutil
import pytest
from tallybook.application.interfaces.http.request_body import MAX_SMALL_BODY_BYTES, UNBUDGETED_BYTES
from tallybook.application.metering import Metering

from tests.http.ops.connection import Connection, post_head
from tests.http.running_server import TIMEOUT_SECONDS, RunningServer, create_key, serve

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}
EVENTS = "/v1/billing/meter_events"


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A ledger with one meter."""
    url = f"sqlite:///{tmp_path}/ledger.db"
    with Metering.open(url) as metering:
        metering.meters.configure("calls")
    return url


@pytest.fixture
def server(url: str) -> Iterator[RunningServer]:
    """A server of the ledger."""
    with serve(url) as server:
        yield server


def cpu_seconds(server: RunningServer) -> float:
    """Return the CPU time of the server."""
    times = psutil.Process(server.process.pid).cpu_times()
    return times.user + times.system


def test_unauthenticated_bodies_cost_little(server: RunningServer) -> None:
    """Parsing each of these forms would take some tenths of a second."""
    form = b"a=" + b"%41" * 1_300_000
    with server.client() as client:
        assert client.post(EVENTS).status_code == 401
        cpu_before = cpu_seconds(server)
        assert {client.post(EVENTS, content=form, headers=FORM).status_code for _ in range(10)} == {401}
        assert cpu_seconds(server) - cpu_before < 1.5


def test_a_large_event_is_recorded(server: RunningServer, url: str) -> None:
    """It is parsed in a thread, and errors in such a body are reported."""
    payload = {f"payload[{key}]": "x" * 5_000 for key in range(40)}
    good = {"event_name": "calls", "payload[stripe_customer_id]": "c", "payload[value]": "1", **payload}
    with server.client(create_key(url, "record")) as client:
        assert client.post(EVENTS, content=urlencode(good), headers=FORM).status_code == 200
        response = client.post(EVENTS, content=urlencode({**good, "what": "?"}), headers=FORM)
        assert (response.status_code, response.json()["error"]["code"]) == (400, "parameter_unknown")
    with server.client(create_key(url, "read")) as client:
        assert client.post(EVENTS, content=urlencode(good), headers=FORM).status_code == 403


def test_a_form_is_smaller_than_json(server: RunningServer, url: str) -> None:
    """Parsing 4 MB of a form would take half a second and 100 MB. The error comes after the body was read."""
    large_form = b"a=" + b"%41" * 1_300_000
    with server.client(create_key(url, "record")) as client:
        assert client.post(EVENTS, content=b"a=1", headers=FORM).status_code == 400
        process, cpu_before = psutil.Process(server.process.pid), cpu_seconds(server)
        memory_before = process.memory_info().rss
        for _ in range(10):
            response = client.post(EVENTS, content=large_form, headers=FORM)
            assert (response.status_code, response.json()["error"]["code"]) == (413, "request_too_large")
        assert cpu_seconds(server) - cpu_before < 1.5
        assert process.memory_info().rss - memory_before < 20_000_000
        large_json = b'{"a": "' + b"x" * 1_000_000 + b'"}'
        for content, headers in ((large_form[:MAX_SMALL_BODY_BYTES], FORM), (large_json, JSON)):
            response = client.post(EVENTS, content=content, headers=headers)
            assert (response.status_code, response.json()["error"]["code"]) == (400, "parameter_unknown")


def test_json_without_events_is_as_small_as_a_form(server: RunningServer, url: str) -> None:
    """A million conditions of a filter would take the server two gigabytes."""
    with server.client(create_key(url, "admin")) as client:
        for conditions, expected in ((1_000_000, "request_too_large"), (100_000, "parameter_invalid")):
            content = b'{"event_name": "a", "filter": {"any": [' + b"{}," * conditions + b"{}]}}"
            response = client.post("/v1/billing/meters/configure", content=content, headers=JSON)
            assert response.json()["error"]["code"] == expected


def stall(server: RunningServer, connections: ExitStack, number: int, size: int, *headers: str) -> None:
    """Send all but the last byte of large bodies, and leave their connections open."""
    for _ in range(number):
        other = connections.enter_context(Connection(server))
        other.send(post_head(EVENTS, f"Content-Length: {size}", *headers), "x" * (size - 1))


def test_callers_without_a_key_take_no_room_of_large_bodies(url: str) -> None:
    """Their large bodies are read to the end, so that they get a response, and not held in memory."""
    size = 128 * 1024
    recorder = create_key(url, "record")
    with serve(url, TALLYBOOK_MAX_BODY_BYTES=str(size)) as server, ExitStack() as others:
        stall(server, others, 100, size)
        with server.client(recorder) as client:
            assert client.post(EVENTS, content=b"x" * size, headers=FORM).status_code == 400
        with server.client() as client:
            assert client.post(EVENTS, content=b"x" * size, headers=FORM).status_code == 401


def test_the_large_bodies_of_one_key_are_limited(url: str) -> None:
    """Others of the key get 503 until there is room; its small bodies and the large ones of other keys are read."""
    size = 128 * 1024
    stalled, other = create_key(url, "record"), create_key(url, "record")
    with serve(url, TALLYBOOK_MAX_BODY_BYTES=str(size)) as server, server.client(stalled) as client:

        def post(body_bytes: int) -> httpx2.Response:
            return client.post(EVENTS, content=b"x" * body_bytes, headers=FORM)

        with ExitStack() as others:
            stall(server, others, 4, size, f"Authorization: Bearer {stalled}")
            deadline = time.monotonic() + TIMEOUT_SECONDS
            while (unavailable := post(size)).status_code == 400:
                assert time.monotonic() < deadline  # four of them have arrived by then
                stall(server, others, 1, size, f"Authorization: Bearer {stalled}")  # `post` may have taken its room
            assert (unavailable.status_code, unavailable.json()["error"]["code"]) == (503, "too_many_large_bodies")
            assert post(UNBUDGETED_BYTES).status_code == 400
            with server.client(other) as other_client:
                assert other_client.post(EVENTS, content=b"x" * size, headers=FORM).status_code == 400
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while (response := post(size)).status_code == 503:
            assert time.monotonic() < deadline  # the connections are closed by then
        assert response.status_code == 400


@pytest.mark.parametrize(
    ("length", "status"),
    [
        ("0" * 5_000, 401),
        ("0" * 5_000 + "1", 401),
        ("9" * 5_000, 400),
        ("9" * 18, 413),
        ("9" * 19, 413),
    ],
)
def test_a_content_length_may_have_any_number_of_digits(server: RunningServer, length: str, status: int) -> None:
    """Zeros at its start are ignored. A number that does not fit 64 bits is not valid HTTP."""
    with Connection(server) as connection:
        response = connection.send(post_head(EVENTS, f"Content-Length: {length}"), "x").read_response()
    assert response.status == status
