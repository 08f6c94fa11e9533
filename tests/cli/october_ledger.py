"""A small ledger for the query commands: October 2025 of two customers."""

from datetime import UTC, datetime
from pathlib import Path

from tallybook.application import AcceptancePolicy, Metering

from .command_line import CommandLine

METER_EVENTS = (
    ("req-1", "acme", "25", "2025-10-05T09:00:00"),
    ("req-2", "acme", "3000", "2025-10-05T09:20:00"),
    ("req-3", "acme", "-5", "2025-10-07T09:00:00"),
    ("req-4", "zeta", "7", "2025-10-09T09:00:00"),
    ("req-5", "zeta", "11", "2025-09-30T22:30:00"),
)
ANY_AGE = AcceptancePolicy(max_age=None, cancel_window=None)
OCTOBER = ("--period", "2025-10")


def october_ledger(folder: Path) -> CommandLine:
    """Create a ledger of six events: the meter `tokens`, a sum, and five meter events."""
    line = CommandLine(folder)
    with Metering.open(line.url, policy=ANY_AGE, clock=lambda: datetime(2025, 11, 22, tzinfo=UTC)) as metering:
        metering.meters.configure("tokens", customer_key="customer", value_key="tokens")
    for meter_event in METER_EVENTS:
        record_tokens(line, *meter_event)
    return line


def record_tokens(line: CommandLine, identifier: str, customer: str, tokens: str, at: str) -> None:
    """Record a meter event at any time in the past."""
    with Metering.open(line.url, policy=ANY_AGE) as metering:
        payload = {"customer": customer, "tokens": tokens}
        metering.record("tokens", payload, identifier=identifier, timestamp=datetime.fromisoformat(f"{at}Z"))
