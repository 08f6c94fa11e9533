"""A server with short webhook intervals, and Stripe's SDK for it."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

from stripe import StripeClient

from tests.http.running_server import RunningServer, serve

from .receiver import Receiver

QUICK_SETTINGS = {
    "TALLYBOOK_WEBHOOKS__WINDOW_SECONDS": "0.5",
    "TALLYBOOK_WEBHOOKS__POLL_INTERVAL_SECONDS": "0.1",
    "TALLYBOOK_WEBHOOKS__LEADER_CHECK_INTERVAL_SECONDS": "0.2",
    "TALLYBOOK_WEBHOOKS__INITIAL_RETRY_SECONDS": "0.2",
    "TALLYBOOK_WEBHOOKS__TIMEOUT_SECONDS": "1",
    "TALLYBOOK_WEBHOOKS__ALLOWED_NETWORKS": "127.0.0.0/8",
}
Event = dict[str, Any]


@contextmanager
def quick_server(ledger: str, **settings: str) -> Generator[RunningServer]:
    """Serve a ledger; `settings` override the webhook settings."""
    others = {f"TALLYBOOK_WEBHOOKS__{name.upper()}": value for name, value in settings.items()}
    with serve(ledger, **{**QUICK_SETTINGS, **others}) as server:
        yield server


def stripe_client(server: RunningServer, key: str) -> StripeClient:
    """Return Stripe's client for the server."""
    return StripeClient(key, base_addresses={"api": server.url, "meter_events": server.url})


def new_endpoint(client: StripeClient, receiver: Receiver, *types: str) -> tuple[str, str]:
    """Create an endpoint for these types, and return its id and secret."""
    endpoint = client.v1.webhook_endpoints.create(
        params={"url": receiver.url, "enabled_events": list(types or ("*",))}  # type: ignore[list-item]
    )
    assert endpoint.secret is not None
    return endpoint.id, endpoint.secret


def new_meter(client: StripeClient, event_name: str = "tokens") -> str:
    """Create a meter and return its id."""
    return client.v1.billing.meters.create(
        params={
            "display_name": event_name,
            "event_name": event_name,
            "default_aggregation": {"formula": "sum"},
            "customer_mapping": {"event_payload_key": "customer", "type": "by_id"},
        }
    ).id


def event_params(identifier: str, event_name: str = "tokens", **payload: str) -> Event:
    """Return a meter event, valid unless `payload` says otherwise."""
    return {"event_name": event_name, "identifier": identifier, "payload": payload or {"customer": "a", "value": "1"}}


def stream(server: RunningServer, client: StripeClient, events: Sequence[Event]) -> None:
    """Send events with a new session."""
    session = client.v2.billing.meter_event_session.create()
    stripe_client(server, session.authentication_token).v2.billing.meter_event_stream.create({"events": list(events)})  # type: ignore[typeddict-item]


def reported_identifiers(error_reports: Sequence[Any]) -> list[str]:
    """Return the identifiers of the rejected events in complete reports."""
    return sorted(
        sample["meter_event_error"]["identifier"]
        for error_report in error_reports
        for error in error_report["data"]["reason"]["error_types"]
        for sample in error["sample_errors"]
    )
