"""Meters, as Stripe's v1 has them."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ....domain.errors import NoMeter
from ...results import MeterView
from ..asof import KnownAsOf, ListKnownAsOf, as_of
from ..desk import Call, Desk
from ..ids import METER, id_of, name_of
from ..paging import listed, page
from ..parameters import check_text
from ..refusals import Refusal
from ..routes import Routes
from ..times import unix
from ..wire import DisplayName, Listed, Name, Parameters

URL = "/v1/billing/meters"
routes = Routes("Meters")

Formula = Literal["count", "last", "sum"]
Window = Literal["day", "hour"]
Status = Literal["active", "inactive"]


class Aggregation(msgspec.Struct, forbid_unknown_fields=True):
    """How usages become a quantity."""

    formula: Formula


class CustomerMapping(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Where in the payload the customer is."""

    event_payload_key: Name = "stripe_customer_id"
    type: Literal["by_id"] = "by_id"


class ValueSettings(msgspec.Struct, forbid_unknown_fields=True):
    """Where in the payload the value is."""

    event_payload_key: Name = "value"


class StatusTransitions(msgspec.Struct):
    """When the meter was deactivated, if it is inactive."""

    deactivated_at: int | None


class BillingMeter(msgspec.Struct, kw_only=True):
    """A meter: one thing that is counted, and the rules it is counted by."""

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


class CreateMeter(Parameters, kw_only=True):
    """A meter to create. Its rules are Stripe's to name; the keys have Stripe's defaults."""

    display_name: DisplayName
    event_name: Name
    default_aggregation: Aggregation
    customer_mapping: CustomerMapping = msgspec.field(default_factory=CustomerMapping)
    value_settings: ValueSettings = msgspec.field(default_factory=ValueSettings)
    event_time_window: Window | None = None
    dimension_payload_keys: Annotated[list[Name], Meta(max_length=10)] | None = None


class UpdateMeter(Parameters, kw_only=True):
    """What of a meter may change freely."""

    display_name: DisplayName | None = None


class RetrieveMeter(KnownAsOf, kw_only=True):
    """A meter, as it is or was."""


class ListMeters(ListKnownAsOf, kw_only=True):
    """All meters, or those of one status."""

    status: Status | None = None


@routes.post(URL)
def create_meter(call: Call[CreateMeter]) -> BillingMeter:
    """Create a meter. An event name has one meter, for ever."""
    asked, metering = call.asked, call.desk.metering
    event_name = check_text(asked.event_name, "event_name")
    if not call.was_begun and _exists(call.desk, event_name):
        raise Refusal(
            400, f"A meter with the event name '{event_name}' already exists. An event name has one meter, for ever.",
            code="resource_already_exists", param="event_name",
        )  # fmt: skip
    created = metering.configure_meter(
        event_name,
        display_name=check_text(asked.display_name, "display_name"),
        formula=asked.default_aggregation.formula,
        event_time_window=asked.event_time_window,
        customer_key=asked.customer_mapping.event_payload_key,
        value_key=asked.value_settings.event_payload_key,
        dimension_keys=asked.dimension_payload_keys or (),
    )
    return billing_meter(created, call.desk)


@routes.get(URL)
def list_meters(call: Call[ListMeters]) -> Listed[BillingMeter]:
    """List meters, newest first."""
    known = as_of(call.asked)
    every = {meter.event_name: meter for meter in call.desk.metering.meters(as_of=known)}

    def cursor(given: str) -> tuple[object, ...] | None:
        found = every.get(name_of(METER, given) or "")
        return None if found is None else _place(found)

    chosen = [meter for meter in every.values() if call.asked.status in (None, meter.status)]
    chosen.sort(key=_place, reverse=True)
    data, has_more = page(chosen, _place, cursor, call.asked)
    return listed([billing_meter(meter, call.desk) for meter in data], URL, has_more=has_more)


@routes.get(URL + "/{id}")
def retrieve_meter(call: Call[RetrieveMeter]) -> BillingMeter:
    """Retrieve a meter."""
    return billing_meter(call.desk.meter(call.path["id"], as_of(call.asked)), call.desk)


@routes.post(URL + "/{id}")
def update_meter(call: Call[UpdateMeter]) -> BillingMeter:
    """Update a meter: only what it is shown as may change."""
    meter, name = call.desk.meter(call.path["id"]), call.asked.display_name
    if name is not None:
        meter = call.desk.metering.rename_meter(meter.event_name, check_text(name, "display_name"))
    return billing_meter(meter, call.desk)


@routes.post(URL + "/{id}/deactivate")
def deactivate_meter(call: Call[Parameters]) -> BillingMeter:
    """Deactivate a meter: it takes no more usage, and keeps its name."""
    meter = call.desk.meter(call.path["id"])
    return billing_meter(call.desk.metering.deactivate_meter(meter.event_name), call.desk)


@routes.post(URL + "/{id}/reactivate")
def reactivate_meter(call: Call[Parameters]) -> BillingMeter:
    """Reactivate a meter: it takes usage again."""
    meter = call.desk.meter(call.path["id"])
    return billing_meter(call.desk.metering.reactivate_meter(meter.event_name), call.desk)


def billing_meter(meter: MeterView, desk: Desk) -> BillingMeter:
    """A meter as it is answered."""
    return BillingMeter(
        id=id_of(METER, meter.event_name),
        created=unix(meter.created_at),
        customer_mapping=CustomerMapping(event_payload_key=meter.customer_key),
        default_aggregation=Aggregation(meter.formula.value),
        dimension_payload_keys=list(meter.dimension_keys) or None,
        display_name=meter.display_name,
        event_name=meter.event_name,
        event_time_window=None if meter.event_time_window is None else meter.event_time_window.value,
        livemode=desk.livemode,
        status="active" if meter.status == "active" else "inactive",
        status_transitions=StatusTransitions(meter.deactivated_at and unix(meter.deactivated_at)),
        updated=unix(meter.updated_at),
        value_settings=ValueSettings(meter.value_key),
        revision=meter.revision,
    )


def _place(meter: MeterView) -> tuple[object, ...]:
    return meter.created_at, meter.event_name


def _exists(desk: Desk, event_name: str) -> bool:
    try:
        desk.metering.meter(event_name)
    except NoMeter:
        return False
    return True
