"""Large bodies: what strangers send isn't even read, and who is let in is in nobody's way."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlencode

import psutil
import pytest
from tallybook.application.metering import Metering
from tallybook.application.server.reception import SMALL_BYTES

from tests.server.ops.connection import Connection, post
from tests.server.serving import Serving, create_key, serve

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
EVENTS = "/v1/billing/meter_events"


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A ledger with one meter."""
    url = f"sqlite:///{tmp_path}/ledger.db"
    with Metering.open(url) as metering:
        metering.configure_meter("calls")
    return url


@pytest.fixture
def serving(url: str) -> Iterator[Serving]:
    """A server of it."""
    with serve(url) as serving:
        yield serving


def seconds(serving: Serving) -> float:
    """How long the server has worked."""
    times = psutil.Process(serving.process.pid).cpu_times()
    return times.user + times.system


def test_what_strangers_send_costs_little(serving: Serving) -> None:
    """Reading each of these forms would take the server some tenths of a second."""
    form = b"a=" + b"%41" * 1_300_000
    with serving.client() as client:
        assert client.post(EVENTS).status_code == 401
        began = seconds(serving)
        assert {client.post(EVENTS, content=form, headers=FORM).status_code for _ in range(10)} == {401}
        assert seconds(serving) - began < 1.5


def test_a_large_event_is_recorded(serving: Serving, url: str) -> None:
    """Also one that is read in a thread; and what is wrong with such a one is told."""
    payload = {f"payload[{key}]": "x" * 5_000 for key in range(40)}
    good = {"event_name": "calls", "payload[stripe_customer_id]": "c", "payload[value]": "1", **payload}
    with serving.client(create_key(url, "record")) as client:
        assert client.post(EVENTS, content=urlencode(good), headers=FORM).status_code == 200
        refused = client.post(EVENTS, content=urlencode({**good, "what": "?"}), headers=FORM)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "parameter_unknown")
    with serving.client(create_key(url, "read")) as client:
        assert client.post(EVENTS, content=urlencode(good), headers=FORM).status_code == 403


def test_there_is_room_for_so_many_large_bodies_only(url: str) -> None:
    """Who has no key can't fill the memory; small bodies are taken all the same, and large ones when there is room."""
    size = 128 * 1024
    with serve(url, TALLYBOOK_MOST_BODY_BYTES=str(size)) as serving, serving.client() as client:
        with ExitStack() as others:
            for _ in range(64):
                other = others.enter_context(Connection(serving))
                other.send(post(EVENTS, f"Content-Length: {size}"), "x" * (size - 1))
            deadline = time.monotonic() + 15
            while (refused := client.post(EVENTS, content=b"x" * size, headers=FORM)).status_code == 401:
                assert time.monotonic() < deadline  # all of them have come long ago
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "too_many_large_bodies")
            assert client.post(EVENTS, content=b"x" * SMALL_BYTES, headers=FORM).status_code == 401
        deadline = time.monotonic() + 15
        while (taken := client.post(EVENTS, content=b"x" * size, headers=FORM)).status_code == 503:
            assert time.monotonic() < deadline  # they are gone long ago
        assert taken.status_code == 401
