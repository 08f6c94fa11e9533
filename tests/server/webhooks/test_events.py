"""Events are listed newest first, page by page, whatever comes meanwhile."""

import json
from typing import Any

import pytest
from stripe import InvalidRequestError, StripeClient
from tallybook.application.server.webhooks.event_types import ERROR_REPORT

from tests.server.serving import Serving
from tests.server.webhooks.receiver import until
from tests.server.webhooks.served import new_meter, stream, use


def names(events: Any) -> list[str]:
    """The meters that snapshot events are of."""
    return [event.data.object["event_name"] for event in events]


def get(client: Any, path: str) -> Any:
    """What there is at a path."""
    return json.loads(client.raw_request("get", path).body)


def made(client: StripeClient, many: int) -> list[str]:
    """So many meters, of which events are made, newest first."""
    meters = [f"meter {number:02}" for number in range(many)]
    for name in meters:
        new_meter(client, name)
    until(lambda: len(client.v1.events.list(params={"limit": 100}).data) == many)
    return meters[::-1]


def test_snapshot_events_are_paged(client: StripeClient) -> None:
    """Forth and back, by type."""
    meters = made(client, 12)
    page = client.v1.events.list(params={"limit": 5})
    assert names(page.data) == meters[:5]
    new_meter(client, "later")
    assert names(page.auto_paging_iter()) == meters
    second = client.v1.events.list(params={"limit": 5, "starting_after": page.data[-1].id})
    assert names(second.data) == meters[5:10]
    assert second.has_more
    before = client.v1.events.list(params={"limit": 2, "ending_before": second.data[0].id})
    assert (names(before.data), before.has_more) == (meters[3:5], True)
    assert client.v1.events.list(params={"type": "billing.meter.deactivated"}).data == []
    assert len(client.v1.events.list(params={"type": "billing.meter.created", "limit": 100}).data) >= 12
    assert client.v1.events.list(params={"type": "invoice.paid"}).data == []


def test_thin_events_are_paged(client: StripeClient) -> None:
    """By the URLs in their pages."""
    meters = made(client, 7)
    page: Any = client.v2.core.events.list(params={"limit": 3, "types": ["v1.billing.meter.created"]})
    assert page.previous_page_url is None
    events = list(page.auto_paging_iter())
    assert len({event.id for event in events}) == 7
    assert [client.v1.events.retrieve(event.snapshot_event).data.object["event_name"] for event in events] == meters
    third = get(client, get(client, page.next_page_url)["next_page_url"])
    assert [event["id"] for event in third["data"]] == [events[-1].id]
    assert third["next_page_url"] is None
    back = get(client, third["previous_page_url"])
    assert [event["id"] for event in back["data"]] == [event.id for event in events[3:6]]


def test_a_report_leads_to_the_events_that_it_is_of(serving: Serving, client: StripeClient) -> None:
    """Which are kept whole, so that they can be mended and resent."""
    new_meter(client)
    stream(serving, client, [use("bad", customer="a", value="much")])
    until(lambda: len(client.v2.core.events.list(params={"types": [ERROR_REPORT]}).data) == 1)
    report: Any = client.v2.core.events.list(params={"types": [ERROR_REPORT]}).data[0]
    (error,) = report.data.reason.error_types
    (sample,) = error.sample_errors
    whole = get(client, f"/v1/billing/meter_event_errors/{sample.meter_event_error.id}")
    assert (whole["code"], whole["identifier"]) == (error.code, "bad")
    assert whole["payload"] == {"customer": "a", "value": "much"}


@pytest.mark.parametrize(
    "path",
    [
        "/v1/events/evt_nothing", "/v1/events/%00", "/v2/core/events/evt_nothing", "/v2/core/events/nothing",
        "/v1/webhook_endpoints/we_nothing", "/v1/webhook_endpoints/%00",
    ],
)  # fmt: skip
def test_what_is_not_there_is_not_found(shared_client: StripeClient, path: str) -> None:
    """Whatever it is called."""
    with pytest.raises(InvalidRequestError) as refused:
        get(shared_client, path)
    assert refused.value.http_status == 404


@pytest.mark.parametrize(
    "path",
    [
        "/v1/events?starting_after=nothing", "/v1/events?starting_after=evt_1&ending_before=evt_2",
        "/v1/events?ending_before=evt_%00", "/v2/core/events?page=nothing", "/v2/core/events?page=-evt_%00",
        "/v1/webhook_endpoints?starting_after=evt_1",
        f"/v1/events?starting_after=evt_{'a' * 600}",
    ],
)  # fmt: skip
def test_a_place_in_another_list_is_refused(shared_client: StripeClient, path: str) -> None:
    """As no page begins there."""
    with pytest.raises(InvalidRequestError) as refused:
        get(shared_client, path)
    assert refused.value.http_status == 400
