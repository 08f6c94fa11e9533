"""Responses about events and endpoints match the OpenAPI document in every field."""

from typing import Any

from stripe import StripeClient

from tests.http.openapi_document import OpenApiDocument
from tests.http.running_server import RunningServer
from tests.http.webhooks.receiver import Receiver
from tests.http.webhooks.webhook_server import event_params, new_meter, stream
from tests.waiting import wait_until


def test_responses_are_as_documented(server: RunningServer, client: StripeClient, receiver: Receiver, key: str) -> None:
    """Each operation, and errors."""
    documented = OpenApiDocument()
    with server.client(key) as http:

        def request(method: str, path: str, status: int = 200, **arguments: Any) -> Any:
            response = http.request(method, path, **arguments)
            assert response.status_code == status, response.text
            return documented.check(method, path.partition("?")[0], status, response.content)

        endpoint = {"url": receiver.url, "enabled_events": ["*"], "metadata": {"a": "b"}}
        endpoint_id = request("POST", "/v1/webhook_endpoints", json=endpoint)["id"]
        request("POST", f"/v1/webhook_endpoints/{endpoint_id}", data={"description": "Ours", "enabled_events[]": "*"})
        request("GET", "/v1/webhook_endpoints?limit=1")
        request("GET", f"/v1/webhook_endpoints/{endpoint_id}")
        new_meter(client)
        client.v1.billing.meters.update(client.v1.billing.meters.list().data[0].id, params={"display_name": "Tokens"})
        stream(server, client, [event_params("bad", value="1"), event_params("lost", "chairs")])
        wait_until(lambda: len(client.v2.core.events.list().data) == 4)
        for event in request("GET", "/v1/events")["data"]:
            request("GET", f"/v1/events/{event['id']}")
        for event in request("GET", "/v2/core/events?limit=4")["data"]:
            request("GET", f"/v2/core/events/{event['id']}")
        request("DELETE", f"/v1/webhook_endpoints/{endpoint_id}")
        request("GET", f"/v1/webhook_endpoints/{endpoint_id}", 404)
        request("GET", "/v2/core/events/evt_nothing", 404)
        request("POST", "/v1/webhook_endpoints", 400, json={"url": "nowhere", "enabled_events": ["*"]})
