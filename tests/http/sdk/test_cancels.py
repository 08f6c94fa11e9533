"""Meter event adjustments: cancelled events no longer count, and invalid cancellations are errors."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from stripe import InvalidRequestError, StripeClient
from tallybook.application import Metering

from .meter_events import create_meter, record_event, total
from .server_fixture import HOUR, SdkServer, now, parse_body, sdk_server

YESTERDAY = datetime.now(UTC) - timedelta(hours=24, minutes=1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SdkServer]:
    """A server whose ledger begins with an event that was recorded more than 24 hours ago."""
    directory = tmp_path_factory.mktemp("server")
    with Metering.open(f"sqlite:///{directory / 'usage.db'}", clock=lambda: YESTERDAY) as metering:
        metering.meters.configure("old_calls")
        metering.record("old_calls", {"stripe_customer_id": "cus_1", "value": "2"}, identifier="old")
    with sdk_server(directory) as running:
        yield running


def test_a_cancelled_event_counts_no_more_in_v1(client: StripeClient, event_name: str) -> None:
    """The response has every field of Stripe's, and a second request returns the same."""
    meter_id = create_meter(client, event_name)
    record_event(client, event_name, 1)
    identifier = record_event(client, event_name, 2)
    for _ in range(2):
        assert parse_body(client.v1.billing.meter_event_adjustments.create(cancel_params(event_name, identifier))) == {
            "object": "billing.meter_event_adjustment",
            "cancel": {"identifier": identifier},
            "event_name": event_name,
            "livemode": True,
            "status": "complete",
            "type": "cancel",
        }
    assert total(client, meter_id) == 1


def test_a_cancelled_event_counts_no_more_in_v2(client: StripeClient, event_name: str) -> None:
    """The response also has an id and a time, which stay those of the first cancellation."""
    meter_id = create_meter(client, event_name)
    identifier = record_event(client, event_name, 2)
    first = parse_body(client.v2.billing.meter_event_adjustments.create(cancel_params(event_name, identifier)))
    assert parse_body(client.v2.billing.meter_event_adjustments.create(cancel_params(event_name, identifier))) == first
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


def test_a_superseded_event_counts_again(client: StripeClient, event_name: str) -> None:
    """In an hourly window the previous event counts after the newest is cancelled."""
    meter_id, at = create_meter(client, event_name, event_time_window="hour"), now() // HOUR * HOUR
    record_event(client, event_name, 10, timestamp=at)
    newest = record_event(client, event_name, 4, timestamp=at)
    assert total(client, meter_id) == 4
    client.v1.billing.meter_event_adjustments.create(cancel_params(event_name, newest))
    assert total(client, meter_id) == 10


def test_a_cancelled_identifier_stays_reserved(client: StripeClient, event_name: str) -> None:
    """A late retry of the cancelled event does not count."""
    meter_id = create_meter(client, event_name)
    identifier = record_event(client, event_name, 2, identifier=f"{event_name}-1")
    client.v1.billing.meter_event_adjustments.create(cancel_params(event_name, identifier))
    with pytest.raises(InvalidRequestError, match=f"An event already exists with identifier {identifier}."):
        record_event(client, event_name, 2, identifier=identifier)
    assert total(client, meter_id) == 0


def test_an_unknown_event_cannot_be_cancelled(client: StripeClient, event_name: str) -> None:
    """An unknown identifier, another meter's event, and an unknown meter."""
    meter_id = create_meter(client, event_name)
    create_meter(client, event_name + "_other")
    identifier = record_event(client, event_name, 2)
    assert_rejected(client, cancel_params(event_name, "nobody's"), "cancel[identifier]")
    assert_rejected(client, cancel_params(event_name + "_other", identifier), "event_name")
    assert_rejected(client, cancel_params("nobody's", "nobody's"), "event_name", v1_code="no_meter")
    assert total(client, meter_id) == 2


def test_a_late_cancellation_is_rejected(client: StripeClient) -> None:
    """Later than 24 hours after the receipt."""
    (meter_id,) = (meter.id for meter in client.v1.billing.meters.list() if meter.event_name == "old_calls")
    assert_rejected(client, cancel_params("old_calls", "old"), "cancel[identifier]")
    start = int(YESTERDAY.timestamp()) // HOUR * HOUR
    listed = client.v1.billing.meters.event_summaries.list(
        meter_id, {"customer": "cus_1", "start_time": start, "end_time": start + HOUR}
    )
    assert listed.data[0].aggregated_value == 2


def cancel_params(event_name: str, identifier: str) -> Any:
    return {"event_name": event_name, "type": "cancel", "cancel": {"identifier": identifier}}


def assert_rejected(
    client: StripeClient, params: Any, param: str, v1_code: str = "invalid_cancel_configuration"
) -> None:
    for create, code in (
        (client.v1.billing.meter_event_adjustments.create, v1_code),
        (client.v2.billing.meter_event_adjustments.create, "invalid_cancel_configuration"),
    ):
        with pytest.raises(InvalidRequestError) as exc_info:
            create(params)
        error: Any = exc_info.value
        assert (error.http_status, error.code, error.json_body["error"]["param"]) == (400, code, param)
