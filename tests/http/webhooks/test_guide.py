"""The steps of docs/guides/webhooks.md work, with a running server and receiver."""

import re
import socket
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
import uvicorn
from tallybook.application import Metering
from tallybook.application.interfaces.http.settings import WebhookSettings

from tests.docs.documents import WEBHOOKS, blocks
from tests.http.running_server import RunningServer
from tests.waiting import wait_until


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def test_the_guide_is_followed(
    server: RunningServer, ledger_url: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first block to the last: both forms of events are received, and corrected usage counts."""
    monkeypatch.setenv("USAGE_URL", server.url)
    monkeypatch.setenv("USAGE_KEY", key)
    port = free_port()
    names: Any = {"__name__": "guide"}
    running: list[uvicorn.Server] = []
    threads: list[threading.Thread] = []
    try:
        for block in blocks(WEBHOOKS):
            if block.language != "python":
                continue
            if "for rejected in rejected_events():" in block.text:
                for received in (names["seen"], names["cloud_events"]):
                    wait_until(lambda received=received: len(received) == 2, lambda received=received: str(received))
            text = block.text.replace("127.0.0.1:8000", f"127.0.0.1:{port}")
            exec(compile("\n" * (block.line - 1) + text, str(WEBHOOKS), "exec"), names)
            if "app = FastAPI()" in block.text:
                running.append(uvicorn.Server(uvicorn.Config(names["app"], port=port, log_level="warning")))
                threads.append(threading.Thread(target=running[0].run))
                threads[0].start()
                wait_until(lambda: running[0].started)
        forged = httpx2.post(
            f"http://127.0.0.1:{port}/events", content=b"\xff", headers={"Stripe-Signature": "t=1,v1=1"}
        )
        unsigned = httpx2.post(f"http://127.0.0.1:{port}/events", json={"object": "event"})
    finally:
        for receiver_server in running:
            receiver_server.should_exit = True
        for thread in threads:
            thread.join()
    assert (forged.status_code, unsigned.status_code) == (400, 400)
    created_event, rejected_event = sorted(names["seen"], key=lambda event: event.type)
    assert (created_event.type, created_event.data.object.event_name) == ("billing.meter.created", "tokens")
    assert {event.get_type() for event in names["cloud_events"]} == {created_event.type, rejected_event.type}
    (reason,) = names["why"](rejected_event)
    assert reason.startswith("meter_event_invalid_value: ")
    with Metering.open(ledger_url) as metering:
        now = datetime.now(UTC)
        total = metering.total("tokens", "acme", now - timedelta(days=1), now + timedelta(days=1))
        assert (total.value, total.count) == (55, 2)


def test_the_guide_describes_every_setting() -> None:
    """With its default."""
    documented = re.findall(r"\| `TALLYBOOK_WEBHOOKS__(\w+)` \| `?([\w/]*)`? ?\|", WEBHOOKS.read_text())
    defaults = {
        name.lower(): (float(value) if value.isdigit() else value) if value else () for name, value in documented
    }
    assert defaults == WebhookSettings().model_dump()
