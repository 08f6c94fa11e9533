"""The history of a ledger: each event with its author, reason and effect, on each store."""

import pytest
from tallybook.application import (
    AccessKeyNotFound,
    Authorship,
    HistoryEntry,
    InvalidParameter,
    MeterEventNotFound,
    Metering,
    MeterNotFound,
)
from tallybook.application.system_user import system_user

from ..notation import Clock, moment

USAGE = {"stripe_customer_id": "acme", "value": "5"}
START, END = moment("2026-01-01"), moment("2026-01-02")


@pytest.fixture
def history(metering: Metering, clock: Clock) -> Metering:
    """A ledger in which each kind of thing has happened, by several authors."""
    clock.now = moment("2026-01-01T10:00")
    metering.meters.configure("tokens", by="ops")
    metering.meters.configure("seats")
    with metering.acting_as("alice"):
        metering.record("tokens", USAGE, identifier="a")
        metering.rules.change("tokens", {"formula": "max"}, reason="the contract changed", by="finance")
    metering.record("seats", USAGE, identifier="b")
    run = metering.imports.start("usage.csv", "0" * 64, by="carol")
    run.record_many([{"event_name": "tokens", "payload": USAGE, "identifier": f"row-{n}"} for n in range(3)])
    metering.record("tokens", USAGE, identifier="c")
    clock.now = moment("2026-01-02T02:00")
    metering.cancel("tokens", "a", reason="a test", by="ops")
    metering.periods.close("tokens", "acme", START, END, by="finance")
    metering.periods.reopen("tokens", "acme", START, END, reason="late", by="finance")
    metering.cancellations.cancel_many("seats", customer="acme", reason="wrong meter", by="ops")
    metering.access_keys.create(["read"], by="ops")
    return metering


def events(metering: Metering, **arguments: object) -> list[str]:
    """Return the events of a history."""
    return [entry.event for entry in metering.history.list(**arguments).entries]  # pyright: ignore[reportArgumentType]


def test_a_meter(history: Metering) -> None:
    """Its changes, closings and bulk cancellations, and not those of another meter."""
    assert events(history, event_name="tokens") == ["Configured", "RulesChanged", "PeriodClosed", "PeriodReopened"]
    assert events(history, event_name="seats") == ["Configured", "EventsCancelled", "EventsCancelledPart"]
    (change,) = (entry for entry in history.history.list(event_name="tokens", by="finance").entries if entry.changed)
    assert (change.reason, change.changed) == ("the contract changed", {"formula": ("sum", "max")})
    assert change.author == Authorship("alice", "library", system_user=system_user(), on_behalf_of="finance")


def test_a_period(history: Metering) -> None:
    """All closings of a customer, or those of one period."""
    of_acme = {"event_name": "tokens", "customer": "acme"}
    assert events(history, **of_acme) == ["PeriodClosed", "PeriodReopened"]
    assert events(history, **of_acme, start=START, end=END) == ["PeriodClosed", "PeriodReopened"]
    assert events(history, **of_acme, start=END, end=moment("2026-01-03")) == []
    assert events(history, event_name="tokens", customer="nobody") == []


def test_a_meter_event(history: Metering) -> None:
    """Its author is who recorded or imported it; that of a bulk cancellation is who decided it."""
    recorded, cancelled = history.history.list(identifier="a").entries
    assert recorded.author == Authorship("alice", "library")
    assert (cancelled.author.by, cancelled.reason, cancelled.event) == ("ops", "a test", "EventCancelled")
    (imported,) = history.history.list(identifier="row-2").entries
    run = history.imports.list()[0].run_id
    assert imported.author == Authorship("carol", "import", import_run=run)
    (after_the_import,) = history.history.list(identifier="c").entries
    assert after_the_import.author == Authorship()
    *_, in_bulk = history.history.list(identifier="b").entries
    assert in_bulk.author == Authorship("ops", "library", system_user=system_user())


def test_a_key(history: Metering) -> None:
    """Without its hash."""
    (key,) = history.access_keys.list()
    (created,) = history.history.list(key_id=key.id).entries
    assert (created.event, created.author.by) == ("AccessKeyCreated", "ops")
    assert set(created.details) == {"name", "scopes", "livemode"}


def test_everything_by_pages_positions_times_and_authors(history: Metering) -> None:
    """Each page continues the one before. Recorded usage is left out, unless it is asked for."""
    everything = history.history.list(include_usage=True).entries
    assert [entry.position for entry in everything] == list(range(1, history.catch_up() + 1))
    pages: list[HistoryEntry] = []
    page = history.history.list(include_usage=True, limit=4)
    while True:
        pages += page.entries
        if not page.has_more:
            break
        page = history.history.list(include_usage=True, limit=4, after=page.next_after)
    assert tuple(pages) == everything
    without_usage = [entry for entry in everything if entry.event != "UsageRecorded"]
    assert list(history.history.list().entries) == without_usage
    noon = moment("2026-01-01T12:00")
    assert list(history.history.list(recorded_from=noon).entries) == [e for e in without_usage if e.recorded_at > noon]
    assert list(history.history.list(recorded_until=noon).entries) == [e for e in without_usage if e.recorded_at < noon]
    assert list(history.history.list(after=2, until=8).entries) == [e for e in without_usage if 2 < e.position <= 8]
    assert [entry.event for entry in history.history.list(by="alice", include_usage=True).entries] == [
        "UsageRecorded", "RulesChanged",
    ]  # fmt: skip
    assert events(history, by="somebody else") == []


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"event_name": "nothing"}, MeterNotFound),
        ({"identifier": "nothing"}, MeterEventNotFound),
        ({"key_id": "0" * 16}, AccessKeyNotFound),
        ({"customer": "acme"}, InvalidParameter),
        ({"event_name": "tokens", "identifier": "a"}, InvalidParameter),
        ({"event_name": "tokens", "start": START, "end": END}, InvalidParameter),
        ({"limit": 0}, InvalidParameter),
        ({"after": -1}, InvalidParameter),
    ],
)
def test_errors(history: Metering, arguments: dict[str, object], error: type[Exception]) -> None:
    """What is named must exist, and be one thing."""
    with pytest.raises(error):
        events(history, **arguments)
