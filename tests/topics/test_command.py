"""The commands `consume`, `topic lag` and `topic rejected`."""

import json
import os
import signal
from datetime import UTC, datetime
from pathlib import Path
from subprocess import PIPE

import pytest

from ..cli.command_line import CommandLine
from ..preloaded.program import Program
from ..waiting import wait_until
from .broker import Broker


@pytest.fixture
def tallybook(tmp_path: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """A ledger with a meter."""
    monkeypatch.setenv("TALLYBOOK_BROKERS", broker.address)
    line = CommandLine(tmp_path)
    line.run("meter", "configure", "tokens", "--customer-key", "customer", "--value-key", "tokens")
    return line


def event(identifier: str, tokens: object = 1) -> bytes:
    fields = {"identifier": identifier, "timestamp": datetime.now(UTC).isoformat(), "who": "acme", "tokens": tokens}
    return json.dumps(fields).encode()


COLUMNS = ("--event-name", "tokens", "--customer-column", "who", "--value-column", "tokens")


def test_a_topic_up_to_its_end(tallybook: CommandLine, broker: Broker, topic: str) -> None:
    """With named columns. The exit status says whether a message was rejected."""
    broker.create(topic)
    broker.publish(topic, [event("r1"), event("r2", "many"), event("r3", 2)])
    consumed = tallybook.run("consume", topic, *COLUMNS, "--once", status=1)
    assert consumed.stdout == "consumed: 2 accepted, 0 duplicates, 1 rejected\n"
    assert tallybook.run_json("consume", topic, *COLUMNS, "--once") == {
        "accepted": 0, "duplicates": 0, "rejected": 0, "messages": 0,
    }  # fmt: skip
    (lag,) = tallybook.run_json("topic", "lag")
    assert (lag["topic"], lag["next_offset"], lag["lag"], lag["accepted"], lag["rejected"]) == (topic, 3, 0, 2, 1)
    (rejected,) = tallybook.run_json("topic", "rejected")
    assert (rejected["offset"], rejected["identifier"], rejected["code"]) == (1, "r2", "payload_invalid_value")
    assert topic in tallybook.run("topic", "lag").stdout
    assert "payload_invalid_value" in tallybook.run("topic", "rejected").stdout
    assert tallybook.run_json("total", "tokens", "acme")["sum"] == "3"


def test_the_command_runs_until_it_is_stopped(tallybook: CommandLine, broker: Broker, topic: str) -> None:
    """SIGTERM ends it with status 0, and everything that it has printed is recorded."""
    broker.create(topic)
    environment = {**os.environ, "TALLYBOOK_BROKERS": broker.address}
    arguments = ("consume", topic, *COLUMNS, "--json", "--ledger", tallybook.url)
    process = Program("tallybook", *arguments, environment=environment, stdout=PIPE)
    try:
        broker.publish(topic, [event("r1"), event("r2")])
        wait_until(lambda: tallybook.run_json("topic", "lag"))
    finally:
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert '"accepted": ' in output
    assert tallybook.run_json("total", "tokens", "acme")["sum"] == "2"


def test_invalid_settings(tallybook: CommandLine, topic: str) -> None:
    """The error names the option, and what is wrong."""
    tallybook.run("consume", topic, "--config", "missing.properties", status=2)
    config = tallybook.write("broken.properties", "security.protocol\n")
    tallybook.run("consume", topic, "--config", config, status=2)
    config = tallybook.write("unknown.properties", "# comment\nno.such = 1\n")
    assert tallybook.run_error("consume", topic, "--config", config, "--once") == ("invalid_usage_source", "brokers")
    assert tallybook.run_error("consume", topic, "--once") == ("usage_source_unavailable", "brokers")
    assert tallybook.lines("topic", "lag") == ["No topics were consumed."]
    assert tallybook.lines("topic", "rejected") == ["No rejected messages."]
