"""Rules of meters: preview and change."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from .....domain.access_key import Scope
from .....domain.rules import Rules
from ....queries.comparison import CustomerDifference, GenerationDifference, WindowState
from ..api_types import Number, Reason, UnixTime, encode_decimal, optional_from_unix, optional_unix, to_unix
from ..dimension_parameters import DimensionFilters, DimensionGroupByKeys, Dimensions, to_where
from ..errors import ApiError, invalid_parameter
from ..ledgers import RequestContext, ServedLedger, exclusive_job
from ..meter_objects import BillingMeter, billing_meter
from ..object_ids import METER_PREFIX, encode_id
from ..operations import OperationRegistry
from ..rules_objects import RulesObject
from ..rules_parameters import RulesParams, to_rule_changes

operations = OperationRegistry("Rules")
MAX_DIFFERENCES = 1_000

EffectiveFrom = Annotated[
    UnixTime, Meta(description="Usage from this time on counts under the new rules; all usage if it is absent.")
]
CalendarWindow = Literal["minute", "hour", "day", "month", "year"]


class TotalDifference(msgspec.Struct, kw_only=True):
    """A customer's total of one window of time, and what is billed for it, under the current and under the new rules.

    The totals differ, or the billable quantities, or both. If the request groups, it is the part with these values of
    `dimensions`. Closed periods keep their totals, so the difference of a closed window is not billed.
    """

    after: Number
    before: Number
    billable_after: Number
    billable_before: Number
    customer: str
    difference: Number
    dimensions: Dimensions | None
    end_time: int
    start_time: int
    state: WindowState


class RulesPreview(msgspec.Struct, kw_only=True):
    """The effect of new rules on a meter's totals, by customer and window, from the ledger up to `position`.

    `before`, `after` and `difference` are sums of all totals, `customers` is the number of customers with differences.
    `differences` contains the largest ones, and `has_more` is true if there are others. `generation` is the generation
    of the read models under these rules. It stays until it is deleted, and makes the change of the rules fast.
    `digest` identifies the differences, for the change; it is null if only some dimension values are compared, or
    groups of them.
    """

    object: Literal["billing.rules_preview"] = "billing.rules_preview"
    after: Number
    before: Number
    customers: int
    difference: Number
    differences: list[TotalDifference]
    digest: str | None
    effective_from: int | None
    generation: int
    has_more: bool
    livemode: bool
    meter: str
    position: int
    rules: RulesObject
    timezone: str
    window: CalendarWindow


class PreviewRules(RulesParams, kw_only=True):
    """New rules, from when on they apply, and the windows of time and the dimension values to compare."""

    dimension_filters: DimensionFilters | None = None
    dimension_group_by_keys: DimensionGroupByKeys = ()
    effective_from: EffectiveFrom | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_DIFFERENCES)] = 100
    timezone: Annotated[str, Meta(min_length=1, max_length=100, description="An IANA timezone name.")] = "UTC"
    window: CalendarWindow = "month"


class ChangeRules(RulesParams, kw_only=True):
    """New rules, from when on they apply, why they change, and by whom. `by` is stored as `on_behalf_of`.

    With the `digest` of a preview, the rules change only if the same preview would have the same differences now.
    """

    reason: Reason
    by: Reason | None = None
    digest: Annotated[str, Meta(min_length=1, max_length=500)] | None = None
    effective_from: EffectiveFrom | None = None


@operations.post("/v1/billing/meters/{id}/rules_preview", Scope.RULES, is_preview=True)
def preview_rules(context: RequestContext[PreviewRules]) -> RulesPreview:
    """Preview new rules: compare all totals without changing anything.

    Dimensions are those of the current and of the new rules. It may take long. Only one such request runs at a time.
    """
    params, ledger, metering = context.params, context.ledger, context.ledger.metering
    meter, changes = ledger.meter(context.path_parameters["id"]), to_rule_changes(params)
    where, group_by = to_where(params.dimension_filters), params.dimension_group_by_keys
    with exclusive_job(ledger):
        candidate = metering.generations.build_candidate(
            meter.event_name, changes, effective_from=optional_from_unix(params.effective_from)
        )
        comparison = metering.generations.diff(
            candidate.number, window=params.window, timezone=params.timezone, where=where, group_by=group_by
        )
    if all(difference.event_name != meter.event_name for difference in comparison.meters):
        raise _no_dimensions(params)
    rules, effective_from = candidate.rules[meter.event_name], candidate.effective_from[meter.event_name]
    return rules_preview_object(
        comparison, meter.event_name, rules, effective_from, ledger, params.window, params.timezone, params.limit
    )


def rules_preview_object(
    comparison: GenerationDifference, event_name: str, rules: Rules, effective_from: datetime | None,
    ledger: ServedLedger, window: CalendarWindow, timezone: str, limit: int,
) -> RulesPreview:  # fmt: skip
    """Return the object of a preview, with at most `limit` differences."""
    (meter_difference,) = (difference for difference in comparison.meters if difference.event_name == event_name)
    differences = [difference for difference in comparison.sorted_by_size if difference.event_name == event_name]
    return RulesPreview(
        after=encode_decimal(meter_difference.after),
        before=encode_decimal(meter_difference.before),
        customers=meter_difference.customers,
        difference=encode_decimal(meter_difference.difference),
        differences=[_to_response(difference) for difference in differences[:limit]],
        digest=comparison.digest,
        effective_from=optional_unix(effective_from),
        generation=comparison.generation,
        has_more=len(differences) > limit,
        livemode=ledger.livemode,
        meter=encode_id(METER_PREFIX, event_name),
        position=comparison.position,
        rules=RulesObject.from_rules(rules),
        timezone=timezone,
        window=window,
    )


@operations.post("/v1/billing/meters/{id}/rules", Scope.RULES)
def change_rules(context: RequestContext[ChangeRules]) -> BillingMeter:
    """Change the rules of a meter, for all usage or for usage from a time on. Closed periods stay unchanged.

    It may take long. Only one such request runs at a time.
    """
    params, metering, meter_id = context.params, context.ledger.metering, context.path_parameters["id"]
    meter, changes = context.ledger.meter(meter_id), to_rule_changes(params)
    event_name, by, effective_from = meter.event_name, params.by, optional_from_unix(params.effective_from)
    if context.is_retry and metering.rules.are_in_force(event_name, changes, effective_from=effective_from):
        return billing_meter(meter, context.ledger)
    with exclusive_job(context.ledger):
        if params.digest is None:
            metering.rules.change(event_name, changes, reason=params.reason, by=by, effective_from=effective_from)
        else:
            candidate = metering.generations.build_candidate(event_name, changes, effective_from=effective_from)
            metering.generations.promote(candidate.number, reason=params.reason, by=by, digest=params.digest)
    return billing_meter(context.ledger.meter(meter_id), context.ledger)


def _no_dimensions(params: PreviewRules) -> ApiError:
    """Return the error for dimensions that only other meters have."""
    param = "dimension_group_by_keys" if params.dimension_group_by_keys else "dimension_filters"
    named = dict.fromkeys((*params.dimension_group_by_keys, *(params.dimension_filters or ())))
    return invalid_parameter(
        param, f"{param!r}: the meter has not all of the dimensions {', '.join(map(repr, named))}, under its current "
        "rules or the new ones.",
    )  # fmt: skip


def _to_response(difference: CustomerDifference) -> TotalDifference:
    return TotalDifference(
        after=encode_decimal(difference.after),
        before=encode_decimal(difference.before),
        billable_after=encode_decimal(difference.billable_after),
        billable_before=encode_decimal(difference.billable_before),
        customer=difference.customer,
        difference=encode_decimal(difference.difference),
        dimensions=difference.dimensions or None,
        end_time=to_unix(difference.end),
        start_time=to_unix(difference.start),
        state=difference.state,
    )
