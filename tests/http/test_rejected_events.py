"""Rejected events of streams: how many are stored, and what becomes of the others."""

from collections.abc import Iterator, Sequence

import pytest
from tallybook.application import Metering
from tallybook.application.interfaces.http.ledgers import ServedLedger
from tallybook.application.interfaces.http.rejected_events import (
    OMITTED_CODE,
    REJECTED_EVENT_KIND,
    RejectedEvent,
    RejectedEventLog,
    decode_rejected,
)

from tests.http.webhooks.ledgers import advance_clock, record_rejected, serve_ledger
from tests.notation import Clock


@pytest.fixture
def ledger(clock: Clock) -> Iterator[ServedLedger]:
    """A ledger with a meter that stores two rejected events of a key each day."""
    with Metering.open("sqlite://", clock=clock) as metering:
        metering.meters.configure("tokens", customer_key="customer")
        yield with_limits(serve_ledger(metering))


def with_limits(ledger: ServedLedger, max_bytes: int = 10_000) -> ServedLedger:
    """Return the ledger with a log that has counted nothing yet, as after a restart."""
    ledger.rejected_events = RejectedEventLog(ledger.key_values, 2, max_bytes, flush_seconds=0)
    return ledger


def stored(ledger: ServedLedger) -> Sequence[RejectedEvent]:
    """Return the stored rejected events, oldest first."""
    return [decode_rejected(entry.body) for entry in ledger.key_values.scan(REJECTED_EVENT_KIND, limit=100)]


def identifiers(ledger: ServedLedger) -> list[str]:
    """Return the identifiers of the stored rejected events, and the messages about omitted ones."""
    return [
        event.identifier or event.message.partition(" were")[0] if event.code == OMITTED_CODE else str(event.identifier)
        for event in stored(ledger)
    ]


def test_events_above_the_limit_of_a_key_and_day_are_counted(ledger: ServedLedger) -> None:
    """One entry says how many were omitted; other keys and the next day are not affected."""
    record_rejected(ledger, "a", "b", "c", key_id="one")
    record_rejected(ledger, "d", key_id="one")
    record_rejected(ledger, "e", key_id="other")
    message = "2 more rejected meter events of the access key one"
    assert sorted(identifiers(ledger)) == [message, "a", "b", "e"]
    advance_clock(ledger, days=1)
    record_rejected(ledger, "f", key_id="one")
    assert sorted(identifiers(ledger)) == [message, "a", "b", "e", "f"]


def test_large_events_reach_the_limit_earlier(ledger: ServedLedger) -> None:
    """The limit of bytes."""
    with_limits(ledger, max_bytes=1_000)
    record_rejected(ledger, "a", value="x" * 600)
    record_rejected(ledger, "b", value="x" * 600)
    assert sorted(identifiers(ledger)) == ["1 more rejected meter events of the access key key", "a"]


def test_a_restarted_server_counts_what_is_stored(ledger: ServedLedger) -> None:
    """The events of the same day."""
    record_rejected(ledger, "a", "b")
    record_rejected(with_limits(ledger), "c")
    assert sorted(identifiers(ledger)) == ["1 more rejected meter events of the access key key", "a", "b"]


def test_accepted_events_are_recorded_beyond_the_limit(ledger: ServedLedger) -> None:
    """Only the storage of errors is limited."""
    record_rejected(ledger, "a", "b", "c")
    record_rejected(ledger, "d", value="1")
    assert ledger.metering.event("d").value == 1
