"""Live and test: two ledgers behind one server, told apart by the key."""

from typing import Any

import pytest
from stripe import InvalidRequestError

from .place import Place, around_now, body
from .usage import create_meter, report, total, use


def test_every_answer_tells_its_mode(server: Place, event_name: str) -> None:
    """livemode is the key's, wherever it is told."""
    for key, livemode in ((server.key("admin"), True), (server.key("admin", test=True), False)):
        client = server.client(key)
        meters, events, adjustments = (
            client.v1.billing.meters, client.v1.billing.meter_events, client.v1.billing.meter_event_adjustments,
        )  # fmt: skip
        meter_id = create_meter(client, event_name)
        start, end = around_now()
        v1, v2 = events.create(use(event_name, 1)), client.v2.billing.meter_events.create(use(event_name, 1))
        cancels: list[Any] = [
            {"event_name": event_name, "type": "cancel", "cancel": {"identifier": one.identifier}} for one in (v1, v2)
        ]
        answers: list[Any] = [
            meters.retrieve(meter_id), meters.update(meter_id, {"display_name": "x"}), meters.deactivate(meter_id),
            meters.reactivate(meter_id), *meters.list().data, v1, v2, adjustments.create(cancels[0]),
            client.v2.billing.meter_event_adjustments.create(cancels[1]),
            client.v2.billing.meter_event_session.create(),
            *meters.event_summaries.list(
                meter_id, {"customer": "cus_1", "start_time": start, "end_time": end}
            ).data,
        ]  # fmt: skip
        assert len(answers) == 11
        assert [answer.livemode for answer in answers] == [livemode] * len(answers)


def test_what_is_for_tests_is_nowhere_else(server: Place, event_name: str) -> None:
    """Neither meters nor usage nor identifiers nor idempotency keys of one mode are in the other."""
    live, test = server.client(), server.client(server.key("admin", test=True))
    meter_id = create_meter(test, event_name)
    with pytest.raises(InvalidRequestError, match="No such meter"):
        live.v1.billing.meters.retrieve(meter_id)
    with pytest.raises(InvalidRequestError, match="No active meter"):
        report(live, event_name, 1)
    assert create_meter(live, event_name) == meter_id  # an id tells the name, in its own ledger
    for client, value in ((test, 5), (live, 7)):
        report(client, event_name, value, identifier=f"{event_name}-1")
        with pytest.raises(InvalidRequestError, match="already exists"):
            report(client, event_name, value, identifier=f"{event_name}-1")
    assert (total(test, meter_id), total(live, meter_id)) == (5, 7)
    assert event_name in {meter["event_name"] for meter in body(test.v1.billing.meters.list({"limit": 100}))["data"]}
