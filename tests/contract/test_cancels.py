"""Cancels of many events in one bucket, which the read models keep in several rows."""

from datetime import timedelta

from .stores import NOW, Store

EVENTS = 2_500


def test_many_cancels_in_one_hour_are_marked_at_once(store: Store) -> None:
    """Of thousands of events of one hour, folded before, every eighth is cancelled; the others count."""
    reports = [
        {
            "event_name": "calls",
            "payload": {"stripe_customer_id": "acme", "value": str(number)},
            "identifier": str(number),
        }
        for number in range(EVENTS)
    ]
    with store.metering() as metering:
        metering.configure_meter("calls")
        metering.record_many(reports)
        period = NOW - timedelta(hours=2), NOW + timedelta(hours=2)
        assert metering.total("calls", "acme", *period).sum == sum(range(EVENTS))
        for number in range(0, EVENTS, 8):
            metering.cancel("calls", str(number))
        total = metering.total("calls", "acme", *period)
    kept = [number for number in range(EVENTS) if number % 8]
    assert (total.count, total.sum) == (len(kept), sum(kept))
