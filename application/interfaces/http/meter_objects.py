"""The objects of meters and rules in responses and webhook events."""

from typing import Literal

import msgspec

from ....domain.rules import Rules
from ...results import MeterView
from .api_types import Name, to_unix
from .ledgers import ServedLedger
from .object_ids import METER_PREFIX, encode_id

METERS_URL = "/v1/billing/meters"

Formula = Literal["count", "last", "sum"]
Window = Literal["day", "hour"]
Status = Literal["active", "inactive"]


class Aggregation(msgspec.Struct, forbid_unknown_fields=True):
    """How values are aggregated."""

    formula: Formula


class CustomerMapping(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The payload key of the customer."""

    event_payload_key: Name = "stripe_customer_id"
    type: Literal["by_id"] = "by_id"


class ValueSettings(msgspec.Struct, forbid_unknown_fields=True):
    """The payload key of the value."""

    event_payload_key: Name = "value"


class StatusTransitions(msgspec.Struct):
    """When the meter was deactivated; null if it is active."""

    deactivated_at: int | None


class BillingMeter(msgspec.Struct, kw_only=True):
    """A meter with its rules."""

    id: str
    object: Literal["billing.meter"] = "billing.meter"
    created: int
    customer_mapping: CustomerMapping
    default_aggregation: Aggregation
    dimension_payload_keys: list[str] | None
    display_name: str
    event_name: str
    event_time_window: Window | None
    livemode: bool
    status: Status
    status_transitions: StatusTransitions
    updated: int
    value_settings: ValueSettings
    revision: int


class RulesObject(msgspec.Struct, kw_only=True):
    """Rules, in the form of a meter's fields."""

    customer_mapping: CustomerMapping
    default_aggregation: Aggregation
    dimension_payload_keys: list[str] | None
    event_time_window: Window | None
    value_settings: ValueSettings

    @classmethod
    def from_rules(cls, rules: Rules) -> "RulesObject":
        """Return the object of rules."""
        window = rules.event_time_window
        return cls(
            customer_mapping=CustomerMapping(event_payload_key=rules.customer_key),
            default_aggregation=Aggregation(rules.formula.value),
            dimension_payload_keys=list(rules.dimension_keys) or None,
            event_time_window=None if window is None else window.value,
            value_settings=ValueSettings(rules.value_key),
        )


def billing_meter(meter: MeterView, ledger: ServedLedger) -> BillingMeter:
    """Return the object of a meter."""
    return BillingMeter(
        id=encode_id(METER_PREFIX, meter.event_name),
        created=to_unix(meter.created_at),
        customer_mapping=CustomerMapping(event_payload_key=meter.customer_key),
        default_aggregation=Aggregation(meter.formula.value),
        dimension_payload_keys=list(meter.dimension_keys) or None,
        display_name=meter.display_name,
        event_name=meter.event_name,
        event_time_window=None if meter.event_time_window is None else meter.event_time_window.value,
        livemode=ledger.livemode,
        status="active" if meter.status == "active" else "inactive",
        status_transitions=StatusTransitions(meter.deactivated_at and to_unix(meter.deactivated_at)),
        updated=to_unix(meter.updated_at),
        value_settings=ValueSettings(meter.value_key),
        revision=meter.revision,
    )
