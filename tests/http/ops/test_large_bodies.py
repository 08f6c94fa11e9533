"""Large bodies: those of unauthenticated callers are not parsed, and others do not block other requests."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlencode

import psutil
import pytest
from tallybook.application.interfaces.http.request_body import UNBUDGETED_BYTES
from tallybook.application.metering import Metering

from tests.http.ops.connection import Connection, post_head
from tests.http.running_server import RunningServer, create_key, serve

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
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


def test_the_number_of_large_bodies_is_limited(url: str) -> None:
    """A caller without a key cannot fill the memory; small bodies are accepted, and large ones when memory is free."""
    size = 128 * 1024
    with serve(url, TALLYBOOK_MAX_BODY_BYTES=str(size)) as server, server.client() as client:
        with ExitStack() as others:
            for _ in range(64):
                other = others.enter_context(Connection(server))
                other.send(post_head(EVENTS, f"Content-Length: {size}"), "x" * (size - 1))
            deadline = time.monotonic() + 15
            while (unauthorized := client.post(EVENTS, content=b"x" * size, headers=FORM)).status_code == 401:
                assert time.monotonic() < deadline  # all of them have arrived by then
            assert (unauthorized.status_code, unauthorized.json()["error"]["code"]) == (503, "too_many_large_bodies")
            assert client.post(EVENTS, content=b"x" * UNBUDGETED_BYTES, headers=FORM).status_code == 401
        deadline = time.monotonic() + 15
        while (unavailable := client.post(EVENTS, content=b"x" * size, headers=FORM)).status_code == 503:
            assert time.monotonic() < deadline  # their responses have been sent
        assert unavailable.status_code == 401
