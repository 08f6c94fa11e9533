"""Meters, as in Stripe's v1 API."""

from contextlib import nullcontext
from typing import Annotated, Any, Literal, cast

import msgspec
from msgspec import Meta

from .....domain.access_key import Scope
from .....domain.errors import MeterNotFound
from ....meter_views import MeterView
from ..api_types import (
    AsOfParameters,
    DisplayName,
    ListAsOfParameters,
    ListObject,
    Name,
    Parameters,
    parse_as_of,
)
from ..errors import ApiError
from ..ledgers import RequestContext, ServedLedger, exclusive_job
from ..meter_objects import METERS_URL, BillingMeter, Status, billing_meter
from ..meter_visibility import visible_meters
from ..object_ids import METER_PREFIX, decode_id
from ..operations import OperationRegistry
from ..pagination import list_response, paginate
from ..parameters import check_text
from ..rules_objects import CustomerMapping, ValueSettings, Window
from ..rules_parameters import RulesParams, to_rule_changes

URL = METERS_URL
operations = OperationRegistry("Meters")


class StripeAggregation(msgspec.Struct, forbid_unknown_fields=True):
    """How values are aggregated, by a formula that Stripe has."""

    formula: Literal["count", "last", "sum"]


class CreateMeter(Parameters, kw_only=True):
    """A meter to create. Fields and defaults are Stripe's."""

    display_name: DisplayName
    event_name: Name
    default_aggregation: StripeAggregation
    customer_mapping: CustomerMapping = msgspec.field(default_factory=CustomerMapping)
    value_settings: ValueSettings = msgspec.field(default_factory=ValueSettings)
    event_time_window: Window | None = None
    dimension_payload_keys: Annotated[list[Name], Meta(max_length=10)] | None = None


class ConfigureMeter(RulesParams, kw_only=True):
    """A meter with any rules. The default for `display_name` is the event name, for the formula `sum`.

    With the event name of another meter as its `source`, the meter is derived: it counts all events of that meter.
    """

    display_name: DisplayName | None = None
    event_name: Name
    source: Name | None = None


class UpdateMeter(Parameters, kw_only=True):
    """The fields of a meter that can be updated."""

    display_name: DisplayName | None = None


class RetrieveMeter(AsOfParameters, kw_only=True):
    """A meter, now or as of an earlier time."""


class ListMeters(ListAsOfParameters, kw_only=True):
    """A filter by status."""

    status: Status | None = None


@operations.post(URL, Scope.RULES)
def create_meter(context: RequestContext[CreateMeter]) -> BillingMeter:
    """Create a meter. An event name can never be used for another meter."""
    params, metering = context.params, context.ledger.metering
    event_name = check_text(params.event_name, "event_name")
    if not context.is_retry and _exists(context.ledger, event_name):
        raise ApiError(
            400, f"A meter with the event name '{event_name}' already exists. An event name can't be reused.",
            code="resource_already_exists", param="event_name",
        )  # fmt: skip
    meter = metering.meters.configure(
        event_name,
        display_name=check_text(params.display_name, "display_name"),
        formula=params.default_aggregation.formula,
        event_time_window=params.event_time_window,
        customer_key=params.customer_mapping.event_payload_key,
        value_key=params.value_settings.event_payload_key,
        dimension_keys=params.dimension_payload_keys or (),
    )
    return billing_meter(meter, context.ledger)


@operations.post(URL + "/configure", Scope.RULES)
def configure_meter(context: RequestContext[ConfigureMeter]) -> BillingMeter:
    """Configure a meter with any rules, also those that Stripe doesn't have.

    An existing meter with the same display name and the same rules is returned. Creating a derived meter may take long,
    because all events of its source are counted. Only one such request runs at a time.
    """
    params, metering = context.params, context.ledger.metering
    rules = cast(Any, to_rule_changes(params))
    with nullcontext() if params.source is None else exclusive_job(context.ledger):
        meter = metering.meters.configure(
            params.event_name, source=params.source, display_name=params.display_name, **rules
        )
    return billing_meter(meter, context.ledger)


@operations.get(URL)
def list_meters(context: RequestContext[ListMeters]) -> ListObject[BillingMeter]:
    """List meters, newest first."""
    as_of = parse_as_of(context.params)
    listed = visible_meters(context, context.ledger.metering.meters.list(as_of=as_of))
    meters = {meter.event_name: meter for meter in listed}

    def decode_cursor(object_id: str) -> tuple[object, ...] | None:
        meter = meters.get(decode_id(METER_PREFIX, object_id) or "")
        return None if meter is None else _sort_key(meter)

    selected = [meter for meter in meters.values() if context.params.status in (None, meter.status)]
    selected.sort(key=_sort_key, reverse=True)
    data, has_more = paginate(selected, _sort_key, decode_cursor, context.params)
    return list_response([billing_meter(meter, context.ledger) for meter in data], URL, has_more=has_more)


@operations.get(URL + "/{id}")
def retrieve_meter(context: RequestContext[RetrieveMeter]) -> BillingMeter:
    """Retrieve a meter."""
    meter = context.ledger.meter(context.path_parameters["id"], parse_as_of(context.params))
    (visible,) = visible_meters(context, [meter])  # any other one was refused before
    return billing_meter(visible, context.ledger)


@operations.post(URL + "/{id}", Scope.RULES)
def update_meter(context: RequestContext[UpdateMeter]) -> BillingMeter:
    """Update the display name of a meter."""
    meter, display_name = context.ledger.meter(context.path_parameters["id"]), context.params.display_name
    if display_name is not None:
        meter = context.ledger.metering.meters.rename(meter.event_name, check_text(display_name, "display_name"))
    return billing_meter(meter, context.ledger)


@operations.post(URL + "/{id}/deactivate", Scope.RULES)
def deactivate_meter(context: RequestContext[Parameters]) -> BillingMeter:
    """Deactivate a meter: it accepts no more usage. Its event name stays reserved."""
    meter = context.ledger.meter(context.path_parameters["id"])
    return billing_meter(context.ledger.metering.meters.deactivate(meter.event_name), context.ledger)


@operations.post(URL + "/{id}/reactivate", Scope.RULES)
def reactivate_meter(context: RequestContext[Parameters]) -> BillingMeter:
    """Reactivate a meter: it accepts usage again."""
    meter = context.ledger.meter(context.path_parameters["id"])
    return billing_meter(context.ledger.metering.meters.reactivate(meter.event_name), context.ledger)


def _sort_key(meter: MeterView) -> tuple[object, ...]:
    return meter.created_at, meter.event_name


def _exists(ledger: ServedLedger, event_name: str) -> bool:
    try:
        ledger.metering.meters.get(event_name)
    except MeterNotFound:
        return False
    return True
