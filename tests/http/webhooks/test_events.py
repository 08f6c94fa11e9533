"""Events are listed newest first, page by page, while others are added."""

import json
from typing import Any

import pytest
from stripe import InvalidRequestError, StripeClient
from tallybook.application.interfaces.http.webhooks.events import ERROR_REPORT

from tests.http.running_server import RunningServer
from tests.http.webhooks.webhook_server import event_params, new_meter, stream
from tests.waiting import wait_until


def meter_names(events: Any) -> list[str]:
    """Return the meters of snapshot events."""
    return [event.data.object["event_name"] for event in events]


def get(client: Any, path: str) -> Any:
    """Return the response at a path."""
    return json.loads(client.raw_request("get", path).body)


def create_meters(client: StripeClient, count: int) -> list[str]:
    """Create meters and return the names of their events, newest first."""
    meters = [f"meter {number:02}" for number in range(count)]
    for name in meters:
        new_meter(client, name)
    wait_until(lambda: len(client.v1.events.list(params={"limit": 100}).data) == count)
    return meters[::-1]


def test_snapshot_events_are_paged(client: StripeClient) -> None:
    """In both directions, by type."""
    meters = create_meters(client, 12)
    page = client.v1.events.list(params={"limit": 5})
    assert meter_names(page.data) == meters[:5]
    new_meter(client, "later")
    assert meter_names(page.auto_paging_iter()) == meters
    second = client.v1.events.list(params={"limit": 5, "starting_after": page.data[-1].id})
    assert meter_names(second.data) == meters[5:10]
    assert second.has_more
    before = client.v1.events.list(params={"limit": 2, "ending_before": second.data[0].id})
    assert (meter_names(before.data), before.has_more) == (meters[3:5], True)
    assert client.v1.events.list(params={"type": "billing.meter.deactivated"}).data == []
    assert len(client.v1.events.list(params={"type": "billing.meter.created", "limit": 100}).data) >= 12
    assert client.v1.events.list(params={"type": "invoice.paid"}).data == []


def test_thin_events_are_paged(client: StripeClient) -> None:
    """By the URLs in their pages."""
    meters = create_meters(client, 7)
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


def test_an_error_report_links_to_its_events(server: RunningServer, client: StripeClient) -> None:
    """They are stored completely, so that they can be corrected and resent."""
    new_meter(client)
    stream(server, client, [event_params("bad", customer="a", value="much")])
    wait_until(lambda: len(client.v2.core.events.list(params={"types": [ERROR_REPORT]}).data) == 1)
    error_report: Any = client.v2.core.events.list(params={"types": [ERROR_REPORT]}).data[0]
    (error,) = error_report.data.reason.error_types
    (sample,) = error.sample_errors
    stored_error = get(client, f"/v1/billing/meter_event_errors/{sample.meter_event_error.id}")
    assert (stored_error["code"], stored_error["identifier"]) == (error.code, "bad")
    assert stored_error["payload"] == {"customer": "a", "value": "much"}


@pytest.mark.parametrize(
    "path",
    [
        "/v1/events/evt_nothing", "/v1/events/%00", "/v2/core/events/evt_nothing", "/v2/core/events/nothing",
        "/v1/webhook_endpoints/we_nothing", "/v1/webhook_endpoints/%00",
    ],
)  # fmt: skip
def test_an_unknown_object_is_not_found(shared_client: StripeClient, path: str) -> None:
    """For any id."""
    with pytest.raises(InvalidRequestError) as exc_info:
        get(shared_client, path)
    assert exc_info.value.http_status == 404


@pytest.mark.parametrize(
    "path",
    [
        "/v1/events?starting_after=nothing", "/v1/events?starting_after=evt_1&ending_before=evt_2",
        "/v1/events?ending_before=evt_%00", "/v2/core/events?page=nothing", "/v2/core/events?page=-evt_%00",
        "/v1/webhook_endpoints?starting_after=evt_1",
        f"/v1/events?starting_after=evt_{'a' * 600}",
    ],
)  # fmt: skip
def test_a_cursor_of_another_list_is_rejected(shared_client: StripeClient, path: str) -> None:
    """It identifies no item of this list."""
    with pytest.raises(InvalidRequestError) as exc_info:
        get(shared_client, path)
    assert exc_info.value.http_status == 400
