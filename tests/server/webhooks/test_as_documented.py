"""What is answered of events and endpoints is as the OpenAPI document says, to the last field."""

from typing import Any

from stripe import StripeClient

from tests.server.documented import Documented
from tests.server.serving import Serving
from tests.server.webhooks.receiver import Receiver, until
from tests.server.webhooks.served import new_meter, stream, use


def test_answers_are_as_documented(serving: Serving, client: StripeClient, receiver: Receiver, key: str) -> None:
    """Each operation, and refusals."""
    documented = Documented()
    with serving.client(key) as http:

        def asked(method: str, path: str, status: int = 200, **given: Any) -> Any:
            answer = http.request(method, path, **given)
            assert answer.status_code == status, answer.text
            return documented.check(method, path.partition("?")[0], status, answer.content)

        endpoint = {"url": receiver.url, "enabled_events": ["*"], "metadata": {"a": "b"}}
        made = asked("POST", "/v1/webhook_endpoints", json=endpoint)["id"]
        asked("POST", f"/v1/webhook_endpoints/{made}", data={"description": "Ours", "enabled_events[]": "*"})
        asked("GET", "/v1/webhook_endpoints?limit=1")
        asked("GET", f"/v1/webhook_endpoints/{made}")
        new_meter(client)
        client.v1.billing.meters.update(client.v1.billing.meters.list().data[0].id, params={"display_name": "Tokens"})
        stream(serving, client, [use("bad", value="1"), use("lost", "chairs")])
        until(lambda: len(client.v2.core.events.list().data) == 4)
        for event in asked("GET", "/v1/events")["data"]:
            asked("GET", f"/v1/events/{event['id']}")
        for event in asked("GET", "/v2/core/events?limit=4")["data"]:
            asked("GET", f"/v2/core/events/{event['id']}")
        asked("DELETE", f"/v1/webhook_endpoints/{made}")
        asked("GET", f"/v1/webhook_endpoints/{made}", 404)
        asked("GET", "/v2/core/events/evt_nothing", 404)
        asked("POST", "/v1/webhook_endpoints", 400, json={"url": "nowhere", "enabled_events": ["*"]})
