"""Meter events are created from the ledger: each once, by any process."""

from tallybook.application.interfaces.http.ledgers import ServedLedger
from tallybook.application.interfaces.http.webhooks.events import (
    SNAPSHOT_TYPES,
    THIN_TYPES,
    Event,
    EventV2,
    from_entry,
    list_newest,
)
from tallybook.application.interfaces.http.webhooks.meter_events_source import BATCH_SIZE, MeterEventSource

from tests.http.webhooks.ledgers import InterruptedLedger, advance_clock


def snapshot_events(served_ledger: ServedLedger) -> list[Event | EventV2]:
    """Return all snapshot events, oldest first."""
    return [from_entry(row) for row in reversed(list_newest(served_ledger.key_values, SNAPSHOT_TYPES, 10_000)[0])]


def create_events(served_ledger: ServedLedger) -> None:
    """Create events up to the end of the ledger."""
    follower = MeterEventSource(served_ledger)
    while follower.create_events([]):
        pass


def test_each_change_is_an_event_in_both_forms(served_ledger: ServedLedger) -> None:
    """In any number of runs, for changes by any interface."""
    served_ledger.metering.meters.rename("tokens", "Tokens")
    served_ledger.metering.rules.change("tokens", {"formula": "count"}, reason="tokens are counted")
    create_events(served_ledger)
    create_events(served_ledger)
    served_ledger.metering.meters.deactivate("tokens")
    create_events(served_ledger)
    created_events = snapshot_events(served_ledger)
    assert [event.type.rpartition(".")[2] for event in created_events] == [
        "created",
        "updated",
        "updated",
        "deactivated",
    ]
    assert len(list_newest(served_ledger.key_values, THIN_TYPES, 100)[0]) == 4
    last = created_events[2]
    assert isinstance(last, Event)
    assert last.data.previous_attributes == {"default_aggregation": {"formula": "sum"}, "revision": 1}


def test_an_update_has_the_previous_filter(served_ledger: ServedLedger) -> None:
    """Completely, because two conditions have different fields."""
    conditions = [{"key": "region", "equals": "eu"}, {"key": "region", "one_of": ["eu", "us"]}, None]
    for condition in conditions:
        served_ledger.metering.rules.change("tokens", {"filter": condition}, reason="a contract changed")
    create_events(served_ledger)
    updates = [event for event in snapshot_events(served_ledger) if isinstance(event, Event)][1:]
    assert [event.data.object["filter"] for event in updates] == conditions
    assert [(event.data.previous_attributes or {})["filter"] for event in updates] == [None, *conditions[:2]]


def test_changes_older_than_the_readable_period_are_skipped(served_ledger: ServedLedger) -> None:
    """A ledger that is served for the first time has events of the last 30 days."""
    advance_clock(served_ledger, days=31)
    served_ledger.metering.meters.rename("tokens", "Tokens")
    create_events(served_ledger)
    assert [event.type for event in snapshot_events(served_ledger)] == ["billing.meter.updated"]


def test_concurrent_sources_create_each_event_once(served_ledger: ServedLedger) -> None:
    """The other process, which sees later changes, is first: this one stores nothing and continues afterwards."""
    slow = InterruptedLedger(served_ledger)
    slow.before_change.append(
        lambda: (served_ledger.metering.meters.rename("tokens", "Tokens"), create_events(served_ledger))
    )
    follower = MeterEventSource(slow.served_ledger)
    assert follower.create_events([]) == 0
    served_ledger.metering.meters.deactivate("tokens")
    assert follower.create_events([]) == 1
    assert [event.type.rpartition(".")[2] for event in snapshot_events(served_ledger)] == [
        "created",
        "updated",
        "deactivated",
    ]


def test_a_slow_source_never_moves_the_position_back(served_ledger: ServedLedger) -> None:
    """Also for changes that are too old for events."""
    advance_clock(served_ledger, days=31)
    slow = InterruptedLedger(served_ledger)
    slow.before_change.append(
        lambda: (served_ledger.metering.meters.rename("tokens", "Tokens"), create_events(served_ledger))
    )
    MeterEventSource(slow.served_ledger).create_events([])
    served_ledger.metering.meters.deactivate("tokens")
    create_events(served_ledger)
    assert [event.type.rpartition(".")[2] for event in snapshot_events(served_ledger)] == ["updated", "deactivated"]


def test_many_changes_are_processed_in_batches(served_ledger: ServedLedger) -> None:
    """In order."""
    names = [f"Tokens {number}" for number in range(BATCH_SIZE * 2)]
    for name in names:
        served_ledger.metering.meters.rename("tokens", name)
    create_events(served_ledger)
    created_events = [
        event.data.object["display_name"] for event in snapshot_events(served_ledger) if isinstance(event, Event)
    ]
    assert created_events == ["tokens", *names]
