"""Meters and usage, as the tests of the SDK begin."""

from typing import Any

from stripe import StripeClient

from .place import around_now, body


def create_meter(client: StripeClient, event_name: str, formula: Any = "sum", **more: Any) -> str:
    """A meter; gives its id."""
    params: Any = {"display_name": event_name, "event_name": event_name, "default_aggregation": {"formula": formula}}
    params |= more
    return client.v1.billing.meters.create(params).id


def report(client: StripeClient, event_name: str, value: object, customer: str = "cus_1", **more: Any) -> str:
    """A use that is reported in v1; gives its identifier."""
    return client.v1.billing.meter_events.create(use(event_name, value, customer, **more)).identifier


def use(event_name: str, value: object, customer: str = "cus_1", **more: Any) -> Any:
    """A use to report."""
    return {"event_name": event_name, "payload": {"stripe_customer_id": customer, "value": str(value)}, **more}


def total(client: StripeClient, meter_id: str, customer: str = "cus_1") -> Any:
    """What the customer used around now, as the answer's own text says it: a whole number or a Decimal."""
    start, end = around_now()
    listed = client.v1.billing.meters.event_summaries.list(
        meter_id, {"customer": customer, "start_time": start, "end_time": end}
    )
    (summary,) = body(listed)["data"]
    return summary["aggregated_value"]
