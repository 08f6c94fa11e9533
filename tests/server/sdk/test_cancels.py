"""Meter event adjustments: what is cancelled counts no more, and what can't be is refused."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from stripe import InvalidRequestError, StripeClient
from tallybook.application import Metering

from .place import HOUR, Place, body, now
from .usage import create_meter, report, total


def test_a_cancelled_event_counts_no_more_in_v1(client: StripeClient, event_name: str) -> None:
    """It says so with every field that Stripe's answer has, and a second time the same."""
    meter_id = create_meter(client, event_name)
    report(client, event_name, 1)
    identifier = report(client, event_name, 2)
    for _ in range(2):
        assert body(client.v1.billing.meter_event_adjustments.create(_cancel(event_name, identifier))) == {
            "object": "billing.meter_event_adjustment",
            "cancel": {"identifier": identifier},
            "event_name": event_name,
            "livemode": True,
            "status": "complete",
            "type": "cancel",
        }
    assert total(client, meter_id) == 1


def test_a_cancelled_event_counts_no_more_in_v2(client: StripeClient, event_name: str) -> None:
    """Where the answer has an id and a time too, which stay those of the first cancel."""
    meter_id = create_meter(client, event_name)
    identifier = report(client, event_name, 2)
    first = body(client.v2.billing.meter_event_adjustments.create(_cancel(event_name, identifier)))
    assert body(client.v2.billing.meter_event_adjustments.create(_cancel(event_name, identifier))) == first
    assert first.pop("id")
    assert abs(datetime.fromisoformat(first.pop("created")) - datetime.now(UTC)) < timedelta(seconds=10)
    assert first == {
        "object": "v2.billing.meter_event_adjustment",
        "cancel": {"identifier": identifier},
        "event_name": event_name,
        "livemode": True,
        "status": "complete",
        "type": "cancel",
    }
    assert total(client, meter_id) == 0


def test_what_was_overwritten_counts_again(client: StripeClient, event_name: str) -> None:
    """In an hourly window the report before counts once the newest is cancelled."""
    meter_id, at = create_meter(client, event_name, event_time_window="hour"), now() // HOUR * HOUR
    report(client, event_name, 10, timestamp=at)
    newest = report(client, event_name, 4, timestamp=at)
    assert total(client, meter_id) == 4
    client.v1.billing.meter_event_adjustments.create(_cancel(event_name, newest))
    assert total(client, meter_id) == 10


def test_a_cancelled_identifier_is_not_free(client: StripeClient, event_name: str) -> None:
    """It stays taken, so that a late retry of the cancelled event doesn't count it."""
    meter_id = create_meter(client, event_name)
    identifier = report(client, event_name, 2, identifier=f"{event_name}-1")
    client.v1.billing.meter_event_adjustments.create(_cancel(event_name, identifier))
    with pytest.raises(InvalidRequestError, match=f"An event already exists with identifier {identifier}."):
        report(client, event_name, 2, identifier=identifier)
    assert total(client, meter_id) == 0


def test_what_is_not_there_can_not_be_cancelled(client: StripeClient, event_name: str) -> None:
    """An unknown identifier, another meter's event, and a meter that there isn't."""
    meter_id = create_meter(client, event_name)
    create_meter(client, event_name + "_other")
    identifier = report(client, event_name, 2)
    _refused(client, _cancel(event_name, "nobody's"), "cancel[identifier]")
    _refused(client, _cancel(event_name + "_other", identifier), "event_name")
    _refused(client, _cancel("nobody's", "nobody's"), "event_name", v1_code="no_meter")
    assert total(client, meter_id) == 2


def test_a_cancel_can_come_too_late(client: StripeClient, server: Place, event_name: str) -> None:
    """24 hours after the receipt an event is settled."""
    meter_id = create_meter(client, event_name)
    yesterday = datetime.now(UTC) - timedelta(hours=24, minutes=1)
    with Metering.open(server.ledger, clock=lambda: yesterday) as metering:
        metering.record(event_name, {"stripe_customer_id": "cus_1", "value": "2"}, identifier=f"{event_name}-old")
    _refused(client, _cancel(event_name, f"{event_name}-old"), "cancel[identifier]")
    start = int(yesterday.timestamp()) // HOUR * HOUR
    listed = client.v1.billing.meters.event_summaries.list(
        meter_id, {"customer": "cus_1", "start_time": start, "end_time": start + HOUR}
    )
    assert listed.data[0].aggregated_value == 2


def _cancel(event_name: str, identifier: str) -> Any:
    return {"event_name": event_name, "type": "cancel", "cancel": {"identifier": identifier}}


def _refused(client: StripeClient, given: Any, param: str, v1_code: str = "invalid_cancel_configuration") -> None:
    for create, code in (
        (client.v1.billing.meter_event_adjustments.create, v1_code),
        (client.v2.billing.meter_event_adjustments.create, "invalid_cancel_configuration"),
    ):
        with pytest.raises(InvalidRequestError) as refused:
            create(given)
        error: Any = refused.value
        assert (error.http_status, error.code, error.json_body["error"]["param"]) == (400, code, param)
