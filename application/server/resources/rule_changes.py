"""Changes of rules: what others would make of all usage, and putting them in force."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ...comparing import Difference
from ..desk import Call
from ..long_work import long_work
from ..routes import Routes
from ..times import unix
from ..wire import Number, number
from .closed_periods import Reason
from .counting_rules import CountingRules, OtherRules, changes_of, counts_by
from .meters import BillingMeter, billing_meter

routes = Routes("Rules")
MOST_DIFFERENCES = 1_000

CalendarWindow = Literal["minute", "hour", "day", "month", "year"]


class FigureDifference(msgspec.Struct, kw_only=True):
    """A customer's figure of one window of time: as it is, and by the other rules."""

    after: Number
    before: Number
    customer: str
    difference: Number
    end_time: int
    start_time: int


class RulesPreview(msgspec.Struct, kw_only=True):
    """What other rules would make of a meter's figures, by customer and window; by what the ledger holds at `position`.

    `before`, `after` and `difference` sum up all figures, `customers` are those of whom any differs. `differences` are
    the largest; there are more of them where it `has_more`. `generation` is the build of the read models under these
    rules, which stays until it is deleted, and makes putting them in force quick.
    """

    object: Literal["billing.rules_preview"] = "billing.rules_preview"
    after: Number
    before: Number
    customers: int
    difference: Number
    differences: list[FigureDifference]
    generation: int
    has_more: bool
    livemode: bool
    meter: str
    position: int
    rules: CountingRules
    timezone: str
    window: CalendarWindow


class PreviewRules(OtherRules, kw_only=True):
    """Rules to try, and by which windows of time to tell what differs."""

    limit: Annotated[int, Meta(ge=1, le=MOST_DIFFERENCES)] = 100
    timezone: Annotated[str, Meta(min_length=1, max_length=100, description="An IANA name.")] = "UTC"
    window: CalendarWindow = "month"


class ChangeRules(OtherRules, kw_only=True):
    """Rules to put in force, why, and on whose word; on that of the access key, where nobody is named."""

    reason: Reason
    by: Reason | None = None


@routes.post("/v1/billing/meters/{id}/rules_preview")
def preview_rules(call: Call[PreviewRules]) -> RulesPreview:
    """Try other rules: tell what they would make of all usage, and change nothing.

    It may take long, and one at a time is taken.
    """
    asked, desk, meter_id = call.asked, call.desk, call.path["id"]
    meter, metering = desk.meter(meter_id), desk.metering
    with long_work(desk):
        candidate = metering.candidate(meter.event_name, changes_of(asked))
        found = metering.diff(candidate.number, window=asked.window, timezone=asked.timezone)
    (summed,) = (one for one in found.meters if one.event_name == meter.event_name)
    differing = [one for one in found.largest if one.event_name == meter.event_name]
    return RulesPreview(
        after=number(summed.after),
        before=number(summed.before),
        customers=summed.customers,
        difference=number(summed.difference),
        differences=[_shown(one) for one in differing[: asked.limit]],
        generation=candidate.number,
        has_more=len(differing) > asked.limit,
        livemode=desk.livemode,
        meter=meter_id,
        position=found.position,
        rules=CountingRules.of(candidate.rules[meter.event_name]),
        timezone=asked.timezone,
        window=asked.window,
    )


@routes.post("/v1/billing/meters/{id}/rules")
def change_rules(call: Call[ChangeRules]) -> BillingMeter:
    """Put other rules in force, for all of the meter's past; closed periods stay as they are.

    It may take long, and one at a time is taken.
    """
    asked, desk = call.asked, call.desk
    meter, changes = desk.meter(call.path["id"]), changes_of(asked)
    if not (call.was_begun and counts_by(meter, changes)):
        with long_work(desk):
            meter = desk.metering.change_rules(
                meter.event_name, changes, reason=asked.reason, by=asked.by or call.key.hint
            )
    return billing_meter(meter, desk)


def _shown(one: Difference) -> FigureDifference:
    return FigureDifference(
        after=number(one.after),
        before=number(one.before),
        customer=one.customer,
        difference=number(one.difference),
        end_time=unix(one.end),
        start_time=unix(one.start),
    )
