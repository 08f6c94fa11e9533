"""The object of a meter in responses and webhook events."""

from typing import Literal

import msgspec

from ...meter_views import MeterView
from .api_types import to_unix
from .ledgers import ServedLedger
from .object_ids import METER_PREFIX, encode_id
from .rules_objects import RulesObject, UpcomingRules, rules_fields

METERS_URL = "/v1/billing/meters"

Status = Literal["active", "inactive"]


class StatusTransitions(msgspec.Struct):
    """When the meter was deactivated; null if it is active."""

    deactivated_at: int | None


class BillingMeter(RulesObject, kw_only=True):
    """A meter with the rules of present usage, and those that are announced for later usage.

    A derived meter counts the events of the meter with the event name `source`. `derived_meters` are the event names of
    the meters that count the events of this one.
    """

    id: str
    object: Literal["billing.meter"] = "billing.meter"
    created: int
    derived_meters: list[str]
    display_name: str
    event_name: str
    livemode: bool
    source: str | None
    status: Status
    status_transitions: StatusTransitions
    updated: int
    revision: int
    upcoming_rules: list[UpcomingRules]


def billing_meter(meter: MeterView, ledger: ServedLedger) -> BillingMeter:
    """Return the object of a meter."""
    return BillingMeter(
        **rules_fields(meter),
        id=encode_id(METER_PREFIX, meter.event_name),
        created=to_unix(meter.created_at),
        derived_meters=list(meter.derived_meters),
        display_name=meter.display_name,
        event_name=meter.event_name,
        livemode=ledger.livemode,
        source=meter.source,
        status="active" if meter.status == "active" else "inactive",
        status_transitions=StatusTransitions(meter.deactivated_at and to_unix(meter.deactivated_at)),
        updated=to_unix(meter.updated_at),
        revision=meter.revision,
        upcoming_rules=[
            UpcomingRules(
                **rules_fields(upcoming.rules),
                effective_from=to_unix(upcoming.effective_from),
                revision=upcoming.revision,
            )
            for upcoming in meter.upcoming
        ],
    )
