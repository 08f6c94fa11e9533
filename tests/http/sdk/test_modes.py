"""Live and test mode: two ledgers of one server, selected by the key."""

from typing import Any

import pytest
from stripe import InvalidRequestError

from .meter_events import create_meter, event_params, record_event, total
from .server_fixture import SdkServer, around_now, parse_body


def test_every_response_has_its_livemode(server: SdkServer, event_name: str) -> None:
    """Each `livemode` is that of the key."""
    for key, livemode in ((server.key("admin"), True), (server.key("admin", test=True), False)):
        client = server.client(key)
        meters, events, adjustments = (
            client.v1.billing.meters, client.v1.billing.meter_events, client.v1.billing.meter_event_adjustments,
        )  # fmt: skip
        meter_id = create_meter(client, event_name)
        start, end = around_now()
        v1, v2 = (
            events.create(event_params(event_name, 1)),
            client.v2.billing.meter_events.create(event_params(event_name, 1)),
        )
        cancels: list[Any] = [
            {"event_name": event_name, "type": "cancel", "cancel": {"identifier": event.identifier}}
            for event in (v1, v2)
        ]
        responses: list[Any] = [
            meters.retrieve(meter_id), meters.update(meter_id, {"display_name": "x"}), meters.deactivate(meter_id),
            meters.reactivate(meter_id), *meters.list().data, v1, v2, adjustments.create(cancels[0]),
            client.v2.billing.meter_event_adjustments.create(cancels[1]),
            client.v2.billing.meter_event_session.create(),
            *meters.event_summaries.list(
                meter_id, {"customer": "cus_1", "start_time": start, "end_time": end}
            ).data,
        ]  # fmt: skip
        assert len(responses) == 11
        assert [response.livemode for response in responses] == [livemode] * len(responses)


def test_test_mode_data_is_isolated(server: SdkServer, event_name: str) -> None:
    """Meters, usage, identifiers and idempotency keys of one mode do not exist in the other."""
    live, test = server.client(), server.client(server.key("admin", test=True))
    meter_id = create_meter(test, event_name)
    with pytest.raises(InvalidRequestError, match="No such meter"):
        live.v1.billing.meters.retrieve(meter_id)
    with pytest.raises(InvalidRequestError, match="No active meter"):
        record_event(live, event_name, 1)
    assert create_meter(live, event_name) == meter_id  # an id encodes the name, in its own ledger
    for client, value in ((test, 5), (live, 7)):
        record_event(client, event_name, value, identifier=f"{event_name}-1")
        with pytest.raises(InvalidRequestError, match="already exists"):
            record_event(client, event_name, value, identifier=f"{event_name}-1")
    assert (total(test, meter_id), total(live, meter_id)) == (5, 7)
    assert event_name in {
        meter["event_name"] for meter in parse_body(test.v1.billing.meters.list({"limit": 100}))["data"]
    }
