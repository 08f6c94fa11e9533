"""Rules of meters: preview and change."""

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ....queries.comparison import CustomerDifference
from ....queries.dimension_query import Where, parse_dimensions, resolve_dimensions
from ....results import MeterView
from ....rules_arguments import MAX_DIMENSIONS, RulesArguments, parse_rules
from ..api_types import Name, Number, Parameters, Reason, encode_decimal, to_unix
from ..dimension_parameters import DimensionFilters, DimensionGroupByKeys, Dimensions, to_where
from ..ledgers import RequestContext, exclusive_job
from ..meter_objects import BillingMeter, billing_meter
from ..operations import OperationRegistry
from ..rules_objects import Aggregation, Condition, Rounding, RulesObject


class CustomerMappingParams(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The new payload key of the customer."""

    event_payload_key: Name
    type: Literal["by_id"] = "by_id"


class ValueSettingsParams(msgspec.Struct, forbid_unknown_fields=True):
    """The new payload key of the value."""

    event_payload_key: Name


_DimensionKeys = Annotated[list[Name], Meta(max_length=MAX_DIMENSIONS)]
_Multiplier = Annotated[
    str,
    Meta(
        pattern=r"^(none|[0-9]{1,30}(\.[0-9]{1,30})?(/[0-9]{1,30}(\.[0-9]{1,30})?)?)$",
        description="A number above 0 or a fraction, as text, such as 0.001 or 1/3600; or none.",
    ),
]


class RulesParams(Parameters, kw_only=True):
    """New rules of a meter. Omitted fields stay unchanged.

    `none` removes the event time window, after which no event supersedes another, the filter, the multiplier or the
    rounding. An empty list of dimensions, which only JSON can express, removes all of them.
    """

    customer_mapping: CustomerMappingParams | None = None
    default_aggregation: Aggregation | None = None
    dimension_payload_keys: _DimensionKeys | None = None
    event_time_window: Literal["day", "hour", "none"] | None = None
    filter: Condition | Literal["none"] | None = None
    multiplier: _Multiplier | None = None
    optional_dimension_payload_keys: _DimensionKeys | None = None
    rounding: Rounding | Literal["none"] | None = None
    value_settings: ValueSettingsParams | None = None


def to_rule_changes(params: RulesParams) -> RulesArguments:
    """Return the changed fields of the rules, by the library's names."""
    changes = RulesArguments()
    if params.default_aggregation is not None:
        changes["formula"] = params.default_aggregation.formula
    if params.event_time_window is not None:
        changes["event_time_window"] = _none_or_plain(params.event_time_window)
    if params.customer_mapping is not None:
        changes["customer_key"] = params.customer_mapping.event_payload_key
    if params.value_settings is not None:
        changes["value_key"] = params.value_settings.event_payload_key
    if params.dimension_payload_keys is not None:
        changes["dimension_keys"] = params.dimension_payload_keys
    if params.optional_dimension_payload_keys is not None:
        changes["optional_dimension_keys"] = params.optional_dimension_payload_keys
    if params.filter is not None:
        changes["filter"] = _none_or_plain(params.filter)
    if params.multiplier is not None:
        changes["multiplier"] = _none_or_plain(params.multiplier)
    if params.rounding is not None:
        changes["rounding"] = _none_or_plain(params.rounding)
    return changes


def _none_or_plain(value: str | Condition | Rounding) -> object:
    return None if value == "none" else msgspec.to_builtins(value)


def has_rules(meter: MeterView, changes: RulesArguments) -> bool:
    """Return whether a meter already has these rules. Raises InvalidParameter."""
    changed = parse_rules(changes)
    return all(getattr(meter, field) == getattr(changed, field) for field in changes)


operations = OperationRegistry("Rules")
MAX_DIFFERENCES = 1_000

CalendarWindow = Literal["minute", "hour", "day", "month", "year"]


class TotalDifference(msgspec.Struct, kw_only=True):
    """A customer's total of one window of time, under the current and under the new rules.

    If the request groups, it is the part with these values of `dimensions`.
    """

    after: Number
    before: Number
    customer: str
    difference: Number
    dimensions: Dimensions | None
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
    """New rules, and the windows of time and the dimension values to compare."""

    dimension_filters: DimensionFilters | None = None
    dimension_group_by_keys: DimensionGroupByKeys = msgspec.field(default_factory=list[str])
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

    Dimensions are those of the current and of the new rules. It may take long. Only one such request runs at a time.
    """
    params, ledger, meter_id = context.params, context.ledger, context.path_parameters["id"]
    meter, metering, changes = ledger.meter(meter_id), ledger.metering, to_rule_changes(params)
    where, group_by = to_where(params.dimension_filters), params.dimension_group_by_keys
    _check_dimensions(meter, changes, where, group_by)
    with exclusive_job(ledger):
        candidate = metering.generations.build_candidate(meter.event_name, changes)
        comparison = metering.generations.diff(
            candidate.number, window=params.window, timezone=params.timezone, where=where, group_by=group_by
        )
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
    if not (context.is_retry and has_rules(meter, changes)):
        with exclusive_job(ledger):
            meter = ledger.metering.rules.change(
                meter.event_name, changes, reason=params.reason, by=params.by or context.access_key.hint
            )
    return billing_meter(meter, ledger)


def _check_dimensions(meter: MeterView, changes: RulesArguments, where: Where | None, group_by: Sequence[str]) -> None:
    """Raise InvalidParameter if neither the current nor the new rules have the dimensions, before a long job starts."""
    current = RulesArguments(dimension_keys=meter.dimension_keys, optional_dimension_keys=meter.optional_dimension_keys)
    current_keys = meter.dimension_keys + meter.optional_dimension_keys
    new_rules = parse_rules({**current, **changes})
    resolve_dimensions(new_rules, parse_dimensions(where, group_by), current_keys + new_rules.all_dimension_keys)


def _to_response(difference: CustomerDifference) -> TotalDifference:
    return TotalDifference(
        after=encode_decimal(difference.after),
        before=encode_decimal(difference.before),
        customer=difference.customer,
        difference=encode_decimal(difference.difference),
        dimensions=difference.dimensions or None,
        end_time=to_unix(difference.end),
        start_time=to_unix(difference.start),
    )
