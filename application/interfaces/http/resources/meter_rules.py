"""Rules of meters: preview and change."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ....queries.comparison import CustomerDifference
from ....results import MeterView
from ..api_types import Name, Number, Parameters, Reason, encode_decimal, to_unix
from ..ledgers import RequestContext, exclusive_job
from ..meter_objects import Aggregation, BillingMeter, RulesObject, billing_meter
from ..operations import OperationRegistry


class CustomerMappingParams(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The new payload key of the customer."""

    event_payload_key: Name
    type: Literal["by_id"] = "by_id"


class ValueSettingsParams(msgspec.Struct, forbid_unknown_fields=True):
    """The new payload key of the value."""

    event_payload_key: Name


class RulesParams(Parameters, kw_only=True):
    """New rules of a meter. Omitted fields stay unchanged.

    With `event_time_window` set to `none` no event supersedes another. An empty `dimension_payload_keys`, which only
    JSON can express, removes all dimensions.
    """

    customer_mapping: CustomerMappingParams | None = None
    default_aggregation: Aggregation | None = None
    dimension_payload_keys: Annotated[list[Name], Meta(max_length=10)] | None = None
    event_time_window: Literal["day", "hour", "none"] | None = None
    value_settings: ValueSettingsParams | None = None


def to_rule_changes(params: RulesParams) -> dict[str, object]:
    """Return the changed fields of the rules, by the library's names."""
    changes: dict[str, object] = {}
    if params.default_aggregation is not None:
        changes["formula"] = params.default_aggregation.formula
    if params.event_time_window is not None:
        changes["event_time_window"] = None if params.event_time_window == "none" else params.event_time_window
    if params.customer_mapping is not None:
        changes["customer_key"] = params.customer_mapping.event_payload_key
    if params.value_settings is not None:
        changes["value_key"] = params.value_settings.event_payload_key
    if params.dimension_payload_keys is not None:
        changes["dimension_keys"] = tuple(params.dimension_payload_keys)
    return changes


def matches_rules(meter: MeterView, changes: dict[str, object]) -> bool:
    """Return whether a meter already has these rules."""
    return all(getattr(meter, field) == value for field, value in changes.items())


operations = OperationRegistry("Rules")
MAX_DIFFERENCES = 1_000

CalendarWindow = Literal["minute", "hour", "day", "month", "year"]


class TotalDifference(msgspec.Struct, kw_only=True):
    """A customer's total of one window of time, under the current and under the new rules."""

    after: Number
    before: Number
    customer: str
    difference: Number
    end_time: int
    start_time: int


class RulesPreview(msgspec.Struct, kw_only=True):
    """The effect of new rules on a meter's totals, by customer and window, from the ledger up to `position`.

    `before`, `after` and `difference` are sums of all totals, `customers` is the number of customers with differences.
    `differences` contains the largest ones, and `has_more` is true if there are others. `generation` is the generation
    of the read models under these rules. It stays until it is deleted, and makes the change of the rules fast.
    """

    object: Literal["billing.rules_preview"] = "billing.rules_preview"
    after: Number
    before: Number
    customers: int
    difference: Number
    differences: list[TotalDifference]
    generation: int
    has_more: bool
    livemode: bool
    meter: str
    position: int
    rules: RulesObject
    timezone: str
    window: CalendarWindow


class PreviewRules(RulesParams, kw_only=True):
    """New rules, and the windows of time to compare."""

    limit: Annotated[int, Meta(ge=1, le=MAX_DIFFERENCES)] = 100
    timezone: Annotated[str, Meta(min_length=1, max_length=100, description="An IANA timezone name.")] = "UTC"
    window: CalendarWindow = "month"


class ChangeRules(RulesParams, kw_only=True):
    """New rules, why they change, and by whom. The default for `by` is the access key."""

    reason: Reason
    by: Reason | None = None


@operations.post("/v1/billing/meters/{id}/rules_preview")
def preview_rules(context: RequestContext[PreviewRules]) -> RulesPreview:
    """Preview new rules: compare all totals without changing anything.

    It may take long. Only one such request runs at a time.
    """
    params, ledger, meter_id = context.params, context.ledger, context.path_parameters["id"]
    meter, metering = ledger.meter(meter_id), ledger.metering
    with exclusive_job(ledger):
        candidate = metering.generations.build_candidate(meter.event_name, to_rule_changes(params))
        comparison = metering.generations.diff(candidate.number, window=params.window, timezone=params.timezone)
    (meter_difference,) = (difference for difference in comparison.meters if difference.event_name == meter.event_name)
    differences = [difference for difference in comparison.sorted_by_size if difference.event_name == meter.event_name]
    return RulesPreview(
        after=encode_decimal(meter_difference.after),
        before=encode_decimal(meter_difference.before),
        customers=meter_difference.customers,
        difference=encode_decimal(meter_difference.difference),
        differences=[_to_response(difference) for difference in differences[: params.limit]],
        generation=candidate.number,
        has_more=len(differences) > params.limit,
        livemode=ledger.livemode,
        meter=meter_id,
        position=comparison.position,
        rules=RulesObject.from_rules(candidate.rules[meter.event_name]),
        timezone=params.timezone,
        window=params.window,
    )


@operations.post("/v1/billing/meters/{id}/rules")
def change_rules(context: RequestContext[ChangeRules]) -> BillingMeter:
    """Change the rules of a meter, for all of its history. Closed periods stay unchanged.

    It may take long. Only one such request runs at a time.
    """
    params, ledger = context.params, context.ledger
    meter, changes = ledger.meter(context.path_parameters["id"]), to_rule_changes(params)
    if not (context.is_retry and matches_rules(meter, changes)):
        with exclusive_job(ledger):
            meter = ledger.metering.rules.change(
                meter.event_name, changes, reason=params.reason, by=params.by or context.access_key.hint
            )
    return billing_meter(meter, ledger)


def _to_response(difference: CustomerDifference) -> TotalDifference:
    return TotalDifference(
        after=encode_decimal(difference.after),
        before=encode_decimal(difference.before),
        customer=difference.customer,
        difference=encode_decimal(difference.difference),
        end_time=to_unix(difference.end),
        start_time=to_unix(difference.start),
    )
