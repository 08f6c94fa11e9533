"""Meters and meter events for the tests with Stripe's SDK."""

from typing import Any

from stripe import StripeClient

from .server_fixture import around_now, parse_body


def create_meter(client: StripeClient, event_name: str, formula: Any = "sum", **more: Any) -> str:
    """Create a meter and return its id."""
    params: Any = {"display_name": event_name, "event_name": event_name, "default_aggregation": {"formula": formula}}
    params |= more
    return client.v1.billing.meters.create(params).id


def record_event(client: StripeClient, event_name: str, value: object, customer: str = "cus_1", **more: Any) -> str:
    """Record a meter event with v1 and return its identifier."""
    return client.v1.billing.meter_events.create(event_params(event_name, value, customer, **more)).identifier


def event_params(event_name: str, value: object, customer: str = "cus_1", **more: Any) -> Any:
    """Return the parameters of a meter event."""
    return {"event_name": event_name, "payload": {"stripe_customer_id": customer, "value": str(value)}, **more}


def total(client: StripeClient, meter_id: str, customer: str = "cus_1") -> Any:
    """Return a customer's total around now, exactly as in the response: an int or a Decimal."""
    start, end = around_now()
    listed = client.v1.billing.meters.event_summaries.list(
        meter_id, {"customer": customer, "start_time": start, "end_time": end}
    )
    (summary,) = parse_body(listed)["data"]
    return summary["aggregated_value"]
