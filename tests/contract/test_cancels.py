"""Cancellations of many events in one bucket, which the read models store in several usage blocks."""

from datetime import timedelta

from .stores import NOW, Store

EVENTS = 2_500


def test_many_cancellations_in_one_hour_are_marked_in_bulk(store: Store) -> None:
    """If every eighth of thousands of folded events of one hour is cancelled, the others still count."""
    events = [
        {
            "event_name": "calls",
            "payload": {"stripe_customer_id": "acme", "value": str(number)},
            "identifier": str(number),
        }
        for number in range(EVENTS)
    ]
    with store.metering() as metering:
        metering.meters.configure("calls")
        metering.record_many(events)
        period = NOW - timedelta(hours=2), NOW + timedelta(hours=2)
        assert metering.total("calls", "acme", *period).sum == sum(range(EVENTS))
        for number in range(0, EVENTS, 8):
            metering.cancel("calls", str(number))
        total = metering.total("calls", "acme", *period)
    remaining = [number for number in range(EVENTS) if number % 8]
    assert (total.count, total.sum) == (len(remaining), sum(remaining))
