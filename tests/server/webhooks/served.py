"""A server whose webhooks are quick, and Stripe's SDK to talk to it."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

from stripe import StripeClient

from tests.server.serving import Serving, serve

from .receiver import Receiver

QUICK = {
    "TALLYBOOK_WEBHOOKS__WINDOW_SECONDS": "0.5",
    "TALLYBOOK_WEBHOOKS__LOOK_EVERY_SECONDS": "0.1",
    "TALLYBOOK_WEBHOOKS__TAKE_OVER_SECONDS": "0.2",
    "TALLYBOOK_WEBHOOKS__FIRST_RETRY_SECONDS": "0.2",
    "TALLYBOOK_WEBHOOKS__TIMEOUT_SECONDS": "1",
}
Event = dict[str, Any]


@contextmanager
def quick_server(ledger: str, **settings: str) -> Generator[Serving]:
    """A server of a ledger; `settings` are those of its webhooks that are otherwise than quick."""
    others = {f"TALLYBOOK_WEBHOOKS__{name.upper()}": value for name, value in settings.items()}
    with serve(ledger, **{**QUICK, **others}) as serving:
        yield serving


def sdk(serving: Serving, key: str) -> StripeClient:
    """Stripe's client, pointed at the server."""
    return StripeClient(key, base_addresses={"api": serving.url, "meter_events": serving.url})


def new_endpoint(client: StripeClient, receiver: Receiver, *types: str) -> tuple[str, str]:
    """The id and the secret of a new endpoint that is told of these types."""
    endpoint = client.v1.webhook_endpoints.create(
        params={"url": receiver.url, "enabled_events": list(types or ("*",))}  # type: ignore[list-item]
    )
    assert endpoint.secret is not None
    return endpoint.id, endpoint.secret


def new_meter(client: StripeClient, event_name: str = "tokens") -> str:
    """The id of a new meter."""
    return client.v1.billing.meters.create(
        params={
            "display_name": event_name,
            "event_name": event_name,
            "default_aggregation": {"formula": "sum"},
            "customer_mapping": {"event_payload_key": "customer", "type": "by_id"},
        }
    ).id


def use(identifier: str, event_name: str = "tokens", **payload: str) -> Event:
    """A use, which is fine where its payload isn't given."""
    return {"event_name": event_name, "identifier": identifier, "payload": payload or {"customer": "a", "value": "1"}}


def stream(serving: Serving, client: StripeClient, events: Sequence[Event]) -> None:
    """Send events on a session of its own."""
    session = client.v2.billing.meter_event_session.create()
    sdk(serving, session.authentication_token).v2.billing.meter_event_stream.create({"events": list(events)})  # type: ignore[typeddict-item]


def reported(reports: Sequence[Any]) -> list[str]:
    """The identifiers of the refused events that reports tell of, where they tell of all."""
    return sorted(
        sample["meter_event_error"]["identifier"]
        for report in reports
        for error in report["data"]["reason"]["error_types"]
        for sample in error["sample_errors"]
    )
