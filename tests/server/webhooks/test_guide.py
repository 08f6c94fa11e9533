"""docs/guides/webhooks.md does what it says, with a server and a receiver that run."""

import re
import socket
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import uvicorn
from tallybook.application import Metering
from tallybook.application.server.webhooks.settings import WebhookSettings

from tests.docs.documents import WEBHOOKS, blocks
from tests.server.serving import Serving
from tests.server.webhooks.receiver import until


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def test_the_guide_is_followed(serving: Serving, ledger_url: str, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its first block to its last: what it says is received, and what it mends counts."""
    monkeypatch.setenv("TALLYBOOK_URL", serving.url)
    monkeypatch.setenv("TALLYBOOK_KEY", key)
    port = free_port()
    names: Any = {"__name__": "guide"}
    running: list[uvicorn.Server] = []
    threads: list[threading.Thread] = []
    try:
        for block in blocks(WEBHOOKS):
            if "for one in refused():" in block.text:
                until(lambda: len(names["seen"]) == 2, lambda: str(names["seen"]))
            text = block.text.replace("127.0.0.1:8000", f"127.0.0.1:{port}")
            exec(compile("\n" * (block.line - 1) + text, str(WEBHOOKS), "exec"), names)
            if "app = FastAPI()" in block.text:
                running.append(uvicorn.Server(uvicorn.Config(names["app"], port=port, log_level="warning")))
                threads.append(threading.Thread(target=running[0].run))
                threads[0].start()
                until(lambda: running[0].started)
    finally:
        for one in running:
            one.should_exit = True
        for one in threads:
            one.join()
    made, refused = sorted(names["seen"], key=lambda one: one.type)
    assert (made.type, made.data.object.event_name) == ("billing.meter.created", "tokens")
    (said,) = names["why"](refused)
    assert said.startswith("meter_event_invalid_value: ")
    with Metering.open(ledger_url) as metering:
        now = datetime.now(UTC)
        total = metering.total("tokens", "acme", now - timedelta(days=1), now + timedelta(days=1))
        assert (total.value, total.count) == (55, 2)


def test_the_guide_tells_of_every_setting() -> None:
    """With its default."""
    told = re.findall(r"\| `TALLYBOOK_WEBHOOKS__(\w+)` \| (\d+) \|", WEBHOOKS.read_text())
    assert {name.lower(): float(value) for name, value in told} == WebhookSettings().model_dump()
